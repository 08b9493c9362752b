//! What shifts traffic: one file per router behind one trait, and the three Services below all of them.
//!
//! Pure: routers read a [`Routing`] from live objects and say what has to change for another one. Who writes it is
//! `controller::act`. A routing is an input of rendering, so mending anything else in a route never resets it.

mod diff;
mod gateway_api;
mod hosts;
mod istio;
mod kubernetes;
mod matches;
mod metadata;
mod plan;
mod registry;
mod services;

use serde_json::Value;

use crate::api::CanaryService;
use crate::metrics::BuiltIn;
use crate::model::{NamespacedName, Routing, Rule};
use crate::release::RouteObserved;
use crate::workload::{Owner, is_left_to};

pub use diff::{merge_diff, merge_update, strip, strip_but_status};
pub use istio::{DESTINATION_RULE, Istio, VIRTUAL_SERVICE};
pub use matches::merged as merged_matches;
pub use metadata::has_metadata_of;
pub use registry::{DEFAULT_PROVIDER, providers, router_of};
pub use services::{Leads, Pods, SERVICE, ServiceSet, Update, services};

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
    /// A Deployment that Git has dropped, to whose pods the service leads until this Canary has taken it over.
    pub predecessor: Option<&'a str>,
    /// The pods behind the Services, as far as the sides can be told apart.
    pub pods: Option<Pods<'a>>,
}

impl RouteRequest<'_> {
    /// `<service>-primary` or `<service>-canary`.
    fn side(&self, side: &str) -> String {
        format!("{}-{side}", self.service)
    }

    /// Whether a live object is what an earlier Canary left to the target, or to the one before it, when it was deleted:
    /// nobody's, to be taken up.
    pub fn is_left(&self, live: &Value) -> bool {
        let heirs = [Some(self.target), self.predecessor];
        !self.owner.controls(live) && heirs.into_iter().flatten().any(|heir| is_left_to(live, heir))
    }

    /// Whether a live object is this Canary's whole: it made it, or takes up what an earlier one made.
    fn has(&self, live: &Value) -> bool {
        self.owner.controls(live) || self.is_left(live)
    }

    /// Whether the route binds to a gateway, whose port says nothing about the Service's.
    pub(crate) fn is_behind_gateway(&self) -> bool {
        let CanaryService { gateways, delegation, .. } = self.spec;
        *delegation || gateways.first().is_some_and(|gateway| gateway != istio::MESH_GATEWAY)
    }

    /// Why a live object must not be written, if it is somebody else's.
    fn foreign(&self, kind: RouteKind, name: &str, live: &Value) -> Option<String> {
        if self.has(live) {
            return None;
        }
        let (RouteKind { kind, .. }, namespace, owner) = (kind, self.namespace, &self.owner.name);
        Some(format!(
            "{kind} {namespace}/{name} is not owned by Canary {owner}: taking over an existing route is not supported yet; \
             remove it or give the Canary another spec.service.name"
        ))
    }
}

/// What is asked of a router before anything is rendered.
#[derive(Debug, Clone, Copy)]
pub struct RouteAsk<'a> {
    /// The Canary's namespace.
    pub namespace: &'a str,
    /// The Canary's `spec.service`.
    pub spec: &'a CanaryService,
    /// The rules of its steps.
    pub rules: &'a [Rule],
}

/// A kind that a router reads and writes. It need not be served: only the Canaries that need it wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKind {
    /// API group.
    pub group: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Versions that are read and written alike, most wanted first.
    pub versions: &'static [&'static str],
    /// What brings its definition, in words.
    pub comes_with: &'static str,
    /// Whether its status says if it is followed.
    pub has_status: bool,
}

/// Live route objects.
pub trait LiveRoutes {
    /// The object of the request's namespace, stripped of what does not matter ([`strip`]).
    fn get(&self, kind: RouteKind, name: &str) -> Option<Value>;

    /// The same of any namespace.
    fn find(&self, kind: RouteKind, key: &NamespacedName) -> Seen;
}

/// An object, as far as it can be seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// It is there.
    There(Value),
    /// It is not.
    Gone,
    /// Its namespace is not watched.
    Hidden,
}

/// One change of a route object.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It does not exist.
    Create {
        /// Its kind.
        kind: RouteKind,
        /// Without apiVersion: it is discovered.
        object: Value,
    },
    /// It differs.
    Merge {
        /// Its kind.
        kind: RouteKind,
        /// Its name.
        name: String,
        /// What it is to become.
        desired: Value,
        /// The merge patch that leads there, with the resourceVersion it is based on.
        patch: Value,
    },
    /// It is somebody else's: some fields of it are taken by a forced server-side apply.
    Apply {
        /// Its kind.
        kind: RouteKind,
        /// Its name.
        name: String,
        /// What it is to become.
        desired: Value,
        /// The apply, with the resourceVersion it is based on.
        applied: Value,
    },
    /// It is a user's: only some values change.
    Patch {
        /// Its kind.
        kind: RouteKind,
        /// Its name.
        name: String,
        /// JSON Patch, with tests of the resourceVersion and of whatever else it expects.
        patch: Value,
        /// The resourceVersion that it is based on.
        version: Option<String>,
    },
}

/// What a router can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Any share between none and all.
    pub weights: bool,
    /// Requests that are treated apart.
    pub rules: bool,
    /// Copies of requests.
    pub mirror: Mirror,
    /// Cookies.
    pub sticky: bool,
}

/// Which copies of requests a router can send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirror {
    /// None.
    Never,
    /// Of all requests.
    All,
    /// Of any share of them.
    Share,
}

/// A field that a router cannot carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// `spec.service.hosts[0]`.
    pub path: String,
    /// What is wrong with it, and what helps.
    pub message: String,
}

/// Renders, reads and shifts one kind of route.
pub trait Router: Send + Sync {
    /// Flagger's name of it, as `spec.provider` has it.
    fn name(&self) -> &'static str;

    /// The kinds it reads and writes.
    fn kinds(&self) -> &'static [RouteKind];

    /// What it can do for a Canary like this.
    ///
    /// # Errors
    /// With a field that it cannot carry out.
    fn check(&self, ask: &RouteAsk<'_>) -> Result<Capabilities, FieldProblem>;

    /// Fields of `spec.service` that are accepted and have no effect with this router.
    fn ignores(&self, ask: &RouteAsk<'_>) -> Vec<&'static str>;

    /// What it looks at besides the route and the Services of the Canary's own names: a change there wakes the Canary.
    fn needs(&self, _request: &RouteRequest<'_>) -> Vec<NamespacedName> {
        Vec::new()
    }

    /// Where the apex Service leads while the rest of it is put right, if it is what shifts traffic.
    fn apex(&self, _request: &RouteRequest<'_>, _live: Option<&Value>) -> Option<Leads> {
        None
    }

    /// What the live objects say.
    fn read(&self, request: &RouteRequest<'_>, live: &dyn LiveRoutes) -> RouteObserved;

    /// What has to change for the route to say `want`, in order; nothing if it does.
    fn write(&self, request: &RouteRequest<'_>, live: &dyn LiveRoutes, want: &Routing) -> Vec<Change>;

    /// The routes as they stay behind without the Canary: all requests go to the apex service. Without apiVersion.
    fn hand_back(&self, request: &RouteRequest<'_>) -> Vec<(RouteKind, Value)>;

    /// The built-in checks, asked of the metrics that this router's proxies export.
    fn built_in(&self) -> &'static BuiltIn;
}

/// Whether a live object is as `desired`, in what we say of it.
fn is_current(live: &dyn LiveRoutes, kind: RouteKind, desired: &Value) -> bool {
    let found = live.get(kind, name_of(desired));
    found.is_some_and(|live| live["spec"] == desired["spec"] && has_metadata_of(&live, desired))
}

/// What brings one object to `desired`; `None` if it is so.
fn bring(live: &dyn LiveRoutes, kind: RouteKind, desired: Value) -> Option<Change> {
    let name = name_of(&desired).to_owned();
    match live.get(kind, &name) {
        None => Some(Change::Create { kind, object: desired }),
        Some(_) if is_current(live, kind, &desired) => None,
        Some(found) => {
            let patch = merge_update(&found, &desired);
            Some(Change::Merge { kind, name, desired, patch })
        }
    }
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}
