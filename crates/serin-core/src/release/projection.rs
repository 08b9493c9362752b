//! Flagger's view of a state: phase strings, counters and the condition `Promoted`.

use super::attempt::{End, Release, Stage};
use super::outcome::OutcomeKind;
use super::state::{Phase, State};

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

impl Stage {
    /// Flagger's `status.phase` for this stage.
    pub(super) fn flagger_phase(&self) -> &'static str {
        match self {
            Self::Confirming => "Waiting",
            Self::ScalingUp { .. } | Self::Preparing | Self::Analysing => "Progressing",
            Self::ConfirmingPromotion => "WaitingPromotion",
            Self::Promoting { .. }
            | Self::Restoring { .. }
            | Self::Ending { end: End::Succeeded, zero_since: None, .. } => "Promoting",
            Self::Ending { end: End::Succeeded, zero_since: Some(_), .. } => "Finalising",
            Self::Ending { end: End::Failed { .. } | End::Superseded, .. } => "Progressing",
        }
    }
}

impl State {
    /// Flagger's `status.phase`.
    pub fn flagger_phase(&self) -> &'static str {
        match &self.phase {
            Phase::Initializing { .. } => "Initializing",
            Phase::Idle { last: OutcomeKind::Initialized, .. } => "Initialized",
            Phase::Idle { last: OutcomeKind::Succeeded, .. } => "Succeeded",
            Phase::Idle { last: OutcomeKind::Failed, .. } => "Failed",
            // The next revision is on its way; without one the release was withdrawn and primary runs what Git says.
            Phase::Idle { last: OutcomeKind::Superseded, .. } if self.admitted.is_some() => "Progressing",
            Phase::Idle { last: OutcomeKind::Superseded, .. } => "Succeeded",
            Phase::Releasing(release) => release.stage.flagger_phase(),
        }
    }

    /// The release under way, if there is one.
    pub fn release(&self) -> Option<&Release> {
        match &self.phase {
            Phase::Releasing(release) => Some(release),
            Phase::Initializing { .. } | Phase::Idle { .. } => None,
        }
    }

    /// Flagger's `status.canaryWeight`: the candidate's intended share of the requests that no rule treats apart.
    pub fn canary_weight(&self) -> u8 {
        self.release().map_or(0, |release| release.routing.base.candidate())
    }

    /// Flagger's `status.failedChecks`.
    pub fn failed_checks(&self) -> u32 {
        self.release().map_or(0, |release| release.failed_checks)
    }

    /// The condition `Promoted`.
    pub fn promoted_condition(&self) -> PromotedCondition {
        let reason = self.flagger_phase();
        let (status, message) = match reason {
            "Initializing" => ("Unknown", "New Deployment detected, starting initialization."),
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
