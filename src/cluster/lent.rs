//! What one person lends to another: Secrets and objects with credentials, only where their owner says so.
//!
//! The daemon reads for the author of an object what that author may not be able to read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::{Cluster, call, explain};
use crate::model::NamespacedName;

/// Why something is not lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotLent {
    /// Somebody has to change something, in words.
    Refused(String),
    /// It cannot be found out now, in words.
    Unknown(String),
}

/// Reads Secrets for others.
#[derive(Clone)]
pub struct Lender {
    cluster: Cluster,
    own_namespace: String,
}

/// For what a Secret is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Purpose {
    /// The annotation by which its owner consents.
    pub annotation: &'static str,
    /// Who gets it, in words: `metric providers`.
    pub whom: &'static str,
}

impl Lender {
    /// One that never lends what is in `own_namespace`, the daemon's.
    pub fn new(cluster: Cluster, own_namespace: impl Into<String>) -> Self {
        Self { cluster, own_namespace: own_namespace.into() }
    }

    /// What is in a Secret whose owner consents; what is no text is left out.
    ///
    /// # Errors
    /// If it is not lent.
    pub async fn secret(
        &self,
        secret: &NamespacedName,
        purpose: Purpose,
    ) -> Result<BTreeMap<String, String>, NotLent> {
        let NamespacedName { namespace, name } = secret;
        if *namespace == self.own_namespace {
            let words = format!("Secret {secret} is in Serin's own namespace, whose Secrets are never sent");
            return Err(NotLent::Refused(words));
        }
        let api = Api::<Secret>::namespaced(self.cluster.client(), namespace);
        let found = call(&format!("read Secret {secret}"), api.get_opt(name)).await;
        let found = found.map_err(|error| NotLent::Unknown(explain(&error)))?;
        let found = found.ok_or_else(|| NotLent::Refused(format!("Secret {secret} does not exist")))?;
        let Purpose { annotation, whom } = purpose;
        let consent = found.metadata.annotations.as_ref().and_then(|all| all.get(annotation));
        if consent.map(String::as_str) != Some("true") {
            return Err(NotLent::Refused(format!(
                "Secret {secret} is not released to {whom}: kubectl annotate secret -n {namespace} {name} {annotation}=true"
            )));
        }
        let data = found.data.unwrap_or_default().into_iter();
        Ok(data.filter_map(|(key, bytes)| Some((key, String::from_utf8(bytes.0).ok()?))).collect())
    }
}

/// Whether an annotation of an object names a namespace: `a,b`, or `*` for all.
pub fn lends_to(annotations: Option<&BTreeMap<String, String>>, key: &str, namespace: &str) -> bool {
    let allowed = annotations.and_then(|all| all.get(key)).map(String::as_str).unwrap_or_default();
    allowed.split(',').map(str::trim).any(|known| known == "*" || known == namespace)
}
