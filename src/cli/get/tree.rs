//! One release as a tree: both sides with their weights, checks against limits, what it waits for, what happened.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;

use crate::analysis::Verdict;
use crate::analysis::compare::Notes;
use crate::cli::output::Paint;
use crate::cli::screen::{Frame, Row};
use crate::model::{RollbackFate, RollbackNote};
use crate::release::{CheckResult, EventType, JournalEntry};

use super::around::Around;
use super::table::{age, short_revision};
use super::view::View;

/// Events shown; the whole history is in `serin logs`, `kubectl describe` and on the status branch.
const EVENTS_SHOWN: usize = 8;
/// Cells of the weight bar.
const BAR_CELLS: usize = 20;
/// Columns that labels take.
const LABEL: usize = 11;

/// The last values of each check, by its name, oldest first: what a live screen has seen.
pub(super) type History = BTreeMap<String, Vec<f64>>;

/// One line below the root.
struct Line {
    label: &'static str,
    text: String,
    paint: Option<Paint>,
}

impl Line {
    fn plain(label: &'static str, text: impl Into<String>) -> Self {
        Self { label, text: text.into(), paint: None }
    }

    fn painted(label: &'static str, text: impl Into<String>, paint: Paint) -> Self {
        Self { label, text: text.into(), paint: Some(paint) }
    }
}

/// The whole tree; events are what gives way on a small screen.
pub(super) fn frame(view: &View, around: &Around, seen: &History, now: Timestamp, colours: bool) -> Frame {
    let root = format!(
        "{}  {}  {}",
        Paint::Bold.apply(&format!("{}/{}", view.namespace, view.name), colours),
        phase(&view.phase, colours),
        view.target
    );
    let mut lines = what_is(view, around, seen, now, colours);
    lines.extend(why_it_failed(view));
    lines.extend(what_is_waited_for(view));
    let events = view.told_events();
    let skipped = events.len().saturating_sub(EVENTS_SHOWN);
    let tail: Vec<Row> = events.into_iter().skip(skipped).map(|entry| event(entry, now)).collect();
    if !tail.is_empty() {
        lines.push(Line::plain("events", ""));
    }
    let last = lines.len().saturating_sub(1);
    let row = |(index, line): (usize, Line)| {
        let (branch, trunk) = if index == last { ("└─", "  ") } else { ("├─", "│ ") };
        let Line { label, text, paint } = line;
        let further = format!("{trunk} {:LABEL$}", "");
        Row { first: format!("{branch} {label:<LABEL$}"), further, text, paint }
    };
    let root = Row { first: String::new(), further: "  ".to_owned(), text: root, paint: None };
    let rows = std::iter::once(root).chain(lines.into_iter().enumerate().map(row)).collect();
    Frame { rows, tail }
}

/// Both sides, how far the release is, and the last value of every check.
fn what_is(view: &View, around: &Around, seen: &History, now: Timestamp, colours: bool) -> Vec<Line> {
    let canary_revision = view.release.as_ref().and(view.revision.as_deref());
    let (primary, canary) = (around.primary.as_ref(), around.target.as_ref());
    let mut lines = vec![
        Line::plain("primary", side(100 - view.weight, primary, view.promoted.as_deref(), around)),
        Line::plain("canary", side(view.weight, canary, canary_revision, around)),
    ];
    lines.extend(around.hidden.as_deref().map(|words| Line::painted("hidden", words.to_owned(), Paint::Yellow)));
    let troubles = around.troubles.iter();
    lines.extend(troubles.map(|it| Line::painted("pod", format!("{}: {}", it.name, it.reason), Paint::Yellow)));
    if let Some((step, of)) = view.step {
        let left = view.left.map(|left| format!("about {} left, ", age(now, now + left))).unwrap_or_default();
        let failed = format!("{} of {} failed checks", view.failed_checks, view.threshold);
        lines.push(Line::plain("step", format!("{} {step} of {of}, {left}{failed}", bar(step, of))));
    }
    lines.extend(view.checks.iter().map(|result| Line::plain("check", check(result, seen, colours))));
    let compared = view.comparison.iter().flat_map(Notes::lines);
    lines.extend(compared.map(|line| Line::plain("compare", line)));
    lines
}

/// Why it failed, and what became of Git.
fn why_it_failed(view: &View) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(cause) = &view.cause {
        let revision = view.failed.as_deref().map(|failed| format!("{}: ", short_revision(failed)));
        lines.push(Line::painted("failed", format!("{}{cause}", revision.unwrap_or_default()), Paint::Red));
    }
    lines.extend(view.unpromoted.as_ref().map(|words| Line::painted("last", words, Paint::Yellow)));
    lines.extend(view.rollback.as_ref().map(rolled_back));
    lines
}

/// What it waits for, what Git has and the cluster does not, and the other way round.
fn what_is_waited_for(view: &View) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(rebuilt) = &view.rebuilt {
        lines.push(Line::painted("rebuilt", rebuilt, Paint::Yellow));
    }
    let waited = if view.blocked.is_some() { "blocked" } else { "waits for" };
    let why = if view.blocked.is_some() || view.phase.is_empty() { view.why() } else { view.waits().cloned() };
    if let Some(why) = why {
        lines.push(Line::painted(waited, why, Paint::Yellow));
    }
    if let Some(ignored) = &view.ignored {
        lines.push(Line::painted("ignored", ignored, Paint::Yellow));
    }
    if let Some(risk) = &view.at_risk {
        lines.push(Line::painted("at risk", risk, Paint::Yellow));
    }
    lines.extend(view.what_to_do().map(|todo| Line::plain(todo.label, todo.text)));
    if let Some(pending) = &view.pending {
        let held = format!("{}, held until traffic is back on primary", short_revision(pending));
        lines.push(Line::plain("next", held));
    }
    if let Some(reason) = &view.unrecorded {
        lines.push(Line::painted("git", format!("does not have this yet: {reason}"), Paint::Yellow));
    }
    lines
}

/// What became of the watched branch after a failed release.
fn rolled_back(note: &RollbackNote) -> Line {
    let RollbackNote { release: _, branch, fate } = note;
    match fate {
        RollbackFate::Made { commit } => Line::plain("git", format!("put back by {} on {branch}", commit.short())),
        RollbackFate::Proposed { url } => {
            Line::painted("git", format!("{branch} still names the failed revision: merge {url}"), Paint::Yellow)
        }
        RollbackFate::Missing { reason: _, message } => {
            Line::painted("git", format!("{branch} still names the failed revision: {message}"), Paint::Yellow)
        }
        RollbackFate::Needless { message } => {
            Line::plain("git", format!("no rollback commit on {branch}: {message}"))
        }
    }
}

fn event(entry: &JournalEntry, now: Timestamp) -> Row {
    let paint = match entry.event.kind {
        EventType::Normal => Paint::Dim,
        EventType::Warning => Paint::Yellow,
    };
    Row {
        first: format!("   {:>5}  ", age(entry.at, now)),
        further: " ".repeat(10),
        text: entry.event.message.clone(),
        paint: Some(paint),
    }
}

fn phase(phase: &str, colours: bool) -> String {
    match phase {
        "" => "no phase yet".to_owned(),
        "Failed" => Paint::Red.apply(phase, colours),
        "Succeeded" | "Initialized" => Paint::Green.apply(phase, colours),
        other => Paint::Yellow.apply(other, colours),
    }
}

fn bar(step: u32, of: u32) -> String {
    let cells = (u64::from(step) * BAR_CELLS as u64).checked_div(u64::from(of)).unwrap_or(0);
    let filled = usize::try_from(cells).unwrap_or(BAR_CELLS).min(BAR_CELLS);
    format!("{}{}", "█".repeat(filled), "░".repeat(BAR_CELLS - filled))
}

fn side(weight: i64, deployment: Option<&Deployment>, revision: Option<&str>, around: &Around) -> String {
    let pods = deployment.map_or_else(
        || {
            if around.hidden.is_some() {
                "pods are not shown to you".to_owned()
            } else {
                "does not exist".to_owned()
            }
        },
        |deployment| {
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let status = deployment.status.as_ref();
            let available = status.and_then(|status| status.available_replicas).unwrap_or(0);
            format!("{available}/{wanted} pods")
        },
    );
    let image = deployment.and_then(image_tag).unwrap_or_default();
    let revision = revision.map(short_revision).unwrap_or_default();
    format!("{weight:>3} %  {pods}  {image}  {revision}").trim_end().to_owned()
}

fn image_tag(deployment: &Deployment) -> Option<String> {
    let container = deployment.spec.as_ref()?.template.spec.as_ref()?.containers.first()?;
    let image = container.image.as_ref()?;
    Some(image.rsplit('/').next().unwrap_or(image).to_owned())
}

fn check(result: &CheckResult, seen: &History, colours: bool) -> String {
    let CheckResult { name, verdict, value, limit } = result;
    let value = value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.2}"));
    let mark = match verdict {
        Verdict::Pass => Paint::Green.apply("✓", colours),
        Verdict::Fail => Paint::Red.apply("✗", colours),
        Verdict::NoData
        | Verdict::Early
        | Verdict::Few
        | Verdict::Error
        | Verdict::Several
        | Verdict::Misconfigured
        | Verdict::Inconclusive => Paint::Yellow.apply("?", colours),
    };
    let said = match verdict {
        Verdict::Pass | Verdict::Fail => String::new(),
        Verdict::NoData
        | Verdict::Early
        | Verdict::Few
        | Verdict::Error
        | Verdict::Several
        | Verdict::Misconfigured
        | Verdict::Inconclusive => {
            format!(": {}", verdict.as_str())
        }
    };
    let before = seen.get(name).filter(|values| values.len() > 1).map(|values| {
        let values: Vec<String> = values.iter().map(|value| format!("{value:.1}")).collect();
        format!("  {}", Paint::Dim.apply(&values.join(" "), colours))
    });
    format!("{mark} {name} {value} ({limit}){said}{}", before.unwrap_or_default())
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
