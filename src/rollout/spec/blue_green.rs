//! `spec.strategy.blueGreen`.

use std::time::Duration;

use super::at::At;
use super::{SCALE_DOWN_DELAY, SpecError};

/// Two whole sides, and a Service that leads to one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlueGreen {
    /// The Service that users call.
    pub active_service: String,
    /// The Service in front of what is to serve next.
    pub preview_service: Option<String>,
    /// How many pods that has before it is promoted; as many as serve where nothing says so.
    pub preview_replicas: Option<i32>,
    /// How it is promoted when it is ready.
    pub promotion: BlueGreenPromotion,
    /// How long what has served is kept.
    pub scale_down_delay: Duration,
    /// How many of those are kept at most.
    pub scale_down_limit: Option<usize>,
    /// How long an aborted revision is kept; `None`: until the next one.
    pub abort_scale_down_delay: Option<Duration>,
}

/// How a revision that is ready comes to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlueGreenPromotion {
    /// At once.
    AtOnce,
    /// After this time.
    After(Duration),
    /// When somebody promotes it.
    Asked,
}

pub(super) fn read(blue_green: &At<'_>, history: usize) -> Result<BlueGreen, SpecError> {
    blue_green.object(
        &[
            "activeService",
            "previewService",
            "previewReplicaCount",
            "autoPromotionEnabled",
            "autoPromotionSeconds",
            "scaleDownDelaySeconds",
            "scaleDownDelayRevisionLimit",
            "abortScaleDownDelaySeconds",
        ],
        // For restarts of pods only.
        &["maxUnavailable"],
    )?;
    let (active, preview) = (blue_green.field("activeService"), blue_green.field("previewService"));
    let active_service = active.text()?;
    if active.value == preview.value {
        return active.problem(format!(
            "Invalid value: \"{active_service}\": This rollout uses the same service for the active and preview services, but \
             two different services are required."
        ));
    }
    let limit = blue_green.field("scaleDownDelayRevisionLimit");
    let scale_down_limit = limit.optional::<u32>()?.map(|limit| limit as usize);
    if scale_down_limit.is_some_and(|limit| limit > history) {
        return limit.problem(format!(
            "Invalid value: {}: This rollout's revision history limit can not be smaller than the rollout's scale down limit",
            limit.value
        ));
    }
    let abort = blue_green.field("abortScaleDownDelaySeconds").seconds(SCALE_DOWN_DELAY)?;
    let enabled = blue_green.field("autoPromotionEnabled");
    let after = blue_green.field("autoPromotionSeconds").seconds(0)?;
    let promotion = match (enabled.is_absent() || enabled.flag()?, after.is_zero()) {
        (true, true) => BlueGreenPromotion::AtOnce,
        (false, true) => BlueGreenPromotion::Asked,
        (true | false, false) => BlueGreenPromotion::After(after),
    };
    Ok(BlueGreen {
        active_service,
        preview_service: if preview.is_absent() { None } else { Some(preview.text()?) },
        preview_replicas: blue_green.field("previewReplicaCount").optional::<u32>()?.map(u32::cast_signed),
        promotion,
        scale_down_delay: blue_green.field("scaleDownDelaySeconds").seconds(SCALE_DOWN_DELAY)?,
        scale_down_limit,
        abort_scale_down_delay: (!abort.is_zero()).then_some(abort),
    })
}
