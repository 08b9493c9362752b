//! What belongs to one Canary: both workloads.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client, ResourceExt};

use crate::api::annotations::PENDING;

/// What belongs to one Canary.
pub(super) struct Around {
    pub(super) target: Option<Deployment>,
    pub(super) primary: Option<Deployment>,
}

impl Around {
    /// The revision that `sync` holds back.
    pub(super) fn pending(&self) -> Option<String> {
        self.target.as_ref()?.annotations().get(PENDING).cloned()
    }
}

/// Reads it.
pub(super) async fn read(client: &Client, namespace: &str, target: &str) -> kube::Result<Around> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let primary_name = format!("{target}-primary");
    let (target_side, primary) =
        futures::future::try_join(deployments.get_opt(target), deployments.get_opt(&primary_name)).await?;
    Ok(Around { target: target_side, primary })
}
