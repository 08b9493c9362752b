//! What the controller needs to know.

use std::time::Duration;

use crate::api::WaitFor;
use crate::calendar::Window;
use crate::model::Projection;
use crate::release::Guards;

/// What pods of a demonstration take to start, with room to spare on a busy machine.
const STARTING: Duration = Duration::from_secs(10);

/// Settings of the controller.
#[derive(Debug, Clone, PartialEq)]
pub struct ControllerSettings {
    /// Only this namespace's Canaries.
    pub namespace: Option<String>,
    /// Prometheus for the built-in checks and for templates without an address.
    pub metrics_address: String,
    /// The daemon's own namespace, whose Secrets are never sent anywhere.
    pub own_namespace: String,
    /// Divides analysis interval, query windows and progress deadline; 1 except in demonstrations.
    pub speed: f64,
    /// How long the canary is kept after weight 0 has been observed.
    pub drain: Duration,
    /// How long a side must have been ready before it gets traffic.
    pub settle: Duration,
    /// What is done so that no request fails for want of pods.
    pub guards: Guards,
    /// Labels that may tell primary and canary pods apart, most wanted first.
    pub selector_labels: Vec<String>,
    /// Whether webhooks may lead to this machine itself: where a proxy is named it decides where addresses lead.
    pub loopback: bool,
    /// Whether Argo Rollouts' Rollouts are released, too.
    pub rollouts: bool,
    /// When releases may begin, whatever Canary they are of.
    pub windows: Vec<Window>,
    /// What every Canary waits for.
    pub wait_for: Vec<WaitFor>,
    /// Projections that an end waits for before it leaves the outbox.
    pub projections: Vec<Projection>,
}

impl ControllerSettings {
    /// Settings of no daemon: for what a Canary says by itself.
    pub(super) fn of_nobody() -> Self {
        Self {
            namespace: None,
            metrics_address: String::new(),
            own_namespace: String::new(),
            speed: 1.0,
            drain: Duration::ZERO,
            settle: Duration::ZERO,
            guards: Guards::default(),
            selector_labels: Vec::new(),
            loopback: true,
            rollouts: false,
            windows: Vec::new(),
            wait_for: Vec::new(),
            projections: Vec::new(),
        }
    }

    /// `duration` as fast as the demonstration goes; a speed below 1 or that is no number counts as 1.
    pub(super) fn sped(&self, duration: Duration) -> Duration {
        if self.is_demonstration() { duration.div_f64(self.speed) } else { duration }
    }

    /// The time that a side may take to become ready: `deadline`, in a demonstration already divided. Pods start no faster
    /// there, and have to be `settling` as long as everywhere.
    pub(super) fn patience(&self, deadline: Duration, settling: Duration) -> Duration {
        if self.is_demonstration() { deadline.max(settling + STARTING) } else { deadline }
    }

    /// How many times as fast time goes as it usually does.
    pub(super) fn pace(&self) -> f64 {
        if self.is_demonstration() { self.speed } else { 1.0 }
    }

    fn is_demonstration(&self) -> bool {
        self.speed.is_finite() && self.speed > 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demonstration_leaves_pods_the_time_to_start_and_to_settle() {
        let at = |speed| ControllerSettings { speed, ..ControllerSettings::of_nobody() };
        let (minute, five) = (Duration::from_secs(60), Duration::from_secs(5));
        assert_eq!(at(1.0).patience(at(1.0).sped(minute), five), minute);
        assert_eq!(at(20.0).patience(at(20.0).sped(minute), Duration::ZERO), Duration::from_secs(10));
        assert_eq!(at(2.0).patience(at(2.0).sped(minute), Duration::ZERO), Duration::from_secs(30));
        assert_eq!(at(20.0).patience(at(20.0).sped(minute), five), Duration::from_secs(15));
    }
}
