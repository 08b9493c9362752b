//! What tests of this room begin with.

use std::time::Duration;

use serde_json::{Value, json};

use crate::model::NamespacedName;
use crate::release::Policy;

use super::spec::RolloutSpec;
use super::{Pace, compile};

/// The policy of Rollout `ns/web`, which goes these steps by a VirtualService and waits for nothing else.
pub(super) fn policy(steps: &Value) -> Policy {
    let spec = json!({
        "selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": {"app": "a"}}},
        "strategy": {"canary": {
            "stableService": "s", "canaryService": "c",
            "trafficRouting": {"istio": {"virtualService": {"name": "v"}}},
            "steps": steps,
        }},
    });
    let pace = Pace { drain: Duration::ZERO, settle: Duration::ZERO };
    compile(&NamespacedName::new("ns", "web"), &RolloutSpec::read(&spec).unwrap(), pace)
}
