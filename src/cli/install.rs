//! `--install-crds`: our definitions, before anybody asks for their kinds; and Argo Rollouts' kinds of analysis, where Rollouts are
//! on and nobody else has defined them.

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
pub(super) async fn install_crds(cluster: &Cluster, writer: &Writer, rollouts: bool) -> anyhow::Result<()> {
    let mut said = Said::default();
    loop {
        writer.claim().acquired().await;
        match try_install_crds(cluster, writer, rollouts).await {
            Ok(()) => {
                await_served(cluster, &definitions(rollouts)).await;
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

fn definitions(rollouts: bool) -> Vec<CustomResourceDefinition> {
    let of_argo = if rollouts { api::argo_crds() } else { Vec::new() };
    api::crds().into_iter().chain(of_argo).collect()
}

async fn try_install_crds(cluster: &Cluster, writer: &Writer, rollouts: bool) -> Result<(), (String, WriteError)> {
    let definitions_api: Api<CustomResourceDefinition> = Api::all(cluster.client());
    for definition in definitions(rollouts) {
        let name = definition.metadata.name.clone().unwrap_or_default();
        let key = format!("CustomResourceDefinition {name}");
        let named = |error: WriteError| (key.clone(), error);
        if definition.spec.group == api::ARGO_GROUP
            && is_anothers(&definitions_api, &name).await.map_err(|error| named(error.into()))?
        {
            continue;
        }
        let params = PatchParams::apply(MANAGER_SYNC).force();
        let patch = Patch::Apply(&definition);
        let apply = definitions_api.patch(&name, &params, &patch);
        writer.effect(EffectKind::Apply, &key, apply).await.map_err(named)?;
    }
    Ok(())
}

/// Whether somebody else has defined a kind: that definition is left as it is.
async fn is_anothers(definitions: &Api<CustomResourceDefinition>, name: &str) -> kube::Result<bool> {
    let Some(found) = definitions.get_opt(name).await? else { return Ok(false) };
    let managers = found.metadata.managed_fields.unwrap_or_default();
    Ok(managers.iter().all(|entry| entry.manager.as_deref() != Some(MANAGER_SYNC)))
}

/// A real API server serves a kind a moment after its definition is there; who asks before is told that there is no such
/// kind. When it takes longer, the rooms that need it say so and try again.
async fn await_served(cluster: &Cluster, definitions: &[CustomResourceDefinition]) {
    let served = async {
        while !all_served(cluster, definitions).await {
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

async fn all_served(cluster: &Cluster, definitions: &[CustomResourceDefinition]) -> bool {
    cluster.forget_discovery();
    for definition in definitions {
        let CustomResourceDefinitionSpec { group, names, versions, .. } = &definition.spec;
        for version in versions.iter().filter(|version| version.served) {
            if cluster.resolve(group, &version.name, &names.kind).await.is_err() {
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
        install_crds(&cluster, &Writer::new(Claim::always()), false).await.unwrap();
        assert_eq!(answers.load(Ordering::Relaxed), 0, "it was asked until it answered");
        cluster.resolve("flagger.app", "v1beta1", "Canary").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn argos_kinds_of_analysis_come_with_rollouts_and_never_over_argos_own() {
        let cluster = Cluster::from_client(kube::Client::new(ApiServer::new(), "default"));
        let writer = Writer::new(Claim::always());
        install_crds(&cluster, &writer, false).await.unwrap();
        assert!(cluster.resolve("argoproj.io", "v1alpha1", "AnalysisRun").await.is_err());
        let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
        let mut argos = api::argo_crds().remove(0);
        argos.spec.names.short_names = Some(vec!["theirs".to_owned()]);
        let name = argos.metadata.name.clone().unwrap();
        definitions.create(&kube::api::PostParams::default(), &argos).await.unwrap();
        for _ in 0..2 {
            install_crds(&cluster, &writer, true).await.unwrap();
            cluster.resolve("argoproj.io", "v1alpha1", "AnalysisRun").await.unwrap();
            let kept = definitions.get(&name).await.unwrap().spec.names.short_names;
            assert_eq!(kept, Some(vec!["theirs".to_owned()]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_that_are_never_served_are_not_waited_for_for_ever() {
        let answers = Arc::new(AtomicU32::new(u32::MAX));
        let cluster = late(ApiServer::new(), &answers);
        let before = tokio::time::Instant::now();
        install_crds(&cluster, &Writer::new(Claim::always()), false).await.unwrap();
        assert!(before.elapsed() >= SERVED_WITHIN);
    }
}
