//! What load has asked for lately: an autoscaler follows it down, or up, once nothing else was asked for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscaler};
use kube::runtime::reflector::ObjectRef;

/// How long a smaller size has to be asked for (kube-controller-manager's default).
const DOWN: Duration = Duration::from_secs(300);

/// `spec.behavior.*.stabilizationWindowSeconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Windows {
    up: Duration,
    down: Duration,
}

impl Windows {
    pub(super) fn of(scaler: &HorizontalPodAutoscaler) -> Self {
        let behavior = scaler.spec.as_ref().and_then(|spec| spec.behavior.as_ref());
        let window = |rules: Option<&HPAScalingRules>, default: Duration| {
            let seconds = rules.and_then(|rules| rules.stabilization_window_seconds);
            seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(default, Duration::from_secs)
        };
        Self {
            up: window(behavior.and_then(|behavior| behavior.scale_up.as_ref()), Duration::ZERO),
            down: window(behavior.and_then(|behavior| behavior.scale_down.as_ref()), DOWN),
        }
    }
}

type Scaler = ObjectRef<HorizontalPodAutoscaler>;

/// What one was asked for, and when.
type Asked = Vec<(Instant, i32)>;

/// Sizes that load has asked for, by autoscaler.
#[derive(Debug, Default)]
pub(in crate::controllers) struct Recommendations(Mutex<HashMap<Scaler, Asked>>);

impl Recommendations {
    /// The size to have now that `asked` is asked for: between the least that was asked for in the window of going up and the
    /// most in that of going down nothing changes.
    pub(super) fn settle(&self, key: Scaler, windows: Windows, replicas: i32, asked: i32, now: Instant) -> i32 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(key).or_default();
        // What it had before anything was asked counts as asked for.
        if known.is_empty() {
            known.push((now, replicas));
        }
        known.push((now, asked));
        let longest = windows.up.max(windows.down);
        known.retain(|(at, _)| now.saturating_duration_since(*at) <= longest);
        let within = |window: Duration| {
            let recent = known.iter().filter(move |(at, _)| now.saturating_duration_since(*at) < window);
            recent.map(|(_, size)| *size).chain([asked])
        };
        let least = within(windows.up).min().unwrap_or(asked);
        let most = within(windows.down).max().unwrap_or(asked);
        replicas.max(least).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_followed_once_it_has_lasted() {
        let (all, start) = (Recommendations::default(), Instant::now());
        let windows = Windows { up: Duration::from_secs(3), down: Duration::from_secs(10) };
        let mut size = 4;
        let mut ask = |asked: i32, second: u64| {
            size =
                all.settle(ObjectRef::new("podinfo"), windows, size, asked, start + Duration::from_secs(second));
            size
        };
        assert_eq!([ask(8, 0), ask(8, 1), ask(7, 2), ask(8, 3)], [4, 4, 4, 7], "the least that was asked for 3 s");
        assert_eq!([ask(2, 4), ask(3, 8), ask(2, 12)], [7, 7, 7], "eight were asked for 9 s ago");
        assert_eq!(ask(2, 13), 3, "the most that was asked for in 10 s");
    }

    #[test]
    fn defaults_are_kubernetes() {
        let scaler = HorizontalPodAutoscaler::default();
        assert_eq!(Windows::of(&scaler), Windows { up: Duration::ZERO, down: Duration::from_secs(300) });
    }
}
