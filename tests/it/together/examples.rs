//! Every folder of `examples/` does what its README says: it is taken as it is, releases a new tag, and puts Git right.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use serin::sandbox::repository::{BRANCH, FileEdit, Repository};

use super::world::World;
use crate::support::{output, program};

/// All files of an example, by their path in it.
fn files(name: &str) -> Vec<FileEdit> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = std::fs::read_to_string(&path).unwrap();
            files.push(FileEdit { path: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), content });
        }
    }
    assert!(!files.is_empty());
    files
}

/// Changes one text in one file, which has it once.
fn change(world: &World, path: &'static str, from: &'static str, to: &'static str) {
    let edit = |repository: &Repository| {
        let text = repository.read(BRANCH, path)?;
        assert_eq!(text.matches(from).count(), 1, "{text}");
        Ok(vec![FileEdit { path: path.to_owned(), content: text.replace(from, to) }])
    };
    world.repository.commit(&format!("Change {path}"), edit).unwrap();
}

async fn reaches(world: &World, name: &str, phase: &str) {
    world.canary_called(name, phase, |canary| canary["status"]["phase"] == phase).await;
}

async fn creates(world: &World, secret: serde_json::Value) {
    let api: Api<Secret> = Api::namespaced(world.client.clone(), "test");
    api.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_apps_are_released_and_put_right_each_alone() {
    let world = World::of(files("two-apps"), "").await;
    for name in ["frontend", "backend"] {
        reaches(&world, name, "Initialized").await;
    }
    // A config alone is a release of its reader.
    change(&world, "backend.yaml", "PODINFO_UI_MESSAGE: hello", "PODINFO_UI_MESSAGE: good day");
    reaches(&world, "backend", "Succeeded").await;
    world.canary_called("frontend", "left alone", |canary| canary["status"]["phase"] == "Initialized").await;
    world.failing(true);
    change(&world, "frontend.yaml", "podinfo:3.1.0", "podinfo:3.1.1");
    reaches(&world, "frontend", "Failed").await;
    let put_back = async || {
        let text = world.repository.read(BRANCH, "frontend.yaml").unwrap();
        text == files("two-apps").into_iter().find(|file| file.path == "frontend.yaml").unwrap().content
    };
    world.eventually("Git is put right", put_back).await;
    assert!(
        world.repository.read(BRANCH, "backend.yaml").unwrap().contains("good day"),
        "the other's change stays"
    );
}

/// Each environment as the program renders it. That a rollback edits the overlay's own line is `git::rendered`'s.
#[tokio::test(start_paused = true)]
async fn an_overlay_is_released_as_it_is_rendered() {
    let Some(kubectl) = program("kubectl") else { return };
    for (environment, size) in [("staging", 1), ("production", 3)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/overlay").join(environment);
        // Before the world begins: its time does not wait for a program.
        let content = output(Command::new(&kubectl).arg("kustomize").arg(folder));
        let world = World::of(vec![FileEdit { path: "rendered.yaml".to_owned(), content }], "").await;
        reaches(&world, "podinfo", "Initialized").await;
        let deployment = world.deployment("podinfo-primary").await.unwrap();
        assert_eq!(deployment["spec"]["replicas"], size, "{environment}'s size");
        change(&world, "rendered.yaml", "podinfo:3.1.0", "podinfo:3.1.1");
        reaches(&world, "podinfo", "Succeeded").await;
        assert_eq!(world.image("podinfo-primary").await.as_deref(), Some("3.1.1"));
    }
}

#[tokio::test(start_paused = true)]
async fn gates_wait_for_a_person() {
    let world = World::of(files("gates"), "").await;
    reaches(&world, "podinfo", "Initialized").await;
    world.closed(true);
    change(&world, "deployment.yaml", "podinfo:3.1.0", "podinfo:3.1.1");
    reaches(&world, "podinfo", "Waiting").await;
    world.closed(false);
    world.has_weight(10).await;
    world.closed(true);
    reaches(&world, "podinfo", "WaitingPromotion").await;
    assert_eq!(world.image("podinfo-primary").await.as_deref(), Some("3.1.0"));
    world.closed(false);
    reaches(&world, "podinfo", "Succeeded").await;
    assert_eq!(world.image("podinfo-primary").await.as_deref(), Some("3.1.1"));
}

#[tokio::test(start_paused = true)]
async fn what_flagger_released_is_released_blue_green_and_on_call_is_told() {
    let world = World::of(files("from-flagger"), "").await;
    reaches(&world, "podinfo", "Initialized").await;
    creates(
        &world,
        json!({
            "metadata": {"name": "on-call", "annotations": {"serin.dev/send-to-alerts": "true"}},
            "stringData": {"address": "https://chat.example.com/hook"}
        }),
    )
    .await;
    change(&world, "podinfo.yaml", "podinfo:3.1.0", "podinfo:3.1.1");
    reaches(&world, "podinfo", "Succeeded").await;
    assert_eq!(world.image("podinfo-primary").await.as_deref(), Some("3.1.1"));
    world.failing(true);
    change(&world, "podinfo.yaml", "podinfo:3.1.1", "podinfo:3.1.2");
    reaches(&world, "podinfo", "Failed").await;
    world.quiet().await;
    let said = world.room.as_ref().unwrap().said();
    assert!(matches!(&said[..], [told] if told.contains("podinfo.test") && told.contains("69.17")), "{said:?}");
}
