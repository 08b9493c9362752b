//! What Git says of a Rollout and of what shifts its traffic: the engine's part of it stays. PURE.

use serde_json::Value;

use super::desired::{Desired, Role};
use crate::api::annotations::REVISION;
use crate::manifest::template_digest;
use crate::model::{CommitId, Revision};
use crate::rollout::keys::{GROUP, KIND};
use crate::rollout::spec::{DestinationRuleRef, Named, Shifted, VirtualServiceRef};
use crate::rollout::{destination_rule, services, virtual_service};

/// What of an object is the engine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Led {
    /// Annotations of a Rollout.
    Rollout,
    /// The key in a Service's selector that points it.
    Service,
    /// The weights of a VirtualService.
    Route(Box<(Shifted, VirtualServiceRef)>),
    /// The labels by which a DestinationRule tells its subsets apart.
    Rule(DestinationRuleRef),
}

impl Led {
    /// Leaves the engine's part of `live` as it is. What is taken over from it is good for this very version only.
    pub(super) fn keep(&self, body: &mut Value, live: &Value) {
        match self {
            Self::Rollout => return,
            Self::Service => services::keep(body, live),
            Self::Route(led) => {
                let (shifted, of) = &**led;
                virtual_service::Named { shifted, of }.keep(body, live);
            }
            Self::Rule(named) => destination_rule::keep(body, live, named),
        }
        body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    }
}

/// Says on a Rollout which commit its template came with, so that the engine knows; one that it has already keeps its commit.
pub(super) fn stamp(body: &mut Value, live: Option<&Value>, commit: &CommitId) {
    let template = &body["spec"]["template"];
    if !template.is_object() {
        return;
    }
    let digest = template_digest(template);
    let stamped =
        live.and_then(|live| live["metadata"]["annotations"][REVISION].as_str()?.parse::<Revision>().ok());
    let stamped = stamped.filter(|stamped| stamped.digest == digest);
    let stamp = stamped.unwrap_or(Revision { digest, commit: Some(commit.clone()) });
    if !body["metadata"]["annotations"].is_object() {
        body["metadata"]["annotations"] = Value::Object(serde_json::Map::new());
    }
    body["metadata"]["annotations"][REVISION] = Value::from(stamp.to_string());
}

/// Gives the Rollouts of a commit and what they name their roles.
pub(super) fn assign(objects: &mut [Desired]) {
    let is_rollout = |object: &Desired| object.id.group == GROUP && object.id.kind == KIND;
    let named: Vec<(Option<String>, Named)> = objects
        .iter()
        .filter(|object| is_rollout(object))
        .map(|object| (object.id.namespace.clone(), Named::of(&object.body["spec"])))
        .collect();
    for object in objects.iter_mut().filter(|object| object.role == Role::Plain) {
        let (namespace, name) = (&object.id.namespace, object.id.name.as_str());
        let mut here = named.iter().filter(|(of, _)| of == namespace).map(|(_, named)| named);
        let led = match (object.id.group.as_str(), object.id.kind.as_str()) {
            _ if is_rollout(object) => Some(Led::Rollout),
            ("", "Service") => {
                here.any(|named| named.services.iter().any(|service| service == name)).then_some(Led::Service)
            }
            ("networking.istio.io", "VirtualService") => {
                here.filter_map(|named| named.route.as_ref()).find_map(|shifted| {
                    let of = shifted.virtual_services.iter().find(|of| of.name == name)?;
                    Some(Led::Route(Box::new((shifted.clone(), of.clone()))))
                })
            }
            ("networking.istio.io", "DestinationRule") => here
                .filter_map(|named| named.route.as_ref()?.rule.as_ref())
                .find(|rule| rule.name == name)
                .map(|rule| Led::Rule(rule.clone())),
            _ => None,
        };
        if let Some(led) = led {
            object.role = Role::Led(led);
        }
    }
}
