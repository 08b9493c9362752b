//! One request for objects, and what is answered.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::Server;
use super::handlers::User;
use super::kinds::Resource;
use super::request::{Form, Options, Target};
use super::status::{ApiError, Subject};
use super::store::Key;
use super::watch::{Start, WatchSpec};

/// Longest manager name.
const MANAGER_LEN_MAX: usize = 128;

/// Which part of an object a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The object itself.
    Main,
    /// `/status`
    Status,
    /// `/scale`
    Scale,
    /// `/finalize` of namespaces.
    Finalize,
    /// `/binding` of pods.
    Binding,
    /// `/eviction` of pods.
    Eviction,
}

/// A request for objects.
pub(super) struct Call {
    pub(super) server: Arc<Server>,
    pub(super) resource: Arc<Resource>,
    pub(super) target: Target,
    pub(super) part: Part,
    pub(super) options: Options,
    pub(super) form: Form,
    pub(super) body: Bytes,
    pub(super) content_type: String,
    pub(super) user_agent: String,
    /// Whom it is made for, if not for the administrator.
    pub(super) user: Option<User>,
    /// Shown to the caller in `Warning` headers.
    pub(super) warnings: Vec<String>,
}

/// What is answered.
pub(super) enum Reply {
    /// A finished document.
    Document(StatusCode, Value),
    /// A stored object, shown as the caller asked.
    Object(StatusCode, Arc<Value>),
    /// A watch.
    Watch(Box<WatchSpec>, Start),
}

impl Call {
    /// Name in the path, empty for collections.
    pub(super) fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }

    /// Namespace in the path, empty for cluster-scoped objects.
    pub(super) fn namespace(&self) -> &str {
        self.target.namespace.as_deref().unwrap_or_default()
    }

    /// The object named by the path.
    pub(super) fn key(&self) -> Key {
        Key { namespace: self.namespace().to_owned(), name: self.name().to_owned() }
    }

    /// For errors about the named object.
    pub(super) fn subject(&self) -> Subject<'_> {
        self.resource.subject(self.name())
    }

    /// The stored object named by the path.
    pub(super) fn stored(&self) -> Result<Arc<Value>, ApiError> {
        let found = self.server.store.get(&self.resource.storage, &self.key());
        found.ok_or_else(|| ApiError::not_found(self.subject()))
    }

    /// Who writes: `fieldManager`, or the User-Agent up to its version.
    pub(super) fn manager(&self) -> String {
        if !self.options.field_manager.is_empty() {
            return self.options.field_manager.clone();
        }
        let prefix = self.user_agent.split('/').next().unwrap_or_default();
        if prefix.is_empty() { "unknown".to_owned() } else { prefix.chars().take(MANAGER_LEN_MAX).collect() }
    }

    /// `status` or `scale`, as managedFields name it.
    pub(super) fn subresource(&self) -> &str {
        match self.part {
            Part::Main | Part::Finalize | Part::Binding | Part::Eviction => "",
            Part::Status => "status",
            Part::Scale => "scale",
        }
    }
}
