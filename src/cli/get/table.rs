//! Releases as a table, in kubectl's layout.

use jiff::Timestamp;

use crate::api::Canary;
use crate::cli::output::columns;

use super::view::View;

/// One row a Canary.
pub(super) fn render(canaries: &[Canary], namespaces: bool, now: Timestamp) -> String {
    let mut header: Vec<String> =
        ["NAME", "PHASE", "WEIGHT", "FAILED", "REVISION", "SINCE", "WAITING ON"].map(str::to_owned).to_vec();
    if namespaces {
        header.insert(0, "NAMESPACE".to_owned());
    }
    let rows = canaries.iter().map(|canary| row(&View::of(canary), namespaces, now));
    columns(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

fn row(view: &View, namespaces: bool, now: Timestamp) -> Vec<String> {
    let phase = if view.phase.is_empty() { "<none>" } else { &view.phase };
    let mut cells = vec![
        view.name.clone(),
        phase.to_owned(),
        format!("{} %", view.weight),
        format!("{}/{}", view.failed_checks, view.threshold),
        view.revision.as_deref().map_or_else(|| "<none>".to_owned(), short_revision),
        view.since.map_or_else(|| "<none>".to_owned(), |since| age(since, now)),
        view.why().unwrap_or_default(),
    ];
    if namespaces {
        cells.insert(0, view.namespace.clone());
    }
    cells
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
pub(super) fn age(since: Timestamp, now: Timestamp) -> String {
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
    fn revisions_are_shortened() {
        let text = "v1:0123456789abcdef0123@0123456789abcdef0123456789abcdef01234567";
        assert_eq!(short_revision(text), "01234567@0123456");
        assert_eq!(short_revision("odd"), "odd");
    }
}
