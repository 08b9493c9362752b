//! What the API server serves, cached per group and version.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kube::Client;
use kube::core::GroupVersion;
use kube::discovery::{self, ApiResource, Scope};

use super::connect::{CallError, call};

/// A kind that is served.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// A kind that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Nothing like it is served.
    #[error("the API server knows no kind {kind} in {}{}", group_version(.group, .version), what_is_served(.group, .version, .served))]
    NotServed {
        /// Asked for.
        group: String,
        /// Asked for.
        version: String,
        /// Asked for.
        kind: String,
        /// Versions of the group that are served.
        served: Vec<String>,
    },
    /// The API server could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn what_is_served(group: &str, version: &str, versions: &[String]) -> String {
    if versions.iter().any(|served| served == version) {
        return "; this version of the group is served without it: was its definition applied only now?"
            .to_owned();
    }
    if versions.is_empty() {
        format!("; the group `{group}` is not served at all: is its CustomResourceDefinition installed?")
    } else {
        format!("; served versions: {}", versions.join(", "))
    }
}

/// Kinds of one group and version, by name.
type Kinds = HashMap<String, Resolved>;

/// The cache. A kind that is not in it is asked for again, so a CRD installed meanwhile is found.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    by_version: Mutex<HashMap<String, Kinds>>,
}

impl Discovery {
    pub(super) fn forget(&self) {
        self.by_version.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) async fn resolve(
        &self,
        client: &Client,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Result<Resolved, ResolveError> {
        let key = group_version(group, version);
        if let Some(known) = self.cached(&key, kind) {
            return Ok(known);
        }
        if let Some(kinds) = kinds_of(client, group, version).await? {
            let found = kinds.get(kind).cloned();
            self.by_version.lock().unwrap_or_else(PoisonError::into_inner).insert(key, kinds);
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Err(ResolveError::NotServed {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            served: versions_of(client, group).await?,
        })
    }

    fn cached(&self, key: &str, kind: &str) -> Option<Resolved> {
        let by_version = self.by_version.lock().unwrap_or_else(PoisonError::into_inner);
        by_version.get(key).and_then(|kinds| kinds.get(kind)).cloned()
    }
}

/// The kinds of a group and version; `None` when the API server does not serve it.
async fn kinds_of(client: &Client, group: &str, version: &str) -> Result<Option<Kinds>, CallError> {
    let gv = GroupVersion::gv(group, version);
    let what = format!("discover {}", group_version(group, version));
    match call(&what, discovery::pinned_group(client, &gv)).await {
        Ok(found) => Ok(Some(
            found
                .versioned_resources(version)
                .into_iter()
                .map(|(resource, capabilities)| {
                    let namespaced = capabilities.scope == Scope::Namespaced;
                    (resource.kind.clone(), Resolved { resource, namespaced })
                })
                .collect(),
        )),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn versions_of(client: &Client, group: &str) -> Result<Vec<String>, CallError> {
    if group.is_empty() {
        return Ok(vec!["v1".to_owned()]);
    }
    let groups = call("list API groups", client.list_api_groups()).await?;
    Ok(groups
        .groups
        .into_iter()
        .find(|candidate| candidate.name == group)
        .map(|found| found.versions.into_iter().map(|version| version.version).collect())
        .unwrap_or_default())
}
