//! Which Deployments carry a label on their pods, or name an heir: found without looking at all of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::api::annotations::HEIR;
use crate::model::NamespacedName;
use crate::workload::Labels;

/// Namespace and `<key>=<value>` of a label by which pairs are told apart, or of the annotation that names an heir, to the names of the Deployments that have it.
///
/// Names are only added: who asks looks at the Deployment itself, which may have other labels by now or be gone.
#[derive(Debug, Default)]
pub(super) struct Siblings(Mutex<HashMap<NamespacedName, BTreeSet<String>>>);

impl Siblings {
    /// Notes a Deployment that was seen; `keys` are the labels that may tell pairs apart.
    pub(super) fn note(&self, deployment: &NamespacedName, pods: &Labels, keys: &[String]) {
        for (key, value) in keys.iter().filter_map(|key| Some((key, pods.get(key)?))) {
            let label = label(&deployment.namespace, key, value);
            self.with_all(|all| all.entry(label).or_default().insert(deployment.name.clone()));
        }
    }

    /// Notes that a Deployment's service is taken over by a Canary.
    pub(super) fn note_heir(&self, deployment: &NamespacedName, canary: &str) {
        let label = label(&deployment.namespace, HEIR, canary);
        self.with_all(|all| all.entry(label).or_default().insert(deployment.name.clone()));
    }

    /// Names of the Deployments whose service this Canary takes over, or took over.
    pub(super) fn left_to(&self, canary: &NamespacedName) -> Vec<String> {
        self.with(&canary.namespace, HEIR, &canary.name)
    }

    /// Names of the Deployments that have, or had, this label.
    pub(super) fn with(&self, namespace: &str, key: &str, value: &str) -> Vec<String> {
        let label = label(namespace, key, value);
        self.with_all(|all| all.get(&label).into_iter().flatten().cloned().collect())
    }

    fn with_all<T>(&self, use_it: impl FnOnce(&mut HashMap<NamespacedName, BTreeSet<String>>) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn label(namespace: &str, key: &str, value: &str) -> NamespacedName {
    NamespacedName::new(namespace, format!("{key}={value}"))
}
