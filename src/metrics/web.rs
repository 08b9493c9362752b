//! Any address whose answer is the measurement: JSON, of which a path is taken, or text.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use jsonpath_rust::JsonPath as _;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::Value;

use crate::analysis::Reading;
use crate::http::{HttpClients, chain};

use super::prometheus::read_bounded;
use super::sample::Sampled;

/// A request.
#[derive(Clone, PartialEq, Eq)]
pub struct WebRequest {
    /// How.
    pub method: WebMethod,
    /// Where.
    pub url: String,
    /// Further request headers.
    pub headers: Vec<(String, String)>,
    /// User and password.
    pub basic_auth: Option<(String, String)>,
    /// What is sent.
    pub body: Option<String>,
    /// Whether that is JSON.
    pub is_json: bool,
    /// Which part of the answer, as kubectl writes paths: `{$.data.ok}`; all of it without.
    pub json_path: Option<String>,
    /// Skip certificate verification.
    pub insecure: bool,
    /// Longest wait for the answer.
    pub timeout: Duration,
}

impl std::fmt::Debug for WebRequest {
    /// URL, headers and body may carry secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { method, json_path, insecure, timeout, .. } = self;
        f.debug_struct("WebRequest")
            .field("method", method)
            .field("json_path", json_path)
            .field("insecure", insecure)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}

/// How a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebMethod {
    /// GET.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
}

pub(super) async fn sample(clients: &HttpClients, asked: &WebRequest) -> Result<Sampled, String> {
    let response = request(clients, asked)?.send().await.map_err(chain)?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("received non 2xx response code: {}", status.as_u16()));
    }
    let body = read_bounded(response).await?;
    taken(&body, asked.json_path.as_deref())
}

fn request(clients: &HttpClients, asked: &WebRequest) -> Result<reqwest::RequestBuilder, String> {
    let WebRequest { method, url, headers, basic_auth, body, is_json, json_path: _, insecure, timeout } = asked;
    let address = clients.address(url).map_err(|error| error.to_string())?;
    let client = clients.client(*insecure);
    let url = address.url().clone();
    let mut request = match method {
        WebMethod::Get => client.get(url),
        WebMethod::Post => client.post(url),
        WebMethod::Put => client.put(url),
    };
    for (name, value) in headers {
        let name: HeaderName = name.parse().map_err(|_| format!("header name `{name}` is not valid"))?;
        let value =
            HeaderValue::from_str(value).map_err(|_| format!("the value of header `{name}` is not valid"))?;
        request = request.header(name, value);
    }
    if let Some((user, password)) = basic_auth {
        request = request.basic_auth(user, Some(password));
    }
    if *is_json {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    if let Some(body) = body {
        request = request.body(body.clone());
    }
    Ok(request.timeout(*timeout))
}

/// What an answer says: the first value at the path; what is no JSON is a text.
fn taken(body: &[u8], path: Option<&str>) -> Result<Sampled, String> {
    let text = String::from_utf8_lossy(body);
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        let reading = Reading::Json { value: Value::String(text.clone().into_owned()) };
        return Ok(Sampled { reading, value: Some(text.into_owned()), warnings: Vec::new(), note: None });
    };
    let found = at(&answer, path.unwrap_or_default())?;
    let value = found.to_string();
    // A list of numbers is one; anything else stays as it is.
    Ok(Sampled { reading: Reading::Json { value: found }, value: Some(value), warnings: Vec::new(), note: None })
}

fn at(answer: &Value, path: &str) -> Result<Value, String> {
    let wanted = plain(path)?;
    if wanted == "$" {
        return Ok(answer.clone());
    }
    let unread = |why: String| format!("Could not find JSONPath in body: {path}: {why}");
    let found =
        catch_unwind(AssertUnwindSafe(|| answer.query(&wanted).map(|found| found.first().copied().cloned())));
    match found {
        Ok(Ok(Some(found))) => Ok(found),
        Ok(Ok(None)) => Err(format!("result of web metric produced no value: nothing is at {path}")),
        Ok(Err(error)) => Err(unread(error.to_string())),
        Err(_) => Err(unread("it is no path".to_owned())),
    }
}

/// A path as kubectl writes it, as the standard does: without braces, from the root.
fn plain(path: &str) -> Result<String, String> {
    let path = path.trim();
    let inner = match path.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(|| format!("jsonPath {path}: `}}` is missing"))?.trim(),
        None => path,
    };
    if inner.contains(['{', '}']) {
        return Err(format!("jsonPath {path}: one path is taken, not several"));
    }
    Ok(match inner.chars().next() {
        None => "$".to_owned(),
        Some('$') => inner.to_owned(),
        Some('.' | '[') => format!("${inner}"),
        Some(_) => format!("$.{inner}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wiremock::matchers::{body_json, header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    fn read(body: &str, path: &str) -> Result<Option<String>, String> {
        taken(body.as_bytes(), Some(path)).map(|sampled| sampled.value)
    }

    #[test]
    fn paths_as_kubectl_writes_them() {
        let body = r#"{"data":{"ok":true,"rate":0.5,"a-b":[1,2]},"items":[{"n":1},{"n":2}]}"#;
        for (path, value) in [
            ("{$.data.ok}", "true"),
            ("{.data.rate}", "0.5"),
            ("$.data.rate", "0.5"),
            ("data.rate", "0.5"),
            ("{$.data['a-b']}", "[1,2]"),
            ("{$.items[1].n}", "2"),
            ("{$.items[*].n}", "1"),
        ] {
            assert_eq!(read(body, path), Ok(Some(value.to_owned())), "{path}");
        }
        assert_eq!(read("[1]", ""), Ok(Some("[1]".to_owned())));
        assert_eq!(read("fine", "{$.x}"), Ok(Some("fine".to_owned())));
        for path in ["{$.missing}", "{$.data", "{$.a}{$.b}", "{$..[}"] {
            assert!(read(body, path).is_err(), "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_sent_and_what_is_no_success() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .and(path("/check"))
            .and(header("x-team", "a"))
            .and(header("content-type", "application/json"))
            .and(body_json(json!({"version": "v2"})))
            .respond_with(ResponseTemplate::new(201).set_body_json(json!({"ok": true})))
            .mount(&server)
            .await;
        let asked = WebRequest {
            method: WebMethod::Post,
            url: format!("{}/check", server.uri()),
            headers: vec![("X-Team".to_owned(), "a".to_owned())],
            basic_auth: None,
            body: Some(r#"{"version":"v2"}"#.to_owned()),
            is_json: true,
            json_path: Some("{$.ok}".to_owned()),
            insecure: false,
            timeout: Duration::from_secs(5),
        };
        let clients = HttpClients::new(None).unwrap();
        let sampled = sample(&clients, &asked).await.unwrap();
        assert_eq!(sampled.reading, Reading::Json { value: json!(true) });
        let other = WebRequest { method: WebMethod::Put, ..asked };
        assert_eq!(sample(&clients, &other).await, Err("received non 2xx response code: 404".to_owned()));
        assert!(!format!("{other:?}").contains("check"));
    }
}
