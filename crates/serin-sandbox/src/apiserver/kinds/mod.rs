//! What is served: built-in kinds and those of CustomResourceDefinitions.

mod builtin;
mod custom;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

pub(super) use custom::{Column, prepare_definition, resources_of, validate_definition, version_priority};

use super::schema::Schema;
use super::status::Subject;

/// Storage name of CustomResourceDefinitions.
pub(super) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";
/// Storage name of namespaces.
pub(super) const NAMESPACES: &str = "namespaces";

/// One resource in one served version.
#[derive(Debug)]
pub(super) struct Resource {
    /// API group, empty for the core group.
    pub(super) group: String,
    /// Version in that group.
    pub(super) version: String,
    /// Plural name, as in paths.
    pub(super) plural: String,
    /// Singular name.
    pub(super) singular: String,
    /// Kind.
    pub(super) kind: String,
    /// Short names for kubectl.
    pub(super) short_names: Vec<String>,
    /// Categories for kubectl (`all`).
    pub(super) categories: Vec<String>,
    /// Lives in a namespace.
    pub(super) namespaced: bool,
    /// Has `/status`.
    pub(super) has_status: bool,
    /// Has `/scale`, with these paths.
    pub(super) scale: Option<ScalePaths>,
    /// The object's schema.
    pub(super) schema: Arc<Value>,
    /// Where its objects are stored: `<plural>.<group>` of the storage form.
    pub(super) storage: String,
    /// `apiVersion` of stored objects.
    pub(super) storage_api_version: String,
    /// Where it comes from.
    pub(super) origin: Origin,
}

/// Where `/scale` finds its numbers, as lists of field names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScalePaths {
    pub(super) spec_replicas: Vec<String>,
    pub(super) status_replicas: Vec<String>,
    pub(super) selector: Option<Vec<String>>,
}

/// Where a resource comes from.
#[derive(Debug)]
pub(super) enum Origin {
    /// Kubernetes' own, stored.
    BuiltIn,
    /// Kubernetes' own, answered and forgotten (reviews).
    Review,
    /// A CustomResourceDefinition, with its printer columns.
    Custom { columns: Vec<Column> },
}

impl Resource {
    /// `apps/v1`, as in `apiVersion`.
    pub(super) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// The schema of an object.
    pub(super) fn schema(&self) -> Schema<'_> {
        Schema::new(&self.schema)
    }

    /// For errors that name the resource.
    pub(super) fn subject<'a>(&'a self, name: &'a str) -> Subject<'a> {
        Subject { group: &self.group, resource: &self.plural, name }
    }

    /// For errors that name the kind.
    pub(super) fn kind_subject<'a>(&'a self, name: &'a str) -> Subject<'a> {
        Subject { group: &self.group, resource: &self.kind, name }
    }

    /// Defined by a CustomResourceDefinition.
    pub(super) fn is_custom(&self) -> bool {
        matches!(self.origin, Origin::Custom { .. })
    }

    /// Verbs for discovery, in its order.
    pub(super) fn verbs(&self) -> &'static [&'static str] {
        match self.origin {
            Origin::Review => &["create"],
            Origin::BuiltIn | Origin::Custom { .. } => {
                &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
            }
        }
    }
}

/// `group/version`, or the version alone for the core group.
pub(super) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// `plural.group`, or the plural alone for the core group.
pub(super) fn storage_name(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

/// Everything that is served. Replaced as a whole when a definition changes.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    groups: BTreeMap<String, BTreeMap<String, Vec<Arc<Resource>>>>,
    /// The OpenAPI index, hashed once per catalog: kubectl asks for it in every call.
    openapi_index: OnceLock<Value>,
}

impl Catalog {
    /// The built-in kinds and those of the given definitions.
    pub(super) fn new<'a>(definitions: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut catalog = Self::default();
        for resource in builtin::resources() {
            catalog.add(resource);
        }
        for definition in definitions {
            for resource in resources_of(definition) {
                catalog.add(resource);
            }
        }
        catalog
    }

    fn add(&mut self, resource: Resource) {
        let versions = self.groups.entry(resource.group.clone()).or_default();
        versions.entry(resource.version.clone()).or_default().push(Arc::new(resource));
    }

    /// A resource by its path.
    pub(super) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources(group, version)?.iter().find(|resource| resource.plural == plural)
    }

    /// All resources of a group version, if it is served.
    pub(super) fn resources(&self, group: &str, version: &str) -> Option<&[Arc<Resource>]> {
        Some(self.groups.get(group)?.get(version)?.as_slice())
    }

    /// Groups with their versions, the preferred one first.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.groups.iter().map(|(group, versions)| {
            let mut names: Vec<&str> = versions.keys().map(String::as_str).collect();
            names.sort_by_key(|name| std::cmp::Reverse(version_priority(name)));
            (group.as_str(), names)
        })
    }

    /// The OpenAPI index, made by `make` the first time.
    pub(super) fn openapi_index(&self, make: impl FnOnce() -> Value) -> &Value {
        self.openapi_index.get_or_init(make)
    }
}
