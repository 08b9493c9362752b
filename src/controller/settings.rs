//! What the controller needs to know.

use std::time::Duration;

/// Settings of the controller.
#[derive(Debug, Clone, PartialEq)]
pub struct ControllerSettings {
    /// Only this namespace's Canaries.
    pub namespace: Option<String>,
    /// Prometheus for the built-in checks and for templates without an address.
    pub metrics_address: String,
    /// Divides analysis interval, query windows and progress deadline; 1 except in demonstrations.
    pub speed: f64,
    /// How long the canary is kept after weight 0 has been observed.
    pub drain: Duration,
    /// How long a side must have been ready before it gets traffic.
    pub settle: Duration,
    /// Labels that may tell primary and canary pods apart, most wanted first.
    pub selector_labels: Vec<String>,
}

impl ControllerSettings {
    /// `duration` as fast as the demonstration goes; a speed below 1 or that is no number counts as 1.
    pub(super) fn sped(&self, duration: Duration) -> Duration {
        let speed = if self.speed.is_finite() && self.speed > 1.0 { self.speed } else { 1.0 };
        duration.div_f64(speed)
    }
}
