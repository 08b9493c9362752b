//! Why a metric is what it is, in the words that Argo Rollouts' users search for.

use crate::analysis::Schedule;
use crate::api::argo::{MetricResult, RunPhase};

/// What a metric has too much of.
pub(super) fn too_much(result: &MetricResult, schedule: &Schedule) -> Option<(RunPhase, String)> {
    let over = |count: i32, limit: u32| u32::try_from(count).is_ok_and(|count| count > limit);
    let Schedule { failure_limit, inconclusive_limit, error_limit, .. } = *schedule;
    if over(result.consecutive_error, error_limit) {
        let said =
            format!("consecutiveErrors ({}) > consecutiveErrorLimit ({error_limit})", result.consecutive_error);
        return Some((RunPhase::Error, said));
    }
    if over(result.inconclusive, inconclusive_limit) {
        let said = format!("inconclusive ({}) > inconclusiveLimit ({inconclusive_limit})", result.inconclusive);
        return Some((RunPhase::Inconclusive, said));
    }
    let limit = failure_limit.filter(|limit| over(result.failed, *limit))?;
    Some((RunPhase::Failed, format!("failed ({}) > failureLimit ({limit})", result.failed)))
}

/// Why a run ended, by the metric that is worst.
pub(super) fn assessed(result: &MetricResult, why: &str) -> String {
    let said = format!("Metric \"{}\" assessed {} due to {why}", result.name, result.phase);
    match &result.message {
        Some(message) => format!("{said}: \"Error Message: {message}\""),
        None => said,
    }
}
