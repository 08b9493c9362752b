//! The webhooks of a Canary, and addresses that somebody wrote to be called.

use std::time::Duration;

use crate::api::{Webhook, WebhookType};
use crate::http::{Address, AddressError};
use crate::release::{Hook, HookKind};

use super::policy::PolicyError;

/// Longest timeout of a webhook: a load test of a day holds its place among the others that long.
const HOOK_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether an address could be called at all, as far as its text tells.
pub(super) fn address(text: &str, loopback: bool) -> Result<(), AddressError> {
    Address::parse(text)?.outside(loopback).map(|_| ())
}

/// One webhook.
///
/// # Errors
/// When it cannot be called as it is written: a release that finds that out has users on its canary.
pub(super) fn compile(index: usize, webhook: &Webhook, loopback: bool) -> Result<Hook, PolicyError> {
    let timeout = webhook.timeout().map_err(|source| PolicyError::Duration {
        path: format!("spec.analysis.webhooks[{index}].timeout"),
        what: format!("webhook `{}`: timeout", webhook.name),
        source,
    })?;
    if timeout > HOOK_TIMEOUT_MAX {
        let hours = HOOK_TIMEOUT_MAX.as_secs() / 3600;
        return Err(PolicyError::Invalid {
            path: format!("spec.analysis.webhooks[{index}].timeout"),
            message: format!("webhook `{}`: timeout is longer than {hours} h", webhook.name),
        });
    }
    let kind = kind(webhook.type_);
    if kind != HookKind::Event {
        // One of type event is not called, so nothing depends on it.
        address(&webhook.url, loopback).map_err(|error| PolicyError::Invalid {
            path: format!("spec.analysis.webhooks[{index}].url"),
            message: format!("webhook `{}`: url: {error}", webhook.name),
        })?;
    }
    Ok(Hook {
        name: webhook.name.clone(),
        kind,
        url: webhook.url.clone(),
        timeout,
        retries: u32::try_from(webhook.retries.unwrap_or(0)).unwrap_or(0),
        disable_tls: webhook.disable_tls,
        metadata: webhook.metadata.clone(),
    })
}

fn kind(written: Option<WebhookType>) -> HookKind {
    match written {
        None | Some(WebhookType::Unset | WebhookType::Rollout) => HookKind::Rollout,
        Some(WebhookType::ConfirmRollout) => HookKind::ConfirmRollout,
        Some(WebhookType::PreRollout) => HookKind::PreRollout,
        Some(WebhookType::ConfirmPromotion) => HookKind::ConfirmPromotion,
        Some(WebhookType::PostRollout) => HookKind::PostRollout,
        Some(WebhookType::Event) => HookKind::Event,
        Some(WebhookType::Rollback) => HookKind::Rollback,
        Some(WebhookType::ConfirmTrafficIncrease) => HookKind::ConfirmTrafficIncrease,
    }
}
