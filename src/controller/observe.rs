//! Caches become an [`Observed`].

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::api::{CanarySpec, MetricTemplateSpec};
use crate::model::{Frozen, NamespacedName, Projection};
use crate::release::{
    Answers, AutoscalerObserved, Deleting, Hold, Limits, Observed, Obstacle, Policy, Request, RouteObserved, Side,
    Unaccepted, Verb,
};
use crate::router::{DEFAULT_PROVIDER, Istio, Leads, Pods, RouteRequest, Router, ServiceSet, router_of, services};
use crate::workload::{AutoscalerOverrides, AutoscalerView, DeploymentView, Labels, mixed_up, primary_autoscaler};

use super::caches::{Caches, CanaryView};
use super::queries;

/// What a look is told, besides what it sees.
pub(super) struct Heard {
    pub(super) answers: Answers,
    /// Since when this process has been asking.
    pub(super) asking_since: jiff::Timestamp,
    /// Why the spec cannot be carried out; what is looked at then is the last one that could.
    pub(super) invalid: Option<String>,
    /// Why the last action could not be carried out.
    pub(super) problem: Option<String>,
    /// What a new revision waits for.
    pub(super) hold: Option<Hold>,
    pub(super) deleting: Option<Deleting>,
}

/// What to look at, besides the caches.
pub(super) struct Look<'a> {
    pub(super) caches: &'a Caches,
    pub(super) router: &'static dyn Router,
    pub(super) canary: &'a CanaryView,
    pub(super) spec: &'a CanarySpec,
    /// The minimum of the target's autoscaler while it is held at another one.
    pub(super) own_minimum: Option<i32>,
    /// The Deployment that Git has dropped and whose service this Canary takes over.
    pub(super) predecessor: Option<String>,
}

impl Look<'_> {
    /// The target, if it exists and can be read.
    pub(super) fn target(&self) -> Option<Arc<DeploymentView>> {
        self.caches.deployments.get(&self.key(&self.spec.target_ref.name))
    }

    /// Its primary.
    pub(super) fn primary(&self) -> Option<Arc<DeploymentView>> {
        self.caches.deployments.get(&self.key(&self.primary_name()))
    }

    /// `<target>-primary`.
    pub(super) fn primary_name(&self) -> String {
        format!("{}-primary", self.spec.target_ref.name)
    }

    /// A name in the Canary's namespace.
    pub(super) fn key(&self, name: &str) -> NamespacedName {
        NamespacedName::new(self.canary.key.namespace.clone(), name)
    }

    /// What routes are rendered from; `None` without `spec.service`.
    pub(super) fn route_request<'b>(&'b self, pair: Option<&'b Pair>) -> Option<RouteRequest<'b>> {
        Some(RouteRequest {
            namespace: &self.canary.key.namespace,
            service: self.spec.service_name(),
            spec: self.spec.service.as_ref()?,
            owner: &self.canary.owner,
            target: &self.spec.target_ref.name,
            predecessor: self.predecessor.as_deref(),
            pods: pair.and_then(Pair::pods),
        })
    }

    /// What the router looks at besides the objects of the Canary's own names.
    pub(super) fn needs(&self) -> Vec<NamespacedName> {
        self.route_request(None).map(|request| self.router.needs(&request)).unwrap_or_default()
    }

    /// Both sides; `None` while the target is not there.
    pub(super) fn pair(&self) -> Option<Pair> {
        Some(Pair { target: self.target()?, primary: self.primary() })
    }

    /// The three Services as they should be, with the apex leading there, unless it is what the router shifts.
    pub(super) fn services_of(&self, request: &RouteRequest<'_>, pods: Pods<'_>, apex: Side) -> ServiceSet {
        let live = self.caches.service(&self.key(request.service));
        let leads = self.router.apex(request, live.as_ref()).unwrap_or_else(|| Leads::to(apex));
        services(request, pods, live.as_ref(), leads)
    }

    /// Where the apex Service leads whoever does not come by the route.
    fn apex(&self) -> Option<Side> {
        let pair = self.pair()?;
        let request = self.route_request(Some(&pair))?;
        let live = self.caches.service(&self.key(request.service))?;
        let is_route = self.router.apex(&request, Some(&live)).is_some();
        Leads::of(&live, request.pods?).side().filter(|_| !is_route)
    }

    /// What the target's autoscaler may do.
    fn target_limits(&self) -> Option<Limits> {
        let scaler = self.spec.autoscaler_ref.as_ref()?;
        Some(self.caches.autoscalers.get(&self.key(&scaler.name))?.limits())
    }

    /// The size that primary takes with the target's template: what somebody gave the target by hand, as with Flagger. Git and
    /// autoscalers have a say of their own.
    pub(super) fn promoted_size(&self, target: &DeploymentView) -> Option<i32> {
        let by_hand = self.spec.autoscaler_ref.is_none() && target.size.is_none() && !self.is_autoscaled();
        (by_hand && target.replicas > 0).then_some(target.replicas)
    }

    /// Whether an autoscaler that the Canary does not name scales either side.
    fn is_autoscaled(&self) -> bool {
        let sides = [self.spec.target_ref.name.clone(), self.primary_name()];
        let scales_either = |view: &AutoscalerView| sides.contains(&view.scales);
        let namespace = &self.canary.key.namespace;
        self.caches.autoscalers.find(|key, view| key.namespace == *namespace && scales_either(view)).is_some()
    }

    /// An autoscaler that was generated for a reference that the Canary has no more: two that scale primary make neither work.
    /// Its name and resourceVersion.
    pub(super) fn surplus_autoscaler(&self) -> Option<(String, String)> {
        let wanted = self.spec.autoscaler_ref.as_ref().map(|scaler| format!("{}-primary", scaler.name));
        let CanaryView { key: canary, owner, .. } = self.canary;
        let is_surplus = |key: &NamespacedName, view: &AutoscalerView| {
            key.namespace == canary.namespace
                && view.owner_uid.as_ref() == Some(&owner.uid)
                && Some(&key.name) != wanted.as_ref()
        };
        let (key, view) = self.caches.autoscalers.find(is_surplus)?;
        Some((key.name, view.resource_version.clone()))
    }

    /// The primary that this Canary made for a target of another name.
    pub(super) fn former(&self) -> Option<Arc<DeploymentView>> {
        let CanaryView { key: canary, owner, .. } = self.canary;
        let own = [self.spec.target_ref.name.clone(), self.primary_name()];
        let is_former = |key: &NamespacedName, view: &DeploymentView| {
            key.namespace == canary.namespace
                && view.owner_uid.as_ref() == Some(&owner.uid)
                && view.copied_from.is_some()
                && !own.contains(&key.name)
        };
        self.caches.deployments.find(is_former).map(|(_, view)| view)
    }

    /// Time from a pod of the target being ready to its counting as available. No demonstration makes that shorter.
    pub(super) fn settling(&self) -> Duration {
        self.target().map_or(Duration::ZERO, |target| target.settling)
    }

    /// What primary's own autoscaler may do, else the target's.
    fn primary_limits(&self) -> Option<Limits> {
        self.live_primary_autoscaler().map(|view| view.limits()).or_else(|| self.target_limits())
    }

    /// Everything at once.
    pub(super) fn observe(&self, policy: &Policy, heard: Heard, projections: &[Projection]) -> Observed {
        let Heard { answers, asking_since, invalid, problem, hold, deleting } = heard;
        let target = self.target();
        let route = self.route(deleting.is_some());
        // Whoever goes is not kept by what stands in the way of releases.
        let obstacle =
            deleting.is_none().then(|| self.obstacle(policy, invalid, target.as_deref(), &route)).flatten();
        let rebuilt = target.as_ref().and_then(|view| view.rebuilt.clone());
        Observed {
            pending: target.as_ref().and_then(|view| view.pending.clone()),
            replaced: target.as_ref().map(|view| view.replaced.clone()).unwrap_or_default(),
            remembered: target.as_ref().and_then(|view| view.remembered.clone()),
            obstacle,
            problem,
            hold,
            deleting,
            size: target.as_ref().and_then(|view| view.size).filter(|_| self.spec.autoscaler_ref.is_none()),
            target: target.map(|view| view.as_target(self.target_limits())),
            primary: self.primary().map(|view| view.as_primary(self.primary_limits())),
            route,
            apex: self.apex(),
            skips: false,
            request: request(self.canary),
            answers,
            asking_since: Some(asking_since),
            projected: projections.iter().map(|by| (*by, self.canary.projected.up_to(*by).cloned())).collect(),
            rollback: self.canary.rollback.clone(),
            rebuilt,
            unrecorded: self.canary.unrecorded.clone(),
            autoscaler_stale: self.autoscaler_is_stale(),
            autoscaler: self.autoscaler(),
            former: self.former().map(|former| former.name.clone()),
        }
    }

    /// Whether the primary's autoscaler has to be written, not while there is nothing to make it from, or a former one to go.
    fn autoscaler_is_stale(&self) -> bool {
        if self.surplus_autoscaler().is_some() {
            return true;
        }
        if self.foreign_autoscaler().is_some() {
            return false;
        }
        let live = self.live_primary_autoscaler();
        let floor = live.as_ref().map_or(0, |live| live.minimum);
        let Some((_, desired)) = self.primary_autoscaler(floor) else { return false };
        live.is_none_or(|live| live.spec != Frozen::of(&desired["spec"]))
    }

    fn live_primary_autoscaler(&self) -> Option<Arc<AutoscalerView>> {
        let scaler = self.spec.autoscaler_ref.as_ref()?;
        self.caches.autoscalers.get(&self.key(&format!("{}-primary", scaler.name)))
    }

    /// What primary's autoscaler may do now, and shall while nothing is released.
    fn autoscaler(&self) -> Option<AutoscalerObserved> {
        let live = self.live_primary_autoscaler()?;
        let (_, desired) = self.primary_autoscaler(0)?;
        let meant = AutoscalerView::of(&desired);
        Some(AutoscalerObserved { minimum: live.minimum, meant: meant.minimum, maximum: meant.maximum })
    }

    /// Name and wanted form of the primary's autoscaler, with at least this minimum; `None` without `autoscalerRef` or the
    /// autoscaler it names.
    pub(super) fn primary_autoscaler(&self, floor: i32) -> Option<(String, serde_json::Value)> {
        let scaler = self.spec.autoscaler_ref.as_ref()?;
        let source = self.caches.autoscalers.get(&self.key(&scaler.name))?;
        let overrides =
            scaler.primary_scaler_replicas.as_ref().map_or_else(AutoscalerOverrides::default, |replicas| {
                AutoscalerOverrides { min_replicas: replicas.min_replicas, max_replicas: replicas.max_replicas }
            });
        let overrides =
            AutoscalerOverrides { min_replicas: overrides.min_replicas.or(self.own_minimum), ..overrides };
        let overrides = overrides.with_floor(&source, floor);
        let (namespace, owner) = (&self.canary.key.namespace, &self.canary.owner);
        let primary = self.primary_name();
        let desired = primary_autoscaler(&scaler.name, &source, namespace, &primary, overrides, owner);
        Some((format!("{}-primary", scaler.name), desired))
    }

    /// What has to be mended first: what is most in the way.
    fn obstacle(
        &self,
        policy: &Policy,
        invalid: Option<String>,
        target: Option<&DeploymentView>,
        route: &RouteObserved,
    ) -> Option<Obstacle> {
        let unlabelled = target.and_then(|view| view.sides.as_ref().err()).map(ToString::to_string);
        let unreadable = self.caches.deployments.problem(&self.key(&self.spec.target_ref.name));
        unlabelled
            .or(unreadable.map(|text| text.to_string()))
            .map(Obstacle::Target)
            .or_else(|| self.foreign_primary().map(Obstacle::Primary))
            .or_else(|| unusable(route).map(Obstacle::Route))
            .or_else(|| invalid.map(Obstacle::Spec))
            .or_else(|| self.overlap().map(|overlap| Obstacle::Overlap(overlap.words)))
            .or_else(|| self.foreign_service().map(Obstacle::Service))
            .or_else(|| self.missing_autoscaler().map(Obstacle::Autoscaler))
            .or_else(|| self.foreign_autoscaler().map(Obstacle::Autoscaler))
            .or_else(|| self.unmeasurable(policy).map(Obstacle::Measurement))
    }

    /// A workload with primary's name that somebody else made.
    fn foreign_primary(&self) -> Option<String> {
        let view = self.primary().filter(|view| view.owner_uid.as_ref() != Some(&self.canary.owner.uid))?;
        Some(format!(
            "Deployment {}/{} exists and is not owned by this Canary: taking over an existing primary is not supported \
             yet; remove or rename it",
            self.canary.key.namespace, view.name
        ))
    }

    fn missing_autoscaler(&self) -> Option<String> {
        let scaler = self.spec.autoscaler_ref.as_ref()?;
        let is_there = self.caches.autoscalers.get(&self.key(&scaler.name)).is_some();
        (!is_there).then(|| {
            format!(
                "HorizontalPodAutoscaler {}/{} does not exist: create it or remove spec.autoscalerRef",
                self.canary.key.namespace, scaler.name
            )
        })
    }

    /// An autoscaler with the name of primary's that somebody else made: it scales something else.
    fn foreign_autoscaler(&self) -> Option<String> {
        let live = self.live_primary_autoscaler()?;
        let CanaryView { key, owner, .. } = self.canary;
        (live.owner_uid.as_ref() != Some(&owner.uid)).then(|| {
            format!(
                "HorizontalPodAutoscaler {}/{}-primary is not owned by Canary {}: it scales {}; rename it, or the one that \
                 spec.autoscalerRef names",
                key.namespace,
                self.spec.autoscaler_ref.as_ref().map(|scaler| scaler.name.as_str()).unwrap_or_default(),
                key.name,
                live.scales
            )
        })
    }

    /// A check that cannot be asked, as far as can be seen from here: what it names in Secrets is seen when providers are asked.
    fn unmeasurable(&self, policy: &Policy) -> Option<String> {
        let (canary, find) = (&self.canary.key, |key: &NamespacedName| self.template(key));
        let mut checks = policy.watch.checks.values().filter(|_| !policy.skip_analysis);
        checks.find_map(|check| queries::problem(canary, self.spec, check, &find))
    }

    /// A MetricTemplate; why it cannot be had, in words.
    pub(super) fn template(&self, key: &NamespacedName) -> Result<Arc<MetricTemplateSpec>, String> {
        match (self.caches.templates.get(key), self.caches.templates.problem(key)) {
            (Some(found), _) => Ok(found),
            (None, Some(problem)) => Err(format!("MetricTemplate {key} cannot be read: {problem}")),
            (None, None) => Err(format!("MetricTemplate {key} does not exist: create it or correct templateRef")),
        }
    }

    /// The route; of a Canary that is being deleted without what its services lead to.
    fn route(&self, deleting: bool) -> RouteObserved {
        let pair = self.pair();
        let Some(request) = self.route_request(pair.as_ref()) else { return RouteObserved::Missing };
        let live = self.caches.routes_in(&self.canary.key.namespace);
        match self.router.read(&request, &live) {
            RouteObserved::Present { routing, current, unaccepted } => {
                let current = current && (deleting || self.services_are_current(&request));
                RouteObserved::Present { routing, current, unaccepted }
            }
            other @ (RouteObserved::Missing | RouteObserved::Unusable(_)) => other,
        }
    }

    /// Whether the canary's Service leads to the target's pods.
    pub(super) fn reaches_target(&self) -> bool {
        let Some(pair) = self.pair() else { return true };
        let (Some(request), Some(pods)) = (self.route_request(Some(&pair)), pair.pods()) else { return true };
        let desired = self.services_of(&request, pods, Side::Candidate).canary;
        let live = self.caches.service(&self.key(desired["metadata"]["name"].as_str().unwrap_or_default()));
        live.is_some_and(|live| ServiceSet::update(&request, pods, &desired, &live).is_none())
    }

    fn services_are_current(&self, request: &RouteRequest<'_>) -> bool {
        // Without a target nothing can be said about them, and nothing is done.
        let Some(pods) = request.pods else { return true };
        // Where the apex leads is observed by itself.
        let apex = self.apex().unwrap_or(Side::Stable);
        self.services_of(request, pods, apex).in_order().into_iter().all(|desired| {
            let name = desired["metadata"]["name"].as_str().unwrap_or_default();
            let live = self.caches.service(&self.key(name));
            live.is_some_and(|live| {
                !request.is_left(&live) && ServiceSet::update(request, pods, desired, &live).is_none()
            })
        })
    }

    /// A Service that would become part of the pair and is somebody else's, in words.
    fn foreign_service(&self) -> Option<String> {
        let pair = self.pair()?;
        let request = self.route_request(Some(&pair))?;
        let pods = request.pods?;
        let service = request.service;
        let names = [service.to_owned(), format!("{service}-primary"), format!("{service}-canary")];
        names.iter().find_map(|name| {
            let live = self.caches.service(&self.key(name))?;
            if self.leads_to_former(&live) { None } else { ServiceSet::refuse(&request, pods, &live) }
        })
    }

    /// Whether a Service leads to a primary that this Canary made, be it of a former target, or to its predecessor.
    pub(super) fn leads_to_former(&self, service: &Value) -> bool {
        let selector = Labels::of(&service["spec"]["selector"]);
        let namespace = &self.canary.key.namespace;
        let names = selector.iter().flat_map(|(key, value)| self.caches.siblings.with(namespace, key, value));
        names.filter_map(|name| self.caches.deployments.get(&self.key(&name))).any(|found| {
            let is_former = found.owner_uid.as_ref() == Some(&self.canary.owner.uid) || self.precedes(&found);
            is_former && found.pod_labels.are_selected_by(&selector)
        })
    }

    /// Names of the Deployments whose pods the Service that this Canary wants leads to.
    pub(super) fn may_precede(&self) -> Vec<String> {
        let service = self.caches.service(&self.key(self.spec.service_name()));
        let selector = service.map(|service| Labels::of(&service["spec"]["selector"])).unwrap_or_default();
        let namespace = &self.canary.key.namespace;
        selector.iter().flat_map(|(key, value)| self.caches.siblings.with(namespace, key, value)).collect()
    }

    /// Whether a Deployment serves until this Canary has taken its service over.
    fn precedes(&self, found: &DeploymentView) -> bool {
        self.predecessor.as_ref() == Some(&found.name)
    }

    /// A Deployment whose pods this pair's Services would take for its own.
    pub(super) fn overlap(&self) -> Option<Overlap> {
        let target = self.target()?;
        let sides = target.sides.as_ref().ok()?;
        let namespace = &self.canary.key.namespace;
        let own = [&target.name, &self.primary_name()];
        let values = [sides.target_value().to_owned(), sides.primary_value()];
        let names = values.iter().flat_map(|value| self.caches.siblings.with(namespace, sides.key(), value));
        names.filter(|name| !own.contains(&name)).find_map(|name| {
            let other = self.caches.deployments.get(&self.key(&name))?;
            // What this Canary generated for a target of another name serves until it is gone, and so does its predecessor.
            if other.owner_uid.as_ref() == Some(&self.canary.owner.uid) || self.precedes(&other) {
                return None;
            }
            let selector = sides.takes(&other.pod_labels)?;
            let words = mixed_up(
                &format!("Deployment {namespace}/{}", target.name),
                &selector,
                &format!("Deployment {name}"),
            );
            Some(Overlap { name, words })
        })
    }

    /// What `spec.service` asks for and live Services can no longer become, in words.
    pub(super) fn fixed(&self) -> Option<String> {
        let request = self.route_request(None)?;
        ServiceSet::fixed(&request, &self.caches.service(&self.key(request.service))?)
    }
}

/// The command in the annotation, whether answered or not: the engine compares it with what it handled.
pub(super) fn request(canary: &CanaryView) -> Option<Request> {
    let raw = canary.request.as_ref()?;
    let mut parts = raw.splitn(3, '/');
    let verb = match parts.next()? {
        "promote" => Verb::Promote,
        "abort" => Verb::Abort,
        "retry" => Verb::Retry,
        "pause" => Verb::Pause,
        "resume" => Verb::Resume,
        "release" => Verb::Release,
        "quarantine" => Verb::Quarantine,
        other => {
            tracing::warn!(canary = %canary.key, verb = other, "request with an unknown verb is ignored");
            return None;
        }
    };
    Some(Request { verb, subject: parts.next().unwrap_or_default().to_owned(), raw: raw.clone() })
}

/// Target and primary as they are.
pub(super) struct Pair {
    target: Arc<DeploymentView>,
    primary: Option<Arc<DeploymentView>>,
}

impl Pair {
    /// The pods behind the Services; `None` if the sides cannot be told apart.
    pub(super) fn pods(&self) -> Option<Pods<'_>> {
        let Self { target, primary } = self;
        let sides = target.sides.as_ref().ok()?;
        let primary = primary.as_ref().map(|primary| &primary.pod_labels);
        Some(Pods { sides, target: &target.pod_labels, primary, ports: &target.ports })
    }
}

/// A Deployment whose pods cannot be told from the pair's.
pub(super) struct Overlap {
    pub(super) name: String,
    /// Why nothing may start.
    pub(super) words: String,
}

/// The router that a Canary means. One that is not there yet is refused before anything is read or written.
pub(super) fn router_for(spec: &CanarySpec) -> &'static dyn Router {
    let provider = spec.provider.unwrap_or(DEFAULT_PROVIDER);
    router_of(provider).unwrap_or(&Istio)
}

/// A route that must not be written, or that nobody follows as it is wanted: nothing else is begun either.
fn unusable(route: &RouteObserved) -> Option<String> {
    match route {
        RouteObserved::Unusable(reason)
        | RouteObserved::Present { current: true, unaccepted: Some(Unaccepted::Refused(reason)), .. } => {
            Some(reason.clone())
        }
        RouteObserved::Missing | RouteObserved::Present { .. } => None,
    }
}
