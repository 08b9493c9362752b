//! The HTTP API of Prometheus, as far as metric providers use it, and the exposition for a real Prometheus to scrape.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::SharedStore;
use super::promql::{self, QueryError, Sample, Value};
use super::sampler::now_ms;
use super::store::Labels;

/// Longest form body read: a query is at most a few kilobytes.
const FORM_BYTES_MAX: usize = 64 * 1024;
/// Most points of a range query, Prometheus' own limit.
const POINTS_MAX: i64 = 11_000;
/// Endings that belong to a histogram's family.
const HISTOGRAM_ENDINGS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// The query API.
pub fn api(store: SharedStore) -> Router {
    Router::new()
        .route("/-/healthy", get(|| async { "Prometheus Server is Healthy.\n" }))
        .route("/-/ready", get(|| async { "Prometheus Server is Ready.\n" }))
        .route("/api/v1/status/buildinfo", get(buildinfo))
        .route("/api/v1/query", get(query).post(query))
        .route("/api/v1/query_range", get(query_range).post(query_range))
        .route("/api/v1/labels", get(label_names).post(label_names))
        .route("/api/v1/label/{name}/values", get(label_values))
        .with_state(store)
}

/// The exposition under `/metrics`.
pub fn exposition(store: SharedStore) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(store)
}

/// An error as Prometheus writes it.
#[derive(Debug)]
struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl ApiError {
    fn bad_data(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "bad_data", message: message.into() }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::BadData(message) => Self::bad_data(message),
            QueryError::Execution(message) => {
                Self { status: StatusCode::UNPROCESSABLE_ENTITY, kind: "execution", message }
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, kind, message } = self;
        (status, axum::Json(json!({"status": "error", "errorType": kind, "error": message}))).into_response()
    }
}

fn success(data: Json) -> Response {
    axum::Json(json!({"status": "success", "data": data})).into_response()
}

#[derive(Debug, Default, Deserialize)]
struct Parameters {
    query: Option<String>,
    time: Option<String>,
    start: Option<String>,
    end: Option<String>,
    step: Option<String>,
}

impl Parameters {
    fn query(&self) -> Result<&str, ApiError> {
        self.query.as_deref().ok_or_else(|| ApiError::bad_data("invalid parameter \"query\": it is missing"))
    }
}

/// Reads the URL's parameters and, with POST, the form's; the form wins.
async fn parameters(request: Request) -> Result<Parameters, ApiError> {
    let from_url = decode(request.uri().query().unwrap_or_default())?;
    if request.method() != Method::POST {
        return Ok(from_url);
    }
    let body = axum::body::to_bytes(request.into_body(), FORM_BYTES_MAX)
        .await
        .map_err(|error| ApiError::bad_data(format!("cannot read the form: {error}")))?;
    let form = std::str::from_utf8(&body).map_err(|_| ApiError::bad_data("the form is not UTF-8"))?;
    let Parameters { query, time, start, end, step } = decode(form)?;
    Ok(Parameters {
        query: query.or(from_url.query),
        time: time.or(from_url.time),
        start: start.or(from_url.start),
        end: end.or(from_url.end),
        step: step.or(from_url.step),
    })
}

fn decode(encoded: &str) -> Result<Parameters, ApiError> {
    let uri: Uri = format!("/?{encoded}")
        .parse()
        .map_err(|error| ApiError::bad_data(format!("cannot read the parameters: {error}")))?;
    let Query(parameters) = Query::try_from_uri(&uri)
        .map_err(|error| ApiError::bad_data(format!("cannot read the parameters: {error}")))?;
    Ok(parameters)
}

async fn query(State(store): State<SharedStore>, request: Request) -> Result<Response, ApiError> {
    let parameters = parameters(request).await?;
    let at_ms = match &parameters.time {
        Some(text) => timestamp("time", text)?,
        None => now_ms(),
    };
    let value = promql::evaluate(&store.lock(), parameters.query()?, at_ms)?;
    Ok(success(instant_json(value, at_ms)))
}

fn instant_json(value: Value, at_ms: i64) -> Json {
    let at = seconds(at_ms);
    match value {
        Value::Scalar(number) => json!({"resultType": "scalar", "result": [at, format_value(number)]}),
        Value::Text(text) => json!({"resultType": "string", "result": [at, text]}),
        Value::Vector(samples) => {
            let result: Vec<Json> = samples
                .into_iter()
                .map(|Sample { labels, value }| json!({"metric": labels, "value": [at, format_value(value)]}))
                .collect();
            json!({"resultType": "vector", "result": result})
        }
        Value::Matrix(ranges) => matrix_json(ranges.into_iter().map(|range| (range.labels, range.samples))),
    }
}

fn matrix_json(series: impl Iterator<Item = (Labels, Vec<(i64, f64)>)>) -> Json {
    let result: Vec<Json> = series
        .map(|(labels, samples)| {
            let values: Vec<Json> =
                samples.into_iter().map(|(at, value)| json!([seconds(at), format_value(value)])).collect();
            json!({"metric": labels, "values": values})
        })
        .collect();
    json!({"resultType": "matrix", "result": result})
}

async fn query_range(State(store): State<SharedStore>, request: Request) -> Result<Response, ApiError> {
    let parameters = parameters(request).await?;
    let required = |name: &str, value: &Option<String>| {
        value.clone().ok_or_else(|| ApiError::bad_data(format!("invalid parameter \"{name}\": it is missing")))
    };
    let start = timestamp("start", &required("start", &parameters.start)?)?;
    let end = timestamp("end", &required("end", &parameters.end)?)?;
    let step = step_ms(&required("step", &parameters.step)?)?;
    if end < start {
        return Err(ApiError::bad_data("invalid parameter \"end\": end timestamp must not be before start time"));
    }
    if (end - start) / step > POINTS_MAX {
        return Err(ApiError::bad_data(format!(
            "exceeded maximum resolution of {POINTS_MAX} points per timeseries"
        )));
    }
    let query = parameters.query()?;
    let store = store.lock();
    let mut series: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
    let mut at_ms = start;
    while at_ms <= end {
        match promql::evaluate(&store, query, at_ms)? {
            Value::Scalar(number) => series.entry(Labels::new()).or_default().push((at_ms, number)),
            Value::Vector(samples) => {
                for Sample { labels, value } in samples {
                    series.entry(labels).or_default().push((at_ms, value));
                }
            }
            Value::Matrix(_) | Value::Text(_) => {
                return Err(ApiError::bad_data(
                    "invalid expression type for range query, must be Scalar or instant Vector",
                ));
            }
        }
        at_ms += step;
    }
    Ok(success(matrix_json(series.into_iter())))
}

async fn label_names(State(store): State<SharedStore>) -> Response {
    let names: BTreeSet<String> =
        store.lock().sampled().flat_map(|(_, labels)| labels.keys().cloned().collect::<Vec<_>>()).collect();
    success(json!(names))
}

async fn label_values(State(store): State<SharedStore>, Path(name): Path<String>) -> Response {
    let values: BTreeSet<String> =
        store.lock().sampled().filter_map(|(_, labels)| labels.get(&name).cloned()).collect();
    success(json!(values))
}

async fn buildinfo() -> Response {
    success(
        json!({"version": "3.0.0", "revision": "serin-sandbox", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""}),
    )
}

async fn metrics(State(store): State<SharedStore>) -> Response {
    let text = expose(store.lock().current());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The text format: families together, each with its type.
fn expose<'a>(series: impl Iterator<Item = (&'a Labels, f64)>) -> String {
    let series: Vec<_> = series.collect();
    let name = |labels: &'a Labels| labels.get("__name__").map_or("", String::as_str);
    let names: BTreeSet<&str> = series.iter().map(|(labels, _)| name(labels)).collect();
    let mut families: BTreeMap<&str, (&str, Vec<String>)> = BTreeMap::new();
    for (labels, value) in series {
        let name = name(labels);
        let histogram = HISTOGRAM_ENDINGS
            .iter()
            .find_map(|ending| name.strip_suffix(ending))
            .filter(|base| names.contains(format!("{base}_bucket").as_str()));
        let (family, kind) = histogram.map_or((name, "counter"), |base| (base, "histogram"));
        let pairs: Vec<String> = labels
            .iter()
            .filter(|(key, _)| *key != "__name__")
            .map(|(key, value)| format!("{key}=\"{}\"", escape(value)))
            .collect();
        let line = format!("{name}{{{}}} {}", pairs.join(","), format_value(value));
        families.entry(family).or_insert_with(|| (kind, Vec::new())).1.push(line);
    }
    families
        .into_iter()
        .map(|(family, (kind, lines))| format!("# TYPE {family} {kind}\n{}\n", lines.join("\n")))
        .collect()
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A value as Go's shortest decimal notation.
fn format_value(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}

/// A time in seconds, without a fraction where there is none.
fn seconds(at_ms: i64) -> Json {
    if at_ms % 1000 == 0 { json!(at_ms / 1000) } else { json!(at_ms as f64 / 1000.0) }
}

/// Seconds since the epoch, or RFC 3339.
fn timestamp(parameter: &str, text: &str) -> Result<i64, ApiError> {
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
    {
        return Ok((seconds * 1000.0).round() as i64);
    }
    text.parse::<jiff::Timestamp>().map(|time| time.as_millisecond()).map_err(|_| {
        ApiError::bad_data(format!(
            "invalid parameter \"{parameter}\": cannot parse {text:?} to a valid timestamp"
        ))
    })
}

fn step_ms(text: &str) -> Result<i64, ApiError> {
    let step = promql_parser::util::parse_duration(text)
        .ok()
        .and_then(|step| i64::try_from(step.as_millis()).ok())
        .filter(|step| *step > 0);
    step.ok_or_else(|| {
        ApiError::bad_data(format!("invalid parameter \"step\": cannot parse {text:?} to a positive duration"))
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tower::ServiceExt;

    use super::*;

    async fn ask(router: Router, request: axum::http::Request<Body>) -> (StatusCode, String) {
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), FORM_BYTES_MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn store() -> SharedStore {
        let store = SharedStore::default();
        {
            let mut guard = store.lock();
            for (name, le, value) in [("up", None, 1.0), ("d_bucket", Some("+Inf"), 2.0), ("d_count", None, 2.0)] {
                let mut labels = Labels::from([("__name__".to_owned(), name.to_owned())]);
                if let Some(le) = le {
                    labels.insert("le".to_owned(), le.to_owned());
                }
                let id = guard.series(&labels).unwrap();
                guard.set(id, value);
            }
            guard.sample(1_000_500);
        }
        store
    }

    #[tokio::test]
    async fn answers_as_prometheus_writes() {
        let get = axum::http::Request::get("/api/v1/query?query=up&time=1000.5").body(Body::empty()).unwrap();
        let (status, body) = ask(api(store()), get).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            serde_json::from_str::<Json>(&body).unwrap(),
            json!({"status": "success", "data": {"resultType": "vector", "result": [
                {"metric": {"__name__": "up"}, "value": [1000.5, "1"]}
            ]}})
        );

        let post = axum::http::Request::post("/api/v1/query")
            .body(Body::from("query=sum%28up%29+%2F+0&time=1970-01-01T00%3A16%3A41Z"))
            .unwrap();
        let (_, body) = ask(api(store()), post).await;
        assert!(body.contains(r#""value":[1001,"+Inf"]"#), "{body}");

        let bad = axum::http::Request::get("/api/v1/query?query=topk(1,up)").body(Body::empty()).unwrap();
        let (status, body) = ask(api(store()), bad).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(body.contains(r#""errorType":"bad_data""#) && body.contains("topk"), "{body}");
    }

    #[tokio::test]
    async fn range_queries_step() {
        let get = axum::http::Request::get("/api/v1/query_range?query=up&start=1000&end=1002&step=1")
            .body(Body::empty())
            .unwrap();
        let (_, body) = ask(api(store()), get).await;
        assert!(body.contains(r#""values":[[1001,"1"],[1002,"1"]]"#), "{body}");
    }

    #[tokio::test]
    async fn exposes_families_with_their_type() {
        let get = axum::http::Request::get("/metrics").body(Body::empty()).unwrap();
        let (_, body) = ask(exposition(store()), get).await;
        assert_eq!(body, "# TYPE d histogram\nd_bucket{le=\"+Inf\"} 2\nd_count{} 2\n# TYPE up counter\nup{} 1\n");
    }
}
