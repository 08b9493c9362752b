//! What an API error means for an object, and for the whole sync.

use crate::cluster::{CallError, ErrorKind, ResolveError, WriteError, explain, is_too_large};

/// Why an object, or the whole sync, cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sync) enum Trouble {
    /// The object is at fault; the rest goes on.
    Object(String),
    /// The object, or the namespace that it is to be in, is being deleted; it can be made anew when that is done.
    Deleting(String),
    /// Somebody else was faster: what was decided is about an object that has changed.
    Race(String),
    /// The cluster is at fault; try again later.
    Later(String),
    /// Another process may be writing.
    NotHeld,
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Self::of(error.kind(), error.is_terminating(), error.status(), &error)
    }
}

impl From<WriteError> for Trouble {
    fn from(error: WriteError) -> Self {
        Self::of(error.kind(), error.is_terminating(), error.status(), &error)
    }
}

impl Trouble {
    /// What is the matter.
    pub(in crate::sync) fn words(self) -> String {
        match self {
            Self::Object(message) | Self::Deleting(message) | Self::Race(message) | Self::Later(message) => {
                message
            }
            Self::NotHeld => "the lease is not held".to_owned(),
        }
    }

    fn of(
        kind: ErrorKind,
        is_terminating: bool,
        status: Option<&kube::core::Status>,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        match kind {
            ErrorKind::NotHeld => Self::NotHeld,
            ErrorKind::Gone if is_terminating => Self::Deleting("its namespace is being deleted".to_owned()),
            ErrorKind::Refused | ErrorKind::Gone => Self::Object(status.map_or_else(|| explain(error), words)),
            ErrorKind::Race => Self::Race(explain(error)),
            ErrorKind::Later => Self::Later(explain(error)),
        }
    }
}

impl From<ResolveError> for Trouble {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Call(error) => Self::Later(explain(&error)),
            ResolveError::NotServed { .. } => Self::Object(error.to_string()),
        }
    }
}

impl From<serde_json::Error> for Trouble {
    fn from(error: serde_json::Error) -> Self {
        Self::Object(format!("the API server's answer cannot be read: {error}"))
    }
}

/// Whether it is the API server that is in trouble, or one object for which it does not answer: an admission webhook that
/// hangs, a conflict with somebody who writes all the time. Two objects in a row are the server's.
#[derive(Debug, Default)]
pub(in crate::sync) struct LoneFailure {
    before: bool,
}

impl LoneFailure {
    /// The API server has answered for an object.
    pub(in crate::sync) fn answered(&mut self) {
        self.before = false;
    }

    /// What is to be said of the object.
    ///
    /// # Errors
    /// When the server is in trouble.
    pub(in crate::sync) fn take(&mut self, trouble: Trouble) -> Result<String, Trouble> {
        match trouble {
            Trouble::Object(message) | Trouble::Deleting(message) => {
                self.before = false;
                Ok(message)
            }
            Trouble::Later(message) | Trouble::Race(message) if !std::mem::replace(&mut self.before, true) => {
                Ok(message)
            }
            trouble @ (Trouble::Later(_) | Trouble::Race(_) | Trouble::NotHeld) => Err(trouble),
        }
    }
}

/// The API server's words, with what helps where that is known.
fn words(status: &kube::core::Status) -> String {
    // The API server has no one word for it: Deployments, Jobs and configs; Services; claims; StatefulSets; classes.
    const IMMUTABLE: [&str; 6] = [
        "field is immutable",
        "may not change once set",
        "is immutable after creation",
        "updates to statefulset spec for fields other than",
        "updates to parameters are forbidden",
        "updates to provisioner are forbidden",
    ];
    const NOT_FOUND: u16 = 404;
    let message = &status.message;
    if IMMUTABLE.iter().any(|words| message.contains(words)) {
        return format!("{message}; delete the object, and it is made again as Git says");
    }
    if is_too_large(message) {
        return format!("{message}: it is larger than the cluster's store takes (1.5 MiB as a rule); divide it");
    }
    if status.code == NOT_FOUND && !status.is_not_found() {
        // The plain words of a web server.
        return "the API server does not serve its kind any more: is its definition gone?".to_owned();
    }
    message.clone()
}

/// Whether only the group that was asked for is out of order: an aggregated API server is down.
pub(in crate::sync) fn is_about_the_group(error: &CallError) -> bool {
    const SERVICE_UNAVAILABLE: u16 = 503;
    error.status().is_some_and(|status| status.code == SERVICE_UNAVAILABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_changed_is_said_to_want_a_new_object_in_all_words_of_the_server() {
        for message in [
            r#"Deployment.apps "a" is invalid: spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable"#,
            r#"Service "a" is invalid: spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set"#,
            r#"PersistentVolumeClaim "a" is invalid: spec: Forbidden: spec is immutable after creation except resources.requests"#,
            r#"StatefulSet.apps "a" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas', are forbidden"#,
            r#"StorageClass.storage.k8s.io "a" is invalid: parameters: Forbidden: updates to parameters are forbidden."#,
        ] {
            let status = kube::core::Status { message: message.to_owned(), code: 422, ..Default::default() };
            assert_eq!(words(&status), format!("{message}; delete the object, and it is made again as Git says"));
        }
        let other =
            kube::core::Status { message: "spec.replicas: must be positive".to_owned(), ..Default::default() };
        assert_eq!(words(&other), other.message);
    }
}
