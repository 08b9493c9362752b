//! Whatever happens around a push: nothing of the record and of a rollback is lost, and nothing is doubled.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pretty_assertions::assert_eq;
use serin::cluster::{EffectKind, EffectProbe, ProbeFuture};
use serin::release::{Outcome, OutcomeKind};
use tokio::sync::Notify;

use super::report::{GOOD, PATH, STATUS, Story, at, bad, canary, failed, revision};

/// What happens to the k-th push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The process dies before it.
    DiesBefore,
    /// The process dies after it, before anybody is told.
    DiesAfter,
    /// The repository is away while it is made.
    Away,
}

struct Hand {
    fate: Fate,
    /// Pushes before the one that is meant.
    left: AtomicUsize,
    dead: Notify,
    bare: PathBuf,
}

impl Hand {
    fn away(&self) -> PathBuf {
        self.bare.with_extension("away")
    }
}

impl EffectProbe for Hand {
    fn before<'a>(&'a self, kind: EffectKind, _key: &'a str) -> ProbeFuture<'a> {
        Box::pin(async move {
            if kind != EffectKind::Push || self.left.load(Ordering::Relaxed) != 0 {
                return;
            }
            match self.fate {
                Fate::DiesBefore => {
                    self.dead.notify_one();
                    std::future::pending().await
                }
                Fate::Away => std::fs::rename(&self.bare, self.away()).unwrap(),
                Fate::DiesAfter => {}
            }
        })
    }

    fn after<'a>(&'a self, kind: EffectKind, _key: &'a str) -> ProbeFuture<'a> {
        Box::pin(async move {
            if kind != EffectKind::Push {
                return;
            }
            if self.left.fetch_sub(1, Ordering::Relaxed) != 0 {
                return;
            }
            match self.fate {
                Fate::DiesAfter => {
                    self.dead.notify_one();
                    std::future::pending().await
                }
                Fate::Away => std::fs::rename(self.away(), &self.bare).unwrap(),
                Fate::DiesBefore => {}
            }
        })
    }
}

/// What is in Git in the end.
fn end(story: &Story) -> (String, Vec<String>, usize, usize) {
    let git = |args: &[&str]| story.world.bare_git(args);
    let subjects = git(&["log", "--format=%s", "main"]).lines().map(str::to_owned).collect();
    let history = git(&["ls-tree", "-r", "--name-only", STATUS, "history/"]).lines().count();
    let ledger =
        story.world.show(STATUS, "ledger/test/podinfo.tsv").lines().filter(|line| !line.starts_with('#')).count();
    (story.world.show("main", PATH), subjects, history, ledger)
}

#[tokio::test]
async fn whatever_happens_around_any_push_the_end_is_the_same() {
    for fate in [Fate::DiesBefore, Fate::DiesAfter, Fate::Away] {
        for push in 0..2 {
            let story = Story::new();
            let (dead, bare) = (Notify::new(), story.world.bare());
            let hand = Arc::new(Hand { fate, left: AtomicUsize::new(push), dead, bare });
            let mut reporter = story.reporter_by(hand.clone());
            tokio::select! {
                _ = story.project(&mut reporter, 101) => assert_eq!(fate, Fate::Away, "push {push} was never made"),
                () = hand.dead.notified() => assert_ne!(fate, Fate::Away),
            }
            assert!(hand.left.load(Ordering::Relaxed) == 0 || fate != Fate::DiesBefore);
            // The next one knows nothing, and its cache may be gone; it is told the same until all of it is in Git.
            let mut second = 140;
            for cache in ["cache", "fresh"] {
                let mut next = story.reporter_of("uid-1", cache);
                let projection = story.project(&mut next, second).await;
                assert_eq!(projection.conditions, [], "{fate:?} {push}");
                assert!(projection.settled, "{fate:?} {push}");
                second += 60;
            }
            let subjects = ["Roll back test/podinfo", "Release 3.1.1", "First"];
            let (text, found, history, ledger) = end(&story);
            assert_eq!((text.as_str(), history, ledger), (GOOD, 1, 1), "{fate:?} {push}");
            assert!(
                found.len() == 3 && found.iter().zip(subjects).all(|(found, begins)| found.starts_with(begins)),
                "{found:?}"
            );
            let rollback = story.world.tip("main").unwrap();
            let path = story.world.bare_git(&["ls-tree", "-r", "--name-only", STATUS, "history/"]);
            assert!(story.world.show(STATUS, &path).contains(rollback.as_str()), "{fate:?} {push}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_who_push_while_it_is_rolled_back_nobody_loses_anything() {
    const PUSHERS: usize = 10;
    let story = Story::new();
    let bare = story.world.bare();
    let folder = story.world.dir.path().join("pushers");
    let pushers: Vec<_> = (0..PUSHERS)
        .map(|number| {
            let (bare, clone) = (bare.clone(), folder.join(number.to_string()));
            std::thread::spawn(move || {
                let git = |args: &[&str]| {
                    let mut command = Command::new("git");
                    command.args(["-c", "user.name=x", "-c", "user.email=x@example.com"]).args(args);
                    command.output().unwrap().status.success()
                };
                let place = clone.to_str().unwrap();
                assert!(git(&["clone", "-q", bare.to_str().unwrap(), place]));
                std::fs::write(clone.join(format!("theirs-{number}.txt")), "theirs\n").unwrap();
                assert!(git(&["-C", place, "add", "-A"]));
                assert!(git(&["-C", place, "commit", "-q", "-m", &format!("Theirs {number}")]));
                let mut tries = 0;
                while !git(&["-C", place, "push", "-q", "origin", "HEAD:main"]) {
                    tries += 1;
                    assert!(tries < 200, "{number} never got in");
                    git(&["-C", place, "pull", "-q", "--rebase", "origin", "main"]);
                }
            })
        })
        .collect();
    let mut reporter = story.reporter();
    let mut second = 101;
    while !story.project(&mut reporter, second).await.settled {
        second += 60;
        assert!(second < 10_000, "it never came to rest");
    }
    for pusher in pushers {
        tokio::task::spawn_blocking(move || pusher.join().unwrap()).await.unwrap();
    }
    assert_eq!(story.project(&mut story.reporter(), second + 60).await.conditions, []);
    let (text, subjects, history, ledger) = end(&story);
    assert_eq!((text.as_str(), history, ledger), (GOOD, 1, 1));
    assert_eq!(subjects.iter().filter(|subject| subject.starts_with("Roll back")).count(), 1, "{subjects:?}");
    for number in 0..PUSHERS {
        assert_eq!(story.world.show("main", &format!("theirs-{number}.txt")), "theirs\n");
        assert_eq!(subjects.iter().filter(|subject| **subject == format!("Theirs {number}")).count(), 1);
    }
}

#[tokio::test]
async fn with_git_down_for_a_day_of_releases_the_record_follows_in_order() {
    let mut story = Story::new();
    let mut reporter = story.reporter();
    story.report.outbox.clear();
    story.project(&mut reporter, 0).await;
    let away = story.world.dir.path().join("away.git");
    std::fs::rename(story.world.bare(), &away).unwrap();
    // A release every hour; every third one fails.
    for hour in 1..=18_i64 {
        let number = u64::try_from(hour).unwrap();
        let failure = failed(number, revision(&bad(), &story.bad_commit), &story.good, hour * 3600);
        let success =
            Outcome { kind: OutcomeKind::Succeeded, cause: None, revision: story.good.clone(), ..failure.clone() };
        story.report.outbox.push(if hour % 3 == 0 { failure } else { success });
        let projection = story.project(&mut reporter, hour * 3600 + 1).await;
        assert_eq!((projection.conditions[0].reason, projection.settled), ("GitUnreachable", false));
        story.settle(&projection);
        assert_eq!(i64::try_from(story.report.outbox.len()).unwrap(), hour, "nothing is forgotten");
    }
    std::fs::rename(&away, story.world.bare()).unwrap();
    let mut second = 24 * 3600;
    // The process was started anew, too.
    let mut reporter = story.reporter_of("uid-1", "fresh");
    while !story.report.outbox.is_empty() {
        let projection = story.project(&mut reporter, second).await;
        story.settle(&projection);
        second += 60;
        assert!(second < 26 * 3600, "{:?}", projection.conditions);
    }
    let ledger = story.world.show(STATUS, "ledger/test/podinfo.tsv");
    let lines: Vec<Vec<&str>> = ledger.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 18, "{ledger}");
    for (place, line) in lines.iter().enumerate() {
        let hour = i64::try_from(place).unwrap() + 1;
        let kind = if hour % 3 == 0 { "Failed" } else { "Succeeded" };
        assert_eq!((line[0], line[1]), (at(hour * 3600).to_string().as_str(), kind), "{ledger}");
        assert!(line[2].starts_with(&format!("{hour}-")), "{ledger}");
    }
    let history = story.world.bare_git(&["ls-tree", "-r", "--name-only", STATUS, "history/"]);
    assert_eq!(history.lines().count(), 18);
    // One digest failed six times: it is rolled back once.
    let subjects = story.world.bare_git(&["log", "--format=%s", "main"]);
    assert_eq!(subjects.lines().filter(|subject| subject.starts_with("Roll back")).count(), 1, "{subjects}");
    assert_eq!(story.report.canary, canary());
}
