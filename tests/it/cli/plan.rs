//! `serin plan`: what it says, and with which exit code, against the embedded API server and a real repository.

use std::process::Output;

use serde_json::{Value, json};

use super::get::World;
use super::{screen, serin};
use crate::git::world::World as Repository;

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: \"1\"}\n";

fn plan(world: &World, repository: &Repository, args: &[&str]) -> Output {
    let bare = repository.bare();
    let output = serin(world.dir.path())
        .args(["plan", "--cluster-name", "c1", "--git-url", bare.to_str().expect("a path")])
        .args(["--kubeconfig", world.kubeconfig.to_str().expect("a path")])
        .args(args)
        .output();
    output.expect("serin can be started")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_told_in_words_and_as_data_and_changes_nothing() {
    let (world, repository) = (World::start().await, Repository::new(&[("app.yaml", CONFIG)]));
    let plan = |args: &[&str]| plan(&world, &repository, args);
    let short = repository.tip("main").expect("a tip").short().to_owned();
    let shown = screen(&plan(&[]));
    assert_eq!(
        shown,
        format!("exit 1\n----- stdout\nmain@{short}: 1 to create\n+ ConfigMap default/settings: create\n")
    );
    let data: Value = serde_json::from_slice(&plan(&["-o", "json"]).stdout).expect("JSON");
    assert_eq!(data["changes"][0]["action"], "create");
    assert_eq!(data["changes"][0]["origin"], "app.yaml:1");
    let markdown = screen(&plan(&["-o", "markdown"]));
    assert!(markdown.contains("| create | ConfigMap default/settings | create |"), "{markdown}");
    // Another branch, with something that nobody takes.
    repository.git(&["checkout", "-q", "-b", "next"]);
    std::fs::write(repository.clone_dir().join("bad.yaml"), CONFIG.replace("settings", "B_d")).expect("a file");
    repository.git(&["add", "-A"]);
    repository.git(&["commit", "-q", "-m", "Next"]);
    repository.git(&["push", "-q", "origin", "next"]);
    let next = plan(&["--ref", "next"]);
    assert_eq!(next.status.code(), Some(2), "{}", screen(&next));
    assert!(screen(&next).contains("! refused: ConfigMap default/B_d: "), "{}", screen(&next));
    assert_eq!(plan(&["--ref", "gone"]).status.code(), Some(3));
    assert_eq!(plan(&["--path", "nowhere"]).status.code(), Some(3));
    // Nothing of it is in the cluster, and with nothing to do the exit code is 0.
    let empty = screen(&plan(&[]));
    assert_eq!(empty, shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_failed_before_is_no_release_to_come() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: podinfo}\nspec:\n  selector: {matchLabels: {app: podinfo}}\n  \
        template:\n    metadata: {labels: {app: podinfo}}\n    spec: {containers: [{name: app, image: \"example.com/podinfo:3.1.2\"}]}\n";
    let (world, repository) = (World::start().await, Repository::new(&[("app.yaml", deployment)]));
    let at = "2026-01-01T00:00:00Z";
    let state = |quarantine: Value| {
        let promoted = json!({"revision": "v1:7d95c042000000000000", "at": at});
        json!({"phase": "Failed", "canaryWeight": 0, "serin": {"version": 1, "state": {
            "phase": {"name": "idle", "last": "Failed", "since": at}, "promoted": promoted, "quarantine": quarantine}}})
    };
    world.canary("podinfo", json!({}), state(json!([]))).await;
    world.deployment("podinfo", "3.1.1", 2, json!({})).await;
    let plan = |args: &[&str]| plan(&world, &repository, args);
    let first = plan(&["-o", "json"]);
    assert_eq!(first.status.code(), Some(1), "{}", screen(&first));
    let data: Value = serde_json::from_slice(&first.stdout).expect("JSON");
    let revision = data["changes"][0]["release"]["revision"].as_str().expect("a release").to_owned();
    world.status("podinfo", state(json!([{"revision": revision, "release": "2-bd65045b"}]))).await;
    let again = plan(&[]);
    let shown = screen(&again);
    assert_eq!(again.status.code(), Some(2), "{shown}");
    assert!(shown.contains("! refused: Deployment default/podinfo: "), "{shown}");
    assert!(shown.contains("failed before") && shown.contains("`serin retry podinfo -n default`"), "{shown}");
}
