//! A Canary becomes a [`Policy`].

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::duration::DurationError;
use crate::api::{CanaryAnalysis, CanaryService, CanarySpec, Metric, WebhookType};
use crate::calendar::{self, Window, WindowProblem};
use crate::model::NamespacedName;
use crate::release::{Hook, HookKind, Names, Policy, Promotion, Rounds, Sizing};
use crate::router::{DEFAULT_PROVIDER, FieldProblem, RouteAsk, providers, router_of};

use super::checks::{MIN_SAMPLES, check};
use super::holds;
use super::observe::router_for;
use super::queries::FindTemplate;
use super::settings::ControllerSettings;
use super::strategy::{self, Strategy};
use super::{comparison, webhooks};

/// Intervals that a tick may be held for provider errors before the release fails: long enough for a restart of the metric
/// system, short enough that nobody forgets a canary (DESIGN: hold has a limit).
const HOLD_LIMIT: u32 = 10;
/// Largest number of a port.
const PORT_MAX: i32 = 65_535;
/// Longest name of a Service, in characters: a DNS label.
const SERVICE_NAME_MAX: usize = 63;
/// What the longest of the names that are generated ends with.
const PRIMARY_SUFFIX: &str = "-primary";
/// Shortest interval and window after division by the demonstration's speed: below it a query has no two samples.
pub(super) const SHORTEST: Duration = Duration::from_millis(100);

/// A Canary that cannot be carried out, in words for its condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A field whose feature is not there yet.
    #[error("{what} is not supported yet: {hint}")]
    Unsupported {
        /// Where: `spec.analysis.mirror`.
        path: String,
        /// The field, with its value where that is what is not supported.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// A field that is missing or makes no sense.
    #[error("{message}")]
    Invalid {
        /// Where.
        path: String,
        /// What is wrong, and what helps.
        message: String,
    },
    /// A duration that does not parse.
    #[error("{what}: {source}")]
    Duration {
        /// Where.
        path: String,
        /// The field in words.
        what: String,
        /// Why.
        #[source]
        source: DurationError,
    },
}

impl From<FieldProblem> for PolicyError {
    fn from(FieldProblem { path, message }: FieldProblem) -> Self {
        Self::Invalid { path, message }
    }
}

impl PolicyError {
    /// The field that it is about: `spec.analysis.metrics[0].interval`.
    pub fn path(&self) -> &str {
        match self {
            Self::Unsupported { path, .. } | Self::Invalid { path, .. } | Self::Duration { path, .. } => path,
        }
    }
}

/// A field that is accepted and not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Where.
    pub path: String,
    /// What does not happen.
    pub message: String,
}

/// Whether the daemon would carry out this Canary, as far as the Canary itself can tell.
///
/// # Errors
/// With what would block it.
pub fn check_policy(canary: &NamespacedName, spec: &CanarySpec) -> Result<Vec<Notice>, PolicyError> {
    let settings = ControllerSettings::of_nobody();
    let policy = compile(canary, spec, &settings, &|template| Err(format!("{template} is not looked at here")))?;
    let mut notices = notices(spec);
    if policy.watch.is_empty() && !policy.skip_analysis {
        notices.push(Notice {
            path: "spec.analysis.metrics".to_owned(),
            message: "no metric and no webhook checks the canary: it is promoted when its time is over".to_owned(),
        });
    }
    let webhooks = spec.analysis.webhooks.iter().enumerate();
    notices.extend(webhooks.filter_map(|(index, webhook)| {
        let PolicyError::Invalid { path, message } = webhooks::compile(index, webhook, false).err()? else {
            return None;
        };
        Some(Notice { path, message: format!("{message}, unless http.proxy says where addresses lead") })
    }));
    Ok(notices)
}

/// Compiles; every part that a later version will support is refused rather than ignored.
pub(super) fn compile(
    canary: &NamespacedName,
    spec: &CanarySpec,
    settings: &ControllerSettings,
    templates: FindTemplate<'_>,
) -> Result<Policy, PolicyError> {
    refuse_unsupported(spec)?;
    let router = router_for(spec);
    let analysis = &spec.analysis;
    let interval = analysis.interval().map_err(|source| {
        let path = "spec.analysis.interval";
        PolicyError::Duration { path: path.to_owned(), what: path.to_owned(), source }
    })?;
    let Strategy { steps, iterations, way_back, stickiness } =
        strategy::compile(&canary.namespace, spec, router, interval)?;
    let checks = analysis.metrics.iter().enumerate();
    let checks = checks.map(|(index, metric)| check(canary, spec, (index, metric), settings, templates));
    let hooks = analysis
        .webhooks
        .iter()
        .enumerate()
        .map(|(index, webhook)| webhooks::compile(index, webhook, settings.loopback));
    let hooks = hooks.collect::<Result<Vec<Hook>, _>>()?;
    let of_rounds = |hook: &Hook| matches!(hook.kind, HookKind::Rollout | HookKind::Rollback);
    let (of_rounds, of_steps): (Vec<_>, Vec<_>) = hooks.into_iter().partition(of_rounds);
    let interval = settings.sped(interval).max(SHORTEST);
    Ok(Policy {
        names: Names {
            canary: canary.clone(),
            target: spec.target_ref.name.clone(),
            service: spec.service_name().to_owned(),
            provider: router.name().to_owned(),
        },
        interval,
        progress_deadline: settings.sped(spec.progress_deadline()).max(SHORTEST),
        skip_analysis: spec.skip_analysis,
        suspended: spec.suspend,
        steps,
        iterations,
        way_back,
        stickiness,
        watch: Rounds {
            interval,
            threshold: analysis.threshold(),
            checks: checks.collect::<Result<_, _>>()?,
            hooks: of_rounds.into_iter().collect(),
            hold_limit: HOLD_LIMIT,
            min_samples: router.built_in().requests.map(|_| MIN_SAMPLES),
        },
        comparison: comparison::compile(spec, router, settings)?,
        hooks: of_steps.into_iter().collect(),
        promotion: Promotion::CopyToPrimary,
        sizing: Sizing::Ahead,
        drain: settings.drain,
        settle: settings.settle,
        guards: settings.guards,
    })
}

/// What is accepted and not carried out: it tells people something, or belongs to another router.
pub(super) fn notices(spec: &CanarySpec) -> Vec<Notice> {
    let webhooks = spec.analysis.webhooks.iter().enumerate();
    let events =
        webhooks.filter(|(_, webhook)| webhook.type_ == Some(WebhookType::Event)).map(|(index, webhook)| Notice {
            path: format!("spec.analysis.webhooks[{index}].type"),
            message: format!("webhook `{}` of type event is not called yet", webhook.name),
        });
    let router = router_for(spec);
    let ask = spec.service.as_ref().map(|spec| RouteAsk { namespace: "", spec, rules: &[] });
    let ignored = ask.map(|ask| router.ignores(&ask)).unwrap_or_default();
    let elsewhere = other_routes(spec).into_iter().chain(nobodys(spec)).chain(ignored).map(|path| Notice {
        path: path.to_owned(),
        message: format!("{path} has no effect with provider {}", router.name()),
    });
    let combined = strategy::notices(spec, router);
    let compared = comparison::notices(spec, router);
    events.chain(combined).chain(elsewhere).chain(uncounted(spec)).chain(compared).collect()
}

/// Samples that nobody counts.
fn uncounted(spec: &CanarySpec) -> Vec<Notice> {
    let router = router_for(spec);
    if router.built_in().requests.is_some() {
        return Vec::new();
    }
    let metrics = spec.analysis.metrics.iter().enumerate();
    let asking = metrics.filter(|(_, metric)| metric.min_samples.is_some_and(|count| count > 0));
    let notice = |(index, _): (usize, &Metric)| {
        let path = format!("spec.analysis.metrics[{index}].minSamples");
        let message = format!("{path} has no effect: provider {} counts no requests", router.name());
        Notice { path, message }
    };
    asking.map(notice).collect()
}

/// Fields that name what a router is to write to that is not there yet.
fn other_routes(spec: &CanarySpec) -> Vec<&'static str> {
    let fields = [
        ("spec.ingressRef", spec.ingress_ref.is_some()),
        ("spec.routeRef", spec.route_ref.is_some()),
        ("spec.upstreamRef", spec.upstream_ref.is_some()),
    ];
    fields.into_iter().filter(|(_, is_set)| *is_set).map(|(path, _)| path).collect()
}

/// Fields that no router reads.
fn nobodys(spec: &CanarySpec) -> Vec<&'static str> {
    let Some(service) = &spec.service else { return Vec::new() };
    let fields = [
        ("spec.service.meshName", service.mesh_name.is_some()),
        ("spec.service.backends", !service.backends.is_empty()),
    ];
    fields.into_iter().filter(|(_, is_set)| *is_set).map(|(path, _)| path).collect()
}

/// Fields that say, without a provider, that another router than the default one is meant.
fn of_another_provider(spec: &CanarySpec) -> Option<(&'static str, &'static str)> {
    let attaches = spec.service.as_ref().is_some_and(|service| !service.gateway_refs.is_empty());
    let gateways = attaches
        .then_some(("spec.service.gatewayRefs", "say spec.provider: gatewayapi:v1, or istio if that is meant"));
    let others = other_routes(spec).into_iter().next();
    gateways.or_else(|| others.map(|path| (path, "say spec.provider: istio if that is meant")))
}

fn refuse_unsupported(spec: &CanarySpec) -> Result<(), PolicyError> {
    let refuse = |path: &str, what: &str, hint: &str| {
        Err(PolicyError::Unsupported { path: path.to_owned(), what: what.to_owned(), hint: hint.to_owned() })
    };
    let unsupported = |path: &str, hint: &str| refuse(path, path, hint);
    if router_of(spec.provider.unwrap_or(DEFAULT_PROVIDER)).is_none() {
        return unsupported("spec.provider", &format!("use one of {}", providers()));
    }
    if let (None, Some((path, hint))) = (spec.provider, of_another_provider(spec)) {
        // With Flagger its own flag says which router is meant: traffic would silently go the old way.
        return Err(PolicyError::Invalid {
            path: path.to_owned(),
            message: format!("{path} has no effect with the default provider {}: {hint}", router_for(spec).name()),
        });
    }
    if spec.target_ref.kind != "Deployment" {
        let what = format!("targetRef.kind {}", spec.target_ref.kind);
        return refuse("spec.targetRef.kind", &what, "use a Deployment");
    }
    if spec.target_ref.group() != "apps" {
        let what = format!("targetRef.apiVersion {}", spec.target_ref.api_version);
        return refuse("spec.targetRef.apiVersion", &what, "a Deployment is served as apps/v1");
    }
    if let Some(Err(error)) = spec.metrics_server.as_deref().map(|address| webhooks::address(address, true)) {
        return Err(invalid("spec.metricsServer", &error.to_string()));
    }
    if let Some(scaler) = &spec.autoscaler_ref
        && scaler.kind != "HorizontalPodAutoscaler"
    {
        let what = format!("autoscalerRef.kind {}", scaler.kind);
        return refuse("spec.autoscalerRef.kind", &what, "use a HorizontalPodAutoscaler");
    }
    let Some(service) = &spec.service else {
        return Err(PolicyError::Invalid {
            path: "spec".to_owned(),
            message: "spec.service is missing: it says which services to generate".to_owned(),
        });
    };
    refuse_ports(service)?;
    refuse_long_name(spec)?;
    windows(spec)?;
    holds::bakes(&spec.wait_for).map_err(|(index, source)| PolicyError::Duration {
        path: format!("spec.waitFor[{index}].bake"),
        what: format!("spec.waitFor[{index}].bake"),
        source,
    })?;
    let CanaryAnalysis { primary_ready_threshold, canary_ready_threshold, .. } = &spec.analysis;
    let partly = |threshold: &Option<i64>| threshold.is_some_and(|percent| percent != 100);
    if partly(primary_ready_threshold) {
        unsupported("spec.analysis.primaryReadyThreshold", "all pods have to be ready")
    } else if partly(canary_ready_threshold) {
        unsupported("spec.analysis.canaryReadyThreshold", "all pods have to be ready")
    } else {
        Ok(())
    }
}

/// When releases of this Canary may begin.
pub(super) fn windows(spec: &CanarySpec) -> Result<Vec<Window>, PolicyError> {
    calendar::compile(&spec.release_windows).map_err(|problem| {
        let WindowProblem { index, field, message } = problem;
        let path = match index {
            Some(index) => format!("spec.releaseWindows[{index}].{field}"),
            None => "spec.releaseWindows".to_owned(),
        };
        PolicyError::Invalid { message: format!("{path}: {message}"), path }
    })
}

/// Numbers that the API server would refuse in each of the generated Services.
fn refuse_ports(service: &CanaryService) -> Result<(), PolicyError> {
    let fits = |port: i32| (1..=PORT_MAX).contains(&port);
    let message = format!("must be between 1 and {PORT_MAX}");
    match &service.target_port {
        _ if !fits(service.port) => Err(invalid("spec.service.port", &message)),
        // Zero is how Flagger's own objects say that nothing is said.
        Some(IntOrString::Int(port)) if *port != 0 && !fits(*port) => {
            Err(invalid("spec.service.targetPort", &message))
        }
        Some(_) | None => Ok(()),
    }
}

/// A service whose sides would have no name: Services are DNS labels.
fn refuse_long_name(spec: &CanarySpec) -> Result<(), PolicyError> {
    let name = spec.service_name();
    let longest = SERVICE_NAME_MAX - PRIMARY_SUFFIX.len();
    if name.len() <= longest {
        return Ok(());
    }
    let named = spec.service.as_ref().is_some_and(|service| service.name.is_some());
    let path = if named { "spec.service.name" } else { "spec.targetRef.name" };
    Err(invalid(
        path,
        &format!(
            "has {} characters, and Service {name}{PRIMARY_SUFFIX} would have more than {SERVICE_NAME_MAX}: name a service of at \
             most {longest} in spec.service.name",
            name.len()
        ),
    ))
}

/// A field that makes no sense, named in front of what is wrong with it.
pub(super) fn invalid(path: &str, message: &str) -> PolicyError {
    PolicyError::Invalid { path: path.to_owned(), message: format!("{path} {message}") }
}

#[cfg(test)]
mod tests;
