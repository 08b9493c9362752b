//! What is gone from Git goes when nobody reads it any more, and not before.

use serin::api::annotations::COPIED_FROM;

use super::*;

/// Longer than the longest pause between two tries; time is paused in these tests.
const TRIES: Duration = Duration::from_secs(4000);

impl World {
    async fn within_tries(&mut self, what: &str, condition: impl Fn(&SyncStatus) -> bool) -> SyncStatus {
        let waited = tokio::time::timeout(TRIES, self.status.wait_for(|status| condition(status))).await;
        match waited.map(|status| status.unwrap().clone()) {
            Ok(status) => status,
            Err(_elapsed) => panic!("{what} did not happen: {:#?}", *self.status.borrow()),
        }
    }

    async fn create(&self, object: Value) -> Value {
        let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
            Some((group, version)) => (group.to_owned(), version.to_owned()),
            None => (String::new(), object["apiVersion"].as_str().unwrap().to_owned()),
        };
        let api = self.resource(&group, &version, object["kind"].as_str().unwrap(), "test").await;
        let object = serde_json::from_value(object).unwrap();
        serde_json::to_value(api.create(&PostParams::default(), &object).await.unwrap()).unwrap()
    }

    async fn has(&self, kind: &str, name: &str) -> bool {
        let (group, version) = match kind {
            "Role" | "RoleBinding" => ("rbac.authorization.k8s.io", "v1"),
            "Deployment" => ("apps", "v1"),
            _ => ("", "v1"),
        };
        self.resource(group, version, kind, "test").await.get_opt(name).await.unwrap().is_some()
    }
}

/// A pod that reads a ConfigMap.
fn pod_spec(config: &str) -> Value {
    json!({"containers": [{"name": "a", "image": "a:1", "envFrom": [{"configMapRef": {"name": config}}]}]})
}

fn template(config: &str) -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": pod_spec(config)})
}

fn reading(tag: &str, config: &str) -> String {
    deployment(tag).replace("image: ", &format!("envFrom: [{{configMapRef: {{name: {config}}}}}], image: "))
}

fn kept(status: &SyncStatus) -> Vec<String> {
    status.kept.keys().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_hashed_config_stays_as_long_as_primary_or_git_reads_it() {
    let mut world = World::new().await;
    let base = [NAMESPACE, CANARY].join("---\n");
    let app = |tag: &str, config: &str| [reading(tag, config), self::config(config, "1")].join("---\n");
    world.repository.push(&[("base.yaml", &base), ("app.yaml", &app("1", "settings-a"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    world.canary_status(json!({"phase": "Initialized", "canaryWeight": 0})).await;
    let primary = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "podinfo-primary", "namespace": "test"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template("settings-a")}});
    world.create(primary).await;

    // One commit: a new tag that will fail, and its config under a new name.
    let status = world.push(&[("app.yaml", &app("2", "settings-b"))]).await;
    assert_eq!(world.image().await, "podinfo:2");
    assert_eq!(kept(&status), ["ConfigMap test/settings-a"]);
    let reason = status.kept.values().next().unwrap();
    assert!(reason.contains("Deployment test/podinfo-primary still reads it"), "{reason}");

    // The rollback puts the template back, and not the file that its config was in.
    world.canary_status(json!({"phase": "Failed", "canaryWeight": 0})).await;
    let rolled_back = [reading("1", "settings-a"), config("settings-b", "1")].join("---\n");
    let status = world.push(&[("app.yaml", &rolled_back)]).await;
    assert_eq!(world.image().await, "podinfo:1");
    assert_eq!(kept(&status), ["ConfigMap test/settings-a"]);

    // The next one succeeds: when primary reads the new one, the old one goes by itself.
    world.canary_status(json!({"phase": "Progressing", "canaryWeight": 0})).await;
    let status = world.push(&[("app.yaml", &app("3", "settings-b"))]).await;
    assert_eq!(kept(&status), ["ConfigMap test/settings-a"]);
    let api = world.resource("apps", "v1", "Deployment", "test").await;
    let promoted = Patch::Merge(json!({"spec": {"template": template("settings-b")}}));
    api.patch("podinfo-primary", &PatchParams::default(), &promoted).await.unwrap();
    let admitted = world.annotation(PENDING).await;
    world.canary_status(json!({"serin": {"handover": {"version": 1, "admitted": admitted}}})).await;
    world.within_tries("the write", |status| status.waiting.is_empty()).await;
    world.canary_status(json!({"phase": "Succeeded"})).await;
    world.within_tries("the end of the old config", |status| status.kept.is_empty()).await;
    assert!(!world.has("ConfigMap", "settings-a").await && world.has("ConfigMap", "settings-b").await);
    assert!(world.inventory().await.removals.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_refused_workload_lives_on_stays_until_the_new_one_is_there() {
    let mut world = World::new().await;
    let metadata = |kind: &str| json!({"name": kind.to_lowercase(), "namespace": "test"});
    let selector = json!({"matchLabels": {"app": "a"}});
    let workload = |kind: &str, config: &str, misspelt: bool| -> String {
        let (template, mut pod) = (template(config), pod_spec(config));
        let mut object = match kind {
            "Deployment" | "DaemonSet" => {
                json!({"apiVersion": "apps/v1", "spec": {"selector": selector, "template": template}})
            }
            "StatefulSet" => json!({"apiVersion": "apps/v1",
                "spec": {"serviceName": "a", "selector": selector, "template": template}}),
            "Job" => {
                pod["restartPolicy"] = json!("Never");
                json!({"apiVersion": "batch/v1", "spec": {"template": {"spec": pod}}})
            }
            "CronJob" => {
                pod["restartPolicy"] = json!("Never");
                let job = json!({"spec": {"template": {"spec": pod}}});
                json!({"apiVersion": "batch/v1", "spec": {"schedule": "0 0 * * *", "jobTemplate": job}})
            }
            _ => json!({"apiVersion": "v1", "spec": pod}),
        };
        object["kind"] = json!(kind);
        object["metadata"] = metadata(kind);
        if misspelt {
            object["spec"]["imagee"] = json!("a:2");
        }
        format!("{object}\n")
    };
    let kinds = ["Deployment", "DaemonSet", "StatefulSet", "Job", "CronJob", "Pod"];
    let all = |prefix: &str, misspelt: bool| {
        let mut documents = vec![NAMESPACE.to_owned()];
        for kind in kinds {
            let name = format!("{prefix}-{}", kind.to_lowercase());
            documents.push(workload(kind, &name, misspelt));
            documents.push(config(&name, "1"));
        }
        documents.join("---\n")
    };
    world.repository.push(&[("app.yaml", &all("old", false))]);
    world.start();
    let status = world.until("the first sync", |status| status.synced).await;
    assert_eq!(status.conditions, BTreeMap::new());

    let status = world.push(&[("app.yaml", &all("new", true))]).await;
    assert_eq!(status.conditions.len(), kinds.len(), "{:#?}", status.conditions);
    for kind in kinds {
        assert!(world.has("ConfigMap", &format!("old-{}", kind.to_lowercase())).await, "{kind}");
    }
    assert_eq!(status.kept.len(), kinds.len());

    // The workloads go, and with them what only they read.
    let configs: Vec<String> =
        kinds.iter().map(|kind| config(&format!("new-{}", kind.to_lowercase()), "1")).collect();
    world.push(&[("app.yaml", &[NAMESPACE.to_owned(), configs.join("---\n")].join("---\n"))]).await;
    for kind in kinds {
        assert!(!world.has("ConfigMap", &format!("old-{}", kind.to_lowercase())).await, "{kind}");
    }
    assert_eq!(world.inventory().await.objects.len(), 1 + kinds.len());
}

#[tokio::test(start_paused = true)]
async fn an_account_stays_with_its_rights_and_its_secrets() {
    let mut world = World::new().await;
    let named = |name: &str| {
        let metadata = format!("metadata: {{name: {name}, namespace: test}}");
        let rbac = "apiVersion: rbac.authorization.k8s.io/v1";
        [
            format!("apiVersion: v1\nkind: ServiceAccount\n{metadata}\nimagePullSecrets: [{{name: {name}}}]\n"),
            format!("apiVersion: v1\nkind: Secret\n{metadata}\n"),
            format!("{rbac}\nkind: Role\n{metadata}\nrules: []\n"),
            format!(
                "{rbac}\nkind: RoleBinding\n{metadata}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: \
                 {name}}}\nsubjects: [{{kind: ServiceAccount, name: {name}, namespace: test}}]\n"
            ),
        ]
        .join("---\n")
    };
    let with = |account: &str, misspelt: bool| {
        let spec = if misspelt { "spec: {imagee: x, " } else { "spec: {" };
        let app = deployment("1").replace("    spec: {", &format!("    {spec}serviceAccountName: {account}, "));
        [NAMESPACE, &app, &named(account)].join("---\n")
    };
    world.repository.push(&[("app.yaml", &with("old", false))]);
    world.start();
    let status = world.until("the first sync", |status| status.synced).await;
    assert_eq!(status.conditions, BTreeMap::new());
    let kinds = ["ServiceAccount", "Secret", "Role", "RoleBinding"];

    let status = world.push(&[("app.yaml", &with("new", true))]).await;
    for kind in kinds {
        assert!(world.has(kind, "old").await && world.has(kind, "new").await, "{kind}");
    }
    assert_eq!(status.kept.len(), kinds.len(), "{:#?}", status.kept);
    let status = world.push(&[("app.yaml", &with("new", false))]).await;
    for kind in kinds {
        assert_eq!(status.kept, BTreeMap::new(), "{kind}");
        assert!(!world.has(kind, "old").await && world.has(kind, "new").await, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn everything_that_may_still_start_a_pod_is_a_reader() {
    let mut world = World::new().await;
    let owned =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "1", "controller": true}]);
    let labels = json!({"matchLabels": {"app": "a"}});
    let readers = [
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "old", "ownerReferences": owned},
            "spec": {"replicas": 1, "selector": labels, "template": template("c-0")}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "running"}, "spec": pod_spec("c-1")}),
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1,
            "metadata": {"name": "last-good", "annotations": {COPIED_FROM: "v1:1"}},
            "data": {"spec": {"template": template("c-2")}}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "by-hand"},
            "spec": {"replicas": 0, "selector": labels, "template": template("c-3")}}),
    ];
    let files = |count: usize| {
        let configs = (0..count).map(|number| config(&format!("c-{number}"), "1"));
        [NAMESPACE.to_owned(), config("stays", "1")].into_iter().chain(configs).collect::<Vec<_>>().join("---\n")
    };
    world.repository.push(&[("app.yaml", &files(5))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    for mut reader in readers.clone() {
        reader["metadata"]["namespace"] = json!("test");
        world.create(reader).await;
    }
    let status = world.push(&[("app.yaml", &files(0))]).await;
    assert_eq!(status.changes, ["ConfigMap test/c-4: delete"], "nobody reads it");
    assert_eq!(
        kept(&status),
        ["ConfigMap test/c-0", "ConfigMap test/c-1", "ConfigMap test/c-2", "ConfigMap test/c-3"]
    );
    for reader in readers {
        let kind = reader["kind"].as_str().unwrap();
        let group = if kind == "Pod" { "" } else { "apps" };
        let api = world.resource(group, "v1", kind, "test").await;
        api.delete(reader["metadata"]["name"].as_str().unwrap(), &DeleteParams::default()).await.unwrap();
    }
    world.within_tries("the end of the last reader", |status| status.kept.is_empty()).await;
    for number in 0..4 {
        assert!(!world.has("ConfigMap", &format!("c-{number}")).await, "c-{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_app_goes_whole_although_its_pods_end_a_little_later() {
    let mut world = World::new().await;
    let app = [reading("1", "settings"), config("settings", "1")].join("---\n");
    world.repository.push(&[("base.yaml", NAMESPACE), ("app.yaml", &app), ("other.yaml", &config("other", "1"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let owner = |object: &Value| {
        let metadata = &object["metadata"];
        json!([{"apiVersion": object["apiVersion"], "kind": object["kind"], "name": metadata["name"],
            "uid": metadata["uid"], "controller": true}])
    };
    let deployment = world.get("Deployment", "podinfo").await.unwrap();
    let set = world
        .create(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "podinfo-1", "namespace": "test", "ownerReferences": owner(&deployment)},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}, "template": template("settings")}}))
        .await;
    world
        .create(json!({"apiVersion": "v1", "kind": "Pod", "spec": pod_spec("settings"),
            "metadata": {"name": "podinfo-1-x", "namespace": "test", "ownerReferences": owner(&set)}}))
        .await;
    let status = world.push(&[("app.yaml", "")]).await;
    assert_eq!(status.changes, ["Deployment test/podinfo: delete", "ConfigMap test/settings: delete"]);
}

#[tokio::test(start_paused = true)]
async fn what_may_be_renamed_stays_until_its_new_name_is_there() {
    let mut world = World::new().await;
    let named = |name: &str| deployment("1").replace("{name: podinfo,", &format!("{{name: {name},"));
    world.repository.push(&[
        ("base.yaml", NAMESPACE),
        ("app.yaml", &named("old")),
        ("c.yaml", &config("goes", "1")),
    ]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let refused = named("new").replace("image: ", "imagee: x, image: ");
    let status = world.push(&[("app.yaml", &refused), ("c.yaml", "")]).await;
    assert_eq!(status.changes, ["ConfigMap test/goes: delete"], "another kind");
    assert!(status.kept.values().next().unwrap().contains("Deployment test/new, which may be its new name"));
    world.push(&[("app.yaml", &named("new"))]).await;
    assert!(world.has("Deployment", "new").await && !world.has("Deployment", "old").await);
}

#[tokio::test(start_paused = true)]
async fn what_hangs_in_deletion_is_named_until_it_is_gone() {
    let mut world = World::new().await;
    let all = [NAMESPACE, &config("stays", "1"), &config("hangs", "1")].join("---\n");
    let less = [NAMESPACE, &config("stays", "1")].join("---\n");
    world.repository.push(&[("app.yaml", &all)]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let api = world.resource("", "v1", "ConfigMap", "test").await;
    let finalizers = |all: &[&str]| Patch::Merge(json!({"metadata": {"finalizers": all}}));
    api.patch("hangs", &PatchParams::default(), &finalizers(&["example.com/hold"])).await.unwrap();

    let status = world.push(&[("app.yaml", &less)]).await;
    let words = status.hanging.values().next().expect("it hangs");
    assert!(words.contains("example.com/hold lets it go"), "{words}");
    assert_eq!(world.inventory().await.objects.len(), 3, "it is still there");
    // Wanted again: it waits for the same.
    let status = world.push(&[("app.yaml", &all)]).await;
    assert!(status.waiting.values().any(|words| words.contains("example.com/hold")), "{:?}", status.waiting);
    world.push(&[("app.yaml", &less)]).await;
    api.patch("hangs", &PatchParams::default(), &finalizers(&[])).await.unwrap();
    world.within_tries("its end", |status| status.hanging.is_empty()).await;
    assert_eq!(world.inventory().await.objects.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_may_read_it_and_cannot_be_seen_keeps_it() {
    let mut world = World::new().await;
    let all = [NAMESPACE, &config("stays", "1"), &config("goes", "1")].join("---\n");
    world.repository.push(&[("app.yaml", &all)]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let forbidden = "cronjobs.batch is forbidden: User \"serin\" cannot list resource \"cronjobs\"";
    let answer = Answer::Status(403, "Forbidden", forbidden);
    world.faults.set(vec![Fault { method: Some("GET"), words: &["/test/cronjobs?"], answer }]);
    let status = world.push(&[("app.yaml", &[NAMESPACE, &config("stays", "1")].join("---\n"))]).await;
    let words = status.conditions.values().next().expect("somebody has to mend the role");
    assert!(words.contains("nobody can tell who still reads it") && words.contains(forbidden), "{words}");
    assert!(world.has("ConfigMap", "goes").await);
    world.faults.set(Vec::new());
    world.within_tries("its end", |status| status.conditions.is_empty()).await;
    assert!(!world.has("ConfigMap", "goes").await);
}

#[tokio::test(start_paused = true)]
async fn a_folder_swapped_for_another_deletes_nothing_until_a_person_names_the_commit() {
    let mut world = World::new().await;
    let folder = |prefix: &str, count: usize| {
        let configs = (0..count).map(|number| config(&format!("{prefix}-{number}"), "1"));
        configs.collect::<Vec<_>>().join("---\n")
    };
    world.repository.push(&[("base.yaml", NAMESPACE), ("app.yaml", &folder("old", 12))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let status = world.push(&[("app.yaml", &folder("new", 12))]).await;
    let words = status.problems.first().expect("it is refused");
    assert!(words.contains("drops 12 of 13 objects") && words.contains("serin prune --allow 0000000"), "{words}");
    // What comes later dilutes nothing, nor does a restart.
    world.push(&[("more.yaml", &folder("more", 40))]).await;
    world.restart();
    let status = world.until("the sync after the restart", |status| status.synced).await;
    assert_eq!(status.problems.len(), 1);
    assert!(world.has("ConfigMap", "old-0").await && world.has("ConfigMap", "new-0").await);
    let told = world.told().await;
    assert_eq!((told.refused_removals.len(), told.refused_removals[0].dropped), (1, 12));
    assert_eq!(told.problems[0].message, status.problems[0]);

    let api: Api<api::Source> = Api::namespaced(world.server.client(), "default");
    let refused = told.refused_removals[0].commit.clone();
    let allow =
        |commit: String| Patch::Merge(json!({"metadata": {"annotations": {"serin.dev/allow-prune": commit}}}));
    api.patch_metadata("test", &PatchParams::default(), &allow("f".repeat(40))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(world.has("ConfigMap", "old-0").await, "another commit's name");
    api.patch_metadata("test", &PatchParams::default(), &allow(refused)).await.unwrap();
    world.within_tries("the removal", |status| status.problems.is_empty()).await;
    assert!(!world.has("ConfigMap", "old-0").await && world.has("ConfigMap", "new-0").await);
    world.within_tries("that", |_| true).await;
    assert_eq!(world.inventory().await.objects.len(), 1 + 12 + 40);
}

#[tokio::test(start_paused = true)]
async fn where_sync_is_can_be_read_off_its_source() {
    let mut world = World::new().await;
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate, namespace: test}\nspec:\n  template:\n    spec: \
        {restartPolicy: Never, containers: [{name: a, image: \"a:1\"}]}\n";
    world.repository.push(&[("app.yaml", &[NAMESPACE, job].join("---\n")), ("bad.yaml", "a: b: c\n")]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let status = world.push(&[("app.yaml", &[NAMESPACE, &job.replace("a:1", "a:2")].join("---\n"))]).await;
    assert_eq!(status.conditions.len(), 1);
    // The next turn has told it.
    world.push(&[("other.yaml", &config("other", "1"))]).await;
    let told = world.told().await;
    assert_eq!((told.branch.as_str(), told.problems.len()), ("main", 1));
    assert!(told.applied.is_some_and(|applied| applied.commit >= commit(2).to_string()));
    assert_eq!(told.conditions[0].status, "False");
    let object = told.objects.first().expect("the Job is refused");
    assert_eq!((object.kind.as_str(), object.state), ("Job", ObjectState::Refused));
    assert!(object.message.contains("field is immutable"), "{}", object.message);
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(world.server.client(), "test");
    let job = world.resource("batch", "v1", "Job", "test").await.get("migrate").await.unwrap();
    let about = events.list(&Default::default()).await.unwrap().items;
    let about: Vec<_> = about.iter().filter(|event| event.involved_object.uid == job.metadata.uid).collect();
    assert!(about.len() == 1 && about[0].message.as_ref().is_some_and(|it| it.contains("field is immutable")));
}
