//! A forge in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures::future::BoxFuture;
use serin::forge::{CommitState, CommitStatus, Forge, ForgeError, Posted, Pull, PullRequest};
use serin::model::CommitId;

/// A forge that remembers, and may be away.
#[derive(Debug, Default)]
pub(crate) struct Remembering {
    told: Mutex<Vec<CommitStatus>>,
    pulls: Mutex<BTreeMap<u64, (PullRequest, bool)>>,
    away: Mutex<bool>,
    asked: Mutex<usize>,
}

impl Remembering {
    fn answer<T>(&self, answer: impl FnOnce() -> T) -> Result<T, ForgeError> {
        match *self.away.lock().unwrap() {
            true => Err(ForgeError::Away { forge: "GitHub", reason: "no route".into() }),
            false => Ok(answer()),
        }
    }

    pub(crate) fn is_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }

    /// What was told of a commit, in order.
    pub(crate) fn told(&self, commit: &CommitId) -> Vec<(CommitState, String)> {
        let told = self.told.lock().unwrap();
        let of = told.iter().filter(|status| status.commit == *commit);
        of.map(|status| (status.state, status.description.clone())).collect()
    }

    /// How many statuses were told.
    pub(crate) fn count(&self) -> usize {
        self.told.lock().unwrap().len()
    }

    /// Pull requests that are open.
    pub(crate) fn open(&self) -> Vec<PullRequest> {
        let pulls = self.pulls.lock().unwrap();
        pulls.values().filter(|(_, open)| *open).map(|(pull, _)| pull.clone()).collect()
    }

    /// How many were ever opened.
    pub(crate) fn opened(&self) -> usize {
        self.pulls.lock().unwrap().len()
    }

    /// Somebody merges or closes one.
    pub(crate) fn merge(&self, number: u64) {
        self.pulls.lock().unwrap().get_mut(&number).unwrap().1 = false;
    }

    pub(crate) fn last(&self, commit: &CommitId) -> Option<CommitState> {
        self.told(commit).last().map(|(state, _)| *state)
    }
}

impl Forge for Remembering {
    fn shows_progress(&self) -> bool {
        true
    }

    fn is_scarce(&self) -> bool {
        false
    }

    fn target_url(&self, branch: &str, path: &str) -> Option<String> {
        Some(format!("https://forge.test/{branch}/{path}"))
    }

    fn post_status<'a>(&'a self, status: &'a CommitStatus) -> BoxFuture<'a, Result<(), ForgeError>> {
        Box::pin(std::future::ready(self.answer(|| self.told.lock().unwrap().push(status.clone()))))
    }

    fn posted<'a>(
        &'a self,
        commit: &'a CommitId,
        context: &'a str,
    ) -> BoxFuture<'a, Result<Option<Posted>, ForgeError>> {
        *self.asked.lock().unwrap() += 1;
        let told = self.told.lock().unwrap();
        let last = told.iter().rev().find(|status| status.commit == *commit && status.context == context);
        let posted = last.map(|status| Posted {
            context: context.to_owned(),
            state: status.state.to_string(),
            description: status.description.clone(),
        });
        Box::pin(std::future::ready(self.answer(|| posted)))
    }

    fn is_same(&self, posted: &Posted, status: &CommitStatus) -> bool {
        posted.state == status.state.to_string() && posted.description == status.description
    }

    fn find_pull<'a>(
        &'a self,
        branch: &'a str,
        _base: &'a str,
    ) -> BoxFuture<'a, Result<Option<Pull>, ForgeError>> {
        let pulls = self.pulls.lock().unwrap();
        let newest = pulls.iter().rev().find(|(_, (pull, _))| pull.branch == branch);
        let found = newest.map(|(number, (_, open))| pull(*number, *open));
        Box::pin(std::future::ready(self.answer(|| found)))
    }

    fn open_pull<'a>(&'a self, wanted: &'a PullRequest) -> BoxFuture<'a, Result<Pull, ForgeError>> {
        let open = || {
            let mut pulls = self.pulls.lock().unwrap();
            let number = pulls.len() as u64 + 1;
            pulls.insert(number, (wanted.clone(), true));
            pull(number, true)
        };
        Box::pin(std::future::ready(self.answer(open)))
    }

    fn close_pull<'a>(&'a self, pull: &'a Pull) -> BoxFuture<'a, Result<(), ForgeError>> {
        let close = || {
            if let Some((_, open)) = self.pulls.lock().unwrap().get_mut(&pull.number) {
                *open = false;
            }
        };
        Box::pin(std::future::ready(self.answer(close)))
    }
}

fn pull(number: u64, is_open: bool) -> Pull {
    Pull { number, version: None, url: format!("https://forge.test/pulls/{number}"), is_open }
}
