//! Integration tests: the load tester's HTTP API, and `hey` lines against a real server.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::any;
use serde_json::{Value, json};
use serin::hook::{HookCall, HookCaller as _, HookPayload, HttpHooks};
use serin::http::{Address, HttpClients, OriginToken, SecretSource};
use serin::loadtest::{Callers, LoadTestOptions, LoadTester};
use serin::model::{Digest, ReleaseId};
use serin::release::{Counter, Hook, HookKey, HookKind, Keyed, Tick};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::support::SERIN;

/// Every wait is capped by this.
const PATIENCE: Duration = Duration::from_secs(30);

fn setup() {
    // Another test of the process may have installed it already.
    drop(rustls::crypto::ring::default_provider().install_default());
}

async fn post(tester: &LoadTester, path: &str, body: Value) -> (StatusCode, String) {
    let request = Request::post(path).body(Body::from(body.to_string())).unwrap();
    let response = tokio::time::timeout(PATIENCE, tester.router().oneshot(request)).await.unwrap().unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn webhook(metadata: Value) -> Value {
    json!({"name": "podinfo", "namespace": "test", "phase": "Progressing", "checksum": "1", "metadata": metadata})
}

/// A server that counts what it is asked; its address and the count.
async fn target() -> (String, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let app = Router::new().fallback(any(move || {
        let count = Arc::clone(&counted);
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            "hello"
        }
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (format!("http://{address}/"), count)
}

/// Whoever may call runs commands: nothing but probes and metrics answers without the token, and a new one counts at once.
#[tokio::test]
async fn nobody_without_the_token_runs_a_command_or_moves_a_gate() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "PLANTED-1\n").unwrap();
    let callers = Callers::WithToken(SecretSource::File(file.clone()));
    let tester = LoadTester::new(LoadTestOptions { callers, ..LoadTestOptions::default() });
    let mark = folder.path().join("ran");
    let body = webhook(json!({"type": "bash", "cmd": format!("touch {}", mark.display())})).to_string();
    let ask = async |path: &str, said: Option<&str>| {
        let mut request = Request::post(path);
        if let Some(said) = said {
            request = request.header("authorization", said);
        }
        let request = request.body(Body::from(body.clone())).unwrap();
        let response = tester.router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("PLANTED"));
        status
    };
    let paths = [
        "/",
        "/gate/approve",
        "/gate/halt",
        "/gate/check",
        "/gate/open",
        "/gate/close",
        "/rollback/check",
        "/rollback/open",
        "/rollback/close",
    ];
    let wrong =
        [None, Some(""), Some("PLANTED-1"), Some("Bearer"), Some("Bearer PLANTED-2"), Some("Basic PLANTED-1")];
    for path in paths {
        for said in wrong {
            assert_eq!(ask(path, said).await, StatusCode::UNAUTHORIZED, "{path} {said:?}");
        }
    }
    assert!(!mark.exists());
    assert_eq!(ask("/", Some("Bearer PLANTED-1")).await, StatusCode::OK);
    assert!(mark.exists());
    std::fs::write(&file, "PLANTED-2").unwrap();
    assert_eq!(ask("/gate/check", Some("bearer PLANTED-1")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/gate/approve", Some("bearer PLANTED-2")).await, StatusCode::OK);
    // No token to compare with is nobody's permission.
    std::fs::write(&file, " ").unwrap();
    assert_eq!(ask("/gate/approve", Some("Bearer ")).await, StatusCode::SERVICE_UNAVAILABLE);
    for path in ["/healthz", "/metrics"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(tester.router().oneshot(request).await.unwrap().status(), StatusCode::OK, "{path}");
    }
}

/// The daemon proves itself to the load testers that are named, and to nobody else.
#[tokio::test]
async fn the_daemon_sends_the_token_to_load_testers_and_to_no_other_webhook() {
    setup();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "PLANTED").unwrap();
    let source = SecretSource::File(file);
    let tester = LoadTester::new(LoadTestOptions {
        callers: Callers::WithToken(source.clone()),
        ..LoadTestOptions::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, tester.router()).await });
    let token = OriginToken::new(vec![Address::parse(&url).unwrap()], source);
    let clients = HttpClients::new(None).unwrap();
    let hooks = HttpHooks::new(clients.clone()).with_token(Some(token.clone()));
    assert!(hooks.call(&call(&url)).await.accepted);
    assert!(!HttpHooks::new(clients).call(&call(&url)).await.accepted, "without the token");
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let app = Router::new().fallback(any(move |headers: HeaderMap| {
        seen.lock().unwrap().push(headers);
        async { "hello" }
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    assert!(hooks.call(&call(&other)).await.accepted);
    assert!(told.lock().unwrap().iter().all(|headers| !format!("{headers:?}").contains("PLANTED")));
    assert!(told.lock().unwrap()[0].get("authorization").is_none());
}

/// A webhook of a release that has a command run.
fn call(url: &str) -> HookCall {
    let metadata: BTreeMap<_, _> =
        [("type".to_owned(), "bash".to_owned()), ("cmd".to_owned(), "true".to_owned())].into();
    let hook = Hook {
        name: "test".to_owned(),
        kind: HookKind::PreRollout,
        url: url.to_owned(),
        timeout: PATIENCE,
        retries: 0,
        disable_tls: false,
        metadata: metadata.clone(),
    };
    let release = ReleaseId::new(1, &Digest::of_canonical(b"x"));
    let tick = Tick { release, of: Counter::Steps, number: 1 };
    let hooks: Keyed<Hook> = [hook.clone()].into_iter().collect();
    HookCall {
        key: HookKey { tick, hook: hooks.iter().next().unwrap().0.clone() },
        hook,
        payload: HookPayload {
            name: "podinfo".into(),
            namespace: "test".into(),
            phase: "Progressing".into(),
            checksum: "abc".into(),
            metadata,
        },
    }
}

#[tokio::test]
async fn bash_answers_with_the_outcome() {
    let tester = LoadTester::new(LoadTestOptions::default());
    let run = |cmd: &str| webhook(json!({"type": "bash", "cmd": cmd, "returnCmdOutput": "true"}));
    assert_eq!(post(&tester, "/", run("echo token | grep token")).await, (StatusCode::OK, "token\n".to_owned()));
    let (status, body) = post(&tester, "/", run("echo broken; exit 3")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("broken") && body.contains("exit status: 3"), "{body}");
}

#[tokio::test]
async fn a_body_written_by_hand_may_leave_the_canary_out_and_true_is_what_go_takes_for_it() {
    let tester = LoadTester::new(LoadTestOptions::default());
    let body = json!({"metadata": {"type": "bash", "cmd": "echo token", "returnCmdOutput": "True"}});
    assert_eq!(post(&tester, "/", body).await, (StatusCode::OK, "token\n".to_owned()));
}

#[tokio::test]
async fn a_background_command_runs_once_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (pipe, log) = (dir.path().join("pipe"), dir.path().join("log"));
    let tester = LoadTester::new(LoadTestOptions::default());
    // Opening a pipe for reading blocks until the test writes: the command runs until then.
    let made = tokio::process::Command::new("mkfifo").arg(&pipe).status().await.unwrap();
    assert!(made.success());
    let command = format!("echo run >> {}; cat {}", log.display(), pipe.display());
    let request = webhook(json!({"cmd": command}));
    assert_eq!(post(&tester, "/", request.clone()).await.0, StatusCode::ACCEPTED);
    assert_eq!(post(&tester, "/", request.clone()).await.0, StatusCode::ACCEPTED);
    // Opening for writing returns once the command reads.
    let writer = tokio::task::spawn_blocking({
        let pipe = pipe.clone();
        move || std::fs::write(pipe, "go")
    });
    tokio::time::timeout(PATIENCE, writer).await.unwrap().unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "run\n", "the second request started nothing");
    tester.stop();
}

#[tokio::test]
async fn refuses_what_it_cannot_do() {
    let options = LoadTestOptions { namespaces: Some("^test$".parse().unwrap()), ..LoadTestOptions::default() };
    let tester = LoadTester::new(options);
    let (status, body) = post(&tester, "/", webhook(json!({"type": "helm", "cmd": "test"}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("\"helm\"") && body.contains("cmd or bash"), "{body}");
    assert_eq!(post(&tester, "/", webhook(json!({}))).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(post(&tester, "/", json!("no object")).await.0, StatusCode::BAD_REQUEST);
    let other = json!({"name": "a", "namespace": "other", "metadata": {"cmd": "true"}});
    assert_eq!(post(&tester, "/", other).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn gates_open_and_close() {
    let tester = LoadTester::new(LoadTestOptions::default());
    let canary = json!({"name": "podinfo", "namespace": "test"});
    for (family, other) in [("gate", "rollback"), ("rollback", "gate")] {
        let status = async |path: String| post(&tester, &path, canary.clone()).await.0;
        assert_eq!(status(format!("/{family}/check")).await, StatusCode::FORBIDDEN);
        assert_eq!(status(format!("/{family}/open")).await, StatusCode::ACCEPTED);
        assert_eq!(status(format!("/{family}/check")).await, StatusCode::OK);
        assert_eq!(status(format!("/{other}/check")).await, StatusCode::FORBIDDEN, "gates are apart");
        assert_eq!(status(format!("/{family}/close")).await, StatusCode::ACCEPTED);
        assert_eq!(status(format!("/{family}/check")).await, StatusCode::FORBIDDEN);
    }
    let nobody = json!({"name": "podinfo"});
    assert_eq!(post(&tester, "/gate/open", nobody).await.0, StatusCode::BAD_REQUEST, "whose gate?");
    assert_eq!(post(&tester, "/gate/approve", canary.clone()).await.0, StatusCode::OK);
    assert_eq!(post(&tester, "/gate/halt", canary).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn hey_lines_run_in_the_built_in_generator() {
    setup();
    let (url, count) = target().await;
    let tester = LoadTester::new(LoadTestOptions::default());
    let line = format!("hey -n 25 -c 4 -m POST -d x {url}");
    let request = webhook(json!({"type": "bash", "cmd": line, "returnCmdOutput": "true"}));
    let (status, body) = post(&tester, "/", request).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(count.load(Ordering::SeqCst), 24, "6 for each of 4 workers");
    assert!(body.contains("[200]\t24 responses") && body.contains("Requests/sec:"), "{body}");
}

#[tokio::test]
async fn a_hey_line_that_can_never_run_is_refused_at_once() {
    let tester = LoadTester::new(LoadTestOptions::default());
    let (status, body) =
        post(&tester, "/", webhook(json!({"cmd": "hey -z 1m -h2 https://podinfo.example.com/"}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("it speaks HTTP/1.1 only"), "{body}");
}

#[tokio::test]
async fn under_the_name_of_hey_the_binary_is_hey() {
    use std::os::unix::process::CommandExt as _;

    let (url, count) = target().await;
    let mut command = std::process::Command::new(SERIN);
    command.arg0("/usr/local/bin/hey").args(["-n", "6", "-c", "2", &url]).env_remove("http_proxy");
    let out = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(count.load(Ordering::SeqCst), 6);
    assert!(String::from_utf8_lossy(&out.stdout).contains("[200]\t6 responses"));
}

#[tokio::test]
async fn hey_durations_are_divided_by_the_speed() {
    setup();
    let (url, count) = target().await;
    let speed = NonZeroU32::new(120).unwrap();
    let tester = LoadTester::new(LoadTestOptions { speed, ..LoadTestOptions::default() });
    let line = format!("hey -z 1m -q 20 -c 2 {url}");
    let started = std::time::Instant::now();
    let request = webhook(json!({"type": "bash", "cmd": line, "returnCmdOutput": "true"}));
    let (_, body) = post(&tester, "/", request).await;
    assert!(started.elapsed() >= Duration::from_millis(500), "a minute at 120 times the speed");
    let sent = count.load(Ordering::SeqCst);
    assert!((1..=20).contains(&sent), "2 workers of 20 a second for half a second sent {sent}: {body}");
}

#[tokio::test]
async fn hey_reports_errors_as_part_of_the_summary() {
    setup();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let tester = LoadTester::new(LoadTestOptions::default());
    let line = format!("hey -n 2 -c 1 http://{gone}/");
    let request = webhook(json!({"type": "bash", "cmd": line, "returnCmdOutput": "true"}));
    let (status, body) = post(&tester, "/", request).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("Error distribution:\n  [2]"), "{body}");
}
