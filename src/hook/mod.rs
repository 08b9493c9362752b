//! Outgoing webhooks and gates: Flagger's contract, with the reply's body kept.

mod http;

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use serde::Serialize;

use crate::release::{Hook, HookKey, HookReply};

pub use http::HttpHooks;

/// One call, with everything its retries need.
#[derive(Debug, Clone, PartialEq)]
pub struct HookCall {
    /// Where, how long and how often.
    pub hook: Hook,
    /// Sent as headers, so that a receiver can tell a repetition from a new call.
    pub key: HookKey,
    /// The body.
    pub payload: HookPayload,
}

/// The body of a call, as Flagger sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HookPayload {
    /// The Canary's name.
    pub name: String,
    /// The Canary's namespace.
    pub namespace: String,
    /// Flagger's phase string.
    pub phase: String,
    /// Names the revision that is released.
    pub checksum: String,
    /// `metadata` of the webhook.
    pub metadata: BTreeMap<String, String>,
}

/// Calls webhooks.
pub trait HookCaller: Send + Sync {
    /// Calls until accepted, refused or out of retries. Never fails: what goes wrong is in the reply's body.
    fn call<'a>(&'a self, call: &'a HookCall) -> BoxFuture<'a, HookReply>;
}
