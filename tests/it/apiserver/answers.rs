//! A table of requests with the answers of a real API server (kube-apiserver 1.36): `answers.jsonl`, one request a line, asked one
//! after the other. Whether a request is taken, and with which code and reason it is refused, is the same here but for [`OTHER_CODE`];
//! the words and fields are the same but for [`OTHER_WORDS`]. What is listed there and does not differ any more fails, too.
//!
//! With `SERIN_ANSWERS_KUBECONFIG` a real server is asked instead, in a namespace `answers` that must not be there yet.

use std::collections::BTreeSet;

use kube::client::Body;
use kube::{Client, Config};
use pretty_assertions::assert_eq;
use serde::Deserialize;
use serde_json::Value;
use serin::sandbox::apiserver::ApiServer;

/// Requests that are refused in other words: the words name Go's types, or the place in a parser.
const OTHER_WORDS: &[&str] = &[
    "an object of another kind",
    "an object of another group",
    "a body that is no JSON",
    "an owner without a uid",
    "a field selector that is not served",
    "a limit that is no number",
    "a continue token that is none",
    "a put with another uid",
    "a merge patch that is no object",
    "a patch of an unknown type",
    "an apply of a field that is unknown",
    "a Deployment without a selector",
    "replicas as text",
    "an unknown strategy",
    "a probe with two handlers",
    "a mount without a volume",
    "a strategic patch without a name",
    "a Service with a port twice",
    "another cluster address",
    "an autoscaler without a maximum",
    "a Secret that is no base64",
    "a Job that restarts for ever",
    "another command of it",
    "a deletion with another uid",
    "a deletion of an old version",
];
/// Requests that are refused with another code: what is of a wrong type is told where it is read, and what is no quantity by its
/// field.
const OTHER_CODE: &[&str] = &["a merge patch of a wrong type", "a quantity that is none"];

#[derive(Deserialize)]
struct Line {
    name: String,
    method: String,
    path: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    body: Option<Value>,
    answer: Answer,
}

#[derive(Deserialize, Debug, PartialEq, Eq)]
struct Answer {
    code: u16,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

async fn server() -> Client {
    let Some(path) = std::env::var_os("SERIN_ANSWERS_KUBECONFIG") else { return ApiServer::new().client() };
    // Another test of the process may have installed it already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let config = kube::config::Kubeconfig::read_from(path).unwrap();
    Client::try_from(Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap()).unwrap()
}

async fn ask(client: &Client, line: &Line) -> Answer {
    let request =
        http::Request::builder().method(line.method.as_str()).uri(&line.path).header("accept", "application/json");
    let request = line.kind.iter().fold(request, |request, kind| request.header("content-type", kind));
    let body = match &line.body {
        None => Vec::new(),
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(body) => body.to_string().into_bytes(),
    };
    let response = client.send(request.body(Body::from(body)).unwrap()).await.unwrap();
    let code = response.status().as_u16();
    let told = |value: &http::HeaderValue| value.to_str().ok()?.split('"').nth(1).map(str::to_owned);
    let warnings = response.headers().get_all("warning").iter().filter_map(told).collect();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    if code < 300 {
        return Answer { code, reason: String::new(), message: String::new(), fields: Vec::new(), warnings };
    }
    let status: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let said = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let message = if status.is_null() { text } else { said(&status["message"]) };
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    let fields = causes.map(|cause| said(&cause["field"])).collect();
    Answer { code, reason: said(&status["reason"]), message: without_chance(&message), fields, warnings }
}

/// Uids and versions are a server's own.
fn without_chance(message: &str) -> String {
    let mut words: Vec<String> = message.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        let inner = word.trim_matches(|it: char| !it.is_ascii_alphanumeric()).to_owned();
        let is_uid = inner.len() == 36 && inner.matches('-').count() == 4;
        if is_uid {
            *word = word.replace(&inner, "<uid>");
        }
    }
    let message = words.join(" ");
    match message.split_once("in record (") {
        Some((head, rest)) if rest.starts_with(|it: char| it.is_ascii_digit()) => {
            let rest = rest.trim_start_matches(|it: char| it.is_ascii_digit());
            format!("{head}in record (<version>{rest}")
        }
        Some(_) | None => message,
    }
}

#[tokio::test]
async fn requests_are_answered_as_by_a_real_server() {
    let client = server().await;
    let lines: Vec<Line> =
        include_str!("answers.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let known: BTreeSet<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    assert!(OTHER_WORDS.iter().chain(OTHER_CODE).all(|name| known.contains(name)), "a name that is in no line");
    assert!(known.len() == lines.len() && lines.len() > 100, "each line has a name of its own");
    let mut wrong = Vec::new();
    for line in &lines {
        let answer = ask(&client, line).await;
        let outcome = |answer: &Answer| (answer.code, answer.reason.clone());
        let name = line.name.as_str();
        let is_as_told = if OTHER_CODE.contains(&name) {
            // Whatever the code, what a real server refuses is refused.
            answer.code >= 400 && line.answer.code >= 400
        } else {
            outcome(&answer) == outcome(&line.answer)
        };
        let differs = OTHER_WORDS.contains(&name) || OTHER_CODE.contains(&name);
        if !is_as_told || differs == (answer == line.answer) {
            wrong.push(format!("{}:\n  real {:?}\n  here {answer:?}", line.name, line.answer));
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "{} of {}", wrong.len(), lines.len());
}
