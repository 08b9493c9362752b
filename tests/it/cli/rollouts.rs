//! Argo Rollouts' commands, under our name and under the plugin's.

use std::process::Output;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use serin::sandbox::crds;

use super::get::World;
use super::screen;
use crate::support::SERIN;

struct Rollouts {
    world: World,
    api: Api<DynamicObject>,
}

impl Rollouts {
    async fn start(metadata: Value, status: Value) -> Self {
        let world = World::start().await;
        let client: Client = world.client.clone();
        for definition in crds::argo_rollouts().unwrap().into_iter().chain(serin::api::argo_crds()) {
            Api::all(client.clone()).create(&PostParams::default(), &definition).await.unwrap();
        }
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout"));
        let api: Api<DynamicObject> = Api::namespaced_with(client, "default", &kind);
        let mut rollout = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "web"},
            "spec": {
                "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]},
                },
                "strategy": {"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}},
            },
        });
        json_patch::merge(&mut rollout["metadata"], &metadata);
        let rollout: DynamicObject = serde_json::from_value(rollout).unwrap();
        api.create(&PostParams::default(), &rollout).await.unwrap();
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status("web", &PatchParams::default(), &patch).await.unwrap();
        Self { world, api }
    }

    /// By our name.
    async fn serin(&self, args: &[&str]) -> Output {
        let all: Vec<&str> = ["rollouts"].iter().chain(args).copied().collect();
        self.world.serin(&all).await
    }

    /// By the plugin's.
    async fn plugin(&self, args: &[&str]) -> Output {
        let link = self.world.dir.path().join("kubectl-argo-rollouts");
        if !link.exists() {
            std::os::unix::fs::symlink(SERIN, &link).unwrap();
        }
        let mut plugin = std::process::Command::new(&link);
        plugin.env_clear().env("HOME", self.world.dir.path()).env("KUBECONFIG", &self.world.kubeconfig).args(args);
        tokio::task::spawn_blocking(move || plugin.output().unwrap()).await.unwrap()
    }

    async fn get(&self) -> Value {
        self.api.get("web").await.unwrap().data
    }
}

fn paused() -> Value {
    json!({
        "observedGeneration": "1", "phase": "Paused", "message": "CanaryPauseStep", "currentStepIndex": 1,
        "controllerPause": true, "pauseConditions": [{"reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z"}],
        "stableRS": "aaa", "currentPodHash": "bbb",
        "canary": {"weights": {"canary": {"weight": 20}, "stable": {"weight": 80}}},
    })
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", screen(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn commands_are_the_plugins_patches_and_words() {
    let rollouts = Rollouts::start(json!({}), paused()).await;
    let shown = said(&rollouts.serin(&["get", "rollout", "web"]).await);
    assert!(shown.contains("Status:          ॥ Paused\nMessage:         CanaryPauseStep\n"), "{shown}");
    assert!(said(&rollouts.plugin(&["list", "rollouts"]).await).contains("Paused"));
    assert_eq!(said(&rollouts.plugin(&["status", "web", "--watch=false"]).await), "Paused - CanaryPauseStep\n");

    assert_eq!(said(&rollouts.plugin(&["promote", "web"]).await), "rollout 'web' promoted\n");
    assert_eq!(rollouts.get().await["status"]["pauseConditions"], Value::Null);
    assert_eq!(said(&rollouts.serin(&["promote", "web", "--full"]).await), "rollout 'web' fully promoted\n");
    assert_eq!(rollouts.get().await["status"]["promoteFull"], true);
    assert_eq!(said(&rollouts.plugin(&["abort", "web"]).await), "rollout 'web' aborted\n");
    assert_eq!(rollouts.get().await["status"]["abort"], true);
    assert_eq!(said(&rollouts.serin(&["retry", "rollout", "web"]).await), "rollout 'web' retried\n");
    assert_eq!(rollouts.get().await["status"]["abort"], false);
    assert_eq!(said(&rollouts.serin(&["pause", "web"]).await), "rollout 'web' paused\n");
    assert_eq!(rollouts.get().await["spec"]["paused"], true);

    let image = rollouts.plugin(&["set", "image", "web", "*=web:2"]).await;
    assert_eq!(said(&image), "rollout \"web\" image updated\n");
    assert_eq!(rollouts.get().await["spec"]["template"]["spec"]["containers"][0]["image"], "web:2");
    for (args, code) in
        [(&["promote", "none"][..], 2), (&["set", "image", "web", "b=c"], 2), (&["undo", "web"], 2)]
    {
        let output = rollouts.serin(args).await;
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", screen(&output));
    }
}

#[tokio::test]
async fn what_git_owns_is_changed_in_git() {
    let source = json!({"annotations": {"serin.dev/source": "serin-system/main"}});
    let rollouts =
        Rollouts::start(source, json!({"observedGeneration": "1", "phase": "Degraded", "message": "no"})).await;
    let output = rollouts.serin(&["set", "image", "web", "web=web:2"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(screen(&output).contains("is Git's (source serin-system/main)"), "{}", screen(&output));
    let output = rollouts.plugin(&["status", "web"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", screen(&output));
}

#[tokio::test]
async fn runs_are_made_of_templates_shown_with_their_rollout_and_ended() {
    let rollouts = Rollouts::start(json!({}), paused()).await;
    let of = |kind: &str| {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", kind));
        Api::<DynamicObject>::namespaced_with(rollouts.world.client.clone(), "default", &kind)
    };
    let template = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "smoke"},
        "spec": {
            "args": [{"name": "service"}, {"name": "port", "value": "80"}],
            "metrics": [{"name": "up", "provider": {"web": {"url": "http://{{args.service}}:{{args.port}}/"}}}],
        },
    });
    let file = rollouts.world.dir.path().join("template.json");
    std::fs::write(&file, template.to_string()).unwrap();
    of("AnalysisTemplate")
        .create(&PostParams::default(), &serde_json::from_value(template).unwrap())
        .await
        .unwrap();

    let output = rollouts.plugin(&["create", "analysisrun", "--from", "smoke"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(screen(&output).contains("args.service was not resolved"), "{}", screen(&output));
    let made =
        rollouts.plugin(&["create", "analysisrun", "--from", "smoke", "--name", "one", "-a", "service=web"]).await;
    assert_eq!(said(&made), "analysisrun.argoproj.io/one created\n");
    let run = of("AnalysisRun").get("one").await.unwrap();
    assert_eq!(
        run.data["spec"]["args"],
        json!([{"name": "service", "value": "web"}, {"name": "port", "value": "80"}])
    );
    let path = file.to_str().unwrap();
    let made = rollouts.serin(&["create", "analysisrun", "--from-file", path, "-a", "service=web"]).await;
    assert!(said(&made).starts_with("analysisrun.argoproj.io/smoke-"));

    let uid = rollouts.api.get("web").await.unwrap().metadata.uid.unwrap();
    let owner = json!([{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web", "uid": uid, "controller": true}]);
    let patch = json!({
        "metadata": {"ownerReferences": owner, "annotations": {"rollout.argoproj.io/revision": "1"}},
        "status": {"phase": "Running", "metricResults": [{"name": "up", "phase": "Running", "successful": 3}]},
    });
    of("AnalysisRun").patch("one", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    let shown = said(&rollouts.plugin(&["get", "rollout", "web"]).await);
    let line = shown.lines().find(|line| line.contains("α one")).expect("the run is shown");
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[2..4], ["AnalysisRun", "◌"], "{shown}");
    assert!(line.ends_with("✔ 3"), "{shown}");
    assert_eq!(
        said(&rollouts.plugin(&["terminate", "analysisrun", "one"]).await),
        "analysisrun 'one' terminated\n"
    );
    assert_eq!(of("AnalysisRun").get("one").await.unwrap().data["spec"]["terminate"], true);
}
