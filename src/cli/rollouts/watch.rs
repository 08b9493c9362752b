//! `get rollout`, `list rollouts` and `status`: what is read and shown, once or again and again.

use std::io::IsTerminal as _;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use serde_json::Value;
use tokio::time::Instant;

use super::tree::{self, Shown};
use super::{Target, analysis, kind};
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::screen::Live;
use crate::rollout::keys::HASH;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Shows a Rollout, again and again if `watch`.
pub(super) async fn get(target: &Target, name: &str, watch: bool, limit: Option<Duration>) -> anyhow::Result<u8> {
    let first = read(target, name).await?;
    if !watch {
        output::data(&tree::render(&first, Timestamp::now()))?;
        return Ok(Exit::Done.code());
    }
    let until = limit.map(|limit| Instant::now() + limit);
    let mut live = if std::io::stdout().is_terminal() { Some(Live::enter()?) } else { None };
    let mut shown = String::new();
    let mut next = first;
    loop {
        let text = tree::render(&next, Timestamp::now());
        match &mut live {
            Some(live) => live.draw(&text)?,
            None if text != shown => output::data(&text)?,
            None => {}
        }
        shown = text;
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(Exit::Done.code());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            stopped = tokio::signal::ctrl_c() => return stopped.map(|()| Exit::Done.code()).map_err(Into::into),
        }
        next = read(target, name).await?;
    }
}

async fn read(target: &Target, name: &str) -> anyhow::Result<Shown> {
    let rollout = value(target.get(name).await?)?;
    let client = || target.connection.client.clone();
    let labelled = ListParams::default().labels(HASH);
    let sets: Api<k8s_openapi::api::apps::v1::ReplicaSet> = Api::namespaced(client(), &target.namespace);
    let pods: Api<Pod> = Api::namespaced(client(), &target.namespace);
    let failed = |error, what: &str| target.connection.failed(error, what);
    let sets = sets.list(&labelled).await.map_err(|error| failed(error, "list ReplicaSets"))?;
    let pods = pods.list(&labelled).await.map_err(|error| failed(error, "list pods"))?;
    let sets = sets.items.into_iter().map(value).collect::<Result<Vec<Value>, _>>()?;
    let pods = pods.items.into_iter().map(value).collect::<Result<Vec<Value>, _>>()?;
    let of = |owner: &Value, all: Vec<Value>| -> Vec<Value> {
        all.into_iter().filter(|object| tree::is_owned(object, owner)).collect()
    };
    let sets = of(&rollout, sets);
    let runs = match analysis::runs(target).list(&ListParams::default()).await {
        Ok(found) => found.items.into_iter().map(value).collect::<Result<Vec<Value>, _>>()?,
        // Without its definition there are none; who may not see them sees the rest.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Vec::new(),
        Err(error) => return Err(failed(error, "list AnalysisRuns")),
    };
    let runs = of(&rollout, runs);
    Ok(Shown { rollout, sets, pods, runs })
}

fn value(object: impl serde::Serialize) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(object)?)
}

/// Lists Rollouts.
pub(super) async fn list(target: &Target, all: bool) -> anyhow::Result<u8> {
    let api: Api<DynamicObject> = match all {
        true => Api::all_with(target.connection.client.clone(), &kind()),
        false => target.rollouts(),
    };
    let found = api.list(&ListParams::default()).await;
    let found = found.map_err(|error| target.connection.failed(error, "list Rollouts"))?;
    if found.items.is_empty() {
        output::message("No resources found.");
        return Ok(Exit::Done.code());
    }
    let rollouts = found.items.into_iter().map(value).collect::<Result<Vec<Value>, _>>()?;
    output::data(&tree::list(&rollouts, all))?;
    Ok(Exit::Done.code())
}

/// Says how it stands; waits until it is Healthy or Degraded if `watch`.
pub(super) async fn status(
    target: &Target,
    name: &str,
    watch: bool,
    limit: Option<Duration>,
) -> anyhow::Result<u8> {
    let until = limit.map(|limit| Instant::now() + limit);
    let mut said = String::new();
    loop {
        let rollout = value(target.get(name).await?)?;
        let (phase, message) = tree::phase(&rollout);
        let line = if message.is_empty() { phase.clone() } else { format!("{phase} - {message}") };
        if line != said {
            output::data(&format!("{line}\n"))?;
            said = line;
        }
        match phase.as_str() {
            "Degraded" => {
                output::message(&format!("Error: The rollout is in a degraded state with message: {message}"));
                return Ok(Exit::Failed.code());
            }
            "Healthy" => return Ok(Exit::Done.code()),
            _ if !watch => return Ok(Exit::Done.code()),
            _ => {}
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            output::message("Error: Rollout status watch exceeded timeout");
            return Ok(Exit::Failed.code());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
