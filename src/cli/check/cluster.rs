//! The API server, what it serves, and the daemon's place in it.

use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::{Line, World};
use crate::api::{self, Canary, Keeps, keeps_serin_status};
use crate::cluster::{call, explain};
use crate::router::{DEFAULT_PROVIDER, router_of};

/// Oldest minor version of Kubernetes 1 whose API is all that is used: HorizontalPodAutoscaler v2 came with it.
const MINOR_MIN: u32 = 26;
/// Clocks that differ by more make dates in Git and in status disagree.
const SKEW_WARN: SignedDuration = SignedDuration::from_secs(5);
/// Clocks that differ by more make tokens and certificates invalid.
const SKEW_FAIL: SignedDuration = SignedDuration::from_secs(60);
/// What installs the definitions.
const INSTALL: &str = "serin crds | kubectl apply --server-side -f -";

pub(super) async fn server(world: &World) -> Line {
    const WHAT: &str = "API server";
    let at = match world.cluster.server() {
        "" => "in this process",
        server => server,
    };
    match call("ask the API server for its version", world.cluster.client().apiserver_version()).await {
        Err(error) => Line::fail(
            WHAT,
            format!("{at} does not answer: {}", explain(&error)),
            "see that it is up, and that --kubeconfig and --context name it",
        ),
        Ok(version) => {
            let number = |text: &str| text.trim_end_matches('+').parse::<u32>().unwrap_or(0);
            let words = format!("{at} is {}", version.git_version);
            match (number(&version.major), number(&version.minor)) {
                (1, minor) if minor < MINOR_MIN => {
                    Line::fail(WHAT, words, format!("Kubernetes 1.{MINOR_MIN} or newer is needed"))
                }
                _ => Line::pass(WHAT, words),
            }
        }
    }
}

pub(super) fn clock(world: &World) -> Line {
    const WHAT: &str = "clock";
    let skew = (world.now)().duration_since(world.cluster.clock().now()).abs();
    let words = format!("this machine and the API server differ by {} s", skew.as_secs());
    let remedy =
        "run a time service (chrony, systemd-timesyncd) on the nodes: tokens and dates in Git depend on it";
    match () {
        () if skew > SKEW_FAIL => Line::fail(WHAT, words, remedy),
        () if skew > SKEW_WARN => Line::warn(WHAT, words, remedy),
        () => Line::pass(WHAT, "this machine and the API server agree"),
    }
}

pub(super) async fn namespace(world: &World) -> Line {
    const WHAT: &str = "namespace";
    let name = &world.settings.lease.namespace;
    let api: Api<Namespace> = Api::all(world.cluster.client());
    match call("read the namespace", api.get_opt(name)).await {
        Ok(Some(_)) => Line::pass(WHAT, format!("{name} is there")),
        Ok(None) => Line::fail(
            WHAT,
            format!("{name} does not exist: lease and inventory have no place"),
            format!(
                "kubectl apply -k deploy/kustomize, or kubectl create namespace {name}; lease.namespace names another"
            ),
        ),
        Err(error) => {
            Line::warn(WHAT, format!("{name} cannot be read: {}", explain(&error)), "allow get on namespaces")
        }
    }
}

pub(super) async fn definitions(world: &World) -> Vec<Line> {
    let api: Api<CustomResourceDefinition> = Api::all(world.cluster.client());
    let mut lines = Vec::new();
    for ours in api::crds() {
        let name = ours.metadata.name.unwrap_or_default();
        lines.push(definition(&name, call("read the definition", api.get_opt(&name)).await));
    }
    lines
}

fn definition(name: &str, found: Result<Option<CustomResourceDefinition>, crate::cluster::CallError>) -> Line {
    const WHAT: &str = "definitions";
    let found = match found {
        Ok(Some(found)) => found,
        Ok(None) => return Line::fail(WHAT, format!("{name} is not installed"), INSTALL),
        Err(error) => {
            let words = format!("{name} cannot be read: {}", explain(&error));
            return Line::warn(WHAT, words, "ask as somebody who may read definitions");
        }
    };
    let established = found.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let refused = established
        .into_iter()
        .find(|it| it.status == "False" && ["Established", "NamesAccepted"].contains(&it.type_.as_str()));
    if let Some(refused) = refused {
        let why = refused.message.clone().unwrap_or_default();
        return Line::fail(
            WHAT,
            format!("{name} is not served: {why}"),
            "remove what stands in its way, and apply it again",
        );
    }
    if name != "canaries.flagger.app" {
        return Line::pass(WHAT, format!("{name} is served"));
    }
    match keeps_serin_status(&found) {
        Keeps::All => Line::pass(WHAT, format!("{name} is served, and keeps what is written")),
        Keeps::Not(field) => {
            Line::fail(WHAT, format!("{name} is of an earlier version and drops {field}"), INSTALL)
        }
        Keeps::Nothing => {
            Line::fail(WHAT, format!("{name} is Flagger's and drops status.serin: no state survives"), INSTALL)
        }
    }
}

/// The Canaries, as far as they can be read.
pub(super) async fn canaries(world: &World) -> Vec<Canary> {
    let client = world.cluster.client();
    let api: Api<Canary> = match world.settings.namespace.as_deref() {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    call("list Canaries", api.list(&ListParams::default())).await.map(|list| list.items).unwrap_or_default()
}

/// The kinds of the routers that Canaries name; without any, of the default one.
pub(super) async fn mesh(world: &World, canaries: &[Canary]) -> Vec<Line> {
    const WHAT: &str = "mesh";
    let mut providers: Vec<_> = canaries.iter().map(|it| it.spec.provider.unwrap_or(DEFAULT_PROVIDER)).collect();
    if providers.is_empty() {
        providers.push(DEFAULT_PROVIDER);
    }
    let mut routers: Vec<_> = providers.into_iter().filter_map(router_of).collect();
    routers.sort_by_key(|router| router.name());
    routers.dedup_by_key(|router| router.name());
    let mut lines = Vec::new();
    for router in routers {
        let mut missing = Vec::new();
        for kind in router.kinds() {
            let mut served = Err(String::new());
            for version in kind.versions {
                served =
                    world.cluster.resolve(kind.group, version, kind.kind).await.map_err(|error| explain(&error));
                if served.is_ok() {
                    break;
                }
            }
            missing.extend(served.err());
        }
        lines.push(match missing.first() {
            None => Line::pass(WHAT, format!("the kinds of provider {} are served", router.name())),
            Some(why) => Line::fail(
                WHAT,
                format!("provider {}: {why}", router.name()),
                "install it, or name another in spec.provider: its Canaries are blocked until then",
            ),
        });
    }
    lines
}

pub(super) async fn daemon(world: &World) -> Line {
    const WHAT: &str = "daemon";
    let lease = &world.settings.lease;
    if !lease.enabled {
        return Line::warn(
            WHAT,
            "there is no lease: two daemons would work against each other",
            "set lease.enabled: true",
        );
    }
    let api: Api<Lease> = Api::namespaced(world.cluster.client(), &lease.namespace);
    match call("read the lease", api.get_opt(&lease.name)).await {
        Ok(Some(found)) => {
            let spec = found.spec.clone().unwrap_or_default();
            match spec.holder_identity.filter(|holder| !holder.is_empty()) {
                Some(holder) => {
                    Line::pass(WHAT, format!("lease {}/{} is held by {holder}", lease.namespace, found.name_any()))
                }
                None => Line::pass(WHAT, "none runs: nobody holds the lease"),
            }
        }
        Ok(None) => Line::pass(WHAT, "none has run yet: there is no lease"),
        Err(error) => {
            Line::warn(WHAT, format!("the lease cannot be read: {}", explain(&error)), "allow get on leases")
        }
    }
}
