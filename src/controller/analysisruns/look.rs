//! One look at one AnalysisRun: read, advance, persist, ask.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::analysis::Reading;
use crate::analysisrun::{Given, Language, Look, Plan, Planned, Provider, Slot, Taken, advance, expires, failed};
use crate::api::argo::{AnalysisRunSpec, AnalysisRunStatus};
use crate::cluster::explain;
use crate::controller::caches::Tracked;
use crate::controller::expectations::Freshness;
use crate::controller::hands::{ActError, Hands};
use crate::controller::persist::normal;
use crate::controller::reconcile::Again;
use crate::controller::rollouts::RIVAL_AGAIN;
use crate::model::NamespacedName;
use crate::router::merge_diff;

use super::ask::{Measuring, Surveyor};
use super::caches::RunView;
use super::jobs::{JobView, job, job_name};
use super::{AnalysisRuns, Memory};

/// What has been measured, by this process and by Jobs.
struct Measured<'a> {
    answered: HashMap<(String, u32), Taken>,
    since: Timestamp,
    memory: &'a Memory,
}

impl Given for Measured<'_> {
    fn taken(&self, metric: &str, slot: u32) -> Option<&Taken> {
        let key = (metric.to_owned(), slot);
        self.answered.get(&key).or_else(|| self.memory.refused.get(&key))
    }

    fn asking_since(&self) -> Timestamp {
        self.since
    }

    fn has_begun(&self, metric: &str, slot: u32) -> bool {
        self.memory.begun.contains(&(metric.to_owned(), slot))
    }
}

impl AnalysisRuns {
    /// One look. Two looks at the same run never overlap: the queue sees to that.
    pub(super) async fn look(&self, key: &NamespacedName) -> Again {
        let Some(view) = self.own.runs.get(key) else {
            self.means.wakeups.forget(key);
            self.answers.forget(key);
            self.memories.take(key);
            return Again::Never;
        };
        if self.rivals.lead() {
            return Again::In(RIVAL_AGAIN);
        }
        let mut memory = self.memories.take(key).unwrap_or_default();
        let result = self.look_with(&view, &mut memory).await;
        let again = memory.trouble.after("AnalysisRun", key, result);
        self.memories.put(key, memory);
        again
    }

    async fn look_with(&self, view: &RunView, memory: &mut Memory) -> Result<Again, ActError> {
        let key = &view.key;
        let cached = |kind, name: &str| self.own.version(kind, &key.namespace, name);
        if let Freshness::Stale(until) = memory.expectations.check(cached) {
            return Ok(Again::In(until));
        }
        if view.deleting {
            return Ok(Again::Never);
        }
        let (spec, status) = (view.spec.thaw(), view.told());
        if status.phase.is_over() {
            return self.after_end(view, &spec, &status, memory).await;
        }
        let now = self.means.clock.now();
        let plan = match Plan::of(&spec, &Language::at(now)) {
            Ok(plan) => plan,
            Err(why) => {
                self.tell(view, &failed(&status, &why, now), memory).await?;
                return Ok(Again::Never);
            }
        };
        let current = jobs_of(&plan, &status, &view.uid);
        self.means.wakeups.depends_on(key, current.values().map(|name| beside(key, name)).collect());
        let next = {
            let (answered, since) = self.answers.of(key, &view.uid);
            let mut answered: HashMap<(String, u32), Taken> = answered.into_iter().collect();
            answered.extend(self.ended_jobs(key, &current, memory, now));
            let given = Measured { answered, since, memory };
            advance(Look { plan: &plan, status: &status, terminate: view.terminate, given: &given, now })
        };
        let status = named(next.status, &plan, view);
        self.tell(view, &status, memory).await?;
        if status.phase.is_over() {
            return self.after_end(view, &spec, &status, memory).await;
        }
        self.ask(view, &plan, &next.asks, memory).await?;
        Ok(next.wake.map_or(Again::Never, Again::At))
    }

    /// Writes what has changed of the status.
    async fn tell(&self, view: &RunView, status: &AnalysisRunStatus, memory: &mut Memory) -> Result<(), ActError> {
        let diff = merge_diff(&view.status.thaw(), &normal(status));
        if diff.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(());
        }
        let patch = json!({"metadata": {"resourceVersion": view.resource_version}, "status": diff});
        self.hands(&view.key, memory).merge(Tracked::AnalysisRun, &view.key.name, patch).await
    }

    /// Makes the measurements that are open. What may be made once only has been written down by now.
    async fn ask(&self, view: &RunView, plan: &Plan, asks: &[Slot], memory: &mut Memory) -> Result<(), ActError> {
        let args = Arc::new(plan.args.clone());
        let mut open = Vec::new();
        for slot in asks {
            let Some(planned) = plan.metrics.get(slot.metric) else { continue };
            memory.begun.insert((planned.name.clone(), slot.number));
            if planned.is_job {
                self.make_job(view, plan, planned, slot.number, memory).await?;
                continue;
            }
            open.push(Measuring { planned: Arc::new(planned.clone()), args: args.clone(), slot: slot.number });
        }
        let surveyor = Surveyor {
            run: view.key.clone(),
            writer: self.means.writer.clone(),
            lender: self.lender.clone(),
            metrics: self.metrics.clone(),
            metrics_address: self.means.settings.metrics_address.clone(),
            clock: self.means.clock.clone(),
        };
        self.answers.ask(&view.key, &view.uid, open, move |asked| surveyor.clone().measure(asked));
        Ok(())
    }

    /// Makes a measurement's Job, unless it is there. What the API server refuses is a measurement that could not be made.
    async fn make_job(
        &self,
        view: &RunView,
        plan: &Plan,
        planned: &Planned,
        slot: u32,
        memory: &mut Memory,
    ) -> Result<(), ActError> {
        let name = job_name(&view.uid, &planned.name, slot);
        if memory.made.contains(&name) || self.own.jobs.get(&beside(&view.key, &name)).is_some() {
            return Ok(());
        }
        let refuse = |memory: &mut Memory, why: String| {
            memory.refused.insert((planned.name.clone(), slot), Taken::failed(why, self.means.clock.now()));
            self.means.wakeups.wake(&view.key);
        };
        if !plan.args.secrets().is_empty() {
            refuse(memory, "a Job reads its Secrets itself: name them in its spec, not as arguments".to_owned());
            return Ok(());
        }
        let written = match planned.provider(&plan.args) {
            Ok(Provider::Job(written)) => written,
            Ok(Provider::Prometheus(..) | Provider::Web(..)) => return Ok(()),
            Err(why) => {
                refuse(memory, why);
                return Ok(());
            }
        };
        let object = job(&view.key, &view.uid, &planned.name, slot, &written);
        let made = self.hands(&view.key, memory).create(Tracked::Job, &object).await;
        match made {
            Ok(_) => {}
            // An earlier process has made it.
            Err(error) if error.is_already_there() => {}
            Err(error) if error.is_refused() => {
                refuse(memory, explain(&error));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        memory.made.insert(name);
        Ok(())
    }

    /// What the Jobs of the present slots have come to.
    fn ended_jobs(
        &self,
        run: &NamespacedName,
        current: &BTreeMap<(String, u32), String>,
        memory: &Memory,
        now: Timestamp,
    ) -> Vec<((String, u32), Taken)> {
        let end = |(key, name): (&(String, u32), &String)| {
            let Some(job) = self.own.jobs.get(&beside(run, name)) else {
                let gone = memory.made.contains(name);
                return gone.then(|| (key.clone(), Taken::failed(format!("Job {name} is gone"), now)));
            };
            let taken = |value: Value, message: Option<String>| Taken {
                reading: Reading::Json { value },
                value: None,
                message,
                metadata: BTreeMap::new(),
                started: now,
            };
            let ended = job.end.as_ref().map(|end| taken(json!(end.condition), end.message.clone()));
            let stuck = || self.own.stuck(&job).map(|why| taken(json!("Stuck"), Some(why)));
            Some((key.clone(), ended.or_else(stuck)?))
        };
        current.iter().filter_map(end).collect()
    }

    /// A run that is over keeps no Job running, and goes when its time has come.
    async fn after_end(
        &self,
        view: &RunView,
        spec: &Value,
        status: &AnalysisRunStatus,
        memory: &mut Memory,
    ) -> Result<Again, ActError> {
        self.answers.forget(&view.key);
        let running: Vec<Arc<JobView>> =
            self.own.jobs_of(&view.uid).into_iter().filter(|job| job.end.is_none()).collect();
        for job in running {
            self.hands(&view.key, memory).delete_whole(Tracked::Job, &job.name).await?;
        }
        let spec: Option<AnalysisRunSpec> = serde_json::from_value(spec.clone()).ok();
        let Some(at) = spec.and_then(|spec| expires(&spec, status)) else { return Ok(Again::Never) };
        if at > self.means.clock.now() {
            return Ok(Again::At(at));
        }
        let version = view.resource_version.clone();
        self.hands(&view.key, memory).delete(Tracked::AnalysisRun, &view.key.name, version).await?;
        Ok(Again::Never)
    }

    fn hands<'a>(&'a self, key: &'a NamespacedName, memory: &'a mut Memory) -> Hands<'a> {
        self.means.hands(&key.namespace, &mut memory.expectations)
    }
}

fn beside(run: &NamespacedName, name: &str) -> NamespacedName {
    NamespacedName::new(run.namespace.clone(), name)
}

/// The names of the Jobs that are, or will be, the present measurements.
fn jobs_of(plan: &Plan, status: &AnalysisRunStatus, uid: &str) -> BTreeMap<(String, u32), String> {
    let jobs = plan.metrics.iter().filter(|planned| planned.is_job).map(|planned| {
        let result = status.metric_results.iter().find(|result| result.name == planned.name);
        let count = result.map_or(0, |result| result.count.saturating_add(result.error));
        let slot = u32::try_from(count).unwrap_or(0);
        ((planned.name.clone(), slot), job_name(uid, &planned.name, slot))
    });
    jobs.collect()
}

/// A measurement that is a Job says which, as upstream's does.
fn named(mut status: AnalysisRunStatus, plan: &Plan, view: &RunView) -> AnalysisRunStatus {
    let names = jobs_of(plan, &status, &view.uid);
    let jobs: BTreeSet<&str> = plan.metrics.iter().filter(|it| it.is_job).map(|it| it.name.as_str()).collect();
    for result in status.metric_results.iter_mut().filter(|result| jobs.contains(result.name.as_str())) {
        let name = names.iter().find(|((metric, _), _)| *metric == result.name).map(|(_, name)| name);
        let open = result.measurements.last_mut().filter(|last| last.finished_at.is_none());
        if let (Some(open), Some(name)) = (open, name) {
            open.metadata.entry("job-name".to_owned()).or_insert_with(|| name.clone());
            open.metadata.entry("job-namespace".to_owned()).or_insert_with(|| view.key.namespace.clone());
        }
    }
    status
}
