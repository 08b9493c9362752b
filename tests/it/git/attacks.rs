//! What somebody may push, or a host may answer, to harm whoever reads it.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use git2::{ObjectType, Oid, Repository};
use pretty_assertions::assert_eq;
use serin::git::{Credentials, GitError, Limits, Remote, Snapshot, TreeLimits};
use serin::model::CommitId;

use super::world::{MAIN, World};

/// What is taken of the record.
const RECORD: TreeLimits = TreeLimits { entries: 100_000, file_bytes: 5 << 20, bytes: 64 << 20 };
const FILE: i32 = 0o100_644;
const LINK: i32 = 0o120_000;
const FOLDER: i32 = 0o040_000;

/// A world whose main branch is made of raw objects.
struct Attack {
    world: World,
    repo: Repository,
}

impl Attack {
    fn new() -> Self {
        let world = World::new(&[("a.yaml", "a: 1\n")]);
        let repo = Repository::open_bare(world.bare()).unwrap();
        Self { world, repo }
    }

    fn blob(&self, content: &[u8]) -> Oid {
        self.repo.blob(content).unwrap()
    }

    fn tree<'a>(&self, entries: impl IntoIterator<Item = (i32, &'a [u8], Oid)>) -> Oid {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend(format!("{mode:o} ").bytes());
            bytes.extend(name);
            bytes.push(0);
            bytes.extend(id.as_bytes());
        }
        self.repo.odb().unwrap().write(ObjectType::Tree, &bytes).unwrap()
    }

    fn push_to(&self, reference: &str, tree: Oid) -> CommitId {
        let text =
            format!("tree {tree}\nauthor a <a@b> 1700000000 +0000\ncommitter a <a@b> 1700000000 +0000\n\nx\n");
        let commit = self.repo.odb().unwrap().write(ObjectType::Commit, text.as_bytes()).unwrap();
        self.repo.reference(reference, commit, true, "push").unwrap();
        commit.to_string().parse().unwrap()
    }

    /// What is read of a tree.
    async fn read(&self, tree: Oid) -> Result<Snapshot, GitError> {
        let (tip, store) = (self.push_to(MAIN, tree), self.world.store());
        assert_eq!(store.fetch(&self.world.remote(), MAIN).await.unwrap(), Some(tip.clone()));
        store.snapshot(&tip, "", Limits::default()).await
    }
}

fn said(snapshot: &Snapshot) -> Vec<String> {
    snapshot.skipped.iter().map(|file| format!("{}: {}", file.path, file.reason)).collect()
}

#[tokio::test]
async fn folders_within_folders_are_walked_once() {
    let attack = Attack::new();
    let names: Vec<String> = (0..10).map(|number| format!("d{number}")).collect();
    for (leaf, files) in [("readme.txt", 0), ("a.yaml", 1)] {
        // 10^12 folders; with a manifest in each, more than are taken.
        let mut tree = attack.tree([(FILE, leaf.as_bytes(), attack.blob(b"a: 1\n"))]);
        for _ in 0..12 {
            tree = attack.tree(names.iter().map(|name| (FOLDER, name.as_bytes(), tree)));
        }
        match (files, attack.read(tree).await) {
            (0, Ok(snapshot)) => assert_eq!((snapshot.files.len(), snapshot.skipped.len()), (0, 0)),
            (1, Err(GitError::TooMany { limit, .. })) => assert_eq!(limit, "100000 manifests"),
            (_, other) => panic!("{leaf}: {other:?}"),
        }
        // The record's branch is read whole.
        let store = attack.world.store();
        let status = "refs/heads/serin/status/x";
        let tip = attack.push_to(status, tree);
        store.fetch(&attack.world.remote(), status).await.unwrap();
        let error = store.tree(&tip, RECORD).await.unwrap_err();
        assert!(matches!(error, GitError::TooMuch { .. }), "{error}");
    }
}

#[tokio::test]
async fn size_is_asked_before_content() {
    let attack = Attack::new();
    let ok = attack.blob(b"a: 1\n");
    let zeros = attack.blob(&vec![0; 48 << 20]);
    let tree = attack.tree([(FILE, &b"a.yaml"[..], ok), (LINK, b"link", zeros), (FILE, b"x.yaml", zeros)]);
    let snapshot = attack.read(tree).await.unwrap();
    assert_eq!(snapshot.files.len(), 1);
    assert_eq!(said(&snapshot), ["x.yaml: 48.0 MiB are more than 5.0 MiB"]);

    // One text under many names, and many texts.
    let large = attack.blob(format!("a: {}\n", "x".repeat(4 << 20)).as_bytes());
    let names: Vec<String> = (0..5_000).map(|number| format!("f{number:05}.yaml")).collect();
    let tree = attack.tree(names.iter().map(|name| (FILE, name.as_bytes(), large)));
    let error = attack.read(tree).await.unwrap_err();
    assert!(matches!(&error, GitError::TooMany { limit, .. } if limit == "64.0 MiB of manifests"), "{error}");
    assert!(!error.is_transient());

    // The record's branch.
    let (store, status) = (attack.world.store(), "refs/heads/serin/status/x");
    let tip = attack.push_to(status, attack.tree([(FILE, &b"a"[..], zeros), (FILE, b"b", zeros)]));
    store.fetch(&attack.world.remote(), status).await.unwrap();
    let error = store.tree(&tip, RECORD).await.unwrap_err();
    assert!(matches!(error, GitError::TooMuch { .. }), "{error}");
}

#[tokio::test]
async fn names_that_no_terminal_should_see_are_refused_by_name() {
    let attack = Attack::new();
    let ok = attack.blob(b"a: 1\n");
    let tree = attack.tree([
        (FILE, &b"\x1b[31mred.yaml"[..], ok),
        (FILE, b"a\nlevel=error msg=forged.yaml", ok),
        (FILE, b"a.yaml", ok),
        (FILE, b"latin\xe9.yaml", ok),
        (FILE, b"latin\xe9.txt", ok),
    ]);
    let snapshot = attack.read(tree).await.unwrap();
    assert_eq!(snapshot.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["a.yaml"]);
    assert_eq!(
        said(&snapshot),
        [
            "\\u{1b}[31mred.yaml: its name holds a control character",
            "a\\nlevel=error msg=forged.yaml: its name holds a control character",
            "latin\u{fffd}.yaml: its name is not UTF-8 text",
        ]
    );
}

#[tokio::test]
async fn what_was_pushed_broken_is_no_damage_of_ours() {
    let attack = Attack::new();
    let broken = attack.repo.odb().unwrap().write(ObjectType::Tree, b"100644 a.yaml").unwrap();
    let tree = attack.tree([(FILE, &b"a.yaml"[..], attack.blob(b"a: 1\n")), (FOLDER, b"d", broken)]);
    let (tip, store, remote) = (attack.push_to(MAIN, tree), attack.world.store(), attack.world.remote());
    // libgit2 looks at trees of a repository on this machine while it copies them; over the network it does not.
    let error = store.fetch(&remote, MAIN).await.unwrap_err();
    assert!(matches!(error, GitError::Remote { .. }) && !error.is_transient(), "{error}");
    std::fs::write(
        store.dir().join("objects/info/alternates"),
        format!("{}/objects\n", attack.world.bare().display()),
    )
    .unwrap();
    let error = store.snapshot(&tip, "", Limits::default()).await.unwrap_err();
    assert!(matches!(&error, GitError::Malformed { id, .. } if *id == broken.to_string()), "{error}");
    assert!(!error.is_transient());
}

/// Serves whatever answers; gives the address.
async fn host<F>(answer: F) -> std::net::SocketAddr
where
    F: Fn(Request) -> Response<Body> + Clone + Send + Sync + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(move |request: Request| std::future::ready(answer(request)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn status(code: StatusCode, header: (&'static str, String)) -> Response<Body> {
    Response::builder().status(code).header(header.0, header.1).body(Body::empty()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_for_where_they_were_given_for() {
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    std::fs::write(world.dir.path().join("token"), "sesame").unwrap();
    // Another host: another name, or another port of the same one.
    for name in ["localhost", "127.0.0.1"] {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&seen);
        let thief = host(move |request| {
            log.lock().unwrap().push(format!("{:?}", request.headers().get("authorization")));
            status(StatusCode::UNAUTHORIZED, ("www-authenticate", "Basic realm=\"x\"".to_owned()))
        })
        .await;
        let to = format!("http://{name}:{}", thief.port());
        let first =
            host(move |request| status(StatusCode::FOUND, ("location", format!("{to}{}", request.uri())))).await;
        let token = Credentials::Token { username: None, token_file: world.dir.path().join("token") };
        let remote = Remote::new(&format!("http://{first}/x.git"), token).unwrap();
        let store = world.store();
        for error in [store.probe(&remote, MAIN).await.unwrap_err(), store.fetch(&remote, MAIN).await.unwrap_err()]
        {
            assert!(!error.to_string().contains("sesame"), "{error}");
        }
        let seen = seen.lock().unwrap();
        assert!(seen.iter().all(|header| header == "None"), "{name}: {seen:?}");
    }
}
