//! Configs as a part of a revision: a template reads immutable copies of its ConfigMaps and Secrets, named by their content.
//!
//! Then another config is another template: it is released, promoted and rolled back like an image, and what primary reads does
//! not change under it. The rule is the one of kustomize's generators, so pods say plainly what they read. Only configs that the
//! same commit has can be pinned; what else a template names stays as it is.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::digest::{canonical_json, template_digest};
use crate::model::Digest;

/// On a ConfigMap or Secret: `disabled` leaves it out. The second is Flagger's key.
pub const CONFIG_TRACKING: [&str; 2] = ["serin.dev/config-tracking", "flagger.app/config-tracking"];

/// Longest name of an object: a DNS subdomain.
const NAME_MAX: usize = 253;
/// Characters of the content's digest in a copy's name; as many as of a ReplicaSet's.
const HASH: usize = 8;
/// Secrets that hold what an application reads; others belong to Kubernetes or a controller. Those that Flagger tracks.
const SECRET_TYPES: [&str; 4] =
    ["Opaque", "kubernetes.io/basic-auth", "kubernetes.io/ssh-auth", "kubernetes.io/tls"];

/// The kind of a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConfigKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// A config in a template's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigName {
    /// Its kind.
    pub kind: ConfigKind,
    /// Its name.
    pub name: String,
}

/// A config and the copy of it that a template reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pin {
    /// The config's kind.
    pub kind: ConfigKind,
    /// The config's name.
    pub name: String,
    /// The copy's name: `<name>-<hash>`.
    pub copy: String,
}

/// A template that reads copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The template.
    pub template: Value,
    /// Its digest.
    pub digest: Digest,
    /// What it reads in whose place.
    pub pins: Vec<Pin>,
}

impl ConfigKind {
    /// As in an object's `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }

    /// The kind of an object of the core group.
    pub fn of(kind: &str) -> Option<Self> {
        [Self::ConfigMap, Self::Secret].into_iter().find(|known| known.as_str() == kind)
    }
}

impl Pin {
    /// What is copied.
    pub fn config(&self) -> ConfigName {
        ConfigName { kind: self.kind, name: self.name.clone() }
    }
}

/// The configs that a pod template reads: in volumes, projected volumes and environments of all its containers.
pub fn configs_read(template: &Value) -> BTreeSet<ConfigName> {
    let mut found = BTreeSet::new();
    let mut template = template.clone();
    each_name(&mut template, &mut |kind, name| {
        found.extend(name.as_str().map(|name| ConfigName { kind, name: name.to_owned() }));
    });
    found
}

/// The template with every config replaced by a copy that `config` knows and that may be tracked; `None` if there is none.
pub fn pinned<'v>(template: &Value, config: impl Fn(&ConfigName) -> Option<&'v Value>) -> Option<Pinned> {
    let pin = |read: ConfigName| {
        let object = config(&read).filter(|object| is_tracked(object))?;
        let copy = copy_name(&read.name, &content_digest(object));
        Some(Pin { kind: read.kind, name: read.name, copy })
    };
    let pins: Vec<Pin> = configs_read(template).into_iter().filter_map(pin).collect();
    if pins.is_empty() {
        return None;
    }
    let template = with_pins(template, &pins);
    Some(Pinned { digest: template_digest(&template), template, pins })
}

/// The template that reads these copies.
pub fn with_pins(template: &Value, pins: &[Pin]) -> Value {
    let mut template = template.clone();
    each_name(&mut template, &mut |kind, name| {
        if let Some(pin) = pins.iter().find(|pin| pin.kind == kind && *name == *pin.name) {
            *name = json!(pin.copy);
        }
    });
    template
}

/// The template that reads configs where this one reads copies of them, whichever: what is left is what people wrote.
pub fn without_copies(template: &Value, configs: &BTreeSet<ConfigName>) -> Value {
    let mut template = template.clone();
    each_name(&mut template, &mut |kind, name| {
        let original = configs
            .iter()
            .find(|config| config.kind == kind && name.as_str().is_some_and(|name| config.is_copied_by(name)));
        if let Some(original) = original {
            *name = json!(original.name);
        }
    });
    template
}

impl ConfigName {
    /// Whether an object of this name may be a copy of it.
    pub fn is_copied_by(&self, name: &str) -> bool {
        name.rsplit_once('-').is_some_and(|(base, hash)| {
            hash.len() == HASH
                && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
                && base == copy_base(&self.name)
        })
    }
}

/// The copy of a config: immutable, with nothing but what pods can read of it.
pub fn copy_of(config: &Value, name: &str) -> Value {
    let mut copy = Map::new();
    let metadata = json!({"name": name, "namespace": config["metadata"]["namespace"]});
    for (field, value) in [
        ("apiVersion", json!("v1")),
        ("kind", config["kind"].clone()),
        ("metadata", metadata),
        ("immutable", json!(true)),
    ] {
        copy.insert(field.to_owned(), value);
    }
    copy.extend(content(config));
    Value::Object(copy)
}

/// Whether two configs hold the same.
pub fn same_content(one: &Value, other: &Value) -> bool {
    content(one) == content(other)
}

/// Whether a config is one that releases are about.
fn is_tracked(config: &Value) -> bool {
    let annotations = &config["metadata"]["annotations"];
    let disabled = CONFIG_TRACKING.iter().any(|key| annotations[*key] == "disabled");
    let kind_is_ours = match config["type"].as_str() {
        Some(kind) => SECRET_TYPES.contains(&kind),
        None => true,
    };
    !disabled && kind_is_ours
}

/// What pods can read of a config: `stringData` is written as the `data` that the API server makes of it.
fn content(config: &Value) -> Map<String, Value> {
    let mut content = Map::new();
    for field in ["type", "data", "binaryData"] {
        match &config[field] {
            Value::Null => {}
            // The type that the API server fills in.
            Value::String(kind) if field == "type" && kind == SECRET_TYPES[0] => {}
            Value::Object(map) if map.is_empty() => {}
            value => {
                content.insert(field.to_owned(), value.clone());
            }
        }
    }
    let texts = encoded_string_data(config);
    if !texts.is_empty()
        && let Some(data) = content.entry("data").or_insert_with(|| json!({})).as_object_mut()
    {
        data.extend(texts);
    }
    content
}

/// A Secret's `stringData` as the `data` that the API server makes of it; what is no text is left out.
pub fn encoded_string_data(secret: &Value) -> Map<String, Value> {
    let texts = secret["stringData"].as_object().into_iter().flatten();
    texts
        .filter_map(|(key, text)| {
            let bytes = ByteString(text.as_str()?.as_bytes().to_vec());
            Some((key.clone(), serde_json::to_value(bytes).ok()?))
        })
        .collect()
}

fn content_digest(config: &Value) -> Digest {
    Digest::of_canonical(canonical_json(&Value::Object(content(config))).as_bytes())
}

fn copy_name(config: &str, digest: &Digest) -> String {
    format!("{}-{}", copy_base(config), digest.short())
}

fn copy_base(config: &str) -> &str {
    let mut end = config.len().min(NAME_MAX - HASH - 1);
    // A segment of the name must not end in a dash or dot; names are ASCII, and what is not is left to the API server.
    let is_whole =
        |end: usize| config.get(..end).is_some_and(|cut| end == config.len() || !cut.ends_with(['-', '.']));
    while end > 0 && !is_whole(end) {
        end -= 1;
    }
    config.get(..end).unwrap_or(config)
}

/// Calls `visit` with every name of a config in a pod template.
fn each_name(template: &mut Value, visit: &mut dyn FnMut(ConfigKind, &mut Value)) {
    use ConfigKind::{ConfigMap, Secret};
    let spec = &mut template["spec"];
    for volume in items(spec, "volumes") {
        name_at(volume, &["configMap", "name"], ConfigMap, visit);
        name_at(volume, &["secret", "secretName"], Secret, visit);
        if let Some(projected) = volume.get_mut("projected") {
            for source in items(projected, "sources") {
                name_at(source, &["configMap", "name"], ConfigMap, visit);
                name_at(source, &["secret", "name"], Secret, visit);
            }
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items(spec, list) {
            for source in items(container, "envFrom") {
                name_at(source, &["configMapRef", "name"], ConfigMap, visit);
                name_at(source, &["secretRef", "name"], Secret, visit);
            }
            for variable in items(container, "env") {
                name_at(variable, &["valueFrom", "configMapKeyRef", "name"], ConfigMap, visit);
                name_at(variable, &["valueFrom", "secretKeyRef", "name"], Secret, visit);
            }
        }
    }
}

fn items<'v>(value: &'v mut Value, list: &str) -> impl Iterator<Item = &'v mut Value> {
    value.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn name_at(value: &mut Value, path: &[&str], kind: ConfigKind, visit: &mut dyn FnMut(ConfigKind, &mut Value)) {
    let found = path.iter().try_fold(value, |value, field| value.get_mut(*field));
    if let Some(name) = found.filter(|name| name.is_string()) {
        visit(kind, name);
    }
}

#[cfg(test)]
#[path = "pins_tests.rs"]
mod tests;
