//! `serin get` and the verbs that ask: against the embedded API server, served on loopback.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use serin::api::Canary;
use serin::api::annotations::{PENDING, REQUEST, SYNC, UNRECORDED};
use serin::sandbox::apiserver::ApiServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{screen, serin};

const DIGEST: &str = "v1:7d95c042000000000000";
const NEXT: &str = "v1:a6fb26d2000000000000";
const COMMIT: &str = "f4ae59b000000000000000000000000000000000";
/// Longest wait for an answer of the embedded server; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// An API server on loopback with our definitions.
pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) kubeconfig: PathBuf,
    pub(super) client: Client,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    pub(super) async fn start() -> Self {
        let world = Self::without_definitions().await;
        let definitions: Api<
            k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
        > = Api::all(world.client.clone());
        for definition in serin::api::crds() {
            definitions.create(&PostParams::default(), &definition).await.expect("the definition is taken");
        }
        world
    }

    async fn without_definitions() -> Self {
        let server = ApiServer::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let dir = tempfile::tempdir().expect("a folder");
        let kubeconfig = dir.path().join("kubeconfig");
        std::fs::write(&kubeconfig, ApiServer::kubeconfig(&url)).expect("the kubeconfig can be written");
        let stop = CancellationToken::new();
        let client = server.client();
        let stopped = stop.clone();
        tokio::spawn(async move { server.serve(listener, stopped).await });
        Self { dir, kubeconfig, client, stop }
    }

    fn canaries(&self) -> Api<Canary> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// A Canary with a status, as the daemon would have written it.
    pub(super) async fn canary(&self, name: &str, metadata: Value, status: Value) {
        let mut canary = json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": name},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "service": {"port": 9898},
                "analysis": {"interval": "1m", "threshold": 5, "maxWeight": 50, "stepWeight": 10}
            }
        });
        json_patch::merge(&mut canary["metadata"], &metadata);
        let canary: Canary = serde_json::from_value(canary).expect("a Canary");
        self.canaries().create(&PostParams::default(), &canary).await.expect("the Canary is taken");
        self.status(name, status).await;
    }

    pub(super) async fn status(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.canaries().patch_status(name, &PatchParams::default(), &patch).await.expect("the status is taken");
    }

    /// The Source of a daemon, as it would have written it.
    async fn source(&self, status: Value) {
        let api: Api<serin::api::Source> = Api::namespaced(self.client.clone(), "default");
        if api.get_opt("main").await.expect("the kind is served").is_none() {
            let source = serin::api::Source::new("main", serin::api::SourceSpec {});
            api.create(&PostParams::default(), &source).await.expect("the Source is taken");
        }
        let body = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Source", "metadata": {"name": "main"}, "status": status});
        let params = PatchParams::apply("serin").force();
        api.patch_status("main", &params, &Patch::Apply(&body)).await.expect("the status is taken");
    }

    pub(super) async fn deployment(&self, name: &str, tag: &str, replicas: i32, annotations: Value) {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), "default");
        let deployment = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "annotations": annotations},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "app", "image": format!("example.com/podinfo:{tag}")}]}}
            }
        }));
        let deployment = deployment.expect("a Deployment");
        deployments.create(&PostParams::default(), &deployment).await.expect("the Deployment is taken");
        let status = Patch::Merge(json!({"status": {"replicas": replicas, "availableReplicas": replicas}}));
        deployments.patch_status(name, &PatchParams::default(), &status).await.expect("the status is taken");
    }

    pub(super) async fn serin(&self, args: &[&str]) -> Output {
        let mut command = serin(self.dir.path());
        command.env("KUBECONFIG", &self.kubeconfig).args(args);
        tokio::task::spawn_blocking(move || command.output().expect("serin can be started"))
            .await
            .expect("it ends")
    }
}

fn time(seconds_ago: i64) -> String {
    format!("{:.0}", jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds_ago))
}

fn revision(digest: &str) -> Value {
    json!(format!("{digest}@{COMMIT}"))
}

/// A release at its third weight that waits for its window.
fn progressing() -> Value {
    json!({
        "phase": "Progressing", "canaryWeight": 30, "failedChecks": 1,
        "serin": {"version": 1, "release": "r2", "revision": format!("{NEXT}@{COMMIT}"),
            "waitingOn": "the analysis window to close at 2026-01-01T00:00:00Z",
            "state": {
                "phase": {"name": "releasing", "id": "r2", "revision": revision(NEXT), "started": time(3600),
                    "stage": {"name": "analysing"}, "step": 5, "steps": 10, "tick": 4, "opened": time(60), "due": time(0),
                    "failedChecks": 1, "held": 0, "routing": {"base": {"candidate": 30}},
                    "watch": {"round": 4, "opened": time(60), "due": time(0), "checks": [
                        {"check": "a", "name": "request-success-rate", "verdict": "pass", "value": 99.5, "limit": "≥ 99"},
                        {"check": "b", "name": "request-duration", "verdict": "fail", "value": 612.0, "limit": "≤ 500"},
                        {"check": "c", "name": "404s percentage", "verdict": "no data", "limit": "≤ 5"}]}},
                "progress": {"step": 3, "of": 5},
                "promoted": {"revision": revision(DIGEST), "at": time(7300)},
                "journal": [
                    {"seq": 0, "at": time(7200), "type": "Normal", "message": "New revision detected! Scaling up podinfo.default"},
                    {"seq": 1, "at": time(600), "type": "Warning",
                        "message": "Halt podinfo.default advancement request duration 612ms > 500ms"}]}}
    })
}

fn failed() -> Value {
    json!({
        "phase": "Failed",
        "serin": {"version": 1, "revision": format!("{DIGEST}@{COMMIT}"),
            "waitingOn": "another revision: a6fb26d2 failed before (serin retry)",
            "state": {
                "phase": {"name": "idle", "last": "Failed", "since": time(600)},
                "promoted": {"revision": revision(DIGEST), "at": time(7300)},
                "quarantine": [{"revision": revision(NEXT), "release": "r2"}],
                "waitingOn": {"kind": "quarantine", "revision": revision(NEXT)},
                "lastOutcome": {"release": "r2", "kind": "Failed", "revision": revision(NEXT), "started": time(900),
                    "ended": time(600), "cause": {"message": "request-success-rate 51.28% < 99%"},
                    "checks": [{"name": "request-success-rate", "verdict": "fail", "value": 51.28, "limit": "≥ 99"}]}}}
    })
}

fn blocked() -> Value {
    json!({"phase": "", "conditions": [{"type": "Blocked", "status": "True", "reason": "Blocked",
        "message": "spec.analysis.mirror is not supported yet: remove it"}]})
}

/// A commit that was worked through and of which something was refused.
fn refused_commit() -> Value {
    let message = "app.yaml:29: Deployment default/good: unknown field `imagee`";
    let object = json!({"group": "apps", "kind": "Deployment", "namespace": "default", "name": "good",
        "state": "Refused", "message": message, "since": time(60)});
    let targets = json!({"default/good": {"state": "invalid", "message": message}});
    json!({"branch": "main", "applied": {"commit": COMMIT, "at": time(60)}, "objects": [object],
        "commits": [{"commit": COMMIT, "result": "partly", "targets": targets}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_git_names_and_the_cluster_refuses_is_no_success_of_any_verb() {
    let world = World::start().await;
    let at = "2026-01-01T00:00:00Z";
    let idle = json!({"phase": "Succeeded", "canaryWeight": 0, "serin": {"version": 1, "state": {
        "phase": {"name": "idle", "last": "Succeeded", "since": at},
        "promoted": {"revision": format!("{NEXT}@{}", "b".repeat(40)), "at": at}}}});
    world.canary("good", json!({}), idle).await;
    world.source(refused_commit()).await;
    let why = screen(&world.serin(&["why", "good"]).await);
    let words =
        "and what Git names now (main@f4ae59b) is refused: app.yaml:29: Deployment default/good: unknown field";
    assert!(why.contains(words) && !why.contains("Nothing is to be done"), "{why}");

    let waited = tokio::time::timeout(PATIENCE, world.serin(&["wait", "good", "--commit", COMMIT])).await;
    let waited = waited.expect("it does not wait for what never comes");
    assert_eq!(waited.status.code(), Some(1));
    assert!(screen(&waited).contains("f4ae59b is refused: app.yaml:29: Deployment"), "{}", screen(&waited));

    let answering = async {
        let api: Api<serin::api::Source> = Api::namespaced(world.client.clone(), "default");
        loop {
            let source = api.get("main").await.expect("the Source");
            if let Some(request) = source.annotations().get(SYNC) {
                let mut status = refused_commit();
                status["handledRequest"] = json!(request);
                world.source(status).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let synced = tokio::select! {
        synced = world.serin(&["sync", "--commit", COMMIT]) => synced,
        () = answering => unreachable!("it goes on"),
    };
    let shown = screen(&synced);
    assert_eq!(synced.status.code(), Some(1), "{shown}");
    assert!(shown.contains("main@f4ae59b is applied in part"), "{shown}");
    assert!(shown.contains("1 object is refused: app.yaml:29: Deployment"), "{shown}");
}

/// Three Canaries: one under way, one that failed, one that cannot be carried out.
async fn three() -> World {
    let world = World::start().await;
    let unrecorded = json!({"annotations": {UNRECORDED: "PushDenied: main is protected; let serin push to it"}});
    world.canary("podinfo", json!({}), progressing()).await;
    world.canary("failed", unrecorded, failed()).await;
    world.canary("blocked", json!({}), blocked()).await;
    world.canary("unseen", json!({}), json!({})).await;
    world.deployment("podinfo-primary", "3.1.0", 2, json!({})).await;
    world.deployment("podinfo", "3.1.1", 2, json!({PENDING: format!("{DIGEST}@{COMMIT}")})).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn get_answers_why_nothing_happens() {
    let world = three().await;
    insta::assert_snapshot!("get-table", screen(&world.serin(&["get"]).await));
    for name in ["podinfo", "failed", "blocked", "unseen"] {
        insta::assert_snapshot!(format!("get-{name}"), screen(&world.serin(&["get", name]).await));
    }
    let colourful = world.serin(&["get", "podinfo"]).await.stdout;
    assert!(!colourful.contains(&0x1b), "no colours for a pipe");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_git_has_and_the_cluster_refused_is_shown() {
    let world = three().await;
    let message = "canary.yaml:1: Canary default/podinfo: `spec.targetRef.name` is required";
    let object = json!({"group": "flagger.app", "kind": "Canary", "namespace": "default", "name": "podinfo",
        "state": "Refused", "message": message, "since": time(600)});
    let other = json!({"kind": "Job", "namespace": "default", "name": "migrate", "state": "Refused",
        "message": "field is immutable", "since": time(600)});
    let commit = json!({"commit": COMMIT, "at": time(7200)});
    world.source(json!({"branch": "main", "applied": commit, "objects": [object, other]})).await;
    let shown = screen(&world.serin(&["get", "podinfo"]).await);
    assert!(shown.contains("source     main@f4ae59b applied 2h ago"), "{shown}");
    assert!(shown.contains(&format!("refused    {message} (for 10m)")), "{shown}");
    assert!(!shown.contains("migrate"), "another's: {shown}");
    let all = screen(&world.serin(&["get"]).await);
    assert!(all.contains("refused    Job default/migrate: field is immutable (for 10m)"), "{all}");
    let json: Value = serde_json::from_slice(&world.serin(&["get", "-o", "json"]).await.stdout).expect("JSON");
    assert_eq!(json["sources"][0]["objects"].as_array().map(Vec::len), Some(2));
    // Settled: nothing of it is left.
    world.source(json!({"branch": "main", "applied": {"commit": COMMIT, "at": time(0)}})).await;
    let shown = screen(&world.serin(&["get", "podinfo"]).await);
    assert!(!shown.contains("refused"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_not_there_and_a_repository_that_cannot_be_read_are_told_first() {
    let world = three().await;
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(world.client.clone(), "default");
    let renewed = format!("{:.6}", jiff::Timestamp::now() - jiff::SignedDuration::from_secs(50));
    let lease = json!({"metadata": {"name": "serin"}, "spec": {"holderIdentity": "a", "renewTime": renewed}});
    let lease = serde_json::from_value(lease).expect("a Lease");
    leases.create(&PostParams::default(), &lease).await.expect("the Lease is taken");
    let error = json!({"message": "the repository cannot be read: no route to host", "since": time(180)});
    world.source(json!({"branch": "main", "daemon": {"lease": "default/serin"}, "error": error})).await;
    let shown = screen(&world.serin(&["get"]).await);
    let head = "source     main, nothing applied yet; interrupted for 3m: the repository cannot be read: no route to host\n\
        daemon     not running: its lease was last renewed 5";
    assert!(shown.contains(head), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_removal_is_listed_and_allowed_by_its_commit() {
    let world = three().await;
    let removal = json!([{"commit": COMMIT, "dropped": 7, "owned": 12}]);
    world.source(json!({"branch": "main", "refusedRemovals": removal})).await;
    let listed = screen(&world.serin(&["prune"]).await);
    assert!(listed.contains(&format!("{COMMIT}  7 of 12 objects  Source default/main")), "{listed}");
    let unknown = world.serin(&["prune", "--allow", "abcdef1"]).await;
    assert_eq!(unknown.status.code(), Some(2), "{}", screen(&unknown));
    let sources: Api<serin::api::Source> = Api::namespaced(world.client.clone(), "default");
    // The daemon: when it is allowed, the removal is over.
    let daemon = async {
        let mut changes = watcher(sources.clone(), watcher::Config::default()).applied_objects().boxed();
        while let Some(source) = changes.try_next().await.expect("a watch") {
            if source.annotations().get("serin.dev/allow-prune").is_some_and(|commit| commit == COMMIT) {
                return world.source(json!({"branch": "main", "refusedRemovals": []})).await;
            }
        }
    };
    let asked = world.serin(&["prune", "--allow", "f4ae59b"]);
    let (allowed, ()) = tokio::join!(asked, daemon);
    assert_eq!(allowed.status.code(), Some(0), "{}", screen(&allowed));
    assert!(screen(&allowed).contains("7 objects that f4ae59b dropped are deleted"), "{}", screen(&allowed));
}

#[tokio::test(flavor = "multi_thread")]
async fn get_is_data_for_machines() {
    let world = three().await;
    let all: Value = serde_json::from_slice(&world.serin(&["get", "-o", "json"]).await.stdout).expect("JSON");
    let names: Vec<&str> =
        all["releases"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["blocked", "failed", "podinfo", "unseen"]);
    let one = world.serin(&["get", "failed", "-o", "json"]).await;
    assert_eq!(one.status.code(), Some(1), "the named release failed");
    let one: Value = serde_json::from_slice(&one.stdout).expect("JSON");
    assert_eq!(one["cause"], "request-success-rate 51.28% < 99%");
    assert!(one["unrecorded"].as_str().is_some_and(|reason| reason.starts_with("PushDenied")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_comes_with_a_hint() {
    let world = World::start().await;
    insta::assert_snapshot!("get-none", screen(&world.serin(&["get"]).await));
    insta::assert_snapshot!("get-missing", screen(&world.serin(&["get", "podinfo"]).await));
    let bare = World::without_definitions().await;
    insta::assert_snapshot!("get-no-definitions", screen(&bare.serin(&["get"]).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_exits_with_3() {
    let world = World::without_definitions().await;
    // A port that was free a moment ago, and that nobody listens on.
    let port = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
    let kubeconfig = ApiServer::kubeconfig(&format!("http://127.0.0.1:{port}"));
    std::fs::write(&world.kubeconfig, kubeconfig).expect("the kubeconfig can be written");
    let output = world.serin(&["get"]).await;
    assert_eq!(output.status.code(), Some(3), "{}", screen(&output));
    assert!(screen(&output).contains("hint: is the cluster at http"));
}

/// Answers the first request as the daemon does: with `handledRequest` and an event, in one write.
async fn answer(api: Api<Canary>, name: &str, event: Value) {
    let mut changes = watcher(api.clone(), watcher::Config::default().fields(&format!("metadata.name={name}")))
        .applied_objects()
        .boxed();
    while let Some(canary) = changes.try_next().await.expect("the watch goes on") {
        let Some(raw) = canary.annotations().get(REQUEST) else { continue };
        let journal = json!([{"seq": 2, "at": time(0), "type": event["type"], "message": event["message"]}]);
        let status = json!({"status": {"serin": {"state": {"handledRequest": raw, "journal": journal}}}});
        let patch = Patch::Merge(status);
        api.patch_status(name, &PatchParams::default(), &patch).await.expect("the status is taken");
        return;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_its_answer() {
    let world = three().await;
    let accepted = json!({"type": "Normal", "message": "Request to retry failed.default a6fb26d2 accepted"});
    let daemon = tokio::spawn(answer(world.canaries(), "failed", accepted));
    let output = world.serin(&["retry", "failed"]).await;
    tokio::time::timeout(PATIENCE, daemon).await.expect("in time").expect("the daemon answers");
    let next = "default/failed: a6fb26d2 may be released again: it is as soon as Git names it";
    assert_eq!(screen(&output), format!("exit 0\n----- stdout\n{next}\n"));

    let output = world.serin(&["abort", "unseen"]).await;
    assert_eq!(output.status.code(), Some(2), "{}", screen(&output));
    let refused =
        json!({"type": "Warning", "message": "Request to promote podinfo.default r2 refused: it is too late"});
    let daemon = tokio::spawn(answer(world.canaries(), "podinfo", refused));
    let output = world.serin(&["promote", "podinfo"]).await;
    tokio::time::timeout(PATIENCE, daemon).await.expect("in time").expect("the daemon answers");
    assert_eq!(output.status.code(), Some(1), "{}", screen(&output));
}

/// A daemon whose lease nobody renews is not waited for, and nothing is left for it to find later.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_of_a_daemon_that_does_not_run() {
    let world = three().await;
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "serin"},
        "spec": {"holderIdentity": "gone", "renewTime": "2026-01-01T00:00:00.000000Z"}});
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(world.client.clone(), "default");
    let lease = serde_json::from_value(lease).expect("a Lease");
    leases.create(&PostParams::default(), &lease).await.expect("the Lease is taken");
    world.source(json!({"branch": "main", "daemon": {"lease": "default/serin"}})).await;
    let output = world.serin(&["abort", "podinfo"]).await;
    assert_eq!(output.status.code(), Some(3), "{}", screen(&output));
    assert!(
        screen(&output).contains("the daemon is not running: its lease was last renewed"),
        "{}",
        screen(&output)
    );
    let canary = world.canaries().get("podinfo").await.expect("the Canary");
    assert!(!canary.annotations().contains_key(REQUEST));
    let why = screen(&world.serin(&["why", "podinfo"]).await);
    assert!(why.contains("Nothing happens to default/podinfo: the daemon is not running"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_is_a_sentence_and_what_it_rests_on() {
    let world = three().await;
    for name in ["podinfo", "failed", "unseen"] {
        insta::assert_snapshot!(format!("why-{name}"), screen(&world.serin(&["why", name]).await));
    }
    assert_eq!(world.serin(&["why", "nobody"]).await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_the_events_of_this_canary_in_their_order() {
    let world = three().await;
    let canary = world.canaries().get("podinfo").await.expect("the Canary");
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(world.client.clone(), "default");
    let uid = canary.uid().expect("a UID");
    for (name, at, message, uid) in [
        ("b", "2026-01-01T00:02:00Z", "second", uid.as_str()),
        ("a", "2026-01-01T00:01:00Z", "first", uid.as_str()),
        ("c", "2026-01-01T00:03:00Z", "of one that was deleted", "00000000-0000-0000-0000-000000000000"),
    ] {
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "type": "Normal",
            "reason": "Synced", "message": message, "lastTimestamp": at, "count": 1, "involvedObject": {
                "kind": "Canary", "name": "podinfo", "namespace": "default", "uid": uid}});
        let event = serde_json::from_value(event).expect("an Event");
        events.create(&PostParams::default(), &event).await.expect("the Event is taken");
    }
    let shown = screen(&world.serin(&["logs", "podinfo"]).await);
    assert_eq!(shown, "exit 0\n----- stdout\n2026-01-01T00:01:00Z  first\n2026-01-01T00:02:00Z  second\n");
}

#[tokio::test]
async fn wait_ends_with_the_release_and_says_how() {
    let world = World::start().await;
    world.canary("good", json!({}), progressing()).await;
    world.canary("bad", json!({}), failed()).await;

    let early = world.serin(&["wait", "good", "--timeout", "1s"]).await;
    assert_eq!(early.status.code(), Some(1), "{}", screen(&early));
    assert!(screen(&early).contains("Progressing 30 %, waits for the analysis window"), "{}", screen(&early));

    let at = "2026-01-01T00:00:00Z";
    let over = json!({"phase": "Succeeded", "canaryWeight": 0, "serin": {"version": 1, "waitingOn": null, "state": {
        "phase": {"name": "idle", "last": "Succeeded", "since": at},
        "promoted": {"revision": revision(NEXT), "at": at}}}});
    let (waited, ()) = tokio::join!(world.serin(&["wait", "good", "--commit", COMMIT]), async {
        world.status("good", over).await;
    });
    assert_eq!(waited.status.code(), Some(0), "{}", screen(&waited));
    assert!(screen(&waited).contains("Succeeded: a6fb26d2"), "{}", screen(&waited));

    let bad = world.serin(&["wait", "bad", "--commit", COMMIT]).await;
    assert_eq!(bad.status.code(), Some(1));
    assert!(screen(&bad).contains("Failed: request-success-rate 51.28% < 99%"), "{}", screen(&bad));
    assert_eq!(world.serin(&["wait", "bad", "--for", "failed"]).await.status.code(), Some(0));
    assert_eq!(world.serin(&["wait", "nobody"]).await.status.code(), Some(2));
}
