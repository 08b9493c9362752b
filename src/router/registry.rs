//! Which router a Canary means.

use crate::api::Provider;

use super::Router;
use super::gateway_api::{GATEWAY_API_V1, GATEWAY_API_V1BETA1};
use super::istio::Istio;
use super::kubernetes::Kubernetes;

/// What a Canary means that names no provider, as with Flagger's flag.
pub const DEFAULT_PROVIDER: Provider = Provider::Istio;

/// The router for a provider; `None` for one that is not there yet.
pub fn router_of(provider: Provider) -> Option<&'static dyn Router> {
    match provider {
        Provider::Istio => Some(&Istio),
        Provider::GatewayApiV1 => Some(&GATEWAY_API_V1),
        Provider::GatewayApiV1Beta1 => Some(&GATEWAY_API_V1BETA1),
        Provider::Kubernetes => Some(&Kubernetes),
        Provider::Apisix
        | Provider::AppMesh
        | Provider::AppMeshV1Beta2
        | Provider::Contour
        | Provider::Gloo
        | Provider::Knative
        | Provider::Kuma
        | Provider::Linkerd
        | Provider::Nginx
        | Provider::Osm
        | Provider::Skipper
        | Provider::SmiV1Alpha1
        | Provider::SmiV1Alpha2
        | Provider::SmiV1Alpha3
        | Provider::Traefik => None,
    }
}

/// The names of those that are there, in words.
pub fn providers() -> String {
    let all: [&dyn Router; 4] = [&Istio, &GATEWAY_API_V1, &GATEWAY_API_V1BETA1, &Kubernetes];
    all.map(Router::name).join(", ")
}
