//! Makes one measurement: reads the Secrets that it needs, and asks its provider.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::analysisrun::{Args, Language, Planned, Provider, SecretArg, Taken};
use crate::api::annotations::SEND_TO_METRICS;
use crate::api::argo::{Header, PrometheusMetric, PrometheusRange, WebMetric};
use crate::api::duration;
use crate::cluster::{Clock, EffectKind, ErrorKind, Lender, NotLent, Purpose, WriteError, Writer, explain};
use crate::controller::answers::Asked;
use crate::metrics::{
    Credentials, Endpoint, MetricProvider, Moments, PROMETHEUS, Sampled, Sampling, WebMethod, WebRequest,
};
use crate::model::NamespacedName;

/// What a Secret is wanted for.
const CONSENT: Purpose = Purpose { annotation: SEND_TO_METRICS, whom: "metric providers" };
/// Most moments of a range query: Prometheus itself refuses more than 11,000.
const MOMENTS_MAX: i64 = 11_000;

/// The time that an effect takes beyond its own limit before it is given up.
const SLACK: Duration = Duration::from_secs(5);

/// A measurement that is to be made.
#[derive(Debug, Clone)]
pub(super) struct Measuring {
    pub(super) planned: Arc<Planned>,
    pub(super) args: Arc<Args>,
    pub(super) slot: u32,
}

impl Asked for Measuring {
    type Key = (String, u32);
    type Answer = (Self::Key, Taken);

    fn key(&self) -> Self::Key {
        (self.planned.name.clone(), self.slot)
    }

    fn key_of(answer: &Self::Answer) -> Self::Key {
        answer.0.clone()
    }

    fn is_hook(&self) -> bool {
        false
    }
}

/// Everything that a measurement is made with. Cheap to clone.
#[derive(Clone)]
pub(super) struct Surveyor {
    pub(super) run: NamespacedName,
    pub(super) writer: Writer,
    pub(super) lender: Lender,
    pub(super) metrics: Arc<dyn MetricProvider>,
    pub(super) metrics_address: String,
    pub(super) clock: Clock,
}

impl Surveyor {
    /// Never fails: what goes wrong is an answer in words. `None`: it was not asked, because the lease was not held.
    pub(super) async fn measure(self, asked: Measuring) -> Option<((String, u32), Taken)> {
        let key = asked.key();
        let started = self.clock.now();
        let taken = match self.with_secrets(&asked.args).await {
            Ok(args) => redacted(self.ask(&asked.planned, &args, started).await?, &args),
            Err(why) => Taken::failed(why, started),
        };
        Some((key, taken))
    }

    async fn with_secrets(&self, args: &Args) -> Result<Args, String> {
        let mut found = BTreeMap::new();
        for SecretArg { name, key } in args.secrets() {
            let secret = NamespacedName::new(self.run.namespace.clone(), key.name.as_str());
            let mut data = self.lender.secret(&secret, CONSENT).await.map_err(|error| match error {
                NotLent::Refused(words) | NotLent::Unknown(words) => words,
            })?;
            let missing = || format!("key '{}' does not exist in secret '{}'", key.key, key.name);
            found.insert(name.clone(), data.remove(&key.key).ok_or_else(missing)?);
        }
        Ok(args.clone().with(found))
    }

    async fn ask(&self, planned: &Planned, args: &Args, started: Timestamp) -> Option<Taken> {
        let sampling = match planned.provider(args).and_then(|provider| self.sampling(provider, started)) {
            Ok(sampling) => sampling,
            Err(why) => return Some(Taken::failed(why, started)),
        };
        let sampled = match planned.recorded {
            false => self.metrics.sample(&sampling).await,
            true => self.once(planned, &sampling).await?,
        };
        Some(taken(sampled, started))
    }

    /// What does something outside passes the door, as every effect.
    async fn once(&self, planned: &Planned, sampling: &Sampling) -> Option<Sampled> {
        let limit = match sampling {
            Sampling::Prometheus { timeout, .. } => *timeout,
            Sampling::Web(request) => request.timeout,
        };
        let label = format!("metric {} of AnalysisRun {}", planned.name, self.run);
        let done = self.writer.effect_within(limit.saturating_add(SLACK), EffectKind::Hook, &label, async {
            Ok::<_, WriteError>(self.metrics.sample(sampling).await)
        });
        match done.await {
            Ok(sampled) => Some(sampled),
            // That the lease was not held says nothing about what was to be measured.
            Err(error) if error.kind() == ErrorKind::NotHeld => {
                self.writer.claim().acquired().await;
                None
            }
            Err(error) => Some(Sampled::error(explain(&error))),
        }
    }

    fn sampling(&self, provider: Provider, now: Timestamp) -> Result<Sampling, String> {
        match provider {
            Provider::Prometheus(metric, timeout) => self.prometheus(metric, timeout, now),
            Provider::Web(metric, timeout) => web(metric, timeout),
            Provider::Job(_) => Err("a Job is not asked".to_owned()),
        }
    }

    fn prometheus(&self, metric: PrometheusMetric, timeout: Duration, now: Timestamp) -> Result<Sampling, String> {
        let PrometheusMetric { address, query, authentication, insecure, headers, range_query, timeout: _ } =
            metric;
        let basic = authentication.and_then(|authentication| authentication.basic_auth);
        let credentials = basic.and_then(|basic| {
            let password = basic.password.unwrap_or_default();
            basic
                .username
                .filter(|name| !name.is_empty())
                .map(|username| Credentials::Basic { username, password })
        });
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for Header { key, value } in headers {
            all.entry(key).or_default().push(value);
        }
        let endpoint = Endpoint {
            kind: PROMETHEUS.to_owned(),
            address: address.filter(|address| !address.is_empty()).unwrap_or_else(|| self.metrics_address.clone()),
            headers: all,
            credentials,
            insecure: insecure.unwrap_or(false),
        };
        let moments = range_query.map(|range| moments(&range, now)).transpose()?;
        Ok(Sampling::Prometheus { endpoint, query: query.unwrap_or_default(), moments, timeout })
    }
}

fn moments(range: &PrometheusRange, now: Timestamp) -> Result<Moments, String> {
    let language = Language::at(now);
    let time = |field: &str, text: &Option<String>| {
        let read = language.time(text.as_deref().unwrap_or_default());
        read.map_err(|why| format!("failed to parse rangeQuery.{field} as time: {why}"))
    };
    let (start, end) = (time("start", &range.start)?, time("end", &range.end)?);
    let step = duration::parse(range.step.as_deref().unwrap_or_default())
        .map_err(|error| format!("failed to parse rangeQuery.step as duration: {error}"))?;
    let span = end.duration_since(start).as_millis();
    let step_millis = i128::try_from(step.as_millis()).unwrap_or(i128::MAX);
    if step_millis == 0 || span < 0 || span / step_millis > i128::from(MOMENTS_MAX) {
        return Err(format!(
            "rangeQuery asks for more than {MOMENTS_MAX} moments, or for none: make its step longer"
        ));
    }
    Ok(Moments { start, end, step })
}

fn web(metric: WebMetric, timeout: Duration) -> Result<Sampling, String> {
    let WebMetric {
        method,
        url,
        headers,
        body,
        json_body,
        json_path,
        insecure,
        authentication,
        timeout_seconds: _,
    } = metric;
    let basic = authentication.and_then(|authentication| authentication.basic_auth);
    let method = match method.as_deref().unwrap_or_default() {
        "" | "GET" => WebMethod::Get,
        "POST" => WebMethod::Post,
        "PUT" => WebMethod::Put,
        other => return Err(format!("web.method: `{other}` is none of GET, POST and PUT")),
    };
    Ok(Sampling::Web(WebRequest {
        method,
        url,
        headers: headers.into_iter().map(|Header { key, value }| (key, value)).collect(),
        basic_auth: basic.and_then(|basic| Some((basic.username?, basic.password.unwrap_or_default()))),
        is_json: json_body.is_some(),
        body: json_body.map(|body| body.to_string()).or(body.filter(|body| !body.is_empty())),
        json_path: json_path.filter(|path| !path.is_empty()),
        insecure: insecure.unwrap_or(false),
        timeout,
    }))
}

fn taken(sampled: Sampled, started: Timestamp) -> Taken {
    let Sampled { reading, value, warnings, note } = sampled;
    let warned = warnings.iter().map(|warning| format!("\"{warning}\"")).collect::<Vec<_>>().join(", ");
    let metadata = (!warned.is_empty()).then(|| ("warnings".to_owned(), warned)).into_iter().collect();
    Taken { reading, value, message: note, metadata, started }
}

/// What others read holds nothing that is in a Secret.
fn redacted(taken: Taken, args: &Args) -> Taken {
    use crate::analysis::Reading;
    if args.secrets().is_empty() {
        return taken;
    }
    let Taken { reading, value, message, metadata, started } = taken;
    let reading = match reading {
        Reading::Error { reason } => Reading::Error { reason: args.redact(&reason) },
        Reading::NoData { reason } => Reading::NoData { reason: args.redact(&reason) },
        Reading::Several { reason } => Reading::Several { reason: args.redact(&reason) },
        Reading::Misconfigured { reason } => Reading::Misconfigured { reason: args.redact(&reason) },
        // Conditions are held against what was answered.
        sample @ (Reading::Value { .. } | Reading::List { .. } | Reading::Json { .. }) => sample,
    };
    let hide = |text: String| args.redact(&text);
    Taken {
        reading,
        value: value.map(hide),
        message: message.map(hide),
        metadata: metadata.into_iter().map(|(key, text)| (key, hide(text))).collect(),
        started,
    }
}
