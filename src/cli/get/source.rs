//! Where releases come from, and whether anybody reads it: the first lines of `serin get`.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use crate::api::{ObjectNote, ObjectState, Source, SourceStatus};
use crate::cli::output::Paint;
use crate::cli::screen::Row;

use super::table::age;

/// A Lease that was not renewed for so long is nobody's: as long as it holds, and a little for the clocks.
const RENEWED_WITHIN_SECS: i64 = 20;
/// Objects shown; all of them are in `-o json`.
const OBJECTS_SHOWN: usize = 10;

/// A Source and its daemon.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SourceView {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Why nobody works on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_running: Option<String>,
    #[serde(flatten)]
    pub(super) status: SourceStatus,
}

/// All Sources. Whoever may not read them, or has none, is shown releases all the same.
pub(super) async fn read(client: &Client, now: Timestamp) -> Vec<SourceView> {
    let api: Api<Source> = Api::all(client.clone());
    let Ok(sources) = api.list(&ListParams::default()).await else {
        return Vec::new();
    };
    let mut views = Vec::new();
    for source in sources.items {
        let status = source.status.clone().unwrap_or_default();
        let not_running = match &status.daemon.lease {
            Some(lease) => not_running(client, lease, now).await,
            None => None,
        };
        let namespace = source.namespace().unwrap_or_default();
        views.push(SourceView { namespace, name: source.name_any(), not_running, status });
    }
    views
}

async fn not_running(client: &Client, lease: &str, now: Timestamp) -> Option<String> {
    let (namespace, name) = lease.split_once('/')?;
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    match api.get_opt(name).await {
        Ok(Some(lease)) => {
            let spec = lease.spec.unwrap_or_default();
            if spec.holder_identity.is_none_or(|holder| holder.is_empty()) {
                return Some("it was stopped".to_owned());
            }
            let renewed = spec.renew_time?.0;
            let quiet = now.duration_since(renewed).as_secs() > RENEWED_WITHIN_SECS;
            quiet.then(|| format!("its lease was last renewed {} ago", age(renewed, now)))
        }
        Ok(None) => Some(format!("there is no lease {namespace}/{name}")),
        // Not ours to say: it may be that only the Lease cannot be read.
        Err(_) => None,
    }
}

/// The lines above a table, or above the tree of one release; then only objects that belong to it.
pub(super) fn rows(views: &[SourceView], about: Option<&About<'_>>, now: Timestamp) -> Vec<Row> {
    let mut out = Vec::new();
    for SourceView { namespace: _, name, not_running, status } in views {
        let label = if views.len() > 1 { format!("source {name}") } else { "source".to_owned() };
        let mut line = |label: &str, text: &str, paint: Option<Paint>| {
            let first = format!("{label:<10} ");
            out.push(Row { further: " ".repeat(first.chars().count()), first, text: text.to_owned(), paint });
        };
        line(&label, &state(status, now), status.error.as_ref().map(|_| Paint::Red));
        if let Some(reason) = not_running {
            line("daemon", &format!("not running: {reason}"), Some(Paint::Red));
        }
        for problem in &status.problems {
            line("problem", &dated(&problem.message, &problem.since, now), Some(Paint::Yellow));
        }
        let shown = |object: &&ObjectNote| about.is_none_or(|about| about.has(object));
        let told = |object: &&ObjectNote| about.is_some() || object.state != ObjectState::Waiting;
        let objects: Vec<&ObjectNote> = status.objects.iter().filter(shown).filter(told).collect();
        for object in objects.iter().take(OBJECTS_SHOWN) {
            line(object.state.as_str(), &dated(&said(object), &object.since, now), Some(Paint::Yellow));
        }
        let more = objects.len().saturating_sub(OBJECTS_SHOWN);
        if more > 0 || (status.more_objects > 0 && about.is_none()) {
            let more = i64::try_from(more).unwrap_or(i64::MAX).saturating_add(status.more_objects);
            line("", &format!("and {more} more: `serin get -o json`"), None);
        }
    }
    out
}

/// Which release.
pub(super) struct About<'a> {
    pub(super) namespace: &'a str,
    pub(super) canary: &'a str,
    pub(super) target: &'a str,
}

impl About<'_> {
    pub(super) fn has(&self, object: &ObjectNote) -> bool {
        let here = object.namespace.as_deref() == Some(self.namespace);
        here && match object.kind.as_str() {
            "Canary" => object.name == self.canary,
            "Deployment" => object.name == self.target,
            _ => false,
        }
    }
}

fn state(status: &SourceStatus, now: Timestamp) -> String {
    let SourceStatus { branch, applied, error, .. } = status;
    let at = match applied {
        Some(applied) => {
            let short = applied.commit.get(..7).unwrap_or(&applied.commit);
            format!("{branch}@{short} applied {}", ago(&applied.at, now))
        }
        None => format!("{branch}, nothing applied yet"),
    };
    match error {
        Some(error) => format!("{at}; interrupted {}: {}", for_how_long(&error.since, now), error.message),
        None => at,
    }
}

/// An object's message names it already, as a rule.
fn said(object: &ObjectNote) -> String {
    let name = match &object.namespace {
        Some(namespace) => format!("{} {namespace}/{}", object.kind, object.name),
        None => format!("{} {}", object.kind, object.name),
    };
    if object.message.contains(&name) { object.message.clone() } else { format!("{name}: {}", object.message) }
}

fn dated(message: &str, since: &str, now: Timestamp) -> String {
    format!("{message} ({})", for_how_long(since, now))
}

fn ago(at: &str, now: Timestamp) -> String {
    at.parse::<Timestamp>().map_or_else(|_| format!("at {at}"), |at| format!("{} ago", age(at, now)))
}

fn for_how_long(since: &str, now: Timestamp) -> String {
    since
        .parse::<Timestamp>()
        .map_or_else(|_| format!("since {since}"), |since| format!("for {}", age(since, now)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CommitAt, Note};

    fn object(kind: &str, name: &str, state: ObjectState, message: &str) -> ObjectNote {
        ObjectNote {
            group: String::new(),
            kind: kind.into(),
            namespace: Some("test".into()),
            name: name.into(),
            state,
            message: message.into(),
            since: "2026-01-01T00:00:00Z".into(),
        }
    }

    #[test]
    fn the_first_lines_say_what_is_applied_what_is_wrong_and_whether_anybody_works() {
        let now: Timestamp = "2026-01-01T00:03:00Z".parse().unwrap();
        let at = |at: &str| CommitAt { commit: "239fccd".repeat(6), at: at.into() };
        let mut status = SourceStatus {
            branch: "main".into(),
            applied: Some(at("2026-01-01T00:02:48Z")),
            objects: vec![
                object("Job", "a", ObjectState::Refused, "app.yaml:1: Job test/a: field is immutable"),
                object("ConfigMap", "b", ObjectState::Kept, "it is gone from Git and kept"),
                object("Deployment", "podinfo", ObjectState::Waiting, "it is announced"),
            ],
            ..SourceStatus::default()
        };
        let view = |status: &SourceStatus, not_running: Option<&str>| SourceView {
            namespace: "serin-system".into(),
            name: "test".into(),
            not_running: not_running.map(str::to_owned),
            status: status.clone(),
        };
        let lines = |views: &[SourceView], about: Option<&About<'_>>| {
            let rows = rows(views, about, now);
            rows.iter().flat_map(|row| row.lines(None, false)).map(|line| line + "\n").collect::<String>()
        };
        assert_eq!(
            lines(&[view(&status, None)], None),
            "source     main@239fccd applied 12s ago\n\
             refused    app.yaml:1: Job test/a: field is immutable (for 3m)\n\
             kept       ConfigMap test/b: it is gone from Git and kept (for 3m)\n"
        );
        let about = About { namespace: "test", canary: "podinfo", target: "podinfo" };
        status.error = Some(Note { message: "no branch `main`".into(), since: "2026-01-01T00:00:30Z".into() });
        assert_eq!(
            lines(&[view(&status, Some("it was stopped"))], Some(&about)),
            "source     main@239fccd applied 12s ago; interrupted for 2m: no branch `main`\n\
             daemon     not running: it was stopped\n\
             waiting    Deployment test/podinfo: it is announced (for 3m)\n"
        );
    }
}
