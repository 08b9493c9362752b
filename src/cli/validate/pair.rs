//! Whether the pods of a Canary's two sides can be told from each other and from everybody else's.

use std::collections::HashMap;

use crate::api::Canary;
use crate::config::SELECTOR_LABELS;
use crate::model::ObjectRef;
use crate::router::{Pods, RouteRequest, ServiceSet};
use crate::workload::{Labels, Own, Owner, Sides, mixed_up, pods_of, risks};

use super::finding::{Finding, Rule, Severity};
use super::references::{Located, finding, placed};

/// What the daemon would refuse once it saw these objects beside each other.
pub(super) fn check(
    canary: &Canary,
    target: &ObjectRef,
    located: &Located<'_>,
    all: &[Located<'_>],
    by_ref: &HashMap<ObjectRef, &Located<'_>>,
) -> Vec<Finding> {
    let Some(found) = by_ref.get(target) else { return Vec::new() };
    let at_target = |severity, message| finding((severity, Rule::Pair), located, "spec.targetRef.name", message);
    let candidates = SELECTOR_LABELS.map(str::to_owned);
    let sides = match Sides::of(&found.manifest.object, &candidates) {
        Ok(sides) => sides,
        Err(error) => {
            let message = format!("{error}; `selectorLabels` in serin.yaml may name others");
            return vec![at_target(Severity::Warning, message)];
        }
    };
    let mut findings: Vec<Finding> = all
        .iter()
        .filter_map(|other| {
            let id = placed(&other.manifest.object_ref());
            if id == *target || id.namespace != target.namespace {
                return None;
            }
            let selector = sides.takes(&pods_of(&other.manifest.object)?)?;
            let what = format!("{} {}", id.kind, id.name);
            Some(at_target(Severity::Error, mixed_up(&target.to_string(), &selector, &what)))
        })
        .collect();
    findings.extend(left_out(canary, &sides, found, all, by_ref));
    findings.extend(foreign_service(canary, target, &sides, found, by_ref));
    findings
}

/// What selects the target's pods and will not select primary's.
fn left_out(
    canary: &Canary,
    sides: &Sides,
    target: &Located<'_>,
    all: &[Located<'_>],
    by_ref: &HashMap<ObjectRef, &Located<'_>>,
) -> Vec<Finding> {
    let scaler = canary.spec.autoscaler_ref.as_ref().map(|scaler| scaler.name.as_str());
    let objects = all.iter().map(|located| &located.manifest.object);
    let own = Own { service: canary.spec.service_name(), scaler };
    risks(objects, &target.manifest.object, sides, own)
        .into_iter()
        .filter_map(|risk| {
            let located = by_ref.get(&placed(&risk.object))?;
            Some(finding((Severity::Warning, Rule::Risk), located, risk.path, risk.message))
        })
        .collect()
}

/// A Service of the Canary's name that leads to other pods.
fn foreign_service(
    canary: &Canary,
    target: &ObjectRef,
    sides: &Sides,
    found: &Located<'_>,
    by_ref: &HashMap<ObjectRef, &Located<'_>>,
) -> Option<Finding> {
    let spec = canary.spec.service.as_ref()?;
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let name = canary.spec.service_name();
    let id = ObjectRef {
        group: String::new(),
        kind: "Service".to_owned(),
        namespace: target.namespace.clone(),
        name: name.to_owned(),
    };
    let service = by_ref.get(&id)?;
    // Nobody owns what is only in files.
    let owner = Owner { name: String::new(), uid: "-".to_owned() };
    let labels = Labels::of(&found.manifest.object["spec"]["template"]["metadata"]["labels"]);
    let pods = Pods { sides, target: &labels, primary: None, ports: &[] };
    let (service_name, target) = (name, target.name.as_str());
    let (owner, service_name) = (&owner, service_name);
    let request = RouteRequest {
        namespace,
        service: service_name,
        spec,
        owner,
        target,
        predecessor: None,
        pods: Some(pods),
    };
    let message = ServiceSet::refuse(&request, pods, &service.manifest.object)?;
    Some(finding((Severity::Error, Rule::Pair), service, "spec.selector", message))
}
