//! Taking over is taking over: what others wrote before becomes ours, so that what Git drops goes. PURE.
//!
//! A server-side apply, forced or not, adds an owner beside the ones that are there; a field that leaves Git then loses one
//! of two owners and stays, and a port that changes its number becomes a second port. So the field sets of whoever wrote the
//! object before are made ours first, in one write that changes no value, and kubectl's copy of its last apply goes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api;
use crate::api::annotations::{
    ADOPT, MANAGER_CLI, MANAGER_ENGINE, MANAGER_PENDING, MANAGER_REPORT, MANAGER_SYNC, is_of_rooms,
};
use crate::api::managed_fields::{Entry, FieldSet, applied_by, entries};

/// kubectl's copy of what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Commands of kubectl that add to an object what Git does not have to know.
const DECORATING: [&str; 3] = ["kubectl-annotate", "kubectl-label", "kubectl-rollout"];
/// Beginnings of the names of managers with which people and tools write whole objects.
const TOOLS: [&str; 7] =
    ["kubectl", "before-first-apply", "helm", "kustomize-controller", "argocd", "flux", "flagger"];
/// Those of them that write again by themselves.
const RELEASERS: [(&str, &str); 4] =
    [("kustomize-controller", "Flux"), ("helm-controller", "Flux"), ("argocd", "Argo CD"), ("helm", "Helm")];

/// What there is to do before an object is applied.
#[derive(Debug, PartialEq)]
pub(super) enum Taking {
    /// Nothing.
    Done,
    /// One write that changes who owns what.
    Over(Adoption),
    /// Somebody else goes on writing it, in words.
    Refused(String),
}

/// How an object becomes ours.
#[derive(Debug, PartialEq)]
pub(super) struct Adoption {
    /// Who wrote it before.
    pub(super) from: Vec<String>,
    /// JSON Patch. Names the resourceVersion.
    pub(super) patch: Value,
}

/// Decides about a live object that Git wants as `body`. `is_plain`: the release engine has no part in it.
pub(super) fn taking(live: &Value, body: &Value, is_plain: bool) -> Taking {
    let ours = applied_by(live, MANAGER_SYNC);
    let always = body["metadata"]["annotations"][ADOPT] == "always";
    if let (Some(ours), false) = (ours, always)
        && let Some((back, product)) = entries(live).find_map(|entry| Some((entry, back(entry, ours)?)))
    {
        let owner = owner(live).map(|owner| format!(", {owner}")).unwrap_or_default();
        return Taking::Refused(format!(
            "{} ({product}{owner}) writes it again after it was taken over: two cannot own it; suspend or remove it there, \
             then say {ADOPT}: always in Git until it is taken over",
            back.manager()
        ));
    }
    let former: Vec<Entry<'_>> = entries(live).filter(|entry| is_former(*entry, ours, body, is_plain)).collect();
    let mut patch = union_fields(live, body);
    if !former.is_empty() || live["metadata"]["annotations"].get(LAST_APPLIED).is_some() {
        patch.extend(reassign(live, body, ours, &former));
    }
    if patch.is_empty() {
        return Taking::Done;
    }
    let from: BTreeSet<String> = former.iter().map(|entry| entry.manager().to_owned()).collect();
    let version = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]});
    patch.insert(0, version);
    Taking::Over(Adoption { from: from.into_iter().collect(), patch: Value::Array(patch) })
}

/// Who else holds the object for its own and may delete it, in words: `Kustomization flux-system/apps`.
pub(super) fn owner(live: &Value) -> Option<String> {
    let metadata = &live["metadata"];
    let label = |key: &str| metadata["labels"][key].as_str();
    let flux = |kind: &str, group: &str| {
        let (name, namespace) = (label(&format!("{group}/name"))?, label(&format!("{group}/namespace"))?);
        Some(format!("{kind} {namespace}/{name}"))
    };
    flux("Kustomization", "kustomize.toolkit.fluxcd.io")
        .or_else(|| flux("HelmRelease", "helm.toolkit.fluxcd.io"))
        .or_else(|| {
            let tracking = metadata["annotations"]["argocd.argoproj.io/tracking-id"].as_str()?;
            Some(format!("Application {}", tracking.split(':').next().unwrap_or_default()))
        })
}

/// The product of a manager that wrote after us, if it is one that writes by itself.
fn back(entry: Entry<'_>, ours: Entry<'_>) -> Option<&'static str> {
    // A size that Git does not name was left to whoever gave it.
    let only_sizes = entry.fields().without(&["spec", "replicas"]).is_empty();
    if entry.is_of_subresource() || only_sizes || entry.time() < ours.time() {
        return None;
    }
    let releaser = RELEASERS.iter().find(|(name, _)| entry.manager().starts_with(name))?;
    Some(releaser.1)
}

/// Whether an entry is of somebody who wrote the object before us, and still owns something by it.
fn is_former(entry: Entry<'_>, ours: Option<Entry<'_>>, body: &Value, is_plain: bool) -> bool {
    let name = entry.manager();
    let is_of_rooms = [MANAGER_PENDING, MANAGER_REPORT, MANAGER_CLI].contains(&name);
    if entry.is_of_subresource() || is_of_rooms || (name == MANAGER_SYNC && entry.is_apply()) {
        return false;
    }
    let tool = match name {
        // Its finalizer stands on every Canary, whoever wrote that.
        MANAGER_ENGINE if !is_plain || is_canary(body) => return false,
        MANAGER_ENGINE | MANAGER_SYNC => true,
        name => TOOLS.iter().any(|tool| name.starts_with(tool)) && !DECORATING.contains(&name),
    };
    match ours {
        // Whoever made it has values that Git has, too; a controller that adds something of its own has not.
        None => tool || entry.fields().meets(body),
        // What we apply is taken by that; what was added beside it stays otherwise.
        Some(_) => {
            let fields = ours_aside(entry.fields());
            // A size that Git does not name stays with whoever gave it.
            let sized = body["spec"]["replicas"].is_null();
            let fields = if sized { fields.without(&["spec", "replicas"]) } else { fields };
            tool && !fields.missing_in(body).is_empty()
        }
    }
}

/// A set without what the rooms say to each other by annotations, which Git does not have.
fn ours_aside(fields: FieldSet) -> FieldSet {
    fields.without_annotations(|name| name == LAST_APPLIED || is_of_rooms(name))
}

fn is_canary(body: &Value) -> bool {
    let group = body["apiVersion"].as_str().and_then(|version| version.split_once('/')).map(|(group, _)| group);
    body["kind"] == "Canary" && group == Some(api::GROUP)
}

/// Makes the former owners' fields ours.
fn reassign(live: &Value, body: &Value, ours: Option<Entry<'_>>, former: &[Entry<'_>]) -> Vec<Value> {
    let is_former = |entry: &Entry<'_>| former.iter().any(|former| std::ptr::eq(former.json(), entry.json()));
    let gained = former.iter().map(|entry| ours_aside(entry.fields())).fold(FieldSet::default(), FieldSet::union);
    let mut gained = gained.without(&["status"]);
    let is_secret = live["kind"] == "Secret";
    let mut kept: Vec<Value> = Vec::new();
    if body["spec"]["replicas"].is_null() {
        // Nobody named a size: taken and not applied, it would fall to one pod.
        gained = gained.without(&["spec", "replicas"]);
        kept.extend(former.iter().filter_map(|entry| {
            let size = entry.fields().only(&[&["spec", "replicas"]]);
            let mut left = entry.json().clone();
            left["fieldsV1"] = size.json();
            (!size.is_empty()).then_some(left)
        }));
    }
    let mut fields = gained.union(ours.map(Entry::fields).unwrap_or_default());
    if is_secret {
        fields = fields.renamed("stringData", "data");
    }
    let is_ours = |entry: &Entry<'_>| ours.is_some_and(|ours| std::ptr::eq(ours.json(), entry.json()));
    kept.extend(
        entries(live).filter(|entry| !is_former(entry) && !is_ours(entry)).map(|entry| entry.json().clone()),
    );
    let time = former.iter().copied().chain(ours).map(Entry::time).max().unwrap_or_default();
    if !fields.is_empty() {
        kept.push(json!({
            "manager": MANAGER_SYNC, "operation": "Apply", "apiVersion": body["apiVersion"], "time": time,
            "fieldsType": "FieldsV1", "fieldsV1": fields.json(),
        }));
    }
    let mut patch = vec![json!({"op": "replace", "path": "/metadata/managedFields", "value": kept})];
    if live["metadata"]["annotations"].get(LAST_APPLIED).is_some() {
        let path = format!("/metadata/annotations/{}", LAST_APPLIED.replace('/', "~1"));
        patch.push(json!({"op": "remove", "path": path}));
    }
    patch
}

/// Of fields that exclude each other the API server keeps the one that it filled in itself, which nobody owns and no apply
/// removes: the parameters of a rolling update under a strategy that has none.
fn union_fields(live: &Value, body: &Value) -> Vec<Value> {
    const ROLLING: &str = "RollingUpdate";
    ["strategy", "updateStrategy"]
        .into_iter()
        .filter_map(|field| {
            let (wanted, found) = (&body["spec"][field], &live["spec"][field]);
            let other = wanted["type"].as_str().filter(|kind| *kind != ROLLING)?;
            let surplus = !found["rollingUpdate"].is_null() && wanted["rollingUpdate"].is_null();
            surplus.then(|| json!({"op": "replace", "path": format!("/spec/{field}"), "value": {"type": other}}))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, time: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1",
            "fieldsV1": fields})
    }

    fn live(entries: Vec<Value>) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "7",
            "annotations": {LAST_APPLIED: "{}"}, "managedFields": entries}, "data": {"a": "1", "b": "2"}})
    }

    fn body() -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "1"}})
    }

    fn data(keys: &[&str]) -> Value {
        let keys = keys.iter().map(|key| (format!("f:{key}"), json!({}))).collect::<serde_json::Map<_, _>>();
        json!({ "f:data": keys })
    }

    fn adoption(live: &Value, body: &Value) -> Adoption {
        match taking(live, body, true) {
            Taking::Over(adoption) => adoption,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whoever_wrote_the_object_before_gives_it_up_and_controllers_keep_theirs() {
        let controller =
            entry("some-controller", "Update", "1", json!({"f:metadata": {"f:annotations": {"f:x": {}}}}));
        for (manager, operation) in [
            ("kubectl-client-side-apply", "Update"),
            ("kubectl", "Apply"),
            ("kustomize-controller", "Apply"),
            ("helm", "Update"),
            ("argocd-controller", "Apply"),
            ("some-ci", "Update"),
        ] {
            let live = live(vec![entry(manager, operation, "1", data(&["a", "b"])), controller.clone()]);
            let Adoption { from, patch } = adoption(&live, &body());
            assert_eq!(from, [manager]);
            assert_eq!(patch[0]["value"], "7");
            assert_eq!(patch[1]["value"][0], controller);
            let ours = &patch[1]["value"][1];
            assert_eq!((&ours["manager"], &ours["operation"]), (&json!("serin"), &json!("Apply")));
            assert_eq!(ours["fieldsV1"], data(&["a", "b"]));
            assert_eq!(patch[2]["op"], "remove");
            json_patch::patch(&mut live.clone(), &serde_json::from_value::<json_patch::Patch>(patch).unwrap())
                .unwrap();
        }
    }

    #[test]
    fn what_the_rooms_say_on_a_canary_stays_theirs_whatever_is_said_next() {
        let canary = json!({"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "a"}, "spec": {"x": 1}});
        let said = |keys: &[&str]| {
            let keys = keys.iter().map(|key| (format!("f:serin.dev/{key}"), json!({})));
            let map = keys.chain([(".".to_owned(), json!({}))]).collect::<serde_json::Map<_, _>>();
            json!({"f:metadata": {"f:annotations": map}})
        };
        let finalizer = json!({"f:metadata": {"f:finalizers": {".": {}, r#"v:"serin.dev/finalizer""#: {}}}});
        let mut live = canary.clone();
        live["metadata"]["managedFields"] = json!([
            entry("serin", "Apply", "1", json!({"f:spec": {"f:x": {}}})),
            entry("serin-engine", "Update", "2", finalizer),
            entry("serin-report", "Update", "2", said(&["projected", "rollback", "unrecorded"])),
            entry("serin-cli", "Update", "2", said(&["request"])),
            // By versions that did not name their manager, and by hand.
            entry("serin", "Update", "2", said(&["projected", "of-a-later-version"])),
            entry("kubectl-edit", "Update", "2", said(&["request"])),
        ]);
        assert_eq!(taking(&live, &canary, true), Taking::Done);
        let switch = |key: &str| entry("kubectl-edit", "Update", "2", said(&[key]));
        for key in ["prune", "adopt", "lend-to"] {
            live["metadata"]["managedFields"][5] = switch(key);
            assert!(matches!(taking(&live, &canary, true), Taking::Over(_)), "{key} is a person's");
        }
    }

    #[test]
    fn one_that_comes_back_is_refused_by_name_and_kubectl_is_put_right() {
        let ours = entry("serin", "Apply", "2026-01-01T00:00:05Z", data(&["a"]));
        let beside = |manager: &str, time: &str| {
            let mut live = live(vec![ours.clone(), entry(manager, "Update", time, data(&["b"]))]);
            live["metadata"]["labels"] = json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
            taking(&live, &body(), true)
        };
        let Taking::Refused(words) = beside("kustomize-controller", "2026-01-01T00:00:06Z") else { panic!() };
        assert!(
            words.starts_with("kustomize-controller (Flux, Kustomization flux-system/apps) writes it again"),
            "{words}"
        );
        assert!(matches!(beside("kustomize-controller", "2026-01-01T00:00:04Z"), Taking::Over(_)), "from before");
        assert!(matches!(beside("kubectl-edit", "2026-01-01T00:00:06Z"), Taking::Over(_)));
        let mut live = live(vec![ours.clone(), entry("helm", "Update", "2026-01-01T00:00:09Z", data(&["b"]))]);
        let mut always = body();
        always["metadata"]["annotations"] = json!({ ADOPT: "always" });
        assert!(matches!(taking(&live, &always, true), Taking::Over(_)));
        live["metadata"]["managedFields"] = json!([ours, entry("somebody", "Update", "9", data(&["b"]))]);
        live["metadata"]["annotations"] = json!({});
        assert_eq!(taking(&live, &body(), true), Taking::Done, "added by a stranger, who may have a reason");
    }

    #[test]
    fn a_size_that_git_does_not_name_stays_where_it_is() {
        let fields = json!({"f:spec": {"f:replicas": {}, "f:paused": {}}});
        let object = live(vec![entry("kubectl-client-side-apply", "Update", "1", fields)]);
        let sized = |spec: Value| {
            adoption(&object, &json!({"apiVersion": "apps/v1", "spec": spec})).patch[1]["value"].clone()
        };
        let left = sized(json!({}));
        assert_eq!(left[0]["manager"], "kubectl-client-side-apply");
        assert_eq!(left[0]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
        assert_eq!(left[1]["fieldsV1"], json!({"f:spec": {"f:paused": {}}}));
        assert_eq!(sized(json!({"replicas": 3}))[0]["fieldsV1"]["f:spec"]["f:replicas"], json!({}));
    }

    #[test]
    fn a_strategy_without_parameters_replaces_the_ones_that_the_server_filled_in() {
        let live = json!({"metadata": {"resourceVersion": "7"}, "spec": {
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}}});
        for strategy in [json!({"type": "Recreate"}), json!({"type": "Recreate", "rollingUpdate": null})] {
            let patch = adoption(&live, &json!({"spec": {"strategy": strategy}})).patch;
            assert_eq!(
                patch[1],
                json!({"op": "replace", "path": "/spec/strategy", "value": {"type": "Recreate"}})
            );
        }
        assert_eq!(taking(&live, &json!({"spec": {"strategy": {"type": "RollingUpdate"}}}), true), Taking::Done);
        assert_eq!(taking(&live, &json!({"spec": {}}), true), Taking::Done);
    }
}
