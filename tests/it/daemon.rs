//! End to end: `serin run` as a process, `git push` with the git CLI, reading with kubectl, SIGKILL.

use crate::support::world::{World, example};

/// The stage of the release under way.
const STAGE: &str = "{.status.serin.state.phase.stage.name}";

/// What seed 003 shows, without the steps that it folds into one line and with those that it leaves out.
const SEED_003: [&str; 12] = [
    "podinfo-primary.test not ready: waiting for rollout to finish",
    "all the metrics providers are available!",
    "Initialization done! podinfo.test",
    "New revision detected! Scaling up podinfo.test",
    "Starting canary analysis for podinfo.test",
    "Pre-rollout check acceptance-test passed",
    "Advance podinfo.test canary weight 10",
    "Advance podinfo.test canary weight 20",
    "Advance podinfo.test canary weight 30",
    "Advance podinfo.test canary weight 40",
    "Advance podinfo.test canary weight 50",
    "Promotion completed! Scaling down podinfo.test",
];

/// Whether these lines follow each other in the text, with others in between.
fn in_order(text: &str, lines: &[&str]) -> Result<(), String> {
    let mut rest = text;
    for line in lines {
        rest = rest.split_once(line).ok_or_else(|| format!("`{line}` is missing or too early in\n{text}"))?.1;
    }
    Ok(())
}

/// The Events of the Canary as kubectl shows them.
fn described(world: &World) -> String {
    let text = world.kubectl(&["-n", "test", "describe", "canary/podinfo"]);
    text.split_once("\nEvents:").map(|(_, events)| events.to_owned()).unwrap_or_default()
}

#[test]
fn a_push_is_released_through_a_kill_and_a_bad_one_is_rolled_back_in_git() {
    let Some(mut world) = World::start(&[]) else { return };
    world.initialize();
    assert!(world.image("podinfo-primary").ends_with(":3.1.0"));

    world.push_tag("3.1.1");
    world.wait("{.status.canaryWeight}", "20");
    world.kill_and_run();
    world.wait("{.status.phase}", "Succeeded");
    assert!(world.image("podinfo-primary").ends_with(":3.1.1"));
    let events = described(&world);
    in_order(&events, &SEED_003).unwrap_or_else(|problem| panic!("{problem}"));
    for line in SEED_003 {
        assert_eq!(events.matches(line).count(), 1, "`{line}` once in\n{events}");
    }
    world.wait_record("phase: Succeeded");

    let primary = world.pods("podinfo-primary");
    assert_eq!(primary.len(), 2, "what the autoscaler asks for");
    world.push_tag("3.1.2-errors-50");
    let bad = world.git_show(&["rev-parse", "HEAD"]);
    world.wait(STAGE, "ending");
    world.kill_and_run();
    world.wait("{.status.phase}", "Failed");
    // The rollback commit comes by Git and goes to the cluster as any other.
    world.wait_for(
        "deployment/podinfo",
        "{.spec.template.spec.containers[0].image}",
        "stefanprodan/podinfo:3.1.1",
    );
    world.pull();
    let original = std::fs::read_to_string(example().join("deployment.yaml")).expect("the example");
    assert_eq!(
        world.deployment_file(),
        original.replacen("podinfo:3.1.0", "podinfo:3.1.1", 1),
        "comments and neighbouring lines as they were"
    );
    let commit = world.git_show(&["log", "-1", "--format=%B"]);
    assert!(commit.contains("Serin-Rollback:") && commit.contains("success rate"), "{commit}");
    assert_eq!(world.git_show(&["rev-parse", "HEAD^"]), bad, "one commit, on what was pushed");
    assert_eq!(world.git_show(&["diff", "--name-only", "HEAD^"]), "deployment.yaml\n");
    let record = world.wait_record("phase: Failed");
    assert!(record.contains("3.1.2-errors-50") || record.contains(bad.trim()), "{record}");
    // The rollback commit has been applied (the wait above), so by now it would have started something.
    assert_eq!(
        world.kubectl(&["-n", "test", "get", "canary/podinfo", "-o", "jsonpath={.status.phase}"]),
        "Failed"
    );
    assert!(world.image("podinfo-primary").ends_with(":3.1.1"));
    assert_eq!(world.pods("podinfo-primary"), primary, "no pod of primary was replaced");
    in_order(&described(&world), &["Rolling back podinfo.test", "Canary failed! Scaling down podinfo.test"])
        .unwrap_or_else(|problem| panic!("{problem}"));
}

#[test]
fn a_push_at_weight_30_supersedes_the_release_through_a_kill() {
    let Some(mut world) = World::start(&[]) else { return };
    world.initialize();
    world.push_tag("3.1.3");
    world.wait("{.status.canaryWeight}", "30");
    let first = world.git_show(&["rev-parse", "HEAD"]);
    world.push_tag("3.1.4");
    world.wait(STAGE, "ending");
    world.kill_and_run();
    world.wait("{.status.phase}", "Succeeded");
    assert!(world.image("podinfo-primary").ends_with(":3.1.4"));
    in_order(
        &described(&world),
        &[
            "canary weight 30",
            "New revision detected! Restarting analysis for podinfo.test",
            "Promotion completed!",
        ],
    )
    .unwrap_or_else(|problem| panic!("{problem}"));
    let ended = world.kubectl(&["-n", "test", "get", "canary/podinfo", "-o", "yaml"]);
    assert!(ended.contains(first.trim()) && ended.contains("superseded"), "{ended}");
    world.wait_record("phase: Succeeded");
}
