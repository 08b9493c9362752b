//! Objects that others wrote before: kubectl, client and server side, Flux, Helm, Argo CD. What Git drops goes.

use pretty_assertions::assert_eq;
use serin::api::annotations::SOURCE;
use serin::api::managed_fields::entries;

use super::*;

/// An object as somebody wrote it once: what Git says and more.
fn before() -> [Value; 3] {
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ledger", "namespace": "test"},
            "spec": {"selector": {"app": "ledger"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "ledger", "namespace": "test",
            "annotations": {"team": "payments", "on-call": "yes"}},
            "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "ledger"}},
            "template": {"metadata": {"labels": {"app": "ledger"}}, "spec": {"nodeSelector": {"disk": "ssd", "zone": "a"},
                "containers": [{"name": "main", "image": "podinfo:1", "env": [{"name": "MODE", "value": "safe"},
                    {"name": "DEBUG", "value": "1"}], "ports": [{"name": "http", "containerPort": 8080}]},
                    {"name": "sidecar", "image": "podinfo:1"}]}}}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ledger", "namespace": "test"},
            "data": {"a": "1", "old": "2"}}),
    ]
}

const AFTER: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: ledger, namespace: test}\nspec:\n  selector: {app: \
    ledger}\n  ports: [{name: http, port: 8080, targetPort: 9090}]\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: \
    {name: ledger, namespace: test, annotations: {team: payments}}\nspec:\n  selector: {matchLabels: {app: ledger}}\n  \
    template:\n    metadata: {labels: {app: ledger}}\n    spec:\n      nodeSelector: {disk: ssd}\n      containers:\n      - \
    {name: main, image: \"podinfo:1\", env: [{name: MODE, value: safe}], ports: [{name: http, containerPort: 9090}]}\n---\n\
    apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ledger, namespace: test}\ndata: {a: \"1\"}\n";

/// How somebody writes.
#[derive(Debug, Clone, Copy)]
enum By {
    /// Server-side apply.
    Apply(&'static str),
    /// A create, as clients that patch do.
    Create(&'static str),
}

impl World {
    async fn written(&self, object: &Value, by: By) {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let group = if kind == "Deployment" { "apps" } else { "" };
        let api = self.resource(group, "v1", kind, "test").await;
        let mut object = object.clone();
        match by {
            By::Apply(manager) => {
                let params = PatchParams::apply(manager).force();
                api.patch(name, &params, &Patch::Apply(object)).await.unwrap();
            }
            By::Create(manager) => {
                object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] =
                    json!("{}");
                let params = PostParams { field_manager: Some(manager.into()), ..PostParams::default() };
                api.create(&params, &serde_json::from_value(object).unwrap()).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn what_others_applied_is_taken_over_whole_and_what_git_drops_goes() {
    for by in [
        By::Create("kubectl-client-side-apply"),
        By::Apply("kubectl"),
        By::Apply("kustomize-controller"),
        By::Create("helm"),
        By::Apply("argocd-controller"),
        By::Create("some-pipeline"),
    ] {
        let mut world = World::new().await;
        world.repository.push(&[("app.yaml", NAMESPACE)]);
        world.start();
        world.until("the first sync", |status| status.synced).await;
        for object in before() {
            world.written(&object, by).await;
        }
        let status = world.push(&[("app.yaml", &[NAMESPACE, AFTER].concat())]).await;
        assert_eq!(status.conditions, BTreeMap::new(), "{by:?}");
        let (By::Apply(manager) | By::Create(manager)) = by;
        assert!(status.changes.iter().all(|change| change.contains(manager)), "{:?}", status.changes);

        let service = world.get("Service", "ledger").await.unwrap();
        let ports: Vec<_> =
            service["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["port"]).collect();
        assert_eq!(ports, [&json!(8080)], "{by:?}");
        assert_eq!(world.get("ConfigMap", "ledger").await.unwrap()["data"], json!({"a": "1"}), "{by:?}");
        let deployment = world.get("Deployment", "ledger").await.unwrap();
        let spec = &deployment["spec"]["template"]["spec"];
        assert_eq!(spec["nodeSelector"], json!({"disk": "ssd"}), "{by:?}");
        let containers = spec["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1, "{by:?}");
        assert_eq!(containers[0]["env"], json!([{"name": "MODE", "value": "safe"}]), "{by:?}");
        assert_eq!(containers[0]["ports"].as_array().unwrap().len(), 1, "{by:?}");
        assert_eq!(
            deployment["metadata"]["annotations"],
            json!({"team": "payments", SOURCE: "default/test"}),
            "{by:?}"
        );
        assert_eq!(deployment["spec"]["replicas"], 4, "a size that Git does not name is nobody's to drop: {by:?}");

        // Settled: nothing is written again.
        world.effects.take();
        world.resync.ring();
        world.push(&[("app.yaml", &[NAMESPACE, AFTER, "# again\n"].concat())]).await;
        let effects = world.effects.take();
        assert!(effects.iter().all(|effect| effect.starts_with("Inventory")), "{by:?}: {effects:?}");
    }
}

#[tokio::test]
async fn somebody_who_writes_again_is_refused_by_name_and_kubectl_is_put_right() {
    let mut world = World::new().await;
    world.repository.push(&[("app.yaml", &[NAMESPACE, AFTER].concat())]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let [_, _, config] = before();
    world.written(&config, By::Apply("kustomize-controller")).await;
    let api = world.resource("apps", "v1", "Deployment", "test").await;
    let edit = json!({"spec": {"template": {"spec": {"nodeSelector": {"added": "by-hand"}}}}});
    let by_hand = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
    api.patch("ledger", &by_hand, &Patch::Merge(edit)).await.unwrap();
    world.resync.ring();
    let status = world.until("the refusal", |status| !status.conditions.is_empty()).await;
    let (id, words) = status.conditions.iter().next().unwrap();
    assert_eq!((id.kind.as_str(), status.conditions.len()), ("ConfigMap", 1), "{status:#?}");
    assert!(words.contains("kustomize-controller (Flux) writes it again after it was taken over"), "{words}");
    let deployment = world.get("Deployment", "ledger").await.unwrap();
    assert_eq!(deployment["spec"]["template"]["spec"]["nodeSelector"], json!({"disk": "ssd"}));
}

#[tokio::test]
async fn a_key_of_string_data_that_git_drops_goes() {
    let secret = |keys: &str| {
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: creds, namespace: test}}\nstringData: {{{keys}}}\n"
        )
    };
    for by_kubectl in [false, true] {
        let mut world = World::new().await;
        world.repository.push(&[("app.yaml", NAMESPACE)]);
        world.start();
        world.until("the first sync", |status| status.synced).await;
        if by_kubectl {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "creds", "namespace": "test"},
                "stringData": {"user": "bob", "old": "x"}});
            world.written(&secret, By::Create("kubectl-client-side-apply")).await;
        } else {
            world.push(&[("app.yaml", &[NAMESPACE, &secret("user: bob, old: remove-me")].concat())]).await;
        }
        world.push(&[("app.yaml", &[NAMESPACE, &secret("user: bob")].concat())]).await;
        assert_eq!(world.get("Secret", "creds").await.unwrap()["data"], json!({"user": "Ym9i"}), "{by_kubectl}");
    }
}

#[tokio::test]
async fn recreate_replaces_a_rolling_update_that_the_server_filled_in() {
    let mut world = World::new().await;
    let with = |strategy: &str| deployment("1").replace("  replicas: 3\n", &format!("  replicas: 3\n{strategy}"));
    world.repository.push(&[("app.yaml", &[NAMESPACE, &with("")].join("---\n"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    for strategy in ["  strategy: {type: Recreate}\n", "", "  strategy: {type: Recreate, rollingUpdate: null}\n"] {
        let status = world.push(&[("app.yaml", &[NAMESPACE, &with(strategy)].join("---\n"))]).await;
        assert_eq!(status.conditions, BTreeMap::new(), "{strategy}");
        let live = world.get("Deployment", "podinfo").await.unwrap();
        let kind = if strategy.is_empty() { "RollingUpdate" } else { "Recreate" };
        assert_eq!(live["spec"]["strategy"]["type"], kind);
        assert!(entries(&live).any(|entry| entry.manager() == "serin" && entry.is_apply()));
    }
}
