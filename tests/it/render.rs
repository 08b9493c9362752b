//! Kustomizations of a real repository, rendered by the program that is on this machine.

use std::sync::Arc;

use serin::git::{Limits, Snapshot};
use serin::model::CommitId;
use serin::render::{Program, Renderer};

use crate::git::world::{MAIN, World};

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: \
    web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: \"podinfo:1\"}]}\n";
const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain}\n";

fn program() -> Option<Program> {
    let program = Program::find(std::env::var_os("PATH").as_deref());
    if program.is_none() {
        eprintln!("skipped: neither kustomize nor kubectl is here");
    }
    program
}

/// A base, an overlay that sets a tag and a namespace, and a folder of plain files.
fn world() -> World {
    World::new(&[
        ("base/kustomization.yaml", "resources: [web.yaml]\n"),
        ("base/web.yaml", DEPLOYMENT),
        ("base/unlisted.yaml", CONFIG),
        (
            "prod/kustomization.yaml",
            "namespace: prod\nresources: [../base]\nimages: [{name: podinfo, newTag: \"2\"}]\nconfigMapGenerator: [{name: env, \
             files: [env.properties]}]\n",
        ),
        ("prod/env.properties", "a=1\n"),
        ("plain/a.yaml", CONFIG),
    ])
}

async fn read(world: &World, renderer: &Renderer, tip: &CommitId, path: &str) -> Snapshot {
    world.store().fetch(&world.remote(), MAIN).await.unwrap();
    renderer.snapshot(tip, path, Limits::default()).await.unwrap()
}

fn paths(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.files.iter().map(|file| file.path.as_str()).collect()
}

#[tokio::test]
async fn an_overlay_is_what_it_makes_and_is_made_once() {
    let Some(program) = program() else { return };
    let world = world();
    let renderer = Renderer::new(world.store(), Some(program), world.dir.path().join("render"));
    let tip = world.tip("main").unwrap();
    let snapshot = read(&world, &renderer, &tip, "").await;
    assert_eq!(snapshot.skipped, []);
    assert_eq!(paths(&snapshot), ["plain/a.yaml", "prod/kustomization.yaml"]);
    let made = &snapshot.files[1];
    assert!(made.rendered && !snapshot.files[0].rendered);
    for part in ["image: podinfo:2", "namespace: prod", "name: web", "name: env-"] {
        assert!(made.text.contains(part), "{part}: {}", made.text);
    }
    assert!(!made.text.contains("name: plain"), "what no kustomization lists is left out");
    // Only the overlay is watched: its base is made all the same.
    let alone = read(&world, &renderer, &tip, "prod").await;
    assert!(Arc::ptr_eq(&alone.files[0].text, &made.text), "equal input is rendered once");
    let other = world.push(&[("plain/b.yaml", &CONFIG.replace("plain", "b"))], "Another");
    assert!(Arc::ptr_eq(&read(&world, &renderer, &other, "prod").await.files[0].text, &made.text));
    let changed =
        world.push(&[("base/web.yaml", &DEPLOYMENT.replace("name: web\n", "name: web, n: 1\n"))], "Base");
    assert_eq!(read(&world, &renderer, &changed, "prod").await.files.len(), 1);
    // Nothing is left on the disk.
    assert_eq!(std::fs::read_dir(world.dir.path().join("render")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_fails_is_held_with_the_programs_words_and_the_rest_goes_on() {
    let Some(program) = program() else { return };
    let world = world();
    let renderer = Renderer::new(world.store(), Some(program), world.dir.path().join("render"));
    let patch = "resources: [../base]\npatches: [{path: p.yaml}]\n";
    let stranger = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: nobody}\n";
    let tip = world.push(&[("prod/kustomization.yaml", patch), ("prod/p.yaml", stranger)], "Patch");
    let snapshot = read(&world, &renderer, &tip, "").await;
    assert_eq!(paths(&snapshot), ["plain/a.yaml"]);
    let said = &snapshot.skipped[0];
    assert_eq!(said.path, "prod/kustomization.yaml");
    assert!(said.reason.contains("cannot be rendered") && said.reason.contains("nobody"), "{}", said.reason);
    assert!(!said.reason.contains(world.dir.path().to_str().unwrap()), "{}", said.reason);
}

#[tokio::test]
async fn a_selection_needs_no_program_and_an_overlay_without_one_is_held() {
    let world = world();
    let renderer = Renderer::none(world.store());
    let tip = world.tip("main").unwrap();
    let snapshot = read(&world, &renderer, &tip, "base").await;
    assert_eq!((paths(&snapshot), snapshot.skipped.len()), (vec!["base/web.yaml"], 0));
    assert!(!snapshot.files[0].rendered);
    let snapshot = read(&world, &renderer, &tip, "").await;
    assert_eq!(paths(&snapshot), ["plain/a.yaml"], "nothing of the folder, and nothing of its base");
    let said = &snapshot.skipped[0].reason;
    assert!(said.contains("`images`") && said.contains("neither `kustomize` nor `kubectl`"), "{said}");
    // What is elsewhere is refused before anything runs.
    let remote = "resources: [\"https://example.com/a.yaml\"]\n";
    let tip = world.push(&[("base/kustomization.yaml", remote)], "Remote");
    let snapshot = read(&world, &renderer, &tip, "").await;
    assert_eq!(paths(&snapshot), ["plain/a.yaml"]);
    assert!(
        snapshot.skipped.iter().all(|file| file.reason.contains("nothing is fetched")),
        "{:?}",
        snapshot.skipped
    );
}

#[tokio::test]
async fn a_chart_is_one_thing_that_is_not_rendered() {
    let template = "a: {{ .Values.a }}\n";
    let world = World::new(&[
        ("chart/Chart.yaml", "apiVersion: v2\nname: a\n"),
        ("chart/values.yaml", "a: 1\n"),
        ("chart/templates/a.yaml", template),
        ("chart/charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\n"),
        ("plain/a.yaml", CONFIG),
    ]);
    let renderer = Renderer::none(world.store());
    let snapshot = read(&world, &renderer, &world.tip("main").unwrap(), "").await;
    assert_eq!(paths(&snapshot), ["plain/a.yaml"]);
    let said: Vec<_> = snapshot.skipped.iter().map(|file| (file.path.as_str(), file.reason.as_str())).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].0 == "chart/Chart.yaml" && said[0].1.contains("helm template"), "{said:?}");
}
