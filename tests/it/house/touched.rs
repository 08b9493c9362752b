//! What a second router and a second kind are made of, and who else knows them: `scripts/touched` says so.

use std::collections::BTreeSet;
use std::process::Command;

use pretty_assertions::assert_eq;

use super::root;

/// Rooms outside their own folders that name the second router: its definitions and its gateway in the sandbox, the provider's
/// name, the registry. The core is not among them.
const KNOW_THE_ROUTER: &[&str] =
    &["crates/serin-sandbox", "src/api", "src/cli", "src/controller", "src/router", "src/sync"];
/// Rooms outside its own folders that name the second kind. The core knows a promotion that makes the candidate the stable side,
/// and no Rollout; no router knows either. The record is about Rollouts, too.
const KNOW_THE_KIND: &[&str] = &[
    "crates/serin-core",
    "crates/serin-sandbox",
    "src/api",
    "src/cli",
    "src/config",
    "src/controller",
    "src/report",
    "src/sync",
];

fn script(arguments: &[&str]) -> String {
    let output = Command::new(root().join("scripts/touched")).args(arguments).output().expect("bash and awk");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The room of each line of a part of what the script says.
fn rooms(said: &str, part: &str, until: &str) -> BTreeSet<String> {
    let part = said.split(part).nth(1).unwrap_or_default().split(until).next().unwrap_or_default();
    let paths = part.lines().filter_map(|line| line.split_whitespace().next());
    paths.map(|path| path.splitn(3, '/').take(2).collect::<Vec<_>>().join("/")).collect()
}

fn known(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_second_router_and_the_second_kind_are_known_to_these_rooms_only() {
    let (router, kind) = (script(&["router"]), script(&["kind"]));
    assert_eq!(rooms(&router, "known to:\n", "\n\n"), known(KNOW_THE_ROUTER), "{router}");
    assert_eq!(rooms(&kind, "known to:\n", "\n\n"), known(KNOW_THE_KIND), "{kind}");
    // Their own folders are found at all: a path that is no more would make all of the rest vacuous.
    assert_eq!(rooms(&router, "its own:\n", "known to:"), known(&["crates/serin-sandbox", "src/router"]));
    let own = ["src/analysisrun", "src/api", "src/cli", "src/controller", "src/rollout", "src/sync"];
    assert_eq!(rooms(&kind, "its own:\n", "known to:"), known(&own));
}

#[test]
fn the_core_knows_of_the_second_kind_that_the_candidate_may_become_the_stable_side() {
    let said = script(&["kind"]);
    for line in said.lines().filter(|line| line.contains("crates/serin-core/")) {
        let path = line.split_whitespace().next().unwrap();
        let code = super::code(&root().join(path));
        let words = ["rollout::", "rollouts", "argoproj"].iter().filter(|word| code.contains(**word));
        assert_eq!(words.collect::<Vec<_>>(), Vec::<&&str>::new(), "{path}");
    }
}

#[test]
fn history_tells_what_each_changed() {
    // A copy without Git's history has nothing to tell.
    let has_history = Command::new("git")
        .args(["log", "--format=%h", "-1", "--", "src/rollout/mod.rs"])
        .current_dir(root())
        .output()
        .is_ok_and(|output| output.status.success() && !output.stdout.is_empty());
    if !has_history {
        eprintln!("skipped: no Git history here");
        return;
    }
    let said = script(&["history"]);
    for folder in
        ["src/router/gateway_api", "src/rollout", "src/controller/rollouts", "crates/serin-core/src/release"]
    {
        assert!(said.lines().any(|line| line.split_whitespace().next() == Some(folder)), "{folder}: {said}");
    }
}
