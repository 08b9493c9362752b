//! What shifts traffic: one file per router behind one trait, and the three Services below all of them.
//!
//! Pure: routers render objects, read weights from live ones and say what to patch. Who writes it is `controller::act`.
//! Weights are an input of rendering, so mending anything else in a route never resets them.

mod diff;
mod istio;
mod metadata;
mod services;

use serde_json::Value;

use crate::api::CanaryService;
use crate::model::Routing;
use crate::release::RouteObserved;
use crate::workload::{Owner, is_left_to};

pub use diff::{merge_diff, merge_update, strip};
pub use istio::Istio;
pub use metadata::has_metadata_of;
pub use services::{Pods, ServiceSet, Update, services};

/// What a route is rendered from.
#[derive(Debug, Clone)]
pub struct RouteRequest<'a> {
    /// The Canary's namespace.
    pub namespace: &'a str,
    /// The apex service's name.
    pub service: &'a str,
    /// The Canary's `spec.service`.
    pub spec: &'a CanaryService,
    /// The Canary.
    pub owner: &'a Owner,
    /// The target's name.
    pub target: &'a str,
}

impl RouteRequest<'_> {
    /// Whether a live object is what an earlier Canary left to the target when it was deleted: nobody's, to be taken up.
    pub fn is_left(&self, live: &Value) -> bool {
        !self.owner.controls(live) && is_left_to(live, self.target)
    }

    /// Whether the route binds to a gateway, whose port says nothing about the Service's.
    pub(crate) fn is_behind_gateway(&self) -> bool {
        let CanaryService { gateways, delegation, .. } = self.spec;
        *delegation || gateways.first().is_some_and(|gateway| gateway != istio::MESH_GATEWAY)
    }
}

/// A kind that a router writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKind {
    /// API group.
    pub group: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Plural.
    pub plural: &'static str,
}

/// Live route objects by kind and name, in the namespace of the request.
pub trait LiveRoutes {
    /// The object, stripped of what does not matter ([`strip`]).
    fn get(&self, kind: RouteKind, name: &str) -> Option<Value>;
}

/// A change of what the routing says only.
#[derive(Debug, Clone, PartialEq)]
pub struct Shift {
    /// The kind of the route object.
    pub kind: RouteKind,
    /// Its name.
    pub name: String,
    /// JSON Patch, with `test` on the resourceVersion and on both destinations.
    pub patch: Value,
}

/// Renders, reads and shifts one kind of route.
pub trait Router: Send + Sync {
    /// The kinds it writes, in the order in which they are written.
    fn kinds(&self) -> &'static [RouteKind];

    /// Why this Canary cannot be routed, in words.
    fn refuse(&self, request: &RouteRequest<'_>) -> Option<String>;

    /// The generated objects, in the order in which they are written, without apiVersion: it is discovered.
    fn render(&self, request: &RouteRequest<'_>, routing: &Routing) -> Vec<(RouteKind, Value)>;

    /// The route as it stays behind without the Canary: all requests go to the apex service. Without apiVersion.
    fn leave(&self, request: &RouteRequest<'_>) -> (RouteKind, Value);

    /// What the live objects say.
    fn observe(&self, request: &RouteRequest<'_>, live: &dyn LiveRoutes) -> RouteObserved;

    /// How to bring the live route to `routing`; `None` if it is not there or already shows it.
    fn shift(&self, request: &RouteRequest<'_>, live: &dyn LiveRoutes, routing: &Routing) -> Option<Shift>;
}
