//! `--install-crds`: our definitions, before anybody asks for their kinds.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionSpec,
};
use kube::Api;
use kube::api::{Patch, PatchParams};

use crate::api;
use crate::api::annotations::MANAGER_SYNC;
use crate::cluster::{Cluster, EffectKind, ErrorKind, Said, WriteError, Writer, explain};

/// Pause before our definitions are applied again, after an API server that was away or overloaded.
const INSTALL_AGAIN: Duration = Duration::from_secs(2);
/// Longest wait for the kinds of applied definitions; a second or two is usual.
const SERVED_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two looks at what is served: short beside a start, few requests in all.
const SERVED_AGAIN: Duration = Duration::from_millis(200);

/// Applies our definitions and waits until their kinds are served. An API server that is away is waited for.
///
/// # Errors
/// When the API server refuses a definition.
pub(super) async fn install_crds(cluster: &Cluster, writer: &Writer) -> anyhow::Result<()> {
    let mut said = Said::default();
    loop {
        writer.claim().acquired().await;
        match try_install_crds(cluster, writer).await {
            Ok(()) => {
                await_served(cluster).await;
                return Ok(());
            }
            Err((key, error)) if matches!(error.kind(), ErrorKind::Refused | ErrorKind::Gone) => {
                return Err(anyhow::Error::new(error).context(format!("failed to install {key}")));
            }
            Err((key, error)) => {
                let words = format!("failed to install {key}, trying again: {}", explain(&error));
                if said.is_news(&words) {
                    tracing::warn!("{words}");
                }
                tokio::time::sleep(INSTALL_AGAIN).await;
            }
        }
    }
}

async fn try_install_crds(cluster: &Cluster, writer: &Writer) -> Result<(), (String, WriteError)> {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    for definition in api::crds() {
        let name = definition.metadata.name.clone().unwrap_or_default();
        let params = PatchParams::apply(MANAGER_SYNC).force();
        let patch = Patch::Apply(&definition);
        let key = format!("CustomResourceDefinition {name}");
        let apply = definitions.patch(&name, &params, &patch);
        writer.effect(EffectKind::Apply, &key, apply).await.map_err(|error| (key.clone(), error))?;
    }
    Ok(())
}

/// A real API server serves a kind a moment after its definition is there; who asks before is told that there is no such
/// kind. When it takes longer, the rooms that need it say so and try again.
async fn await_served(cluster: &Cluster) {
    let served = async {
        while !all_served(cluster).await {
            tokio::time::sleep(SERVED_AGAIN).await;
        }
    };
    if tokio::time::timeout(SERVED_WITHIN, served).await.is_err() {
        tracing::warn!(
            "the API server does not serve our kinds {} s after their definitions",
            SERVED_WITHIN.as_secs()
        );
    }
}

async fn all_served(cluster: &Cluster) -> bool {
    cluster.forget_discovery();
    for definition in api::crds() {
        let CustomResourceDefinitionSpec { group, names, versions, .. } = definition.spec;
        for version in versions.iter().filter(|version| version.served) {
            if cluster.resolve(&group, &version.name, &names.kind).await.is_err() {
                return false;
            }
        }
    }
    true
}

#[cfg(all(test, feature = "sandbox"))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::{Request, Uri};

    use super::*;
    use crate::cluster::Claim;
    use crate::sandbox::apiserver::ApiServer;

    /// As a real API server does: our kinds are not served in the first answers.
    fn late(server: ApiServer, answers: &Arc<AtomicU32>) -> Cluster {
        let answers = answers.clone();
        let service = tower::util::MapRequest::new(server, move |mut request: Request<kube::client::Body>| {
            let ours = request.uri().path() == "/apis/flagger.app/v1beta1";
            if ours
                && answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                *request.uri_mut() = Uri::from_static("/apis/not.served/v1");
            }
            request
        });
        Cluster::from_client(kube::Client::new(service, "default"))
    }

    #[tokio::test(start_paused = true)]
    async fn our_kinds_are_served_when_it_is_over() {
        let answers = Arc::new(AtomicU32::new(3));
        let cluster = late(ApiServer::new(), &answers);
        install_crds(&cluster, &Writer::new(Claim::always())).await.unwrap();
        assert_eq!(answers.load(Ordering::Relaxed), 0, "it was asked until it answered");
        cluster.resolve("flagger.app", "v1beta1", "Canary").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_that_are_never_served_are_not_waited_for_for_ever() {
        let answers = Arc::new(AtomicU32::new(u32::MAX));
        let cluster = late(ApiServer::new(), &answers);
        let before = tokio::time::Instant::now();
        install_crds(&cluster, &Writer::new(Claim::always())).await.unwrap();
        assert!(before.elapsed() >= SERVED_WITHIN);
    }
}
