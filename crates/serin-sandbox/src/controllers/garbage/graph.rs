//! Who owns whom, by uid. Pure.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::ApiResource;

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// What deleting an object waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletion {
    /// It is not being deleted.
    None,
    /// Its dependents are to be deleted first.
    Foreground,
    /// Its dependents are to be let go first.
    Orphan,
    /// Someone else's finalizer or a grace period.
    Other,
}

/// An object as the collector sees it.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) resource: ApiResource,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) deletion: Deletion,
}

impl Node {
    pub(super) fn of(resource: ApiResource, meta: &ObjectMeta) -> Option<Self> {
        let has = |wanted: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == wanted);
        let deletion = match meta.deletion_timestamp {
            None => Deletion::None,
            Some(_) if has(FOREGROUND) => Deletion::Foreground,
            Some(_) if has(ORPHAN) => Deletion::Orphan,
            Some(_) => Deletion::Other,
        };
        Some(Self {
            resource,
            namespace: meta.namespace.clone(),
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            owners: meta.owner_references.clone().unwrap_or_default(),
            deletion,
        })
    }
}

/// All known objects and the edges between them.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Takes in an object's present state and answers whom it concerns.
    pub(super) fn upsert(&mut self, node: Node) -> Vec<String> {
        let mut concerned = Vec::new();
        if let Some(before) = self.nodes.get(&node.uid) {
            if before.owners == node.owners && before.deletion == node.deletion {
                return concerned;
            }
            concerned.extend(before.owners.iter().map(|owner| owner.uid.clone()));
        }
        self.unlink(&node.uid);
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(node.uid.clone());
        }
        if !node.owners.is_empty() || node.deletion != Deletion::None {
            concerned.push(node.uid.clone());
        }
        concerned.extend(node.owners.iter().map(|owner| owner.uid.clone()));
        self.nodes.insert(node.uid.clone(), node);
        concerned
    }

    /// Forgets an object and answers whom that concerns: its dependents, and owners that wait for it.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<String> {
        self.unlink(uid);
        let owners = self.nodes.remove(uid).map(|node| node.owners).unwrap_or_default();
        let dependents = self.dependents.get(uid).into_iter().flatten().cloned();
        dependents.chain(owners.into_iter().map(|owner| owner.uid)).collect()
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<&Node> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid)).collect()
    }

    /// Objects that name an owner.
    pub(super) fn owned(&self) -> Vec<String> {
        self.nodes.values().filter(|node| !node.owners.is_empty()).map(|node| node.uid.clone()).collect()
    }

    fn unlink(&mut self, uid: &str) {
        let Some(node) = self.nodes.get(uid) else { return };
        for owner in &node.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(uid: &str, owner: Option<&str>) -> Node {
        let owner = owner.map(|uid| OwnerReference { uid: uid.to_owned(), ..OwnerReference::default() });
        Node {
            resource: ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&()),
            namespace: None,
            name: uid.to_owned(),
            uid: uid.to_owned(),
            owners: owner.into_iter().collect(),
            deletion: Deletion::None,
        }
    }

    #[test]
    fn an_owner_that_goes_concerns_its_dependents_alone() {
        let mut graph = Graph::default();
        graph.upsert(node("owner", None));
        graph.upsert(node("other", None));
        assert_eq!(graph.upsert(node("pod", Some("owner"))), ["pod", "owner"]);
        assert!(graph.upsert(node("pod", Some("owner"))).is_empty(), "nothing changed");
        assert_eq!(graph.upsert(node("pod", Some("other"))), ["owner", "pod", "other"]);
        assert!(graph.remove("owner").is_empty());
        assert_eq!(graph.remove("other"), ["pod"]);
    }
}
