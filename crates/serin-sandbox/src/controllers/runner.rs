//! Wires the controllers: one reflector per kind, who is woken by what, and the loop that reconciles.

use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _, pin_mut};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::runtime::controller::{Action, Config, Error, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::claim;
use super::garbage::Garbage;
use super::node;
use super::objects::controller_of;
use super::replicaset::Expectations;
use super::watch::{Change, Listed, Reflector, Wakes, Watched};
use super::{ControllerError, ControllerOptions, Parts, RETRY_AFTER};
use super::{deployment, endpoints, hpa, job, namespace, replicaset};
use crate::clock::Clock;
use crate::load::Loads;

/// Objects one controller works on at a time: enough to hide a round trip, few enough to leave the API server to others.
const CONCURRENCY: u16 = 8;

/// What the controllers of a control plane share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) deployments: Store<Deployment>,
    pub(super) sets: Store<ReplicaSet>,
    pub(super) jobs: Store<Job>,
    pub(super) pods: Store<Pod>,
    pub(super) services: Store<Service>,
    pub(super) slices: Store<EndpointSlice>,
    pub(super) autoscalers: Store<HorizontalPodAutoscaler>,
    pub(super) namespaces: Store<Namespace>,
    pub(super) accounts: Store<ServiceAccount>,
    pub(super) expectations: Expectations,
    pub(super) leaving: namespace::Leaving,
    pub(super) loads: Loads,
    pub(super) recommendations: hpa::Recommendations,
}

/// Starts everything on `tasks`.
pub(super) fn spawn(
    tasks: &mut JoinSet<()>,
    client: Client,
    options: ControllerOptions,
    shutdown: &CancellationToken,
) {
    let mut pods = Reflector::<Pod>::new(Api::all(client.clone()));
    node::spawn(tasks, &client, &options, &mut pods, shutdown);
    match options.parts {
        Parts::All => spawn_control(tasks, client, &options, pods, shutdown),
        Parts::Node => {
            tasks.spawn(pods.run(shutdown.clone()));
        }
    }
}

/// The reflectors of all kinds that a controller has business with.
struct Reflectors {
    deployments: Reflector<Deployment>,
    sets: Reflector<ReplicaSet>,
    jobs: Reflector<Job>,
    pods: Reflector<Pod>,
    services: Reflector<Service>,
    slices: Reflector<EndpointSlice>,
    autoscalers: Reflector<HorizontalPodAutoscaler>,
    namespaces: Reflector<Namespace>,
    accounts: Reflector<ServiceAccount>,
    definitions: Reflector<CustomResourceDefinition>,
}

fn spawn_control(
    tasks: &mut JoinSet<()>,
    client: Client,
    options: &ControllerOptions,
    pods: Reflector<Pod>,
    shutdown: &CancellationToken,
) {
    let mut reflectors = Reflectors {
        deployments: Reflector::new(Api::all(client.clone())),
        sets: Reflector::new(Api::all(client.clone())),
        jobs: Reflector::new(Api::all(client.clone())),
        pods,
        services: Reflector::new(Api::all(client.clone())),
        slices: Reflector::new(Api::all(client.clone())),
        autoscalers: Reflector::new(Api::all(client.clone())),
        namespaces: Reflector::new(Api::all(client.clone())),
        accounts: Reflector::new(Api::all(client.clone())),
        definitions: Reflector::of_kind(Api::all(client.clone()), (), |definition| {
            definition.spec.versions.clear()
        }),
    };
    let shared = Arc::new(Shared {
        client: client.clone(),
        clock: options.clock,
        deployments: reflectors.deployments.store(),
        sets: reflectors.sets.store(),
        jobs: reflectors.jobs.store(),
        pods: reflectors.pods.store(),
        services: reflectors.services.store(),
        slices: reflectors.slices.store(),
        autoscalers: reflectors.autoscalers.store(),
        namespaces: reflectors.namespaces.store(),
        accounts: reflectors.accounts.store(),
        expectations: Expectations::default(),
        leaving: namespace::Leaving::default(),
        loads: options.loads.clone(),
        recommendations: hpa::Recommendations::default(),
    });
    let wakes = AllWakes::connect(&shared, &mut reflectors);
    watch_garbage(tasks, client, &mut reflectors, shutdown);
    drive_all(tasks, &shared, &wakes, &reflectors.listed(), options, shutdown);
    reflectors.run(tasks, shutdown);
}

impl Reflectors {
    fn listed(&self) -> Vec<Listed> {
        let Self {
            deployments,
            sets,
            jobs,
            pods,
            services,
            slices,
            autoscalers,
            namespaces,
            accounts,
            definitions,
        } = self;
        vec![
            deployments.listed(),
            sets.listed(),
            jobs.listed(),
            pods.listed(),
            services.listed(),
            slices.listed(),
            autoscalers.listed(),
            namespaces.listed(),
            accounts.listed(),
            definitions.listed(),
        ]
    }

    fn run(self, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
        let Self {
            deployments,
            sets,
            jobs,
            pods,
            services,
            slices,
            autoscalers,
            namespaces,
            accounts,
            definitions,
        } = self;
        tasks.spawn(deployments.run(shutdown.clone()));
        tasks.spawn(sets.run(shutdown.clone()));
        tasks.spawn(jobs.run(shutdown.clone()));
        tasks.spawn(pods.run(shutdown.clone()));
        tasks.spawn(services.run(shutdown.clone()));
        tasks.spawn(slices.run(shutdown.clone()));
        tasks.spawn(autoscalers.run(shutdown.clone()));
        tasks.spawn(namespaces.run(shutdown.clone()));
        tasks.spawn(accounts.run(shutdown.clone()));
        tasks.spawn(definitions.run(shutdown.clone()));
    }
}

/// One set of keys per controller.
struct AllWakes {
    deployments: Wakes<ObjectRef<Deployment>>,
    sets: Wakes<ObjectRef<ReplicaSet>>,
    jobs: Wakes<ObjectRef<Job>>,
    services: Wakes<ObjectRef<Service>>,
    autoscalers: Wakes<ObjectRef<HorizontalPodAutoscaler>>,
    namespaces: Wakes<ObjectRef<Namespace>>,
}

impl AllWakes {
    /// Says which change wakes whom.
    fn connect(shared: &Arc<Shared>, reflectors: &mut Reflectors) -> Self {
        let wakes = Self {
            deployments: Wakes::new(),
            sets: Wakes::new(),
            jobs: Wakes::new(),
            services: Wakes::new(),
            autoscalers: Wakes::new(),
            namespaces: Wakes::new(),
        };
        wake_self(&mut reflectors.deployments, &wakes.deployments);
        wake_self(&mut reflectors.sets, &wakes.sets);
        wake_self(&mut reflectors.jobs, &wakes.jobs);
        wake_self(&mut reflectors.services, &wakes.services);
        wake_self(&mut reflectors.autoscalers, &wakes.autoscalers);
        wake_self(&mut reflectors.namespaces, &wakes.namespaces);
        wake_controller(&mut reflectors.sets, "Deployment", &wakes.deployments);
        wake_controller(&mut reflectors.pods, "ReplicaSet", &wakes.sets);
        wake_controller(&mut reflectors.pods, "Job", &wakes.jobs);
        wakes.on_sets(shared, reflectors);
        wakes.on_pods(shared, reflectors);
        wakes.on_rest(shared, reflectors);
        wakes
    }

    fn on_sets(&self, shared: &Arc<Shared>, reflectors: &mut Reflectors) {
        let context = Arc::clone(shared);
        reflectors.sets.on_change(move |change| {
            if let (Some(gone), None) = (change.before, change.after) {
                context.expectations.forget(gone.uid().as_deref());
            }
        });
        let (context, deployments) = (Arc::clone(shared), self.deployments.clone());
        reflectors.sets.on_change(move |change| {
            if let Some(orphan) = change.after {
                claim::claimants(orphan, &context.deployments)
                    .into_iter()
                    .for_each(|owner| deployments.wake(owner));
            }
        });
        let (context, autoscalers) = (Arc::clone(shared), self.autoscalers.clone());
        reflectors.deployments.on_change(move |change| {
            for scaler in hpa::targeting(&context, change) {
                autoscalers.wake(scaler);
            }
        });
    }

    fn on_pods(&self, shared: &Arc<Shared>, reflectors: &mut Reflectors) {
        let context = Arc::clone(shared);
        reflectors.pods.on_change(move |change| context.expectations.observe(change));
        let (context, sets) = (Arc::clone(shared), self.sets.clone());
        reflectors.pods.on_change(move |change| {
            if let Some(orphan) = change.after {
                claim::claimants(orphan, &context.sets).into_iter().for_each(|owner| sets.wake(owner));
            }
        });
        let (context, services) = (Arc::clone(shared), self.services.clone());
        reflectors.pods.on_change(move |change| {
            for service in endpoints::selecting(&context, change) {
                services.wake(service);
            }
        });
        // With Recreate, new pods wait for the old ones to be gone.
        let (context, deployments) = (Arc::clone(shared), self.deployments.clone());
        reflectors.pods.on_change(move |change| {
            if let (Some(gone), None) = (change.before, change.after)
                && let Some(deployment) = deployment::owning(&context, gone)
            {
                deployments.wake(deployment);
            }
        });
    }

    fn on_rest(&self, shared: &Arc<Shared>, reflectors: &mut Reflectors) {
        let services = self.services.clone();
        reflectors.slices.on_change(move |change| {
            for service in change.states().filter_map(endpoints::service_of) {
                services.wake(service);
            }
        });
        let (context, namespaces) = (Arc::clone(shared), self.namespaces.clone());
        reflectors.accounts.on_change(move |change| {
            let name = change.states().find_map(ResourceExt::namespace);
            if let (None, Some(name)) = (change.after, name) {
                let reference = ObjectRef::new(&name);
                if context.namespaces.get(&reference).is_some() {
                    namespaces.wake(reference);
                }
            }
        });
    }
}

fn wake_self<K>(reflector: &mut Reflector<K>, wakes: &Wakes<ObjectRef<K>>)
where
    K: Watched + Resource<DynamicType = ()>,
{
    let wakes = wakes.clone();
    reflector.on_change(move |change| {
        if let Some(after) = change.after {
            wakes.wake(ObjectRef::from_obj(after));
        }
    });
}

/// Wakes the controlling owner, before and after the change, if it is of that kind.
fn wake_controller<K, O>(reflector: &mut Reflector<K>, kind: &'static str, wakes: &Wakes<ObjectRef<O>>)
where
    K: Watched + Resource<DynamicType = ()>,
    O: Resource<DynamicType = ()> + 'static,
{
    let wakes = wakes.clone();
    reflector.on_change(move |change: &Change<'_, K>| {
        for state in change.states() {
            if let Some(owner) = controller_of(state.meta()).filter(|owner| owner.kind == kind) {
                let reference = ObjectRef::new(&owner.name);
                let reference = match ResourceExt::namespace(state) {
                    Some(namespace) => reference.within(&namespace),
                    None => reference,
                };
                wakes.wake(reference);
            }
        }
    });
}

fn watch_garbage(
    tasks: &mut JoinSet<()>,
    client: Client,
    reflectors: &mut Reflectors,
    shutdown: &CancellationToken,
) {
    let garbage = Garbage::new(client);
    garbage.observe(&mut reflectors.deployments);
    garbage.observe(&mut reflectors.sets);
    garbage.observe(&mut reflectors.jobs);
    garbage.observe(&mut reflectors.pods);
    garbage.observe(&mut reflectors.services);
    garbage.observe(&mut reflectors.slices);
    garbage.observe(&mut reflectors.autoscalers);
    garbage.observe(&mut reflectors.namespaces);
    garbage.observe(&mut reflectors.accounts);
    garbage.observe(&mut reflectors.definitions);
    garbage.on_definitions(&mut reflectors.definitions);
    tasks.spawn(garbage.run(shutdown.clone()));
}

fn drive_all(
    tasks: &mut JoinSet<()>,
    shared: &Arc<Shared>,
    wakes: &AllWakes,
    listed: &[Listed],
    options: &ControllerOptions,
    shutdown: &CancellationToken,
) {
    let AllWakes { deployments, sets, jobs, services, autoscalers, namespaces } = wakes;
    let usual = Config::default().concurrency(CONCURRENCY);
    let lazy = usual.clone().debounce(options.autoscaler_delay);
    let stop = || shutdown.clone();
    let (all, context) = (shared, || Arc::clone(shared));
    tasks.spawn(drive(
        listed.to_vec(),
        all.deployments.clone(),
        deployments.clone(),
        usual.clone(),
        context(),
        deployment::reconcile,
        stop(),
    ));
    tasks.spawn(drive(
        listed.to_vec(),
        all.sets.clone(),
        sets.clone(),
        usual.clone(),
        context(),
        replicaset::reconcile,
        stop(),
    ));
    tasks.spawn(drive(
        listed.to_vec(),
        all.jobs.clone(),
        jobs.clone(),
        usual.clone(),
        context(),
        job::reconcile,
        stop(),
    ));
    tasks.spawn(drive(
        listed.to_vec(),
        all.services.clone(),
        services.clone(),
        usual.clone(),
        context(),
        endpoints::reconcile,
        stop(),
    ));
    tasks.spawn(drive(
        listed.to_vec(),
        all.autoscalers.clone(),
        autoscalers.clone(),
        lazy,
        context(),
        hpa::reconcile,
        stop(),
    ));
    tasks.spawn(drive(
        listed.to_vec(),
        all.namespaces.clone(),
        namespaces.clone(),
        usual,
        context(),
        namespace::reconcile,
        stop(),
    ));
}

/// Reconciles woken objects until shutdown, each object by one pass at a time.
pub(super) async fn drive<K, C, F>(
    listed: Vec<Listed>,
    store: Store<K>,
    wakes: Wakes<ObjectRef<K>>,
    config: Config,
    context: Arc<C>,
    reconcile: impl Fn(Arc<K>, Arc<C>) -> F,
    shutdown: CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Action, ControllerError>> + Send + 'static,
{
    for list in listed {
        // Shutdown, or the watch ended before its first list, which only shutdown does.
        if shutdown.run_until_cancelled(list.wait()).await != Some(true) {
            return;
        }
    }
    let retry = |_: Arc<K>, _: &ControllerError, _: Arc<C>| Action::requeue(RETRY_AFTER);
    let reconcile = move |object: Arc<K>, context: Arc<C>| reconcile(object, context).boxed();
    let passes = applier(reconcile, retry, context, store, wakes.stream(), config);
    pin_mut!(passes);
    while let Some(Some(pass)) = shutdown.run_until_cancelled(passes.next()).await {
        if let Err(error) = pass {
            log(&error);
        }
    }
}

fn log(error: &Error<ControllerError, std::convert::Infallible>) {
    match error {
        // It was deleted while it waited; those who depend on it are woken by the deletion.
        Error::ObjectNotFound(_) => {}
        Error::ReconcilerFailed(ControllerError::Api(kube::Error::Api(status)), object)
            if status.is_conflict() =>
        {
            debug!(%object, "changed meanwhile, will be looked at again");
        }
        Error::ReconcilerFailed(source, object) => {
            warn!(%object, error = source as &dyn std::error::Error, "sandbox controller failed, will retry");
        }
        Error::QueueError(never) => match *never {},
        Error::RunnerError(source) => warn!(error = source as &dyn std::error::Error, "sandbox controller failed"),
    }
}
