//! What is watched for AnalysisRuns: themselves, and the Jobs and pods that measure for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use crate::analysisrun::RUN_UID;
use crate::api::argo::AnalysisRunStatus;
use crate::api::{ARGO_GROUP, ARGO_VERSION};
use crate::cluster::{Cluster, Reflected, ResolveError, Resolved};
use crate::controller::caches::{Tracked, to_value};
use crate::controller::wakeups::Wakeups;
use crate::model::{Frozen, NamespacedName};

use super::jobs::{JobView, PodView};

/// The kinds that AnalysisRuns need, as the API server serves them.
#[derive(Debug, Clone)]
pub(in crate::controller) struct AnalysisKinds {
    pub(in crate::controller) run: Resolved,
    pub(in crate::controller) job: Resolved,
    pub(in crate::controller) pod: Resolved,
}

impl AnalysisKinds {
    pub(super) async fn resolve(cluster: &Cluster) -> Result<Self, ResolveError> {
        Ok(Self {
            run: cluster.resolve(ARGO_GROUP, ARGO_VERSION, "AnalysisRun").await?,
            job: cluster.resolve("batch", "v1", "Job").await?,
            pod: cluster.resolve("", "v1", "Pod").await?,
        })
    }
}

/// An AnalysisRun, reduced on arrival.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RunView {
    pub(super) key: NamespacedName,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) deleting: bool,
    pub(super) terminate: bool,
    pub(super) spec: Frozen,
    pub(super) status: Frozen,
}

impl RunView {
    fn of(object: DynamicObject) -> Self {
        let DynamicObject { metadata, data, .. } = object;
        Self {
            key: NamespacedName::new(
                metadata.namespace.clone().unwrap_or_default(),
                metadata.name.clone().unwrap_or_default(),
            ),
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            terminate: data["spec"]["terminate"] == true,
            spec: Frozen::of(&data["spec"]),
            status: Frozen::of(&data["status"]),
        }
    }

    /// Where it is. What cannot be read was written by nobody who leads runs: it begins.
    pub(super) fn told(&self) -> AnalysisRunStatus {
        serde_json::from_value(self.status.thaw()).unwrap_or_default()
    }
}

/// Whose a pod is: known before it is asked for, and forgotten when it has been told.
#[derive(Debug, Default)]
struct JobsOfPods(Mutex<HashMap<NamespacedName, NamespacedName>>);

impl JobsOfPods {
    fn note(&self, pod: &NamespacedName, job: &str) {
        let job = NamespacedName::new(pod.namespace.clone(), job);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(pod.clone(), job);
    }

    /// The Job of a pod that has changed. One that is gone is told by its Job.
    fn job_of(&self, pod: &NamespacedName) -> NamespacedName {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(pod).unwrap_or_else(|| pod.clone())
    }
}

/// The watches.
pub(super) struct RunCaches {
    pub(super) runs: Reflected<RunView>,
    pub(super) jobs: Reflected<JobView>,
    pub(super) pods: Reflected<PodView>,
}

impl RunCaches {
    pub(super) fn start(
        cluster: &Cluster,
        kinds: &AnalysisKinds,
        namespace: Option<&str>,
        wakeups: &Arc<Wakeups>,
        shutdown: &CancellationToken,
    ) -> Self {
        let woken = wakeups.clone();
        let runs = Reflected::start(
            cluster.objects(&kinds.run, namespace),
            watcher::Config::default(),
            shutdown.clone(),
            |object| Ok(RunView::of(object)),
            move |key| woken.wake(key),
        );
        let measuring = || watcher::Config::default().labels(RUN_UID);
        let dependents = |wakeups: &Arc<Wakeups>| {
            let wakeups = wakeups.clone();
            move |key: &NamespacedName| wakeups.changed(key)
        };
        let jobs = Reflected::start(
            cluster.objects(&kinds.job, namespace),
            measuring(),
            shutdown.clone(),
            |object| to_value(object).map(|job| JobView::of(&job)),
            dependents(wakeups),
        );
        let jobs_of_pods: Arc<JobsOfPods> = Arc::default();
        let (noted, asked, woken) = (jobs_of_pods.clone(), jobs_of_pods, wakeups.clone());
        let pods = Reflected::start(
            cluster.objects(&kinds.pod, namespace),
            measuring(),
            shutdown.clone(),
            move |object| {
                let key = NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any());
                let pod = PodView::of(&to_value(object)?);
                noted.note(&key, &pod.job);
                Ok(pod)
            },
            // A pod is looked at by the name of its Job.
            move |key| woken.changed(&asked.job_of(key)),
        );
        Self { runs, jobs, pods }
    }

    pub(super) async fn ready(&self) {
        let Self { runs, jobs, pods } = self;
        runs.ready().await;
        jobs.ready().await;
        pods.ready().await;
    }

    /// A run's Jobs.
    pub(super) fn jobs_of(&self, uid: &str) -> Vec<Arc<JobView>> {
        let all = self.jobs.all().into_iter().map(|(_, job)| job);
        all.filter(|job| job.run == uid).collect()
    }

    /// Why a Job's pods will never run, in words.
    pub(super) fn stuck(&self, job: &JobView) -> Option<String> {
        let (_, pod) =
            self.pods.find(|_, pod| pod.run == job.run && pod.job == job.name && pod.stuck.is_some())?;
        pod.stuck.clone()
    }

    /// The cached resourceVersion.
    pub(super) fn version(&self, kind: Tracked, namespace: &str, name: &str) -> Option<String> {
        let key = NamespacedName::new(namespace, name);
        match kind {
            Tracked::AnalysisRun => self.runs.get(&key).map(|run| run.resource_version.clone()),
            Tracked::Job => self.jobs.get(&key).map(|job| job.resource_version.clone()),
            Tracked::Canary
            | Tracked::Deployment
            | Tracked::Autoscaler
            | Tracked::Service
            | Tracked::Route(_)
            | Tracked::Rollout
            | Tracked::ReplicaSet => None,
        }
    }
}
