//! One release as a tree: both sides with their weights, checks against limits, what it waits for, what happened.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;

use crate::analysis::Verdict;
use crate::cli::output::Paint;
use crate::model::{RollbackFate, RollbackNote};
use crate::release::{CheckResult, EventType, JournalEntry};

use super::table::{age, short_revision};
use super::view::View;

/// Events shown; the whole history is in `kubectl describe` and on the status branch.
const EVENTS_SHOWN: usize = 8;

/// The two workloads, as far as they exist.
pub(super) struct Sides<'a> {
    pub(super) primary: Option<&'a Deployment>,
    pub(super) canary: Option<&'a Deployment>,
}

/// The whole tree.
pub(super) fn render(view: &View, sides: &Sides<'_>, now: Timestamp, colours: bool) -> String {
    let mut out = format!(
        "{}  {}  {}\n",
        Paint::Bold.apply(&format!("{}/{}", view.namespace, view.name), colours),
        phase(&view.phase, colours),
        view.target
    );
    let mut lines = what_is(view, sides, colours);
    lines.extend(what_is_waited_for(view, colours));
    let events: Vec<String> = last_events(view).iter().map(|entry| event(entry, now, colours)).collect();
    if !events.is_empty() {
        lines.push("events".to_owned());
    }
    let last = lines.len().saturating_sub(1);
    for (index, line) in lines.iter().enumerate() {
        let branch = if index == last { "└─" } else { "├─" };
        out.push_str(&format!("{branch} {line}\n"));
    }
    out.extend(events.iter().map(|line| format!("   {line}\n")));
    out
}

/// Both sides, how far the release is, and the last value of every check.
fn what_is(view: &View, sides: &Sides<'_>, colours: bool) -> Vec<String> {
    let canary_revision = view.release.as_ref().and(view.revision.as_deref());
    let mut lines = vec![
        labelled("primary", &side(100 - view.weight, sides.primary, view.promoted.as_deref())),
        labelled("canary", &side(view.weight, sides.canary, canary_revision)),
    ];
    if let Some((step, of)) = view.step {
        let failed = format!("{step} of {of}, {} of {} failed checks", view.failed_checks, view.threshold);
        lines.push(labelled("step", &failed));
    }
    lines.extend(view.checks.iter().map(|result| labelled("check", &check(result, colours))));
    lines
}

/// Why it failed, what it waits for, what Git has and the cluster does not, and the other way round.
fn what_is_waited_for(view: &View, colours: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(cause) = &view.cause {
        let revision = view.failed.as_deref().map(|failed| format!("{}: ", short_revision(failed)));
        let words = format!("{}{cause}", revision.unwrap_or_default());
        lines.push(labelled("failed", &Paint::Red.apply(&words, colours)));
    }
    if let Some(note) = &view.rollback {
        lines.push(labelled("git", &rolled_back(note, colours)));
    }
    if let Some(rebuilt) = &view.rebuilt {
        lines.push(labelled("rebuilt", &Paint::Yellow.apply(rebuilt, colours)));
    }
    let waited = if view.blocked.is_some() { "blocked" } else { "waits for" };
    let why = if view.blocked.is_some() || view.phase.is_empty() { view.why() } else { view.waiting_on.clone() };
    if let Some(why) = why {
        lines.push(labelled(waited, &Paint::Yellow.apply(&why, colours)));
    }
    if let Some(ignored) = &view.ignored {
        lines.push(labelled("ignored", &Paint::Yellow.apply(ignored, colours)));
    }
    if let Some(digest) = &view.quarantined {
        let View { namespace, name, .. } = view;
        lines.push(labelled("to retry", &format!("serin retry {name} -n {namespace}    # {digest}")));
    }
    if let Some(pending) = &view.pending {
        lines.push(labelled(
            "next",
            &format!("{}, held until traffic is back on primary", short_revision(pending)),
        ));
    }
    if let Some(reason) = &view.unrecorded {
        lines.push(labelled("git", &Paint::Yellow.apply(&format!("does not have this yet: {reason}"), colours)));
    }
    lines
}

/// What became of the watched branch after a failed release.
fn rolled_back(note: &RollbackNote, colours: bool) -> String {
    let RollbackNote { release: _, branch, fate } = note;
    match fate {
        RollbackFate::Made { commit } => format!("put back by {} on {branch}", commit.short()),
        RollbackFate::Missing { reason: _, message } => {
            Paint::Yellow.apply(&format!("{branch} still names the failed revision: {message}"), colours)
        }
        RollbackFate::Needless { message } => format!("no rollback commit on {branch}: {message}"),
    }
}

fn labelled(label: &str, text: &str) -> String {
    format!("{label:<10} {text}")
}

fn last_events(view: &View) -> &[JournalEntry] {
    let skipped = view.events.len().saturating_sub(EVENTS_SHOWN);
    view.events.get(skipped..).unwrap_or_default()
}

fn event(entry: &JournalEntry, now: Timestamp, colours: bool) -> String {
    let text = format!("{:>5}  {}", age(entry.at, now), entry.event.message);
    match entry.event.kind {
        EventType::Normal => Paint::Dim.apply(&text, colours),
        EventType::Warning => Paint::Yellow.apply(&text, colours),
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

fn side(weight: i64, deployment: Option<&Deployment>, revision: Option<&str>) -> String {
    let pods = deployment.map_or_else(
        || "does not exist".to_owned(),
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

fn check(result: &CheckResult, colours: bool) -> String {
    let CheckResult { name, verdict, value, limit } = result;
    let value = value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.2}"));
    let mark = match verdict {
        Verdict::Pass => Paint::Green.apply("✓", colours),
        Verdict::Fail => Paint::Red.apply("✗", colours),
        Verdict::NoData | Verdict::Early | Verdict::Error | Verdict::Misconfigured | Verdict::Inconclusive => {
            Paint::Yellow.apply("?", colours)
        }
    };
    let said = match verdict {
        Verdict::Pass | Verdict::Fail => String::new(),
        Verdict::NoData | Verdict::Early | Verdict::Error | Verdict::Misconfigured | Verdict::Inconclusive => {
            format!(": {}", verdict.as_str())
        }
    };
    format!("{mark} {name} {value} ({limit}){said}")
}
