//! Commits get their statuses: the whole daemon against a forge that writes down what it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use serin::forge::{CommitState, CommitStatus, Forge, ForgeError, Posted, Pull, PullRequest};
use serin::model::CommitId;

use super::world::World;

/// A forge that remembers, and may be away.
#[derive(Default)]
pub(super) struct Remembering {
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

    pub(super) fn is_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }

    /// What was told of a commit, in order.
    pub(super) fn told(&self, commit: &CommitId) -> Vec<(CommitState, String)> {
        let told = self.told.lock().unwrap();
        let of = told.iter().filter(|status| status.commit == *commit);
        of.map(|status| (status.state, status.description.clone())).collect()
    }

    pub(super) fn last(&self, commit: &CommitId) -> Option<CommitState> {
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
        let found =
            pulls.iter().find(|(_, (pull, open))| *open && pull.branch == branch).map(|(number, _)| *number);
        Box::pin(std::future::ready(self.answer(|| found.map(pull))))
    }

    fn open_pull<'a>(&'a self, wanted: &'a PullRequest) -> BoxFuture<'a, Result<Pull, ForgeError>> {
        let open = || {
            let mut pulls = self.pulls.lock().unwrap();
            let number = pulls.len() as u64 + 1;
            pulls.insert(number, (wanted.clone(), true));
            pull(number)
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

fn pull(number: u64) -> Pull {
    Pull { number, version: None, url: format!("https://forge.test/pulls/{number}") }
}

#[tokio::test(start_paused = true)]
async fn every_commit_has_its_status_whatever_becomes_of_it() {
    let forge = Arc::new(Remembering::default());
    let mut world = World::with_forge("commit", forge.clone()).await;
    let first = world.tip();
    world.eventually("the first commit is told", async || forge.last(&first) == Some(CommitState::Success)).await;

    // Two commits in one push: one is never released alone, the other is.
    world.push("3.1.1");
    let skipped = world.tip();
    world.push("3.1.2");
    let second = world.tip();
    world.has_weight(30).await;
    world.eventually("it is released", async || forge.last(&second) == Some(CommitState::Running)).await;
    assert!(forge.told(&second)[0].0.is_open(), "from the first moment on");
    world
        .eventually("progress is told", async || {
            forge.told(&second).iter().any(|(_, words)| words.contains("30%") || words.contains("50%"))
        })
        .await;
    world.eventually("it ends", async || forge.last(&second) == Some(CommitState::Success)).await;
    assert_eq!(forge.last(&skipped), Some(CommitState::Cancelled), "{:?}", forge.told(&skipped));

    // A failure while the forge is away, and a restart: told once, when it is back.
    forge.is_away(true);
    world.failing(true);
    world.push("3.1.3");
    let third = world.tip();
    world.reaches("Failed").await;
    world.start();
    world.failing(false);
    world.quiet().await;
    assert_eq!(forge.told(&third), []);
    forge.is_away(false);
    world.eventually("it is told", async || forge.last(&third) == Some(CommitState::Failure)).await;
    let rolled_back = world.tip();
    assert_ne!(rolled_back, third, "the rollback did not wait for the forge");
    world.eventually("so is the rollback", async || forge.last(&rolled_back) == Some(CommitState::Success)).await;

    // Nothing is told twice, not even after another restart.
    let all = forge.told.lock().unwrap().len();
    world.start();
    world.quiet().await;
    assert_eq!(forge.told.lock().unwrap().len(), all);
    for commit in [&first, &skipped, &second, &third, &rolled_back] {
        let told = forge.told(commit);
        assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
        assert!(!told.last().unwrap().0.is_open());
    }
    // What was told may leave the outbox.
    let canary = world.canary("the outbox empties", |canary| {
        canary["status"]["serin"]["state"]["outbox"].as_array().is_none_or(Vec::is_empty)
    });
    canary.await;
}
