//! A config is a part of a revision: another one is released, promoted and rolled back like an image, in the cluster and in Git,
//! and what serves reads what was analysed with it.

use std::collections::BTreeSet;

use serde_json::Value;
use serin::sandbox::repository::FileEdit;

use super::world::World;

const SETTINGS: &str = "settings.yaml";

/// A ConfigMap and a Secret, in one file.
fn settings(color: &str, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\n  namespace: test\ndata:\n  color: {color} # seen by \
         users\n---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: token\n  namespace: test\nstringData:\n  token: {token}\n"
    )
}

impl World {
    fn commit(&self, what: &str, files: &[(&str, String)]) {
        let edits = |_: &_| {
            Ok(files
                .iter()
                .map(|(path, content)| FileEdit { path: (*path).to_owned(), content: content.clone() })
                .collect())
        };
        self.repository.commit(what, edits).unwrap();
    }

    /// The example's Deployment, reading both.
    fn reading(&self) -> String {
        let text = self.repository.read("main", "deployment.yaml").unwrap();
        let from = "envFrom: [{configMapRef: {name: settings}}, {secretRef: {name: token}}]";
        text.replacen("        - name: podinfod\n", &format!("        - name: podinfod\n          {from}\n"), 1)
    }

    /// What the pods of a side read: the names, and what the ConfigMap holds.
    async fn reads(&self, side: &str) -> (Vec<String>, Option<String>) {
        let deployment = self.deployment(side).await.unwrap_or_default();
        let from = &deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"];
        let names: Vec<String> = from
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|from| from["configMapRef"]["name"].as_str().or(from["secretRef"]["name"].as_str()))
            .map(str::to_owned)
            .collect();
        let color = match names.first() {
            Some(name) => self.color(name).await,
            None => None,
        };
        (names, color)
    }

    async fn color(&self, name: &str) -> Option<String> {
        let found = self.api("", "v1", "ConfigMap").await.get_opt(name).await.unwrap()?;
        Some(found.data["data"]["color"].as_str()?.to_owned())
    }

    /// Every ConfigMap and Secret of the test.
    async fn configs(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for kind in ["ConfigMap", "Secret"] {
            let all = self.api("", "v1", kind).await.list(&Default::default()).await.unwrap();
            names.extend(all.into_iter().filter_map(|object| object.metadata.name));
        }
        names.retain(|name| name.starts_with("settings") || name.starts_with("token"));
        names
    }
}

fn promoted(canary: &Value) -> &Value {
    &canary["status"]["serin"]["handover"]["promoted"]
}

#[tokio::test(start_paused = true)]
async fn a_config_is_released_promoted_and_rolled_back_like_an_image() {
    let world = World::new("commit").await;
    // A revision that reads configs reads copies of them.
    world.commit("Read settings", &[(SETTINGS, settings("blue", "a")), ("deployment.yaml", world.reading())]);
    let first = world.reaches("Succeeded").await;
    let (names, color) = world.reads("podinfo-primary").await;
    assert!(names[0].starts_with("settings-") && names[1].starts_with("token-"), "{names:?}");
    assert_eq!(color.as_deref(), Some("blue"));
    assert_eq!(world.color("settings").await.as_deref(), Some("blue"), "others may read it by its name");

    // Another content alone is another revision; what serves goes on reading the old one.
    world.commit("Green", &[(SETTINGS, settings("green", "a"))]);
    world.has_weight(30).await;
    assert_eq!(world.reads("podinfo-primary").await.1.as_deref(), Some("blue"));
    assert_eq!(world.reads("podinfo").await.1.as_deref(), Some("green"));
    let another =
        |canary: &Value| canary["status"]["phase"] == "Succeeded" && promoted(canary) != promoted(&first);
    world.canary("the release of the config", another).await;
    let (after, color) = world.reads("podinfo-primary").await;
    assert_eq!((color.as_deref(), &after[1]), (Some("green"), &names[1]), "the Secret is what it was");

    // A bad one is taken back, in the cluster and in Git, and nothing else of the file changes.
    world.failing(true);
    world.commit("Red", &[(SETTINGS, settings("red", "a"))]);
    world.reaches("Failed").await;
    assert_eq!(world.reads("podinfo-primary").await.1.as_deref(), Some("green"));
    let restored = async || world.repository.read("main", SETTINGS).unwrap() == settings("green", "a");
    world.eventually("the rollback in Git", restored).await;
    assert_eq!(world.repository.tip("main").unwrap().unwrap().author, "serin");

    // What nobody reads any more is gone, and nothing is released.
    world.quiet().await;
    let canary = world.reaches("Failed").await;
    let left = ["settings", "token", &after[0], &after[1]].map(str::to_owned);
    assert_eq!(world.configs().await, BTreeSet::from(left), "{canary:#}");
    assert_eq!(world.reads("podinfo").await, (after, Some("green".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn what_runs_without_copies_goes_on_until_something_changes_and_is_never_changed_under_its_users() {
    let world = World::new("commit").await;
    // Flagger's key leaves a config out: its target reads it by its own name.
    let plain = |color: &str| {
        let annotated = "  namespace: test\n  annotations: {flagger.app/config-tracking: disabled}\n";
        settings(color, "a").replace("  namespace: test\n", annotated)
    };
    world.commit("Read settings", &[(SETTINGS, plain("blue")), ("deployment.yaml", world.reading())]);
    let first = world.reaches("Succeeded").await;
    assert_eq!(world.reads("podinfo-primary").await.0, ["settings", "token"]);

    // From here on it is tracked, and holds what it held: nothing is released, no pod is restarted.
    world.commit("Track settings", &[(SETTINGS, settings("blue", "a"))]);
    world.quiet().await;
    let canary = world.reaches("Succeeded").await;
    assert_eq!(promoted(&canary), promoted(&first));
    assert_eq!(world.reads("podinfo-primary").await.0, ["settings", "token"]);

    // Another content waits until nothing that serves reads it by that name.
    world.commit("Green", &[(SETTINGS, settings("green", "a"))]);
    world.has_weight(30).await;
    assert_eq!(world.color("settings").await.as_deref(), Some("blue"), "primary reads it");
    assert_eq!(world.reads("podinfo").await.1.as_deref(), Some("green"));
    world.failing(true);
    world.reaches("Failed").await;
    let restored = async || world.repository.read("main", SETTINGS).unwrap() == settings("blue", "a");
    world.eventually("the rollback in Git", restored).await;
    world.quiet().await;
    let canary = world.reaches("Failed").await;
    assert_eq!(promoted(&canary), promoted(&first), "putting Git right starts nothing: {canary:#}");
    assert_eq!(world.reads("podinfo").await.0, ["settings", "token"]);

    world.failing(false);
    world.commit("Yellow", &[(SETTINGS, settings("yellow", "a"))]);
    world.reaches("Succeeded").await;
    assert_eq!(world.reads("podinfo-primary").await.1.as_deref(), Some("yellow"));
    let follows = async || world.color("settings").await.as_deref() == Some("yellow");
    world.eventually("the config by its own name", follows).await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_comes_back_reads_what_was_promoted_although_git_has_another_config() {
    let world = World::new("record").await;
    world.commit("Read settings", &[(SETTINGS, settings("blue", "a")), ("deployment.yaml", world.reading())]);
    world.reaches("Succeeded").await;
    let serving = world.reads("podinfo-primary").await;
    world.failing(true);
    world.commit("Red", &[(SETTINGS, settings("red", "b"))]);
    world.reaches("Failed").await;
    // The record has it.
    world.quiet().await;
    world.delete_namespace().await;
    let waits = |canary: &Value| {
        let waiting = canary["status"]["serin"]["waitingOn"].as_str().unwrap_or_default();
        canary["status"]["phase"] == "Initialized" && waiting.contains("failed before")
    };
    world.canary("the refusal of what failed", waits).await;
    assert_eq!(world.reads("podinfo-primary").await, serving);
    assert_eq!(world.color("settings").await.as_deref(), Some("red"), "nothing serves it");
}

#[tokio::test(start_paused = true)]
async fn a_config_that_cannot_be_read_holds_who_reads_a_copy_of_it() {
    let world = World::new("commit").await;
    world.commit("Read settings", &[(SETTINGS, settings("blue", "a")), ("deployment.yaml", world.reading())]);
    let first = world.reaches("Succeeded").await;
    let serving = world.reads("podinfo-primary").await;
    world.commit("Break settings", &[(SETTINGS, "apiVersion: v1\nkind: ConfigMap\nmetadata: [".to_owned())]);
    world.quiet().await;
    let canary = world.reaches("Succeeded").await;
    assert_eq!(promoted(&canary), promoted(&first));
    assert_eq!(world.reads("podinfo").await.0, serving.0);
    assert_eq!(world.reads("podinfo-primary").await, serving);
}
