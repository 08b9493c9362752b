//! The store over local repositories.

use std::path::Path;

use pretty_assertions::assert_eq;
use serin::git::{Base, Credentials, Edit, GitError, Limits, LocalPush, PushError, Remote, Store, TreeLimits};

use super::world::{MAIN, World, meta};

fn write(path: &str, text: &str) -> Vec<Edit> {
    vec![Edit::Write { path: path.into(), content: text.into() }]
}

/// Every file below a folder with its modification time: what "no disk write" means.
pub(super) fn listing(dir: &Path) -> Vec<(std::path::PathBuf, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        found.push((entry.path(), entry.metadata().unwrap().modified().unwrap()));
        if entry.path().is_dir() {
            found.extend(listing(&entry.path()));
        }
    }
    found.sort();
    found
}

/// More than any tree of these tests.
const ALL: TreeLimits = TreeLimits { entries: 1000, file_bytes: 1 << 20, bytes: 1 << 20 };

#[tokio::test]
async fn a_snapshot_holds_manifests_and_nothing_else() {
    let world = World::new(&[
        ("deploy/a.yaml", "a: 1\n"),
        ("deploy/sub/b.json", "{}"),
        ("deploy/.hidden/c.yaml", "c: 1\n"),
        ("deploy/README.md", "x"),
        ("other/d.yml", "d: 1\n"),
        ("deploy/big.yaml", &"#".repeat(200)),
    ]);
    std::os::unix::fs::symlink("/etc/passwd", world.clone_dir().join("deploy/link.yaml")).unwrap();
    std::fs::write(world.clone_dir().join("deploy/latin1.yaml"), b"a: \xe9\n").unwrap();
    let tip = world.push(&[], "Bump podinfo\n\nbecause");
    let store = world.store();
    assert_eq!(store.fetch(&world.remote(), MAIN).await.unwrap(), Some(tip.clone()));

    let limits = Limits { file_bytes: 100, files: 10, ..Limits::default() };
    let snapshot = store.snapshot(&tip, "./deploy/", limits).await.unwrap();
    let paths: Vec<_> = snapshot.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["deploy/a.yaml", "deploy/sub/b.json"]);
    let skipped: Vec<_> = snapshot.skipped.iter().map(|file| format!("{}: {}", file.path, file.reason)).collect();
    assert_eq!(
        skipped,
        [
            "deploy/big.yaml: 200 bytes are more than 100 bytes",
            "deploy/latin1.yaml: it is not UTF-8 text",
            "deploy/link.yaml: a symlink is not followed"
        ]
    );
    assert_eq!((snapshot.subject.as_str(), snapshot.author.as_str()), ("Bump podinfo", "Ann"));
    // The same blob is the same allocation.
    let again = store.snapshot(&tip, "deploy", limits).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&snapshot.files[0].text, &again.files[0].text));
    assert!(matches!(store.snapshot(&tip, "nowhere", limits).await, Err(GitError::NoPath { .. })));
    let few = Limits { files: 1, ..limits };
    assert!(matches!(store.snapshot(&tip, "", few).await, Err(GitError::TooMany { .. })));
}

#[tokio::test]
async fn an_unchanged_poll_writes_nothing_and_a_force_push_is_followed() {
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    let (store, remote) = (world.store(), world.remote());
    let first = store.fetch(&remote, MAIN).await.unwrap();
    let before = (listing(store.dir()), listing(&world.bare()));
    assert_eq!(store.probe(&remote, MAIN).await.unwrap(), first);
    assert_eq!((listing(store.dir()), listing(&world.bare())), before);
    assert_eq!(store.probe(&remote, "refs/heads/none").await.unwrap(), None);
    // A tag of the same name is another ref.
    world.git(&["tag", "main", "HEAD"]);
    world.git(&["push", "-q", "origin", "refs/tags/main"]);
    world.push(&[("a.yaml", "a: 2\n")], "Second");
    world.git(&["checkout", "-q", "--orphan", "fresh"]);
    world.git(&["commit", "-q", "-m", "Other"]);
    world.git(&["push", "-q", "--force", "origin", "HEAD:refs/heads/main"]);
    let forced = store.fetch(&remote, MAIN).await.unwrap();
    assert_eq!(forced, world.tip("main"));
    let snapshot = store.snapshot(&forced.unwrap(), "", Limits::default()).await.unwrap();
    assert_eq!((&*snapshot.files[0].text, snapshot.subject.as_str()), ("a: 2\n", "Other"));
    world.bare_git(&["update-ref", "-d", MAIN]);
    assert_eq!(store.fetch(&remote, MAIN).await.unwrap(), None);
}

#[tokio::test]
async fn a_commit_changes_the_named_paths_only() {
    let world = World::new(&[("a/x.yaml", "x: 1\n"), ("a/y.yaml", "y: 1\n"), ("run.sh", "true\n")]);
    use std::os::unix::fs::PermissionsExt as _;
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(world.clone_dir().join("run.sh"), executable).unwrap();
    let tip = world.push(&[], "Executable");
    let store = world.store();
    store.fetch(&world.remote(), MAIN).await.unwrap();
    let edits = vec![
        Edit::Write { path: "a/x.yaml".into(), content: b"x: 2\n".to_vec() },
        Edit::Write { path: "run.sh".into(), content: b"false\n".to_vec() },
        Edit::Remove { path: "a/y.yaml".into() },
        Edit::Remove { path: "not/there".into() },
    ];
    let made = store.commit(Base::Parent(tip.clone()), edits.clone(), meta("Edit")).await.unwrap().unwrap();
    let again = store.commit(Base::Parent(tip.clone()), edits, meta("Edit")).await.unwrap();
    assert_eq!(again, Some(made.clone()), "equal input, equal commit");
    assert_eq!(
        store.commit(Base::Parent(tip.clone()), write("a/x.yaml", "x: 1\n"), meta("Nothing")).await.unwrap(),
        None
    );
    store.push(&world.remote(), MAIN, Some(&tip), &made).await.unwrap();
    assert_eq!(
        world.bare_git(&["diff", "--raw", "--abbrev=4", tip.as_str(), "main"]).lines().count(),
        3,
        "x, y and run.sh"
    );
    assert!(world.bare_git(&["ls-tree", "main", "run.sh"]).starts_with("100755"));
    assert_eq!(world.bare_git(&["log", "-1", "--format=%an %ct", "main"]), "serin 1767323045");
}

async fn compare_and_swap(mode: LocalPush) {
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    let (remote, store) = (world.remote(), Store::open_with(world.dir.path().join("c"), mode).unwrap());
    let tip = store.fetch(&remote, MAIN).await.unwrap().unwrap();
    let ours = store.commit(Base::Parent(tip.clone()), write("a.yaml", "a: ours\n"), meta("Ours")).await;
    let ours = ours.unwrap().unwrap();
    let theirs = world.push(&[("b.yaml", "b: 1\n")], "Theirs");
    let error = store.push(&remote, MAIN, Some(&tip), &ours).await.unwrap_err();
    assert!(matches!(error, PushError::Moved { .. }), "{mode:?}: {error}");
    assert_eq!(world.tip("main"), Some(theirs.clone()), "nobody's commit is lost");
    // Decided again on the new tip, it goes through.
    assert_eq!(store.fetch(&remote, MAIN).await.unwrap(), Some(theirs.clone()));
    let ours = store.commit(Base::Parent(theirs.clone()), write("a.yaml", "a: ours\n"), meta("Ours")).await;
    let ours = ours.unwrap().unwrap();
    store.push(&remote, MAIN, Some(&theirs), &ours).await.unwrap();
    assert_eq!(
        (world.show("main", "a.yaml"), world.show("main", "b.yaml")),
        ("a: ours\n".into(), "b: 1\n".into())
    );
    world.bare_git(&["fsck", "--strict"]);

    // A new branch, then replaced by a history of its own.
    let status = "refs/heads/serin/status/x";
    let files = |text: &str| [("README.md".to_owned(), text.as_bytes().to_vec())].into();
    let one = store.commit_files(None, files("1"), meta("1")).await.unwrap().unwrap();
    store.push(&remote, status, None, &one).await.unwrap();
    let error = store.push(&remote, status, None, &ours).await.unwrap_err();
    assert!(matches!(error, PushError::Moved { .. }), "{mode:?}: {error}");
    let two = store.commit_files(None, files("2"), meta("2")).await.unwrap().unwrap();
    store.push(&remote, status, Some(&one), &two).await.unwrap();
    assert_eq!(world.tip("serin/status/x"), Some(two));
}

#[tokio::test]
async fn a_push_that_lost_the_race_is_told_so() {
    compare_and_swap(LocalPush::Binary).await;
}

#[tokio::test]
async fn without_the_binary_the_same_holds() {
    compare_and_swap(LocalPush::Library).await;
}

#[tokio::test]
async fn of_many_racing_writers_none_is_lost() {
    const WRITERS: usize = 4;
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let mode = if writer % 2 == 0 { LocalPush::Binary } else { LocalPush::Library };
        let store = Store::open_with(world.dir.path().join(format!("c{writer}")), mode).unwrap();
        let remote = world.remote();
        tasks.push(tokio::spawn(async move {
            for _ in 0..50 {
                let tip = store.fetch(&remote, MAIN).await.unwrap().unwrap();
                let edits = write(&format!("w{writer}.yaml"), "w: 1\n");
                let ours = store
                    .commit(Base::Parent(tip.clone()), edits, meta(&writer.to_string()))
                    .await
                    .unwrap()
                    .unwrap();
                match store.push(&remote, MAIN, Some(&tip), &ours).await {
                    Ok(()) => return true,
                    Err(PushError::Moved { .. }) => {}
                    Err(error) => panic!("{writer}: {error}"),
                }
            }
            false
        }));
    }
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert_eq!(world.bare_git(&["rev-list", "--count", "main"]), (WRITERS + 1).to_string());
    assert_eq!(world.bare_git(&["ls-tree", "--name-only", "main"]).lines().count(), WRITERS + 1);
}

#[tokio::test]
async fn a_lock_that_a_killed_process_left_is_removed_at_start() {
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    let store = world.store();
    store.fetch(&world.remote(), MAIN).await.unwrap();
    let left = [store.dir().join("shallow.lock"), store.dir().join("refs/serin/fetched/heads/main.lock")];
    for lock in &left {
        std::fs::write(lock, "").unwrap();
    }
    let tip = world.push(&[("a.yaml", "a: 2\n")], "Change");
    let error = store.fetch(&world.remote(), MAIN).await.unwrap_err();
    assert!(error.to_string().contains("lock"), "it would fail for ever: {error}");
    assert_eq!(world.store().fetch(&world.remote(), MAIN).await.unwrap(), Some(tip));
    assert!(left.iter().all(|lock| !lock.exists()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetches_of_one_store_do_not_get_in_each_others_way() {
    const ROUNDS: usize = 20;
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    let store = world.store();
    let bare = git2::Repository::open_bare(world.bare()).unwrap();
    let author = git2::Signature::now("s", "s@x").unwrap();
    for round in 0..ROUNDS {
        // Sync and report fetch their branches at the same moment, each with something new.
        let mut fetches = Vec::new();
        for branch in ["one", "two", "three"] {
            let tree = bare.find_reference(MAIN).unwrap().peel_to_tree().unwrap();
            let reference = format!("refs/heads/{branch}");
            let commit = bare.commit(None, &author, &author, &format!("{branch} {round}"), &tree, &[]).unwrap();
            bare.reference(&reference, commit, true, "push").unwrap();
            let (store, remote) = (store.clone(), world.remote());
            fetches.push(tokio::spawn(async move { store.fetch(&remote, &reference).await }));
        }
        for fetch in fetches {
            assert!(fetch.await.unwrap().unwrap().is_some());
        }
    }
}

#[tokio::test]
async fn a_hook_that_says_no_is_a_denial_and_is_never_gone_past() {
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    world.hook("pre-receive", "echo 'main is protected' >&2; exit 1");
    for mode in [LocalPush::Binary, LocalPush::Library] {
        let store = Store::open_with(world.dir.path().join(format!("{mode:?}")), mode).unwrap();
        let tip = store.fetch(&world.remote(), MAIN).await.unwrap().unwrap();
        let ours = store.commit(Base::Parent(tip.clone()), write("a.yaml", "a: 2\n"), meta("Ours")).await;
        let error = store.push(&world.remote(), MAIN, Some(&tip), &ours.unwrap().unwrap()).await.unwrap_err();
        let PushError::Denied { reason, .. } = &error else { panic!("{mode:?}: {error}") };
        let words = if mode == LocalPush::Binary { "main is protected" } else { "pre-receive hook" };
        assert!(reason.contains(words), "{reason}");
        assert_eq!(world.tip("main"), Some(tip));
    }
}

#[tokio::test]
async fn a_damaged_cache_is_made_again() {
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    let remote = world.remote();
    let tip = world.store().fetch(&remote, MAIN).await.unwrap().unwrap();
    // Damage while running: every object is garbage.
    let store = world.store();
    spoil(&store.dir().join("objects"));
    let error = store.snapshot(&tip, "", Limits::default()).await.unwrap_err();
    assert!(matches!(error, GitError::Corrupt { .. }) && error.is_transient(), "{error}");
    assert_eq!(store.fetch(&remote, MAIN).await.unwrap(), Some(tip.clone()));
    assert_eq!(store.snapshot(&tip, "", Limits::default()).await.unwrap().files.len(), 1);
    // Damage found at start, and a folder that is not ours.
    std::fs::write(store.dir().join("HEAD"), "garbage").unwrap();
    assert_eq!(world.store().fetch(&remote, MAIN).await.unwrap(), Some(tip));
    std::fs::write(world.dir.path().join("file"), "").unwrap();
    let error = Store::open(world.dir.path()).unwrap_err();
    assert!(world.bare().exists() && error.to_string().contains("something else"), "{error}");
}

fn spoil(dir: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            spoil(&entry.path());
        } else {
            std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
            std::fs::write(entry.path(), "garbage").unwrap();
        }
    }
}

/// Formats that libgit2 does not read: one lasting error that says what to do, not a network that might come back.
#[tokio::test]
async fn a_repository_of_another_format_is_a_lasting_error_with_a_remedy() {
    for (format, said) in [("--object-format=sha256", "SHA-256"), ("--ref-format=reftable", "reftable")] {
        let world = World::new(&[("a.yaml", "a: 1\n")]);
        let other = world.dir.path().join("other.git");
        let mut init = super::world::command(world.dir.path());
        let made = init.args(["init", "-q", "--bare", "-b", "main", format, "other.git"]).output().unwrap();
        if !made.status.success() {
            eprintln!("skipped: this git knows no {format}");
            continue;
        }
        let remote = Remote::new(other.to_str().unwrap(), Credentials::None).unwrap();
        for error in [world.store().probe(&remote, MAIN).await, world.store().fetch(&remote, MAIN).await] {
            let error = error.unwrap_err();
            assert!(!error.is_transient() && error.to_string().contains(said), "{error}");
        }
    }
}

/// Files that hold objects: packs, and loose objects.
fn pieces(objects: &Path) -> (usize, usize) {
    let files = listing(objects).into_iter().map(|(path, _)| path).filter(|path| path.is_file());
    let (packed, loose): (Vec<_>, Vec<_>) = files.partition(|path| path.parent().unwrap().ends_with("pack"));
    (packed.iter().filter(|path| path.extension().is_some_and(|ending| ending == "pack")).count(), loose.len())
}

#[tokio::test]
async fn a_store_that_runs_for_months_stays_a_few_files() {
    let world = World::new(&[("a.yaml", "a: 0\n")]);
    let store = world.store();
    // What somebody pushes is fetched, what we write is pushed: one after the other, as in a daemon's life.
    let mut stream = String::new();
    for number in 1..=120 {
        stream.push_str(&format!(
            "commit refs/heads/main\nmark :{number}\ncommitter s <s@x> {} +0000\ndata 1\nx\nfrom {}\n\
             M 644 inline a.yaml\ndata {}\na: {number}\n\n",
            1_767_000_000 + number,
            if number == 1 { "refs/heads/main^0".to_owned() } else { format!(":{}", number - 1) },
            format!("a: {number}\n").len(),
        ));
    }
    let (script, marks) = (world.dir.path().join("stream"), world.dir.path().join("marks"));
    std::fs::write(&script, stream).unwrap();
    let import = super::world::command(&world.bare())
        .args(["fast-import", "--quiet", &format!("--export-marks={}", marks.display())])
        .stdin(std::fs::File::open(script).unwrap())
        .status();
    assert!(import.unwrap().success());
    let marks = std::fs::read_to_string(marks).unwrap();
    let mut commits: Vec<(usize, &str)> = marks
        .lines()
        .filter_map(|line| line.strip_prefix(':')?.split_once(' '))
        .map(|(mark, commit)| (mark.parse().unwrap(), commit))
        .collect();
    commits.sort_unstable();
    let bare = git2::Repository::open_bare(world.bare()).unwrap();
    let mut most = (0, 0);
    let mut ours = None;
    for (number, commit) in &commits {
        bare.reference(MAIN, commit.parse().unwrap(), true, "push").unwrap();
        let tip = store.fetch(&world.remote(), MAIN).await.unwrap().unwrap();
        assert_eq!(tip.as_str(), *commit);
        let files = (0..10).map(|file| (format!("{file}"), format!("{number} {file}").into_bytes())).collect();
        ours = store.commit_files(ours.as_ref(), files, meta("Record")).await.unwrap();
        let (packs, loose) = pieces(&store.dir().join("objects"));
        most = (most.0.max(packs), most.1.max(loose));
    }
    assert!(most.0 <= 52 && most.1 <= 700, "{most:?}");
    assert!(most.0 > 40, "fetches leave packs, or this shows nothing: {most:?}");
    let first: serin::model::CommitId = commits[0].1.parse().unwrap();
    assert_eq!(&*store.file(&first, "a.yaml").await.unwrap().unwrap().text, "a: 1\n");
    assert_eq!(store.tree(&ours.unwrap(), ALL).await.unwrap().len(), 10, "what is nowhere else is not lost");
}

/// Refusals that last although nobody has moved the ref, by how they are made, and a word of the remote that must be told.
#[tokio::test]
async fn a_refusal_while_the_ref_has_not_moved_is_a_denial_in_the_remotes_words() {
    const STATUS: &str = "refs/heads/serin/status/x";
    type Made = (&'static str, fn(&World), &'static str);
    let cases: [Made; 3] = [
        ("a branch in the way", |world| drop(world.bare_git(&["branch", "serin", "main"])), "refs/heads/serin"),
        (
            "a lock that stays",
            |world| {
                let lock = world.bare().join(format!("{STATUS}.lock"));
                std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
                std::fs::write(lock, "").unwrap();
            },
            "lock",
        ),
        (
            "a hook that speaks of locks",
            |world| world.hook("update", "echo 'cannot lock ref: frozen' >&2; exit 1"),
            "frozen",
        ),
    ];
    for (name, make, words) in cases {
        for mode in [LocalPush::Binary, LocalPush::Library] {
            if name.contains("hook") && mode == LocalPush::Library {
                continue;
            }
            let world = World::new(&[("a.yaml", "a: 1\n")]);
            make(&world);
            let store = Store::open_with(world.dir.path().join("c"), mode).unwrap();
            let files = [("README.md".to_owned(), b"1".to_vec())].into();
            let ours = store.commit_files(None, files, meta("1")).await.unwrap().unwrap();
            let error = store.push(&world.remote(), STATUS, None, &ours).await.unwrap_err();
            let PushError::Denied { reason, .. } = &error else { panic!("{name}, {mode:?}: {error}") };
            assert!(reason.contains(words), "{name}, {mode:?}: {reason}");
            assert_eq!(world.tip("serin/status/x"), None);
        }
    }
}
