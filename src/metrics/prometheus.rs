//! Prometheus and everything that speaks its `/api/v1/query`.

mod raw;

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use reqwest::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use crate::analysis::Reading;
use crate::http::{HttpClients, chain};

use super::sample::{Moments, Sampled};
use super::{Credentials, Endpoint, empty};

/// The provider type.
pub const PROMETHEUS: &str = "prometheus";
/// Longest wait for one answer (Flagger's value): a check that takes longer is an error of the provider.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longer queries go in a POST body; proxies commonly limit a request line to 4 to 8 KiB.
const GET_QUERY_MAX: usize = 2048;
/// Largest answer read, in bytes: one number needs a few hundred, an accidental selector of everything is cut off.
const BODY_MAX: usize = 1024 * 1024;
/// Bytes of an error body quoted in messages.
const QUOTE_MAX: usize = 200;

/// The provider type `prometheus`.
#[derive(Debug, Clone)]
pub struct Prometheus {
    clients: HttpClients,
}

/// Prometheus' word for a query that cannot be read: the query is at fault, whoever asks.
const BAD_DATA: &str = "bad_data";

impl Prometheus {
    /// A provider that asks through `clients`.
    pub fn new(clients: HttpClients) -> Self {
        Self { clients }
    }

    async fn ask(&self, endpoint: &Endpoint, query: &str) -> Result<Reading, String> {
        if let Some(reason) = super::unsupported(&endpoint.kind) {
            return Ok(Reading::Misconfigured { reason });
        }
        match self.request(endpoint, &[("query", query)], None) {
            Ok(request) => fetch(request.timeout(TIMEOUT)).await.map(Envelope::reading),
            Err(reason) => Ok(Reading::Misconfigured { reason }),
        }
    }

    /// All numbers of the answer, at one moment or at several.
    pub(super) async fn sample(
        &self,
        endpoint: &Endpoint,
        query: &str,
        moments: Option<Moments>,
        timeout: Duration,
    ) -> Result<Sampled, String> {
        let mut pairs = vec![("query", query.to_owned())];
        if let Some(Moments { start, end, step }) = moments {
            pairs.push(("start", start.to_string()));
            pairs.push(("end", end.to_string()));
            pairs.push(("step", step.as_secs_f64().to_string()));
        }
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = self.request(endpoint, &pairs, moments)?;
        fetch(request.timeout(timeout)).await?.sampled()
    }

    /// Why a query selects nothing, as far as its series tell.
    pub(super) async fn why_empty(&self, endpoint: &Endpoint, query: &str) -> Option<String> {
        let are_there = |counted: String| -> BoxFuture<'_, Option<bool>> {
            Box::pin(async move {
                let answered = self.sample(endpoint, &counted, None, TIMEOUT).await;
                answered.ok().map(|sampled| !sampled.is_empty())
            })
        };
        tokio::time::timeout(empty::PATIENCE, empty::why(query, &are_there)).await.ok().flatten()
    }

    /// The request; why the endpoint allows none, in words.
    fn request(
        &self,
        endpoint: &Endpoint,
        pairs: &[(&str, &str)],
        moments: Option<Moments>,
    ) -> Result<reqwest::RequestBuilder, String> {
        let address = self.clients.address(&endpoint.address).map_err(|error| error.to_string())?;
        let mut url = address.url().clone();
        let what = if moments.is_some() { "query_range" } else { "query" };
        let path = format!("{}/api/v1/{what}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let client = self.clients.client(endpoint.insecure);
        let mut request = if pairs.iter().map(|(_, value)| value.len()).sum::<usize>() <= GET_QUERY_MAX {
            url.query_pairs_mut().extend_pairs(pairs);
            client.get(url)
        } else {
            let mut form = url.clone();
            form.set_query(None);
            form.query_pairs_mut().extend_pairs(pairs);
            client
                .post(url)
                .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.query().unwrap_or_default().to_owned())
        };
        for (name, values) in &endpoint.headers {
            let name: HeaderName = name.parse().map_err(|_| format!("header name `{name}` is not valid"))?;
            for value in values {
                let value = HeaderValue::from_str(value)
                    .map_err(|_| format!("the value of header `{name}` is not valid"))?;
                request = request.header(name.clone(), value);
            }
        }
        request = match &endpoint.credentials {
            Some(Credentials::Basic { username, password }) => request.basic_auth(username, Some(password)),
            Some(Credentials::Bearer(token)) => request.bearer_auth(token),
            None => request,
        };
        Ok(request)
    }

    /// One number.
    pub(super) fn query<'a>(&'a self, endpoint: &'a Endpoint, query: &'a str) -> BoxFuture<'a, Reading> {
        Box::pin(async move {
            match tokio::time::timeout(TIMEOUT, self.ask(endpoint, query)).await {
                Ok(Ok(reading)) => reading,
                Ok(Err(reason)) => Reading::Error { reason },
                Err(_) => Reading::Error { reason: format!("no answer within {} s", TIMEOUT.as_secs()) },
            }
        })
    }
}

async fn fetch(request: reqwest::RequestBuilder) -> Result<Envelope, String> {
    let response = request.send().await.map_err(chain)?;
    let status = response.status();
    let body = read_bounded(response).await?;
    match serde_json::from_slice::<Envelope>(&body) {
        Ok(envelope) => Ok(envelope),
        Err(_) if status.is_success() => Err("the answer is not a Prometheus query result".to_owned()),
        Err(_) => Err(format!("{status}: {}", quote(&body))),
    }
}

/// An answer's body, as long as it is no longer than [`BODY_MAX`].
pub(super) async fn read_bounded(response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(chain)?;
        if body.len() + chunk.len() > BODY_MAX {
            return Err(format!("the answer is longer than {BODY_MAX} bytes: ask for less"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..QUOTE_MAX).unwrap_or(body)).into_owned();
    text.trim().to_owned()
}

/// The answer's outer object.
#[derive(Debug, Deserialize)]
struct Envelope {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(rename = "errorType", default)]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    result_type: String,
    result: Value,
}

/// One series of an instant vector.
#[derive(Debug, Deserialize)]
struct Series {
    metric: serde_json::Map<String, Value>,
    value: (f64, String),
}

/// One series of a range.
#[derive(Debug, Deserialize)]
struct RangeSeries {
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl Envelope {
    /// All numbers, whatever they are.
    fn sampled(self) -> Result<Sampled, String> {
        let Self { status, data, error_type, error, warnings } = self;
        if status != "success" {
            return Err(format!("{error_type}: {error}"));
        }
        let Some(Data { result_type, result }) = data else {
            return Err("the answer holds no data".to_owned());
        };
        let unread = |error: serde_json::Error| format!("the {result_type} cannot be read: {error}");
        let texts: Vec<String> = match result_type.as_str() {
            "scalar" => {
                let (_, text) = serde_json::from_value::<(f64, String)>(result).map_err(unread)?;
                return Ok(Sampled::number(parsed(&text)?).warned(warnings));
            }
            "vector" => {
                let all: Vec<Series> = serde_json::from_value(result).map_err(unread)?;
                all.into_iter().map(|series| series.value.1).collect()
            }
            "matrix" => {
                let all: Vec<RangeSeries> = serde_json::from_value(result).map_err(unread)?;
                all.into_iter().flat_map(|series| series.values).map(|(_, text)| text).collect()
            }
            other => return Err(format!("the query gives a {other}, not numbers")),
        };
        let numbers = texts.iter().map(|text| parsed(text)).collect::<Result<Vec<f64>, _>>()?;
        Ok(Sampled::numbers(numbers).warned(warnings))
    }

    fn reading(self) -> Reading {
        let Self { status, data, error_type, error, warnings } = self;
        if error_type == BAD_DATA {
            return Reading::Misconfigured { reason: format!("{error_type}: {error}") };
        }
        if status != "success" {
            return Reading::Error { reason: format!("{error_type}: {error}") };
        }
        let Some(Data { result_type, result }) = data else {
            return Reading::Error { reason: "the answer holds no data".to_owned() };
        };
        if !warnings.is_empty() {
            tracing::warn!(warnings = warnings.join("; "), "prometheus warns about a query");
        }
        match result_type.as_str() {
            "scalar" => match serde_json::from_value::<(f64, String)>(result) {
                Ok((_, value)) => number(&value),
                Err(error) => Reading::Error { reason: format!("the scalar cannot be read: {error}") },
            },
            "vector" => match serde_json::from_value::<Vec<Series>>(result) {
                Ok(series) => vector(&series, &warnings),
                Err(error) => Reading::Error { reason: format!("the vector cannot be read: {error}") },
            },
            "matrix" => Reading::Misconfigured {
                reason: "the query gives a range vector: wrap it in a function such as rate() or avg_over_time()"
                    .to_owned(),
            },
            other => Reading::Misconfigured { reason: format!("the query gives a {other}, not a number") },
        }
    }
}

fn vector(series: &[Series], warnings: &[String]) -> Reading {
    match series {
        [] if warnings.is_empty() => Reading::NoData { reason: "no values found".to_owned() },
        [] => Reading::NoData { reason: format!("no values found ({})", warnings.join("; ")) },
        [Series { value: (_, value), .. }] => number(value),
        [first, second, ..] => Reading::Several {
            reason: format!(
                "the query gives {} series ({}, {}, …) where one number is needed: aggregate with sum() or avg()",
                series.len(),
                labels(first),
                labels(second)
            ),
        },
    }
}

fn labels(series: &Series) -> String {
    let pairs: Vec<String> = series.metric.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{{{}}}", pairs.join(","))
}

/// As Prometheus writes numbers: `NaN`, `+Inf`.
fn parsed(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

/// NaN and infinity come from dividing by zero: they say nothing about the canary.
fn number(text: &str) -> Reading {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Reading::Value { value },
        Ok(value) => Reading::NoData { reason: format!("the query gives {value}, which is no measurement") },
        Err(_) => Reading::Error { reason: format!("`{text}` is not a number") },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wiremock::matchers::{body_string_contains, header, method, path, query_param};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    fn reading(answer: Value) -> Reading {
        serde_json::from_value::<Envelope>(answer).unwrap().reading()
    }

    fn vector_of(values: &[&str]) -> Value {
        let series: Vec<Value> =
            values.iter().map(|value| json!({"metric": {"pod": "a"}, "value": [1, value]})).collect();
        json!({"status": "success", "data": {"resultType": "vector", "result": series}})
    }

    #[test]
    fn d12_d13_one_finite_number_is_a_value_and_nothing_else_is() {
        assert_eq!(reading(vector_of(&["99.5"])), Reading::Value { value: 99.5 });
        for answer in [vector_of(&[]), vector_of(&["NaN"]), vector_of(&["+Inf"]), vector_of(&["-Inf"])] {
            assert!(matches!(reading(answer.clone()), Reading::NoData { .. }), "{answer}");
        }
        let matrix = json!({"status": "success", "data": {"resultType": "matrix", "result": []}});
        let refused = json!({"status": "error", "errorType": "bad_data", "error": "parse error"});
        assert!(matches!(reading(vector_of(&["1", "2"])), Reading::Several { .. }));
        for answer in [matrix, refused] {
            assert!(matches!(reading(answer.clone()), Reading::Misconfigured { .. }), "{answer}");
        }
        let failed = json!({"status": "error", "errorType": "execution", "error": "too many samples"});
        for answer in [vector_of(&["x"]), failed] {
            assert!(matches!(reading(answer.clone()), Reading::Error { .. }), "{answer}");
        }
    }

    #[test]
    fn scalars_count_and_warnings_explain_an_empty_vector() {
        let scalar = json!({"status": "success", "data": {"resultType": "scalar", "result": [1, "5"]}});
        assert_eq!(reading(scalar), Reading::Value { value: 5.0 });
        let mut empty = vector_of(&[]);
        empty["warnings"] = json!(["store down"]);
        assert_eq!(reading(empty), Reading::NoData { reason: "no values found (store down)".into() });
    }

    async fn ask(server: &MockServer, endpoint: Endpoint, query: &str) -> Reading {
        rustls::crypto::ring::default_provider().install_default().ok();
        let endpoint =
            Endpoint { kind: "prometheus".into(), address: format!("{}/prom/", server.uri()), ..endpoint };
        Prometheus::new(HttpClients::new(None).unwrap()).query(&endpoint, query).await
    }

    #[tokio::test]
    async fn d11_keeps_the_path_and_sends_headers_and_credentials_once_a_query() {
        let server = MockServer::start().await;
        Mock::given(method("GET"))
            .and(path("/prom/api/v1/query"))
            .and(query_param("query", "up == 1"))
            .and(header("x-scope-orgid", "team"))
            .and(header("authorization", "Bearer t"))
            .respond_with(ResponseTemplate::new(200).set_body_json(vector_of(&["1"])))
            .mount(&server)
            .await;
        let endpoint = Endpoint {
            headers: [("X-Scope-OrgID".to_owned(), vec!["team".to_owned()])].into(),
            credentials: Credentials::from_secret([("token".to_owned(), "t".to_owned())].into()),
            ..Endpoint::default()
        };
        for _ in 0..3 {
            assert_eq!(ask(&server, endpoint.clone(), "up == 1").await, Reading::Value { value: 1.0 });
        }
        for request in server.received_requests().await.unwrap() {
            for name in ["x-scope-orgid", "authorization"] {
                assert_eq!(request.headers.get_all(name).iter().count(), 1, "{name} grows");
            }
        }
    }

    #[tokio::test]
    async fn long_queries_are_posted_and_error_bodies_quoted() {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .and(body_string_contains("query=sum"))
            .respond_with(ResponseTemplate::new(503).set_body_string("no healthy upstream"))
            .mount(&server)
            .await;
        let query = format!("sum({})", "x".repeat(GET_QUERY_MAX));
        let Reading::Error { reason } = ask(&server, Endpoint::default(), &query).await else {
            panic!("no error")
        };
        assert_eq!(reason, "503 Service Unavailable: no healthy upstream");
    }
}
