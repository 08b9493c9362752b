//! The store over http (`git http-backend` behind a small server) and ssh (`sshd`, where there is one).

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use pretty_assertions::assert_eq;
use serin::git::{Base, Credentials, Edit, GitError, Limits, PushError, Remote};
use tokio::io::AsyncWriteExt as _;

use super::world::{MAIN, World, meta};

/// `x-access-token:sesame`.
const BASIC: &str = "Basic eC1hY2Nlc3MtdG9rZW46c2VzYW1l";

/// A host of repositories, and what it has been asked.
#[derive(Clone, Default)]
struct Host {
    root: PathBuf,
    /// Whether it speaks protocol version 2.
    is_new: bool,
    /// Method and size of the answer of every request that was let in.
    answers: Arc<Mutex<Vec<(String, usize)>>>,
}

/// Runs `git http-backend` as a CGI program.
async fn cgi(State(host): State<Host>, request: Request) -> Response<Body> {
    if request.headers().get("authorization").is_none_or(|value| value != BASIC) {
        let mut denied = Response::new(Body::from("who are you"));
        *denied.status_mut() = StatusCode::UNAUTHORIZED;
        denied.headers_mut().insert("www-authenticate", HeaderValue::from_static("Basic realm=\"git\""));
        return denied;
    }
    let (parts, body) = request.into_parts();
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let mut command = tokio::process::Command::new("git");
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &host.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("REMOTE_USER", "serin")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or(""))
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", if host.is_new { header("git-protocol") } else { String::new() })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    command.env("CONTENT_LENGTH", body.len().to_string());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = tokio::spawn(async move { stdin.write_all(&body).await });
    let output = child.wait_with_output().await.unwrap();
    feed.await.unwrap().unwrap_or_default();
    let split = output.stdout.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let (head, body) = output.stdout.split_at(split);
    host.answers.lock().unwrap().push((parts.method.to_string(), body.len()));
    let mut response = Response::new(Body::from(body[4..].to_vec()));
    for line in String::from_utf8_lossy(head).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name == "Status" {
            *response.status_mut() = value.split(' ').next().unwrap().parse().unwrap();
        } else {
            response.headers_mut().insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
    }
    response
}

/// Serves the world's folder; gives the remote's URL.
async fn serve(world: &World) -> String {
    let host = Host { root: world.dir.path().to_owned(), ..Host::default() };
    serve_as(world, host).await
}

async fn serve_as(world: &World, host: Host) -> String {
    world.bare_git(&["config", "http.receivepack", "true"]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/remote.git", listener.local_addr().unwrap());
    let app = Router::new().fallback(cgi).with_state(host);
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn token(world: &World, secret: &str) -> Credentials {
    let file = world.dir.path().join("token");
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    Credentials::Token { username: None, token_file: file }
}

async fn fetch_commit_push(world: &World, remote: &Remote) {
    let store = world.store();
    let tip = world.tip("main").unwrap();
    assert_eq!(store.probe(remote, MAIN).await.unwrap(), Some(tip.clone()));
    assert_eq!(store.probe(remote, "refs/heads/none").await.unwrap(), None);
    assert_eq!(store.fetch(remote, MAIN).await.unwrap(), Some(tip.clone()));
    assert_eq!(store.snapshot(&tip, "", Limits::default()).await.unwrap().files.len(), 1);
    let edit = || vec![Edit::Write { path: "a.yaml".into(), content: b"a: ours\n".to_vec() }];
    let stale = store.commit(Base::Parent(tip.clone()), edit(), meta("Ours")).await.unwrap().unwrap();
    let theirs = world.push(&[("b.yaml", "b: 1\n")], "Theirs");
    let error = store.push(remote, MAIN, Some(&tip), &stale).await.unwrap_err();
    assert!(matches!(error, PushError::Moved { .. }), "{error}");
    assert_eq!(store.fetch(remote, MAIN).await.unwrap(), Some(theirs.clone()));
    let ours = store.commit(Base::Parent(theirs.clone()), edit(), meta("Ours")).await.unwrap().unwrap();
    store.push(remote, MAIN, Some(&theirs), &ours).await.unwrap();
    assert_eq!(world.tip("main"), Some(ours.clone()));
    assert_eq!(world.show("main", "b.yaml"), "b: 1\n");

    let status = "refs/heads/serin/status/x";
    let files = |text: &str| [("README.md".to_owned(), text.as_bytes().to_vec())].into();
    let one = store.commit_files(None, files("1"), meta("1")).await.unwrap().unwrap();
    let two = store.commit_files(None, files("2"), meta("2")).await.unwrap().unwrap();
    store.push(remote, status, None, &one).await.unwrap();
    let error = store.push(remote, status, Some(&two), &two).await.unwrap_err();
    assert!(matches!(error, PushError::Moved { .. }), "{error}");
    store.push(remote, status, Some(&one), &two).await.unwrap();
    assert_eq!(world.tip("serin/status/x"), Some(two));

    world.hook("pre-receive", "echo 'main is protected' >&2; exit 1");
    let edit = vec![Edit::Write { path: "a.yaml".into(), content: b"a: 3\n".to_vec() }];
    let more = store.commit(Base::Parent(ours.clone()), edit, meta("More")).await.unwrap().unwrap();
    let error = store.push(remote, MAIN, Some(&ours), &more).await.unwrap_err();
    assert!(matches!(&error, PushError::Denied { reason, .. } if reason.contains("main is protected")), "{error}");
    assert_eq!(world.tip("main"), Some(ours));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_with_a_token() {
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    let url = serve(&world).await;
    let remote = Remote::new(&url, token(&world, "sesame")).unwrap();
    fetch_commit_push(&world, &remote).await;
    // The file is read at each connection, so a rotated token works at once, and a wrong one is told in one try.
    let wrong = Remote::new(&url, token(&world, "wrong")).unwrap();
    let error = world.store().probe(&wrong, MAIN).await.unwrap_err();
    assert!(matches!(error, GitError::Denied { .. }), "{error}");
    assert!(!error.to_string().contains("wrong") || error.to_string().contains("token"), "{error}");
    token(&world, "sesame");
    assert!(world.store().probe(&wrong, MAIN).await.unwrap().is_some());
    let anonymous = Remote::new(&url, Credentials::None).unwrap();
    let error = world.store().fetch(&anonymous, MAIN).await.unwrap_err();
    assert!(matches!(error, GitError::Denied { .. }), "{error}");
}

/// Asks for refs, and how many bytes each question cost: one request each, or several of an old server.
async fn ask(world: &World, host: &Host, remote: &Remote) -> Vec<(String, usize)> {
    let (store, tip) = (world.store(), world.tip("main"));
    let mut asked = Vec::new();
    for (reference, expected) in [(MAIN, &tip), (MAIN, &tip), ("refs/heads/none", &None), ("refs/tags/v1", &tip)] {
        host.answers.lock().unwrap().clear();
        assert_eq!(store.probe(remote, reference).await.unwrap(), *expected, "{reference}");
        asked.append(&mut host.answers.lock().unwrap());
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_costs_one_ref_however_many_there_are() {
    const REFS: usize = 2_000;
    // Another test of the process may have installed it already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    let tip = world.tip("main").unwrap();
    let refs: String = (0..REFS).map(|number| format!("{tip} refs/pull/{number}/head\n")).collect();
    std::fs::write(world.bare().join("packed-refs"), refs).unwrap();
    world.bare_git(&["tag", "-a", "-m", "first", "v1", "main"]);
    let new = Host { root: world.dir.path().to_owned(), is_new: true, ..Host::default() };
    let url = serve_as(&world, new.clone()).await;
    let remote = Remote::new(&url, token(&world, "sesame")).unwrap();
    let asked = ask(&world, &new, &remote).await;
    assert_eq!(asked.len(), 4, "one request each: {asked:?}");
    assert!(asked.iter().all(|(method, bytes)| method == "POST" && *bytes < 200), "{asked:?}");
    // A wrong token is told in libgit2's words.
    let wrong = Remote::new(&url, token(&world, "wrong")).unwrap();
    let error = world.store().probe(&wrong, MAIN).await.unwrap_err();
    assert!(matches!(error, GitError::Denied { .. }), "{error}");

    // A server that knows only the older protocol gives the same answers, and is not asked in the newer one again.
    let old = Host { root: world.dir.path().to_owned(), ..Host::default() };
    let remote = Remote::new(&serve_as(&world, old.clone()).await, token(&world, "sesame")).unwrap();
    let asked = ask(&world, &old, &remote).await;
    assert!(asked.iter().filter(|(method, _)| method == "POST").count() <= 1, "{asked:?}");
    assert!(asked.iter().any(|(_, bytes)| *bytes > REFS * 40), "it sends all of them: {asked:?}");
}

/// An sshd that answers connections of a listener of ours, one process each, for the calling user.
struct Sshd {
    program: PathBuf,
    config: PathBuf,
}

impl Sshd {
    /// `None`, with a line that says so, where there is no usable sshd.
    fn find(world: &World) -> Option<Self> {
        let dir = world.dir.path();
        let places = std::env::var_os("PATH")
            .map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
            .unwrap_or_default();
        let places = places.into_iter().chain([PathBuf::from("/usr/sbin")]);
        let Some(program) = places.map(|place| place.join("sshd")).find(|program| program.is_file()) else {
            eprintln!("SKIP: there is no sshd, git over ssh was not tested");
            return None;
        };
        for name in ["host", "key", "other"] {
            let made = std::process::Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.join(name))
                .status()
                .unwrap();
            assert!(made.success());
        }
        let config = dir.join("sshd_config");
        let text = format!(
            "HostKey {0}/host\nAuthorizedKeysFile {0}/key.pub\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nPermitRootLogin yes\n",
            dir.display()
        );
        std::fs::write(&config, text).unwrap();
        let checked = std::process::Command::new(&program).args(["-t", "-f"]).arg(&config).output().unwrap();
        if !checked.status.success() {
            eprintln!("SKIP: sshd cannot run here: {}", String::from_utf8_lossy(&checked.stderr).trim());
            return None;
        }
        Some(Self { program, config })
    }

    /// Listens; gives the port.
    async fn serve(self) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let socket = socket.into_std().unwrap();
                socket.set_nonblocking(false).unwrap();
                let input = std::os::fd::OwnedFd::from(socket.try_clone().unwrap());
                let mut command = tokio::process::Command::new(&self.program);
                command.arg("-i").arg("-f").arg(&self.config).stderr(Stdio::null());
                let mut child = command.stdin(input).stdout(std::os::fd::OwnedFd::from(socket)).spawn().unwrap();
                tokio::spawn(async move { child.wait().await });
            }
        });
        port
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ssh_with_a_key_and_known_hosts() {
    let world = World::new(&[("a.yaml", "a: 1\n")]);
    let dir = world.dir.path();
    let Some(sshd) = Sshd::find(&world) else { return };
    let port = sshd.serve().await;
    let user = String::from_utf8(std::process::Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let url = format!("ssh://{}@127.0.0.1:{port}{}", user.trim(), world.bare().display());
    let host_key = std::fs::read_to_string(dir.join("host.pub")).unwrap();
    let known = |name: &str, line: String| {
        std::fs::write(dir.join(name), line).unwrap();
        dir.join(name)
    };
    let right = known("known", format!("[127.0.0.1]:{port} {host_key}"));
    let key = |file: &str, known_hosts: &PathBuf| Credentials::Key {
        key_file: dir.join(file),
        known_hosts: known_hosts.clone(),
    };
    fetch_commit_push(&world, &Remote::new(&url, key("key", &right)).unwrap()).await;

    let unknown = known("unknown", format!("other.example {host_key}"));
    let error = world.store().probe(&Remote::new(&url, key("key", &unknown)).unwrap(), MAIN).await.unwrap_err();
    assert!(matches!(&error, GitError::Denied { reason, .. } if reason.contains("known hosts")), "{error}");
    // Another key than the listed one, of the same kind: somebody in between, or a host that was made anew.
    let other_key = std::fs::read_to_string(dir.join("other.pub")).unwrap();
    let changed = known("changed", format!("[127.0.0.1]:{port} {other_key}"));
    let error = world.store().fetch(&Remote::new(&url, key("key", &changed)).unwrap(), MAIN).await.unwrap_err();
    assert!(matches!(&error, GitError::Denied { reason, .. } if reason.contains("not the known one")), "{error}");
    let error = world.store().probe(&Remote::new(&url, key("other", &right)).unwrap(), MAIN).await.unwrap_err();
    assert!(matches!(error, GitError::Denied { .. }), "{error}");
}
