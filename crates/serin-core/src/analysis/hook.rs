//! Outgoing webhooks as a policy has them: what one asks, when, and how long an answer may take.

use std::collections::BTreeMap;
use std::time::Duration;

use super::keyed::{Defined, Definition};

/// An outgoing webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// The user's name for it; to be shown, it identifies nothing.
    pub name: String,
    /// When it is called.
    pub kind: HookKind,
    /// Where.
    pub url: String,
    /// Per attempt.
    pub timeout: Duration,
    /// Further attempts after connection errors, 429 and 5xx, as the user wrote it; see [`Hook::attempts`].
    pub retries: u32,
    /// Skip certificate verification.
    pub disable_tls: bool,
    /// Sent as `metadata`.
    pub metadata: BTreeMap<String, String>,
}

impl Hook {
    /// Most repetitions of one call, whatever the user wrote: the release's own threshold is the outer bound.
    pub const RETRIES_MAX: u32 = 10;
    /// Wait before the first repetition; doubled each time (Flagger's retryable client).
    pub const PAUSE_FIRST: Duration = Duration::from_secs(1);
    /// Longest wait between two attempts.
    pub const PAUSE_MAX: Duration = Duration::from_secs(30);
    /// What an attempt may take beyond its timeout, which begins when the connection stands: waiting for a turn, and an
    /// answer's way back.
    const MARGIN: Duration = Duration::from_secs(15);

    /// How often it is tried in all.
    pub fn attempts(&self) -> u32 {
        self.retries.min(Self::RETRIES_MAX) + 1
    }

    /// The pauses between its attempts.
    pub fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        let doubled = |pause: &Duration| Some((*pause * 2).min(Self::PAUSE_MAX));
        std::iter::successors(Some(Self::PAUSE_FIRST), doubled).take(self.attempts() as usize - 1)
    }

    /// How long an answer may take: all attempts with the pauses between them. Whoever calls stops then, and whoever waits
    /// waits that long.
    pub fn patience(&self) -> Duration {
        let attempts = self.timeout.saturating_mul(self.attempts());
        self.pauses().fold(attempts, Duration::saturating_add).saturating_add(Self::MARGIN)
    }
}

/// When a hook is called; Flagger's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HookKind {
    /// Gate before scaling up.
    ConfirmRollout,
    /// Before the first traffic.
    PreRollout,
    /// At every analysis tick, when its window opens.
    Rollout,
    /// Gate before each weight step.
    ConfirmTrafficIncrease,
    /// Gate before promotion.
    ConfirmPromotion,
    /// After the release ended.
    PostRollout,
    /// 2xx asks for a rollback.
    Rollback,
    /// One call per event.
    Event,
}

impl HookKind {
    /// Flagger's `type` string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfirmRollout => "confirm-rollout",
            Self::PreRollout => "pre-rollout",
            Self::Rollout => "rollout",
            Self::ConfirmTrafficIncrease => "confirm-traffic-increase",
            Self::ConfirmPromotion => "confirm-promotion",
            Self::PostRollout => "post-rollout",
            Self::Rollback => "rollback",
            Self::Event => "event",
        }
    }
}

impl Defined for Hook {
    fn definition(&self) -> Definition {
        let Self { name, kind, url, timeout, retries, disable_tls, metadata } = self;
        let pairs = metadata.iter().flat_map(|(key, value)| [key, value]);
        Definition::default()
            .with(kind.as_str())
            .with(name)
            .with(url)
            .with(timeout.as_millis())
            .with(retries)
            .with(disable_tls)
            .with_all(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(timeout: u64, retries: u32) -> Hook {
        Hook {
            name: "load".into(),
            kind: HookKind::Rollout,
            url: String::new(),
            timeout: Duration::from_secs(timeout),
            retries,
            disable_tls: false,
            metadata: BTreeMap::new(),
        }
    }

    #[test]
    fn patience_covers_every_attempt_and_the_pauses_between_them() {
        for (timeout, retries, attempts, pauses) in [
            (10, 0, 1, 0),
            (10, 1, 2, 1),
            (10, 3, 4, 7),
            (5, 10, 11, 1 + 2 + 4 + 8 + 16 + 5 * 30),
            (5, 99, 11, 181),
        ] {
            let hook = hook(timeout, retries);
            assert_eq!(hook.attempts(), attempts);
            assert_eq!(hook.pauses().sum::<Duration>(), Duration::from_secs(pauses));
            let slowest = Duration::from_secs(timeout * u64::from(attempts) + pauses);
            assert!(hook.patience() > slowest, "{hook:?}");
        }
    }
}
