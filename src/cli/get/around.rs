//! What belongs to one Canary: both workloads, and what `sync` warned of.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::api::annotations::PENDING;
use crate::sync::SYNC_FAILED;

use super::view::SyncWarning;

/// Warnings shown; each is an Event that the cluster keeps for about an hour.
const WARNINGS_SHOWN: usize = 3;

/// What belongs to one Canary.
pub(super) struct Around {
    pub(super) target: Option<Deployment>,
    pub(super) primary: Option<Deployment>,
    /// Newest last.
    pub(super) sync_warnings: Vec<SyncWarning>,
}

impl Around {
    /// The revision that `sync` holds back.
    pub(super) fn pending(&self) -> Option<String> {
        self.target.as_ref()?.annotations().get(PENDING).cloned()
    }
}

/// Reads it.
pub(super) async fn read(client: &Client, namespace: &str, canary: &str, target: &str) -> kube::Result<Around> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let primary_name = format!("{target}-primary");
    let (target_side, primary) =
        futures::future::try_join(deployments.get_opt(target), deployments.get_opt(&primary_name)).await?;
    let mut sync_warnings = warnings(client, namespace, canary).await?;
    if target != canary {
        sync_warnings.extend(warnings(client, namespace, target).await?);
    }
    sync_warnings.sort_by_key(|warning| warning.at);
    let skipped = sync_warnings.len().saturating_sub(WARNINGS_SHOWN);
    Ok(Around { target: target_side, primary, sync_warnings: sync_warnings.split_off(skipped) })
}

async fn warnings(client: &Client, namespace: &str, name: &str) -> kube::Result<Vec<SyncWarning>> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
    let events = events.list(&about).await?;
    let failed = events.items.into_iter().filter(|event| event.reason.as_deref() == Some(SYNC_FAILED));
    Ok(failed
        .map(|event| SyncWarning {
            at: event.last_timestamp.as_ref().map(|time| -> Timestamp { time.0 }),
            message: event.message.unwrap_or_default(),
        })
        .collect())
}
