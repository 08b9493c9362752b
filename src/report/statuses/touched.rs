//! Which targets a commit touches, and what it wants of them. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::record::placed;
use crate::api;
use crate::git::Step;
use crate::manifest::{parse_each, template_digest};
use crate::model::{CommitId, Digest, NamespacedName, ObjectRef};

/// Targets of one commit that are told one by one: with more, forges would take us for an attack.
pub(super) const TARGETS_MAX: usize = 50;
/// Characters of what is wrong with a file.
const FAULT_MAX: usize = 200;

/// A target that a commit touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Touch {
    pub(super) commit: CommitId,
    pub(super) canary: NamespacedName,
    pub(super) what: What,
}

/// What a commit wants of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "camelCase")]
pub(super) enum What {
    /// Another revision.
    New {
        /// Its digest.
        digest: Digest,
    },
    /// The revision that it had: something beside the template changed, or the policy.
    Same,
    /// It is gone.
    Removed,
    /// Nobody knows: its file cannot be read.
    Unreadable {
        /// Why.
        fault: String,
    },
}

/// Canaries by what they release.
pub(super) type Targets = BTreeMap<ObjectRef, NamespacedName>;

/// What one commit's files held.
#[derive(Default)]
struct Side {
    workloads: BTreeMap<ObjectRef, (Digest, Value)>,
    canaries: BTreeMap<NamespacedName, Value>,
    /// Files that cannot be read, and why.
    faults: Vec<(String, String)>,
}

/// What the commits touch, oldest first. `known` are the cluster's Canaries; those that the commits bring are added.
pub(super) fn touched(steps: &[Step], known: &Targets) -> Vec<Touch> {
    let mut targets = known.clone();
    steps.iter().flat_map(|step| of_one(step, &mut targets)).collect()
}

fn of_one(step: &Step, targets: &mut Targets) -> Vec<Touch> {
    let (mut before, mut after) = (Side::default(), Side::default());
    for file in &step.files {
        before.read(&file.path, file.before.as_deref());
        after.read(&file.path, file.after.as_deref());
    }
    for (canary, spec) in &after.canaries {
        if let Some(target) = target_of(canary, spec) {
            targets.insert(target, canary.clone());
        }
    }
    let mut found: BTreeMap<&NamespacedName, Touch> = BTreeMap::new();
    for (target, canary) in targets.iter() {
        let (was, is) = (before.workloads.get(target), after.workloads.get(target));
        let what = match (was, is) {
            (None, None) if before.canaries.get(canary) == after.canaries.get(canary) => continue,
            (None, None) => What::Same,
            (Some(was), Some(is)) if was == is && before.canaries.get(canary) == after.canaries.get(canary) => {
                continue;
            }
            (Some((was, _)), Some((is, _))) if was == is => What::Same,
            (_, Some((digest, _))) => What::New { digest: digest.clone() },
            // It may be gone, or in the part that cannot be read.
            (Some(_), None) => match after.faults.first() {
                Some((path, words)) => What::Unreadable { fault: format!("{path}: {words}") },
                None => What::Removed,
            },
        };
        found.insert(canary, Touch { commit: step.commit.clone(), canary: canary.clone(), what });
    }
    found.into_values().take(TARGETS_MAX).collect()
}

impl Side {
    fn read(&mut self, path: &str, text: Option<&str>) {
        let Some(text) = text else { return };
        let parsed = parse_each(path, text);
        for manifest in parsed.manifests {
            let object = placed(manifest.object_ref());
            if object.kind == "Canary" && object.group == api::GROUP {
                let key = NamespacedName::new(object.namespace.unwrap_or_default(), object.name);
                self.canaries.insert(key, manifest.object.get("spec").cloned().unwrap_or_default());
            } else if let Some(template) = manifest.object.pointer("/spec/template") {
                let digest = template_digest(template);
                self.workloads.insert(object, (digest, manifest.object));
            }
        }
        if let Some(fault) = parsed.faults.first() {
            let words: String =
                fault.to_string().lines().next().unwrap_or_default().chars().take(FAULT_MAX).collect();
            self.faults.push((path.to_owned(), words));
        }
    }
}

/// What a Canary in Git releases.
fn target_of(canary: &NamespacedName, spec: &Value) -> Option<ObjectRef> {
    let text = |place: &str| spec.pointer(place).and_then(Value::as_str);
    let group = text("/targetRef/apiVersion").unwrap_or("apps/v1");
    Some(ObjectRef {
        group: group.split_once('/').map_or("", |(group, _)| group).to_owned(),
        kind: text("/targetRef/kind").unwrap_or("Deployment").to_owned(),
        namespace: Some(canary.namespace.clone()),
        name: text("/targetRef/name")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::ChangedFile;

    const CANARY: &str = "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: podinfo, namespace: test}\n\
                          spec: {targetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}, analysis: {}}\n";

    fn deployment(image: &str, replicas: u32) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: podinfo, namespace: test}}\nspec:\n  replicas: \
             {replicas}\n  template: {{spec: {{containers: [{{name: a, image: {image}}}]}}}}\n"
        )
    }

    fn step(number: u8, files: &[(&str, Option<&str>, Option<&str>)]) -> Step {
        let text = |text: &Option<&str>| text.map(std::sync::Arc::from);
        let file = |(path, before, after): &(&str, Option<&str>, Option<&str>)| ChangedFile {
            path: (*path).to_owned(),
            before: text(before),
            after: text(after),
        };
        Step {
            commit: format!("{number:040x}").parse().unwrap(),
            files: files.iter().map(file).collect(),
            whole: true,
        }
    }

    fn name(what: &What) -> &'static str {
        match what {
            What::New { .. } => "new",
            What::Same => "same",
            What::Removed => "removed",
            What::Unreadable { .. } => "unreadable",
        }
    }

    fn known() -> Targets {
        let key = NamespacedName::new("test", "podinfo");
        let spec = serde_json::json!({"targetRef": {"name": "podinfo"}});
        Targets::from([(target_of(&key, &spec).unwrap(), key)])
    }

    #[test]
    fn every_commit_between_two_looks_is_told_apart() {
        let (a, b, c) = (deployment("a:1", 1), deployment("a:2", 1), deployment("a:2", 3));
        let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n";
        let steps = [
            step(1, &[("d.yaml", Some(&a), Some(&b))]),
            step(2, &[("other.yaml", None, Some(other))]),
            step(3, &[("d.yaml", Some(&b), Some(&c))]),
            step(4, &[("d.yaml", Some(&c), Some(&a))]),
            step(5, &[("d.yaml", Some(&a), None)]),
        ];
        let found = touched(&steps, &known());
        let number = |it: &Touch| u8::from_str_radix(it.commit.as_str().get(38..).unwrap(), 16).unwrap();
        let told: Vec<(u8, &str)> = found.iter().map(|it| (number(it), name(&it.what))).collect();
        assert_eq!(told, [(1, "new"), (3, "same"), (4, "new"), (5, "removed")]);
        assert_ne!(found[0].what, found[2].what);
        assert!(touched(&steps, &Targets::new()).is_empty(), "a workload that nobody releases");
    }

    #[test]
    fn a_canary_that_comes_along_a_file_that_moves_and_one_that_breaks() {
        let (a, b) = (deployment("a:1", 1), deployment("a:2", 1));
        let both = format!("{CANARY}---\n{a}");
        let found = touched(&[step(1, &[("all.yaml", None, Some(&both))])], &Targets::new());
        assert_eq!((found.len(), name(&found[0].what)), (1, "new"));

        let moved = step(1, &[("d.yaml", Some(&a), None), ("e/d.yaml", None, Some(&a))]);
        assert!(touched(&[moved], &known()).is_empty(), "the same object at another place");

        let broken = format!("{b}\n  {{");
        let found = touched(&[step(1, &[("d.yaml", Some(&a), Some(&broken))])], &known());
        let What::Unreadable { fault } = &found[0].what else { panic!("{found:?}") };
        assert!(fault.starts_with("d.yaml: "), "{fault}");

        let policy = CANARY.replace("analysis: {}", "analysis: {interval: 1m}");
        let found = touched(&[step(1, &[("c.yaml", Some(CANARY), Some(&policy))])], &known());
        assert_eq!((found.len(), name(&found[0].what)), (1, "same"));
    }

    #[test]
    fn a_commit_that_touches_thousands_is_bounded() {
        let mut targets = Targets::new();
        let (mut before, mut after) = (String::new(), String::new());
        for number in 0..500 {
            let key = NamespacedName::new("test", format!("app-{number}"));
            let spec = serde_json::json!({"targetRef": {"name": format!("app-{number}")}});
            targets.insert(target_of(&key, &spec).unwrap(), key);
            for (side, image) in [(&mut before, "a:1"), (&mut after, "a:2")] {
                side.push_str(&deployment(image, 1).replace("name: podinfo", &format!("name: app-{number}")));
                side.push_str("---\n");
            }
        }
        let steps = [step(1, &[("all.yaml", Some(&before), Some(&after))])];
        assert_eq!(touched(&steps, &targets).len(), TARGETS_MAX);
    }
}
