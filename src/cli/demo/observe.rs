//! Follows the Canary and the repository's branches and tells what changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::Canary;
use crate::cli::output;
use crate::cluster;
use crate::model::CommitId;
use crate::release::{CheckResult, Outcome, OutcomeKind, Phase, State, wire};
use crate::sandbox::repository::{BRANCH, Commit, DEVELOPER, Repository};

use super::event::{DemoEvent, Shown};
use super::print::Printer;

/// Time between two looks at the branches: two small file reads, quick enough for the eye.
const BRANCH_LOOK: Duration = Duration::from_millis(200);

/// What is known of the Canary.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) phase: String,
    pub(super) weight: i64,
    pub(super) state: Option<State>,
    /// Every end seen so far; the state itself forgets what Git has.
    pub(super) outcomes: Vec<Outcome>,
}

impl Seen {
    /// How the release of a commit ended.
    pub(super) fn outcome(&self, commit: &CommitId) -> Option<OutcomeKind> {
        self.outcomes
            .iter()
            .find(|outcome| outcome.revision.commit.as_ref() == Some(commit))
            .map(|outcome| outcome.kind)
    }
}

/// Prints every change of the Canary and publishes the newest state, until cancelled.
pub(super) async fn canary(
    client: Client,
    name: &str,
    namespace: &str,
    printer: Arc<Printer>,
    seen: watch::Sender<Seen>,
    shutdown: CancellationToken,
) {
    let api: Api<Canary> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = Box::pin(cluster::watch(api, config).applied_objects());
    let mut teller = Teller {
        printer,
        next_seq: 0,
        tick: None,
        checks: Vec::new(),
        last: Seen::default(),
        waiting: String::new(),
    };
    loop {
        let change = tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.try_next() => change,
        };
        match change {
            Ok(Some(canary)) => {
                let now = teller.tell(&canary);
                seen.send_replace(now);
            }
            Ok(None) => return,
            // The watcher reconnects by itself; before the CRDs are there every attempt fails.
            Err(error) => tracing::debug!("watching the Canary: {error}"),
        }
    }
}

struct Teller {
    printer: Arc<Printer>,
    next_seq: u64,
    tick: Option<(String, u32)>,
    checks: Vec<CheckResult>,
    last: Seen,
    waiting: String,
}

impl Teller {
    fn tell(&mut self, canary: &Canary) -> Seen {
        let status = canary.status.clone().unwrap_or_default();
        let serin = status.serin.unwrap_or_default();
        let state: Option<State> = wire::read(serin.version, serin.state).ok().flatten();
        let mut outcomes = self.last.outcomes.clone();
        for outcome in state.iter().flat_map(|state| &state.outbox) {
            if outcomes.iter().all(|known| known.release != outcome.release) {
                outcomes.push(outcome.clone());
            }
        }
        let phase = status.phase.as_str().to_owned();
        let now = Seen { phase, weight: status.canary_weight, state: state.clone(), outcomes };
        if let Some(state) = &state {
            self.tell_checks(state, status.failed_checks, canary.spec.analysis.threshold());
            for entry in state.journal.iter().filter(|entry| entry.seq >= self.next_seq) {
                let event = entry.event.clone();
                self.printer.event(DemoEvent::Message { kind: event.kind, message: event.message });
            }
            self.next_seq = state.next_seq;
        }
        if now.phase != self.last.phase && !now.phase.is_empty() {
            self.printer.event(DemoEvent::Phase { phase: now.phase.clone(), weight: now.weight });
        }
        let waiting = serin.waiting_on.unwrap_or_default();
        if waiting != self.waiting && !waiting.is_empty() {
            let (phase, weight) = (now.phase.clone(), now.weight);
            self.printer.event(DemoEvent::Waiting { phase, weight, waiting_on: waiting.clone() });
        }
        self.waiting = waiting;
        self.last = now.clone();
        now
    }

    /// A tick is news when its number has moved on and left results behind.
    fn tell_checks(&mut self, state: &State, failed_checks: i64, threshold: u32) {
        let Phase::Releasing(release) = &state.phase else { return };
        let tick = (release.id.to_string(), release.watch.round);
        if self.tick.as_ref() == Some(&tick) {
            return;
        }
        self.tick = Some(tick);
        // A tick that only opens a window carries the results of the one before.
        let checks = release.checks();
        if checks.is_empty() || checks == self.checks {
            return;
        }
        self.checks.clone_from(&checks);
        // The verdict and the weight that follows from it are one write: what was measured had the weight before.
        let weight = self.last.weight;
        self.printer.event(DemoEvent::Checks { weight, failed_checks, threshold, checks });
    }
}

/// What is told of a commit: of one on the branch that people push to, everything.
fn committed(repository: &Repository, branch: &str, commit: Commit) -> DemoEvent {
    let Commit { id, subject, message, author: _ } = commit;
    let body = message.split_once('\n').map(|(_, body)| body.trim().to_owned()).unwrap_or_default();
    let shown = (branch == BRANCH).then(|| match repository.patch(&id) {
        Ok(patch) => Shown { body, patch },
        Err(error) => Shown { body, patch: format!("(the change cannot be shown: {error})\n") },
    });
    DemoEvent::Committed { branch: branch.to_owned(), commit: id.to_string(), subject, shown }
}

/// Tells Serin's commits on the branches, and publishes which commits were told, until cancelled.
pub(super) async fn branches(
    repository: Repository,
    branches: Vec<String>,
    printer: Arc<Printer>,
    told: watch::Sender<BTreeSet<CommitId>>,
    shutdown: CancellationToken,
) {
    let mut last: Vec<Option<CommitId>> = vec![None; branches.len()];
    let mut look = tokio::time::interval(BRANCH_LOOK);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = look.tick() => {}
        }
        for (branch, last) in branches.iter().zip(&mut last) {
            match repository.since(branch, last.as_ref()) {
                Ok(commits) => {
                    for commit in commits {
                        let id = commit.id.clone();
                        if commit.author != DEVELOPER {
                            printer.event(committed(&repository, branch, commit));
                        }
                        told.send_modify(|told| {
                            told.insert(id.clone());
                        });
                        *last = Some(id);
                    }
                }
                Err(error) => output::message(&format!("failed to look at {branch}: {error}")),
            }
        }
    }
}
