//! What must be the same however often the daemon died.

use std::collections::{BTreeMap, BTreeSet};

use git2::{ObjectType, Repository as Bare, TreeWalkMode, TreeWalkResult};
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, DynamicObject, ListParams};
use regex::Regex;
use serde_json::{Value, json};
use serin::api::annotations::PENDING;
use serin::cluster::Cluster;
use serin::sandbox::repository::{BRANCH, Repository};
use similar::TextDiff;

use super::image::Calls;

/// Everything that a daemon writes or causes to be written. Events and Leases apart: the former are compared as a set, the
/// latter name their holder.
const KINDS: &[(&str, &str, &str)] = &[
    ("", "v1", "Namespace"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("apps", "v1", "ControllerRevision"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ("networking.istio.io", "v1beta1", "VirtualService"),
    ("networking.istio.io", "v1beta1", "DestinationRule"),
    ("networking.istio.io", "v1beta1", "Gateway"),
    ("flagger.app", "v1beta1", "Canary"),
    ("flagger.app", "v1beta1", "MetricTemplate"),
];
/// Identities and addresses, versions, times and who wrote what.
const VOLATILE: &[&str] = &[
    "uid",
    "resourceVersion",
    "generation",
    "observedGeneration",
    "creationTimestamp",
    "managedFields",
    "clusterIP",
    "clusterIPs",
    // Holds a uid.
    "serin.dev/last-good-of",
];
/// Kinds whose conditions tell the way there, not the end, and that the cluster's controllers write: how many rolling
/// restarts there were is in the annotation `deployment.kubernetes.io/revision`.
const CONDITIONED: &[&str] = &["Deployment", "HorizontalPodAutoscaler"];
/// Of the engine's state: the events themselves are compared.
const TOLD: &[&str] = &["journal", "nextSeq"];
/// The branch of the record.
const STATUS_BRANCH: &str = "serin/status/test";

/// The end of a story, as text per subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End(BTreeMap<String, String>);

impl End {
    pub(super) async fn of(client: &kube::Client, repository: &Repository, calls: &Calls) -> Self {
        let mut all = BTreeMap::new();
        let cluster = Cluster::from_client(client.clone());
        for (group, version, kind) in KINDS {
            let resolved = cluster.resolve(group, version, kind).await.unwrap();
            let api: Api<DynamicObject> = cluster.objects(&resolved, None);
            for object in api.list(&ListParams::default()).await.unwrap() {
                let name = object.metadata.name.clone().unwrap_or_default();
                let namespace = object.metadata.namespace.clone().unwrap_or_default();
                let mut object = serde_json::to_value(object).unwrap();
                strip(&mut object);
                match *kind {
                    // Counts writes of the same template; a write repeated after a crash is one more.
                    "ControllerRevision" => {
                        object["revision"].take();
                    }
                    // The Deployment controller copies annotations and never removes one: this one is passing, and whether
                    // it was seen is chance.
                    "ReplicaSet" => {
                        object["metadata"]["annotations"][PENDING].take();
                    }
                    _ => {}
                }
                if let Some(status) = object["status"].as_object_mut().filter(|_| CONDITIONED.contains(kind)) {
                    status.retain(|field, _| {
                        !["conditions", "desiredReplicas", "lastScaleTime"].contains(&field.as_str())
                    });
                }
                all.insert(format!("{kind} {namespace}/{name}"), format!("{object:#}"));
            }
        }
        all.insert("pods".to_owned(), pods(&cluster).await);
        all.insert("events".to_owned(), lines(events(client).await));
        all.insert("webhooks".to_owned(), lines(calls.lock().unwrap().iter().cloned().collect()));
        all.insert("commits".to_owned(), messages(repository, BRANCH).join("----\n"));
        all.extend(files(repository, BRANCH));
        all.extend(files(repository, STATUS_BRANCH));
        let scrub = Scrub::new(repository);
        Self(all.into_iter().map(|(name, text)| (scrub.text(&name), scrub.text(&text))).collect())
    }

    /// Only what differs.
    pub(super) fn difference(&self, other: &Self) -> String {
        let names: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let text = |end: &Self, name: &String| end.0.get(name).cloned().unwrap_or_default();
        let mut found = String::new();
        for name in names {
            let (expected, got) = (text(self, name), text(other, name));
            if expected != got {
                let diff = TextDiff::from_lines(&expected, &got);
                found.push_str(&format!("{name}\n{}", diff.unified_diff().context_radius(2)));
            }
        }
        found
    }

    pub(super) fn image_of_primary(&self) -> String {
        let primary: Value = serde_json::from_str(&self.0["Deployment test/podinfo-primary"]).unwrap();
        primary["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    }

    /// Commits on the watched branch.
    pub(super) fn commits(&self) -> usize {
        self.0["commits"].split("----\n").count()
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !VOLATILE.contains(&key.as_str()) && !TOLD.contains(&key.as_str()));
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Pods by owner and readiness: their names and addresses are chance.
async fn pods(cluster: &Cluster) -> String {
    let resolved = cluster.resolve("", "v1", "Pod").await.unwrap();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for pod in cluster.objects(&resolved, None).list(&ListParams::default()).await.unwrap() {
        let pod = serde_json::to_value(pod).unwrap();
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready =
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let pod = json!({"of": pod["metadata"]["ownerReferences"][0]["name"], "ready": ready,
            "image": pod["spec"]["containers"][0]["image"]});
        *counts.entry(pod.to_string()).or_default() += 1;
    }
    lines(counts.into_iter().map(|(pod, count)| format!("{count} x {pod}")).collect())
}

/// Messages of all Events, except what was seen in passing: who looks when sees more or fewer stages of a rollout.
async fn events(client: &kube::Client) -> BTreeSet<String> {
    let events = Api::<Event>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    let ours = events
        .into_iter()
        .filter(|event| event.source.as_ref().is_some_and(|source| source.component.as_deref() == Some("serin")));
    ours.map(|event| {
        format!("{} {}", event.involved_object.name.unwrap_or_default(), event.message.unwrap_or_default())
    })
    .filter(|message| !message.contains("not ready: waiting for rollout to finish"))
    .collect()
}

fn lines(items: BTreeSet<String>) -> String {
    items.into_iter().map(|item| item + "\n").collect()
}

/// Messages of a branch's commits, newest first.
pub(super) fn messages(repository: &Repository, branch: &str) -> Vec<String> {
    let bare = Bare::open_bare(repository.path()).unwrap();
    let mut walk = bare.revwalk().unwrap();
    if walk.push_ref(&format!("refs/heads/{branch}")).is_err() {
        return Vec::new();
    }
    walk.map(|oid| {
        let commit = bare.find_commit(oid.unwrap()).unwrap();
        String::from_utf8_lossy(commit.message_bytes()).into_owned()
    })
    .collect()
}

/// A branch's files.
fn files(repository: &Repository, branch: &str) -> BTreeMap<String, String> {
    let bare = Bare::open_bare(repository.path()).unwrap();
    let mut files = BTreeMap::new();
    let Ok(tip) = bare.find_reference(&format!("refs/heads/{branch}")) else { return files };
    let tree = tip.peel_to_tree().unwrap();
    tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
        if entry.kind() == Some(ObjectType::Blob) {
            let blob = bare.find_blob(entry.id()).unwrap();
            let text = String::from_utf8_lossy(blob.content()).into_owned();
            files.insert(format!("{branch}:{folder}{}", entry.name().unwrap()), text);
        }
        TreeWalkResult::Ok
    })
    .unwrap();
    files
}

/// Replaces times by words, and commit ids by their subjects.
struct Scrub {
    times: Vec<Regex>,
    commits: Vec<(String, String)>,
}

impl Scrub {
    fn new(repository: &Repository) -> Self {
        let times = [
            r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z",
            r"\d{8}T\d{6}Z",
            r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}(:\d{2})?",
        ];
        let bare = Bare::open_bare(repository.path()).unwrap();
        let mut walk = bare.revwalk().unwrap();
        walk.push_glob("refs/heads/*").unwrap();
        let commits = walk.map(|oid| {
            let oid = oid.unwrap();
            let message = bare.find_commit(oid).unwrap().message().unwrap_or_default().to_owned();
            (oid.to_string(), message.lines().next().unwrap_or_default().to_owned())
        });
        Self { times: times.iter().map(|time| Regex::new(time).unwrap()).collect(), commits: commits.collect() }
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (commit, subject) in &self.commits {
            text = text.replace(commit, &format!("<{subject}>"));
            text = text.replace(&commit[..7], &format!("<{subject}>"));
        }
        for time in &self.times {
            text = time.replace_all(&text, "<time>").into_owned();
        }
        text
    }
}
