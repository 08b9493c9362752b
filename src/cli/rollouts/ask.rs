//! Commands: patches of a Rollout's status and of `spec.paused`, as Argo Rollouts' plugin sends them. Who may patch may ask.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::Target;
use crate::api::annotations::MANAGER_CLI;
use crate::cli::exit::{CliError, Exit};
use crate::cli::output;

fn params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER_CLI.to_owned()), ..PatchParams::default() }
}

async fn patch_status(target: &Target, name: &str, status: Value) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({"status": status}));
    let api = target.rollouts();
    let done = api.patch_status(name, &params(), &patch).await;
    done.map(drop).map_err(|error| target.connection.failed(error, &format!("patch the status of Rollout {name}")))
}

pub(super) async fn patch_spec(target: &Target, name: &str, spec: Value) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({"spec": spec}));
    let api = target.rollouts();
    let done = api.patch(name, &params(), &patch).await;
    done.map(drop).map_err(|error| target.connection.failed(error, &format!("patch Rollout {name}")))
}

/// A JSON Patch; it tests what it is based on.
pub(super) async fn patch_tested(target: &Target, name: &str, patch: json_patch::Patch) -> anyhow::Result<()> {
    let patch = Patch::Json::<()>(patch);
    let api = target.rollouts();
    let done = api.patch(name, &params(), &patch).await;
    done.map(drop).map_err(|error| target.connection.failed(error, &format!("patch Rollout {name}")))
}

/// Lets a paused one go on; whole, it skips all that is left.
pub(super) async fn promote(target: &Target, name: &str, full: bool) -> anyhow::Result<u8> {
    let rollout = target.get(name).await?;
    let (spec, status) = (&rollout.data["spec"], &rollout.data["status"]);
    let is_released = status["currentPodHash"] != status["stableRS"];
    let at_pause = status["pauseConditions"].as_array().is_some_and(|all| !all.is_empty());
    let held = spec["paused"] == true;
    if !full && !at_pause && !held {
        let reason = match is_released {
            true => "it is not paused: `--full` skips all steps that are left",
            false => "nothing is being released",
        };
        return Err(CliError::input(anyhow::anyhow!("rollout '{name}' was not promoted: {reason}")).into());
    }
    if full && is_released {
        patch_status(target, name, json!({"promoteFull": true})).await?;
    } else if !full && at_pause {
        patch_status(target, name, json!({"pauseConditions": null})).await?;
    }
    if held {
        patch_spec(target, name, json!({"paused": false})).await?;
    }
    output::data(&format!("rollout '{name}' {}promoted\n", if full { "fully " } else { "" }))?;
    Ok(Exit::Done.code())
}

/// Goes back to what serves.
pub(super) async fn abort(target: &Target, names: &[String]) -> anyhow::Result<u8> {
    for name in names {
        patch_status(target, name, json!({"abort": true})).await?;
        output::data(&format!("rollout '{name}' aborted\n"))?;
    }
    Ok(Exit::Done.code())
}

/// Tries aborted ones again.
pub(super) async fn retry(target: &Target, names: &[String]) -> anyhow::Result<u8> {
    for name in names {
        patch_status(target, name, json!({"abort": false})).await?;
        output::data(&format!("rollout '{name}' retried\n"))?;
    }
    Ok(Exit::Done.code())
}

/// Keeps them where they are.
pub(super) async fn pause(target: &Target, names: &[String]) -> anyhow::Result<u8> {
    for name in names {
        patch_spec(target, name, json!({"paused": true})).await?;
        output::data(&format!("rollout '{name}' paused\n"))?;
    }
    Ok(Exit::Done.code())
}
