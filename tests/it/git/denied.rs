//! Pushes that a real `pre-receive` hook denies: told once, tried again soon, then less and less often, and at once when
//! there is something new.

use std::path::PathBuf;
use std::time::Duration;

use pretty_assertions::assert_eq;
use serin::model::Revision;
use serin::release::{Outcome, OutcomeKind};
use serin::report::record::{FinishedRecord, Record};
use serin::report::writer::{DENIED_WAIT_FIRST, DENIED_WAIT_MAX, GitReporter, Projection, ROLLBACK_WANTED};

use super::report::{GOOD, PATH, STATUS, Story, at, bad, canary, failed, revision};
use super::world::MAIN;

/// A story whose remote denies what Serin pushes to a ref while a file is there, and keeps count.
struct Denied {
    story: Story,
    asked: PathBuf,
    policy: PathBuf,
}

impl Denied {
    fn new(reference: &str) -> Self {
        let story = Story::new();
        let (asked, policy) = (story.world.dir.path().join("asked"), story.world.dir.path().join("policy"));
        std::fs::write(&asked, "").unwrap();
        std::fs::write(&policy, "").unwrap();
        story.world.hook(
            "pre-receive",
            &format!(
                "while read old new ref; do\nif [ $ref = {reference} ] && [ \"$(git log -1 --format=%an $new)\" = serin ] \
                 && [ -e {policy} ]; then\necho x >> {asked}; echo \"protected, request $$\" >&2; exit 1\nfi; done",
                policy = policy.display(),
                asked = asked.display()
            ),
        );
        Self { story, asked, policy }
    }

    fn lift(&self) {
        std::fs::remove_file(&self.policy).unwrap();
    }

    fn asked(&self) -> usize {
        std::fs::read_to_string(&self.asked).unwrap().lines().count()
    }

    /// Projects as the daemon does: what the slowest projection has leaves the outbox.
    async fn project(&mut self, reporter: &mut GitReporter, second: i64) -> Projection {
        let projection = self.story.project(reporter, second).await;
        self.story.settle(&projection);
        projection
    }

    async fn history(&self) -> Vec<FinishedRecord> {
        let store = serin::git::Store::open(self.story.world.dir.path().join("reader")).unwrap();
        let record =
            Record::fetch(&store, &self.story.world.remote(), &STATUS.parse().unwrap()).await.unwrap().unwrap();
        record.history(&canary())
    }
}

fn reasons(projection: &Projection) -> Vec<&'static str> {
    projection.conditions.iter().map(|condition| condition.reason).collect()
}

fn seconds(wait: Duration) -> i64 {
    i64::try_from(wait.as_secs()).unwrap()
}

#[tokio::test]
async fn a_denied_rollback_is_one_condition_and_comes_when_it_is_allowed() {
    let mut denied = Denied::new(MAIN);
    let mut reporter = denied.story.reporter();
    let first = denied.project(&mut reporter, 101).await;
    assert_eq!(reasons(&first), ["RollbackPushDenied"]);
    assert!(first.conditions[0].message.contains("protected, request"), "{:?}", first.conditions);
    assert_eq!((first.recorded.len(), denied.asked()), (1, 1), "the record comes all the same");
    assert_eq!(denied.story.report.outbox.len(), 1, "the rollback is still to come");
    let rollback = denied.history().await[0].rollback.clone().unwrap();
    assert!(rollback.is_open() && rollback.none.is_none(), "{rollback:?}");

    // No storm, and the condition stays.
    let mut due = 101 + seconds(DENIED_WAIT_FIRST);
    for second in 102..110 {
        let projection = denied.project(&mut reporter, second).await;
        assert_eq!((reasons(&projection), projection.again), (vec!["RollbackPushDenied"], Some(at(due))));
    }
    assert_eq!(denied.asked(), 1);
    // The next tries come soon, then less and less often; what the host says anew each time makes no commit.
    let record = denied.story.world.tip(STATUS);
    for (tries, wait) in [(2, 60), (3, 120), (4, 240), (5, 480), (6, 600), (7, 600)] {
        let projection = denied.project(&mut reporter, due).await;
        assert_eq!(denied.asked(), tries);
        due += wait;
        assert_eq!(projection.again, Some(at(due)));
    }
    assert_eq!(denied.story.world.tip(STATUS), record);

    // Allowed: the next try makes the commit, and the record names it.
    denied.lift();
    let projection = denied.project(&mut reporter, due).await;
    assert_eq!(projection.conditions, []);
    assert_eq!(denied.story.world.show("main", PATH), GOOD);
    let rollback = denied.history().await[0].rollback.clone().unwrap();
    assert_eq!((rollback.commit, rollback.denied), (denied.story.world.tip("main"), None));
    let tips = (denied.story.world.tip("main"), denied.story.world.tip(STATUS));
    let projection = denied.project(&mut reporter, due + 1).await;
    assert_eq!((projection.again, projection.settled), (None, true));
    assert_eq!((denied.story.world.tip("main"), denied.story.world.tip(STATUS)), tips);
}

#[tokio::test]
async fn a_branch_that_moves_is_tried_at_once() {
    let mut denied = Denied::new(MAIN);
    let mut reporter = denied.story.reporter();
    denied.project(&mut reporter, 101).await;
    // Still denied: one try for the new tip.
    denied.story.world.push(&[("other/x.yaml", "some: change\n")], "Something else");
    denied.project(&mut reporter, 102).await;
    denied.project(&mut reporter, 103).await;
    assert_eq!(denied.asked(), 2);
    denied.lift();
    denied.story.world.push(&[("other/x.yaml", "another: change\n")], "Something else");
    assert_eq!(denied.project(&mut reporter, 104).await.conditions, []);
    assert_eq!(denied.story.world.show("main", PATH), GOOD);
    assert_eq!(denied.story.world.show("main", "other/x.yaml"), "another: change\n");
}

#[tokio::test]
async fn a_restart_remembers_a_denied_rollback() {
    let mut denied = Denied::new(MAIN);
    denied.project(&mut denied.story.reporter(), 101).await;
    denied.lift();
    let projection = denied.project(&mut denied.story.reporter(), 102).await;
    assert_eq!(projection.conditions, []);
    assert_eq!(denied.story.world.show("main", PATH), GOOD);
    assert_eq!(denied.story.report.outbox, [], "now it may go");
}

#[tokio::test]
async fn a_denied_rollback_is_given_up_when_it_is_not_wanted_any_more() {
    // Somebody puts the branch right.
    let mut denied = Denied::new(MAIN);
    let mut reporter = denied.story.reporter();
    denied.project(&mut reporter, 101).await;
    let fixed = denied.story.world.push(&[(PATH, &GOOD.replace("3.1.0", "3.1.2"))], "Fix it");
    let projection = denied.project(&mut reporter, 102).await;
    assert_eq!((reasons(&projection), denied.asked()), (vec![], 1));
    assert!(denied.history().await[0].rollback.clone().unwrap().none.unwrap().contains("moved on"));
    assert_eq!(denied.story.world.tip("main"), Some(fixed));

    // Nobody does: it ends after a day, with the words that say so.
    let mut denied = Denied::new(MAIN);
    let mut reporter = denied.story.reporter();
    denied.project(&mut reporter, 101).await;
    denied.project(&mut reporter, 100 + seconds(ROLLBACK_WANTED) - 1).await;
    assert_eq!(denied.asked(), 2);
    let projection = denied.project(&mut reporter, 100 + seconds(ROLLBACK_WANTED)).await;
    assert_eq!((reasons(&projection), denied.asked(), projection.again), (vec![], 2, None));
    let none = denied.history().await[0].rollback.clone().unwrap().none.unwrap();
    assert!(none.contains("24 hours") && none.contains("restore the manifest yourself"), "{none}");
}

#[tokio::test]
async fn of_two_denied_rollbacks_of_one_digest_the_newest_counts() {
    let mut denied = Denied::new(MAIN);
    let mut reporter = denied.story.reporter();
    denied.project(&mut reporter, 101).await;
    // `serin retry`, and it fails again.
    let again = failed(3, revision(&bad(), &denied.story.bad_commit), &denied.story.good, 300);
    denied.story.report.outbox.push(again);
    denied.project(&mut reporter, 301).await;
    denied.project(&mut reporter, 302).await;
    let history = denied.history().await;
    let words = history[0].rollback.clone().unwrap().none.unwrap();
    assert!(words.contains("released again"), "{words}");
    assert!(history[1].rollback.clone().unwrap().is_open());
    denied.lift();
    denied.project(&mut reporter, 302 + seconds(DENIED_WAIT_MAX)).await;
    assert_eq!(denied.history().await[1].rollback.clone().unwrap().commit, denied.story.world.tip("main"));
}

#[tokio::test]
async fn a_denied_record_is_tried_again_soon_and_at_once_for_another_end() {
    let mut denied = Denied::new(&format!("refs/heads/{STATUS}"));
    let mut reporter = denied.story.reporter();
    let first = denied.project(&mut reporter, 101).await;
    let due = 101 + seconds(DENIED_WAIT_FIRST);
    assert_eq!((reasons(&first), first.again, denied.asked()), (vec!["PushDenied"], Some(at(due)), 1));
    assert_eq!(denied.story.world.show("main", PATH), GOOD, "the rollback does not wait for the record");
    // Progress is no reason to ask again.
    for second in 102..110 {
        denied.story.report.phase = format!("Progressing {second}");
        denied.project(&mut reporter, second).await;
    }
    assert_eq!(denied.asked(), 1);
    // Another end is, once.
    let good: Revision = denied.story.good.clone();
    let other = Outcome { kind: OutcomeKind::Succeeded, cause: None, ..failed(3, good.clone(), &good, 110) };
    denied.story.report.outbox.push(other);
    denied.project(&mut reporter, 111).await;
    denied.project(&mut reporter, 112).await;
    assert_eq!((denied.asked(), denied.story.report.outbox.len()), (2, 2));
    denied.lift();
    let projection = denied.project(&mut reporter, 111 + 2 * seconds(DENIED_WAIT_FIRST)).await;
    assert_eq!((reasons(&projection), projection.recorded.len()), (vec![], 2));
    assert_eq!(denied.history().await.len(), 2);
}
