//! The scenario in which the same bad version is met twice: by fixed limits, and by the comparison with primary.

use std::time::Instant;

use anyhow::Context;

use crate::sandbox::repository::BRANCH;

use super::event::{Compared, DemoEvent, Withdrawn};
use super::example::{self, DEPLOYMENT};
use super::scenario::Stage;
use super::users::RATE;

/// The example's interval, in seconds.
const INTERVAL: f64 = 60.0;
/// What the Canary says, and the version that is pushed with it: half of its answers are 500. The sandbox's failures come alone,
/// and there is no history yet that could show it.
const TURNS: [(&str, &str); 2] = [
    ("    comparison: \"off\"\n", "3.1.4-errors-50"),
    ("    comparison: enforce\n    comparisonNoise: 1\n", "3.1.5-errors-50"),
];
/// Most failed requests for each of the fixed limits': far more than it takes on a machine that is not busy otherwise.
const RATIO_MAX: f64 = 0.5;

impl Stage {
    pub(super) async fn comparison(&mut self) -> anyhow::Result<bool> {
        let [fixed, compared] = TURNS;
        let (mut ok, fixed) = self.withdrawn(fixed).await?;
        let (also, comparison) = self.withdrawn(compared).await?;
        ok &= also;
        let ratio = comparison.failed_requests as f64 / fixed.failed_requests.max(1) as f64;
        let pace = self.pace;
        self.printer.event(DemoEvent::Compared(Compared {
            requests_per_second: RATE * pace.crowd,
            interval: INTERVAL / pace.speed,
            sample_step: pace.sample_step.as_secs_f64(),
            fixed,
            comparison,
            ratio,
        }));
        ok &=
            self.expect("the comparison lets far fewer requests fail", ratio <= RATIO_MAX, &format!("{ratio:.2}"));
        Ok(ok)
    }

    /// Pushes a bad version together with how it is to be compared, and waits until everything is as before.
    async fn withdrawn(
        &mut self,
        (lines, tag): (&'static str, &'static str),
    ) -> anyhow::Result<(bool, Withdrawn)> {
        let before = example::tag(&self.repository.read(BRANCH, DEPLOYMENT)?).map(str::to_owned);
        let before = before.context("the Deployment names no tag")?;
        let primary = self.deployment("podinfo-primary").await?;
        let failed = self.users.seen().failed;
        let commit = self.push(&format!("Release podinfo {tag}"), |repository| {
            let canary = example::set_comparison(repository, lines)?;
            Ok(canary.into_iter().chain(example::set_tag(repository, tag)?).collect())
        })?;
        self.wait("the first weight", |seen| seen.weight > 0).await?;
        let began = Instant::now();
        self.wait("weight 0", |seen| seen.weight == 0).await?;
        let seconds = began.elapsed().as_secs_f64();
        let ok = self.put_right(&commit, tag, &before, &primary).await?;
        let failed_requests = self.users.seen().failed - failed;
        Ok((ok, Withdrawn { failed_requests, seconds }))
    }
}
