//! Where the ledger outlives the process: a ConfigMap beside the inventory.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::ledger::Ledger;
use crate::api::annotations::MANAGER_ENGINE;
use crate::cluster::{Cluster, EffectKind, Writer, call, explain};

/// The ConfigMap's only key.
const KEY: &str = "statuses.json";

pub(super) struct Store {
    api: Api<ConfigMap>,
    namespace: String,
    name: String,
}

impl Store {
    pub(super) fn new(cluster: &Cluster, namespace: &str, cluster_name: &str) -> Self {
        Self {
            api: Api::namespaced(cluster.client(), namespace),
            namespace: namespace.to_owned(),
            name: format!("serin-statuses-{cluster_name}"),
        }
    }

    fn key(&self) -> String {
        format!("ConfigMap {}/{}", self.namespace, self.name)
    }

    /// What is stored, and its text; an empty one at the first start. One that cannot be read is begun anew: what it knew is
    /// only what was told already.
    pub(super) async fn load(&self) -> Result<(Ledger, String), String> {
        let read = call(&format!("read {}", self.key()), self.api.get_opt(&self.name)).await;
        let text = read
            .map_err(|error| explain(&error))?
            .and_then(|map| map.data.and_then(|mut data| data.remove(KEY)))
            .unwrap_or_default();
        if text.is_empty() {
            return Ok((Ledger::default(), text));
        }
        match Ledger::parse(&text) {
            Ok(ledger) => Ok((ledger, text)),
            Err(error) => {
                tracing::warn!("{} is begun anew: {}", self.key(), explain(&error));
                Ok((Ledger::default(), String::new()))
            }
        }
    }

    pub(super) async fn save(&self, writer: &Writer, text: &str) -> Result<(), String> {
        let body = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "data": {KEY: text},
        });
        let params = PatchParams::apply(MANAGER_ENGINE).force();
        let (key, patch) = (self.key(), Patch::Apply(&body));
        let written = self.api.patch(&self.name, &params, &patch);
        writer.effect(EffectKind::Apply, &key, written).await.map(drop).map_err(|error| explain(&error))
    }
}
