//! The promoted template, kept in the cluster as a ControllerRevision until the next promotion has succeeded.

use serde_json::{Value, json};

use crate::api::annotations::COPIED_FROM;
use crate::model::Digest;

use super::metadata::{Owner, annotations};

/// Label by which a Canary's stored templates are found; its value is the Canary's uid (a name may be too long for a label).
pub const LAST_GOOD_LABEL: &str = "serin.dev/last-good-of";

/// The object's name; its data is immutable, so the digest is part of it.
pub fn last_good_name(primary: &str, digest: &Digest) -> String {
    format!("{primary}-{}", digest.short())
}

/// A ControllerRevision that holds primary's live template and, if it is there, the target's that was copied.
pub fn last_good(primary: &Value, target: Option<&Value>, digest: &Digest, owner: &Owner) -> Value {
    let name = primary["metadata"]["name"].as_str().unwrap_or_default();
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": last_good_name(name, digest),
            "namespace": primary["metadata"]["namespace"],
            "labels": {LAST_GOOD_LABEL: owner.uid},
            "annotations": annotations([(COPIED_FROM, digest.to_string())]),
            "ownerReferences": [owner.reference()],
        },
        "revision": primary["metadata"]["generation"].as_i64().unwrap_or(1).max(1),
        "data": {
            "spec": {"template": primary["spec"]["template"]},
            "target": target.map(|target| &target["spec"]["template"]),
        },
    })
}

/// The target's template in a stored revision.
pub fn stored_target_template(revision: &Value) -> Option<Value> {
    revision.pointer("/data/target").filter(|template| template.is_object()).cloned()
}

/// The template in a stored revision; `None` if it is not one of ours.
pub fn stored_template(revision: &Value) -> Option<(Value, Digest)> {
    let digest = revision["metadata"]["annotations"][COPIED_FROM].as_str()?.parse().ok()?;
    let template = revision.pointer("/data/spec/template")?;
    template.is_object().then(|| (template.clone(), digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_template_comes_back_whole() {
        let digest = Digest::of_canonical(b"x");
        let primary = json!({"metadata": {"name": "p", "namespace": "n", "generation": 4},
            "spec": {"template": {"spec": {"containers": [{"image": "a"}]}}}});
        let target = json!({"spec": {"template": {"spec": {"containers": [{"image": "b"}]}}}});
        let owner = Owner { name: "c".into(), uid: "u".into() };
        assert_eq!(stored_target_template(&last_good(&primary, None, &digest, &owner)), None);
        let stored = last_good(&primary, Some(&target), &digest, &owner);
        assert_eq!(stored_target_template(&stored), Some(target["spec"]["template"].clone()));
        assert_eq!(stored["metadata"]["name"], last_good_name("p", &digest));
        assert_eq!(stored_template(&stored), Some((primary["spec"]["template"].clone(), digest)));
        assert_eq!(stored_template(&json!({"data": {}})), None);
    }
}
