//! Errors as the API server words them: `metav1.Status` bodies with code, reason and details.

use std::fmt;

use http::StatusCode;
use serde_json::{Value, json};

/// A refused request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiError {
    /// HTTP status.
    pub(super) code: StatusCode,
    /// `metav1.StatusReason`, what clients branch on.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) message: String,
    /// `metav1.StatusDetails`.
    pub(super) details: Option<Value>,
}

/// What an error is about: `details` of most Status bodies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// API group.
    pub(super) group: &'a str,
    /// Plural resource name, or the kind for validation errors.
    pub(super) resource: &'a str,
    /// Object name.
    pub(super) name: &'a str,
}

impl Subject<'_> {
    /// `deployments.apps`, as messages name it.
    fn qualified(&self) -> String {
        if self.group.is_empty() { self.resource.to_owned() } else { format!("{}.{}", self.resource, self.group) }
    }

    fn details(&self) -> Value {
        let mut details = json!({"name": self.name, "kind": self.resource});
        if !self.group.is_empty() {
            details["group"] = json!(self.group);
        }
        details
    }
}

/// The reason of an answer that is no Status but plain text.
const PLAIN: &str = "";

/// Whether a path lies in the core API or in a built-in group.
fn is_built_in(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (Some("api"), _) => true,
        (Some("apis"), Some(group)) => !group.contains('.') || group.ends_with(".k8s.io"),
        _ => false,
    }
}

impl ApiError {
    /// The answer as plain text, if that is what it is.
    pub(super) fn plain_text(&self) -> Option<&str> {
        (self.reason == PLAIN).then_some(self.message.as_str())
    }

    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    fn about(mut self, subject: Subject<'_>) -> Self {
        self.details = Some(subject.details());
        self
    }

    /// 404 for an object.
    pub(super) fn not_found(subject: Subject<'_>) -> Self {
        let message = format!("{} \"{}\" not found", subject.qualified(), subject.name);
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(subject)
    }

    /// 404 for a path that is served by nothing. Only built-in groups answer with a Status; where no group or a group of
    /// custom resources would be, a real API server's answer is plain text.
    pub(super) fn no_such_path(path: &str) -> Self {
        if !is_built_in(path) {
            return Self::new(StatusCode::NOT_FOUND, PLAIN, "404 page not found\n");
        }
        let mut error =
            Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource");
        error.details = Some(json!({}));
        error
    }

    /// 409: the name is taken.
    pub(super) fn already_exists(subject: Subject<'_>) -> Self {
        let message = format!("{} \"{}\" already exists", subject.qualified(), subject.name);
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(subject)
    }

    /// 409: somebody else wrote first, or a precondition failed.
    pub(super) fn conflict(subject: Subject<'_>, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{}\": {why}", subject.qualified(), subject.name);
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(subject)
    }

    /// 409: the object was changed since the caller read it.
    pub(super) fn stale(subject: Subject<'_>) -> Self {
        Self::conflict(
            subject,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409 of a server-side apply; `conflicts` pairs managers with field paths.
    pub(super) fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let noun = if conflicts.len() == 1 { "conflict" } else { "conflicts" };
        let lines: Vec<String> =
            conflicts.iter().map(|(manager, path)| format!("conflict with {manager}: {path}")).collect();
        let message = match lines.as_slice() {
            [only] => format!("Apply failed with 1 conflict: {only}"),
            many => format!("Apply failed with {} {noun}: {}", many.len(), many.join("\n")),
        };
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|(manager, path)| {
                json!({
                    "reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": path
                })
            })
            .collect();
        let mut error = Self::new(StatusCode::CONFLICT, "Conflict", message);
        error.details = Some(json!({ "causes": causes }));
        error
    }

    /// 422 with one cause per field. `subject.resource` is the kind.
    pub(super) fn invalid(subject: Subject<'_>, errors: &[FieldError]) -> Self {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let list = match texts.as_slice() {
            [only] => only.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} \"{}\" is invalid: {list}", subject.qualified(), subject.name);
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).about(subject);
        if let Some(details) = &mut error.details {
            details["causes"] = errors.iter().map(FieldError::cause).collect();
        }
        error
    }

    /// 400.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 403.
    pub(super) fn forbidden(subject: Subject<'_>, why: &str) -> Self {
        let message = format!("{} \"{}\" is forbidden: {why}", subject.qualified(), subject.name);
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(subject)
    }

    /// 403 for writes into a namespace that is being deleted.
    pub(super) fn namespace_terminating(subject: Subject<'_>, namespace: &str) -> Self {
        let mut error = Self::forbidden(
            subject,
            &format!("unable to create new content in namespace {namespace} because it is being terminated"),
        );
        if let Some(details) = &mut error.details {
            details["causes"] = json!([{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {namespace} is being terminated"),
                "field": "metadata.namespace"
            }]);
        }
        error
    }

    /// 405.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 406.
    pub(super) fn not_acceptable(offered: &str) -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "NotAcceptable",
            format!("only the following media types are accepted: {offered}"),
        )
    }

    /// 410: history was compacted, or a continue token is too old.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 413.
    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// 415.
    pub(super) fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// 500, for faults of this server.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// 500 without a reason: what a real server answers where its code gives a plain error.
    pub(super) fn unexplained(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
    }

    /// 429: a disruption budget has nothing left.
    pub(super) fn disrupts(budget: &str, desired: i64, healthy: i64) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let cause =
            format!("The disruption budget {budget} needs {desired} healthy pods and has {healthy} currently");
        Self {
            details: Some(json!({"causes": [{"reason": "DisruptionBudget", "message": cause}]})),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
        }
    }

    /// 501: what a sandbox cannot do.
    pub(super) fn not_implemented(message: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
    }

    /// 504: a read asked for a version from the future.
    pub(super) fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let mut error = Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            format!("Too large resource version: {asked}, current: {current}"),
        );
        error.details = Some(json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1
        }));
        error
    }

    /// The Status object.
    pub(super) fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code.as_u16(),
        });
        if !self.reason.is_empty() {
            body["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            body["details"] = details.clone();
        }
        body
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Problem {
    /// Absent.
    Required(String),
    /// Present and wrong; the value and why.
    Invalid(Value, String),
    /// Not one of the allowed.
    NotSupported(Value, Vec<String>),
    /// Appears twice in a list with keys.
    Duplicate(Value),
    /// May not be set (so).
    Forbidden(String),
    /// Longer, or more, than allowed.
    TooLong(String),
    /// Not of the schema's type.
    Type(Value, String),
}

/// One entry of a 422.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FieldError {
    /// As `spec.template.spec.containers[0].image`.
    pub(super) path: String,
    /// What is wrong there.
    pub(super) problem: Problem,
}

impl FieldError {
    /// An invalid value.
    pub(super) fn invalid(path: impl Into<String>, value: &Value, why: impl Into<String>) -> Self {
        Self { path: path.into(), problem: Problem::Invalid(value.clone(), why.into()) }
    }

    /// A missing value.
    pub(super) fn required(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self { path: path.into(), problem: Problem::Required(why.into()) }
    }

    /// A field that may not be set.
    pub(super) fn forbidden(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self { path: path.into(), problem: Problem::Forbidden(why.into()) }
    }

    /// A value outside an enumeration.
    pub(super) fn unsupported(path: impl Into<String>, value: &Value, allowed: &[&str]) -> Self {
        let allowed = allowed.iter().map(|text| (*text).to_owned()).collect();
        Self { path: path.into(), problem: Problem::NotSupported(value.clone(), allowed) }
    }

    fn cause(&self) -> Value {
        let reason = match &self.problem {
            Problem::Required(_) => "FieldValueRequired",
            Problem::Invalid(..) => "FieldValueInvalid",
            Problem::NotSupported(..) => "FieldValueNotSupported",
            Problem::Duplicate(_) => "FieldValueDuplicate",
            Problem::Forbidden(_) => "FieldValueForbidden",
            Problem::TooLong(_) => "FieldValueTooLong",
            Problem::Type(..) => "FieldValueTypeInvalid",
        };
        json!({"reason": reason, "message": self.problem.to_string(), "field": self.path})
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required(why) if why.is_empty() => write!(f, "Required value"),
            Self::Required(why) => write!(f, "Required value: {why}"),
            Self::Invalid(value, why) | Self::Type(value, why) => write!(f, "Invalid value: {value}: {why}"),
            Self::NotSupported(value, allowed) => {
                let allowed: Vec<String> = allowed.iter().map(|text| format!("\"{text}\"")).collect();
                write!(f, "Unsupported value: {value}: supported values: {}", allowed.join(", "))
            }
            Self::Duplicate(value) => write!(f, "Duplicate value: {value}"),
            Self::Forbidden(why) => write!(f, "Forbidden: {why}"),
            Self::TooLong(why) => write!(f, "Too long: {why}"),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}
