//! What a snapshot holds, and what it says of the rest.

use pretty_assertions::assert_eq;
use serin::git::{GitError, Limits, Store};

use super::store::listing;
use super::world::{MAIN, World};

#[tokio::test]
async fn what_may_hold_manifests_and_is_not_read_is_said() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    let world = World::new(&[
        ("deploy/a.yaml", "a: 1\n"),
        ("deploy/large.yaml", pointer),
        ("shared/b.yaml", "b: 1\n"),
        ("README.md", "x"),
    ]);
    for (name, to) in
        [("base", "../shared"), ("LICENSE", "../README.md"), ("out", "../../etc"), ("gone", "../nowhere")]
    {
        std::os::unix::fs::symlink(to, world.clone_dir().join("deploy").join(name)).unwrap();
    }
    let tip = world.tip("main").unwrap();
    world.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{tip},deploy/vendor")]);
    world.git(&["add", "deploy/base", "deploy/LICENSE", "deploy/out", "deploy/gone"]);
    world.git(&["commit", "-q", "-m", "Links"]);
    world.git(&["push", "-q", "origin", "HEAD:refs/heads/main"]);
    let (store, tip) = (world.store(), world.tip("main").unwrap());
    store.fetch(&world.remote(), MAIN).await.unwrap();
    let snapshot = store.snapshot(&tip, "deploy", Limits::default()).await.unwrap();
    assert_eq!(snapshot.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["deploy/a.yaml"]);
    let said: Vec<_> = snapshot.skipped.iter().map(|file| (file.path.as_str(), file.reason.as_str())).collect();
    assert_eq!(
        said.iter().map(|(path, _)| *path).collect::<Vec<_>>(),
        ["deploy/base", "deploy/large.yaml", "deploy/vendor"]
    );
    for (said, words) in said.iter().zip(["symlink", "LFS", "submodule"]) {
        assert!(said.1.contains(words), "{said:?}");
    }
    // The very path that is watched.
    for (path, words) in [("deploy/base", "symlink"), ("deploy/vendor", "submodule")] {
        let error = store.snapshot(&tip, path, Limits::default()).await.unwrap_err();
        assert!(error.to_string().contains(words) && !error.is_transient(), "{error}");
    }
    assert_eq!(store.snapshot(&tip, "deploy/a.yaml", Limits::default()).await.unwrap().files.len(), 1);
}

/// `.serinignore` speaks of its folder and below, wherever reading begins; the settings have the last word.
#[tokio::test]
async fn what_is_ignored_is_neither_read_nor_missed() {
    let world = World::new(&[
        (".serinignore", "package.json\n/deploy/charts/\n"),
        ("deploy/a.yaml", "a: 1\n"),
        ("deploy/package.json", "{}"),
        ("deploy/charts/values.yaml", "a: 1\n"),
        ("deploy/web/.serinignore", "*.yaml\n!web.yaml\n"),
        ("deploy/web/web.yaml", "a: 1\n"),
        ("deploy/web/values.yaml", "a: 1\n"),
        ("deploy/web/latin1.yaml", "a: 1\n"),
        ("other/charts/b.yaml", "a: 1\n"),
    ]);
    std::fs::write(world.clone_dir().join("deploy/web/latin1.yaml"), b"a: \xe9\n").unwrap();
    let tip = world.push(&[], "Latin");
    let read = async |store: &Store, path: &str| {
        let snapshot = store.snapshot(&tip, path, Limits::default()).await.unwrap();
        assert_eq!(snapshot.skipped, []);
        snapshot.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>()
    };
    let store = world.store();
    store.fetch(&world.remote(), MAIN).await.unwrap();
    let deploy = ["deploy/a.yaml", "deploy/web/web.yaml"];
    assert_eq!(read(&store, "").await, [&deploy[..], &["other/charts/b.yaml"]].concat());
    assert_eq!(read(&store, "deploy").await, deploy);
    assert_eq!(read(&store, "deploy/web").await, ["deploy/web/web.yaml"]);
    assert_eq!(read(&store, "deploy/package.json").await, ["deploy/package.json"], "named itself it is meant");
    let settings = serin::git::Ignore::of(["/deploy/web/", "!/deploy/package.json"]);
    let store = store.ignoring(settings);
    assert_eq!(read(&store, "deploy").await, ["deploy/a.yaml", "deploy/package.json"]);
    // Rules that cannot be read are no rules, and that is said.
    let tip = world.push(&[(".serinignore", &"x\n".repeat(40_000))], "Long");
    store.fetch(&world.remote(), MAIN).await.unwrap();
    let snapshot = store.snapshot(&tip, "deploy", Limits::default()).await.unwrap();
    assert_eq!(snapshot.skipped[0].path, ".serinignore");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    let gone =
        serin::git::Remote::new(world.dir.path().join("gone.git").to_str().unwrap(), Default::default()).unwrap();
    let error = world.store().fetch(&gone, MAIN).await.unwrap_err();
    assert!(matches!(error, GitError::Unreachable { .. }), "{error}");
    let error = world.store().probe(&gone, MAIN).await.unwrap_err();
    assert!(matches!(error, GitError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_second_snapshot_shares_what_did_not_change() {
    let world = World::new(&[
        ("a/x.yaml", "x: 1\n"),
        ("a/y.yaml", "y: 1\n"),
        ("b/deep/z.yaml", "z: 1\n"),
        ("b/link.yaml", "l: 1\n"),
    ]);
    let store = world.store();
    let first = store.fetch(&world.remote(), MAIN).await.unwrap().unwrap();
    let before = store.snapshot(&first, "", Limits::default()).await.unwrap();
    std::fs::remove_file(world.clone_dir().join("a/y.yaml")).unwrap();
    // The link's blob is what the file's was: only the mode tells them apart.
    std::fs::remove_file(world.clone_dir().join("b/link.yaml")).unwrap();
    std::os::unix::fs::symlink("l: 1\n", world.clone_dir().join("b/link.yaml")).unwrap();
    let second = world.push(&[("a/x.yaml", "x: 2\n"), ("b/other.yaml", "o: 1\n")], "Change");
    store.fetch(&world.remote(), MAIN).await.unwrap();
    let after = store.snapshot(&second, "", Limits::default()).await.unwrap();
    let texts: Vec<_> = after.files.iter().map(|file| (file.path.as_str(), &*file.text)).collect();
    assert_eq!(texts, [("a/x.yaml", "x: 2\n"), ("b/deep/z.yaml", "z: 1\n"), ("b/other.yaml", "o: 1\n")]);
    assert_eq!(after.skipped.len(), 1, "{:?}", after.skipped);
    assert!(std::sync::Arc::ptr_eq(&before.files[2], &after.files[1]), "z is as it was");
    let fresh = world.store().snapshot(&second, "", Limits::default()).await.unwrap();
    assert_eq!(fresh, after, "the same as read anew");
    // Back to the first commit: nothing of the second shines through.
    assert_eq!(store.snapshot(&first, "", Limits::default()).await.unwrap().files, before.files);
}

#[tokio::test]
async fn a_path_that_leads_out_is_an_error_of_its_own_and_costs_no_cache() {
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    let store = world.store();
    let tip = store.fetch(&world.remote(), MAIN).await.unwrap().unwrap();
    let before = listing(store.dir());
    for path in ["../../etc", "/etc", "a/../..", ".git", "a\nb", "a.yaml/../.."] {
        let error = store.snapshot(&tip, path, Limits::default()).await.unwrap_err();
        assert!(matches!(error, GitError::Path(_)) && !error.is_transient(), "{path}: {error}");
    }
    store.fetch(&world.remote(), MAIN).await.unwrap();
    assert_eq!(listing(store.dir()), before, "nothing was thrown away");
}
