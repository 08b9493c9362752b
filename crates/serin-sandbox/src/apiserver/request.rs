//! From an HTTP request to what it asks for: route, options, representation.

use axum::extract::Query;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use serde_json::json;

use super::status::{ApiError, FieldError, Subject};

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/version`
    Version,
    /// `/healthz`, `/livez`, `/readyz`
    Health,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/G`
    Group(String),
    /// `/api/v1`, `/apis/G/V`
    Resources { group: String, version: String },
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3`
    OpenApiIndex,
    /// `/openapi/v3/apis/G/V`
    OpenApi { group: String, version: String },
    /// Objects.
    Objects(Target),
}

/// The objects a path names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Target {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
}

/// Reads a path; `None` if nothing is served there.
pub(super) fn route(path: &str) -> Option<Route> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["version"] => Some(Route::Version),
        ["healthz" | "livez" | "readyz", ..] => Some(Route::Health),
        ["api"] => Some(Route::CoreVersions),
        ["apis"] => Some(Route::Groups),
        ["apis", group] => Some(Route::Group((*group).to_owned())),
        ["openapi", "v2"] => Some(Route::OpenApiV2),
        ["openapi", "v3"] => Some(Route::OpenApiIndex),
        ["openapi", "v3", "api", version] => {
            Some(Route::OpenApi { group: String::new(), version: (*version).to_owned() })
        }
        ["openapi", "v3", "apis", group, version] => {
            Some(Route::OpenApi { group: (*group).to_owned(), version: (*version).to_owned() })
        }
        ["api", version, rest @ ..] => objects("", version, rest),
        ["apis", group, version, rest @ ..] => objects(group, version, rest),
        _ => None,
    }
}

fn objects(group: &str, version: &str, rest: &[&str]) -> Option<Route> {
    let base = Target { group: group.to_owned(), version: version.to_owned(), ..Target::default() };
    let own = |text: &str| Some(decoded(text));
    let target = match *rest {
        [] => {
            return Some(Route::Resources { group: group.to_owned(), version: version.to_owned() });
        }
        ["namespaces", name, sub @ ("status" | "finalize")] => {
            Target { resource: "namespaces".into(), name: own(name), subresource: own(sub), ..base }
        }
        ["namespaces", namespace, resource, ref tail @ ..] if tail.len() <= 2 => Target {
            namespace: own(namespace),
            resource: resource.to_owned(),
            name: tail.first().and_then(|name| own(name)),
            subresource: tail.get(1).and_then(|sub| own(sub)),
            ..base
        },
        [resource] => Target { resource: resource.to_owned(), ..base },
        [resource, name] => Target { resource: resource.to_owned(), name: own(name), ..base },
        [resource, name, sub] => {
            Target { resource: resource.to_owned(), name: own(name), subresource: own(sub), ..base }
        }
        _ => return None,
    };
    Some(Route::Objects(target))
}

/// A path segment as it is meant: RBAC's names (`system:reader`) may come percent-encoded.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| segment.to_owned())
}

/// How unknown and duplicate fields are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// Query parameters.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) watch: bool,
    pub(super) label_selector: String,
    pub(super) field_selector: String,
    pub(super) resource_version: String,
    pub(super) resource_version_match: String,
    pub(super) send_initial_events: Option<bool>,
    pub(super) allow_bookmarks: bool,
    pub(super) timeout_seconds: Option<u64>,
    pub(super) limit: Option<usize>,
    pub(super) continue_token: String,
    pub(super) dry_run: bool,
    pub(super) field_manager: String,
    pub(super) field_validation: FieldValidation,
    pub(super) force: bool,
    pub(super) grace_period_seconds: Option<i64>,
    pub(super) propagation_policy: Option<String>,
    pub(super) orphan_dependents: Option<bool>,
    /// `includeObject` of Tables.
    pub(super) include_object: String,
}

impl Options {
    /// Reads the query; values that a real server refuses are refused.
    pub(super) fn read(parts: &Parts) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| ApiError::bad_request(format!("invalid query: {error}")))?;
        let get = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let owned = |name: &str| get(name).unwrap_or_default().to_owned();
        let flag = |name: &str| get(name).map(|value| !matches!(value, "false" | "0"));
        let field_validation = match get("fieldValidation") {
            None | Some("" | "Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => return Err(ApiError::bad_request(format!("invalid fieldValidation: \"{other}\""))),
        };
        let dry_run = pairs.iter().filter(|(key, _)| key == "dryRun").map(|(_, value)| value.as_str());
        Ok(Self {
            watch: flag("watch").unwrap_or(false),
            label_selector: owned("labelSelector"),
            field_selector: owned("fieldSelector"),
            resource_version: owned("resourceVersion"),
            resource_version_match: owned("resourceVersionMatch"),
            send_initial_events: flag("sendInitialEvents"),
            allow_bookmarks: flag("allowWatchBookmarks").unwrap_or(false),
            timeout_seconds: number(get("timeoutSeconds"), "timeoutSeconds")?,
            limit: number(get("limit"), "limit")?.filter(|limit| *limit > 0),
            continue_token: owned("continue"),
            dry_run: dry_run_of(dry_run, options_of(&parts.method))?,
            field_manager: owned("fieldManager"),
            field_validation,
            force: flag("force").unwrap_or(false),
            grace_period_seconds: number(get("gracePeriodSeconds"), "gracePeriodSeconds")?,
            propagation_policy: get("propagationPolicy").map(ToOwned::to_owned),
            orphan_dependents: flag("orphanDependents"),
            include_object: owned("includeObject"),
        })
    }
}

/// What a request's options are called.
fn options_of(method: &Method) -> &'static str {
    match *method {
        Method::PUT => "UpdateOptions",
        Method::PATCH => "PatchOptions",
        Method::DELETE => "DeleteOptions",
        _ => "CreateOptions",
    }
}

/// `dryRun` is a list whose only known entry is `All`; `options` is what it is part of.
pub(super) fn dry_run_of<'a>(values: impl Iterator<Item = &'a str>, options: &str) -> Result<bool, ApiError> {
    let mut dry = false;
    for value in values.filter(|value| !value.is_empty()) {
        if value != "All" {
            let error = FieldError::unsupported("dryRun", &json!([value]), &["All"]);
            let subject = Subject { group: "meta.k8s.io", resource: options, name: "" };
            return Err(ApiError::invalid(subject, &[error]));
        }
        dry = true;
    }
    Ok(dry)
}

fn number<N: std::str::FromStr>(text: Option<&str>, name: &str) -> Result<Option<N>, ApiError> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_error| ApiError::bad_request(format!("{name} is not a valid number: \"{text}\""))),
    }
}

/// Representation of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Yaml,
    Table,
    /// `PartialObjectMetadata` and its list.
    Metadata,
}

/// What media types are served, for 406.
const OFFERED: &str = "application/json, application/yaml";

/// Chooses the first acceptable representation, in the client's order.
pub(super) fn negotiate(headers: &HeaderMap) -> Result<Form, ApiError> {
    let mut values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if values.peek().is_none() {
        return Ok(Form::Json);
    }
    let found = values.flat_map(|value| value.split(',')).find_map(|media| {
        let mut parts = media.split(';').map(str::trim);
        let kind = parts.next()?;
        let mut transform = None;
        for parameter in parts {
            if let Some(value) = parameter.strip_prefix("as=") {
                transform = Some(value);
            }
        }
        match (kind, transform) {
            ("application/json" | "*/*" | "application/*", None) => Some(Form::Json),
            ("application/json", Some("Table")) => Some(Form::Table),
            ("application/json", Some("PartialObjectMetadata" | "PartialObjectMetadataList")) => {
                Some(Form::Metadata)
            }
            ("application/yaml", None) => Some(Form::Yaml),
            _ => None,
        }
    });
    found.ok_or_else(|| ApiError::not_acceptable(OFFERED))
}

/// The client's name for itself.
pub(super) fn user_agent(headers: &HeaderMap) -> &str {
    headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Kubernetes' verb for a request, as RBAC and audit logs call it.
pub(super) fn verb(method: &Method, target: &Target, watch: bool) -> Option<&'static str> {
    let named = target.name.is_some();
    match *method {
        Method::GET if watch => Some("watch"),
        Method::GET if named => Some("get"),
        Method::GET => Some("list"),
        Method::POST => Some("create"),
        Method::PUT => Some("update"),
        Method::PATCH => Some("patch"),
        Method::DELETE if named => Some("delete"),
        Method::DELETE => Some("deletecollection"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_namespaces_from_namespaced_objects() {
        let Some(Route::Objects(pods)) = route("/api/v1/namespaces/test/pods/a/status") else { panic!() };
        assert_eq!(pods.namespace.as_deref(), Some("test"));
        assert_eq!((pods.name.as_deref(), pods.subresource.as_deref()), (Some("a"), Some("status")));
        let Some(Route::Objects(space)) = route("/api/v1/namespaces/test") else { panic!() };
        assert_eq!((space.resource.as_str(), space.name.as_deref()), ("namespaces", Some("test")));
        let Some(Route::Objects(status)) = route("/api/v1/namespaces/test/finalize") else { panic!() };
        assert_eq!(status.subresource.as_deref(), Some("finalize"));
        let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Areader%";
        let Some(Route::Objects(role)) = route(role) else { panic!() };
        assert_eq!(role.name.as_deref(), Some("system:reader%"));
    }
}
