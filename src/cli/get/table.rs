//! Releases as a table, in kubectl's layout.

use crate::cli::output::columns as columns_of;
use crate::cli::screen::cut;
use jiff::Timestamp;

use super::view::View;

/// A column: its heading, what stands in it, and whether a narrow terminal goes without it: the highest number first.
struct Column {
    heading: &'static str,
    gives_way: u8,
    cell: fn(&View, Timestamp) -> String,
}

/// In this order. The last takes what room is left.
const COLUMNS: [Column; 8] = [
    Column { heading: "NAMESPACE", gives_way: 0, cell: |view, _| view.namespace.clone() },
    Column { heading: "NAME", gives_way: 0, cell: |view, _| view.name.clone() },
    Column {
        heading: "PHASE",
        gives_way: 0,
        cell: |view, _| or_none(Some(&view.phase).filter(|it| !it.is_empty())),
    },
    Column { heading: "WEIGHT", gives_way: 1, cell: |view, _| format!("{} %", view.weight) },
    Column {
        heading: "FAILED",
        gives_way: 2,
        cell: |view, _| format!("{}/{}", view.failed_checks, view.threshold),
    },
    Column {
        heading: "REVISION",
        gives_way: 4,
        cell: |view, _| or_none(view.revision.as_deref().map(short_revision).as_ref()),
    },
    Column {
        heading: "SINCE",
        gives_way: 3,
        cell: |view, now| or_none(view.since.map(|since| age(since, now)).as_ref()),
    },
    Column { heading: "WAITING ON", gives_way: 0, cell: |view, _| view.why().unwrap_or_default() },
];

/// Columns that the reason is left at least; narrower ones say nothing.
const REASON_MIN: usize = 30;

fn or_none(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "<none>".to_owned())
}

/// One row a Canary, in so many columns of the terminal: fields give way, then the reason is cut.
pub(super) fn render(views: &[View], namespaces: bool, now: Timestamp, width: Option<usize>) -> String {
    let most = COLUMNS.iter().map(|column| column.gives_way).max().unwrap_or(0);
    let shown = |keep: u8| -> String {
        let columns = || COLUMNS.iter().filter(|column| column.gives_way <= keep).skip(usize::from(!namespaces));
        let header = columns().map(|column| column.heading.to_owned()).collect();
        let rows = views.iter().map(|view| columns().map(|column| (column.cell)(view, now)).collect());
        columns_of(&std::iter::once(header).chain(rows).collect::<Vec<Vec<String>>>())
    };
    let Some(width) = width else { return shown(most) };
    let fits = |text: &String| {
        text.lines().next().is_none_or(|header| {
            header.len().saturating_sub("WAITING ON".len()).saturating_add(REASON_MIN) <= width
        })
    };
    let text = (0..=most).rev().map(shown).find(fits).unwrap_or_else(|| shown(0));
    text.lines().map(|line| cut(line, width) + "\n").collect()
}

/// `v1:0123456789…@abcdef…` as `01234567@abcdef0`.
pub(super) fn short_revision(text: &str) -> String {
    match text.parse::<crate::model::Revision>() {
        Ok(revision) => match &revision.commit {
            Some(commit) => format!("{}@{}", revision.digest.short(), commit.short()),
            None => revision.digest.short().to_owned(),
        },
        Err(_) => text.to_owned(),
    }
}

/// An age as kubectl writes it: `45s`, `12m`, `3h`, `5d`.
pub(in crate::cli) fn age(since: Timestamp, now: Timestamp) -> String {
    let secs = now.duration_since(since).as_secs().max(0);
    match secs {
        0..=119 => format!("{secs}s"),
        120..=7199 => format!("{}m", secs / 60),
        7200..=172_799 => format!("{}h", secs / 3600),
        _ => format!("{}d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_change_their_unit() -> Result<(), jiff::Error> {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse()?;
        let ago = |secs: i64| age(now - jiff::SignedDuration::from_secs(secs), now);
        assert_eq!([ago(5), ago(600), ago(7200), ago(400_000)], ["5s", "10m", "2h", "4d"]);
        Ok(())
    }

    #[test]
    fn a_narrow_terminal_goes_without_some_columns_and_cuts_the_reason() {
        let canary = serde_json::json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "podinfo", "namespace": "test"},
            "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
                "service": {"port": 80}, "analysis": {"interval": "1m", "threshold": 5}},
            "status": {"phase": "Progressing", "canaryWeight": 30, "failedChecks": 1, "serin": {"version": 1,
                "revision": "v1:0123456789abcdef0123@0123456789abcdef0123456789abcdef01234567", "state": null,
                "waitingOn": "podinfo to become ready: 1 of 2 (readyThreshold 100%) updated replicas are available"}}
        });
        let now = Timestamp::UNIX_EPOCH;
        let view = View::of(&serde_json::from_value(canary).unwrap(), now);
        let table = |width: Option<usize>| render(std::slice::from_ref(&view), true, now, width);
        assert!(table(None).contains("01234567@0123456"), "{}", table(None));
        assert_eq!(
            table(Some(80)),
            "NAMESPACE   NAME      PHASE         WEIGHT   WAITING ON\n\
             test        podinfo   Progressing   30 %     podinfo to become ready: 1 of 2 (r…\n"
        );
        assert_eq!(
            table(Some(60)),
            "NAMESPACE   NAME      PHASE         WAITING ON\n\
             test        podinfo   Progressing   podinfo to become ready…\n"
        );
        for width in [60, 80, 120, 200] {
            assert!(table(Some(width)).lines().all(|line| line.chars().count() <= width), "{width}");
        }
    }

    #[test]
    fn revisions_are_shortened() {
        let text = "v1:0123456789abcdef0123@0123456789abcdef0123456789abcdef01234567";
        assert_eq!(short_revision(text), "01234567@0123456");
        assert_eq!(short_revision("odd"), "odd");
    }
}
