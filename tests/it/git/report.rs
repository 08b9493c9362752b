//! Record and rollback commits against a real repository that others push to as well.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pretty_assertions::assert_eq;
use serin::cluster::{Claim, EffectProbe, NoProbe, Writer};
use serin::git::{Identity, Store};
use serin::manifest::{template_digest, value_at};
use serin::model::{
    CommitId, Digest, NamespacedName, ObjectRef, Projection as Projector, ReleaseId, Revision, RollbackFate,
};
use serin::release::{Cause, Outcome, OutcomeKind};
use serin::report::record::{Record, TargetReport};
use serin::report::writer::{BATCH, FOREIGN_LIVE, GitReporter, Projection, ReporterSettings, RollbackCommits};

use super::world::World;

pub(super) const STATUS: &str = "serin/status/c1";
pub(super) const PATH: &str = "deploy/podinfo.yaml";
pub(super) const GOOD: &str = "\
# podinfo, as everybody knows it
apiVersion: v1
kind: Service
metadata: {name: podinfo, namespace: test}   # unaligned   on purpose
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: podinfo, namespace: test}
spec:
  replicas: 2
  template:
    spec:
      containers:
      - name: podinfod
        image: \"podinfo:3.1.0\"  # the image
";

pub(super) fn bad() -> String {
    GOOD.replace("3.1.0", "3.1.1")
}

pub(super) fn canary() -> NamespacedName {
    NamespacedName::new("test", "podinfo")
}

pub(super) fn target() -> ObjectRef {
    ObjectRef {
        group: "apps".into(),
        kind: "Deployment".into(),
        namespace: Some("test".into()),
        name: "podinfo".into(),
    }
}

pub(super) fn digest(text: &str) -> Digest {
    template_digest(&value_at(text, &target(), &["spec", "template"]).unwrap())
}

pub(super) fn revision(text: &str, commit: &CommitId) -> Revision {
    Revision { digest: digest(text), commit: Some(commit.clone()) }
}

pub(super) fn at(second: i64) -> Timestamp {
    "2026-01-02T03:00:00Z".parse::<Timestamp>().unwrap() + Duration::from_secs(second.unsigned_abs())
}

fn report(promoted: &Revision) -> TargetReport {
    TargetReport {
        canary: canary(),
        target: target(),
        phase: "Initialized".into(),
        since: at(0),
        release: None,
        revision: None,
        weight: 0,
        step: None,
        waiting_on: None,
        promoted: Some(promoted.clone()),
        policy: None,
        checks: Vec::new(),
        cause: None,
        approved_by: None,
        recorded: None,
        rolled_back: Vec::new(),
        quarantined: Vec::new(),
        outbox: Vec::new(),
        outbox_merged: 0,
    }
}

pub(super) fn failed(number: u64, revision: Revision, promoted: &Revision, second: i64) -> Outcome {
    Outcome {
        release: ReleaseId::new(number, &revision.digest),
        kind: OutcomeKind::Failed,
        revision,
        promoted: Some(promoted.clone()),
        cause: Some(Cause { message: "request-success-rate 69.17% is below 99%".into() }),
        started: at(second - 60),
        ended: at(second),
        checks: Vec::new(),
        overrode: None,
    }
}

/// A world with the good manifest promoted and the bad one pushed and failed.
pub(super) struct Story {
    pub(super) world: World,
    pub(super) good: Revision,
    pub(super) report: TargetReport,
    pub(super) bad_commit: CommitId,
}

impl Story {
    pub(super) fn new() -> Self {
        let world = World::new(&[(PATH, GOOD), ("other/x.yaml", "not: touched\n")]);
        let good = revision(GOOD, &world.tip("main").unwrap());
        let bad_commit = world.push(&[(PATH, &bad())], "Release 3.1.1");
        let mut report = report(&good);
        report.phase = "Failed".into();
        report.outbox = vec![failed(2, revision(&bad(), &bad_commit), &good, 100)];
        Self { world, good, report, bad_commit }
    }

    pub(super) fn reporter(&self) -> GitReporter {
        self.reporter_of("uid-1", "cache")
    }

    /// One that rolls back like that.
    pub(super) fn reporter_with(&self, rollback: RollbackCommits) -> GitReporter {
        self.made("uid-1", "cache", rollback, Arc::new(NoProbe))
    }

    pub(super) fn reporter_of(&self, writer: &str, cache: &str) -> GitReporter {
        self.made(writer, cache, RollbackCommits::Make, Arc::new(NoProbe))
    }

    /// One whose pushes somebody watches.
    pub(super) fn reporter_by(&self, probe: Arc<dyn EffectProbe>) -> GitReporter {
        self.made("uid-1", "cache", RollbackCommits::Make, probe)
    }

    fn made(
        &self,
        writer: &str,
        cache: &str,
        rollback: RollbackCommits,
        probe: Arc<dyn EffectProbe>,
    ) -> GitReporter {
        let settings = ReporterSettings {
            cluster: "c1".into(),
            writer: writer.into(),
            branch: "main".parse().unwrap(),
            path: "deploy".into(),
            status_branch: STATUS.parse().unwrap(),
            identity: Identity { name: "serin".into(), email: "serin@example.com".into() },
            rollback,
            batch: BATCH,
        };
        let store = Store::open(self.world.dir.path().join(cache)).unwrap();
        GitReporter::new(store, self.world.remote(), settings, Writer::new(Claim::always()).with_probe(probe))
    }

    pub(super) async fn project(&self, reporter: &mut GitReporter, second: i64) -> Projection {
        let reports = [self.report.clone()];
        // The daemon spawns it.
        fn spawnable<F: Future + Send>(future: F) -> F {
            future
        }
        spawnable(reporter.project(&reports, &[], at(second))).await
    }

    /// As the engine does: what the slowest projection has leaves the outbox.
    pub(super) fn settle(&mut self, projection: &Projection) {
        let Some(projected) = projection.projected.get(&canary()) else { return };
        let outbox = &mut self.report.outbox;
        let place = |by| outbox.iter().position(|outcome| Some(&outcome.release) == projected.up_to(by));
        if let Some(newest) = Projector::GIT.map(place).into_iter().min().flatten() {
            outbox.drain(..=newest);
        }
    }

    fn commits(&self, branch: &str) -> usize {
        self.world.bare_git(&["rev-list", "--count", branch]).parse().unwrap()
    }
}

#[tokio::test]
async fn a_failed_release_is_rolled_back_once_and_recorded() {
    let story = Story::new();
    let mut reporter = story.reporter();
    let projection = story.project(&mut reporter, 101).await;
    assert_eq!(projection.conditions, []);
    assert_eq!(projection.recorded, [(canary(), story.report.outbox[0].release.clone())]);
    assert_eq!(story.world.show("main", PATH), GOOD, "every byte is back");
    assert_eq!(
        story.world.bare_git(&["diff", "--name-only", story.bad_commit.as_str(), "main"]),
        PATH,
        "no other file changed"
    );
    let trailers = story.world.bare_git(&["log", "-1", "--format=%(trailers:only,unfold)", "main"]);
    assert_eq!(trailers.lines().count(), 5, "{trailers}");
    assert!(trailers.contains("Serin-Rollback: test/podinfo\n"), "{trailers}");
    let history = story.world.bare_git(&["ls-tree", "-r", "--name-only", STATUS, "history/"]);
    assert!(story.world.show(STATUS, &history).contains(story.world.tip("main").unwrap().as_str()));
    assert_eq!(story.world.show(STATUS, "manifests/test/podinfo/podinfo.yaml"), GOOD);

    // Told again, by the same process, by one that lost its memory, and by one that lost its cache: nothing is doubled.
    let (main, status) = (story.world.tip("main"), story.world.tip(STATUS));
    story.project(&mut reporter, 200).await;
    story.project(&mut story.reporter(), 200).await;
    story.project(&mut story.reporter_of("uid-1", "fresh"), 200).await;
    assert_eq!((story.world.tip("main"), story.world.tip(STATUS)), (main, status));
}

#[tokio::test]
async fn after_a_crash_between_both_pushes_the_record_names_the_commit() {
    let story = Story::new();
    story.project(&mut story.reporter(), 101).await;
    let rollback = story.world.tip("main").unwrap();
    // As if the process had died before the record was pushed, and somebody has pushed since.
    story.world.bare_git(&["update-ref", "-d", &format!("refs/heads/{STATUS}")]);
    story.world.git(&["pull", "-q", "--rebase", "origin", "main"]);
    story.world.push(&[("deploy/new.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n")], "More");
    let projection = story.project(&mut story.reporter(), 120).await;
    assert_eq!(projection.rollbacks[0].2.commit, Some(rollback));
    assert_eq!(story.commits("main"), 4);
}

#[tokio::test]
async fn pushed_again_it_is_not_rolled_back_again() {
    let mut story = Story::new();
    story.project(&mut story.reporter(), 101).await;
    story.world.git(&["pull", "-q", "--rebase", "origin", "main"]);
    let again = story.world.push(&[(PATH, &bad())], "I insist");
    // The engine has been told, and quarantine knows.
    let rollback = story.world.tip("main").unwrap();
    assert_eq!(again, rollback);
    let first = story.world.bare_git(&["rev-parse", "main~1"]).parse().unwrap();
    story.report.rolled_back = vec![(digest(&bad()), first)];
    story.report.outbox = vec![failed(3, revision(&bad(), &again), &story.good, 300)];
    let projection = story.project(&mut story.reporter(), 301).await;
    let reason = projection.rollbacks[0].2.none.clone().unwrap();
    assert!(reason.contains("serin retry"), "{reason}");
    assert_eq!(story.world.tip("main"), Some(again));
    let fate = &projection.notes[&canary()].fate;
    assert!(matches!(fate, RollbackFate::Missing { reason, .. } if reason == "RolledBackBefore"), "{fate:?}");
}

#[tokio::test]
async fn a_branch_that_moved_on_is_left_alone() {
    let story = Story::new();
    let newer = story.world.push(&[(PATH, &GOOD.replace("3.1.0", "3.1.2"))], "Release 3.1.2");
    let projection = story.project(&mut story.reporter(), 101).await;
    assert!(projection.rollbacks[0].2.none.as_deref().unwrap().contains("moved on"));
    assert!(matches!(projection.notes[&canary()].fate, RollbackFate::Needless { .. }));
    assert_eq!(story.world.tip("main"), Some(newer));
}

#[tokio::test(start_paused = true)]
async fn others_who_push_in_between_lose_nothing() {
    let story = Story::new();
    // The first push to each branch meets a commit that came a moment earlier: the hook makes it.
    let marker = story.world.dir.path().join("raced");
    story.world.hook(
        "pre-receive",
        &format!(
            "while read old new ref; do case $ref in refs/heads/main)\n\
             if [ ! -e {0} ]; then touch {0}; unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES\n\
             tree=$(git rev-parse main^{{tree}}); export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x\n\
             git update-ref refs/heads/main $(git commit-tree -p main -m theirs $tree); fi;; esac; done",
            marker.display()
        ),
    );
    let projection = story.project(&mut story.reporter(), 101).await;
    assert!(marker.exists());
    assert_eq!(projection.conditions, []);
    assert_eq!(story.world.show("main", PATH), GOOD);
    assert_eq!(story.world.bare_git(&["log", "-1", "--skip=1", "--format=%s", "main"]), "theirs");
}

#[tokio::test]
async fn progress_comes_in_batches_and_ends_at_once() {
    let mut story = Story::new();
    let outcome = story.report.outbox.remove(0);
    let mut reporter = story.reporter();
    story.report.phase = "Progressing".into();
    assert!(story.project(&mut reporter, 0).await.commit.is_some());
    for (second, weight) in [(1, 10), (5, 20), (14, 30)] {
        story.report.weight = weight;
        assert_eq!(story.project(&mut reporter, second).await.again, Some(at(15)));
    }
    assert_eq!(story.commits(STATUS), 1);
    assert!(story.project(&mut reporter, 15).await.commit.is_some());
    let subject = story.world.bare_git(&["log", "-1", "--format=%s", STATUS]);
    assert!(subject.starts_with("test/podinfo: Progressing, weight 30, runs "), "{subject}");
    story.report.outbox = vec![outcome];
    assert_eq!(story.project(&mut reporter, 16).await.recorded.len(), 1);
    assert_eq!(story.commits(STATUS), 3);
    // Nothing new: no commit, however late.
    assert_eq!(story.project(&mut reporter, 1000).await.commit, None);
}

#[tokio::test]
async fn with_git_away_nothing_is_lost() {
    let story = Story::new();
    let mut reporter = story.reporter();
    let away = story.world.dir.path().join("away.git");
    std::fs::rename(story.world.bare(), &away).unwrap();
    let projection = story.project(&mut reporter, 101).await;
    assert_eq!((projection.conditions[0].reason, projection.recorded.len()), ("GitUnreachable", 0));
    assert!(projection.again.is_some());
    assert!(projection.conditions[0].passing, "perhaps only for a moment");
    let projection = story.project(&mut reporter, 131).await;
    assert!(!projection.conditions[0].passing);
    std::fs::rename(&away, story.world.bare()).unwrap();
    assert_eq!(story.project(&mut reporter, 200).await.recorded.len(), 1);
    assert_eq!(story.world.show("main", PATH), GOOD);
}

#[tokio::test]
async fn another_clusters_record_is_not_written_over() {
    let story = Story::new();
    let mut one = story.reporter();
    story.project(&mut one, 101).await;
    let tip = story.world.tip(STATUS);
    let mut two = story.reporter_of("uid-2", "two");
    let projection = story.project(&mut two, 102).await;
    assert_eq!(projection.conditions[0].reason, "ForeignWriter");
    assert_eq!(story.world.tip(STATUS), tip);
    // The first stays silent (its cluster is gone): the second takes over, knowing what ran.
    let later = 101 + i64::try_from(FOREIGN_LIVE.as_secs()).unwrap();
    assert_eq!(story.project(&mut two, later).await.conditions, []);
    assert!(story.world.show(STATUS, "record.yaml").contains("uid-2"));
    // It was not gone: it sees the other and stops for good.
    let mut moved = story.report.clone();
    moved.phase = "Progressing".into();
    let projection = one.project(&[moved.clone()], &[], at(later + 1000)).await;
    assert_eq!(projection.conditions[0].reason, "ForeignWriter");
    let projection = one.project(&[moved], &[], at(later + 9000)).await;
    assert_eq!(projection.conditions[0].reason, "ForeignWriter");
    assert!(story.world.show(STATUS, "record.yaml").contains("uid-2"));
}

#[tokio::test]
async fn a_rebuilt_cluster_finds_what_ran() {
    let story = Story::new();
    story.project(&mut story.reporter(), 101).await;
    // The promoted commit is forced away; the record's own copy is what counts.
    story.world.git(&["checkout", "-q", "--orphan", "fresh"]);
    story.world.git(&["commit", "-q", "-m", "Fresh"]);
    story.world.git(&["push", "-q", "--force", "origin", "HEAD:refs/heads/main"]);
    let store = Store::open(story.world.dir.path().join("rebuilt")).unwrap();
    let record = Record::fetch(&store, &story.world.remote(), &STATUS.parse().unwrap()).await.unwrap().unwrap();
    let promoted = record.promoted(&canary()).unwrap().unwrap();
    assert_eq!((promoted.revision, promoted.text.as_str()), (story.good.clone(), GOOD));
    assert_eq!(template_digest(&promoted.template), digest(GOOD));
    assert_eq!(record.history(&canary()).len(), 1);
    assert_eq!(
        Record::fetch(&store, &story.world.remote(), &"serin/status/none".parse().unwrap()).await.unwrap(),
        None
    );
    // And the new cluster's first words do not wipe it out.
    let fresh =
        TargetReport { phase: "Initializing".into(), promoted: None, outbox: Vec::new(), ..story.report.clone() };
    let later = 102 + i64::try_from(FOREIGN_LIVE.as_secs()).unwrap();
    story.reporter_of("uid-2", "rebuilt").project(&[fresh], &[], at(later)).await;
    let record = Record::fetch(&store, &story.world.remote(), &STATUS.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(record.header.writer, "uid-2");
    assert_eq!(record.promoted(&canary()).unwrap().unwrap().revision, story.good);
}

#[tokio::test]
async fn a_record_goes_with_its_canary_only_when_git_has_given_it_up_too() {
    let named = "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: podinfo, namespace: test}\n";
    let story = Story::new();
    story.world.push(&[("deploy/canary.yaml", named)], "Add the Canary");
    let mut reporter = story.reporter();
    story.project(&mut reporter, 101).await;
    let gone = [canary()];
    // Its namespace was deleted: sync brings it back, and the record knows what has to serve first.
    assert_eq!(reporter.project(&[], &gone, at(200)).await.conditions, []);
    assert!(story.world.show(STATUS, "test/podinfo.yaml").contains("promoted"));
    story.world.git(&["pull", "-q", "--rebase", "origin", "main"]);
    story.world.push(&[("deploy/canary.yaml", "# no more\n")], "Remove the Canary");
    assert_eq!(reporter.project(&[], &gone, at(300)).await.conditions, []);
    let left = story.world.bare_git(&["ls-tree", "-r", "--name-only", STATUS]);
    assert_eq!(left, "README.md\nrecord.yaml");
}

#[tokio::test]
async fn a_long_status_branch_is_replaced_by_one_commit() {
    let story = Story::new();
    let mut reporter = story.reporter();
    story.project(&mut reporter, 101).await;
    // 999 more commits on top, quickly.
    let mut stream = format!("reset refs/heads/{STATUS}\nfrom {}\n", story.world.tip(STATUS).unwrap());
    for number in 0..999 {
        stream.push_str(&format!(
            "commit refs/heads/{STATUS}\ncommitter s <s@x> {} +0000\ndata 1\nx\n",
            1_767_000_000 + number
        ));
    }
    let file = story.world.dir.path().join("stream");
    std::fs::write(&file, stream).unwrap();
    let import = super::world::command(&story.world.bare())
        .args(["fast-import", "--quiet"])
        .stdin(std::fs::File::open(file).unwrap())
        .status()
        .unwrap();
    assert!(import.success());
    assert_eq!(story.commits(STATUS), 1000);
    let mut report = story.report.clone();
    report.phase = "Waiting".into();
    let projection = story.reporter().project(&[report], &[], at(500)).await;
    assert_eq!(projection.conditions, []);
    assert_eq!(story.commits(STATUS), 1);
    assert!(story.world.show(STATUS, "test/podinfo.yaml").contains("Waiting"));
}
