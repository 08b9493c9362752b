//! `set image` and `undo`: another pod template. Where Git owns the Rollout it would be put back at once, so Git is where it is changed.

use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::{Value, json};

use super::{Target, ask};
use crate::api::annotations::SOURCE;
use crate::cli::exit::{CliError, Exit};
use crate::cli::output;
use crate::rollout::keys::{HASH, REVISION};

/// Lists of containers of a pod.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Gives a container, or all of them, another image.
pub(super) async fn set_image(target: &Target, name: &str, image: &str) -> anyhow::Result<u8> {
    let Some((container, wanted)) = image.split_once('=').filter(|(_, wanted)| !wanted.contains('=')) else {
        let wrong = anyhow::anyhow!("`{image}` does not name a container and an image");
        return Err(CliError::input(wrong).hint("write CONTAINER=IMAGE, or *=IMAGE for every container").into());
    };
    let rollout = target.get(name).await?;
    refuse_what_is_gits(&rollout, name)?;
    let mut template = rollout.data["spec"]["template"].clone();
    if !replace_images(&mut template, container, wanted) {
        let missing = anyhow::anyhow!("unable to find container named \"{container}\" in rollout '{name}'");
        return Err(CliError::input(missing).into());
    }
    write(target, name, &rollout, template).await?;
    output::data(&format!("rollout \"{name}\" image updated\n"))?;
    Ok(Exit::Done.code())
}

/// Whether there is such a container.
fn replace_images(template: &mut Value, container: &str, image: &str) -> bool {
    let mut found = false;
    for list in CONTAINERS {
        let containers = template["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for one in containers.filter(|one| container == "*" || one["name"] == container) {
            one["image"] = Value::from(image);
            found = true;
        }
    }
    found
}

/// Gives it the template of an earlier revision.
pub(super) async fn undo(target: &Target, name: &str, to: u64) -> anyhow::Result<u8> {
    let rollout = target.get(name).await?;
    refuse_what_is_gits(&rollout, name)?;
    let sets: Api<ReplicaSet> = Api::namespaced(target.connection.client.clone(), &target.namespace);
    let found = sets.list(&ListParams::default().labels(HASH)).await;
    let found = found.map_err(|error| target.connection.failed(error, "list ReplicaSets"))?;
    let uid = rollout.metadata.uid.as_deref();
    let own = found
        .items
        .into_iter()
        .filter(|set| set.metadata.owner_references.iter().flatten().any(|owner| Some(owner.uid.as_str()) == uid));
    let mut revisions: Vec<(u64, Value)> = own
        .filter_map(|set| {
            let number = set.metadata.annotations.as_ref()?.get(REVISION)?.parse().ok()?;
            Some((number, serde_json::to_value(set.spec?.template?).ok()?))
        })
        .collect();
    revisions.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let wanted = match to {
        0 => revisions.into_iter().nth(1),
        to => revisions.into_iter().find(|(number, _)| *number == to),
    };
    let Some((number, mut template)) = wanted else {
        let missing = match to {
            0 => anyhow::anyhow!("no revision found for rollout \"{name}\""),
            _ => anyhow::anyhow!("unable to find specified revision {to} in history"),
        };
        return Err(CliError::input(missing).into());
    };
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    let digest = crate::manifest::template_digest;
    if digest(&template) == digest(&rollout.data["spec"]["template"]) {
        output::data(&format!("skipped rollback (current template already matches revision {number})\n"))?;
        return Ok(Exit::Done.code());
    }
    write(target, name, &rollout, template).await?;
    output::data(&format!("rollout '{name}' undo\n"))?;
    Ok(Exit::Done.code())
}

async fn write(target: &Target, name: &str, rollout: &DynamicObject, template: Value) -> anyhow::Result<()> {
    let patch = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": rollout.metadata.resource_version},
        {"op": "replace", "path": "/spec/template", "value": template},
    ]);
    ask::patch_tested(target, name, serde_json::from_value(patch)?).await
}

fn refuse_what_is_gits(rollout: &DynamicObject, name: &str) -> anyhow::Result<()> {
    let annotations = rollout.metadata.annotations.as_ref();
    let Some(source) = annotations.and_then(|all| all.get(SOURCE)) else { return Ok(()) };
    let owned = anyhow::anyhow!("rollout '{name}' is Git's (source {source}), which would put its template back");
    Err(CliError::input(owned).hint("change it in the repository and push").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_or_one_gets_the_image() {
        let template = json!({"spec": {
            "containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}],
            "initContainers": [{"name": "c", "image": "c:1"}],
        }});
        let images = |container: &str| {
            let mut template = template.clone();
            let found = replace_images(&mut template, container, "new:2");
            let image = |path: &str| template.pointer(path).unwrap()["image"].clone();
            (found, image("/spec/containers/0"), image("/spec/containers/1"), image("/spec/initContainers/0"))
        };
        assert_eq!(images("b"), (true, json!("a:1"), json!("new:2"), json!("c:1")));
        assert_eq!(images("*"), (true, json!("new:2"), json!("new:2"), json!("new:2")));
        assert!(!images("d").0);
    }
}
