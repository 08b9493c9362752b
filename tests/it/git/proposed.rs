//! Rollbacks as pull requests: one per digest, found again after a crash, made anew when the branch moves, closed when they are
//! not wanted any more; and in place of a push that is denied.

use std::sync::Arc;

use pretty_assertions::assert_eq;
use serin::model::RollbackFate;
use serin::report::RollbackCommits;
use serin::report::writer::{GitReporter, MERGE_WANTED, Projection};

use super::report::{GOOD, PATH, Story, bad, canary};
use super::world::MAIN;
use crate::support::forge::Remembering;

struct Proposed {
    story: Story,
    forge: Arc<Remembering>,
    mode: RollbackCommits,
}

impl Proposed {
    fn new(mode: RollbackCommits) -> Self {
        Self { story: Story::new(), forge: Arc::default(), mode }
    }

    /// A process that has seen nothing yet.
    fn reporter(&self) -> GitReporter {
        self.story.reporter_with(self.mode).with_forge(Some(self.forge.clone()))
    }

    async fn project(&mut self, reporter: &mut GitReporter, second: i64) -> Projection {
        let projection = self.story.project(reporter, second).await;
        self.story.settle(&projection);
        projection
    }

    /// The branch that is proposed, if there is one.
    fn branch(&self) -> Option<String> {
        let branches =
            self.story.world.bare_git(&["branch", "--format=%(refname:short)", "--list", "serin/rollback/*"]);
        branches.lines().next().map(str::to_owned)
    }

    fn open(&self) -> usize {
        self.forge.open().len()
    }
}

fn reasons(projection: &Projection) -> Vec<&'static str> {
    projection.conditions.iter().map(|condition| condition.reason).collect()
}

#[tokio::test]
async fn a_rollback_is_proposed_once_whoever_asks_and_comes_with_the_merge() {
    let mut proposed = Proposed::new(RollbackCommits::Propose);
    let bad_commit = proposed.story.bad_commit.clone();
    let mut reporter = proposed.reporter();
    let first = proposed.project(&mut reporter, 101).await;
    assert_eq!(reasons(&first), [] as [&str; 0]);
    let fate = &first.notes[&canary()].fate;
    assert!(matches!(fate, RollbackFate::Proposed { url } if url == "https://forge.test/pulls/1"), "{fate:?}");
    assert_eq!(proposed.story.world.tip("main"), Some(bad_commit), "nobody has merged it");
    let branch = proposed.branch().unwrap();
    assert!(branch.starts_with("serin/rollback/c1/test/podinfo/"), "{branch}");
    assert_eq!(proposed.story.world.show(&branch, PATH), GOOD);
    let pull = proposed.forge.open().remove(0);
    assert_eq!((pull.base.as_str(), &pull.branch), ("main", &branch));
    assert!(pull.title.starts_with("Roll back test/podinfo to "), "{pull:?}");
    assert!(pull.body.contains("request-success-rate 69.17%"), "{pull:?}");
    assert_eq!(proposed.story.report.outbox.len(), 1, "it is still to come");

    // By the same process, by one that lost its memory: nothing is doubled.
    let tip = proposed.story.world.tip(&branch);
    proposed.project(&mut reporter, 102).await;
    proposed.project(&mut reporter, 1_000).await;
    let mut second = proposed.reporter();
    proposed.project(&mut second, 1_001).await;
    assert_eq!((proposed.open(), proposed.forge.opened(), proposed.story.world.tip(&branch)), (1, 1, tip));

    // Merged: that is the rollback commit, and the end of it.
    proposed.story.world.bare_git(&["update-ref", MAIN, &format!("refs/heads/{branch}")]);
    proposed.forge.merge(1);
    let last = proposed.project(&mut second, 2_000).await;
    let fate = &last.notes[&canary()].fate;
    assert!(matches!(fate, RollbackFate::Made { .. }), "{fate:?}");
    assert_eq!((proposed.story.report.outbox.len(), proposed.open()), (0, 0));
}

#[tokio::test]
async fn it_follows_the_branch_and_is_closed_when_somebody_was_faster() {
    let mut proposed = Proposed::new(RollbackCommits::Propose);
    let mut reporter = proposed.reporter();
    proposed.project(&mut reporter, 101).await;
    let branch = proposed.branch().unwrap();
    let moved = proposed.story.world.push(&[("other/x.yaml", "some: change\n")], "Something else");
    proposed.project(&mut reporter, 200).await;
    let parent = proposed.story.world.bare_git(&["rev-parse", &format!("{branch}^")]);
    assert_eq!(
        (parent.as_str(), proposed.forge.opened()),
        (moved.as_str(), 1),
        "on the new tip, the same pull request"
    );
    assert_eq!(proposed.story.world.show(&branch, "other/x.yaml"), "some: change\n");

    proposed.story.world.push(&[(PATH, &GOOD.replace("3.1.0", "3.1.2"))], "Fix it");
    let projection = proposed.project(&mut reporter, 300).await;
    let fate = &projection.notes[&canary()].fate;
    assert!(matches!(fate, RollbackFate::Needless { .. }), "{fate:?}");
    assert_eq!((proposed.open(), proposed.story.report.outbox.len()), (0, 0));
}

#[tokio::test]
async fn one_that_was_closed_by_a_person_is_not_opened_again() {
    let mut proposed = Proposed::new(RollbackCommits::Propose);
    let mut reporter = proposed.reporter();
    proposed.project(&mut reporter, 101).await;
    proposed.forge.merge(1);
    let projection = proposed.project(&mut reporter, 1_000).await;
    let fate = &projection.notes[&canary()].fate;
    assert!(matches!(fate, RollbackFate::Missing { reason, .. } if reason == "RollbackDeclined"), "{fate:?}");
    assert_eq!((proposed.forge.opened(), proposed.story.report.outbox.len()), (1, 0));
}

#[tokio::test]
async fn nobody_waits_for_ever_and_the_pull_request_stays() {
    let mut proposed = Proposed::new(RollbackCommits::Propose);
    let mut reporter = proposed.reporter();
    proposed.project(&mut reporter, 101).await;
    let late = 101 + i64::try_from(MERGE_WANTED.as_secs()).unwrap();
    let projection = proposed.project(&mut reporter, late).await;
    let fate = &projection.notes[&canary()].fate;
    assert!(matches!(fate, RollbackFate::Missing { reason, .. } if reason == "RollbackNotMerged"), "{fate:?}");
    assert_eq!((proposed.open(), proposed.story.report.outbox.len()), (1, 0));
}

#[tokio::test]
async fn a_forge_that_is_away_is_asked_again_and_the_record_does_not_wait() {
    let mut proposed = Proposed::new(RollbackCommits::Propose);
    proposed.forge.is_away(true);
    let mut reporter = proposed.reporter();
    let first = proposed.project(&mut reporter, 101).await;
    assert_eq!((reasons(&first), first.recorded.len(), proposed.open()), (vec!["PullRequestNotMade"], 1, 0));
    proposed.forge.is_away(false);
    let second = proposed.project(&mut reporter, 140).await;
    assert_eq!((reasons(&second), proposed.open()), (vec![], 1));
}

#[tokio::test]
async fn a_push_that_is_denied_becomes_a_pull_request_and_one_that_is_allowed_later_closes_it() {
    let mut proposed = Proposed::new(RollbackCommits::Make);
    let policy = proposed.story.world.dir.path().join("policy");
    std::fs::write(&policy, "").unwrap();
    proposed.story.world.hook(
        "pre-receive",
        &format!("while read old new ref; do if [ $ref = {MAIN} ] && [ -e {} ]; then echo protected >&2; exit 1; fi; done", policy.display()),
    );
    let mut reporter = proposed.reporter();
    let first = proposed.project(&mut reporter, 101).await;
    assert_eq!((reasons(&first), proposed.open()), (vec![], 1));
    assert!(matches!(first.notes[&canary()].fate, RollbackFate::Proposed { .. }));
    assert_eq!(proposed.story.world.show("main", PATH), bad());
    std::fs::remove_file(&policy).unwrap();
    let last = proposed.project(&mut reporter, 1_000).await;
    assert!(matches!(last.notes[&canary()].fate, RollbackFate::Made { .. }), "{:?}", last.notes);
    assert_eq!((proposed.story.world.show("main", PATH), proposed.open()), (GOOD.to_owned(), 0));
}
