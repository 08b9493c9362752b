//! What the controller watches, reduced on arrival.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::runtime::watcher;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::api::annotations::{ENVIRONMENTS, PROJECTED, PROJECTED_FORGE, REQUEST, RISKS, ROLLBACK, UNRECORDED};
use crate::api::{CanarySpec, EnvironmentSeen, Metric, MetricTemplateSpec};
use crate::cluster::{Cluster, Reflected, ResolveError, Resolved, Said, SharedWatch, explain};
use crate::model::{Frozen, NamespacedName, Projected, Projection, RollbackNote};
use crate::rollout::keys::MANAGED_BY;
use crate::router::{RouteKind, SERVICE, strip};
use crate::workload::{AutoscalerView, DeploymentView, Owner};

use super::analysisruns::AnalysisKinds;
use super::frozen::FrozenObject;
use super::rollouts::RolloutKinds;
use super::routes::{RESOLVE_AGAIN, RouteWatches, RoutesIn};
use super::settings::ControllerSettings;
use super::siblings::Siblings;
use super::status::last_spec;
use super::wakeups::Wakeups;

/// Kinds of which we remember our own writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Tracked {
    Canary,
    Deployment,
    Autoscaler,
    Service,
    Route(RouteKind),
    Rollout,
    ReplicaSet,
    AnalysisRun,
    Job,
}

impl Tracked {
    /// A kind that routers write; Services are watched for everybody.
    pub(super) fn of(kind: RouteKind) -> Self {
        if kind == SERVICE { Self::Service } else { Self::Route(kind) }
    }
}

/// A Canary.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CanaryView {
    pub(super) key: NamespacedName,
    pub(super) owner: Owner,
    pub(super) resource_version: String,
    pub(super) deleting: bool,
    pub(super) finalizers: Vec<String>,
    pub(super) request: Option<String>,
    /// How far the projections are.
    pub(super) projected: Projected,
    /// What became of the watched branch after a failed release.
    pub(super) rollback: Option<RollbackNote>,
    /// What keeps state from reaching Git, in words.
    pub(super) unrecorded: Option<String>,
    /// What leaves primary's pods out, in words.
    pub(super) risks: Option<String>,
    /// What was seen of it in other environments.
    pub(super) environments: Vec<EnvironmentSeen>,
    /// The spec, or why it cannot be read.
    pub(super) spec: Result<CanarySpec, String>,
    /// As it is, to write only what changes.
    pub(super) status: Frozen,
}

/// How far the projections are: two loops tell it, each in its own annotation.
fn projected(git: Option<String>, forge: Option<String>) -> Projected {
    let mut projected = git.map(|text| Projected::from(text.as_str())).unwrap_or_default();
    if let Some(release) = forge.and_then(|text| text.parse().ok()) {
        projected.note(Projection::Forge, release);
    }
    projected
}

impl CanaryView {
    fn of(object: DynamicObject) -> Self {
        let metadata = object.metadata;
        let annotation = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key)).cloned();
        let name = metadata.name.clone().unwrap_or_default();
        Self {
            key: NamespacedName::new(metadata.namespace.clone().unwrap_or_default(), name.clone()),
            owner: Owner { name, uid: metadata.uid.clone().unwrap_or_default() },
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            request: annotation(REQUEST),
            projected: projected(annotation(PROJECTED), annotation(PROJECTED_FORGE)),
            rollback: annotation(ROLLBACK).and_then(|text| serde_json::from_str(&text).ok()),
            unrecorded: annotation(UNRECORDED),
            risks: annotation(RISKS),
            environments: annotation(ENVIRONMENTS)
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default(),
            finalizers: metadata.finalizers.unwrap_or_default(),
            spec: serde_json::from_value(object.data["spec"].clone()).map_err(|error| error.to_string()),
            status: Frozen::of(&object.data["status"]),
        }
    }

    /// Names of the objects it looks at.
    pub(super) fn looks_at(&self) -> BTreeSet<NamespacedName> {
        let last = || last_spec(&self.status.thaw());
        let Some(spec) = self.spec.as_ref().ok().cloned().or_else(last) else { return BTreeSet::new() };
        let primary_too = |name: &str| [name.to_owned(), format!("{name}-primary")];
        let service = spec.service_name();
        let mut names: Vec<String> = Vec::from(primary_too(&spec.target_ref.name));
        names.extend(primary_too(service));
        names.push(format!("{service}-canary"));
        if let Some(scaler) = &spec.autoscaler_ref {
            names.extend(primary_too(&scaler.name));
        }
        let templates =
            spec.analysis.metrics.iter().filter_map(|metric| template_key(&self.key.namespace, metric));
        names
            .into_iter()
            .map(|name| NamespacedName::new(self.key.namespace.clone(), name))
            .chain(templates)
            .collect()
    }
}

/// The MetricTemplate of a check, for a Canary in `namespace`.
pub(super) fn template_key(namespace: &str, metric: &Metric) -> Option<NamespacedName> {
    let template = metric.template_ref.as_ref()?;
    let namespace = template.namespace.as_deref().unwrap_or(namespace);
    Some(NamespacedName::new(namespace, template.name.as_str()))
}

/// The kinds that every Canary needs, as the API server serves them.
#[derive(Debug, Clone)]
pub(super) struct Kinds {
    pub(super) canary: Resolved,
    pub(super) deployment: Resolved,
    pub(super) autoscaler: Resolved,
    pub(super) service: Resolved,
    pub(super) revision: Resolved,
    pub(super) template: Resolved,
    /// What Rollouts need, once it is served.
    pub(super) rollouts: Arc<OnceLock<RolloutKinds>>,
    /// What AnalysisRuns need, once it is served.
    pub(super) analysis: Arc<OnceLock<AnalysisKinds>>,
}

impl Kinds {
    /// Asks the API server until all are served.
    pub(super) async fn resolve(cluster: &Cluster) -> Self {
        let mut said = Said::default();
        loop {
            match Self::try_resolve(cluster).await {
                Ok(kinds) => return kinds,
                Err(error) => {
                    let missing = explain(&error);
                    if said.is_news(&missing) {
                        tracing::info!("the controller waits for the kinds it works with: {missing}");
                    }
                    cluster.forget_discovery();
                    tokio::time::sleep(RESOLVE_AGAIN).await;
                }
            }
        }
    }

    async fn try_resolve(cluster: &Cluster) -> Result<Self, ResolveError> {
        Ok(Self {
            canary: cluster.resolve("flagger.app", "v1beta1", "Canary").await?,
            deployment: cluster.resolve("apps", "v1", "Deployment").await?,
            autoscaler: cluster.resolve("autoscaling", "v2", "HorizontalPodAutoscaler").await?,
            service: cluster.resolve("", "v1", "Service").await?,
            revision: cluster.resolve("apps", "v1", "ControllerRevision").await?,
            template: cluster.resolve("flagger.app", "v1beta1", "MetricTemplate").await?,
            rollouts: Arc::default(),
            analysis: Arc::default(),
        })
    }
}

/// The Canaries to release, and who of them is to be looked at.
#[derive(Debug)]
pub struct Canaries {
    cache: Reflected<CanaryView>,
    pub(super) wakeups: Arc<Wakeups>,
}

impl Canaries {
    /// Those that are watched.
    pub fn of(watch: &mut SharedWatch) -> Self {
        let wakeups = Arc::new(Wakeups::default());
        let woken = wakeups.clone();
        let cache = watch.cache(|object| Ok(CanaryView::of(object)), move |key| woken.wake(key));
        Self { cache, wakeups }
    }
}

/// Everything that is watched.
pub(super) struct Caches {
    pub(super) canaries: Reflected<CanaryView>,
    pub(super) deployments: Reflected<DeploymentView>,
    /// Deployments by the labels of their pods.
    pub(super) siblings: Arc<Siblings>,
    pub(super) autoscalers: Reflected<AutoscalerView>,
    services: Reflected<FrozenObject>,
    pub(super) templates: Reflected<MetricTemplateSpec>,
    pub(super) routes: Arc<RouteWatches>,
}

impl Caches {
    /// Starts watching the rest; changes wake the Canaries that look at the object.
    pub(super) fn start(
        cluster: &Cluster,
        kinds: &Kinds,
        settings: &ControllerSettings,
        canaries: Canaries,
        rollouts: Arc<Wakeups>,
        shutdown: &CancellationToken,
    ) -> Self {
        let Canaries { cache: canaries, wakeups } = canaries;
        let api = |kind: &Resolved| cluster.objects(kind, settings.namespace.as_deref());
        let dependents = || {
            let (wakeups, rollouts) = (wakeups.clone(), rollouts.clone());
            move |key: &NamespacedName| {
                wakeups.changed(key);
                rollouts.changed(key);
            }
        };
        let routes = Arc::new(RouteWatches::new(
            cluster.clone(),
            settings.namespace.clone(),
            [wakeups.clone(), rollouts.clone()],
            shutdown.clone(),
        ));
        let stripped = |object: DynamicObject| to_value(object).map(|value| FrozenObject::of(&strip(&value)));
        let labels = settings.selector_labels.clone();
        let siblings: Arc<Siblings> = Arc::default();
        let seen = siblings.clone();
        let deployment = move |object: DynamicObject| {
            let key = NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any());
            let view = DeploymentView::of(&to_value(object)?, &labels).map_err(|error| error.to_string())?;
            seen.note(&key, &view.pod_labels, &labels);
            if let Some(heir) = &view.heir {
                seen.note_heir(&key, heir);
            }
            Ok(view)
        };
        Self {
            canaries,
            siblings,
            deployments: Reflected::start(
                api(&kinds.deployment),
                watcher::Config::default(),
                shutdown.clone(),
                deployment,
                dependents(),
            ),
            autoscalers: Reflected::start(
                api(&kinds.autoscaler),
                watcher::Config::default(),
                shutdown.clone(),
                |object| to_value(object).map(|value| AutoscalerView::of(&value)),
                dependents(),
            ),
            services: Reflected::start(
                api(&kinds.service),
                watcher::Config::default(),
                shutdown.clone(),
                stripped,
                dependents(),
            ),
            templates: Reflected::start(
                api(&kinds.template),
                watcher::Config::default(),
                shutdown.clone(),
                |object| serde_json::from_value(object.data["spec"].clone()).map_err(|error| error.to_string()),
                dependents(),
            ),
            routes,
        }
    }

    /// Returns when every first list has arrived.
    pub(super) async fn ready(&self) {
        let Self { canaries, siblings: _, deployments, autoscalers, services, templates, routes: _ } = self;
        deployments.ready().await;
        autoscalers.ready().await;
        services.ready().await;
        templates.ready().await;
        canaries.ready().await;
    }

    /// The cached resourceVersion.
    pub(super) fn version(&self, kind: Tracked, namespace: &str, name: &str) -> Option<String> {
        let key = NamespacedName::new(namespace, name);
        let of_frozen = |object: &FrozenObject| object.resource_version.clone();
        match kind {
            Tracked::Canary => self.canaries.get(&key).map(|view| view.resource_version.clone()),
            Tracked::Deployment => self.deployments.get(&key).map(|view| view.resource_version.clone()),
            Tracked::Autoscaler => self.autoscalers.get(&key).map(|view| view.resource_version.clone()),
            Tracked::Service => self.services.get(&key).and_then(|value| of_frozen(&value)),
            Tracked::Route(kind) => self.routes.version(kind, &key),
            // Rollouts and AnalysisRuns have caches of their own.
            Tracked::Rollout | Tracked::ReplicaSet | Tracked::AnalysisRun | Tracked::Job => None,
        }
    }

    /// A live Service.
    pub(super) fn service(&self, key: &NamespacedName) -> Option<Value> {
        self.services.get(key).map(|service| service.thaw())
    }

    /// Names of the Services that this Rollout has pointed.
    pub(super) fn services_of_rollout(&self, rollout: &NamespacedName) -> Vec<Value> {
        let all = self.services.all().into_iter().filter(|(key, _)| key.namespace == rollout.namespace);
        let all = all.map(|(_, service)| service.thaw());
        all.filter(|service| service["metadata"]["annotations"][MANAGED_BY] == rollout.name.as_str()).collect()
    }

    /// The live routes of one namespace, and its Services.
    pub(super) fn routes_in<'a>(&'a self, namespace: &'a str) -> RoutesIn<'a> {
        RoutesIn { watches: &self.routes, services: &self.services, namespace }
    }
}

/// The object as raw JSON.
pub(super) fn to_value(object: DynamicObject) -> Result<Value, String> {
    serde_json::to_value(object).map_err(|error| error.to_string())
}
