//! A side of the world: pods that are told how to behave, or behave well.

use serin_core::model::{Digest, Revision};
use serin_core::release::{Limits, Readiness, Updates, WorkloadObserved};

use super::{MAXIMUM, MINIMUM};

/// A workload and how its pods behave.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Workload {
    pub(crate) digest: Digest,
    pub(crate) stamped: Option<Revision>,
    pub(crate) replicas: i32,
    pub(crate) generation: i64,
    /// `None`: pods become ready one round after a change.
    pub(crate) told: Option<Readiness>,
    /// Pods that serve although the workload is not ready.
    pub(crate) available: Option<i32>,
    /// Pods of the former template that serve until the new ones do.
    pub(crate) kept: i32,
    /// How its pods are replaced.
    pub(crate) updates: Updates,
    /// Its autoscaler's minimum.
    pub(crate) minimum: i32,
    pub(crate) settling: bool,
}

impl Workload {
    pub(crate) fn new(digest: Digest, replicas: i32) -> Self {
        Self {
            digest,
            stamped: None,
            replicas,
            generation: 1,
            told: None,
            available: None,
            kept: 0,
            updates: Updates::DEFAULT,
            minimum: MINIMUM,
            settling: true,
        }
    }

    pub(crate) fn readiness(&self) -> Readiness {
        match &self.told {
            Some(told) => told.clone(),
            None if self.settling && self.replicas > 0 => Readiness::Waiting(format!(
                "waiting for rollout to finish: 0 of {} (readyThreshold 100%) updated replicas are available",
                self.replicas
            )),
            None => Readiness::Ready,
        }
    }

    pub(crate) fn observe(&self) -> WorkloadObserved {
        let readiness = self.readiness();
        let available = self.available.unwrap_or(if readiness == Readiness::Ready { self.replicas } else { 0 });
        WorkloadObserved {
            digest: self.digest.clone(),
            stamped: self.stamped.clone(),
            generation: self.generation,
            replicas: self.replicas,
            limits: Some(Limits { minimum: self.minimum, maximum: MAXIMUM }),
            readiness,
            available,
            serving: available.max(self.kept),
            updates: self.updates,
        }
    }

    pub(crate) fn template(&mut self, digest: &Digest) {
        if self.digest != *digest {
            let served = self.observe().serving;
            self.kept = self.updates.keeps(self.replicas).min(served);
            self.available = self.available.filter(|_| self.told.is_some());
            self.digest = digest.clone();
            self.generation += 1;
            self.settling = true;
        }
    }

    /// What serves goes on to do so until the template changes, whatever is said of what is to come.
    pub(crate) fn keep(&mut self) {
        self.kept = self.observe().serving;
    }

    /// Its pods are gone, and none comes back.
    pub(crate) fn lose(&mut self) {
        self.told = Some(Readiness::Waiting("its pods were evicted".to_owned()));
        (self.available, self.kept) = (Some(0), 0);
    }

    pub(crate) fn scale(&mut self, replicas: i32) {
        if self.replicas != replicas {
            self.available = Some(self.observe().available.min(replicas)).filter(|_| self.told.is_none());
            self.kept = self.kept.min(replicas);
            self.replicas = replicas;
            self.generation += 1;
            self.settling = true;
        }
    }
}
