//! What somebody else wrote into the repository: a status branch, a record, a trailer, a writer. None of it decides anything.

use std::collections::BTreeMap;

use pretty_assertions::assert_eq;
use serin::git::{CommitMeta, Store, TreeLimits};
use serin::model::{CommitId, ObjectRef, Revision, RollbackFate};
use serin::report::WatchedBranch;
use serin::report::rebuild::{Proved, RebuildError, promoted};
use serin::report::writer::{FOREIGN_LIVE, Projection};

use super::report::{GOOD, PATH, STATUS, Story, bad, canary, digest, failed, revision, target};
use super::world::{World, meta};

const EVIL: &str = "evil.example.com/podinfo";

fn evil() -> String {
    GOOD.replace("podinfo:3.1.0", EVIL)
}

fn reasons(projection: &Projection) -> Vec<&'static str> {
    projection.conditions.iter().map(|condition| condition.reason).collect()
}

impl Story {
    /// Nothing has failed (yet).
    fn quiet() -> Self {
        let mut story = Self::new();
        story.report.outbox.clear();
        story
    }

    /// Somebody pushes these files to the status branch, in place of those there, with a commit of theirs as second parent.
    async fn forge(&self, change: impl Fn(&mut BTreeMap<String, String>), parent: Option<&str>) -> CommitId {
        let world = &self.world;
        let mut files = BTreeMap::new();
        if world.tip(STATUS).is_some() {
            for path in world.bare_git(&["ls-tree", "-r", "--name-only", STATUS]).lines() {
                files.insert(path.to_owned(), world.show(STATUS, path));
            }
        }
        change(&mut files);
        world.git(&["checkout", "-q", "--orphan", "forged"]);
        world.git(&["rm", "-rqf", "--ignore-unmatch", "."]);
        for (path, text) in &files {
            let path = world.clone_dir().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        world.git(&["add", "-A"]);
        let tree = world.git(&["write-tree"]);
        let mut commit = vec!["commit-tree", &tree, "-m", "test/podinfo: Initialized"];
        let tip = world.tip(STATUS);
        world.git(&["fetch", "-q", "origin"]);
        if let Some(tip) = &tip {
            commit.extend(["-p", tip.as_str()]);
        }
        commit.extend(parent.iter().flat_map(|parent| ["-p", *parent]));
        let forged = world.git(&commit);
        world.git(&["push", "-q", "--force", "origin", &format!("{forged}:refs/heads/{STATUS}")]);
        world.git(&["checkout", "-qf", "main"]);
        forged.parse().unwrap()
    }

    /// A commit of the attacker's that only their own branch holds.
    fn evil_commit(&self) -> CommitId {
        let world = &self.world;
        world.git(&["checkout", "-q", "-b", "evil"]);
        std::fs::write(world.clone_dir().join(PATH), evil()).unwrap();
        world.git(&["commit", "-qam", "Mine"]);
        let commit = world.git(&["rev-parse", "HEAD"]);
        world.git(&["push", "-q", "origin", "evil"]);
        world.git(&["checkout", "-q", "main"]);
        commit.parse().unwrap()
    }
}

/// A finished release in the record whose rollback was denied.
fn open_history(failed: &Revision, promoted: &Revision) -> String {
    format!(
        "canary: {{namespace: test, name: podinfo}}\nrelease: 7-{}\noutcome: Failed\nrevision: {failed}\n\
         promoted: {promoted}\nstarted: 2026-01-02T03:00:00Z\nended: 2026-01-02T03:01:00Z\n\
         rollback: {{denied: \"x\"}}\n",
        failed.digest.short()
    )
}

#[tokio::test]
async fn an_open_rollback_that_status_does_not_know_is_said_and_nothing_is_done() {
    let story = Story::quiet();
    story.project(&mut story.reporter(), 90).await;
    let evil_commit = story.evil_commit();
    let history = open_history(&revision(&bad(), &story.bad_commit), &revision(&evil(), &evil_commit));
    let forge = |files: &mut BTreeMap<String, String>| {
        files.insert("history/test/podinfo/20260102T030100Z-7-aaaaaaaa.yaml".into(), history.clone());
    };
    story.forge(forge, Some(evil_commit.as_str())).await;
    let mut reporter = story.reporter();
    let projection = story.project(&mut reporter, 100).await;
    assert_eq!(
        story.world.tip("main"),
        Some(story.bad_commit.clone()),
        "nothing is written to the watched branch"
    );
    assert_eq!(reasons(&projection), ["RecordUnknown"]);
    assert_eq!(projection.conditions[0].canary, Some(canary()));
    let told = story.world.show(STATUS, "history/test/podinfo/20260102T030100Z-7-aaaaaaaa.yaml");
    assert!(told.contains("none: \"the Canary's status knows no such rollback"), "{told}");
    // It is said for a while, and not for ever.
    assert_eq!(reasons(&story.project(&mut reporter, 1000).await), ["RecordUnknown"]);
    assert_eq!(reasons(&story.project(&mut reporter, 100 + 3600).await), Vec::<&str>::new());
    assert_eq!(story.world.tip("main"), Some(story.bad_commit));
}

#[tokio::test]
async fn what_the_record_calls_promoted_is_not_what_is_restored() {
    let story = Story::new();
    let evil_commit = story.evil_commit();
    // A record from elsewhere, with the evil revision under the good digest.
    let forge = |files: &mut BTreeMap<String, String>| {
        files.insert("record.yaml".into(), "version: 1\ncluster: c1\nwriter: uid-1\n".into());
        files.insert("manifests/test/podinfo/podinfo.yaml".into(), GOOD.replace("# the image", "# pwned"));
        files.insert(
            "test/podinfo.yaml".into(),
            format!(
                "canary: {{namespace: test, name: podinfo}}\n\
                 target: {{group: apps, kind: Deployment, namespace: test, name: podinfo}}\nphase: Initialized\n\
                 since: 2026-01-02T03:00:00Z\nweight: 0\npromoted:\n  revision: {}\n  manifest:\n    path: {PATH}\n    \
                 copy: manifests/test/podinfo/podinfo.yaml\n",
                Revision { digest: digest(GOOD), commit: Some(evil_commit.clone()) }
            ),
        );
    };
    story.forge(forge, Some(evil_commit.as_str())).await;
    let projection = story.project(&mut story.reporter(), 101).await;
    assert_eq!(projection.conditions, []);
    assert_eq!(story.world.show("main", PATH), GOOD, "byte for byte from the watched branch");
    // And the copy is put right, so that a rebuild finds what ran.
    assert_eq!(story.world.show(STATUS, "manifests/test/podinfo/podinfo.yaml"), GOOD);
}

#[tokio::test]
async fn a_promoted_commit_that_is_not_the_watched_branchs_is_not_read() {
    let mut story = Story::new();
    // Somebody stamped the target with a commit of theirs: the digest is right, the bytes are not.
    story.world.git(&["checkout", "-q", "-b", "evil"]);
    std::fs::write(story.world.clone_dir().join(PATH), GOOD.replace("# the image", "# pwned")).unwrap();
    story.world.git(&["commit", "-qam", "Mine"]);
    let theirs: CommitId = story.world.git(&["rev-parse", "HEAD"]).parse().unwrap();
    story.world.git(&["push", "-q", "origin", &format!("{theirs}:refs/heads/{STATUS}")]);
    story.world.git(&["checkout", "-q", "main"]);
    let forged = Revision { digest: digest(GOOD), commit: Some(theirs) };
    story.report.promoted = Some(forged.clone());
    story.report.outbox = vec![failed(2, revision(&bad(), &story.bad_commit), &forged, 100)];
    let projection = story.project(&mut story.reporter(), 101).await;
    assert_eq!(story.world.show("main", PATH), GOOD, "what the watched branch had");
    assert!(matches!(projection.notes[&canary()].fate, RollbackFate::Made { .. }));
    assert_eq!(reasons(&projection), ["RecordUnreadable"], "and the branch that is no record is said");
}

#[tokio::test]
async fn trailers_prove_nothing() {
    let mut story = Story::new();
    let trailers = format!(
        "Release 3.1.1\n\nSerin-Rollback: test/podinfo\nSerin-From: {}\nSerin-To: {}\nSerin-Cause: x\nSerin-Cluster: c1\n",
        revision(&bad(), &story.bad_commit),
        story.good
    );
    let forged = story.world.push(&[("other/x.yaml", "something: else\n")], &trailers);
    story.report.outbox = vec![failed(2, revision(&bad(), &story.bad_commit), &story.good, 100)];
    let projection = story.project(&mut story.reporter(), 101).await;
    assert_eq!(projection.conditions, []);
    assert_eq!(story.world.show("main", PATH), GOOD);
    assert_ne!(story.world.tip("main"), Some(forged));
}

#[tokio::test]
async fn a_revert_of_before_is_no_rollback_of_now() {
    // Pushed, taken back by hand, and pushed again, all before it failed: nobody has rolled it back.
    let mut story = Story::new();
    story.world.push(&[(PATH, GOOD)], "Not yet");
    let again = story.world.push(&[(PATH, &bad())], "Now");
    let ended = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let mut outcome = failed(2, revision(&bad(), &again), &story.good, 100);
    outcome.ended = ended;
    story.report.outbox = vec![outcome];
    let projection = story.reporter().project(&[story.report.clone()], &[], ended).await;
    assert_eq!(projection.conditions, []);
    assert_eq!(story.world.show("main", PATH), GOOD);
}

#[tokio::test]
async fn another_writer_on_a_live_cluster_is_refused_and_keeps_no_rollback_back() {
    let mut story = Story::new();
    let forge = |files: &mut BTreeMap<String, String>| {
        files.insert("record.yaml".into(), "version: 1\ncluster: c1\nwriter: uid-9\n".into());
    };
    let forged = story.forge(forge, None).await;
    // This cluster has written the record before; however old the other's commit says it is.
    story.report.recorded = Some(story.report.outbox[0].release.clone());
    let mut reporter = story.reporter();
    let long_after = 101 + 10 * i64::try_from(FOREIGN_LIVE.as_secs()).unwrap();
    for second in [101, long_after] {
        let projection = story.project(&mut reporter, second).await;
        assert_eq!(reasons(&projection), ["ForeignWriter"]);
        assert!(projection.conditions[0].message.contains("protect"), "{:?}", projection.conditions);
        assert_eq!(story.world.tip(STATUS), Some(forged.clone()), "nothing is written there");
        assert_eq!(story.world.show("main", PATH), GOOD, "and the rollback is made");
    }
    // A person deletes the branch: it is made anew.
    story.world.bare_git(&["update-ref", "-d", &format!("refs/heads/{STATUS}")]);
    assert_eq!(reasons(&story.project(&mut reporter, long_after + 1000).await), Vec::<&str>::new());
    assert!(story.world.show(STATUS, "record.yaml").contains("uid-1"));
}

#[tokio::test]
async fn a_date_that_lies_ahead_holds_nobody_up() {
    let mut story = Story::quiet();
    let record = [("record.yaml".to_owned(), b"version: 1\ncluster: c1\nwriter: uid-9\n".to_vec())];
    let store = story.world.store();
    let meta = CommitMeta { time: "2099-01-01T00:00:00Z".parse().unwrap(), ..meta("Record") };
    let forged = store.commit_files(None, record.into(), meta).await.unwrap().unwrap();
    store.push(&story.world.remote(), &format!("refs/heads/{STATUS}"), None, &forged).await.unwrap();
    story.report.phase = "Initialized".into();
    let mut reporter = story.reporter();
    assert_eq!(reasons(&story.project(&mut reporter, 100).await), ["ForeignWriter"]);
    let silent = 100 + i64::try_from(FOREIGN_LIVE.as_secs()).unwrap();
    assert_eq!(reasons(&story.project(&mut reporter, silent - 1).await), ["ForeignWriter"]);
    assert_eq!(reasons(&story.project(&mut reporter, silent).await), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_somebody_moves_under_us_is_said_and_written_again() {
    let mut story = Story::new();
    let mut reporter = story.reporter();
    story.project(&mut reporter, 101).await;
    let history = story.world.bare_git(&["ls-tree", "-r", "--name-only", STATUS, "history/"]);
    let forge = |files: &mut BTreeMap<String, String>| {
        files.retain(|path, _| path == "record.yaml");
        files.insert("test/podinfo.yaml".into(), "lies\n".into());
    };
    let forged = story.forge(forge, None).await;
    story.report.phase = "Progressing".into();
    let projection = story.project(&mut reporter, 200).await;
    assert_eq!(reasons(&projection), ["RecordMoved"]);
    assert!(story.world.show(STATUS, "test/podinfo.yaml").contains("Progressing"));
    assert!(story.world.show(STATUS, &history).contains("rollback"), "what was there is there again");
    assert_eq!(story.world.bare_git(&["rev-parse", &format!("{STATUS}~1")]), forged.as_str(), "on top of it");

    // Deleted, or garbage: the same.
    for garbage in [false, true] {
        story.world.bare_git(&["update-ref", "-d", &format!("refs/heads/{STATUS}")]);
        if garbage {
            story.world.git(&["push", "-q", "origin", &format!("main:refs/heads/{STATUS}")]);
        }
        story.report.phase = format!("Waiting {garbage}");
        let projection = story.project(&mut reporter, if garbage { 400 } else { 300 }).await;
        assert!(reasons(&projection).contains(&"RecordMoved"), "{:?}", projection.conditions);
        assert!(story.world.show(STATUS, "test/podinfo.yaml").contains("Waiting"));
        assert!(story.world.show(STATUS, &history).contains("rollback"));
    }
}

#[tokio::test]
async fn a_status_branch_of_any_size_is_refused_before_it_is_read() {
    let story = Story::new();
    let forge = |files: &mut BTreeMap<String, String>| {
        files.insert("record.yaml".into(), "version: 1\ncluster: c1\nwriter: uid-1\n".into());
        files.insert("zeros".into(), "0".repeat(5 << 20));
    };
    let forged = story.forge(forge, None).await;
    let projection = story.project(&mut story.reporter(), 101).await;
    assert_eq!(reasons(&projection), ["RecordUnreadable"]);
    assert!(projection.conditions[0].message.contains("zeros"), "{:?}", projection.conditions);
    assert_eq!(story.world.show("main", PATH), GOOD, "the rollback does not wait for it");
    assert_eq!(story.world.tip(STATUS), Some(forged));
}

#[tokio::test]
async fn trees_that_name_each_other_end() {
    // Ten folders in each of ten levels are 14 objects and ten thousand million folders.
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    let mut tree = world.git(&["rev-parse", "HEAD^{tree}"]);
    for _ in 0..10 {
        let listing: String = (0..10).map(|name| format!("040000 tree {tree}\t{name}\n")).collect();
        let input = world.dir.path().join("listing");
        std::fs::write(&input, listing).unwrap();
        let made = super::world::command(&world.clone_dir())
            .arg("mktree")
            .stdin(std::fs::File::open(&input).unwrap())
            .output()
            .unwrap();
        tree = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    }
    let commit = world.git(&["commit-tree", &tree, "-m", "Bomb"]);
    world.git(&["push", "-q", "origin", &format!("{commit}:refs/heads/bomb")]);
    let store = world.store();
    let bomb = store.fetch(&world.remote(), "refs/heads/bomb").await.unwrap().unwrap();
    let limits = TreeLimits { entries: 5000, file_bytes: 1000, bytes: 1 << 20 };
    let error = store.tree(&bomb, limits).await.unwrap_err().to_string();
    assert!(error.contains("more than 5000 files and folders"), "{error}");
}

/// A cluster that knows nothing, and what a record tells it.
struct Rebuilt {
    story: Story,
    store: Store,
    watched: WatchedBranch,
}

impl Rebuilt {
    async fn new() -> Self {
        let story = Story::new();
        story.project(&mut story.reporter(), 101).await;
        let store = Store::open(story.world.dir.path().join("rebuilt")).unwrap();
        let watched = WatchedBranch::new(store.clone(), story.world.remote(), "main".parse().unwrap(), "deploy");
        Self { story, store, watched }
    }

    async fn asks(&mut self) -> Result<Option<Proved>, RebuildError> {
        self.asks_about(&target()).await
    }

    async fn asks_about(&mut self, target: &ObjectRef) -> Result<Option<Proved>, RebuildError> {
        let remote = self.story.world.remote();
        promoted(&self.store, &remote, &mut self.watched, &STATUS.parse().unwrap(), &canary(), target).await
    }

    async fn refuses(&mut self) -> String {
        self.asks().await.unwrap_err().to_string()
    }
}

fn edit<'a>(path: &'a str, from: &'a str, to: &'a str) -> impl Fn(&mut BTreeMap<String, String>) + use<'a> {
    move |files| {
        let text = files.get_mut(path).unwrap();
        assert!(text.contains(from), "{text}");
        *text = text.replace(from, to);
    }
}

const TARGET: &str = "test/podinfo.yaml";
const COPY: &str = "manifests/test/podinfo/podinfo.yaml";

#[tokio::test]
async fn a_record_is_believed_as_far_as_the_watched_branch_proves_it() {
    let mut rebuilt = Rebuilt::new().await;
    let good = rebuilt.story.good.clone();
    let proved = rebuilt.asks().await.unwrap().unwrap();
    assert_eq!((proved.manifest.revision, proved.manifest.text.as_str()), (good.clone(), GOOD));
    assert_eq!(Some(proved.record), rebuilt.story.world.tip(STATUS));
    // The Canary's target has another name by now: nothing is known of that.
    let renamed = ObjectRef { name: "later".into(), ..target() };
    assert_eq!(rebuilt.asks_about(&renamed).await.unwrap(), None);

    // A commit that exists nowhere, and one that only the attacker's branch has.
    let short = good.commit.as_ref().unwrap().as_str().to_owned();
    rebuilt.story.forge(edit(TARGET, &short, &"1".repeat(40)), None).await;
    let refused = rebuilt.refuses().await;
    assert!(refused.contains("commit 1111111 is not in the history of main"), "{refused}");
    assert!(refused.contains("remove test/podinfo.yaml from branch"), "{refused}");
    let theirs = rebuilt.story.evil_commit();
    let forge = |files: &mut BTreeMap<String, String>| {
        edit(TARGET, &"1".repeat(40), theirs.as_str())(files);
        edit(TARGET, good.digest.as_str(), digest(&evil()).as_str())(files);
        files.insert(COPY.into(), evil());
    };
    rebuilt.story.forge(forge, Some(theirs.as_str())).await;
    assert!(rebuilt.refuses().await.contains("is not in the history of main"));
}

#[tokio::test]
async fn a_copy_must_be_the_file_of_that_commit_and_of_that_target() {
    // Bytes that no digest covers.
    let mut rebuilt = Rebuilt::new().await;
    rebuilt.story.forge(edit(COPY, "# the image", "# pwned"), None).await;
    assert!(rebuilt.refuses().await.contains("its manifest is not the one at commit"));
    // Another workload of the same file.
    let mut rebuilt = Rebuilt::new().await;
    rebuilt.story.forge(edit(TARGET, "kind: Deployment", "kind: DaemonSet"), None).await;
    let refused = rebuilt.refuses().await;
    assert!(refused.contains("DaemonSet") || refused.contains("holds no template"), "{refused}");
    // A file beside the folder that is released from.
    let mut rebuilt = Rebuilt::new().await;
    rebuilt.story.world.git(&["pull", "-q", "--rebase", "origin", "main"]);
    let elsewhere = rebuilt.story.world.push(&[("other/podinfo.yaml", &evil())], "Another folder");
    let good = rebuilt.story.good.clone();
    let forge = |files: &mut BTreeMap<String, String>| {
        edit(TARGET, PATH, "other/podinfo.yaml")(files);
        edit(TARGET, good.commit.as_ref().unwrap().as_str(), elsewhere.as_str())(files);
        edit(TARGET, good.digest.as_str(), digest(&evil()).as_str())(files);
        files.insert(COPY.into(), evil());
    };
    rebuilt.story.forge(forge, None).await;
    assert!(rebuilt.refuses().await.contains("its manifest is not the one at commit"));
}

#[tokio::test]
async fn at_worst_another_revision_of_this_path_is_named() {
    let mut rebuilt = Rebuilt::new().await;
    let (good, bad_commit) = (rebuilt.story.good.clone(), rebuilt.story.bad_commit.clone());
    let forge = |files: &mut BTreeMap<String, String>| {
        edit(TARGET, good.commit.as_ref().unwrap().as_str(), bad_commit.as_str())(files);
        edit(TARGET, good.digest.as_str(), digest(&bad()).as_str())(files);
        files.insert(COPY.into(), bad());
    };
    rebuilt.story.forge(forge, None).await;
    let proved = rebuilt.asks().await.unwrap().unwrap();
    assert_eq!(proved.manifest.revision, revision(&bad(), &bad_commit));
    // Rewritten history: a person has to decide.
    let world = &rebuilt.story.world;
    world.git(&["checkout", "-q", "--orphan", "fresh"]);
    world.git(&["commit", "-q", "-m", "Fresh"]);
    world.git(&["push", "-q", "--force", "origin", "HEAD:refs/heads/main"]);
    let refused = rebuilt.refuses().await;
    assert!(refused.contains("is not in the history of main"), "{refused}");
    // They decide for what the branch names now.
    rebuilt.story.forge(|files| drop(files.remove(TARGET)), None).await;
    assert_eq!(rebuilt.asks().await.unwrap(), None);
}

#[tokio::test]
async fn what_a_shallow_repository_lacks_is_asked_of_a_person() {
    let rebuilt = Rebuilt::new().await;
    let world = &rebuilt.story.world;
    let shallow = world.dir.path().join("shallow.git");
    world.git(&[
        "clone",
        "-q",
        "--bare",
        "--depth",
        "1",
        "--no-single-branch",
        &format!("file://{}", world.bare().display()),
        shallow.to_str().unwrap(),
    ]);
    let remote = serin::git::Remote::new(shallow.to_str().unwrap(), Default::default()).unwrap();
    let store = Store::open(world.dir.path().join("of-shallow")).unwrap();
    let mut watched = WatchedBranch::new(store.clone(), remote.clone(), "main".parse().unwrap(), "deploy");
    let refused = promoted(&store, &remote, &mut watched, &STATUS.parse().unwrap(), &canary(), &target()).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("is not in the history of main"), "{refused}");
}

#[tokio::test]
async fn the_log_of_a_file_tells_what_each_commit_did() {
    let story = Story::new();
    story.world.push(&[(PATH, GOOD), ("other/x.yaml", "and: this\n")], "Two files");
    story.world.push(&[("other/x.yaml", "only: this\n")], "Beside it");
    let last = story.world.push(&[(PATH, &bad())], "One file");
    let store = story.world.store();
    let tip = store.fetch(&story.world.remote(), "refs/heads/main").await.unwrap().unwrap();
    let changes = store.changes(&tip, PATH, jiff::Timestamp::MIN, 100).await.unwrap();
    let alone: Vec<bool> = changes.iter().map(|change| change.alone).collect();
    assert_eq!(alone, [true, false, true, false], "the first commit has nothing before it");
    assert_eq!((&changes[0].commit, changes[0].before.as_deref()), (&last, Some(GOOD)));
    assert_eq!(changes[3].before, None);
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    assert_eq!(store.changes(&tip, PATH, later, 100).await.unwrap(), []);
    assert_eq!(store.changes(&tip, PATH, jiff::Timestamp::MIN, 1).await.unwrap().len(), 1);
}
