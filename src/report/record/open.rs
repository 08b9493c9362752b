//! Rollbacks whose push was denied, or which are proposed: the record tells them until they have come to an end. That they are still wanted is what
//! the Canary's status knows, not the record.

use std::collections::BTreeSet;

use super::wire::{self, FinishedRecord};
use super::{Files, Rollbacks};
use crate::model::{NamespacedName, ReleaseId};

/// Where finished releases are.
const HISTORY: &str = "history/";
/// What an open record holds; looked for first, since few of many files are open.
const MARKS: [&[u8]; 2] = [b"denied:", b"proposed:"];

/// The failed releases whose rollback the record calls open.
pub(in crate::report) fn open_rollbacks(files: &Files) -> BTreeSet<(NamespacedName, ReleaseId)> {
    open(files).map(|(_, record)| (record.canary, record.release)).collect()
}

/// Puts what has become of open rollbacks into their records. One that is denied again keeps its first words: a host that
/// words every denial differently must not make a commit each time.
pub(super) fn settle(files: &mut Files, rollbacks: &Rollbacks) {
    let settled: Vec<(String, String)> = open(files)
        .filter_map(|(path, record)| {
            let rollback = rollbacks.get(&(record.canary.clone(), record.release.clone()))?;
            let becomes_proposed =
                rollback.proposed.is_some() && record.rollback.as_ref().is_none_or(|it| it.proposed.is_none());
            let news = !rollback.is_open() || becomes_proposed;
            news.then(|| (path.to_owned(), wire::with_rollback(record, rollback.clone())))
        })
        .collect();
    files.extend(settled.into_iter().map(|(path, text)| (path, text.into_bytes())));
}

fn open(files: &Files) -> impl Iterator<Item = (&str, FinishedRecord)> {
    let history = files.range(HISTORY.to_owned()..).take_while(|(path, _)| path.starts_with(HISTORY));
    let marked = |bytes: &[u8]| MARKS.iter().any(|mark| bytes.windows(mark.len()).any(|window| window == *mark));
    history.filter(move |(_, bytes)| marked(bytes)).filter_map(|(path, bytes)| {
        let record: FinishedRecord = wire::read(bytes).ok()?;
        record.rollback.as_ref().is_some_and(wire::RollbackRecord::is_open).then_some((path.as_str(), record))
    })
}
