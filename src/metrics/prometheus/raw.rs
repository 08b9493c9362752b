//! Samples with their series, for the comparison: as they are stored, never a rate, never extrapolated.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use serde::Deserialize;

use crate::http::chain;
use crate::metrics::sample::Moments;
use crate::metrics::{Endpoint, Samples, Stored, unsupported};

use super::{Data, Envelope, Prometheus, quote};

/// Longest wait for samples: a look comes again in seconds, and waits for none that a restart has made slow.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer read, in bytes: 2,000 series with their labels, and a quarter of an hour of each.
const BODY_MAX: usize = 8 * 1024 * 1024;

impl Prometheus {
    /// Series with their samples.
    ///
    /// # Errors
    /// In words, where it cannot be asked, has none to give, or not all of them.
    pub(in crate::metrics) async fn samples(
        &self,
        endpoint: &Endpoint,
        asked: &Samples,
    ) -> Result<Vec<Stored>, String> {
        let answer = tokio::time::timeout(TIMEOUT, self.stored(endpoint, asked)).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))
    }

    async fn stored(&self, endpoint: &Endpoint, asked: &Samples) -> Result<Vec<Stored>, String> {
        if let Some(reason) = unsupported(&endpoint.kind) {
            return Err(reason);
        }
        let seconds = |at: jiff::Timestamp| format!("{:.3}", at.as_millisecond() as f64 / 1000.0);
        let request = match asked {
            Samples::Raw { query } => self.request(endpoint, &[("query", query.as_str())], None)?,
            Samples::Every { query, from, to, step } => {
                let moments = Moments { start: *from, end: *to, step: *step };
                let (from, to, step) = (seconds(*from), seconds(*to), step.as_secs_f64().to_string());
                let pairs = [("query", query.as_str()), ("start", &from), ("end", &to), ("step", &step)];
                self.request(endpoint, &pairs, Some(moments))?
            }
        };
        let response = request.timeout(TIMEOUT).send().await.map_err(chain)?;
        let status = response.status();
        let body = read(response).await?;
        match serde_json::from_slice::<Envelope>(&body) {
            Ok(envelope) => stored(envelope),
            Err(_) if status.is_success() => Err("the answer is not a Prometheus query result".to_owned()),
            Err(_) => Err(format!("{status}: {}", quote(&body))),
        }
    }
}

async fn read(response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(chain)?;
        if body.len() + chunk.len() > BODY_MAX {
            return Err(format!("the answer is longer than {BODY_MAX} bytes: too many series are selected"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// One series of a range vector.
#[derive(Debug, Deserialize)]
struct Ranged {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl Ranged {
    /// NaN stands where a series ended, and is no sample.
    fn stored(self) -> Stored {
        let point = |(at, value): (f64, String)| {
            let value = value.parse::<f64>().ok().filter(|value| value.is_finite())?;
            Some((milliseconds(at), value))
        };
        Stored { labels: self.metric, points: self.values.into_iter().filter_map(point).collect() }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a time has far less digits than an i64")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// Series with their samples; why there are none, in words.
fn stored(Envelope { status, data, error_type, error, warnings }: Envelope) -> Result<Vec<Stored>, String> {
    if status != "success" {
        return Err(format!("{error_type}: {error}"));
    }
    if !warnings.is_empty() {
        // What is missing of one side would be taken for its having had no requests.
        return Err(format!("the answer is not whole: {}", warnings.join("; ")));
    }
    let Some(Data { result_type, result }) = data else { return Err("the answer holds no data".to_owned()) };
    if result_type != "matrix" {
        return Err(format!("the query gives a {result_type}, not samples"));
    }
    let series: Vec<Ranged> =
        serde_json::from_value(result).map_err(|error| format!("the samples cannot be read: {error}"))?;
    Ok(series.into_iter().map(Ranged::stored).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn samples_are_read_as_they_are_stored_and_only_whole() {
        let read = |answer: Value| stored(serde_json::from_value::<Envelope>(answer).unwrap());
        let values = json!([[1_700_000_000.123, "5"], [1_700_000_015.123, "7.5"], [1_700_000_030.123, "NaN"]]);
        let series = json!([{"metric": {"pod": "a"}, "values": values}]);
        let answer = json!({"status": "success", "data": {"resultType": "matrix", "result": series}});
        let labels = BTreeMap::from([("pod".to_owned(), "a".to_owned())]);
        let points = vec![(1_700_000_000_123, 5.0), (1_700_000_015_123, 7.5)];
        assert_eq!(read(answer.clone()), Ok(vec![Stored { labels, points }]));
        let mut partial = answer;
        partial["warnings"] = json!(["store down"]);
        assert!(read(partial).unwrap_err().contains("store down"));
        let vector = json!({"status": "success", "data": {"resultType": "vector", "result": []}});
        assert!(read(vector).unwrap_err().contains("not samples"));
        let failed = json!({"status": "error", "errorType": "execution", "error": "too many samples"});
        assert!(read(failed).unwrap_err().contains("too many samples"));
    }
}
