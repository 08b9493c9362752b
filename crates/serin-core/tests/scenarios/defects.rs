//! Defects of Flagger that must not come back here, each by the id that they have in its teardown (D1 to D28): what
//! triggers them is played, and what users would suffer is looked for.

use super::script;

/// Two weights, one check, and a first revision that is initialized.
const START: &str = "set interval=1m threshold=2 deadline=2m drain=5s
steps 10 analyse 50 analyse
check request-success-rate min=99 window=1m
push v1
advance 1m
";

/// What is said and done when this follows.
fn played(lines: &str) -> String {
    let start = START.lines().filter(|line| !line.is_empty());
    let lines: Vec<&str> = start.chain(lines.lines().map(str::trim).filter(|line| !line.is_empty())).collect();
    script::run(&(lines.join("\n") + "\n"))
}

/// The part of a transcript from one line of the script to another, or to the end.
fn between<'a>(transcript: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) =
        transcript.split_once(&format!("> {from}\n")).unwrap_or_else(|| panic!("no {from}: {transcript}"));
    rest.split_once(&format!("> {to}\n")).map_or(rest, |(part, _)| part)
}

fn count(transcript: &str, words: &str) -> usize {
    transcript.matches(words).count()
}

#[test]
fn d1_a_revision_that_comes_after_a_failure_is_released_whatever_happens_in_that_moment() {
    let told = played(
        "metric request-success-rate 50
        push v2
        advance 5m
        primary waiting restarting
        metric request-success-rate 100
        push v3
        crash
        advance 1m
        primary auto
        advance 10m
        show",
    );
    assert!(told.contains("v2 Failed"), "{told}");
    assert!(told.contains("v3 Succeeded"), "{told}");
}

#[test]
fn d2_after_a_failed_promotion_a_fix_never_sends_users_to_an_unready_primary() {
    let told = played(
        "push v2
        advance 100s
        primary waiting 0 of 2 updated replicas are available
        advance 5m
        push v3
        advance 3m
        primary auto
        advance 20m
        show",
    );
    assert!(told.contains("Promotion of podinfo.test failed"), "{told}");
    let unready = between(&told, "advance 5m", "primary auto");
    assert!(!unready.contains("do Route primary 100 %"), "{unready}");
    assert!(!unready.contains("do ScaleTarget down"), "{unready}");
    assert!(told.contains("v3 Succeeded"), "{told}");
}

#[test]
fn d3_a_missed_deadline_is_told_with_its_reason() {
    let told = played(
        "canary stalled deployment \"podinfo\" exceeded its progress deadline
        push v2
        advance 3m
        show",
    );
    let why = "canary deployment podinfo.test not ready: deployment \"podinfo\" exceeded its progress deadline";
    assert!(told.contains(&format!("W Rolling back podinfo.test progress deadline exceeded {why}")), "{told}");
    assert!(told.contains(&format!("v2 Failed: {why}")), "{told}");
}

#[test]
fn d5_a_rollback_hook_cancels_a_release_that_waits_for_approval() {
    let told = played(
        "webhook start confirm-rollout
        webhook stop rollback
        hook start fail not yet
        hook stop fail no
        push v2
        advance 3m
        hook stop ok
        advance 2m
        show",
    );
    assert!(told.contains("Halt podinfo.test advancement waiting for approval start"), "{told}");
    assert!(told.contains("W Rolling back podinfo.test manual webhook invoked"), "{told}");
    assert!(!told.contains("do ScaleTarget up"), "{told}");
    assert!(told.contains("v2 Failed"), "{told}");
}

#[test]
fn d6_steps_that_are_edited_under_way_never_jump() {
    let told = played(
        "push v2
        advance 40s
        steps 15 analyse 30 analyse 50 analyse
        advance 10m
        show",
    );
    let weights: Vec<u32> =
        told.lines().filter_map(|line| line.split_once("canary weight ")?.1.trim().parse().ok()).collect();
    assert_eq!(weights, [10, 15, 30, 50], "{told}");
}

#[test]
fn d8_going_back_to_what_primary_runs_withdraws_the_release() {
    let told = played(
        "push v2
        advance 90s
        push v1
        advance 10m
        show",
    );
    assert!(told.contains("v2 Withdrawn"), "{told}");
    assert_eq!(count(&told, "New revision detected! Scaling up"), 1, "{told}");
    assert!(told.contains("target v1 x0, primary v1 x2"), "{told}");
}

#[test]
fn d14_a_primary_that_is_scaled_to_zero_is_not_ready() {
    let told = played(
        "push v2
        advance 100s
        primary waiting it is scaled to zero
        advance 90s
        show",
    );
    assert!(!between(&told, "advance 90s", "show").contains("Routing all traffic to primary"), "{told}");
}

#[test]
fn d21_what_lands_between_the_last_check_and_the_copy_is_never_promoted() {
    let told = played(
        "push v2
        copies off
        advance 150s
        edit v4
        advance 10s
        copies on
        advance 20m
        show",
    );
    assert!(!told.contains("do CopyToPrimary v4"), "{told}");
    assert!(!told.contains("primary v4"), "{told}");
}

#[test]
fn d22_a_primary_that_fails_at_first_is_repaired_by_the_next_revision() {
    let told = script::run(
        "set interval=1m threshold=2 deadline=2m
steps 50 analyse
primary stalled deployment \"podinfo-primary\" exceeded its progress deadline
push v1
advance 5m
push v2
primary auto
advance 5m
show
",
    );
    assert!(told.contains("Initialization done! podinfo.test"), "{told}");
    assert!(told.contains("primary v2 x2"), "{told}");
}

#[test]
fn d23_a_closed_traffic_gate_is_told_once_and_pre_rollout_is_asked_once() {
    let told = played(
        "webhook more confirm-traffic-increase
        webhook ready pre-rollout
        hook more fail not yet
        push v2
        advance 10m
        hook more ok
        advance 10m
        show",
    );
    assert_eq!(
        count(&told, "Halt podinfo.test advancement waiting for traffic increase approval more"),
        1,
        "{told}"
    );
    assert_eq!(count(&told, "Pre-rollout check ready passed"), 1, "{told}");
    assert_eq!(count(&told, "Starting canary analysis"), 1, "{told}");
    assert!(told.contains("v2 Succeeded"), "{told}");
}

#[test]
fn d24_another_interval_under_way_asks_nothing_twice() {
    let told = played(
        "webhook load rollout
        push v2
        advance 90s
        set interval=2m
        advance 20m
        show",
    );
    for weight in [10, 50] {
        assert_eq!(count(&told, &format!("Advance podinfo.test canary weight {weight}\n")), 1, "{told}");
    }
    assert!(told.contains("v2 Succeeded"), "{told}");
}

#[test]
fn d28_the_weight_is_told_while_promotion_waits_for_approval() {
    let told = played(
        "webhook finish confirm-promotion
        hook finish fail not yet
        push v2
        advance 10m
        show",
    );
    assert!(told.contains("= WaitingPromotion weight 50"), "{told}");
    assert!(!told.contains("= WaitingPromotion weight 0"), "{told}");
}
