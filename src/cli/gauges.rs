//! What the daemon says of itself to Prometheus: its lease and its source, read when it is scraped.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use crate::cluster::Claim;
use crate::sync::SyncStatus;

use super::reload::SettingsHealth;

/// Reads both whenever somebody asks.
#[derive(Debug)]
pub(super) struct Gauges {
    pub(super) claim: Claim,
    pub(super) sync: watch::Receiver<SyncStatus>,
    pub(super) health: SettingsHealth,
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.sync.borrow();
        let count = |many: usize| i64::try_from(many).unwrap_or(i64::MAX);
        let mut gauge = |name: &str, help: &str, value: i64| {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(descriptor)
        };
        gauge("serin_lease_held", "1 while this process may write", i64::from(self.claim.is_held()))?;
        let current = i64::from(self.health.is_current());
        gauge(
            "serin_settings_current",
            "0 while the settings file cannot be used and those before it hold",
            current,
        )?;
        let healthy = status.error.is_none() && status.commit.is_some();
        gauge("serin_source_healthy", "1 while repository and cluster can be worked with", i64::from(healthy))?;
        gauge("serin_source_problems", "Problems with files of the source", count(status.problems.len()))?;
        let mut objects = encoder.encode_descriptor(
            "serin_source_objects",
            "Objects of the source that are not as Git wants them",
            None,
            MetricType::Gauge,
        )?;
        let states = [
            ("refused", status.conditions.len()),
            ("waiting", status.waiting.len()),
            ("kept", status.kept.len()),
            ("hanging", status.hanging.len()),
        ];
        for (state, many) in states {
            ConstGauge::new(count(many)).encode(objects.encode_family(&[("state", state)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn a_scrape_says_how_lease_and_source_are_now() {
        let (sender, sync) = watch::channel(SyncStatus::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Gauges {
            claim: Claim::always(),
            sync,
            health: SettingsHealth::default(),
        }));
        let scrape = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        let before = scrape();
        assert!(
            before.contains("serin_lease_held 1\n") && before.contains("serin_source_healthy 0\n"),
            "{before}"
        );
        sender.send_modify(|status| {
            status.commit = Some("239fccd0000000000000000000000000000000aa".parse().unwrap());
            status.problems.push("broken.yaml".to_owned());
        });
        let after = scrape();
        assert!(
            after.contains("serin_source_healthy 1\n") && after.contains("serin_source_problems 1\n"),
            "{after}"
        );
        assert!(after.contains("serin_source_objects{state=\"refused\"} 0\n"), "{after}");
    }
}
