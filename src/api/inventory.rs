//! What Git owns in the cluster, and what became of each commit: a ConfigMap in which `sync` and `report` meet.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};

use crate::model::{CommitId, Digest, ObjectRef, Revision};

/// Shape of the stored JSON.
const VERSION: u32 = 1;
/// The ConfigMap's only key.
const KEY: &str = "inventory.json";

/// Everything Git owns. Keyed by identity without version: versions come and go while the object stays the same.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// The last commit that was synced.
    pub commit: Option<CommitId>,
    /// What Git owns, or was about to own when the process stopped.
    pub objects: BTreeMap<ObjectRef, Owned>,
    /// What became of the last commits, newest last; at most [`Inventory::COMMITS_MAX`].
    pub commits: Vec<SyncedCommit>,
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
}

/// What became of one commit.
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

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit: Option<CommitId>,
    objects: Vec<StoredObject>,
    #[serde(default)]
    commits: Vec<SyncedCommit>,
}

#[derive(Serialize, Deserialize)]
struct StoredObject {
    #[serde(flatten)]
    id: ObjectRef,
    #[serde(flatten)]
    owned: Owned,
}

impl Inventory {
    /// Remembered commits: enough for a projection that lost its connection for a while.
    pub const COMMITS_MAX: usize = 20;

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
        let Stored { version, commit, objects, commits } = serde_json::from_str(text)?;
        if version > VERSION {
            return Err(InventoryError::Newer(version));
        }
        let objects = objects.into_iter().map(|StoredObject { id, owned }| (id, owned)).collect();
        Ok(Self { commit, objects, commits })
    }

    /// The ConfigMap's data.
    ///
    /// # Errors
    /// Never in practice: all parts are plain JSON.
    pub fn to_data(&self) -> Result<BTreeMap<String, String>, serde_json::Error> {
        let Self { commit, objects, commits } = self.clone();
        let objects = objects.into_iter().map(|(id, owned)| StoredObject { id, owned }).collect();
        let text = serde_json::to_string(&Stored { version: VERSION, commit, objects, commits })?;
        Ok(BTreeMap::from([(KEY.to_owned(), text)]))
    }

    /// Remembers what became of a commit; a second word on the same commit replaces the first.
    pub fn remember(&mut self, record: SyncedCommit) {
        self.commit = Some(record.commit.clone());
        match self.commits.iter_mut().find(|known| known.commit == record.commit) {
            Some(known) => {
                known.result = record.result;
                known.targets.extend(record.targets);
            }
            None => self.commits.push(record),
        }
        let surplus = self.commits.len().saturating_sub(Self::COMMITS_MAX);
        self.commits.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_config_map_and_refuses_a_newer_one() {
        let mut inventory = Inventory::default();
        let id = ObjectRef {
            group: "apps".into(),
            kind: "Deployment".into(),
            namespace: Some("a".into()),
            name: "b".into(),
        };
        inventory.objects.insert(id, Owned { version: "v1".into(), ..Owned::default() });
        for number in 0..Inventory::COMMITS_MAX + 2 {
            let commit: CommitId = format!("{number:040}").parse().unwrap();
            inventory.remember(SyncedCommit { commit, result: CommitResult::Applied, targets: BTreeMap::new() });
        }
        let data = inventory.to_data().unwrap();
        let map = ConfigMap { data: Some(data.clone()), ..ConfigMap::default() };
        let read = Inventory::from_config_map(&map).unwrap();
        assert_eq!(read, inventory);
        assert_eq!(read.commits.len(), Inventory::COMMITS_MAX);

        let newer = data[KEY].replace("\"version\":1", "\"version\":2");
        let map = ConfigMap { data: Some(BTreeMap::from([(KEY.to_owned(), newer)])), ..ConfigMap::default() };
        assert!(matches!(Inventory::from_config_map(&map), Err(InventoryError::Newer(2))));
    }
}
