//! Flagger's view of a state: phase strings, counters and the condition `Promoted`.

use super::attempt::{End, Release, Stage};
use super::outcome::OutcomeKind;
use super::report::WaitingOn;
use super::state::{Phase, Rebuilt, State};
use crate::model::{Revision, RollbackFate, RollbackNote};

/// The condition `Promoted` in Flagger's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromotedCondition {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// Flagger's phase.
    pub reason: &'static str,
    /// Flagger's sentence; on failure followed by the cause.
    pub message: String,
}

/// Something about Git that a person should know: reason and message of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// In CamelCase.
    pub reason: String,
    /// In words.
    pub message: String,
}

/// A revision whose release is not to begin yet: what it waits for, as a condition's reason and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held<'a> {
    /// Which.
    pub revision: &'a Revision,
    /// In CamelCase.
    pub reason: &'static str,
    /// In words.
    pub message: String,
}

impl Stage {
    /// Flagger's `status.phase` for this stage.
    pub(super) fn flagger_phase(&self) -> &'static str {
        match self {
            Self::Confirming => "Waiting",
            Self::ScalingUp { .. } | Self::Preparing | Self::Analysing => "Progressing",
            Self::ConfirmingPromotion => "WaitingPromotion",
            Self::Promoting { .. } | Self::Restoring { .. } => "Promoting",
            Self::Ending { end: End::Succeeded, .. } => "Finalising",
            Self::Ending { end: End::Failed { .. } | End::Superseded, .. } => "Progressing",
        }
    }
}

impl State {
    /// Flagger's `status.phase`.
    pub fn flagger_phase(&self) -> &'static str {
        match &self.phase {
            Phase::Initializing { .. } => "Initializing",
            Phase::HandingBack(_) => "Terminating",
            Phase::Idle { last: OutcomeKind::Initialized, .. } => "Initialized",
            Phase::Idle { last: OutcomeKind::Succeeded, .. } => "Succeeded",
            Phase::Idle { last: OutcomeKind::Failed, .. } => "Failed",
            // The next revision is on its way.
            Phase::Idle { last: OutcomeKind::Superseded, .. } if self.admitted.is_some() => "Progressing",
            // Primary runs on as it did before, and nothing was promoted; Flagger has no word for it.
            Phase::Idle { last: OutcomeKind::Superseded | OutcomeKind::Withdrawn, .. } => "Initialized",
            Phase::Releasing(release) => release.stage.flagger_phase(),
        }
    }

    /// The release under way, if there is one.
    pub fn release(&self) -> Option<&Release> {
        match &self.phase {
            Phase::Releasing(release) => Some(release),
            Phase::Initializing { .. } | Phase::Idle { .. } | Phase::HandingBack(_) => None,
        }
    }

    /// Flagger's `status.canaryWeight`: the candidate's intended share of the requests that no rule treats apart.
    pub fn canary_weight(&self) -> u8 {
        self.release().map_or(0, |release| release.routing.base.candidate())
    }

    /// Flagger's `status.failedChecks`.
    pub fn failed_checks(&self) -> u32 {
        self.release().map_or(0, |release| release.watch.failed())
    }

    /// What became of the watched branch after the last release, if that failed and nothing has been released since.
    pub fn rollback_note(&self) -> Option<&RollbackNote> {
        let idle = matches!(self.phase, Phase::Idle { .. });
        self.rollback.as_ref().filter(|note| idle && note.release.number() >= Some(self.releases))
    }

    /// What is not in Git as it should be: something that does not get there, or a failed revision that the watched branch goes
    /// on naming.
    pub fn git_trouble(&self) -> Option<Trouble> {
        if let Some(text) = &self.unrecorded {
            let (reason, message) = text.split_once(": ").unwrap_or(("Unrecorded", text));
            return Some(Trouble { reason: reason.to_owned(), message: message.to_owned() });
        }
        let note = self.rollback_note()?;
        let (reason, message) = match &note.fate {
            RollbackFate::Missing { reason, message } => (reason.clone(), message.clone()),
            RollbackFate::Proposed { url } => ("RollbackProposed".to_owned(), format!("merge {url}")),
            RollbackFate::Made { .. } | RollbackFate::Needless { .. } => return None,
        };
        let put_right = self
            .promoted
            .as_ref()
            .is_some_and(|promoted| self.last_applied.as_ref() == Some(&promoted.revision.digest));
        let message = format!("branch {} still names the failed revision: {message}", note.branch);
        (!put_right).then_some(Trouble { reason, message })
    }

    /// A revision whose release is not to begin yet.
    pub fn held(&self) -> Option<Held<'_>> {
        let waiting = self.waiting_on.as_ref()?;
        let (revision, reason) = match waiting {
            WaitingOn::ReleaseWindow { revision, .. } => (revision, "ReleaseWindow"),
            WaitingOn::Environment { revision, .. } => (revision, "Environment"),
            _ => return None,
        };
        let message = format!("revision {} waits for {waiting}", revision.digest.short());
        Some(Held { revision, reason, message })
    }

    /// What a rebuilt cluster started with, while primary runs that.
    pub fn rebuilt_from_record(&self) -> Option<&Rebuilt> {
        let promoted = self.promoted.as_ref()?;
        self.rebuilt.as_ref().filter(|rebuilt| rebuilt.revision.digest == promoted.revision.digest)
    }

    /// The release that ended last and did not get as far as to be judged, while nothing comes after it: a word for how, and the
    /// release in words.
    pub fn unpromoted(&self) -> Option<(&'static str, String)> {
        let Phase::Idle { last, .. } = &self.phase else { return None };
        let outcome = self.last_outcome.as_ref()?;
        let release = &outcome.release;
        match last {
            OutcomeKind::Withdrawn => {
                Some(("Withdrawn", format!("Release {release} was withdrawn before its promotion")))
            }
            OutcomeKind::Superseded if self.admitted.is_none() => {
                Some(("Superseded", format!("Release {release} was superseded before its promotion")))
            }
            OutcomeKind::Initialized | OutcomeKind::Succeeded | OutcomeKind::Failed | OutcomeKind::Superseded => {
                None
            }
        }
    }

    /// The condition `Promoted`.
    pub fn promoted_condition(&self) -> PromotedCondition {
        if let Some((reason, words)) = self.unpromoted() {
            let message = format!("{words}; primary serves what it did before.");
            return PromotedCondition { status: "False", reason, message };
        }
        let reason = self.flagger_phase();
        let (status, message) = match reason {
            "Initializing" if matches!(self.waiting_on, Some(WaitingOn::Target { .. })) => {
                ("Unknown", "The target does not exist yet.")
            }
            "Initializing" => ("Unknown", "New Deployment detected, starting initialization."),
            "Terminating" => ("Unknown", "The Canary is being deleted, its target takes over from primary."),
            "Initialized" => ("True", "Deployment initialization completed."),
            "Waiting" | "WaitingPromotion" => ("Unknown", "Waiting for approval."),
            "Promoting" => ("Unknown", "Canary analysis completed, starting primary rolling update."),
            "Finalising" => ("Unknown", "Canary analysis completed, routing all traffic to primary."),
            "Succeeded" => ("True", "Canary analysis completed successfully, promotion finished."),
            "Failed" => ("False", "Canary analysis failed, Deployment scaled to zero."),
            _ => ("Unknown", "New revision detected, progressing canary analysis."),
        };
        let cause = self.last_outcome.as_ref().and_then(|outcome| outcome.cause.as_ref());
        let message = match (status, cause) {
            ("False", Some(cause)) => format!("{message} {}", cause.message),
            (_, Some(_) | None) => message.to_owned(),
        };
        PromotedCondition { status, reason, message }
    }
}
