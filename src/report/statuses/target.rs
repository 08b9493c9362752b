//! What is kept of a Canary to tell what becomes of commits.

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DynamicObject;

use super::words;
use crate::api::annotations::PROJECTED_FORGE;
use crate::api::{Canary, Source, SourceStatus};
use crate::cluster::{Reflected, SharedWatch};
use crate::model::{CommitId, Digest, NamespacedName, ObjectRef, ReleaseId};
use crate::release::{OutcomeKind, WaitingOn, wire};

use super::super::target::target_of;

/// A target as statuses see it.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchedTarget {
    pub(super) target: ObjectRef,
    /// The release under way.
    pub(super) running: Option<Running>,
    /// How releases ended, oldest first.
    pub(super) ends: Vec<End>,
    /// The newest end that leaves the outbox when it is acknowledged.
    pub(super) newest: Option<ReleaseId>,
    /// What was acknowledged last.
    pub(super) acknowledged: Option<ReleaseId>,
    /// What primary runs.
    pub(super) promoted: Option<(Digest, Option<CommitId>)>,
    /// What failed and is not released by itself, and in which release.
    pub(super) quarantined: Vec<(Digest, ReleaseId)>,
    /// `spec.suspend`.
    pub(super) suspended: bool,
    /// A revision whose release is not to begin yet, and what it waits for.
    pub(super) held: Option<(Digest, String)>,
    /// What somebody has to put right first.
    pub(super) obstacle: Option<String>,
}

/// A release under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) digest: Digest,
    pub(super) commit: Option<CommitId>,
    /// How far it is, in words that change only when something does.
    pub(super) words: String,
    /// It has failed, and traffic goes back.
    pub(super) failing: bool,
}

/// The end of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) release: ReleaseId,
    pub(super) digest: Digest,
    pub(super) commit: Option<CommitId>,
    pub(super) kind: OutcomeKind,
    pub(super) ended: Timestamp,
    pub(super) cause: Option<String>,
}

/// Characters of a cause that are kept: a status has fewer.
const CAUSE_MAX: usize = 300;

impl WatchedTarget {
    pub(super) fn of(key: &NamespacedName, canary: &Canary) -> Option<Self> {
        let status = canary.status.as_ref()?;
        let serin = status.serin.as_ref()?;
        let state = wire::read(serin.version, serin.state.clone()).ok()??;
        let running = state.release().map(|release| Running {
            digest: release.revision.digest.clone(),
            commit: release.revision.commit.clone(),
            words: words::progress(&state, release, &canary.spec),
            failing: words::is_failing(release),
        });
        let last = state
            .last_outcome
            .as_deref()
            .filter(|last| state.outbox.iter().all(|outcome| outcome.release != last.release));
        let ends = last.into_iter().chain(&state.outbox).map(|outcome| End {
            release: outcome.release.clone(),
            digest: outcome.revision.digest.clone(),
            commit: outcome.revision.commit.clone(),
            kind: outcome.kind,
            ended: outcome.ended,
            cause: outcome.cause.as_ref().map(|cause| cause.message.chars().take(CAUSE_MAX).collect()),
        });
        let obstacle = match &state.waiting_on {
            Some(WaitingOn::Blocked { reason } | WaitingOn::Misconfigured { reason }) => Some(reason.clone()),
            Some(WaitingOn::Target { name }) => Some(format!("there is no {name}")),
            Some(WaitingOn::Drift) => Some("the target was changed by somebody else".to_owned()),
            _ => None,
        };
        let held = state.held().map(|held| (held.revision.digest.clone(), held.message));
        let acknowledged = canary.annotations().get(PROJECTED_FORGE).and_then(|text| text.parse().ok());
        Some(Self {
            target: target_of(key, &canary.spec),
            running,
            ends: ends.collect(),
            newest: state.outbox.last().map(|outcome| outcome.release.clone()),
            acknowledged,
            promoted: state.promoted.map(|it| (it.revision.digest, it.revision.commit)),
            quarantined: state.quarantine.into_iter().map(|it| (it.revision.digest, it.release)).collect(),
            suspended: canary.spec.suspend,
            held: held.map(|(digest, words)| (digest, words.chars().take(CAUSE_MAX).collect())),
            obstacle: obstacle.map(|words| words.chars().take(CAUSE_MAX).collect()),
        })
    }
}

/// The Canaries as statuses see them; `None` for one that the engine has not seen.
pub fn watched_targets(watch: &mut SharedWatch) -> Reflected<Option<WatchedTarget>> {
    let convert = |object: DynamicObject| {
        let canary = object.try_parse::<Canary>().map_err(|error| error.to_string())?;
        let key = NamespacedName::new(canary.namespace().unwrap_or_default(), canary.name_any());
        Ok(WatchedTarget::of(&key, &canary))
    };
    watch.cache(convert, |_| {})
}

/// The Sources: where sync is.
pub fn watched_sources(watch: &mut SharedWatch) -> Reflected<SourceStatus> {
    let convert = |object: DynamicObject| {
        let source = object.try_parse::<Source>().map_err(|error| error.to_string())?;
        Ok(source.status.unwrap_or_default())
    };
    watch.cache(convert, |_| {})
}
