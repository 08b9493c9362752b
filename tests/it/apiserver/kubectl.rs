//! The real kubectl against a served socket. Without kubectl these are skipped, and say so.
//!
//! `SERIN_KUBECTL` names another binary, so that several versions can be tried.

use std::path::PathBuf;
use std::process::Output;

use serin::sandbox::apiserver::ApiServer;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::PATIENCE;

/// A served API server and the kubectl that talks to it.
struct Kubectl {
    binary: PathBuf,
    home: TempDir,
    _server: DropGuard,
}

const DEPLOYMENT: &str = include_str!("podinfo.yaml");

impl Kubectl {
    /// `None`, with a message, if there is no kubectl.
    async fn start() -> Option<Self> {
        let binary = find()?;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let home = TempDir::new().unwrap();
        std::fs::write(home.path().join("config"), ApiServer::kubeconfig(&url)).unwrap();
        let shutdown = CancellationToken::new();
        let guard = shutdown.clone().drop_guard();
        tokio::spawn(async move { ApiServer::new().serve(listener, shutdown).await });
        Some(Self { binary, home, _server: guard })
    }

    async fn output(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(&self.binary)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("config"))
            // Rewrites what `edit` opens.
            .env("EDITOR", "sed -i -e s#stefanprodan/podinfo:.*#example.com/podinfo:edited#")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // kubectl may leave before it has read everything.
        drop(stdin.write_all(input.as_bytes()).await);
        drop(stdin);
        tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("kubectl hangs").unwrap()
    }

    /// Runs a command that must succeed; returns what it printed.
    async fn run(&self, arguments: &[&str]) -> String {
        self.run_with(arguments, "").await
    }

    async fn run_with(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail; returns what it said.
    async fn refused(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input).await;
        assert!(!output.status.success(), "kubectl {arguments:?} was not refused");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("SERIN_KUBECTL") {
        return Some(PathBuf::from(named));
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|path| path.join("kubectl")).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: no kubectl in PATH (set SERIN_KUBECTL to name one)");
    }
    found
}

#[tokio::test]
async fn applies_diffs_and_shows_a_deployment() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.run(&["create", "namespace", "test"]).await;
    let created = kubectl.run_with(&["apply", "-f", "-"], DEPLOYMENT).await;
    assert_eq!(created, "deployment.apps/podinfo created\nservice/podinfo created\n");
    let again = kubectl.run_with(&["apply", "-f", "-"], DEPLOYMENT).await;
    assert_eq!(again, "deployment.apps/podinfo unchanged\nservice/podinfo unchanged\n");

    let newer = DEPLOYMENT.replace("3.1.0", "3.1.1");
    let diff = kubectl.output(&["diff", "-f", "-"], &newer).await;
    assert_eq!(diff.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&diff.stdout).contains("+        image: stefanprodan/podinfo:3.1.1"));
    kubectl.run_with(&["apply", "-f", "-"], &newer).await;
    let refused = kubectl.refused(&["apply", "--server-side", "-f", "-"], DEPLOYMENT).await;
    assert!(refused.contains("conflict with \"kubectl-client-side-apply\""), "{refused}");
    kubectl.run_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], DEPLOYMENT).await;

    let wide = kubectl.run(&["get", "deploy", "-n", "test", "-o", "wide"]).await;
    let cells: Vec<&str> = wide.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(cells[..4], ["podinfo", "0/1", "0", "0"]);
    assert_eq!(cells[5..], ["podinfod", "stefanprodan/podinfo:3.1.0", "app=podinfo"]);
    let listed = kubectl
        .run(&["get", "all", "-A", "-l", "app=podinfo", "--chunk-size=1", "--no-headers", "-o", "name"])
        .await;
    assert_eq!(listed, "deployment.apps/podinfo\n");
}

#[tokio::test]
async fn takes_back_what_it_listed_and_names_versions_that_are_gone() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.run(&["create", "namespace", "test"]).await;
    kubectl.run_with(&["apply", "-f", "-"], DEPLOYMENT).await;
    let list = kubectl.run(&["get", "deploy,service", "-n", "test", "-o", "json"]).await;
    let applied = kubectl.run_with(&["apply", "-f", "-"], &list).await;
    assert_eq!(applied, "deployment.apps/podinfo configured\nservice/podinfo configured\n");

    let gone = "apiVersion: autoscaling/v2beta2\nkind: HorizontalPodAutoscaler\nmetadata: {name: a}\n";
    let refused = kubectl.refused(&["apply", "-f", "-"], gone).await;
    assert!(refused.contains("no matches for kind \"HorizontalPodAutoscaler\" in version"), "{refused}");
}

#[tokio::test]
async fn changes_a_deployment_in_every_way() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.run(&["create", "namespace", "test"]).await;
    kubectl.run_with(&["create", "-f", "-"], DEPLOYMENT).await;
    let in_test = |arguments: &[&str]| -> Vec<String> {
        ["-n", "test"].iter().chain(arguments).map(|argument| (*argument).to_owned()).collect()
    };
    let strategic =
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"podinfod","env":[{"name":"A","value":"1"}]}]}}}}"#;
    let json = r#"[{"op":"replace","path":"/spec/minReadySeconds","value":7}]"#;
    for arguments in [
        &["set", "image", "deploy/podinfo", "podinfod=example.com/podinfo:2"][..],
        &["scale", "deploy/podinfo", "--replicas=3"],
        &["label", "deploy/podinfo", "a=b"],
        &["annotate", "deploy/podinfo", "c=d"],
        &["patch", "deploy/podinfo", "-p", strategic],
        &["patch", "deploy/podinfo", "--type=json", "-p", json],
        &["patch", "deploy/podinfo", "--type=merge", "-p", r#"{"spec":{"paused":true}}"#],
        &["rollout", "history", "deploy/podinfo"],
        &["wait", "--for=jsonpath={.spec.replicas}=3", "deploy/podinfo", "--timeout=10s"],
    ] {
        let arguments = in_test(arguments);
        kubectl.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let path = "{.metadata.labels.a} {.metadata.annotations.c} {.spec.replicas} {.spec.minReadySeconds} {.spec.paused} \
                {.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].env[0].name}";
    let shown = kubectl.run(&["get", "deploy", "podinfo", "-n", "test", "-o", &format!("jsonpath={path}")]).await;
    assert_eq!(shown, "b d 3 7 true example.com/podinfo:2 A");

    kubectl.run(&["set", "image", "-n", "test", "deploy/podinfo", "podinfod=stefanprodan/podinfo:3"]).await;
    kubectl.run(&["edit", "-n", "test", "deploy/podinfo"]).await;
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    let edited = kubectl.run(&["get", "deploy", "podinfo", "-n", "test", "-o", image]).await;
    assert_eq!(edited, "example.com/podinfo:edited");
    kubectl.run(&["delete", "deploy/podinfo", "-n", "test", "--wait"]).await;
    let gone = kubectl.refused(&["get", "deploy/podinfo", "-n", "test"], "").await;
    assert!(gone.contains("(NotFound)"), "{gone}");
}

#[tokio::test]
async fn describes_and_explains() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.run(&["create", "namespace", "test"]).await;
    kubectl.run_with(&["apply", "-f", "-"], DEPLOYMENT).await;
    let event = r#"{"apiVersion":"v1","kind":"Event","metadata":{"name":"podinfo.1","namespace":"test"},
        "involvedObject":{"apiVersion":"apps/v1","kind":"Deployment","name":"podinfo","namespace":"test",
        "uid":"UID"},
        "type":"Normal","reason":"Synced","message":"New revision detected!","count":1,
        "firstTimestamp":"2026-01-01T00:00:00Z","lastTimestamp":"2026-01-01T00:00:00Z","source":{"component":"serin"}}"#;
    // kubectl asks for the events of this very object.
    let uid = kubectl.run(&["get", "deploy/podinfo", "-n", "test", "-o", "jsonpath={.metadata.uid}"]).await;
    kubectl.run_with(&["create", "-f", "-"], &event.replace("UID", &uid)).await;
    let described = kubectl.run(&["describe", "deploy", "podinfo", "-n", "test"]).await;
    assert!(described.contains("RollingUpdateStrategy:  25% max unavailable, 25% max surge"), "{described}");
    assert!(described.contains("New revision detected!"), "{described}");
    // The new API's view of the same event.
    assert!(kubectl.run(&["get", "events.events.k8s.io", "-n", "test"]).await.contains("deployment/podinfo"));

    let explained = kubectl.run(&["explain", "deployment.spec.strategy.rollingUpdate"]).await;
    assert!(explained.contains("maxSurge"), "{explained}");
    assert!(kubectl.run(&["api-resources", "--no-headers"]).await.contains("horizontalpodautoscalers"));
    let versions = kubectl.run(&["api-versions"]).await;
    assert!(versions.contains("autoscaling/v2\n") && !versions.contains("v2beta2"), "{versions}");
    assert_eq!(kubectl.run(&["auth", "can-i", "create", "deployments"]).await, "yes\n");
}

#[tokio::test]
async fn refuses_what_a_real_server_refuses() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let nowhere = kubectl.refused(&["apply", "-f", "-"], DEPLOYMENT).await;
    assert!(nowhere.contains("namespaces \"test\" not found"), "{nowhere}");
    kubectl.run(&["create", "namespace", "test"]).await;
    let misspelt = DEPLOYMENT.replace("minReadySeconds", "minReadySecond");
    let strict = kubectl.refused(&["apply", "-f", "-"], &misspelt).await;
    assert!(strict.contains("unknown field \"spec.minReadySecond\""), "{strict}");
    let mismatch = DEPLOYMENT.replace("labels: {app: podinfo}", "labels: {app: other}");
    let invalid = kubectl.refused(&["create", "-f", "-"], &mismatch).await;
    assert!(invalid.contains("`selector` does not match template `labels`"), "{invalid}");
    kubectl.run(&["create", "deployment", "web", "--image=nginx", "-n", "test"]).await;
    let dry = kubectl.run(&["create", "configmap", "c", "-n", "test", "--dry-run=server", "-o", "name"]).await;
    assert_eq!(dry, "configmap/c\n");
    assert!(kubectl.refused(&["get", "configmap/c", "-n", "test"], "").await.contains("(NotFound)"));
}
