//! Pods: each running one is a real HTTP server on loopback; only this registry knows which.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::load::Loads;

use super::podinfo;
use super::programs::{PodContext, Programs};
use super::routes::{Endpoint, name_of};
use super::telemetry::Workload;

/// What is at an address.
#[derive(Debug)]
pub(super) enum Target {
    /// A pod that listens here, and goes on listening for whoever was told so until the token is dropped: a request is
    /// answered or refused, whatever moment the pod stops at.
    Pod { socket: SocketAddr, workload: Workload, name: String, under_way: TaskTrackerToken },
    /// Something that was registered.
    Registered(SocketAddr),
    /// A pod without that port.
    Closed(Workload),
    /// Nothing.
    Nothing,
}

#[derive(Debug)]
struct Running {
    uid: String,
    socket: SocketAddr,
    name: String,
    labels: Arc<BTreeMap<String, String>>,
    workload: Workload,
    ports: Vec<u16>,
    stop: CancellationToken,
    /// Who was told where the pod listens and has no answer yet.
    under_way: TaskTracker,
    is_terminating: bool,
}

impl Running {
    /// Ends the pod's server once nobody is on the way to it any more; nobody new is told where it is.
    fn end(self) {
        let Self { stop, under_way, .. } = self;
        under_way.close();
        tokio::spawn(async move {
            tokio::select! {
                () = under_way.wait() => stop.cancel(),
                () = stop.cancelled() => {}
            }
        });
    }
}

#[derive(Debug, Default)]
struct Addresses {
    pods: HashMap<String, Running>,
    registered: HashMap<String, SocketAddr>,
}

/// The registry of pods and of other addresses.
#[derive(Debug, Clone)]
pub(super) struct Pods {
    addresses: Arc<Mutex<Addresses>>,
    programs: Programs,
    loads: Loads,
    speed: NonZeroU32,
    shutdown: CancellationToken,
}

impl Pods {
    pub(super) fn new(programs: Programs, loads: Loads, speed: NonZeroU32, shutdown: CancellationToken) -> Self {
        Self { addresses: Arc::default(), programs, loads, speed, shutdown }
    }

    fn lock(&self) -> MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(&self, ip: IpAddr, socket: SocketAddr) {
        self.lock().registered.insert(ip.to_string(), socket);
    }

    pub(super) fn target(&self, endpoint: &Endpoint) -> Target {
        let addresses = self.lock();
        if let Some(pod) = addresses.pods.get(&endpoint.ip) {
            // A pod that declares its ports listens on no other; one that declares none listens everywhere.
            return if pod.ports.is_empty() || pod.ports.contains(&endpoint.port) {
                Target::Pod {
                    socket: pod.socket,
                    workload: pod.workload.clone(),
                    name: pod.name.clone(),
                    under_way: pod.under_way.token(),
                }
            } else {
                Target::Closed(pod.workload.clone())
            };
        }
        addresses.registered.get(&endpoint.ip).map_or(Target::Nothing, |socket| Target::Registered(*socket))
    }

    /// The labels of the pod that has an address.
    pub(super) fn labels(&self, ip: &str) -> Option<Arc<BTreeMap<String, String>>> {
        self.lock().pods.get(ip).map(|pod| Arc::clone(&pod.labels))
    }

    /// Starts or stops what a pod's new state asks for. `proxy` is the forward proxy of the pod's namespace.
    pub(super) async fn apply(&self, pod: &Value, proxy: &str) {
        let Some(uid) = pod["metadata"]["uid"].as_str() else { return };
        let is_over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        if is_over {
            self.stop(uid);
        } else if let Some(deletion) = pod["metadata"]["deletionTimestamp"].as_str() {
            self.terminate(uid, deletion);
        } else if pod["status"]["phase"] == "Running"
            // A container that crashes or was never started listens nowhere.
            && pod["status"]["containerStatuses"][0]["state"].get("waiting").is_none()
            && let Some(ip) = pod["status"]["podIP"].as_str()
        {
            // By this name its proxy knows who asks.
            let proxy = proxy.replacen("://", &format!("://{ip}@"), 1);
            self.start(pod, uid, ip, &proxy).await;
        }
    }

    /// Stops every pod that is not among these.
    pub(super) fn retain(&self, uids: &[String]) {
        let gone: Vec<String> =
            self.lock().pods.values().filter(|pod| !uids.contains(&pod.uid)).map(|pod| pod.uid.clone()).collect();
        for uid in gone {
            self.stop(&uid);
        }
    }

    /// Takes no more connections for a pod; answers under way are finished.
    pub(super) fn stop(&self, uid: &str) {
        let stopped: Vec<(String, Running)> = self.lock().pods.extract_if(|_, pod| pod.uid == uid).collect();
        for (address, pod) in stopped {
            self.loads.forget(&address);
            pod.end();
        }
    }

    /// Lets a pod serve until its grace ends, which is what its deletion timestamp says.
    fn terminate(&self, uid: &str, deletion: &str) {
        {
            let mut addresses = self.lock();
            let Some(pod) = addresses.pods.values_mut().find(|pod| pod.uid == uid) else { return };
            if pod.is_terminating {
                return;
            }
            pod.is_terminating = true;
        }
        let grace = match deletion.parse::<jiff::Timestamp>() {
            Ok(end) => Duration::try_from(end.duration_since(jiff::Timestamp::now())).unwrap_or(Duration::ZERO),
            Err(error) => {
                tracing::warn!(uid, %error, "a pod's deletion timestamp cannot be read: it stops now");
                Duration::ZERO
            }
        };
        let (pods, uid) = (self.clone(), uid.to_owned());
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(grace) => pods.stop(&uid),
                () = pods.shutdown.cancelled() => {}
            }
        });
    }

    async fn start(&self, pod: &Value, uid: &str, ip: &str, proxy: &str) {
        if self.lock().pods.get(ip).is_some_and(|running| running.uid == uid) {
            return;
        }
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(ip, %error, "cannot listen for a pod: it refuses connections");
                return;
            }
        };
        let socket = match listener.local_addr() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(ip, %error, "cannot tell where a pod listens: it refuses connections");
                return;
            }
        };
        let stop = self.shutdown.child_token();
        let router = self.application(pod, proxy, &stop);
        let signal = stop.clone().cancelled_owned();
        let running = Running {
            uid: uid.to_owned(),
            socket,
            name: pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            labels: Arc::new(labels(pod)),
            workload: workload(pod),
            ports: ports(pod),
            stop,
            under_way: TaskTracker::new(),
            is_terminating: false,
        };
        tracing::debug!(ip, %socket, workload = running.workload.name, "pod serves");
        if let Some(former) = self.lock().pods.insert(ip.to_owned(), running) {
            former.end();
        }
        let ip = ip.to_owned();
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(signal).await {
                tracing::error!(ip, %error, "a pod's server failed");
            }
        });
    }

    fn application(&self, pod: &Value, proxy: &str, stop: &CancellationToken) -> Router {
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        let context = PodContext { proxy: proxy.to_owned(), speed: self.speed, stop: stop.clone() };
        self.programs.start(image, context).unwrap_or_else(|| podinfo::router(pod, self.loads.clone()))
    }
}

fn labels(pod: &Value) -> BTreeMap<String, String> {
    let labels = pod["metadata"]["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The workload that Istio reports: the Deployment behind a ReplicaSet whose name ends with the pod's template hash.
fn workload(pod: &Value) -> Workload {
    let metadata = &pod["metadata"];
    let name = name_of(pod);
    let owners = metadata["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    let owner = owners.iter().find(|owner| owner["controller"] == true);
    let workload = owner.and_then(|owner| {
        let owner_name = owner["name"].as_str()?;
        let hash = metadata["labels"]["pod-template-hash"].as_str().filter(|_| owner["kind"] == "ReplicaSet");
        let deployment = hash.and_then(|hash| owner_name.strip_suffix(hash)?.strip_suffix('-'));
        Some(deployment.unwrap_or(owner_name).to_owned())
    });
    let (namespace, pod_name) = name.map_or_else(Default::default, |name| (name.namespace, name.name));
    Workload { namespace, name: workload.unwrap_or(pod_name) }
}

fn ports(pod: &Value) -> Vec<u16> {
    let containers = pod["spec"]["containers"].as_array().map_or(&[][..], Vec::as_slice);
    containers
        .iter()
        .flat_map(|container| container["ports"].as_array().map_or(&[][..], Vec::as_slice))
        .filter_map(|port| port["containerPort"].as_u64().and_then(|port| u16::try_from(port).ok()))
        .collect()
}
