//! What there is to tell of a Canary. PURE.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DynamicObject;

use super::super::target::{policy_words, target_of};
use crate::alert::{Message, Severity};
use crate::api::annotations::ALERTED;
use crate::api::{Alert, AlertSeverity, Canary, CanarySpec, WebhookType};
use crate::cluster::{Reflected, SharedWatch};
use crate::model::{NamespacedName, Revision, told_within};
use crate::release::{CheckResult, Outcome, OutcomeKind, Phase, State, WaitingOn, wire};

/// Longest cause that is told, in characters: chats cut longer ones.
const CAUSE_MAX: usize = 600;

/// What of a release is told: its place among all that is told of a Canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Told {
    /// Number of the release; 0 is the initialization.
    pub(super) release: u64,
    pub(super) stage: Stage,
}

/// What of a release is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Started,
    Waiting,
    Ended,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Started, Self::Waiting, Self::Ended];

    fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Waiting => "waiting",
            Self::Ended => "ended",
        }
    }
}

/// As on the Canary: `3.ended`.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.release, self.stage.as_str())
    }
}

impl FromStr for Told {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (release, stage) = text.split_once('.').ok_or(())?;
        let stage = Stage::ALL.into_iter().find(|known| known.as_str() == stage).ok_or(())?;
        Ok(Self { release: release.parse().map_err(|_| ())?, stage })
    }
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct News {
    pub(super) told: Told,
    pub(super) at: Timestamp,
    pub(super) message: Message,
}

/// A Canary that names alerts.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchedAlerts {
    pub(super) alerts: Vec<Alert>,
    /// In order.
    pub(super) news: Vec<News>,
    /// How far it was told.
    pub(super) told: Option<Told>,
}

impl WatchedAlerts {
    fn of(key: &NamespacedName, canary: &Canary) -> Option<Self> {
        let alerts = &canary.spec.analysis.alerts;
        if alerts.is_empty() {
            return None;
        }
        let serin = canary.status.as_ref()?.serin.as_ref()?;
        let state = wire::read(serin.version, serin.state.clone()).ok()??;
        let told = canary.annotations().get(ALERTED).and_then(|text| text.parse().ok());
        // A Canary that was given another target counts anew.
        let told = told.filter(|told: &Told| told.release <= state.releases);
        Some(Self { alerts: alerts.clone(), news: news(key, &canary.spec, &state), told })
    }

    /// What has not been told yet and happened since `oldest`.
    pub(super) fn untold(&self, oldest: Timestamp) -> impl Iterator<Item = &News> {
        self.news.iter().filter(move |news| Some(news.told) > self.told && news.at >= oldest)
    }
}

/// Whether an alert wants to hear this. Without a severity it hears everything, as Flagger's documentation says.
pub(super) fn hears(alert: &Alert, severity: Severity) -> bool {
    severity
        >= match alert.severity.unwrap_or(AlertSeverity::Unset) {
            AlertSeverity::Unset | AlertSeverity::Info => Severity::Info,
            AlertSeverity::Warn => Severity::Warn,
            AlertSeverity::Error => Severity::Error,
        }
}

fn news(key: &NamespacedName, spec: &CanarySpec, state: &State) -> Vec<News> {
    let last = state.last_outcome.as_deref();
    let last = last.filter(|last| state.outbox.iter().all(|outcome| outcome.release != last.release));
    let mut all: Vec<News> =
        last.into_iter().chain(&state.outbox).filter_map(|end| ended(key, spec, end)).collect();
    all.extend(started(key, spec, state));
    all.extend(waiting(key, spec, state));
    all.sort_by_key(|news| news.told);
    all
}

fn started(key: &NamespacedName, spec: &CanarySpec, state: &State) -> Option<News> {
    let release = state.release()?;
    let told = Told { release: release.id.number()?, stage: Stage::Started };
    let message = Message {
        severity: Severity::Info,
        about: about(key),
        text: "New revision detected, progressing canary analysis.".to_owned(),
        fields: fields(key, spec, &release.revision),
    };
    Some(News { told, at: release.started, message })
}

/// In Flagger's words; what `muteAlert` is on for is not told.
fn waiting(key: &NamespacedName, spec: &CanarySpec, state: &State) -> Option<News> {
    let Some(WaitingOn::Gate { name, reason }) = &state.waiting_on else { return None };
    let webhook = spec.analysis.webhooks.iter().find(|webhook| webhook.name == *name)?;
    let text = match webhook.type_ {
        Some(WebhookType::ConfirmPromotion) => "Canary promotion is waiting for approval.",
        Some(WebhookType::ConfirmTrafficIncrease) => "Canary traffic increase is waiting for approval.",
        _ => "Canary is waiting for approval.",
    };
    let at = match &state.phase {
        Phase::Releasing(release) => release.started,
        Phase::Initializing { since, .. } | Phase::Idle { since, .. } => *since,
        Phase::HandingBack(_) => return None,
    };
    let mut fields = vec![("Gate".to_owned(), name.clone())];
    if !reason.is_empty() {
        fields.push(("Answer".to_owned(), told_within(reason, CAUSE_MAX)));
    }
    let message = Message { severity: Severity::Warn, about: about(key), text: text.to_owned(), fields };
    let told = Told { release: state.releases, stage: Stage::Waiting };
    (!webhook.mute_alert).then_some(News { told, at, message })
}

fn ended(key: &NamespacedName, spec: &CanarySpec, end: &Outcome) -> Option<News> {
    let Outcome { release, kind, revision, promoted: _, cause, started: _, ended, checks, overrode: _ } = end;
    let (severity, text) = match kind {
        OutcomeKind::Initialized => {
            (Severity::Info, "New Deployment detected, initialization completed.".to_owned())
        }
        OutcomeKind::Succeeded if spec.skip_analysis => {
            (Severity::Info, "Canary analysis was skipped, promotion finished.".to_owned())
        }
        OutcomeKind::Succeeded => {
            (Severity::Info, "Canary analysis completed successfully, promotion finished.".to_owned())
        }
        OutcomeKind::Failed => {
            let cause = cause.as_ref().map_or("the release failed", |cause| cause.message.as_str());
            (Severity::Error, format!("Canary failed and is rolled back: {}", told_within(cause, CAUSE_MAX)))
        }
        OutcomeKind::Withdrawn => {
            (Severity::Info, "Canary analysis withdrawn, primary serves what it did before.".to_owned())
        }
        // Its successor is told.
        OutcomeKind::Superseded => return None,
    };
    let mut fields = fields(key, spec, revision);
    if severity == Severity::Error {
        fields.extend(checks.iter().map(|CheckResult { name, verdict, value, limit }| {
            let value = value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.2}"));
            (name.clone(), format!("{value} (limit {limit}): {}", verdict.as_str()))
        }));
    }
    let told = Told { release: release.number().unwrap_or_default(), stage: Stage::Ended };
    Some(News { told, at: *ended, message: Message { severity, about: about(key), text, fields } })
}

fn about(key: &NamespacedName) -> String {
    format!("{}.{}", key.name, key.namespace)
}

fn fields(key: &NamespacedName, spec: &CanarySpec, revision: &Revision) -> Vec<(String, String)> {
    let target = target_of(key, spec);
    let commit = revision.commit.as_ref().map_or_else(String::new, |commit| format!("@{}", commit.short()));
    [
        ("Target", format!("{}/{}.{}", target.kind, target.name, key.namespace)),
        ("Revision", format!("{}{commit}", revision.digest.short())),
        ("Traffic routing", policy_words(spec)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// The Canaries as alerts see them; `None` for one that names none, or that the engine has not seen.
pub fn watched_alerts(watch: &mut SharedWatch) -> Reflected<Option<WatchedAlerts>> {
    let convert = |object: DynamicObject| {
        let canary = object.try_parse::<Canary>().map_err(|error| error.to_string())?;
        let key = NamespacedName::new(canary.namespace().unwrap_or_default(), canary.name_any());
        Ok(WatchedAlerts::of(&key, &canary))
    };
    watch.cache(convert, |_| {})
}

#[cfg(test)]
#[path = "news_tests.rs"]
mod tests;
