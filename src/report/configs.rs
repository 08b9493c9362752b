//! The configs that a target's template reads, as a commit has them: with them a template in Git is one of two revisions, the
//! plain one or the one that reads copies. PURE.

use std::collections::BTreeSet;

use serde_json::Value;

use super::record::{named, placed};
use crate::manifest::{
    ConfigKind, ConfigName, Manifest, Pinned, configs_read, copy_of, parse_each, pinned, same_content,
    template_digest,
};
use crate::model::{Digest, ObjectRef};

/// A config in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// The file.
    pub path: String,
    /// Its text.
    pub text: std::sync::Arc<str>,
    /// The object as the file names it.
    pub object: ObjectRef,
    /// The object.
    pub body: Value,
}

impl ConfigFile {
    /// The config of that name in a file, beside a target.
    pub(super) fn find(
        path: &str,
        text: &std::sync::Arc<str>,
        name: &ConfigName,
        target: &ObjectRef,
    ) -> Option<Self> {
        let parsed = parse_each(path, text);
        Self::among(path, text, &parsed.manifests, name, target)
    }

    /// Like [`Self::find`], in a file that is parsed already.
    pub(super) fn among(
        path: &str,
        text: &std::sync::Arc<str>,
        manifests: &[Manifest],
        name: &ConfigName,
        target: &ObjectRef,
    ) -> Option<Self> {
        let object = named(manifests.iter(), &id(name, target))?;
        let body = manifests.iter().find(|manifest| manifest.object_ref() == object)?.object.clone();
        Some(Self { path: path.to_owned(), text: text.clone(), object, body })
    }

    /// Whether it is the config that a template names so.
    pub(super) fn is(&self, name: &ConfigName) -> bool {
        self.object.name == name.name && self.object.kind == name.kind.as_str()
    }
}

/// A config beside a target, as the cluster names it.
pub(super) fn id(name: &ConfigName, target: &ObjectRef) -> ObjectRef {
    let (kind, name) = (name.kind.as_str().to_owned(), name.name.clone());
    placed(ObjectRef { group: String::new(), kind, namespace: target.namespace.clone(), name })
}

/// The form of a template that reads copies of these configs.
pub(super) fn pinned_by(template: &Value, configs: &[ConfigFile]) -> Option<Pinned> {
    pinned(template, |name| configs.iter().find(|config| config.is(name)).map(|config| &config.body))
}

/// Whether a template with its configs is this revision.
pub(super) fn is_revision(template: &Value, configs: &[ConfigFile], digest: &Digest) -> bool {
    template_digest(template) == *digest
        || pinned_by(template, configs).is_some_and(|pinned| pinned.digest == *digest)
}

/// Whether two templates are the same and read the same: of configs, what either of the two tracks.
pub(super) fn are_same(one: (&Value, &[ConfigFile]), other: (&Value, &[ConfigFile])) -> bool {
    let body = |configs: &[ConfigFile], name: &ConfigName| {
        configs.iter().find(|config| config.is(name)).map(|config| config.body.clone())
    };
    let same = |name: &ConfigName| match (body(one.1, name), body(other.1, name)) {
        (Some(one), Some(other)) => same_content(&one, &other),
        _ => false,
    };
    template_digest(one.0) == template_digest(other.0) && tracked(one.0, [one.1, other.1]).iter().all(same)
}

/// The configs of a template that one of several commits tracks.
pub(super) fn tracked<const N: usize>(template: &Value, commits: [&[ConfigFile]; N]) -> BTreeSet<ConfigName> {
    let pins =
        commits.into_iter().filter_map(|configs| pinned_by(template, configs)).flat_map(|pinned| pinned.pins);
    pins.map(|pin| pin.config()).collect()
}

/// The copies that the pinned form of a template reads.
pub(super) fn copies(template: &Value, configs: &[ConfigFile]) -> Vec<Value> {
    let pins = pinned_by(template, configs).map(|pinned| pinned.pins).unwrap_or_default();
    let copy = |pin: &crate::manifest::Pin| {
        let config = configs.iter().find(|config| config.is(&pin.config()))?;
        Some(copy_of(&config.body, &pin.copy))
    };
    pins.iter().filter_map(copy).collect()
}

/// Every config that pods of an object would read.
pub(super) fn read_by(object: &Value) -> BTreeSet<ConfigName> {
    const TEMPLATES: [&str; 3] = ["/spec/template", "/spec/jobTemplate/spec/template", "/template"];
    let mut found: BTreeSet<ConfigName> =
        TEMPLATES.iter().filter_map(|place| object.pointer(place)).flat_map(configs_read).collect();
    // A bare pod.
    found.extend(configs_read(object));
    found
}

/// The config that an object is.
pub(super) fn config_name(id: &ObjectRef) -> Option<ConfigName> {
    let kind = ConfigKind::of(&id.kind).filter(|_| id.group.is_empty())?;
    Some(ConfigName { kind, name: id.name.clone() })
}
