//! Deployment: rolls pods from one template to the next through ReplicaSets, as kube-controller-manager does.

mod hash;
mod rollout;
mod sets;
mod status;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

pub(super) use hash::name_suffix;

use super::claim::claim;
use super::objects::{controller_of, has_ended};
use super::runner::Shared;
use super::{ControllerError, MANAGER};
use rollout::{Desired, Size};
use sets::{Sets, replicas_of};
use status::{Inputs, NewSet};

/// Deployments whose ReplicaSet owns the pod.
pub(super) fn owning(shared: &Shared, pod: &Pod) -> Option<ObjectRef<Deployment>> {
    let namespace = pod.namespace()?;
    let set = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
    let set = shared.sets.get(&ObjectRef::new(&set.name).within(&namespace))?;
    let owner = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment")?;
    Some(ObjectRef::new(&owner.name).within(&namespace))
}

/// One pass over one Deployment.
pub(super) async fn reconcile(
    deployment: Arc<Deployment>,
    shared: Arc<Shared>,
) -> Result<Action, ControllerError> {
    let mut pass = Pass::new(&deployment, &shared).await?;
    if deployment.metadata.deletion_timestamp.is_some() {
        return pass.write_standing().await;
    }
    if pass.spec.paused == Some(true) {
        pass.sets.refresh(&pass.deployment, &shared).await?;
        pass.scale().await?;
        pass.clean_up().await?;
        return pass.write_standing().await;
    }
    if pass.is_being_scaled() {
        pass.sets.refresh(&pass.deployment, &shared).await?;
        pass.scale().await?;
        return pass.write_standing().await;
    }
    if rollout::is_recreate(&pass.spec) { pass.recreate().await } else { pass.roll().await }
}

/// One look at a Deployment and its ReplicaSets; what is written shows up in here at once.
struct Pass<'a> {
    shared: &'a Shared,
    deployment: Deployment,
    spec: DeploymentSpec,
    desired: Desired,
    sets: Sets,
}

impl<'a> Pass<'a> {
    async fn new(deployment: &Deployment, shared: &'a Shared) -> Result<Self, ControllerError> {
        let spec = deployment.spec.clone().ok_or_else(|| incomplete(deployment, "spec"))?;
        let owned = claim(deployment, &shared.sets, &shared.client, |_| true).await?;
        let owned = owned.iter().map(|set| ReplicaSet::clone(set)).collect();
        let desired = Desired::of(&spec);
        Ok(Self { shared, deployment: deployment.clone(), sets: Sets::sort(owned, &spec.template), desired, spec })
    }

    /// Some set was sized for another `spec.replicas`.
    fn is_being_scaled(&self) -> bool {
        let mut active = self.sets.all().filter(|set| replicas_of(set) > 0);
        active.any(|set| sets::desired_before(set).is_some_and(|before| before != self.desired.replicas))
    }

    async fn roll(&mut self) -> Result<Action, ControllerError> {
        let how = self.ensure_new().await?;
        if self.grow_new().await? || self.shrink_old().await? {
            return self.write_rolling(how).await;
        }
        self.finish(how).await
    }

    async fn grow_new(&mut self) -> Result<bool, ControllerError> {
        let others: i32 = self.sets.old.iter().map(replicas_of).sum();
        let Some(new) = &mut self.sets.new else { return Ok(false) };
        let next = rollout::next_new(&self.desired, replicas_of(new), others);
        sets::resize(new, next, &self.desired, self.shared).await
    }

    async fn shrink_old(&mut self) -> Result<bool, ControllerError> {
        let Some(new) = &self.sets.new else { return Ok(false) };
        let old: Vec<Size> = self.sets.old.iter().map(sets::size_of).collect();
        let changes = rollout::shrink_old(&self.desired, &sets::size_of(new), &old);
        for change in &changes {
            self.sets.resize_old(change, &self.desired, self.shared).await?;
        }
        Ok(!changes.is_empty())
    }

    async fn recreate(&mut self) -> Result<Action, ControllerError> {
        let mut shrunk = false;
        for set in &mut self.sets.old {
            shrunk |= sets::resize(set, 0, &self.desired, self.shared).await?;
        }
        if shrunk || self.has_old_pods() {
            return self.write_rolling(NewSet::Absent).await;
        }
        let how = self.ensure_new().await?;
        if let Some(new) = &mut self.sets.new
            && sets::resize(new, self.desired.replicas, &self.desired, self.shared).await?
        {
            return self.write_rolling(how).await;
        }
        self.finish(how).await
    }

    fn has_old_pods(&self) -> bool {
        let old: Vec<String> = self.sets.old.iter().filter_map(ResourceExt::uid).collect();
        let owned = |pod: &Pod| controller_of(&pod.metadata).is_some_and(|owner| old.contains(&owner.uid));
        self.shared.pods.find(|pod| owned(pod) && !has_ended(pod)).is_some()
    }

    /// Sizes the sets for a new `spec.replicas` without rolling further.
    async fn scale(&mut self) -> Result<(), ControllerError> {
        let active = self.sets.all().filter(|set| replicas_of(set) > 0).count();
        if active <= 1 {
            let Some(only) = self.sets.active_or_latest() else { return Ok(()) };
            sets::resize(only, self.desired.replicas, &self.desired, self.shared).await?;
            return Ok(());
        }
        if self.sets.new.as_ref().is_some_and(|new| sets::is_saturated(new, self.desired.replicas)) {
            for set in &mut self.sets.old {
                sets::resize(set, 0, &self.desired, self.shared).await?;
            }
            return Ok(());
        }
        if rollout::is_recreate(&self.spec) {
            return Ok(());
        }
        let before = self.deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
        let mut sizes: Vec<Size> =
            self.sets.by_age().filter(|set| replicas_of(set) > 0).map(sets::size_of).collect();
        sizes.retain(|size| size.replicas > 0);
        for change in rollout::proportional(&self.desired, &sizes, before) {
            self.sets.resize_any(&change, &self.desired, self.shared).await?;
        }
        Ok(())
    }

    /// Finds or creates the ReplicaSet of the present template and stamps the revision.
    async fn ensure_new(&mut self) -> Result<NewSet, ControllerError> {
        if self.sets.new.is_some() {
            self.sets.refresh(&self.deployment, self.shared).await?;
            self.stamp_revision().await?;
            return Ok(NewSet::Found);
        }
        match self.sets.create_new(&self.deployment, &self.spec, &self.desired, self.shared).await? {
            sets::Creation::Done => {}
            sets::Creation::Collision => {
                // The next pass hashes with the raised count; the status write wakes it.
                let mut status = self.deployment.status.clone().unwrap_or_default();
                status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                self.write(status).await?;
                return Ok(NewSet::Absent);
            }
        }
        self.stamp_revision().await?;
        Ok(NewSet::Created)
    }

    async fn stamp_revision(&mut self) -> Result<(), ControllerError> {
        if let Some(new) = &self.sets.new {
            self.deployment = sets::stamp_revision(&self.deployment, new, self.shared).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, how: NewSet) -> Result<Action, ControllerError> {
        let (status, _) = status::rolling(&self.inputs(how));
        if status::is_complete(&self.deployment, &status) {
            self.clean_up().await?;
        }
        self.write_rolling(how).await
    }

    async fn clean_up(&mut self) -> Result<(), ControllerError> {
        let limit = self.spec.revision_history_limit.unwrap_or(sets::DEFAULT_HISTORY);
        sets::delete_history(&self.sets.old, limit, self.shared).await
    }

    fn inputs(&self, how: NewSet) -> Inputs<'_> {
        let now = self.shared.clock.stamp().0;
        Inputs { deployment: &self.deployment, new: self.sets.new.as_ref(), old: &self.sets.old, how, now }
    }

    async fn write_rolling(&mut self, how: NewSet) -> Result<Action, ControllerError> {
        let (status, wake) = status::rolling(&self.inputs(how));
        self.write(status).await?;
        Ok(wake.map_or_else(Action::await_change, Action::requeue))
    }

    async fn write_standing(&mut self) -> Result<Action, ControllerError> {
        let status = status::standing(&self.inputs(NewSet::Absent));
        self.write(status).await?;
        Ok(Action::await_change())
    }

    async fn write(&mut self, status: DeploymentStatus) -> Result<(), ControllerError> {
        if self.deployment.status.as_ref() == Some(&status) {
            return Ok(());
        }
        self.deployment.status = Some(status);
        let namespace = self.deployment.namespace().ok_or_else(|| incomplete(&self.deployment, "namespace"))?;
        let api: Api<Deployment> = Api::namespaced(self.shared.client.clone(), &namespace);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.deployment = api.replace_status(&self.deployment.name_any(), &params, &self.deployment).await?;
        Ok(())
    }
}

fn incomplete(deployment: &Deployment, field: &'static str) -> ControllerError {
    ControllerError::Incomplete { object: format!("deployment {}", deployment.name_any()), field }
}
