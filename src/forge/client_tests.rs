//! Each forge's documented contract, and what it says when something is wrong.

use serde_json::json;
use wiremock::matchers::{body_partial_json, header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::forge::CommitState;
use crate::forge::settings::Kind;
use crate::http::SecretSource;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
const CONTEXT: &str = "serin/prod/test/podinfo";
const TOKEN: &str = "PLANTED-TOKEN";

struct World {
    server: MockServer,
    client: Client,
    folder: tempfile::TempDir,
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::GitHub | Kind::Gitea | Kind::Bitbucket => "acme/shop",
        Kind::GitLab => "acme/web/shop",
        Kind::BitbucketServer => "ACME/shop",
        Kind::Azure => "acme/web/shop",
    }
}

async fn world(kind: Kind) -> World {
    rustls::crypto::ring::default_provider().install_default().ok();
    let server = MockServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let place = Place::of(Some(kind), Some(&server.uri()), Some(name(kind)), "/srv/x.git").unwrap();
    let access = Access::Token(SecretSource::File(token));
    let settings = ForgeSettings { place, access, ca_file: None, target_url: None };
    let client = Client::new(settings, HttpClients::new(None).unwrap(), Arc::new(|| Timestamp::UNIX_EPOCH));
    World { server, client, folder }
}

fn status(state: CommitState, description: &str) -> CommitStatus {
    CommitStatus {
        commit: SHA.parse().unwrap(),
        context: CONTEXT.to_owned(),
        state,
        description: description.to_owned(),
        target_url: Some("https://serin.example.com/".to_owned()),
        branch: "main".to_owned(),
    }
}

/// Where a status is posted, and what for each state.
fn contract(kind: Kind) -> (String, [&'static str; 6]) {
    let pending = ["pending", "pending", "success", "failure", "error", "error"];
    match kind {
        Kind::GitHub => (format!("/api/v3/repos/acme/shop/statuses/{SHA}"), pending),
        Kind::Gitea => (format!("/api/v1/repos/acme/shop/statuses/{SHA}"), pending),
        Kind::GitLab => (
            format!("/api/v4/projects/acme%2Fweb%2Fshop/statuses/{SHA}"),
            ["pending", "running", "success", "failed", "failed", "canceled"],
        ),
        Kind::Bitbucket => (
            format!("/2.0/repositories/acme/shop/commit/{SHA}/statuses/build"),
            ["INPROGRESS", "INPROGRESS", "SUCCESSFUL", "FAILED", "FAILED", "STOPPED"],
        ),
        Kind::BitbucketServer => (
            format!("/rest/api/latest/projects/ACME/repos/shop/commits/{SHA}/builds"),
            ["INPROGRESS", "INPROGRESS", "SUCCESSFUL", "FAILED", "FAILED", "CANCELLED"],
        ),
        Kind::Azure => (
            format!("/acme/web/_apis/git/repositories/shop/commits/{SHA}/statuses"),
            ["pending", "pending", "succeeded", "failed", "error", "notApplicable"],
        ),
    }
}

const STATES: [CommitState; 6] = [
    CommitState::Pending,
    CommitState::Running,
    CommitState::Success,
    CommitState::Failure,
    CommitState::Error,
    CommitState::Cancelled,
];

#[tokio::test]
async fn every_forge_gets_its_own_words_at_its_own_place() {
    for kind in Kind::ALL {
        let World { server, client, folder: _folder } = world(kind).await;
        let (place, words) = contract(kind);
        Mock::given(method("POST")).respond_with(ResponseTemplate::new(201)).mount(&server).await;
        for state in STATES {
            client.post_status(&status(state, &"é ".repeat(200))).await.unwrap();
        }
        let requests = server.received_requests().await.unwrap();
        assert_eq!(requests.len(), STATES.len());
        for (request, word) in requests.iter().zip(words) {
            assert_eq!(request.url.path(), place, "{kind:?}");
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(body["state"], word, "{kind:?}");
            let description = body["description"].as_str().unwrap();
            assert_eq!(description.chars().count(), 140, "{kind:?}");
            let sent = request.headers.iter().find(|(_, value)| {
                let text = value.to_str().unwrap_or_default();
                text.contains(TOKEN) || text.starts_with("Basic ")
            });
            let (header, _) = sent.expect("it says who we are");
            let wanted = if kind == Kind::GitLab { "private-token" } else { "authorization" };
            assert_eq!(header.as_str(), wanted);
        }
        let body: Value = serde_json::from_slice(&requests[0].body).unwrap();
        match kind {
            Kind::GitHub | Kind::Gitea => assert_eq!(body["context"], CONTEXT),
            Kind::GitLab => assert_eq!((&body["name"], &body["ref"]), (&json!(CONTEXT), &json!("main"))),
            Kind::Bitbucket => assert!(body["key"].as_str().unwrap().len() <= 40 && body["url"].is_string()),
            Kind::BitbucketServer => assert_eq!(body["ref"], "refs/heads/main"),
            Kind::Azure => {
                assert_eq!(body["context"], json!({"genre": "serin/prod", "name": "test/podinfo"}));
                assert_eq!(requests[0].url.query(), Some("api-version=7.1"));
            }
        }
    }
}

#[tokio::test]
async fn a_long_key_is_shortened_and_stays_itself() {
    let World { server, client, folder: _folder } = world(Kind::Bitbucket).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(201)).mount(&server).await;
    let long = format!("serin/prod/test/{}", "podinfo".repeat(9));
    for context in [format!("{long}-a"), format!("{long}-b"), format!("{long}-a")] {
        let status = CommitStatus { context, target_url: None, ..status(CommitState::Success, "x") };
        client.post_status(&status).await.unwrap();
    }
    let bodies = server.received_requests().await.unwrap();
    let bodies: Vec<Value> = bodies.iter().map(|it| serde_json::from_slice(&it.body).unwrap()).collect();
    let key = |at: usize| bodies[at]["key"].as_str().unwrap().to_owned();
    assert!(key(0).len() <= 40 && key(0) != key(1) && key(0) == key(2));
    assert!(bodies[0]["url"].as_str().unwrap().ends_with(&format!("/acme/shop/commits/{SHA}")), "one is required");
}

#[tokio::test]
async fn what_is_there_is_found_again() {
    let answers = [
        (
            Kind::GitHub,
            json!([
                {"context": "other", "state": "failure", "description": "no"},
                {"context": CONTEXT, "state": "pending", "description": "newer"},
                {"context": CONTEXT, "state": "error", "description": "older"},
            ]),
        ),
        (
            Kind::GitLab,
            json!([
                {"id": 1, "name": CONTEXT, "status": "running", "description": "older"},
                {"id": 2, "name": CONTEXT, "status": "pending", "description": "newer"},
            ]),
        ),
        (
            Kind::Gitea,
            json!([
                {"id": 4, "context": CONTEXT, "status": "pending", "description": "newer"},
                {"id": 3, "context": CONTEXT, "status": "error", "description": "older"},
            ]),
        ),
        (Kind::Bitbucket, json!({"state": "INPROGRESS", "description": "newer"})),
        (Kind::BitbucketServer, json!({"state": "INPROGRESS", "description": "newer"})),
        (
            Kind::Azure,
            json!({"value": [
                {"id": 1, "state": "failed", "description": "no", "context": {"genre": "ci", "name": "test/podinfo"}},
                {"id": 2, "state": "pending", "description": "newer", "context": {"genre": "serin/prod", "name": "test/podinfo"}},
            ]}),
        ),
    ];
    for (kind, answer) in answers {
        let World { server, client, folder: _folder } = world(kind).await;
        Mock::given(method("GET"))
            .respond_with(ResponseTemplate::new(200).set_body_json(answer))
            .mount(&server)
            .await;
        let posted = client.posted(&SHA.parse().unwrap(), CONTEXT).await.unwrap().unwrap();
        assert_eq!(posted.description, "newer", "{kind:?}");
        assert!(client.is_same(&posted, &status(CommitState::Pending, "newer")), "{kind:?}");
        assert!(!client.is_same(&posted, &status(CommitState::Success, "newer")), "{kind:?}");
        server.reset().await;
        Mock::given(method("GET")).respond_with(ResponseTemplate::new(404)).mount(&server).await;
        assert_eq!(client.posted(&SHA.parse().unwrap(), CONTEXT).await.unwrap(), None);
    }
}

#[tokio::test]
async fn gitlab_saying_that_it_is_so_already_is_no_error() {
    let World { server, client, folder: _folder } = world(Kind::GitLab).await;
    let said = json!({"message": {"state": ["Cannot transition status via :run from :running"]}});
    let answer = ResponseTemplate::new(400).set_body_json(said);
    Mock::given(method("POST")).respond_with(answer).mount(&server).await;
    client.post_status(&status(CommitState::Running, "x")).await.unwrap();
    server.reset().await;
    let answer = ResponseTemplate::new(400).set_body_json(json!({"message": "name is too long"}));
    Mock::given(method("POST")).respond_with(answer).mount(&server).await;
    let error = client.post_status(&status(CommitState::Running, "x")).await.unwrap_err();
    assert!(matches!(error, ForgeError::Refused { .. }) && error.to_string().contains("too long"), "{error}");
}

#[tokio::test]
async fn errors_say_what_to_do_and_no_secret() {
    let cases: [(u16, &str, &str); 7] = [
        (401, r#"{"message":"Bad credentials"}"#, "wrong or expired"),
        (403, r#"{"message":"Resource not accessible"}"#, "may not do this"),
        (404, r#"{"message":"Not Found"}"#, "forge.repository"),
        (404, r#"{"message":"404 Commit Not Found"}"#, "refuses it"),
        (422, r#"{"message":"No commit found for SHA"}"#, "refuses it"),
        (503, "<html>", "cannot be reached"),
        (302, "", "credentials go nowhere else"),
    ];
    for (code, body, said) in cases {
        let World { server, client, folder: _folder } = world(Kind::GitHub).await;
        let answer =
            ResponseTemplate::new(code).set_body_string(body).insert_header("location", "https://evil.example/");
        Mock::given(method("POST")).respond_with(answer).mount(&server).await;
        let error = client.post_status(&status(CommitState::Success, "x")).await.unwrap_err();
        assert!(error.to_string().contains(said), "{code}: {error}");
        assert!(!format!("{error} {error:?} {client:?}").contains("PLANTED"), "{error:?}");
    }
    let World { server, client, folder } = world(Kind::GitHub).await;
    std::fs::remove_file(folder.path().join("token")).unwrap();
    let error = client.post_status(&status(CommitState::Success, "x")).await.unwrap_err();
    assert!(matches!(error, ForgeError::Denied { .. }) && error.to_string().contains("tokenFile"), "{error}");
    assert!(server.received_requests().await.unwrap().is_empty(), "nothing is sent without it");
}

#[tokio::test]
async fn a_wait_that_is_asked_for_is_kept() {
    let date = "Fri, 15 Jan 2027 08:00:00 GMT";
    let at = jiff::fmt::rfc2822::parse(date).unwrap().timestamp().as_second();
    let plain = ResponseTemplate::new;
    let cases = [
        (plain(429).insert_header("retry-after", "7"), 7),
        (plain(429), 60),
        (plain(429).insert_header("retry-after", "999999"), 3600),
        (plain(503).insert_header("retry-after", "30"), 30),
        (plain(403).insert_header("retry-after", "11"), 11),
        (plain(403).set_body_string("You have exceeded a secondary rate limit"), 60),
        (
            plain(403)
                .insert_header("x-ratelimit-remaining", "0")
                .insert_header("x-ratelimit-reset", (at + 90).to_string().as_str())
                .insert_header("date", date),
            90,
        ),
    ];
    for (answer, seconds) in cases {
        let World { server, client, folder: _folder } = world(Kind::GitHub).await;
        Mock::given(method("POST")).respond_with(answer).mount(&server).await;
        let limited = client.post_status(&status(CommitState::Success, "x")).await.unwrap_err();
        let wait = Duration::from_secs(seconds);
        assert_eq!(limited, ForgeError::Limited { forge: "GitHub", wait });
        let again = client.post_status(&status(CommitState::Success, "x")).await.unwrap_err();
        assert!(matches!(again, ForgeError::Limited { wait: left, .. } if left <= wait));
        assert_eq!(server.received_requests().await.unwrap().len(), 1, "nothing was asked meanwhile");
    }
}

#[tokio::test]
async fn a_small_rest_of_the_allowance_is_known() {
    let World { server, client, folder: _folder } = world(Kind::GitHub).await;
    for (left, scarce) in [("499", true), ("501", false)] {
        server.reset().await;
        let answer = ResponseTemplate::new(201)
            .insert_header("x-ratelimit-remaining", left)
            .insert_header("x-ratelimit-limit", "5000");
        Mock::given(method("POST")).respond_with(answer).mount(&server).await;
        client.post_status(&status(CommitState::Success, "x")).await.unwrap();
        assert_eq!(client.is_scarce(), scarce);
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read() {
    let World { server, client, folder: _folder } = world(Kind::GitHub).await;
    let answer = ResponseTemplate::new(200).set_body_string("x".repeat(ANSWER_MAX + 1));
    Mock::given(method("GET")).respond_with(answer).mount(&server).await;
    let error = client.posted(&SHA.parse().unwrap(), CONTEXT).await.unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
}

#[tokio::test]
async fn pull_requests_are_opened_found_and_closed_everywhere() {
    let branch = "serin/rollback/prod/test/podinfo/abcd1234";
    for kind in Kind::ALL {
        let World { server, client, folder: _folder } = world(kind).await;
        let one = match kind {
            Kind::GitHub => {
                json!({"number": 7, "html_url": "https://u", "state": "open", "head": {"ref": branch}})
            }
            Kind::Gitea => {
                json!({"number": 7, "html_url": "https://u", "state": "open", "head": {"ref": branch, "repo": {"full_name": "acme/shop"}}})
            }
            Kind::GitLab => json!({"iid": 7, "web_url": "https://u", "state": "opened", "source_branch": branch}),
            Kind::Bitbucket => {
                json!({"id": 7, "state": "OPEN", "links": {"html": {"href": "https://u"}}, "source": {"branch": {"name": branch}}})
            }
            Kind::BitbucketServer => json!({
                "id": 7, "version": 3, "state": "OPEN", "links": {"self": [{"href": "https://u"}]}, "fromRef": {"displayId": branch},
            }),
            Kind::Azure => {
                json!({"pullRequestId": 7, "status": "active", "sourceRefName": format!("refs/heads/{branch}")})
            }
        };
        let list = match kind {
            Kind::Bitbucket | Kind::BitbucketServer => json!({"values": [one]}),
            Kind::Azure => json!({"value": [one]}),
            Kind::GitHub | Kind::Gitea | Kind::GitLab => json!([one]),
        };
        Mock::given(method("GET"))
            .respond_with(ResponseTemplate::new(200).set_body_json(&list))
            .mount(&server)
            .await;
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(201).set_body_json(&one))
            .mount(&server)
            .await;
        for verb in ["PATCH", "PUT"] {
            Mock::given(method(verb)).respond_with(ResponseTemplate::new(200)).mount(&server).await;
        }
        let pull = PullRequest {
            branch: branch.into(),
            base: "main".into(),
            title: "t".repeat(300),
            body: "b".repeat(9_000),
        };
        let opened = client.open_pull(&pull).await.unwrap();
        assert!(opened.is_open, "{kind:?}");
        assert_eq!((opened.number, client.find_pull(branch, "main").await.unwrap()), (7, Some(opened.clone())));
        assert_eq!(client.find_pull("another", "main").await.unwrap(), None, "{kind:?}");
        client.close_pull(&opened).await.unwrap();
        let requests = server.received_requests().await.unwrap();
        let body: Value = serde_json::from_slice(&requests[0].body).unwrap();
        assert!(body["title"].as_str().unwrap().chars().count() <= 250);
        let text = body.get("body").or_else(|| body.get("description")).unwrap();
        assert!(text.as_str().unwrap().chars().count() <= 4_000);
        let closing = requests.last().unwrap();
        assert!(closing.url.path().contains("/7"), "{kind:?}: {}", closing.url);
    }
}

#[tokio::test]
async fn pages_end() {
    let World { server, client, folder: _folder } = world(Kind::Gitea).await;
    let other = json!({"number": 1, "html_url": "u", "head": {"ref": "x", "repo": {"full_name": "acme/shop"}}});
    let full = ResponseTemplate::new(200).set_body_json(vec![other; 50]);
    Mock::given(query_param("limit", "50")).respond_with(full).mount(&server).await;
    assert_eq!(client.find_pull("mine", "main").await.unwrap(), None);
    assert_eq!(server.received_requests().await.unwrap().len(), PAGES_MAX);
}

#[tokio::test]
async fn names_lead_nowhere_else_and_github_gets_its_version() {
    let World { server, client, folder: _folder } = world(Kind::GitHub).await;
    Mock::given(path(format!("/api/v3/repos/acme/shop/statuses/{SHA}")))
        .and(header("x-github-api-version", "2022-11-28"))
        .and(header("accept", "application/vnd.github+json"))
        .and(header("authorization", format!("Bearer {TOKEN}").as_str()))
        .and(body_partial_json(json!({"context": CONTEXT, "target_url": "https://serin.example.com/"})))
        .respond_with(ResponseTemplate::new(201))
        .expect(1)
        .mount(&server)
        .await;
    client.post_status(&status(CommitState::Success, "x")).await.unwrap();
    let url = client.target_url("serin/status/prod", "test/podinfo.yaml").unwrap();
    assert!(url.ends_with("/acme/shop/blob/serin/status/prod/test/podinfo.yaml"), "{url}");
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
async fn an_app_makes_its_tokens_and_another_when_one_is_refused() {
    let World { server, client: other, folder } = world(Kind::GitHub).await;
    let made = std::process::Command::new("openssl").args(["genrsa", "2048"]).output();
    let Ok(made) = made else { return eprintln!("SKIPPED: openssl is not on the PATH") };
    std::fs::write(folder.path().join("key"), made.stdout).unwrap();
    let access = Access::App { id: "12".into(), key: SecretSource::File(folder.path().join("key")) };
    let settings = ForgeSettings { place: other.place.clone(), access, ca_file: None, target_url: None };
    let client = Client::new(settings, HttpClients::new(None).unwrap(), Arc::new(|| Timestamp::UNIX_EPOCH));
    let found = ResponseTemplate::new(200).set_body_json(json!({"id": 99}));
    Mock::given(method("GET"))
        .and(path("/api/v3/repos/acme/shop/installation"))
        .respond_with(found)
        .mount(&server)
        .await;
    for token in ["PLANTED-1", "PLANTED-2"] {
        Mock::given(path("/api/v3/app/installations/99/access_tokens"))
            .respond_with(ResponseTemplate::new(201).set_body_json(json!({"token": token})))
            .up_to_n_times(1)
            .mount(&server)
            .await;
    }
    let statuses = || path(format!("/api/v3/repos/acme/shop/statuses/{SHA}"));
    Mock::given(statuses())
        .and(header("authorization", "Bearer PLANTED-2"))
        .respond_with(ResponseTemplate::new(201))
        .mount(&server)
        .await;
    Mock::given(statuses()).respond_with(ResponseTemplate::new(401)).mount(&server).await;
    let error = client.post_status(&status(CommitState::Success, "x")).await.unwrap_err();
    assert!(matches!(error, ForgeError::Denied { .. }) && !format!("{error:?} {client:?}").contains("PLANTED"));
    client.post_status(&status(CommitState::Success, "x")).await.unwrap();
    client.post_status(&status(CommitState::Success, "y")).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let made = requests.iter().filter(|it| it.url.path().ends_with("access_tokens")).count();
    assert_eq!((requests.len(), made), (7, 2), "a token is used again");
}
