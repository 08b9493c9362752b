//! Rollback commits for targets that a kustomization makes: the file is edited that holds the value, and what that makes is proved.

use serin::git::Limits;
use serin::manifest::value_at;
use serin::model::{CommitId, Revision, RollbackFate};
use serin::render::{Program, Renderer};
use serin::report::writer::Projection;

use super::report::{Story, canary, failed, target};
use super::world::{MAIN, World};

const OVERLAY: &str = "# prod\nnamespace: test\nresources: [../base]\nimages:\n- name: podinfo   # set by CI\n  newTag: \"3.1.0\"\n\
    replicas: [{name: podinfo, count: 2}]\n";
const BASE: &str = "resources: [web.yaml]\n";

fn deployment(name: &str, image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  \
         template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      containers:\n      - name: main # the only one\n        \
         image: {image}\n"
    )
}

async fn revision(world: &World, renderer: &Renderer, commit: &CommitId) -> Revision {
    world.store().fetch(&world.remote(), MAIN).await.unwrap();
    let snapshot = renderer.snapshot(commit, "deploy", Limits::default()).await.unwrap();
    let template = value_at(&snapshot.files[0].text, &target(), &["spec", "template"]).unwrap();
    Revision { digest: serin::manifest::template_digest(&template), commit: Some(commit.clone()) }
}

/// Pushes `good`, then `bad` and `later`, lets the bad one fail, and projects it. `None` where nothing renders.
async fn told(good: &[(&str, &str)], bad: &[(&str, &str)], later: &[(&str, &str)]) -> Option<(World, Projection)> {
    let Some(program) = Program::find(std::env::var_os("PATH").as_deref()) else {
        eprintln!("skipped: neither kustomize nor kubectl is here");
        return None;
    };
    let mut story = Story::new();
    let world = World::new(good);
    let scratch = world.dir.path().join("render");
    let renderer = Renderer::new(world.store(), Some(program), scratch);
    let promoted = revision(&world, &renderer, &world.tip("main").unwrap()).await;
    let commit = world.push(bad, "Bad");
    let broken = revision(&world, &renderer, &commit).await;
    assert_ne!(promoted.digest, broken.digest);
    if !later.is_empty() {
        world.push(later, "Later");
    }
    story.world = world;
    story.report.promoted = Some(promoted.clone());
    story.report.outbox = vec![failed(2, broken, &promoted, 100)];
    let mut reporter = story.reporter().rendering(renderer.clone());
    let projection = story.project(&mut reporter, 101).await;
    if projection.rollbacks[0].2.commit.is_some() {
        let after = revision(&story.world, &renderer, &story.world.tip("main").unwrap()).await;
        assert_eq!(after.digest, promoted.digest);
    }
    // Told again it is not done again.
    let tip = story.world.tip("main");
    story.project(&mut reporter, 300).await;
    assert_eq!(story.world.tip("main"), tip);
    Some((story.world, projection))
}

#[tokio::test]
async fn a_tag_is_put_back_in_the_overlay_and_what_came_since_stays() {
    let web = deployment("podinfo", "podinfo");
    let good = [
        ("base/kustomization.yaml", BASE),
        ("base/web.yaml", web.as_str()),
        ("deploy/kustomization.yaml", OVERLAY),
    ];
    let bad = OVERLAY.replace("3.1.0", "3.1.1");
    let later = bad.replace("count: 2", "count: 5");
    let Some((world, projection)) =
        told(&good, &[("deploy/kustomization.yaml", &bad)], &[("deploy/kustomization.yaml", &later)]).await
    else {
        return;
    };
    assert!(projection.rollbacks[0].2.commit.is_some(), "{:?}", projection.rollbacks);
    assert_eq!(world.show("main", "deploy/kustomization.yaml"), OVERLAY.replace("count: 2", "count: 5"));
    assert!(world.bare_git(&["log", "-1", "--format=%B", "main"]).contains("image 3.1.1 -> 3.1.0"));
}

#[tokio::test]
async fn an_image_is_put_back_in_the_base_that_has_it() {
    let (web, broken) = (deployment("podinfo", "other:1"), deployment("podinfo", "other:2"));
    let good = [
        ("base/kustomization.yaml", BASE),
        ("base/web.yaml", web.as_str()),
        ("deploy/kustomization.yaml", OVERLAY),
    ];
    let Some((world, projection)) = told(&good, &[("base/web.yaml", &broken)], &[]).await else { return };
    assert!(projection.rollbacks[0].2.commit.is_some(), "{:?}", projection.rollbacks);
    assert_eq!(world.show("main", "base/web.yaml"), web);
    assert_eq!(world.bare_git(&["diff", "--name-only", "main~1", "main"]), "base/web.yaml");
}

#[tokio::test]
async fn a_value_that_others_share_is_not_put_back_and_that_is_said() {
    let both = [deployment("podinfo", "podinfo"), deployment("worker", "podinfo")].join("---\n");
    let good = [
        ("base/kustomization.yaml", BASE),
        ("base/web.yaml", both.as_str()),
        ("deploy/kustomization.yaml", OVERLAY),
    ];
    let bad = OVERLAY.replace("3.1.0", "3.1.1");
    let Some((world, projection)) = told(&good, &[("deploy/kustomization.yaml", &bad)], &[]).await else { return };
    let reason = projection.rollbacks[0].2.none.clone().unwrap();
    assert!(reason.contains("made by deploy/kustomization.yaml") && reason.contains("nothing else"), "{reason}");
    let fate = &projection.notes[&canary()].fate;
    assert!(matches!(fate, RollbackFate::Missing { reason, .. } if reason == "Rendered"), "{fate:?}");
    assert_eq!(world.show("main", "deploy/kustomization.yaml"), bad);
}
