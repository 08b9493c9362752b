//! Events of Rollouts.

use serde_json::{Value, json};

use crate::cluster::explain;
use crate::release::{Observed, Policy, State};
use crate::rollout::events::{self, Facts, Told};
use crate::rollout::keys::{GROUP, KIND, VERSION};

use super::seen::Seen;
use super::{Memory, Rollouts};

impl Rollouts {
    /// Makes Events of what is new in the status, which has `version` now. One that is lost, because the process dies before it or
    /// the API server does not take it, is not told again: the status says the same.
    pub(super) async fn announce(
        &self,
        seen: &Seen<'_>,
        policy: &Policy,
        state: &State,
        observed: &Observed,
        version: &str,
        memory: &mut Memory,
    ) {
        let Some(kinds) = self.means.kinds.rollouts.get() else { return };
        let steps = seen.spec.canary().map_or(&[][..], |canary| &canary.steps);
        let revision = seen.sides.current.as_ref().map_or(seen.sides.next_revision(), |set| set.revision);
        let after = seen.projected(policy, state, observed);
        let news = events::between(&seen.status, &after, Facts { revision, steps });
        let hands = self.means.hands(&seen.view.key.namespace, &mut memory.expectations);
        for (place, told) in news.iter().enumerate() {
            let event = event(seen, told, &format!("{version}.{place}"));
            if let Err(error) = hands.post(&kinds.event, &event).await {
                let key = &seen.view.key;
                tracing::debug!(rollout = %key, "an Event of Rollout {key} is lost: {}", explain(&error));
            }
        }
    }
}

/// An Event of a Rollout; the version of its status and the place make its name.
fn event(seen: &Seen<'_>, told: &Told, at: &str) -> Value {
    let (key, time) = (&seen.view.key, format!("{:.0}", seen.now));
    json!({
        "kind": "Event",
        "metadata": {"name": format!("{}.{at}", key.name), "namespace": key.namespace},
        "involvedObject": {
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": KIND, "name": key.name, "namespace": key.namespace,
            "uid": seen.view.uid,
        },
        "reason": told.reason, "message": told.message, "type": if told.is_warning { "Warning" } else { "Normal" },
        "source": {"component": "serin"}, "count": 1, "firstTimestamp": time, "lastTimestamp": time,
    })
}
