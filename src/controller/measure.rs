//! Finds out the answer to one question: renders the query, reads the credentials, asks the provider or calls the hook.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;

use crate::analysis::compare::{self, Counted, History, LookAt, Looked};
use crate::analysis::{Measurement, Reading, Requests};
use crate::api::annotations::{LEND_TO, SEND_TO_METRICS};
use crate::api::{CanarySpec, MetricTemplate, MetricTemplateSpec};
use crate::cluster::{
    Clock, Cluster, EffectKind, ErrorKind, Lender, NotLent, Purpose, WriteError, Writer, call, explain, lends_to,
};
use crate::hook::{HookCall, HookCaller, HookPayload};
use crate::http::Address;
use crate::metrics::{self, Credentials, Endpoint, MetricProvider, PROMETHEUS, Samples, unsupported};
use crate::model::NamespacedName;
use crate::release::{Answer, Check, CheckSource, Hook, HookKey, HookReply, ProviderFault, Question};

use super::caches::Caches;
use super::observe::router_for;
use super::queries::context;

/// A query that every Prometheus answers with one number.
const PING: &str = "1";
/// Window of a query that is only rendered, to find its provider.
const NO_WINDOW: Duration = Duration::from_secs(60);
/// What a Secret is wanted for.
const CONSENT: Purpose = Purpose { annotation: SEND_TO_METRICS, whom: "metric providers" };

/// Blocks that primary's past is cut into: six hours are as many minutes.
const PAST_BLOCKS: f64 = 360.0;

/// Everything that questions are answered with. Cheap to clone.
#[derive(Clone)]
pub(super) struct Finder {
    pub(super) cluster: Cluster,
    pub(super) writer: Writer,
    pub(super) caches: Arc<Caches>,
    pub(super) metrics: Arc<dyn MetricProvider>,
    pub(super) hooks: Arc<dyn HookCaller>,
    pub(super) clock: Clock,
    pub(super) metrics_address: String,
    pub(super) lender: Lender,
}

/// Why a query cannot be sent.
enum Fault {
    /// The Canary, or what it names, is at fault; in words.
    Policy(String),
    /// The cluster does not answer; in words.
    Outside(String),
}

impl From<NotLent> for Fault {
    fn from(error: NotLent) -> Self {
        match error {
            NotLent::Refused(words) => Self::Policy(words),
            NotLent::Unknown(words) => Self::Outside(words),
        }
    }
}

impl From<Fault> for Reading {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Policy(reason) => Self::Misconfigured { reason },
            Fault::Outside(reason) => Self::Error { reason },
        }
    }
}

/// The Canary that asks.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) canary: NamespacedName,
    pub(super) spec: Arc<CanarySpec>,
    /// Names the revision that is released, for the `checksum` of webhooks.
    pub(super) checksum: String,
}

impl Finder {
    /// Never fails: what goes wrong is an answer in words. `None`: nobody may call webhooks but who holds the lease; it is
    /// held again now, so the question can be asked anew.
    pub(super) async fn find_out(self, asker: Asker, question: Question) -> Option<Answer> {
        match question {
            Question::Metric { key, check, window } => {
                Some(Answer::Metric(key, self.measure(&asker, &check, window).await))
            }
            Question::Hook { key, hook, phase } => {
                let reply = self.call(asker, key.clone(), *hook, phase).await?;
                Some(Answer::Hook(key, reply))
            }
            Question::Compare { key, look } => Some(Answer::Compare(key, self.look(&asker, &look).await)),
            Question::History { release, until, window } => {
                Some(Answer::History(release, self.past(&asker, until, window).await))
            }
            Question::Requests { key, window } => Some(Answer::Requests(key, self.count(&asker, window).await)),
            Question::Providers { key, checks } => Some(Answer::Providers(key, self.ping(&asker, &checks).await)),
        }
    }

    async fn measure(&self, asker: &Asker, check: &Check, window: Duration) -> Measurement {
        let at = self.clock.now();
        match self.prepare(asker, check, window).await {
            Ok((endpoint, query)) => {
                let reading = self.metrics.query(&endpoint, &query).await;
                Measurement { reading, query, at }
            }
            Err(fault) => Measurement { reading: fault.into(), query: String::new(), at },
        }
    }

    /// The candidate's requests; without any series there have been none.
    async fn count(&self, asker: &Asker, window: Duration) -> Requests {
        let Asker { canary, spec, checksum: _ } = asker;
        let Some(text) = router_for(spec).built_in().requests else { return Err("nobody counts them".to_owned()) };
        let query = context(canary, spec, window, &CheckSource::SuccessRate).render(text);
        let query = query.map_err(|error| explain(&error))?;
        match self.metrics.query(&self.built_in(spec), &query).await {
            Reading::Value { value } if value >= 0.0 => Ok(value.round() as u64),
            Reading::NoData { .. } => Ok(0),
            Reading::Error { reason } | Reading::Several { reason } | Reading::Misconfigured { reason } => {
                Err(reason)
            }
            other @ (Reading::Value { .. } | Reading::List { .. } | Reading::Json { .. }) => {
                Err(format!("{other:?} is no number of requests"))
            }
        }
    }

    /// What was counted at both sides since the look before.
    async fn look(&self, asker: &Asker, look: &LookAt) -> Result<Looked, String> {
        let Asker { canary, spec, checksum: _ } = asker;
        let LookAt { counted, since, window, known, speed } = look;
        let Some(counters) = &router_for(spec).built_in().counters else {
            return Err("nobody counts them".to_owned());
        };
        let query = context(canary, spec, *window, &CheckSource::SuccessRate).render(counters.both);
        let asked = Samples::Raw { query: query.map_err(|error| explain(&error))? };
        let stored = self.metrics.samples(&self.built_in(spec), &asked).await?;
        let series = metrics::series(counters, &spec.target_ref.name, stored);
        Ok(match counted {
            Counted::ByRouter => compare::paired(&series, known),
            Counted::ByPods => compare::windowed(&series, known, *since, *speed),
        })
    }

    /// What primary did before `until`, by the minute.
    async fn past(&self, asker: &Asker, until: Timestamp, window: Duration) -> Result<History, String> {
        let Asker { canary, spec, checksum: _ } = asker;
        let Some(counters) = &router_for(spec).built_in().counters else {
            return Err("nobody counts them".to_owned());
        };
        let step = window.div_f64(PAST_BLOCKS);
        let asked = |text: &str| {
            let query = context(canary, spec, window, &CheckSource::SuccessRate).render(text);
            let from = Timestamp::from_millisecond(until.as_millisecond() - millis(window)).unwrap_or(until);
            Ok::<_, String>(Samples::Every {
                query: query.map_err(|error| explain(&error))?,
                from,
                to: until,
                step,
            })
        };
        let endpoint = self.built_in(spec);
        let (all, failed) = (asked(counters.primary)?, asked(counters.primary_failed)?);
        let (all, failed) =
            tokio::try_join!(self.metrics.samples(&endpoint, &all), self.metrics.samples(&endpoint, &failed))?;
        Ok(metrics::history(counters, &all, &failed, step))
    }

    async fn prepare(&self, asker: &Asker, check: &Check, window: Duration) -> Result<(Endpoint, String), Fault> {
        let Asker { canary, spec, checksum: _ } = asker;
        let context = context(canary, spec, window, &check.source);
        let router = router_for(spec);
        let (endpoint, text) = match &check.source {
            CheckSource::SuccessRate => (self.built_in(spec), router.built_in().success_rate.to_owned()),
            CheckSource::Duration => (self.built_in(spec), router.built_in().duration.to_owned()),
            CheckSource::Query(query) => (self.built_in(spec), query.clone()),
            CheckSource::Template { template, variables: _ } => {
                let found = self.template(template).await?;
                if context.lent {
                    self.lends(template, &found, &canary.namespace).await?;
                }
                (self.endpoint(template, &found).await?, found.query.clone())
            }
        };
        let query = context.render(&text).map_err(|error| Fault::Policy(explain(&error)))?;
        Ok((endpoint, query))
    }

    async fn template(&self, name: &NamespacedName) -> Result<Arc<MetricTemplateSpec>, Fault> {
        if let Some(found) = self.caches.templates.get(name) {
            return Ok(found);
        }
        if let Some(problem) = self.caches.templates.problem(name) {
            return Err(Fault::Policy(format!("metric template {name} cannot be read: {problem}")));
        }
        // The watch may not have brought yet what was applied a moment ago.
        let api = Api::<MetricTemplate>::namespaced(self.cluster.client(), &name.namespace);
        match call(&format!("read metric template {name}"), api.get_opt(&name.name)).await {
            Ok(Some(found)) => Ok(Arc::new(found.spec)),
            Ok(None) => Err(Fault::Policy(format!("metric template {name} does not exist"))),
            Err(error) => Err(Fault::Outside(explain(&error))),
        }
    }

    fn built_in(&self, spec: &CanarySpec) -> Endpoint {
        let address = spec.metrics_server.clone().unwrap_or_else(|| self.metrics_address.clone());
        Endpoint { kind: PROMETHEUS.to_owned(), address, ..Endpoint::default() }
    }

    async fn endpoint(&self, template: &NamespacedName, spec: &MetricTemplateSpec) -> Result<Endpoint, Fault> {
        let provider = &spec.provider;
        if let Some(reason) = unsupported(&provider.type_) {
            return Err(Fault::Policy(format!("metric template {template}: {reason}")));
        }
        let credentials = match &provider.secret_ref {
            Some(secret) => Some(self.credentials(&template.namespace, &secret.name).await?),
            None => None,
        };
        Ok(Endpoint {
            kind: provider.type_.clone(),
            address: provider.address.clone().unwrap_or_else(|| self.metrics_address.clone()),
            headers: provider.headers.clone(),
            credentials,
            insecure: provider.insecure_skip_verify,
        })
    }

    /// A query that asks with credentials is lent to another namespace only where its owner says so.
    async fn lends(&self, name: &NamespacedName, spec: &MetricTemplateSpec, to: &str) -> Result<(), Fault> {
        let provider = &spec.provider;
        if provider.secret_ref.is_none() && provider.headers.is_empty() {
            return Ok(());
        }
        let api = Api::<MetricTemplate>::namespaced(self.cluster.client(), &name.namespace);
        let found = call(&format!("read metric template {name}"), api.get_metadata(&name.name)).await;
        let annotations =
            found.map_err(|error| Fault::Outside(explain(&error)))?.metadata.annotations.unwrap_or_default();
        if lends_to(Some(&annotations), LEND_TO, to) {
            return Ok(());
        }
        let NamespacedName { namespace, name } = name;
        Err(Fault::Policy(format!(
            "MetricTemplate {namespace}/{name} has credentials and is not lent to namespace {to}: \
             kubectl annotate metrictemplate -n {namespace} {name} {LEND_TO}={to}"
        )))
    }

    async fn credentials(&self, namespace: &str, name: &str) -> Result<Credentials, Fault> {
        let text = self.lender.secret(&NamespacedName::new(namespace, name), CONSENT).await?;
        let credentials = Credentials::from_secret(text);
        credentials.ok_or_else(|| {
            Fault::Policy(format!("Secret {namespace}/{name} has neither the key `token` nor `username`"))
        })
    }

    async fn call(&self, asker: Asker, key: HookKey, hook: Hook, phase: String) -> Option<HookReply> {
        let Asker { canary, spec: _, checksum } = asker;
        let metadata = hook.metadata.clone();
        let payload = HookPayload { name: canary.name, namespace: canary.namespace, phase, checksum, metadata };
        let (limit, label) = (hook.patience(), format!("webhook {}", hook.name));
        let call = HookCall { hook, key, payload };
        let done = self
            .writer
            .effect_within(limit, EffectKind::Hook, &label, async {
                Ok::<_, WriteError>(self.hooks.call(&call).await)
            })
            .await;
        match done {
            Ok(reply) => Some(reply),
            // That the lease was lost says nothing about the version.
            Err(error) if error.kind() == ErrorKind::NotHeld => {
                self.writer.claim().acquired().await;
                None
            }
            Err(error) => Some(HookReply { accepted: false, body: explain(&error) }),
        }
    }

    /// Asks each provider once, and each query: one that cannot be answered whoever asks is found before anybody is exposed.
    /// What a query answers now says nothing, as nobody uses the candidate yet.
    async fn ping(&self, asker: &Asker, checks: &[Check]) -> Result<(), ProviderFault> {
        let mut asked: Vec<Endpoint> = Vec::new();
        for check in checks {
            let prepared = self.prepare(asker, check, NO_WINDOW).await;
            let (endpoint, query) = prepared.map_err(|fault| {
                let said = |reason| format!("{}: {reason}", check.name);
                match fault {
                    Fault::Policy(reason) => ProviderFault::Policy(said(reason)),
                    Fault::Outside(reason) => ProviderFault::Unreachable(said(reason)),
                }
            })?;
            let place =
                || Address::parse(&endpoint.address).map_or_else(|_| String::new(), |at| format!(" at {at}"));
            if !asked.contains(&endpoint) {
                let said = |reason| format!("{}{}: {reason}", endpoint.kind, place());
                match self.metrics.query(&endpoint, PING).await {
                    Reading::Misconfigured { reason } | Reading::Several { reason } => {
                        return Err(ProviderFault::Policy(said(reason)));
                    }
                    Reading::NoData { reason } | Reading::Error { reason } => {
                        return Err(ProviderFault::Unreachable(said(reason)));
                    }
                    Reading::Value { .. } | Reading::List { .. } | Reading::Json { .. } => {}
                }
                asked.push(endpoint.clone());
            }
            let found = self.metrics.query(&endpoint, &query).await;
            if let Reading::Misconfigured { reason } | Reading::Several { reason } = found {
                return Err(ProviderFault::Policy(format!("metric `{}` cannot be checked: {reason}", check.name)));
            }
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
