//! Create, read, update, delete; defaults and validation of built-in kinds.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use serin::sandbox::apiserver::ApiServer;

use super::{config, configs, deployment, deployments, refusal, typed};

#[tokio::test]
async fn creates_reads_updates_and_deletes() {
    let client = ApiServer::new().client();
    let api = configs(&client);
    let created = api.create(&PostParams::default(), &config("a", "1")).await.unwrap();
    assert!(created.metadata.uid.is_some());
    assert!(refusal(api.create(&PostParams::default(), &config("a", "1")).await).is_already_exists());

    let mut changed = created.clone();
    changed.data = config("a", "2").data;
    let updated = api.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_ne!(updated.metadata.resource_version, created.metadata.resource_version);
    assert!(refusal(api.replace("a", &PostParams::default(), &changed).await).is_conflict());
    let again = api.replace("a", &PostParams::default(), &updated).await.unwrap();
    assert_eq!(again.metadata.resource_version, updated.metadata.resource_version, "no change, no write");

    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn namespaces_decide_what_they_take() {
    let client = ApiServer::new().client();
    let nowhere: Api<ConfigMap> = Api::namespaced(client.clone(), "nowhere");
    assert!(refusal(nowhere.create(&PostParams::default(), &config("a", "1")).await).is_not_found());

    let spaces: Api<Namespace> = Api::all(client.clone());
    assert!(spaces.get("kube-system").await.unwrap().metadata.uid.is_some());
    spaces.create(&PostParams::default(), &typed(json!({"metadata": {"name": "doomed"}}))).await.unwrap();
    spaces.delete("doomed", &DeleteParams::default()).await.unwrap();
    let doomed: Api<ConfigMap> = Api::namespaced(client, "doomed");
    let refused = refusal(doomed.create(&PostParams::default(), &config("a", "1")).await);
    assert!(refused.is_forbidden() && refused.message.contains("because it is being terminated"));
    assert!(refusal(spaces.delete("default", &DeleteParams::default()).await).is_forbidden());
}

#[tokio::test]
async fn claims_are_volumes_and_accounts_have_namespaces() {
    let client = ApiServer::new().client();
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), "default");
    let container = json!({"name": "a", "image": "a:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let mut set = json!({"metadata": {"name": "a"}, "spec": {"serviceName": "a", "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [container]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}]}});
    sets.create(&PostParams::default(), &typed(set.clone())).await.unwrap();
    set["metadata"]["name"] = json!("b");
    set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] = json!("other");
    let refused = refusal(sets.create(&PostParams::default(), &typed(set)).await);
    assert!(refused.message.contains("volumeMounts[0].name"), "{}", refused.message);

    let bindings: Api<ClusterRoleBinding> = Api::all(client);
    let binding = json!({"metadata": {"name": "system:a"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole", "name": "a"}, "subjects": [{"kind": "ServiceAccount", "name": "a"}]});
    let refused = refusal(bindings.create(&PostParams::default(), &typed(binding)).await);
    assert!(refused.message.contains("subjects[0].namespace: Required value"), "{}", refused.message);
}

#[tokio::test]
async fn defaults_are_those_of_a_real_server() {
    let client = ApiServer::new().client();
    let created =
        deployments(&client).create(&PostParams::default(), &typed(deployment("web", "nginx"))).await.unwrap();
    let spec = serde_json::to_value(created.spec).unwrap();
    let expected = json!({
        "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
        "selector": {"matchLabels": {"app": "web"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [{
                    "name": "app", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"
                }],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "securityContext": {}, "terminationGracePeriodSeconds": 30
            }
        }
    });
    assert_eq!(spec, expected);

    let services: Api<Service> = Api::namespaced(client, "default");
    let plain = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    let service = services.create(&PostParams::default(), &typed(plain)).await.unwrap();
    let spec = serde_json::to_value(service.spec).unwrap();
    assert_eq!(spec["ports"], json!([{"port": 80, "targetPort": 80, "protocol": "TCP"}]));
    assert_eq!(spec["clusterIPs"], json!([spec["clusterIP"]]));
    assert_eq!((&spec["type"], &spec["sessionAffinity"]), (&json!("ClusterIP"), &json!("None")));
}

/// A manifest, changed, and what is wrong with it.
#[tokio::test]
async fn invalid_objects_are_refused_by_field() {
    let api = deployments(&ApiServer::new().client());
    let cases: &[(&str, Value, &str)] = &[
        ("/spec/replicas", json!(-1), "spec.replicas: Invalid value: -1"),
        (
            "/spec/template/metadata/labels",
            json!({"app": "other"}),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match",
        ),
        ("/spec/selector", json!({}), "spec.selector: Invalid value: {}: empty selector is invalid"),
        ("/spec/template/spec/containers", json!([]), "spec.template.spec.containers: Required value"),
        (
            "/spec/template/spec/containers/0/ports/0/containerPort",
            json!(70_000),
            "spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 70000",
        ),
        ("/metadata/name", json!("Not_A_Name"), "metadata.name: Invalid value: \"Not_A_Name\""),
    ];
    for (pointer, value, expected) in cases {
        let mut manifest = deployment("web", "nginx");
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        manifest.pointer_mut(parent).unwrap()[field] = value.clone();
        let refused = refusal(api.create(&PostParams::default(), &typed(manifest)).await);
        assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"), "{pointer}");
        assert!(refused.message.contains(expected), "{}", refused.message);
    }
}

#[tokio::test]
async fn selectors_and_cluster_ips_do_not_change() {
    let client = ApiServer::new().client();
    let api = deployments(&client);
    api.create(&PostParams::default(), &typed(deployment("web", "nginx"))).await.unwrap();
    let change = json!({"spec": {
        "selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": {"app": "x"}}}
    }});
    let refused = refusal(api.patch("web", &PatchParams::default(), &Patch::Merge(change)).await);
    assert!(refused.message.contains("spec.selector") && refused.message.contains("field is immutable"));

    let services: Api<Service> = Api::namespaced(client, "default");
    let plain = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    let created = services.create(&PostParams::default(), &typed(plain.clone())).await.unwrap();
    let replaced = services.replace("web", &PostParams::default(), &typed(plain)).await.unwrap();
    assert_eq!(created.spec.unwrap().cluster_ip, replaced.spec.unwrap().cluster_ip, "kept when left out");
}

#[tokio::test]
async fn spec_and_status_are_written_apart() {
    let api = deployments(&ApiServer::new().client());
    api.create(&PostParams::default(), &typed(deployment("web", "nginx"))).await.unwrap();
    let both = json!({"spec": {"replicas": 3}, "status": {"replicas": 3}});
    let main = api.patch("web", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert_eq!(main.metadata.generation, Some(2));
    assert_eq!(main.status.and_then(|status| status.replicas), None, "status is not the main resource's");
    let more = json!({"spec": {"replicas": 9}, "status": {"replicas": 3}});
    let status = api.patch_status("web", &PatchParams::default(), &Patch::Merge(more)).await.unwrap();
    assert_eq!(status.metadata.generation, Some(2));
    assert_eq!(status.spec.and_then(|spec| spec.replicas), Some(3), "spec is not the status's");
    let scale = json!({"spec": {"replicas": 5}});
    let scaled = api.patch_scale("web", &PatchParams::default(), &Patch::Merge(scale)).await.unwrap();
    assert_eq!(scaled.spec.and_then(|spec| spec.replicas), Some(5));
    assert_eq!(scaled.status.and_then(|status| status.selector).as_deref(), Some("app=web"));
    assert_eq!(api.get("web").await.unwrap().metadata.generation, Some(3));
}

#[tokio::test]
async fn finalizers_and_propagation_hold_objects() {
    let api = deployments(&ApiServer::new().client());
    let created = api.create(&PostParams::default(), &typed(deployment("web", "nginx"))).await.unwrap();
    let wrong =
        DeleteParams::default().preconditions(Preconditions { uid: Some("other".into()), resource_version: None });
    assert!(refusal(api.delete("web", &wrong).await).is_conflict());
    let foreground =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    api.delete("web", &foreground).await.unwrap();
    let held = api.get("web").await.unwrap();
    assert_eq!(held.metadata.finalizers.as_deref(), Some(&["foregroundDeletion".to_owned()][..]));
    assert!(held.metadata.deletion_timestamp.is_some() && held.metadata.uid == created.metadata.uid);
    let more = json!({"metadata": {"finalizers": ["foregroundDeletion", "example.com/late"]}});
    assert_eq!(refusal(api.patch("web", &PatchParams::default(), &Patch::Merge(more)).await).code, 422);
    let free = json!({"metadata": {"finalizers": null}});
    api.patch("web", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    assert!(api.get_opt("web").await.unwrap().is_none());
}

#[tokio::test]
async fn pods_on_a_node_end_when_their_kubelet_says_so() {
    let client = ApiServer::new().client();
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let pod = json!({
        "metadata": {"generateName": "p-"}, "spec": {"nodeName": "n", "containers": [{"name": "a", "image": "b:1"}]}
    });
    let name = pods.create(&PostParams::default(), &typed(pod)).await.unwrap().metadata.name.unwrap();
    assert!(name.starts_with("p-"));
    pods.delete(&name, &DeleteParams::default()).await.unwrap();
    assert_eq!(pods.get(&name).await.unwrap().metadata.deletion_grace_period_seconds, Some(30));
    pods.delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(pods.get_opt(&name).await.unwrap().is_none());
}

#[tokio::test]
async fn dry_runs_change_nothing() {
    let api = configs(&ApiServer::new().client());
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&dry, &config("a", "1")).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn lists_in_chunks_from_one_snapshot() {
    let api = configs(&ApiServer::new().client());
    for name in ["a", "b", "c"] {
        api.create(&PostParams::default(), &config(name, "1")).await.unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.items.len(), 2);
    api.delete("c", &DeleteParams::default()).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    let rest = api.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    assert_eq!(rest.items.len(), 1, "the second page is of the same moment");
    assert_eq!(rest.metadata.resource_version, first.metadata.resource_version);
}

#[tokio::test]
async fn requests_are_counted_by_client() {
    let server = ApiServer::new();
    let (one, other) = (configs(&server.client_as("one/1.0")), configs(&server.client_as("other")));
    other.get_opt("a").await.unwrap();
    let before = server.requests().snapshot();
    one.get_opt("a").await.unwrap();
    other.list(&ListParams::default()).await.unwrap();
    let new = server.requests().snapshot().since(&before);
    assert_eq!(
        new.total(|key| key.user_agent == "one/1.0" && key.verb == "get" && key.resource == "configmaps"),
        1
    );
    assert_eq!(new.total(|_| true), 2);
}

#[tokio::test]
async fn what_a_real_server_refuses_is_refused() {
    let client = ApiServer::new().client();
    let post = PostParams::default();
    let refused = async |object: Value| refusal(configs(&client).create(&post, &typed(object)).await);

    let twice = refused(json!({"metadata": {"name": "a"}, "data": {"k": "1"}, "binaryData": {"k": "MQ=="}})).await;
    assert!(twice.is_invalid() && twice.message.contains("duplicate of key present in binaryData"), "{twice:?}");
    let finalizer = refused(json!({"metadata": {"name": "a", "finalizers": ["mine"]}})).await;
    assert!(
        finalizer.message.contains("neither a standard finalizer name nor is it fully qualified"),
        "{finalizer:?}"
    );

    let mut late = serde_json::to_value(deployment("late", "a:1")).unwrap();
    late["spec"]["minReadySeconds"] = json!(600);
    let late = refusal(deployments(&client).create(&post, &typed(late)).await);
    assert!(late.message.contains("must be greater than minReadySeconds"), "{late:?}");

    // What etcd does not take is told by the store, after the dry run was fine.
    let annotations: Value = json!({"big": "x".repeat(200_000)});
    let mut large = serde_json::to_value(deployment("large", "a:1")).unwrap();
    large["metadata"]["annotations"] = annotations;
    large["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "BIG", "value": "x".repeat(1_500_000)}]);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    deployments(&client).create(&dry, &typed(large.clone())).await.unwrap();
    let large = refusal(deployments(&client).create(&post, &typed(large)).await);
    assert_eq!((large.code, large.message.as_str()), (500, "etcdserver: request is too large"));

    configs(&client).create(&post, &config("tested", "1")).await.unwrap();
    let operations = json!([{"op": "test", "path": "/data/key", "value": "other"}]);
    let patch = Patch::<ConfigMap>::Json(serde_json::from_value(operations).unwrap());
    let lost = refusal(configs(&client).patch("tested", &PatchParams::default(), &patch).await);
    assert_eq!(lost.code, 422);
    assert_eq!(lost.message, "the server rejected our request due to an error in our request");
}
