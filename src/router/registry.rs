//! Which router a Canary means.

use crate::api::Provider;

use super::Router;
use super::istio::{self, Istio};

/// What a Canary means that names no provider, as with Flagger's flag.
pub const DEFAULT_PROVIDER: Provider = Provider::Istio;

/// The router for a provider; `None` for one that is not there yet.
pub fn router_of(provider: Provider) -> Option<&'static dyn Router> {
    match provider {
        Provider::Istio => Some(&Istio),
        _ => None,
    }
}

/// Whether a kind is one that routers write under the name of the service.
pub fn is_route(group: &str, kind: &str) -> bool {
    [istio::VIRTUAL_SERVICE].iter().any(|route| (route.group, route.kind) == (group, kind))
}
