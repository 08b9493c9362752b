//! Tells a Canary which of Git's objects will leave its primary's pods out, before anything starts. PURE.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::desired::{Desired, DesiredSet, Role};
use super::order::Stage;
use crate::api::annotations::RISKS;
use crate::model::{Digest, NamespacedName, told_within};
use crate::workload::{Own, Sides, may_be_risk, risks};

/// In characters: a handful of objects, each with what to do.
const TOLD_MAX: usize = 1_500;

/// Puts what is found on the Canaries of the set, from where it becomes a condition. `labels` are those by which the two sides
/// may be told apart.
pub(super) fn tell(set: &mut DesiredSet, labels: &[String]) {
    let suspects: Vec<&Value> =
        set.objects.iter().map(|object| &object.body).filter(|body| may_be_risk(body)).collect();
    if suspects.is_empty() {
        return;
    }
    let canaries: BTreeMap<NamespacedName, &Value> =
        set.objects.iter().filter_map(|object| Some((canary_key(object)?, &object.body["spec"]))).collect();
    let found: BTreeMap<NamespacedName, String> = set
        .objects
        .iter()
        .filter_map(|object| {
            let Role::Target { canary, .. } = &object.role else { return None };
            let sides = Sides::of(&object.body, labels).ok()?;
            let spec = canaries.get(canary)?;
            let service = spec["service"]["name"].as_str().unwrap_or(&object.id.name);
            let own = Own { service, scaler: spec["autoscalerRef"]["name"].as_str() };
            let found = risks(suspects.iter().copied(), &object.body, &sides, own);
            let words: Vec<String> =
                found.iter().map(|risk| format!("{}: {}", risk.object, risk.message)).collect();
            (!words.is_empty()).then(|| (canary.clone(), told_within(words.join("; "), TOLD_MAX)))
        })
        .collect();
    for object in &mut set.objects {
        let Some(words) = canary_key(object).and_then(|canary| found.get(&canary)) else { continue };
        let annotations = &mut object.body["metadata"]["annotations"];
        if !annotations.is_object() {
            *annotations = Value::Object(serde_json::Map::new());
        }
        annotations[RISKS] = json!(words);
        object.digest = Digest::of_canonical(format!("{}\n{words}", object.digest).as_bytes());
    }
}

/// The key of a Canary.
fn canary_key(object: &Desired) -> Option<NamespacedName> {
    let namespace = object.id.namespace.clone().filter(|_| Stage::of(&object.id) == Stage::Canaries)?;
    Some(NamespacedName::new(namespace, object.id.name.clone()))
}
