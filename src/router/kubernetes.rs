//! Plain Kubernetes: all users move at once, by the selector of the apex Service.

use serde_json::Value;

use crate::metrics::{BuiltIn, HTTP};
use crate::model::{Routing, Split};
use crate::release::RouteObserved;

use super::services::{Leads, SERVICE, ServiceSet, Update, services};
use super::{Capabilities, Change, FieldProblem, LiveRoutes, Mirror, RouteAsk, RouteKind, RouteRequest, Router};

/// The router for provider `kubernetes`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kubernetes;

impl Router for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn kinds(&self) -> &'static [RouteKind] {
        // Services are watched for every Canary.
        &[]
    }

    fn check(&self, _ask: &RouteAsk<'_>) -> Result<Capabilities, FieldProblem> {
        Ok(Capabilities { weights: false, rules: false, mirror: Mirror::Never, sticky: false })
    }

    fn ignores(&self, ask: &RouteAsk<'_>) -> Vec<&'static str> {
        let service = ask.spec;
        let fields = [
            ("spec.service.hosts", !service.hosts.is_empty()),
            ("spec.service.gateways", !service.gateways.is_empty()),
            ("spec.service.gatewayRefs", !service.gateway_refs.is_empty()),
            ("spec.service.delegation", service.delegation),
            ("spec.service.match", !service.match_.is_empty()),
            ("spec.service.rewrite", service.rewrite.is_some()),
            ("spec.service.timeout", service.timeout.is_some()),
            ("spec.service.backendTimeout", service.backend_timeout.is_some()),
            ("spec.service.retries", service.retries.is_some()),
            ("spec.service.mirror", !service.mirror.is_empty()),
            ("spec.service.headers", service.headers.is_some()),
            ("spec.service.corsPolicy", service.cors_policy.is_some()),
            ("spec.service.trafficPolicy", service.traffic_policy.is_some()),
        ];
        fields.into_iter().filter(|(_, is_set)| *is_set).map(|(path, _)| path).collect()
    }

    fn apex(&self, request: &RouteRequest<'_>, live: Option<&Value>) -> Option<Leads> {
        let leads = live.zip(request.pods).map(|(live, pods)| Leads::of(live, pods));
        Some(leads.unwrap_or(Leads::Stable))
    }

    fn read(&self, request: &RouteRequest<'_>, live: &dyn LiveRoutes) -> RouteObserved {
        let Some(pods) = request.pods else { return RouteObserved::Missing };
        let Some(apex) = live.get(SERVICE, request.service) else { return RouteObserved::Missing };
        // Before the pair is there, a Service of the user's leads to the target and always has: nothing shifts that yet.
        if live.get(SERVICE, &request.side("primary")).is_none() {
            return RouteObserved::Missing;
        }
        let routing = match Leads::of(&apex, pods) {
            Leads::Stable => Routing::default(),
            Leads::Candidate => Routing::candidate_percent(100),
            Leads::Elsewhere => Routing::all(Split::default().with_extra("elsewhere", 100)),
        };
        RouteObserved::Present { routing, current: true, unaccepted: None }
    }

    fn write(&self, request: &RouteRequest<'_>, live: &dyn LiveRoutes, want: &Routing) -> Vec<Change> {
        let Some(pods) = request.pods else { return Vec::new() };
        let leads = if want.base.candidate() == 100 { Leads::Candidate } else { Leads::Stable };
        let apex = live.get(SERVICE, request.service);
        let desired = services(request, pods, apex.as_ref(), leads).apex;
        let (kind, name) = (SERVICE, request.service.to_owned());
        let Some(found) = apex else { return vec![Change::Create { kind, object: desired }] };
        match ServiceSet::update(request, pods, &desired, &found) {
            None => Vec::new(),
            Some(Update::Merge(patch)) => vec![Change::Merge { kind, name, desired, patch }],
            Some(Update::Apply(applied)) => vec![Change::Apply { kind, name, desired, applied }],
        }
    }

    fn hand_back(&self, _request: &RouteRequest<'_>) -> Vec<(RouteKind, Value)> {
        Vec::new()
    }

    fn built_in(&self) -> &'static BuiltIn {
        &HTTP
    }
}
