//! End to end: `serin run` as a process, `git push` with the git CLI, reading with kubectl, SIGKILL.

use crate::support::world::{World, example};

/// The stage of the release under way.
const STAGE: &str = "{.status.serin.state.phase.stage.name}";

/// What seed 003 shows of the initialization.
const INITIALIZED: [&str; 3] = [
    "podinfo-primary.test not ready: waiting for rollout to finish",
    "all the metrics providers are available!",
    "Initialization done! podinfo.test",
];
/// What it shows of the release, with the steps that its last line folds.
const RELEASED: [&str; 11] = [
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

/// Asserts that `kubectl describe` shows Events with these words in this order, others in between; returns all of them.
fn assert_order(world: &World, words: &[&str]) -> String {
    let last = words.last().expect("some words");
    // Events follow the status that tells of them.
    let events = world.eventually(&format!("an Event `{last}`"), || {
        let text = world.kubectl(&["-n", "test", "describe", "canary/podinfo"]);
        let events = text.split_once("\nEvents:").map(|(_, events)| events.to_owned())?;
        events.contains(last).then_some(events)
    });
    let mut rest = events.as_str();
    for word in words {
        let after = rest.split_once(word).map(|(_, after)| after);
        rest = after.unwrap_or_else(|| panic!("`{word}` is missing or too early in\n{events}"));
    }
    events
}

#[test]
fn a_push_is_released_through_a_kill_and_a_bad_one_is_rolled_back_in_git() {
    let Some(mut world) = World::start(&[]) else { return };
    world.initialize();
    assert!(world.image("podinfo-primary").ends_with(":3.1.0"));
    assert_order(&world, &INITIALIZED);

    world.push_tag("3.1.1");
    world.wait("{.status.canaryWeight}", "20");
    world.kill_and_run();
    world.wait("{.status.phase}", "Succeeded");
    assert!(world.image("podinfo-primary").ends_with(":3.1.1"));
    let events = assert_order(&world, &RELEASED);
    for line in RELEASED {
        let found: Vec<&str> = events.lines().filter(|event| event.contains(line)).collect();
        assert!(
            found.len() == 1 && !found[0].contains("(x"),
            "`{line}` once, though a process was killed:\n{events}"
        );
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
    assert!(
        commit.contains("Serin-Rollback:")
            && commit.contains("request-success-rate ")
            && commit.contains("% < 99% (5 failed checks)"),
        "{commit}"
    );
    assert_eq!(world.git_show(&["rev-parse", "HEAD^"]), bad, "one commit, on what was pushed");
    assert_eq!(world.git_show(&["diff", "--name-only", "HEAD^"]), "deployment.yaml\n");
    world.wait_record("phase: Failed");
    assert_eq!(world.wait_outcome(bad.trim()), "Failed");
    // The rollback commit has been applied (the wait above), so by now it would have started something.
    assert_eq!(
        world.kubectl(&["-n", "test", "get", "canary/podinfo", "-o", "jsonpath={.status.phase}"]),
        "Failed"
    );
    assert!(world.image("podinfo-primary").ends_with(":3.1.1"));
    assert_eq!(world.pods("podinfo-primary"), primary, "no pod of primary was replaced");
    assert_order(&world, &["Rolling back podinfo.test", "Canary failed! Scaling down podinfo.test"]);
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
    let restarted = ["Restarting analysis for podinfo.test", "canary weight 30", "Promotion completed!"];
    let events = assert_order(&world, &restarted);
    assert_eq!(
        events.matches("Advance podinfo.test canary weight 30").count(),
        2,
        "one of each release:\n{events}"
    );
    assert_eq!(world.wait_outcome(first.trim()), "Superseded");
    assert_eq!(world.wait_outcome(world.git_show(&["rev-parse", "HEAD"]).trim()), "Succeeded");
}
