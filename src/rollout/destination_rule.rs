//! The user's own DestinationRule: two of its subsets are the sides, told apart by one label each, and nothing else of it.

use serde_json::{Value, json};

use super::keys::HASH;
use super::spec::DestinationRuleRef;
use crate::release::Side;

/// Both sides, in the order in which they are pointed.
const SIDES: [Side; 2] = [Side::Stable, Side::Candidate];

fn place(rule: &Value, name: &str) -> Option<usize> {
    rule["spec"]["subsets"].as_array()?.iter().position(|subset| subset["name"] == name)
}

/// The hashes that the subsets lead to.
pub fn pointed_at<'a>(rule: &'a Value, named: &DestinationRuleRef) -> [Option<&'a str>; 2] {
    SIDES.map(|side| {
        let place = place(rule, named.subset(side))?;
        rule["spec"]["subsets"][place]["labels"][HASH].as_str()
    })
}

/// Why it cannot be pointed.
pub fn refuse(rule: Option<&Value>, named: &DestinationRuleRef) -> Option<String> {
    let path = "spec.strategy.canary.trafficRouting.istio.destinationRule";
    let name = &named.name;
    let Some(rule) = rule else {
        return Some(format!("{path}.name: Invalid value: \"{name}\": destinationrule \"{name}\" not found"));
    };
    let missing = SIDES.map(|side| named.subset(side)).into_iter().find(|subset| place(rule, subset).is_none());
    missing.map(|subset| format!("{path}: Invalid value: \"{name}\": it has no subset \"{subset}\""))
}

/// The JSON Patch that points the subsets; `None` where they are, or where nothing is said of them.
pub fn point(rule: &Value, named: &DestinationRuleRef, hashes: [Option<&str>; 2]) -> Option<Value> {
    let mut patch = Vec::new();
    for ((side, live), wanted) in SIDES.into_iter().zip(pointed_at(rule, named)).zip(hashes) {
        let (Some(wanted), Some(place)) = (wanted, place(rule, named.subset(side))) else { continue };
        if live == Some(wanted) {
            continue;
        }
        let labels = format!("/spec/subsets/{place}/labels");
        patch.push(if rule["spec"]["subsets"][place]["labels"].is_object() {
            json!({"op": "add", "path": format!("{labels}/{HASH}"), "value": wanted})
        } else {
            json!({"op": "add", "path": labels, "value": {HASH: wanted}})
        });
    }
    if patch.is_empty() {
        return None;
    }
    let version = &rule["metadata"]["resourceVersion"];
    patch.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
    Some(Value::Array(patch))
}

/// Gives what Git says of the object the labels by which its subsets are told apart: they are the engine's.
pub fn keep(wanted: &mut Value, live: &Value, named: &DestinationRuleRef) {
    for (side, hash) in SIDES.into_iter().zip(pointed_at(live, named)) {
        let (Some(hash), Some(place)) = (hash, place(wanted, named.subset(side))) else { continue };
        let labels = &mut wanted["spec"]["subsets"][place]["labels"];
        match labels.as_object_mut() {
            Some(labels) => {
                labels.entry(HASH).or_insert_with(|| Value::from(hash));
            }
            None => *labels = json!({HASH: hash}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_subsets_are_pointed_and_all_else_stays() {
        let named = DestinationRuleRef {
            name: "web".to_owned(),
            stable_subset: "old".to_owned(),
            canary_subset: "new".to_owned(),
        };
        let rule = json!({"metadata": {"resourceVersion": "7"}, "spec": {"subsets": [
            {"name": "theirs", "labels": {"version": "1"}},
            {"name": "new"},
            {"name": "old", "labels": {"app": "web", HASH: "abc"}},
        ]}});
        assert_eq!(pointed_at(&rule, &named), [Some("abc"), None]);
        let expected = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "add", "path": "/spec/subsets/1/labels", "value": {HASH: "def"}},
        ]);
        assert_eq!(point(&rule, &named, [Some("abc"), Some("def")]), Some(expected));
        assert_eq!(point(&rule, &named, [Some("abc"), None]), None);

        let mut wanted =
            json!({"spec": {"subsets": [{"name": "old", "labels": {"app": "web"}}, {"name": "new"}]}});
        keep(&mut wanted, &rule, &named);
        assert_eq!(wanted["spec"]["subsets"][0]["labels"], json!({"app": "web", HASH: "abc"}));
        assert_eq!(refuse(Some(&rule), &named), None);
        assert!(refuse(None, &named).unwrap().contains("destinationrule \"web\" not found"));
        assert!(refuse(Some(&json!({})), &named).unwrap().contains("no subset \"old\""));
    }
}
