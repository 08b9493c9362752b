//! `serin why`: one sentence, then what it rests on.

use jiff::Timestamp;

use crate::analysis::compare::Notes;
use crate::api::ObjectState;
use crate::cli::screen::{Frame, Row};
use crate::model::RollbackFate;

use super::around::Around;
use super::source::SourceView;
use super::table::{age, short_revision};
use super::view::View;

/// Events that are evidence: the last ones.
const EVENTS_SHOWN: usize = 3;

/// The sentence and its evidence.
pub(super) fn frame(view: &View, around: &Around, now: Timestamp) -> Frame {
    let text = |text: String| Row { text, ..Row::default() };
    let point = |text: String| Row { first: "- ".to_owned(), further: "  ".to_owned(), text, paint: None };
    let mut rows = vec![text(sentence(view, now))];
    rows.extend(evidence(view, around, now).into_iter().map(point));
    rows.extend(view.what_to_do().map(|todo| text(format!("{}: {}", todo.label, todo.text))));
    Frame { rows, tail: Vec::new() }
}

/// Why it stands as it stands. What keeps everything from going on comes first.
pub(super) fn sentence(view: &View, now: Timestamp) -> String {
    let View { namespace, name, phase, weight, .. } = view;
    let it = format!("{namespace}/{name}");
    let dead = |source: &SourceView| source.not_running.clone();
    if !view.sources.is_empty()
        && view.sources.iter().all(|source| source.not_running.is_some())
        && let Some(reason) = view.sources.iter().find_map(dead)
    {
        return format!("Nothing happens to {it}: the daemon is not running, {reason}.");
    }
    if let Some(blocked) = &view.blocked {
        return format!("{it} is blocked: {blocked}");
    }
    let for_how_long = view.since.map(|since| format!(" for {}", age(since, now))).unwrap_or_default();
    if let Some(cause) = &view.cause {
        let failed = view.failed.as_deref().map(short_revision).unwrap_or_default();
        let ago = view.since.map(|since| format!(" {} ago", age(since, now))).unwrap_or_default();
        return format!("{it} failed{ago}: {failed} was rolled back: {cause}.");
    }
    match (phase.as_str(), view.waits()) {
        ("", _) => format!("No daemon has looked at {it} yet: is `serin run` up, and for this namespace?"),
        (_, Some(waits)) if view.step.is_some() => {
            format!("{it} is {} at {weight} %{for_how_long}: it waits for {waits}.", phase.to_lowercase())
        }
        (_, Some(waits)) => format!("{it} is {}{for_how_long}: it waits for {waits}.", phase.to_lowercase()),
        (_, None) => {
            let runs = view.promoted.as_deref().map(short_revision).unwrap_or_else(|| "what it has".to_owned());
            match view.sources.iter().find_map(unread) {
                Some(newer) => format!("Primary of {it} runs {runs}{for_how_long}, and {newer}."),
                None => format!(
                    "Nothing is to be done for {it}: primary runs {runs}{for_how_long}, and Git names nothing newer."
                ),
            }
        }
    }
}

/// What a source has for this release, or may have, and the cluster has not.
fn unread(source: &SourceView) -> Option<String> {
    let status = &source.status;
    let commit = status.applied.as_ref().map(|applied| applied.commit.get(..7).unwrap_or(&applied.commit));
    let at = commit.map(|commit| format!("{}@{commit}", status.branch)).unwrap_or_else(|| status.branch.clone());
    let refused = status.objects.iter().find(|object| object.state == ObjectState::Refused);
    let refused = refused.map(|object| format!("what Git names now ({at}) is refused: {}", object.message));
    let problem =
        || Some(format!("what Git names now ({at}) is not all taken up: {}", status.problems.first()?.message));
    refused.or_else(problem)
}

fn evidence(view: &View, around: &Around, now: Timestamp) -> Vec<String> {
    let mut points = Vec::new();
    for source in &view.sources {
        if let Some(error) = &source.status.error {
            points.push(format!("the source: {}", error.message));
        }
        points.extend(source.status.problems.iter().map(|problem| format!("the source: {}", problem.message)));
        points.extend(
            source.status.objects.iter().map(|object| format!("{}: {}", object.state.as_str(), object.message)),
        );
    }
    points.extend(around.troubles.iter().map(|trouble| format!("pod {}: {}", trouble.name, trouble.reason)));
    let bad = view.checks.iter().filter(|check| check.verdict != crate::analysis::Verdict::Pass);
    points.extend(bad.map(|check| {
        let value = check.value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.2}"));
        format!("check {}: {value}, the limit is {}: {}", check.name, check.limit, check.verdict.as_str())
    }));
    let compared = view.comparison.iter().flat_map(Notes::lines);
    points.extend(compared.map(|line| format!("comparison with primary: {line}")));
    if let Some(note) = &view.rollback {
        points.push(match &note.fate {
            RollbackFate::Made { commit } => format!("Git was put back by {} on {}", commit.short(), note.branch),
            RollbackFate::Proposed { url } => format!("{} still names what failed: merge {url}", note.branch),
            RollbackFate::Missing { message, .. } => format!("{} still names what failed: {message}", note.branch),
            RollbackFate::Needless { message } => format!("no rollback commit on {}: {message}", note.branch),
        });
    }
    points.extend(
        view.pending.as_deref().map(|it| format!("{} waits until traffic is on primary", short_revision(it))),
    );
    points.extend(view.unrecorded.as_ref().map(|reason| format!("Git does not have this yet: {reason}")));
    let events = view.told_events();
    let skipped = events.len().saturating_sub(EVENTS_SHOWN);
    let last = events.into_iter().skip(skipped);
    points.extend(last.map(|entry| format!("{} ago: {}", age(entry.at, now), entry.event.message)));
    points
}
