//! What a Canary tells while Git does not have its releases: a real repository whose hook denies the record.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::wait::await_condition;
use pretty_assertions::assert_eq;
use serde_json::Value;
use serin::api::Canary;
use serin::cluster::{Claim, NoProbe, SharedWatch, Writer};
use serin::git::Identity;
use serin::report::git::{Context, run, watched_canaries};
use serin::report::writer::BATCH;
use serin::report::{ReporterSettings, RollbackCommits};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::world::{CAP, World};
use crate::git::world::World as Repository;

const STATUS: &str = "serin/status/c1";

fn report(world: &World, repository: &Repository) -> DropGuard {
    let (shutdown, clock) = (CancellationToken::new(), world.clock.clone());
    let mut watch = SharedWatch::of::<Canary>(&world.cluster, None);
    let canaries = watched_canaries(&mut watch);
    watch.start(shutdown.clone());
    let context = Context {
        forge: None,
        cluster: world.cluster.clone(),
        writer: Writer::new(Claim::always()),
        canaries,
        rollouts: None,
        store: repository.store(),
        remote: repository.remote(),
        renderer: serin::render::Renderer::none(repository.store()),
        settings: ReporterSettings {
            cluster: "c1".into(),
            writer: String::new(),
            branch: "main".parse().unwrap(),
            path: ".".into(),
            status_branch: STATUS.parse().unwrap(),
            identity: Identity { name: "serin".into(), email: "serin@example.com".into() },
            rollback: RollbackCommits::Make,
            batch: BATCH,
        },
        now: Arc::new(move || clock.now()),
    };
    tokio::spawn(run(context, shutdown.clone()));
    shutdown.drop_guard()
}

fn recorded(object: &DynamicObject) -> Option<&Value> {
    object.data["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Recorded")
}

async fn becomes(world: &World, what: &str, is: impl Fn(&DynamicObject) -> bool) -> DynamicObject {
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    let reached = |object: Option<&DynamicObject>| object.is_some_and(&is);
    let waited = tokio::time::timeout(CAP, await_condition(api, "podinfo", reached)).await;
    waited.unwrap_or_else(|_| panic!("never: {what}")).unwrap().unwrap()
}

/// Events as type and message, waited for until one of them is there.
async fn has_event(world: &World, kind: &str, words: &str) {
    let api = Api::<Event>::namespaced(world.cluster.client(), "test");
    let looking = async {
        loop {
            let events = api.list(&ListParams::default()).await.unwrap().items;
            let found = events.iter().any(|event| {
                event.type_.as_deref() == Some(kind)
                    && event.message.as_deref().is_some_and(|message| message.starts_with(words))
            });
            if found {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(CAP, looking).await.unwrap_or_else(|_| panic!("no {kind} event: {words}"));
}

#[tokio::test(start_paused = true)]
async fn a_denied_record_is_told_on_the_canary_until_git_has_it() {
    let repository = Repository::new(&[("README.md", "nothing to release\n")]);
    let policy = repository.dir.path().join("policy");
    std::fs::write(&policy, "").unwrap();
    repository.hook(
        "pre-receive",
        &format!("if [ -e {} ]; then echo 'ask ops first' >&2; exit 1; fi", policy.display()),
    );
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let _reporter = report(&world, &repository);

    let canary = becomes(&world, "a condition", |object| recorded(object).is_some()).await;
    let condition = recorded(&canary).unwrap();
    assert_eq!((&condition["status"], &condition["reason"]), (&"False".into(), &"PushDenied".into()));
    assert!(condition["message"].as_str().unwrap().contains("ask ops first"), "{condition}");
    let annotation = &canary.metadata.annotations.unwrap()["serin.dev/unrecorded"];
    assert!(annotation.starts_with("PushDenied: "), "{annotation}");
    has_event(&world, "Warning", "Git does not have everything of podinfo.test: PushDenied").await;

    // Allowed: nobody has to do anything else.
    std::fs::remove_file(&policy).unwrap();
    let canary = becomes(&world, "no condition", |object| recorded(object).is_none()).await;
    assert!(!canary.metadata.annotations.unwrap().contains_key("serin.dev/unrecorded"));
    has_event(&world, "Normal", "Git has everything of podinfo.test again").await;
    becomes(&world, "an empty outbox", |object| object.data["status"]["serin"]["state"]["outbox"].is_null()).await;
    assert!(repository.show(STATUS, "test/podinfo.yaml").contains("Initialized"));
}
