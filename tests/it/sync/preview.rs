//! A plan says what a pass does, and does nothing.

use serin::sync::{Action, Planned, Preview, PreviewContext, Reason, preview};

use super::*;

impl World {
    /// What these files would change.
    async fn plan(&self, files: &[(&str, &str)]) -> Preview {
        let files = files.iter().map(|(path, text)| (*path, *text, *text));
        let content = Content::parse(commit(99), files, &mut DocumentCache::default());
        let canary = NamespacedName::new("test", "podinfo");
        let context = PreviewContext {
            cluster: self.direct.clone(),
            content: Arc::new(content),
            judge: |_, spec| spec.analysis.iterations.map(|count| format!("{count} iterations are too many")),
            source: NamespacedName::new("default", "test"),
            only_namespace: None,
            selector_labels: vec!["app".into()],
            canaries: vec![(canary, "podinfo".into(), "podinfo".into())],
        };
        let before = self.server.requests().snapshot();
        let preview = preview(context).await.unwrap();
        let since = self.server.requests().snapshot().since(&before);
        assert_eq!(
            since.total(|key| matches!(key.verb.as_str(), "create" | "update" | "delete")),
            0,
            "{since:#?}"
        );
        preview
    }
}

fn told(preview: &Preview) -> Vec<String> {
    let line = |planned: &Planned| {
        let release = planned.release.as_ref().map(|release| format!(" [{}]", release.reason.as_str()));
        format!("{} {}: {}{}", planned.action.as_str(), planned.id, planned.words, release.unwrap_or_default())
    };
    preview.changes.iter().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn a_plan_names_what_a_pass_then_does() {
    let mut world = World::new().await;
    let base = [NAMESPACE, CANARY].join("---\n");
    let first = [deployment("1"), config("a", "1"), config("goes", "1")].join("---\n");
    // Nothing is there yet, not even the namespace.
    let empty = world.plan(&[("base.yaml", &base), ("app.yaml", &first)]).await;
    assert_eq!(empty.status.conditions, BTreeMap::new());
    assert!(empty.changes.iter().all(|planned| planned.action == Action::Create), "{:?}", told(&empty));
    assert_eq!(empty.changes.len(), 5);
    assert!(world.get("ConfigMap", "a").await.is_none());

    world.repository.push(&[("base.yaml", &base), ("app.yaml", &first)]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    world.canary_status(json!({"phase": "Initialized", "canaryWeight": 0})).await;
    let same = world.plan(&[("base.yaml", &base), ("app.yaml", &first)]).await;
    assert_eq!((told(&same), same.status.problems.len()), (Vec::new(), 0));

    // Of another kind: a ConfigMap might be the new name of the one that goes.
    let misspelt = config("bad", "1").replace("ConfigMap", "Secret").replace("\ndata:", "\ndat:");
    let second = [deployment("2"), config("a", "2"), config("new", "1"), misspelt].join("---\n");
    let files = [("base.yaml", base.as_str()), ("app.yaml", second.as_str())];
    let plan = world.plan(&files).await;
    let expected = [
        "configure ConfigMap test/a: data.key 1 -> 2",
        "create ConfigMap test/new: create",
        "release Deployment test/podinfo: image 1 -> 2: progressive release [image]",
        "prune ConfigMap test/goes: it is gone from Git",
    ];
    assert_eq!(told(&plan), expected);
    assert_eq!(plan.changes[2].origin.as_deref(), Some("app.yaml:1"));
    let refused: Vec<String> = plan.status.conditions.keys().map(ToString::to_string).collect();
    assert_eq!(refused, ["Secret test/bad"]);
    // Nothing of it has happened, and the pass does it.
    assert_eq!((world.image().await.as_str(), world.get("ConfigMap", "new").await), ("podinfo:1", None));
    let status = world.push(&files).await;
    let done: Vec<String> = plan.changes.iter().map(|planned| planned.id.to_string()).collect();
    assert!(
        done.iter().all(|id| status.changes.iter().any(|change| change.starts_with(id.as_str()))),
        "{status:?}"
    );
    assert_eq!(status.changes.len(), done.len());
}

#[tokio::test(start_paused = true)]
async fn a_release_is_told_with_its_reason_and_what_it_waits_for() {
    let mut world = World::new().await;
    let base = [NAMESPACE, CANARY].join("---\n");
    world.repository.push(&[("base.yaml", &base), ("app.yaml", &deployment("1"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    world.canary_status(json!({"phase": "Initialized", "canaryWeight": 0})).await;
    let reason = |plan: &Preview| plan.changes[0].release.as_ref().map(|release| release.reason);
    let more = deployment("2").replace("name: podinfod,", "name: podinfod, env: [{name: A, value: b}],");
    let plan = world.plan(&[("base.yaml", &base), ("app.yaml", &more)]).await;
    assert_eq!(reason(&plan), Some(Reason::Template), "{:?}", told(&plan));
    let sized = deployment("1").replace("replicas: 3", "replicas: 5");
    let plan = world.plan(&[("base.yaml", &base), ("app.yaml", &sized)]).await;
    assert_eq!((plan.changes[0].action, reason(&plan)), (Action::Configure, None), "replicas only");
    // While a release is under way it would be announced.
    world.canary_status(json!({"phase": "Progressing", "canaryWeight": 30})).await;
    let plan = world.plan(&[("base.yaml", &base), ("app.yaml", &deployment("3"))]).await;
    assert_eq!(plan.changes[0].action, Action::Release, "{:?}", told(&plan));
    let result = &plan.changes[0].release.as_ref().unwrap().result;
    assert!(matches!(result, api::TargetResult::Announced { .. }), "{result:?}");
    assert_eq!(world.annotation(PENDING).await, None);
    // What would be too much at once is not planned to go.
    let dropped = world.plan(&[("base.yaml", NAMESPACE)]).await;
    assert!(dropped.changes.is_empty() || dropped.changes.iter().all(|it| it.action == Action::Prune));
}

#[tokio::test(start_paused = true)]
async fn who_owns_a_field_is_no_difference_that_a_plan_tells() {
    let mut world = World::new().await;
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: podinfo, namespace: test}\nspec:\n  selector: {app: podinfo}\n  \
        ports: [{name: http, port: 9898, targetPort: 9898}]\n";
    let text = [NAMESPACE, CANARY, &deployment("1"), service].join("---\n");
    world.start();
    world.push(&[("app.yaml", &text)]).await;
    world.canary_status(json!({"phase": "Initialized", "canaryWeight": 0})).await;
    // The engine takes what is its own, as it does once there is a primary.
    let taken = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "podinfo"}, "spec": {
        "selector": {"app": "podinfo-primary"}, "ports": [{"name": "http", "port": 9898, "protocol": "TCP", "targetPort": 9898}]}});
    let params = kube::api::PatchParams::apply(serin::api::annotations::MANAGER_ENGINE).force();
    let services: kube::Api<k8s_openapi::api::core::v1::Service> =
        kube::Api::namespaced(world.direct.client(), "test");
    services.patch("podinfo", &params, &kube::api::Patch::Apply(&taken)).await.unwrap();
    let plan = world.plan(&[("app.yaml", &text)]).await;
    assert_eq!(told(&plan), Vec::<String>::new());
}
