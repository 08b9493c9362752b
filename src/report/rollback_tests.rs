use pretty_assertions::assert_eq;
use std::sync::Arc;

use super::*;
use crate::analysis::Verdict;
use crate::git::SnapshotFile;
use crate::model::{Digest, ReleaseId};
use crate::release::{Cause, OutcomeKind};
use crate::report::samples::target;

const GOOD: &str = "# Ours\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: podinfo\n  namespace: test\nspec:\n  replicas: 2 # two\n  template:\n    spec:\n      containers:\n        - name: podinfod\n          image: podinfo:3.1.0 # keep me\n";

fn digest_of(text: &str) -> Digest {
    template_digest(&template_in(text, &target()).unwrap())
}

fn commit(hex: &str) -> CommitId {
    hex.repeat(40).parse().unwrap()
}

fn bad() -> String {
    GOOD.replace("3.1.0", "3.1.1").replace("replicas: 2", "replicas: 3")
}

fn snapshot(text: &str) -> Snapshot {
    let file = |path: &str, text: &str| {
        Arc::new(SnapshotFile {
            path: path.into(),
            oid: text.len().to_string(),
            text: Arc::from(text),
            rendered: false,
        })
    };
    Snapshot {
        commit: commit("d"),
        files: vec![file("deploy/broken.yaml", "a: b: c\n"), file("deploy/podinfo.yaml", text)],
        skipped: Vec::new(),
        subject: String::new(),
        author: String::new(),
        time: "2026-01-02T03:04:05Z".parse().unwrap(),
    }
}

fn failed() -> Outcome {
    let revision = Revision { digest: digest_of(&bad()), commit: Some(commit("b")) };
    Outcome {
        release: ReleaseId::new(2, &revision.digest),
        kind: OutcomeKind::Failed,
        revision,
        promoted: None,
        cause: Some(Cause { message: "request-success-rate 69.17% is below 99%".into() }),
        started: "2026-01-02T03:00:00Z".parse().unwrap(),
        ended: "2026-01-02T03:04:00Z".parse().unwrap(),
        checks: vec![CheckResult {
            name: "request-success-rate".into(),
            verdict: Verdict::Fail,
            value: Some(69.17),
            limit: "≥ 99".into(),
        }],
        overrode: None,
    }
}

fn decide_on(tip: &str, failed: &Outcome, changes: &[FileChange], change: impl Fn(&mut Case<'_>)) -> Decision {
    let promoted = Revision { digest: digest_of(GOOD), commit: Some(commit("a")) };
    let manifest = ManifestFile { path: "deploy/podinfo.yaml".into(), text: GOOD.into(), configs: Vec::new() };
    let canary = NamespacedName::new("test", "podinfo");
    let target = target();
    let tip = match find(&snapshot(tip), &target, &mut ParseCache::default()) {
        Ok(found) => found.with_configs(&snapshot(tip), &target, Some(&manifest), &mut ParseCache::default()),
        Err(none) => return Decision::None(none),
    };
    let mut case = Case {
        cluster: "c1",
        branch: "main",
        canary: &canary,
        target: &target,
        failed,
        promoted: Some(&promoted),
        manifest: Some(&manifest),
        released_again: false,
        rolled_back: None,
        tip: &tip,
        changes,
        turned: None,
        edits: None,
    };
    change(&mut case);
    decide(&case)
}

/// A commit that turned one text of the file into another.
fn changed(before: &str, after: &str) -> FileChange {
    let text = |text: &str| Some(Arc::from(text));
    FileChange { commit: commit("e"), time: failed().ended, before: text(before), after: text(after), alone: true }
}

fn plan(decision: Decision) -> RollbackPlan {
    match decision {
        Decision::Commit(plan) => plan,
        other => panic!("{other:?}"),
    }
}

#[test]
fn restores_the_template_and_says_why() {
    let plan = plan(decide_on(&bad(), &failed(), &[], |_| {}));
    let (path, content) = &plan.files[0];
    assert_eq!((plan.files.len(), path.as_str()), (1, "deploy/podinfo.yaml"));
    assert_eq!(*content, bad().replace("3.1.1", "3.1.0"), "replicas and comments stay");
    let (from, to) = (digest_of(&bad()), digest_of(GOOD));
    let expected = format!(
        "Roll back test/podinfo to {}\n\nRelease 2-{} failed: request-success-rate 69.17% is below 99%\n\n- image 3.1.1 -> 3.1.0\n\n\
         Checks:\n\n- request-success-rate: 69.17 (limit ≥ 99): fail\n\nSerin-Rollback: test/podinfo\nSerin-From: {from}@{}\n\
         Serin-To: {to}@{}\nSerin-Cause: request-success-rate 69.17% is below 99%\nSerin-Cluster: c1\n",
        to.short(),
        from.short(),
        "b".repeat(40),
        "a".repeat(40)
    );
    assert_eq!(plan.message, expected);
}

#[test]
fn is_made_at_most_once_and_known_by_what_it_did() {
    let after = bad().replace("3.1.1", "3.1.0");
    let rollback = changed(&bad(), &after);
    assert_eq!(decide_on(&after, &failed(), std::slice::from_ref(&rollback), |_| {}), Decision::Done(commit("e")));
    let again = Decision::None(NoRollback::RolledBackBefore(commit("e")));
    assert_eq!(decide_on(&bad(), &failed(), std::slice::from_ref(&rollback), |_| {}), again);
    // Known to status, however far behind it lies.
    let earlier = commit("f");
    let known =
        decide_on(&bad(), &failed(), &[], |case| case.rolled_back = Some(Box::leak(Box::new(earlier.clone()))));
    assert_eq!(known, Decision::None(NoRollback::RolledBackBefore(commit("f"))));

    // What does something else is none, whatever it says.
    let others = [
        FileChange { alone: false, ..rollback.clone() },
        changed(GOOD, &bad()),
        changed(&bad(), &bad().replace("3.1.1", "3.1.2")),
        changed("a: 1\n", &after),
        changed(&bad(), "a: 1\n"),
        FileChange { before: None, ..rollback.clone() },
        FileChange { after: None, ..rollback },
    ];
    for other in &others {
        let decision = decide_on(&bad(), &failed(), std::slice::from_ref(other), |_| {});
        assert!(matches!(decision, Decision::Commit(_)), "{other:?}: {decision:?}");
    }
}

#[test]
fn every_reason_says_whether_somebody_has_to_do_something() {
    // By hand: the branch is right, and the commit that did it is not ours.
    let put_right = decide_on(&bad().replace("3.1.1", "3.1.0"), &failed(), &[], |_| {});
    assert_eq!(put_right, Decision::None(NoRollback::PutRight));
    assert!(!NoRollback::PutRight.leaves_failed());
    assert!(NoRollback::TurnedOff.leaves_failed());
    assert!(NoRollback::RolledBackBefore(commit("e")).leaves_failed());
    assert!(!NoRollback::CauseNotInGit.leaves_failed());
}

#[test]
fn gives_its_reason_when_there_is_none() {
    let reason = |decision| match decision {
        Decision::None(reason) => reason.to_string(),
        other => panic!("{other:?}"),
    };
    let by_kubectl = Outcome { revision: Revision { commit: None, ..failed().revision }, ..failed() };
    assert_eq!(reason(decide_on(&bad(), &by_kubectl, &[], |_| {})), "the failed revision did not come from Git");
    let moved = bad().replace("3.1.1", "3.1.2");
    assert!(reason(decide_on(&moved, &failed(), &[], |_| {})).starts_with("the branch has moved on"));
    assert!(reason(decide_on("a: 1\n", &failed(), &[], |_| {})).contains("no longer there"));
    let broken = format!("{}a: b: c\n", bad());
    assert!(
        reason(decide_on(&broken, &failed(), &[], |_| {})).starts_with("the manifest at the tip cannot be read")
    );
    assert!(
        reason(decide_on(&bad(), &failed(), &[], |case| case.manifest = None))
            .contains("no commit of branch main")
    );
    assert!(
        reason(decide_on(&bad(), &failed(), &[], |case| case.promoted = None)).contains("nothing was promoted")
    );
    assert!(reason(decide_on(&bad(), &failed(), &[], |case| case.released_again = true)).contains("again"));
    // What was promoted is not what the manifest says.
    let other: &'static Revision =
        Box::leak(Box::new(Revision { digest: Digest::of_canonical(b"other"), commit: None }));
    assert!(
        reason(decide_on(&bad(), &failed(), &[], |case| case.promoted = Some(other)))
            .contains("would have the digest")
    );
}

/// A target that reads a ConfigMap of another file.
const READER: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: podinfo, namespace: test}\nspec:\n  template:\n    spec:\n      containers:\n        - name: podinfod\n          image: podinfo:3.1.0\n          envFrom: [{configMapRef: {name: settings}}]\n";

fn config(color: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: test}}\ndata:\n  color: {color} # nice\n"
    )
}

fn files(all: &[(&str, &str)]) -> Snapshot {
    let file = |(path, text): &(&str, &str)| {
        let oid = Digest::of_canonical(text.as_bytes()).to_string();
        Arc::new(SnapshotFile { path: (*path).to_owned(), oid, text: Arc::from(*text), rendered: false })
    };
    Snapshot { files: all.iter().map(file).collect(), ..snapshot("") }
}

/// What is promoted is the reader with a blue config; what failed is at the tip, in these files.
fn decide_on_configs(tip: &[(&str, &str)]) -> Decision {
    let (good, blue): (&str, Arc<str>) = (READER, config("blue").into());
    let name = configs_read(&template_in(good, &target()).unwrap()).into_iter().next().unwrap();
    let configs = vec![ConfigFile::find("settings.yaml", &blue, &name, &target()).unwrap()];
    let pinned = configs::pinned_by(&template_in(good, &target()).unwrap(), &configs).unwrap();
    let promoted = Revision { digest: pinned.digest, commit: Some(commit("a")) };
    let manifest = ManifestFile { path: "podinfo.yaml".into(), text: good.into(), configs };
    let (canary, target, tip) = (NamespacedName::new("test", "podinfo"), target(), files(tip));
    let cache = &mut ParseCache::default();
    let found = find(&tip, &target, cache).unwrap().with_configs(&tip, &target, Some(&manifest), cache);
    let digest = configs::pinned_by(&found.template, &found.configs).map(|pinned| pinned.digest);
    let revision =
        Revision { digest: digest.unwrap_or(template_digest(&found.template)), commit: Some(commit("b")) };
    let failed = Outcome { revision, ..failed() };
    decide(&Case {
        cluster: "c1",
        branch: "main",
        canary: &canary,
        target: &target,
        failed: &failed,
        promoted: Some(&promoted),
        manifest: Some(&manifest),
        released_again: false,
        rolled_back: None,
        tip: &found,
        changes: &[],
        turned: None,
        edits: None,
    })
}

#[test]
fn a_config_goes_back_with_its_template_or_alone() {
    let (red, bad) = (config("red"), READER.replace("3.1.0", "3.1.1"));
    let alone = plan(decide_on_configs(&[("settings.yaml", &red), ("podinfo.yaml", READER)]));
    assert_eq!(alone.files, [("settings.yaml".to_owned(), config("blue"))]);
    assert!(alone.message.contains("- ConfigMap settings as it was"), "{}", alone.message);
    let both = plan(decide_on_configs(&[("podinfo.yaml", &bad), ("settings.yaml", &red)]));
    let expected = [("podinfo.yaml", READER.to_owned()), ("settings.yaml", config("blue"))];
    assert_eq!(both.files, expected.map(|(path, text)| (path.to_owned(), text)));
    let image = plan(decide_on_configs(&[("podinfo.yaml", &bad), ("settings.yaml", &config("blue"))]));
    assert_eq!(image.files, [("podinfo.yaml".to_owned(), READER.to_owned())]);
    // One file holds both, and the failed template does not even read the config.
    let unread = bad.replace("          envFrom: [{configMapRef: {name: settings}}]\n", "");
    let one = format!("{unread}---\n{red}");
    let together = plan(decide_on_configs(&[("all.yaml", &one)]));
    assert_eq!(together.files.len(), 1);
    assert!(together.files[0].1.contains("color: blue # nice") && together.files[0].1.contains("settings}}]"));
}

#[test]
fn a_config_is_not_put_back_under_others_nor_made_anew() {
    let (red, bad) = (config("red"), READER.replace("3.1.0", "3.1.1"));
    let other = READER.replace("name: podinfo,", "name: other,");
    let job = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c, namespace: test}\nspec: {jobTemplate: {spec: {template: \
               {spec: {containers: [{name: a, envFrom: [{configMapRef: {name: settings}}]}]}}}}}\n";
    for reader in [other.as_str(), job] {
        let decision = decide_on_configs(&[("a.yaml", reader), ("settings.yaml", &red), ("podinfo.yaml", READER)]);
        assert!(matches!(&decision, Decision::None(NoRollback::Shared { .. })), "{decision:?}");
    }
    let elsewhere = other.replace("namespace: test", "namespace: elsewhere");
    plan(decide_on_configs(&[("a.yaml", &elsewhere), ("settings.yaml", &red), ("podinfo.yaml", READER)]));
    let gone = decide_on_configs(&[("podinfo.yaml", &bad)]);
    assert!(matches!(&gone, Decision::None(NoRollback::ConfigGone(_))), "{gone:?}");
}
