//! Whether the API server keeps our part of a Canary's status.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;

use crate::api::{Keeps, keeps_serin_status};
use crate::cluster::{Cluster, call};

/// What is said when it does not: Flagger's own definition prunes fields that it does not know.
pub(super) const PRUNES: &str = "the served Canary definition drops status.serin, so no state survives; install Serin's \
                                 definitions: serin crds | kubectl apply --server-side -f -";

/// `Some(reason)` if the definition prunes our status, or part of it. If it cannot be read (RBAC may forbid it), the first status write
/// tells.
pub(super) async fn check(cluster: &Cluster) -> Option<String> {
    let api = Api::<CustomResourceDefinition>::all(cluster.client());
    match call("read CustomResourceDefinition canaries.flagger.app", api.get("canaries.flagger.app")).await {
        Ok(definition) => match keeps_serin_status(&definition) {
            Keeps::All => None,
            Keeps::Not(field) => Some(format!(
                "the served Canary definition is of an earlier version and drops {field}; install this version's \
                 definitions: serin crds | kubectl apply --server-side -f -"
            )),
            Keeps::Nothing => Some(PRUNES.to_owned()),
        },
        Err(error) => {
            tracing::debug!(error = %error, "the Canary definition cannot be read, the first status write will tell");
            None
        }
    }
}
