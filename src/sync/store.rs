//! Reads and writes the inventory's ConfigMap.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::apply::Trouble;
use crate::api::annotations::MANAGER_SYNC;
use crate::api::{Inventory, InventoryError};
use crate::cluster::{Cluster, EffectKind, Writer, call, explain};

/// Where the inventory is.
#[derive(Debug, Clone)]
pub(super) struct InventoryStore {
    api: Api<ConfigMap>,
    namespace: String,
    name: String,
}

impl InventoryStore {
    pub(super) fn new(cluster: &Cluster, namespace: &str, cluster_name: &str) -> Self {
        Self {
            api: Api::namespaced(cluster.client(), namespace),
            namespace: namespace.to_owned(),
            name: Inventory::config_map_name(cluster_name),
        }
    }

    /// The inventory; empty at the first start.
    pub(super) async fn load(&self) -> Result<Inventory, Trouble> {
        let Some(map) = call("read the inventory", self.api.get_opt(&self.name)).await? else {
            return Ok(Inventory::default());
        };
        match Inventory::from_config_map(&map) {
            Ok(inventory) => Ok(inventory),
            // Working without it would orphan, working against it would delete: a person has to decide.
            Err(error @ (InventoryError::Newer(_) | InventoryError::Json(_))) => Err(Trouble::Later(format!(
                "ConfigMap {}/{}: {}; restore it, or delete it to start with an empty one",
                self.namespace,
                self.name,
                explain(&error)
            ))),
        }
    }

    /// Writes the whole inventory.
    pub(super) async fn save(&self, writer: &Writer, inventory: &Inventory) -> Result<(), Trouble> {
        let body = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "data": inventory.to_data()?,
        });
        let key = format!("ConfigMap {}/{}", self.namespace, self.name);
        let params = PatchParams::apply(MANAGER_SYNC).force();
        let patch = Patch::Apply(&body);
        let applied = self.api.patch(&self.name, &params, &patch);
        match writer.effect(EffectKind::Inventory, &key, applied).await {
            Ok(_) => Ok(()),
            Err(error) => match Trouble::from(error) {
                // Without an inventory nothing may be written, whoever is at fault.
                Trouble::Object(message) | Trouble::Deleting(message) => {
                    Err(Trouble::Later(format!("failed to write the inventory: {message}")))
                }
                trouble @ (Trouble::Later(_) | Trouble::Race(_) | Trouble::NotHeld) => Err(trouble),
            },
        }
    }
}
