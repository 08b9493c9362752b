//! What Git owns in the cluster: a ConfigMap; and what became of a commit.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};

use crate::model::{CommitId, Digest, ObjectRef, Revision};

/// Shape of the stored JSON: objects by kind, namespace and name, so that one takes little more than its name and digest.
/// Version 1 was a list of objects with all their fields, version 2 had neither presence nor removals, and the last commits;
/// both are still read.
const VERSION: u32 = 3;
/// The ConfigMap's only key.
const KEY: &str = "inventory.json";

/// Everything Git owns. Keyed by identity without version: versions come and go while the object stays the same.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// What Git owns, or was about to own when the process stopped, and what it dropped and is still there.
    pub objects: BTreeMap<ObjectRef, Owned>,
    /// Commits that dropped objects which are still there.
    pub removals: BTreeMap<CommitId, Removal>,
}

/// One owned object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owned {
    /// API version it was applied in.
    pub version: String,
    /// Digest of what was applied; `None` while it is not (yet) as Git wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Why it is not as Git wants it, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Whether it has been written.
    #[serde(default)]
    pub presence: Presence,
    /// The commit that brought it, as long as it has not been written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<CommitId>,
    /// The commit that dropped it from Git.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<CommitId>,
    /// It is a copy of a config: it comes and goes with what that holds, and nobody has written it in Git.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copy: bool,
}

/// Whether an object has been written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Presence {
    /// Named before it is written; nobody knows yet whether it was.
    Ahead,
    /// Refused from the first time on: there is nothing of ours in the cluster.
    Never,
    /// Written at least once.
    #[default]
    Written,
}

/// A commit that dropped objects from Git, as long as some of them are still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Removal {
    /// Objects that Git had in the cluster before that commit.
    pub owned: u32,
    /// Whether what it dropped may be deleted.
    #[serde(default)]
    pub verdict: RemovalVerdict,
}

/// Whether what a commit dropped may be deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RemovalVerdict {
    /// Not known as long as documents cannot be read.
    #[default]
    Open,
    /// It may.
    Allowed,
    /// So much at once is taken for a mistake, until the objects are back or a person names the commit.
    Refused,
}

/// What became of one commit: told in the Source's status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncedCommit {
    /// The commit.
    pub commit: CommitId,
    /// As a whole.
    pub result: CommitResult,
    /// Targets (`<namespace>/<canary>`) whose revision it changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<String, TargetResult>,
}

/// What became of a commit as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CommitResult {
    /// Everything is applied or handed to a release.
    Applied,
    /// Some objects could not be applied; their conditions say why.
    Partly,
}

/// What became of a target's new revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum TargetResult {
    /// Written: the engine releases it.
    Written {
        /// The revision.
        revision: Revision,
    },
    /// Announced: the engine admits it when no traffic reaches the canary.
    Announced {
        /// The revision.
        revision: Revision,
    },
    /// Not written, and why.
    Invalid {
        /// Why.
        message: String,
    },
}

/// The stored inventory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// Written by a newer Serin.
    #[error("the inventory has version {0}, this build knows {VERSION}: it was written by a newer serin")]
    Newer(u32),
    /// Not our JSON.
    #[error("the inventory cannot be read")]
    Json(#[from] serde_json::Error),
}

/// All that a newer Serin's inventory surely has.
#[derive(Deserialize)]
struct StoredVersion {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    version: u32,
    objects: StoredObjects,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    removals: BTreeMap<CommitId, StoredRemoval>,
}

/// A removal with what it dropped: so the commit is written once, not once an object.
#[derive(Serialize, Deserialize)]
struct StoredRemoval {
    #[serde(flatten)]
    removal: Removal,
    objects: StoredObjects,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredObjects {
    /// `apps/v1/Deployment` -> namespace (empty without one) -> name.
    Tree(BTreeMap<String, BTreeMap<String, BTreeMap<String, StoredOwned>>>),
    /// Version 1.
    List(Vec<StoredObject>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredOwned {
    /// As Git wants it.
    Settled(Digest),
    /// Not (yet), and why.
    Open {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<String>,
        #[serde(default, skip_serializing_if = "is_written")]
        presence: Presence,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<CommitId>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        copy: bool,
    },
}

fn is_written(presence: &Presence) -> bool {
    *presence == Presence::Written
}

#[derive(Serialize, Deserialize)]
struct StoredObject {
    #[serde(flatten)]
    id: ObjectRef,
    #[serde(flatten)]
    owned: Owned,
}

impl StoredObjects {
    fn of<'a>(objects: impl IntoIterator<Item = (&'a ObjectRef, &'a Owned)>) -> Self {
        let mut tree: BTreeMap<String, BTreeMap<String, BTreeMap<String, StoredOwned>>> = BTreeMap::new();
        for (ObjectRef { group, kind, namespace, name }, owned) in objects {
            let Owned { version, digest, condition, presence, since, dropped: _, copy } = owned;
            let kind =
                if group.is_empty() { format!("{version}/{kind}") } else { format!("{group}/{version}/{kind}") };
            let stored = match (digest, condition, presence, copy) {
                (Some(digest), None, Presence::Written, false) => StoredOwned::Settled(digest.clone()),
                (digest, condition, presence, copy) => {
                    StoredOwned::Open {
                        digest: digest.clone(),
                        condition: condition.clone(),
                        presence: *presence,
                        // Of thousands that a first commit brings it would not fit, and is not worth it.
                        since: since.clone().filter(|_| *presence == Presence::Never),
                        copy: *copy,
                    }
                }
            };
            let names = tree.entry(kind).or_default().entry(namespace.clone().unwrap_or_default()).or_default();
            names.insert(name.clone(), stored);
        }
        Self::Tree(tree)
    }

    fn read(self) -> BTreeMap<ObjectRef, Owned> {
        let tree = match self {
            Self::List(objects) => {
                return objects.into_iter().map(|StoredObject { id, owned }| (id, owned)).collect();
            }
            Self::Tree(tree) => tree,
        };
        let mut objects = BTreeMap::new();
        for (path, namespaces) in tree {
            let (group_version, kind) = path.rsplit_once('/').unwrap_or(("", &path));
            let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
            for (namespace, names) in namespaces {
                for (name, stored) in names {
                    let (digest, condition, presence, since, copy) = match stored {
                        StoredOwned::Settled(digest) => (Some(digest), None, Presence::Written, None, false),
                        StoredOwned::Open { digest, condition, presence, since, copy } => {
                            (digest, condition, presence, since, copy)
                        }
                    };
                    let namespace = Some(namespace.clone()).filter(|namespace| !namespace.is_empty());
                    let id = ObjectRef { group: group.to_owned(), kind: kind.to_owned(), namespace, name };
                    let version = version.to_owned();
                    objects.insert(id, Owned { version, digest, condition, presence, since, dropped: None, copy });
                }
            }
        }
        objects
    }
}

impl Inventory {
    /// The ConfigMap's name for a cluster name.
    pub fn config_map_name(cluster: &str) -> String {
        format!("serin-inventory-{cluster}")
    }

    /// Reads the ConfigMap; one without our key is an empty inventory.
    ///
    /// # Errors
    /// When it is not ours or newer than this build.
    pub fn from_config_map(map: &ConfigMap) -> Result<Self, InventoryError> {
        let Some(text) = map.data.as_ref().and_then(|data| data.get(KEY)) else {
            return Ok(Self::default());
        };
        let StoredVersion { version } = serde_json::from_str(text)?;
        if version > VERSION {
            return Err(InventoryError::Newer(version));
        }
        let Stored { version: _, objects, removals: stored } = serde_json::from_str(text)?;
        let mut objects = objects.read();
        let mut removals = BTreeMap::new();
        for (commit, StoredRemoval { removal, objects: dropped }) in stored {
            let dropped = dropped.read().into_iter();
            objects.extend(dropped.map(|(id, owned)| (id, Owned { dropped: Some(commit.clone()), ..owned })));
            removals.insert(commit, removal);
        }
        Ok(Self { objects, removals })
    }

    /// The ConfigMap's data.
    ///
    /// # Errors
    /// Never in practice: all parts are plain JSON.
    pub fn to_data(&self) -> Result<BTreeMap<String, String>, serde_json::Error> {
        let Self { objects, removals } = self;
        let removal_of = |owned: &Owned| owned.dropped.clone().filter(|commit| removals.contains_key(commit));
        let dropped_by = |commit: Option<&CommitId>| {
            StoredObjects::of(objects.iter().filter(|(_, owned)| removal_of(owned).as_ref() == commit))
        };
        let stored_removal = |(commit, removal): (&CommitId, &Removal)| {
            (commit.clone(), StoredRemoval { removal: *removal, objects: dropped_by(Some(commit)) })
        };
        let (main, removals) = (dropped_by(None), removals.iter().map(stored_removal).collect());
        let stored = Stored { version: VERSION, objects: main, removals };
        let text = serde_json::to_string(&stored)?;
        Ok(BTreeMap::from([(KEY.to_owned(), text)]))
    }

    /// Whether it fits into a ConfigMap.
    ///
    /// # Errors
    /// Never in practice: all parts are plain JSON.
    pub fn fits(&self) -> Result<bool, serde_json::Error> {
        /// What the API server takes.
        const DATA_BYTES_MAX: usize = 1024 * 1024;
        Ok(self.to_data()?.iter().map(|(key, text)| key.len() + text.len()).sum::<usize>() <= DATA_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(kind: &str, namespace: Option<&str>, name: &str) -> ObjectRef {
        let group = if kind == "Deployment" { "apps" } else { "" };
        ObjectRef {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.map(str::to_owned),
            name: name.into(),
        }
    }

    #[test]
    fn survives_the_config_map_and_refuses_a_newer_one() {
        let mut inventory = Inventory::default();
        let digest = Some(Digest::of_canonical(b"x"));
        let v1 = Owned { version: "v1".into(), ..Owned::default() };
        let wrong = Owned { condition: Some("it is refused".into()), ..v1.clone() };
        inventory.objects.insert(id("Deployment", Some("a"), "b"), Owned { digest: digest.clone(), ..v1.clone() });
        inventory.objects.insert(id("Deployment", Some("a"), "c"), Owned { digest, ..wrong.clone() });
        inventory
            .objects
            .insert(id("ConfigMap", Some("a"), "b"), Owned { presence: Presence::Ahead, ..v1.clone() });
        inventory.objects.insert(
            id("Namespace", None, "a"),
            Owned { presence: Presence::Never, since: Some("a".repeat(40).parse().unwrap()), ..wrong },
        );
        let commit: CommitId = "c".repeat(40).parse().unwrap();
        let dropped = Owned { digest: Some(Digest::of_canonical(b"y")), dropped: Some(commit.clone()), ..v1 };
        inventory
            .objects
            .insert(id("ConfigMap", Some("a"), "gone-12345678"), Owned { copy: true, ..dropped.clone() });
        inventory.objects.insert(id("ConfigMap", Some("a"), "gone"), dropped);
        inventory.removals.insert(commit, Removal { owned: 12, verdict: RemovalVerdict::Refused });
        let data = inventory.to_data().unwrap();
        let map = ConfigMap { data: Some(data.clone()), ..ConfigMap::default() };
        let read = Inventory::from_config_map(&map).unwrap();
        assert_eq!(read, inventory);

        let newer = data[KEY].replace("\"version\":3", "\"version\":4");
        let map = ConfigMap { data: Some(BTreeMap::from([(KEY.to_owned(), newer)])), ..ConfigMap::default() };
        assert!(matches!(Inventory::from_config_map(&map), Err(InventoryError::Newer(4))));
    }

    #[test]
    fn the_first_shape_is_still_read() {
        let text = r#"{"version":1,"objects":[{"group":"apps","kind":"Deployment","namespace":"a","name":"b",
            "version":"v1","condition":"no"}]}"#;
        let map = ConfigMap { data: Some(BTreeMap::from([(KEY.into(), text.into())])), ..ConfigMap::default() };
        let read = Inventory::from_config_map(&map).unwrap();
        let owned = Owned { version: "v1".into(), condition: Some("no".into()), ..Owned::default() };
        assert_eq!(read.objects, BTreeMap::from([(id("Deployment", Some("a"), "b"), owned)]));
        assert!(read.objects.values().all(|owned| owned.presence == Presence::Written), "it may be there");
    }

    #[test]
    fn fifteen_thousand_objects_fit() {
        let mut inventory = Inventory::default();
        for number in 0..15_000 {
            let name = format!("settings-of-service-{number}");
            let owned = Owned {
                version: "v1".into(),
                digest: Some(Digest::of_canonical(name.as_bytes())),
                ..Owned::default()
            };
            inventory.objects.insert(id("ConfigMap", Some("production"), &name), owned);
        }
        assert!(inventory.fits().unwrap());
        for number in 0..15_000 {
            let owned = Owned { condition: Some("x".repeat(100)), ..Owned::default() };
            inventory.objects.insert(id("Secret", Some("production"), &format!("secret-{number}")), owned);
        }
        assert!(!inventory.fits().unwrap());
    }
}
