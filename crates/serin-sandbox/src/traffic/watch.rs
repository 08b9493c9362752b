//! Watches the cluster: pods at once, as a kubelet does; routes and endpoints with the delay of a mesh's control plane.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, pin_mut};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, utils::Backoff};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use serin_core::model::NamespacedName;

use super::hold::{Holds, Part};
use super::mesh::Mesh;
use super::proxy::Proxies;
use super::routes::{Change, Kind};

/// Group of Istio's kinds.
const ISTIO: &str = "networking.istio.io";
/// Group of Gateway API's kinds.
const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// Pause before a watch is tried again; the sandbox's API server is near.
const WATCH_RETRY: Duration = Duration::from_millis(250);
/// Pause between looks for a kind that is not installed yet.
const KIND_RETRY: Duration = Duration::from_millis(250);
/// Changes on their way; more wait in the watch.
const CHANGES_MAX: usize = 1_024;

/// How late the mesh takes changes up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Propagation {
    /// The latest.
    pub(super) max: Duration,
    pub(super) seed: u64,
}

/// The same pause every time.
struct Steady;

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(WATCH_RETRY)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

/// What to watch: group, version (`None`: whatever is served first), kind and plural.
pub(super) struct Watched {
    pub(super) kind: Kind,
    group: &'static str,
    version: Option<&'static str>,
    name: &'static str,
    plural: &'static str,
}

const SERVICES: Watched =
    Watched { kind: Kind::Service, group: "", version: Some("v1"), name: "Service", plural: "services" };
const LISTENERS: Watched =
    Watched { kind: Kind::Listeners, group: GATEWAY_API, version: None, name: "Gateway", plural: "gateways" };
const HTTP_ROUTES: Watched =
    Watched { kind: Kind::HttpRoute, group: GATEWAY_API, version: None, name: "HTTPRoute", plural: "httproutes" };

const ROUTES: [Watched; 6] = [
    SERVICES,
    Watched {
        kind: Kind::EndpointSlice,
        group: "discovery.k8s.io",
        version: Some("v1"),
        name: "EndpointSlice",
        plural: "endpointslices",
    },
    Watched { kind: Kind::Gateway, group: ISTIO, version: None, name: "Gateway", plural: "gateways" },
    Watched {
        kind: Kind::VirtualService,
        group: ISTIO,
        version: None,
        name: "VirtualService",
        plural: "virtualservices",
    },
    LISTENERS,
    HTTP_ROUTES,
];

/// What a gateway controller looks at.
pub(super) const OF_GATEWAYS: [Watched; 3] = [SERVICES, LISTENERS, HTTP_ROUTES];

/// Starts the watches that feed the mesh.
pub(super) fn routes(
    client: &Client,
    mesh: &Arc<Mesh>,
    propagation: Propagation,
    holds: &Holds,
    shutdown: &CancellationToken,
) {
    for (index, watched) in ROUTES.iter().enumerate() {
        let (sender, receiver) = mpsc::channel(CHANGES_MAX);
        // A generator for each kind, so that one kind's changes do not move another's.
        let random = fastrand::Rng::with_seed(propagation.seed.wrapping_add(index as u64 + 1));
        let feed = feed(client.clone(), watched, sender, propagation.max, random);
        let stop = shutdown.clone();
        tokio::spawn(async move { stop.run_until_cancelled(feed).await });
        let (mesh, stop, held) = (Arc::clone(mesh), shutdown.clone(), holds.watch(Part::of(watched.kind)));
        tokio::spawn(async move { stop.run_until_cancelled(take_up(receiver, mesh, held)).await });
    }
}

type Due = (Instant, Change);

/// Sends each change with the time at which the mesh learns of it. Changes of a kind stay in order.
async fn feed(
    client: Client,
    watched: &Watched,
    sender: mpsc::Sender<Due>,
    max: Duration,
    mut random: fastrand::Rng,
) {
    let resource = served(&client, watched).await;
    let changes = changes_of(client, watched.kind, &resource);
    pin_mut!(changes);
    let mut last = Instant::now();
    while let Some(change) = changes.next().await {
        last = last.max(Instant::now() + max.mul_f64(random.f64()));
        if sender.send((last, change)).await.is_err() {
            return;
        }
    }
}

/// Changes of the snapshot.
pub(super) fn changes_of(
    client: Client,
    kind: Kind,
    resource: &ApiResource,
) -> impl Stream<Item = Change> + use<> {
    changes(client, resource).filter_map(move |seen| {
        std::future::ready(match seen {
            Seen::Applied(object) => Some(Change::Apply(kind, object)),
            Seen::Deleted(object) => super::routes::name_of(&object).map(|name| Change::Delete(kind, name)),
            Seen::All(objects) => Some(Change::Replace(kind, objects)),
        })
    })
}

async fn take_up(mut receiver: mpsc::Receiver<Due>, mesh: Arc<Mesh>, mut held: Option<watch::Receiver<usize>>) {
    while let Some((due, change)) = receiver.recv().await {
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        if let Some(held) = &mut held {
            // Nobody is left who could hold it: then it is not held.
            held.wait_for(|holds| *holds == 0).await.map(drop).unwrap_or_default();
        }
        mesh.apply(change);
    }
}

/// Watches pods and lets the registry follow.
pub(super) async fn pods(client: Client, mesh: Arc<Mesh>, mut proxies: Proxies) {
    let resource = resource("", "v1", "Pod", "pods");
    let changes = changes(client, &resource);
    pin_mut!(changes);
    while let Some(change) = changes.next().await {
        match change {
            Seen::Applied(pod) => apply_pod(&mesh, &mut proxies, &pod).await,
            Seen::Deleted(pod) => {
                if let Some(uid) = pod["metadata"]["uid"].as_str() {
                    mesh.pods.stop(uid);
                }
            }
            Seen::All(pods) => {
                let uids: Vec<String> =
                    pods.iter().filter_map(|pod| pod["metadata"]["uid"].as_str().map(str::to_owned)).collect();
                mesh.pods.retain(&uids);
                for pod in &pods {
                    apply_pod(&mesh, &mut proxies, pod).await;
                }
            }
        }
    }
}

async fn apply_pod(mesh: &Mesh, proxies: &mut Proxies, pod: &Value) {
    let Some(NamespacedName { namespace, .. }) = super::routes::name_of(pod) else { return };
    match proxies.open(&namespace, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await {
        Ok(proxy) => mesh.pods.apply(pod, &proxy).await,
        Err(error) => {
            tracing::error!(namespace, %error, "cannot listen for a namespace's clients: its pods do not start")
        }
    }
}

/// What a watch has seen.
enum Seen {
    Applied(Value),
    Deleted(Value),
    All(Vec<Value>),
}

fn changes(client: Client, resource: &ApiResource) -> impl Stream<Item = Seen> + use<> {
    let kind = resource.kind.clone();
    let api: Api<DynamicObject> = Api::all_with(client, resource);
    let events = watcher(api, watcher::Config::default()).backoff(Steady);
    let mut listed: Vec<Value> = Vec::new();
    events.filter_map(move |event| {
        let seen = match event {
            Ok(Event::Apply(object)) => json(object).map(Seen::Applied),
            Ok(Event::Delete(object)) => json(object).map(Seen::Deleted),
            Ok(Event::Init) => {
                listed.clear();
                None
            }
            Ok(Event::InitApply(object)) => {
                listed.extend(json(object));
                None
            }
            Ok(Event::InitDone) => Some(Seen::All(std::mem::take(&mut listed))),
            Err(error) => {
                tracing::debug!(kind, %error, "a watch is interrupted");
                None
            }
        };
        std::future::ready(seen)
    })
}

fn json(object: DynamicObject) -> Option<Value> {
    let name = object.name_any();
    serde_json::to_value(object)
        .inspect_err(|error| tracing::warn!(name, %error, "an object cannot be read and is left out"))
        .ok()
}

/// The resource to watch, once the API server serves it.
pub(super) async fn served(client: &Client, watched: &Watched) -> ApiResource {
    let Watched { group, version, name, plural, .. } = watched;
    if let Some(version) = version {
        return resource(group, version, name, plural);
    }
    loop {
        match client.list_api_groups().await {
            Ok(groups) => {
                let found = groups.groups.into_iter().find(|served| served.name == *group);
                let version =
                    found.and_then(|served| served.preferred_version.or(served.versions.into_iter().next()));
                if let Some(version) = version {
                    return resource(group, &version.version, name, plural);
                }
            }
            Err(error) => tracing::debug!(%error, "cannot ask the API server for its groups"),
        }
        tokio::time::sleep(KIND_RETRY).await;
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}
