//! Looks for those who read what is to be deleted: lists the kinds that can name it, and keeps of each object who it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};

use super::apply::Trouble;
use super::desired::Gvk;
use super::readers::Reader;
use super::references::{self, OBJECTS, POD};
use crate::api;
use crate::api::annotations::COPIED_FROM;
use crate::cluster::{CallError, Cluster, ResolveError, Resolved, call, explain};
use crate::model::ObjectRef;

/// Objects in one answer: lists of thousands of pods must not be in memory at once.
const PAGE: u32 = 500;
/// HTTP status of what the daemon's role does not grant.
const FORBIDDEN: u16 = 403;

/// Kinds that run pods, besides those that Git itself holds. A kind that is not served has no objects.
const WORKLOADS: [(&str, &str, &str); 10] = [
    ("", "v1", "Pod"),
    ("", "v1", "PodTemplate"),
    ("", "v1", "ReplicationController"),
    ("apps", "v1", "ControllerRevision"),
    ("apps", "v1", "DaemonSet"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("apps", "v1", "StatefulSet"),
    ("batch", "v1", "CronJob"),
    ("batch", "v1", "Job"),
];

/// Versions in which a group's kinds are asked for, the usual one first.
fn versions(group: &str) -> &'static [&'static str] {
    match group {
        api::GROUP => &[api::VERSION],
        "networking.istio.io" => &["v1", "v1beta1", "v1alpha3"],
        "gateway.networking.k8s.io" => &["v1", "v1beta1"],
        _ => &["v1"],
    }
}

/// A kind to list, and where; `None` is everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Ask {
    group: String,
    /// The first that is served.
    versions: Vec<String>,
    kind: String,
    namespace: Option<String>,
}

/// An object that lives and names some of those that are to go.
#[derive(Debug)]
struct Alive {
    reader: Reader,
    uid: String,
}

/// Who reads what is to go, as far as can be seen.
#[derive(Debug, Default)]
pub(super) struct Survey {
    alive: Vec<Alive>,
    /// uid to the uids of its owners, for everything that was listed.
    owners: HashMap<String, Vec<String>>,
    /// Kinds that could not be listed, with what the API server said.
    hidden: BTreeMap<(String, String), String>,
}

impl Survey {
    /// Lists whatever can name one of `going`. `templates` are kinds with pod templates that Git holds; `only_namespace` is
    /// where a daemon that is limited to one may look.
    pub(super) async fn of(
        cluster: &Cluster,
        going: &BTreeSet<ObjectRef>,
        templates: &BTreeSet<Gvk>,
        only_namespace: Option<&str>,
    ) -> Result<Self, Trouble> {
        let mut survey = Self::default();
        for ask in asks(going, templates, only_namespace) {
            if let Some(resolved) = served(cluster, &ask).await? {
                survey.list(cluster, &ask, &resolved, going).await?;
            }
        }
        Ok(survey)
    }

    async fn list(
        &mut self,
        cluster: &Cluster,
        ask: &Ask,
        resolved: &Resolved,
        going: &BTreeSet<ObjectRef>,
    ) -> Result<(), Trouble> {
        let api = cluster.objects(resolved, ask.namespace.as_deref());
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let listed = call(&format!("list {}", resolved.resource.plural), api.list(&params)).await;
            let page = match listed {
                Ok(page) => page,
                Err(error) if is_forbidden(&error) => {
                    self.hidden.insert((ask.group.clone(), ask.kind.clone()), explain(&error));
                    return Ok(());
                }
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            for object in page.items {
                self.take(object, resolved, going)?;
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    fn take(
        &mut self,
        object: DynamicObject,
        resolved: &Resolved,
        going: &BTreeSet<ObjectRef>,
    ) -> Result<(), Trouble> {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let owners = object.metadata.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect();
        self.owners.insert(uid.clone(), owners);
        let mut object = serde_json::to_value(object)?;
        // Items of a list do not repeat what they are.
        object["apiVersion"] = json!(resolved.resource.api_version);
        object["kind"] = json!(resolved.resource.kind);
        if !lives(&object) {
            return Ok(());
        }
        let references: BTreeSet<ObjectRef> =
            references::references(&object).into_iter().filter(|named| going.contains(named)).collect();
        if !references.is_empty() {
            self.alive.push(Alive { reader: Reader { id: identity(&object), references }, uid });
        }
        Ok(())
    }

    /// Those who are left when objects with these uids are deleted, and what these own with them.
    pub(super) fn readers(&self, deleted: &BTreeSet<String>) -> Vec<Reader> {
        let stays = |alive: &&Alive| !self.goes_with(&alive.uid, deleted);
        self.alive.iter().filter(stays).map(|alive| alive.reader.clone()).collect()
    }

    fn goes_with(&self, uid: &str, deleted: &BTreeSet<String>) -> bool {
        /// A pod, its ReplicaSet, its Deployment, its Canary, and one to spare.
        const GENERATIONS_MAX: usize = 5;
        let mut generation = vec![uid];
        for _ in 0..GENERATIONS_MAX {
            if generation.iter().any(|uid| deleted.contains(*uid)) {
                return true;
            }
            generation =
                generation.iter().filter_map(|uid| self.owners.get(*uid)).flatten().map(String::as_str).collect();
        }
        false
    }

    /// Why nobody can say whether an object of this kind is read.
    pub(super) fn unknown(&self, id: &ObjectRef) -> Option<&str> {
        self.hidden.iter().find(|((group, kind), _)| may_name(group, kind, id)).map(|(_, words)| words.as_str())
    }
}

/// The first version of a kind that is served.
async fn served(cluster: &Cluster, ask: &Ask) -> Result<Option<Resolved>, Trouble> {
    for version in &ask.versions {
        match cluster.resolve(&ask.group, version, &ask.kind).await {
            Ok(resolved) => return Ok(Some(resolved)),
            Err(ResolveError::NotServed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn is_forbidden(error: &CallError) -> bool {
    error.status().is_some_and(|status| status.code == FORBIDDEN)
}

/// Whether an object of the first kind can name one like `id`.
fn may_name(group: &str, kind: &str, id: &ObjectRef) -> bool {
    let place = OBJECTS
        .iter()
        .any(|row| row.reader.group == group && row.reader.kind == kind && references::is_kind(id, row.place.1));
    let is_object = OBJECTS.iter().any(|row| row.reader.group == group && row.reader.kind == kind);
    let runs_pods = !is_object || WORKLOADS.iter().any(|(g, _, k)| *g == group && *k == kind);
    place || (runs_pods && is_named_by_pods(id))
}

fn is_named_by_pods(id: &ObjectRef) -> bool {
    POD.iter().any(|(_, named)| references::is_kind(id, *named))
}

/// Whether anything can name it: what nobody can read needs no survey.
pub(super) fn is_readable(id: &ObjectRef) -> bool {
    is_named_by_pods(id) || OBJECTS.iter().any(|row| references::is_kind(id, row.place.1))
}

fn asks(going: &BTreeSet<ObjectRef>, templates: &BTreeSet<Gvk>, only_namespace: Option<&str>) -> BTreeSet<Ask> {
    let mut asks = BTreeSet::new();
    for id in going {
        let near = id.namespace.as_deref().or(only_namespace);
        let mut ask = |group: &str, versions: &[&str], kind: &str, namespace: Option<&str>| {
            asks.insert(Ask {
                group: group.to_owned(),
                versions: versions.iter().map(|version| (*version).to_owned()).collect(),
                kind: kind.to_owned(),
                namespace: namespace.map(str::to_owned),
            });
        };
        if is_named_by_pods(id) {
            for (group, version, kind) in WORKLOADS {
                ask(group, &[version], kind, near);
            }
            let known = |(group, _, kind): &&Gvk| !WORKLOADS.iter().any(|(g, _, k)| g == group && k == kind);
            for (group, version, kind) in templates.iter().filter(known) {
                ask(group, &[version], kind, near);
            }
        }
        for row in OBJECTS.iter().filter(|row| references::is_kind(id, row.place.1)) {
            let namespace = if row.far || !row.reader.namespaced { only_namespace } else { near };
            ask(row.reader.group, versions(row.reader.group), row.reader.kind, namespace);
        }
    }
    // Everywhere is here, too.
    let everywhere: BTreeSet<(String, String)> = asks
        .iter()
        .filter(|ask| ask.namespace.is_none())
        .map(|ask| (ask.group.clone(), ask.kind.clone()))
        .collect();
    asks.retain(|ask| ask.namespace.is_none() || !everywhere.contains(&(ask.group.clone(), ask.kind.clone())));
    asks
}

/// Who a live or written object is.
pub(super) fn identity(object: &Value) -> ObjectRef {
    let (group, kind) = references::group_and_kind(object);
    let metadata = &object["metadata"];
    ObjectRef {
        group: group.to_owned(),
        kind: kind.to_owned(),
        namespace: metadata["namespace"].as_str().map(str::to_owned),
        name: metadata["name"].as_str().unwrap_or_default().to_owned(),
    }
}

/// Whether pods are, or may be, made of it. What is only history does not live: old ReplicaSets without pods, jobs and pods
/// that are done, revisions that nobody would put back.
fn lives(object: &Value) -> bool {
    let (status, spec) = (&object["status"], &object["spec"]);
    let some = |count: &Value| count.as_i64().is_some_and(|count| count > 0);
    match references::group_and_kind(object) {
        ("", "Pod") => {
            let done = status["phase"] == "Succeeded" || status["phase"] == "Failed";
            !done && object["metadata"]["deletionTimestamp"].is_null()
        }
        ("apps", "ReplicaSet") => {
            let is_owned = object["metadata"]["ownerReferences"].as_array().is_some_and(|all| !all.is_empty());
            !is_owned || some(&spec["replicas"]) || some(&status["replicas"])
        }
        ("apps", "ControllerRevision") => !object["metadata"]["annotations"][COPIED_FROM].is_null(),
        ("batch", "Job") => {
            let conditions = status["conditions"].as_array().into_iter().flatten();
            let mut ended = conditions.filter(|it| it["type"] == "Complete" || it["type"] == "Failed");
            !ended.any(|it| it["status"] == "True")
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(group: &str, kind: &str, namespace: Option<&str>) -> ObjectRef {
        ObjectRef {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.map(str::to_owned),
            name: "x".into(),
        }
    }

    #[test]
    fn only_what_can_name_it_is_listed_and_only_where_it_can() {
        let listed = |id: ObjectRef| -> Vec<String> {
            let asks = asks(&BTreeSet::from([id]), &BTreeSet::new(), None);
            asks.iter().map(|ask| format!("{} {}", ask.kind, ask.namespace.as_deref().unwrap_or("*"))).collect()
        };
        assert_eq!(listed(id("", "Service", Some("a"))), Vec::<String>::new());
        assert_eq!(listed(id("flagger.app", "MetricTemplate", Some("a"))), ["Canary *"]);
        let secret = listed(id("", "Secret", Some("a")));
        for kind in ["Pod a", "CronJob a", "ServiceAccount a", "Ingress *", "MetricTemplate a"] {
            assert!(secret.contains(&kind.to_owned()), "{kind}: {secret:?}");
        }
        assert!(!secret.iter().any(|kind| kind.starts_with("Canary")));
        assert!(listed(id("scheduling.k8s.io", "PriorityClass", None)).contains(&"Pod *".to_owned()));
        let roles = listed(id(RBAC, "ClusterRole", None));
        assert_eq!(roles, ["ClusterRoleBinding *", "RoleBinding *"]);
    }

    const RBAC: &str = "rbac.authorization.k8s.io";

    #[test]
    fn history_does_not_live() {
        let object = |api_version: &str, kind: &str, rest: Value| {
            let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {}});
            json_patch::merge(&mut object, &rest);
            object
        };
        let owned = json!([{"uid": "1"}]);
        for (api_version, kind, rest, alive) in [
            ("v1", "Pod", json!({"status": {"phase": "Running"}}), true),
            ("v1", "Pod", json!({"status": {"phase": "Succeeded"}}), false),
            ("v1", "Pod", json!({"metadata": {"deletionTimestamp": "now"}}), false),
            ("apps/v1", "Deployment", json!({"spec": {"replicas": 0}}), true),
            ("apps/v1", "Deployment", json!({"metadata": {"deletionTimestamp": "now"}}), true),
            (
                "apps/v1",
                "ReplicaSet",
                json!({"metadata": {"ownerReferences": owned}, "spec": {"replicas": 0}}),
                false,
            ),
            (
                "apps/v1",
                "ReplicaSet",
                json!({"metadata": {"ownerReferences": owned}, "spec": {"replicas": 0}, "status": {"replicas": 1}}),
                true,
            ),
            ("apps/v1", "ReplicaSet", json!({"spec": {"replicas": 0}}), true),
            ("apps/v1", "ControllerRevision", json!({}), false),
            ("apps/v1", "ControllerRevision", json!({"metadata": {"annotations": {COPIED_FROM: "x"}}}), true),
            (
                "batch/v1",
                "Job",
                json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
                false,
            ),
            (
                "batch/v1",
                "Job",
                json!({"status": {"conditions": [{"type": "Suspended", "status": "True"}]}}),
                true,
            ),
            ("batch/v1", "CronJob", json!({"spec": {"suspend": true}}), true),
        ] {
            assert_eq!(lives(&object(api_version, kind, rest.clone())), alive, "{kind} {rest}");
        }
    }

    #[test]
    fn what_a_deleted_object_owns_goes_with_it() {
        let mut survey = Survey::default();
        for (uid, owner) in [("pod", "rs"), ("rs", "deployment"), ("deployment", "canary")] {
            survey.owners.insert(uid.into(), vec![owner.into()]);
        }
        let deleted = |uid: &str| BTreeSet::from([uid.to_owned()]);
        for uid in ["pod", "rs", "deployment", "canary"] {
            assert!(survey.goes_with("pod", &deleted(uid)), "{uid}");
        }
        assert!(!survey.goes_with("rs", &deleted("pod")));
    }
}
