//! The node `sandbox`: scheduler and kubelet in one. It binds pods to itself, gives them addresses, runs them (in name:
//! what answers for them watches the pods too), makes them ready and, when they are deleted, lets them go after a grace.

mod addresses;
mod heartbeat;
mod life;
mod script;
mod status;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::objects::has_ended;
use super::runner::drive;
use super::watch::{Reflector, Wakes};
use super::{ControllerError, ControllerOptions};
use crate::clock::Clock;
use addresses::{Addresses, NETWORK};
use life::{Moment, Pace};
use status::name_of;

/// The node's name.
pub(crate) const NODE: &str = "sandbox";
/// The node's address; nothing listens there.
const NODE_ADDRESS: &str = "10.41.0.1";
/// Who the node says it is in `managedFields`.
const KUBELET: &str = "kubelet";
/// The scheduler whose pods the node takes.
const SCHEDULER: &str = "default-scheduler";
/// Grace period of a pod that does not say (the API server's default).
const DEFAULT_GRACE: i64 = 30;
/// Pods worked on at a time: starting pods is what a rollout waits for.
const CONCURRENCY: u16 = 16;

/// What the node knows beyond the API.
pub(super) struct Node {
    client: Client,
    clock: Clock,
    pace: Pace,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    addresses: Addresses,
    /// When a pod was started or its end began, by uid; a restart of the node begins anew.
    since: HashMap<String, Since>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Since {
    started: Option<Instant>,
    ending: Option<Instant>,
}

/// Starts the node on `tasks`, fed by the pods' reflector.
pub(super) fn spawn(
    tasks: &mut JoinSet<()>,
    client: &Client,
    options: &ControllerOptions,
    pods: &mut Reflector<Pod>,
    shutdown: &CancellationToken,
) {
    let ControllerOptions {
        parts: _,
        readiness_delay,
        max_grace,
        autoscaler_delay: _,
        clock,
        heartbeat,
        speed,
        loads: _,
    } = options;
    let node = Arc::new(Node {
        client: client.clone(),
        clock: *clock,
        pace: Pace { readiness_delay: *readiness_delay, max_grace: *max_grace, speed: *speed },
        memory: Mutex::new(Memory { addresses: Addresses::new(), since: HashMap::new() }),
    });
    let wakes: Wakes<ObjectRef<Pod>> = Wakes::new();
    let (wake, memory) = (wakes.clone(), Arc::clone(&node));
    pods.on_change(move |change| match change.after {
        Some(pod) => {
            memory.note_address(pod);
            wake.wake(ObjectRef::from_obj(pod));
        }
        None => memory.forget(change.before),
    });
    let config = Config::default().concurrency(CONCURRENCY);
    tasks.spawn(drive(vec![pods.listed()], pods.store(), wakes, config, node, reconcile, shutdown.clone()));
    tasks.spawn(heartbeat::run(client.clone(), *clock, *heartbeat, shutdown.clone()));
}

async fn reconcile(pod: Arc<Pod>, node: Arc<Node>) -> Result<Action, ControllerError> {
    let Some(uid) = pod.uid() else { return Ok(Action::await_change()) };
    let spec = pod.spec.clone().unwrap_or_default();
    match spec.node_name.as_deref() {
        Some(NODE) => {}
        Some(_) => return Ok(Action::await_change()),
        None => return node.bind(&pod, spec.scheduler_name.as_deref()).await,
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return node.end(&pod, &uid).await;
    }
    if has_ended(&pod) {
        return Ok(Action::await_change());
    }
    node.start(&pod, &uid).await
}

impl Node {
    async fn bind(&self, pod: &Pod, scheduler: Option<&str>) -> Result<Action, ControllerError> {
        if pod.metadata.deletion_timestamp.is_some() || scheduler.unwrap_or(SCHEDULER) != SCHEDULER {
            return Ok(Action::await_change());
        }
        let binding = Binding {
            metadata: ObjectMeta {
                name: pod.metadata.name.clone(),
                namespace: pod.namespace(),
                // The API server refuses to bind another pod of the same name.
                uid: pod.uid(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(NODE.to_owned()),
                ..ObjectReference::default()
            },
        };
        let params = PostParams { field_manager: Some(SCHEDULER.to_owned()), ..PostParams::default() };
        let answer =
            self.pods(pod)?.create_subresource::<_, Status>("binding", &pod.name_any(), &params, &binding).await;
        match answer {
            Ok(_) => Ok(Action::await_change()),
            // Gone, or bound by a scheduler meanwhile: the watch tells.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(Action::await_change())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn start(&self, pod: &Pod, uid: &str) -> Result<Action, ControllerError> {
        let address = self.address(pod, uid)?;
        let age = self.age(uid, |since| &mut since.started);
        let (moment, left) = life::at(pod, age, self.pace);
        // A pod that was ready before this node began stays so.
        let keeps = left.is_some() && moment == (Moment::Running { ready: false }) && status::is_ready(pod);
        let next = status::of(pod, &address, &moment, &self.clock.stamp());
        if !keeps && status::differs(pod.status.as_ref(), &next) {
            let mut changed = pod.clone();
            changed.status = Some(next);
            let params = PostParams { field_manager: Some(KUBELET.to_owned()), ..PostParams::default() };
            self.pods(pod)?.replace_status(&pod.name_any(), &params, &changed).await?;
        }
        Ok(left.filter(|_| !keeps).map_or_else(Action::await_change, Action::requeue))
    }

    async fn end(&self, pod: &Pod, uid: &str) -> Result<Action, ControllerError> {
        let asked = pod.metadata.deletion_grace_period_seconds.unwrap_or(DEFAULT_GRACE);
        if asked == 0 {
            // Already ended; someone's finalizer keeps the object.
            return Ok(Action::await_change());
        }
        let grace = life::lingers(pod, Duration::from_secs(u64::try_from(asked).unwrap_or(0)), self.pace);
        let left = grace.saturating_sub(self.age(uid, |since| &mut since.ending));
        if !left.is_zero() {
            return Ok(Action::requeue(left));
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        match self.pods(pod)?.delete(&pod.name_any(), &params).await {
            Ok(_) => Ok(Action::await_change()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Action::await_change()),
            Err(error) => Err(error.into()),
        }
    }

    fn address(&self, pod: &Pod, uid: &str) -> Result<String, ControllerError> {
        if let Some(address) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()) {
            return Ok(address);
        }
        let address = self.memory(|memory| memory.addresses.give(uid));
        address.map(|address| address.to_string()).ok_or(ControllerError::NoAddress { network: NETWORK })
    }

    /// How long ago the pod first came to this point of its life.
    fn age(&self, uid: &str, point: fn(&mut Since) -> &mut Option<Instant>) -> Duration {
        let at = self.memory(|memory| {
            let since = memory.since.entry(uid.to_owned()).or_default();
            *point(since).get_or_insert_with(Instant::now)
        });
        at.elapsed()
    }

    fn note_address(&self, pod: &Pod) {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
        if let (Some(uid), Some(address)) = (pod.uid(), address.and_then(|text| text.parse::<Ipv4Addr>().ok())) {
            self.memory(|memory| memory.addresses.keep(&uid, address));
        }
    }

    fn forget(&self, pod: Option<&Pod>) {
        if let Some(uid) = pod.and_then(ResourceExt::uid) {
            self.memory(|memory| {
                memory.addresses.take_back(&uid);
                memory.since.remove(&uid);
            });
        }
    }

    fn memory<T>(&self, f: impl FnOnce(&mut Memory) -> T) -> T {
        f(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn pods(&self, pod: &Pod) -> Result<Api<Pod>, ControllerError> {
        let namespace = pod.namespace().ok_or_else(|| ControllerError::Incomplete {
            object: format!("pod {}", name_of(pod)),
            field: "namespace",
        })?;
        Ok(Api::namespaced(self.client.clone(), &namespace))
    }
}
