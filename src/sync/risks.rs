//! Tells a Canary which of Git's objects will leave its primary's pods out, before anything starts. PURE.

use serde_json::{Value, json};

use super::desired::{DesiredSet, Role};
use super::order::Stage;
use crate::api::annotations::RISKS;
use crate::model::{Digest, NamespacedName, text};
use crate::workload::{Sides, risks};

/// In characters: a handful of objects, each with what to do.
const TOLD_MAX: usize = 1_500;

/// Puts what is found on the Canaries of the set, from where it becomes a condition. `labels` are those by which the two sides
/// may be told apart.
pub(super) fn tell(set: &mut DesiredSet, labels: &[String]) {
    let found: Vec<(NamespacedName, String)> = set
        .objects
        .iter()
        .filter_map(|object| {
            let Role::Target { canary, .. } = &object.role else { return None };
            let sides = Sides::of(&object.body, labels).ok()?;
            let spec =
                set.objects.iter().find(|other| is_canary(other, canary)).map(|other| &other.body["spec"])?;
            let objects = set.objects.iter().map(|object| &object.body);
            let found = risks(objects, &object.body, &sides, spec["autoscalerRef"]["name"].as_str());
            let words: Vec<String> =
                found.iter().map(|risk| format!("{}: {}", risk.object, risk.message)).collect();
            (!words.is_empty()).then(|| (canary.clone(), text::abridged(&words.join("; "), TOLD_MAX)))
        })
        .collect();
    for (canary, words) in found {
        for object in set.objects.iter_mut().filter(|object| is_canary(object, &canary)) {
            let annotations = &mut object.body["metadata"]["annotations"];
            if !annotations.is_object() {
                *annotations = Value::Object(serde_json::Map::new());
            }
            annotations[RISKS] = json!(words);
            object.digest = Digest::of_canonical(format!("{}\n{words}", object.digest).as_bytes());
        }
    }
}

fn is_canary(object: &super::desired::Desired, canary: &NamespacedName) -> bool {
    Stage::of(&object.id) == Stage::Canaries
        && object.id.name == canary.name
        && object.id.namespace.as_ref() == Some(&canary.namespace)
}
