//! What an error of the API server means for whoever asked: decided here once, for all rooms.

use json_patch::{Patch, PatchOperation};
use kube::core::Status;
use serde_json::Value;

use super::connect::CallError;
use super::explain::is_not_found;
use super::writer::WriteError;

/// HTTP statuses that have a meaning of their own.
mod code {
    pub(super) const UNAUTHORIZED: u16 = 401;
    pub(super) const REQUEST_TIMEOUT: u16 = 408;
    pub(super) const CONFLICT: u16 = 409;
    pub(super) const EXPIRED: u16 = 410;
    pub(super) const UNPROCESSABLE: u16 = 422;
    pub(super) const TOO_MANY_REQUESTS: u16 = 429;
    pub(super) const INTERNAL_ERROR: u16 = 500;
}

/// How the API server's words begin when its store or its own deadline failed.
const OF_THE_STORE: [&str; 4] = ["etcdserver", "rpc error", "context ", "leader changed"];
/// What the store, or the way to it, says of one object that is too large; all others are none the worse for it.
const OF_THE_OBJECT: [&str; 2] = ["request is too large", "message larger than max"];
/// The cause that a namespace gives which takes nothing any more.
const TERMINATING: &str = "NamespaceTerminating";

/// What an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Somebody else was faster: look again, decide again.
    Race,
    /// This object is refused as it is: the same request is refused again until somebody changes something. Others go on.
    Refused,
    /// The server, its store or the way to it is in trouble: the same request may succeed later.
    Later,
    /// What was asked for is not there, or the namespace that it is to be in is on its way out.
    Gone,
    /// This process does not hold the lease: nothing was sent.
    NotHeld,
}

impl ErrorKind {
    /// What an answer of the API server means.
    ///
    /// 500 is what server-side apply answers for an object that does not fit its schema (a list key twice, say), and what any
    /// object gets whose admission or conversion webhook fails; only the store's own troubles concern all.
    pub fn of(status: &Status) -> Self {
        if is_not_found(status) || is_terminating(status) {
            return Self::Gone;
        }
        match status.code {
            code::CONFLICT => Self::Race,
            code::UNAUTHORIZED | code::REQUEST_TIMEOUT | code::EXPIRED | code::TOO_MANY_REQUESTS => Self::Later,
            code::INTERNAL_ERROR if is_about_the_store(&status.message) => Self::Later,
            400..=code::INTERNAL_ERROR => Self::Refused,
            _ => Self::Later,
        }
    }
}

impl CallError {
    /// What it means.
    pub fn kind(&self) -> ErrorKind {
        self.status().map_or(ErrorKind::Later, ErrorKind::of)
    }

    /// Whether the namespace that the object is to be in takes nothing any more.
    pub fn is_terminating(&self) -> bool {
        self.status().is_some_and(is_terminating)
    }
}

impl WriteError {
    /// What it means.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotHeld | Self::Lost { .. } => ErrorKind::NotHeld,
            Self::TimedOut { .. } | Self::Api(_) | Self::Failed(_) => {
                self.status().map_or(ErrorKind::Later, ErrorKind::of)
            }
        }
    }

    /// Whether the namespace that the object is to be in takes nothing any more.
    pub fn is_terminating(&self) -> bool {
        self.status().is_some_and(is_terminating)
    }

    /// Whether a JSON Patch may have been refused for one of its `test`s. That is a lost race, but API servers answer it
    /// with the same 422 and the same words as an object that does not pass validation; reading again tells
    /// ([`tests_hold`]).
    pub fn may_be_a_failed_test(&self) -> bool {
        self.status().is_some_and(|status| status.code == code::UNPROCESSABLE)
    }
}

/// Whether every `test` of a JSON Patch holds for an object.
pub fn tests_hold(patch: &Patch, object: &Value) -> bool {
    patch.iter().all(|operation| match operation {
        PatchOperation::Test(test) => object.pointer(test.path.as_str()) == Some(&test.value),
        PatchOperation::Add(_)
        | PatchOperation::Remove(_)
        | PatchOperation::Replace(_)
        | PatchOperation::Move(_)
        | PatchOperation::Copy(_) => true,
    })
}

fn is_terminating(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|cause| cause.reason == TERMINATING)
}

/// Whether an object was refused for its size.
pub fn is_too_large(message: &str) -> bool {
    OF_THE_OBJECT.iter().any(|words| message.contains(words))
}

fn is_about_the_store(message: &str) -> bool {
    !is_too_large(message) && OF_THE_STORE.iter().any(|words| message.starts_with(words))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(code: u16, message: &str) -> Status {
        Status::failure(message, "Whatever").with_code(code)
    }

    #[test]
    fn an_answer_means_the_same_to_everybody() {
        let cases = [
            (400, "bad request", ErrorKind::Refused),
            (401, "Unauthorized", ErrorKind::Later),
            (403, "exceeded quota", ErrorKind::Refused),
            (404, "404 page not found", ErrorKind::Gone),
            (408, "timeout", ErrorKind::Later),
            (409, "the object has been modified", ErrorKind::Race),
            (410, "too old resource version", ErrorKind::Later),
            (413, "request entity too large", ErrorKind::Refused),
            (422, "the server rejected our request due to an error in our request", ErrorKind::Refused),
            (429, "too many requests", ErrorKind::Later),
            (500, "failed to create typed patch object", ErrorKind::Refused),
            (500, "failed calling webhook \"a\": connection refused", ErrorKind::Refused),
            (500, "etcdserver: request is too large", ErrorKind::Refused),
            (
                500,
                "rpc error: code = ResourceExhausted desc = trying to send message larger than max",
                ErrorKind::Refused,
            ),
            (500, "rpc error: code = Unavailable desc = transport is closing", ErrorKind::Later),
            (500, "etcdserver: mvcc: database space exceeded", ErrorKind::Later),
            (500, "etcdserver: request timed out", ErrorKind::Later),
            (500, "context deadline exceeded", ErrorKind::Later),
            (503, "unavailable", ErrorKind::Later),
            (504, "gateway timeout", ErrorKind::Later),
        ];
        for (code, message, expected) in cases {
            let status = answer(code, message);
            assert_eq!(ErrorKind::of(&status), expected, "{code} {message}");
            let written = WriteError::from(kube::Error::Api(Box::new(status)));
            assert_eq!(written.kind(), expected, "{code} {message}");
        }
        assert_eq!(WriteError::NotHeld.kind(), ErrorKind::NotHeld);
        assert_eq!(WriteError::Lost { key: "a".into() }.kind(), ErrorKind::NotHeld);
    }

    #[test]
    fn a_namespace_on_its_way_out_refuses_nothing_for_good() {
        let mut status = answer(403, "namespace test is being terminated");
        assert_eq!(ErrorKind::of(&status), ErrorKind::Refused);
        let details =
            json!({"causes": [{"reason": TERMINATING, "message": "it is", "field": "metadata.namespace"}]});
        status.details = Some(serde_json::from_value(details).unwrap());
        assert_eq!(ErrorKind::of(&status), ErrorKind::Gone);
    }

    #[test]
    fn a_failed_test_is_seen_in_the_object() {
        let patch: Patch = serde_json::from_value(json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "add", "path": "/spec/weight", "value": 10},
        ]))
        .unwrap();
        assert!(tests_hold(&patch, &json!({"metadata": {"resourceVersion": "7"}})));
        assert!(!tests_hold(&patch, &json!({"metadata": {"resourceVersion": "8"}})));
        assert!(!tests_hold(&patch, &json!({})));
    }
}
