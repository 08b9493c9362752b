//! Configs as a part of their targets' revisions: what Git has of them, the copies that templates read, and when a config that is
//! still read by its own name may change. The first half is PURE.
//!
//! A target that runs without copies goes on so until something of it changes: to be taken over, or upgraded, restarts no pod.

use std::collections::{BTreeMap, BTreeSet};

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::apply::{Applier, Prepared, Trouble};
use super::desired::{Desired, DesiredSet, Reader, Role, TargetConfigs};
use super::order::Stage;
use super::ownership;
use super::pass::Until;
use super::survey;
use super::target::CanaryFacts;
use crate::api::annotations::MANAGER_SYNC;
use crate::cluster::{EffectKind, call};
use crate::manifest::{
    ConfigKind, ConfigName, Pinned, configs_read, copy_of, pinned, same_content, template_digest, without_copies,
};
use crate::model::{Digest, ObjectRef};

/// Finds the configs of every target, adds the copies that it reads, and tells each config who does.
pub(super) fn pin(set: &mut DesiredSet) {
    let mut known: BTreeMap<ObjectRef, Desired> = BTreeMap::new();
    for object in set.objects.iter().filter(|object| is_config(&object.id)) {
        known.insert(object.id.clone(), object.clone());
    }
    let mut copies: BTreeMap<ObjectRef, Desired> = BTreeMap::new();
    let mut revisions: BTreeMap<(Option<String>, String), Pinned> = BTreeMap::new();
    for object in &mut set.objects {
        let Role::Target { configs, .. } = &mut object.role else { continue };
        let namespace = object.id.namespace.clone();
        let template = &object.body["spec"]["template"];
        let id = |name: &ConfigName| config_id(namespace.as_deref(), name.kind, &name.name);
        let found = pinned(template, |name| known.get(&id(name)).map(|config| &config.body));
        let may_be_there = |name: &ConfigName| set.named.contains(&id(name)) || !set.complete;
        let missing = |name: &ConfigName| !known.contains_key(&id(name));
        let unsure =
            configs_read(template).into_iter().filter(|name| missing(name) && may_be_there(name)).collect();
        let mut wanted = Vec::new();
        for pin in found.iter().flat_map(|found| &found.pins) {
            let Some(config) = known.get(&id(&pin.config())) else { continue };
            wanted.push(config.body.clone());
            let copy = config_id(namespace.as_deref(), pin.kind, &pin.copy);
            copies.entry(copy.clone()).or_insert_with(|| copied(config, copy));
        }
        if let Some(found) = &found {
            object.digest = Digest::of_canonical(format!("{}\n{}", object.digest, found.digest).as_bytes());
            revisions.insert((namespace, object.id.name.clone()), found.clone());
        }
        **configs = TargetConfigs { pinned: found, wanted, unsure };
    }
    for object in &mut set.objects {
        let Role::TargetConfig { readers } = &mut object.role else { continue };
        for reader in readers {
            let key = (object.id.namespace.clone(), reader.target.clone());
            let reads = |found: &&Pinned| found.pins.iter().any(|pin| is_of(&object.id, pin.kind, &pin.name));
            reader.pinned = revisions.get(&key).filter(reads).map(|found| found.digest.clone());
        }
    }
    set.named.extend(copies.keys().cloned());
    let taken: BTreeSet<ObjectRef> = set.objects.iter().map(|object| object.id.clone()).collect();
    set.objects.extend(copies.into_values().filter(|copy| !taken.contains(&copy.id)));
    set.objects.sort_by(|a, b| (Stage::of(&a.id), &a.id).cmp(&(Stage::of(&b.id), &b.id)));
}

fn copied(config: &Desired, id: ObjectRef) -> Desired {
    let body = copy_of(&config.body, &id.name);
    let digest = Digest::of_canonical(format!("copy\n{body}").as_bytes());
    let (version, origin) = (config.version.clone(), config.origin.clone());
    Desired { id, version, body, digest, origin, role: Role::ConfigCopy, warnings: Vec::new() }
}

fn config_id(namespace: Option<&str>, kind: ConfigKind, name: &str) -> ObjectRef {
    let (kind, name) = (kind.as_str().to_owned(), name.to_owned());
    ObjectRef { group: String::new(), kind, namespace: namespace.map(str::to_owned), name }
}

fn is_config(id: &ObjectRef) -> bool {
    id.group.is_empty() && ConfigKind::of(&id.kind).is_some()
}

fn is_of(id: &ObjectRef, kind: ConfigKind, name: &str) -> bool {
    id.kind == kind.as_str() && id.name == name
}

/// Why a target is not written yet: a copy that it would read could not be made, and its pods would wait for it in vain.
pub(super) fn missing_copy(target: &Desired, conditions: &BTreeMap<ObjectRef, String>) -> Option<String> {
    let Role::Target { configs, .. } = &target.role else { return None };
    let pins = configs.pinned.iter().flat_map(|found| &found.pins);
    let copies = pins.map(|pin| config_id(target.id.namespace.as_deref(), pin.kind, &pin.copy));
    let missing = copies.into_iter().find(|copy| conditions.contains_key(copy))?;
    Some(format!("{}: {} is held until {missing}, which it reads, can be made", target.origin, target.id))
}

/// A target as Git wants it.
pub(super) struct Wanted {
    /// The object, its template with or without copies.
    pub(super) body: Value,
    /// Its template's digest.
    pub(super) digest: Digest,
}

impl Applier<'_> {
    /// Which of its two forms a target is to have: the one that reads copies, unless it runs as Git wrote it and its configs are
    /// what they were.
    pub(super) async fn wanted_form(
        &self,
        object: &Desired,
        (plain, configs): (&Digest, &TargetConfigs),
        live: Option<&Value>,
        facts: &CanaryFacts,
    ) -> Result<Wanted, Trouble> {
        let as_written = || Wanted { body: object.body.clone(), digest: plain.clone() };
        if let Some(live) = live {
            let now = &live["spec"]["template"];
            if let Some(lost) = configs.unsure.iter().find(|name| reads_copy_of(now, name)) {
                return Err(Trouble::Object(format!(
                    "it is held: it reads {} {}, which cannot be read in Git",
                    lost.kind.as_str(),
                    lost.name
                )));
            }
        }
        let Some(Pinned { template, digest, pins: _ }) = &configs.pinned else { return Ok(as_written()) };
        let runs_as_written = |live: &Value| template_digest(&live["spec"]["template"]) == *plain;
        let promoted = facts.promoted.as_ref().is_some_and(|promoted| promoted.digest == *plain);
        if let Some(live) = live
            && (promoted || runs_as_written(live))
            && self.are_as_wanted(object, &configs.wanted).await?
        {
            return Ok(as_written());
        }
        let mut body = object.body.clone();
        body["spec"]["template"] = template.clone();
        Ok(Wanted { body, digest: digest.clone() })
    }

    /// Whether configs hold in the cluster what Git says.
    async fn are_as_wanted(&self, target: &Desired, wanted: &[Value]) -> Result<bool, Trouble> {
        for config in wanted {
            let live =
                self.read_beside(target, "", "v1", config["kind"].as_str(), config["metadata"]["name"].as_str());
            let same = live.await?.is_some_and(|live| same_content(&live, config));
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A config that targets read: it takes effect with a release, so it changes neither under one, nor while what serves reads it by
    /// its own name.
    pub(super) async fn prepare_config(&self, object: &Desired, readers: &[Reader]) -> Result<Prepared, Trouble> {
        let looked = self.look(object).await?;
        let prepared = self.prepare_body(object, &looked, object.body.clone()).await?;
        let Some(live) = looked.live.as_ref().filter(|_| !prepared.writes.is_empty()) else { return Ok(prepared) };
        let other_content = !same_content(live, &object.body);
        for Reader { canary, target, pinned } in readers {
            let facts = self.canary(canary).await?;
            if !facts.allows_changes() {
                return Ok(Prepared::waiting(canary, Until::Idle, format!("the release of {canary} reads it")));
            }
            let Some(digest) = pinned.as_ref().filter(|_| other_content) else { continue };
            for side in [format!("{target}-primary"), target.clone()] {
                let workload = self.read_beside(object, "apps", "v1", Some("Deployment"), Some(&side)).await?;
                if workload.is_some_and(|workload| reads(&workload["spec"]["template"], &object.id)) {
                    let reason = format!(
                        "{side} reads it by its own name; it changes when {canary} has released {}",
                        digest.short()
                    );
                    return Ok(Prepared::waiting(canary, Until::Promoted(digest.clone()), reason));
                }
            }
        }
        Ok(prepared)
    }

    /// A copy that a recorded template reads, as it is written.
    pub(super) fn placed_copy(&self, copy: &Value, target: &Desired) -> Value {
        let mut copy = copy.clone();
        copy["metadata"]["namespace"] = json!(target.id.namespace);
        ownership::stamped(&mut copy, self.others.own());
        copy
    }

    /// Makes it.
    pub(super) async fn write_copy(&self, body: &Value) -> Result<(), Trouble> {
        let id = survey::identity(body);
        let resolved = self.cluster.resolve("", "v1", &id.kind).await?;
        let api: Api<DynamicObject> = self.cluster.objects(&resolved, id.namespace.as_deref());
        let params = PatchParams::apply(MANAGER_SYNC).force();
        let patch = Patch::Apply(body);
        self.writer.effect(EffectKind::Apply, &id.to_string(), api.patch(&id.name, &params, &patch)).await?;
        Ok(())
    }

    /// An object in the namespace of another.
    async fn read_beside(
        &self,
        beside: &Desired,
        group: &str,
        version: &str,
        kind: Option<&str>,
        name: Option<&str>,
    ) -> Result<Option<Value>, Trouble> {
        let (Some(kind), Some(name)) = (kind, name) else { return Ok(None) };
        let resolved = self.cluster.resolve(group, version, kind).await?;
        let api: Api<DynamicObject> = self.cluster.objects(&resolved, beside.id.namespace.as_deref());
        let found = call(&format!("read {kind} {name}"), api.get_opt(name)).await?;
        Ok(found.map(serde_json::to_value).transpose()?)
    }
}

fn reads(template: &Value, config: &ObjectRef) -> bool {
    configs_read(template).iter().any(|read| is_of(config, read.kind, &read.name))
}

fn reads_copy_of(template: &Value, config: &ConfigName) -> bool {
    configs_read(template).iter().any(|read| read.kind == config.kind && config.is_copied_by(&read.name))
}

/// A workload whose template reads what people wrote, as far as `wanted` says what that is.
pub(super) fn as_people_wrote(workload: &Value, wanted: &Value) -> Value {
    let template = without_copies(&workload["spec"]["template"], &configs_read(&wanted["spec"]["template"]));
    json!({"spec": {"template": template}})
}

#[cfg(test)]
#[path = "configs_tests.rs"]
mod tests;
