//! `<target>-primary`: made from the target once, then brought to what was promoted.

use serde_json::{Value, json};

use crate::api::annotations::{COPIED_FROM, WRITTEN};
use crate::manifest::template_digest;
use crate::model::Digest;

use super::metadata::{Owner, annotations, set};
use super::selector::Sides;

/// Fields of the target's spec that primary has in common with it, besides the pod template.
const SHARED_FIELDS: [&str; 4] =
    ["progressDeadlineSeconds", "minReadySeconds", "revisionHistoryLimit", "strategy"];

/// What primary is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryPlan {
    /// `<target>-primary`.
    pub name: String,
    /// What tells the sides apart.
    pub sides: Sides,
    /// The Canary.
    pub owner: Owner,
    /// Digest of the target that is copied.
    pub copied_from: Digest,
}

/// A new primary with the target's live replica count, at least one: it takes over the target's traffic.
pub fn new_primary(target: &Value, plan: &PrimaryPlan) -> Value {
    let PrimaryPlan { name, sides, owner, copied_from } = plan;
    let spec = &target["spec"];
    let mut primary = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": target["metadata"]["namespace"],
            "labels": {sides.key(): sides.primary_value()},
            "annotations": annotations([]),
            "ownerReferences": [owner.reference()],
        },
        "spec": {
            "replicas": spec["replicas"].as_i64().unwrap_or(1).max(1),
            "selector": sides.primary_selector(target),
        },
    });
    copy_spec(target, &mut primary, sides);
    mark_copied(&mut primary, copied_from);
    primary
}

/// `primary` with the target's template; everything that is not the target's stays as it is.
pub fn copy_to_primary(target: &Value, primary: &Value, plan: &PrimaryPlan) -> Value {
    let mut primary = primary.clone();
    copy_spec(target, &mut primary, &plan.sides);
    mark_copied(&mut primary, &plan.copied_from);
    primary
}

/// `primary` with a template that it ran before.
pub fn restore_primary(primary: &Value, template: Value, copied_from: &Digest) -> Value {
    let mut primary = primary.clone();
    if let Some(spec) = primary.get_mut("spec") {
        set(spec, "template", template);
    }
    mark_copied(&mut primary, copied_from);
    primary
}

fn copy_spec(target: &Value, primary: &mut Value, sides: &Sides) {
    let Some(spec) = primary.get_mut("spec") else { return };
    for field in SHARED_FIELDS {
        match &target["spec"][field] {
            // What the target has no more must not stay here for good.
            Value::Null => {
                spec.as_object_mut().map(|spec| spec.remove(field));
            }
            value => set(spec, field, value.clone()),
        }
    }
    let mut template = target["spec"]["template"].clone();
    sides.make_primary(&mut template);
    set(spec, "template", template);
}

fn mark_copied(primary: &mut Value, copied_from: &Digest) {
    let written = template_digest(&primary["spec"]["template"]);
    let Some(metadata) = primary.get_mut("metadata") else { return };
    if !metadata["annotations"].is_object() {
        set(metadata, "annotations", json!({}));
    }
    if let Some(annotations) = metadata.get_mut("annotations") {
        set(annotations, COPIED_FROM, Value::from(copied_from.to_string()));
        set(annotations, WRITTEN, Value::from(written.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Value {
        json!({
            "metadata": {"name": "podinfo", "namespace": "test", "annotations": {"team": "a"}},
            "spec": {
                "replicas": 3, "paused": true, "minReadySeconds": 3,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}},
                "selector": {"matchLabels": {"app": "podinfo", "tier": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "podinfo", "tier": "web"}, "annotations": {"a": "b"}},
                    "spec": {"containers": [{"name": "podinfod", "image": "podinfo:3.1.0"}], "fieldOfTomorrow": 1}
                }
            }
        })
    }

    fn plan(name: &str) -> PrimaryPlan {
        PrimaryPlan {
            name: "podinfo-primary".into(),
            sides: Sides::of(&target(), &["app".to_owned()]).unwrap(),
            owner: Owner { name: "podinfo".into(), uid: "u".into() },
            copied_from: Digest::of_canonical(name.as_bytes()),
        }
    }

    #[test]
    fn a_new_primary_copies_what_runs_and_selects_only_its_own_pods() {
        let primary = new_primary(&target(), &plan("a"));
        assert_eq!(primary["spec"]["selector"], json!({"matchLabels": {"app": "podinfo-primary", "tier": "web"}}));
        assert_eq!(
            primary["spec"]["template"]["metadata"]["labels"],
            json!({"app": "podinfo-primary", "tier": "web"})
        );
        assert_eq!(primary["spec"]["template"]["spec"], target()["spec"]["template"]["spec"]);
        assert_eq!(primary["spec"]["replicas"], 3);
        assert_eq!(primary["spec"]["minReadySeconds"], 3);
        assert!(primary["spec"].get("paused").is_none());
        assert_eq!(primary["metadata"]["annotations"][COPIED_FROM], plan("a").copied_from.as_str());
        assert!(plan("a").owner.controls(&primary));
    }

    #[test]
    fn promotion_leaves_replicas_and_foreign_metadata_alone() {
        let mut live = new_primary(&target(), &plan("a"));
        live["spec"]["replicas"] = json!(7);
        live["metadata"]["annotations"]["who"] = json!("someone");
        let mut next = target();
        next["spec"]["template"]["spec"]["containers"][0]["image"] = json!("podinfo:3.1.1");
        let promoted = copy_to_primary(&next, &live, &plan("b"));
        assert_eq!(promoted["spec"]["replicas"], 7);
        assert_eq!(promoted["spec"]["minReadySeconds"], 3);
        let mut without = next.clone();
        without["spec"].as_object_mut().unwrap().remove("minReadySeconds");
        assert!(copy_to_primary(&without, &live, &plan("b"))["spec"].get("minReadySeconds").is_none());
        assert_eq!(promoted["spec"]["template"]["spec"]["containers"][0]["image"], "podinfo:3.1.1");
        assert_eq!(promoted["metadata"]["annotations"]["who"], "someone");
        assert_eq!(promoted["metadata"]["annotations"][COPIED_FROM], plan("b").copied_from.as_str());

        let restored = restore_primary(&promoted, live["spec"]["template"].clone(), &plan("a").copied_from);
        assert_eq!(restored, live);
    }
}
