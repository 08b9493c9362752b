//! What Git says of a Rollout and of what shifts its traffic: the engine's part of it stays. PURE.

use serde_json::Value;

use super::desired::{Desired, Role};
use crate::rollout::keys::{GROUP, KIND};
use crate::rollout::spec::Shifted;
use crate::rollout::{services, virtual_service};

/// What of an object is the engine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Led {
    /// Annotations of a Rollout.
    Rollout,
    /// The key in a Service's selector that points it.
    Service,
    /// The weights of a VirtualService.
    Route(Box<Shifted>),
}

impl Led {
    /// Leaves the engine's part of `live` as it is. What is taken over from it is good for this very version only.
    pub(super) fn keep(&self, body: &mut Value, live: &Value) {
        match self {
            Self::Rollout => return,
            Self::Service => services::keep(body, live),
            Self::Route(shifted) => virtual_service::keep(body, live, shifted),
        }
        body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    }
}

/// Gives the Rollouts of a commit and what they name their roles.
pub(super) fn assign(objects: &mut [Desired]) {
    let is_rollout = |object: &Desired| object.id.group == GROUP && object.id.kind == KIND;
    let named: Vec<(Option<String>, Shifted)> = objects
        .iter()
        .filter(|object| is_rollout(object))
        .filter_map(|object| Some((object.id.namespace.clone(), Shifted::named(&object.body["spec"])?)))
        .collect();
    for object in objects.iter_mut().filter(|object| object.role == Role::Plain) {
        let (namespace, name) = (&object.id.namespace, object.id.name.as_str());
        let mut here = named.iter().filter(|(of, _)| of == namespace).map(|(_, shifted)| shifted);
        let led = match (object.id.group.as_str(), object.id.kind.as_str()) {
            _ if is_rollout(object) => Some(Led::Rollout),
            ("", "Service") => here
                .any(|shifted| shifted.stable_service == name || shifted.canary_service == name)
                .then_some(Led::Service),
            ("networking.istio.io", "VirtualService") => here
                .find(|shifted| shifted.virtual_service == name)
                .map(|found| Led::Route(Box::new(found.clone()))),
            _ => None,
        };
        if let Some(led) = led {
            object.role = Role::Led(led);
        }
    }
}
