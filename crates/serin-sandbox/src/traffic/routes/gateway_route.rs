//! HTTPRoutes: parents, host names, and rules of which the one that matches most closely decides.
//!
//! Obeyed are matches, header modifiers, URL rewriting, mirrors, weighted backends and timeouts. A cross-origin policy changes
//! no way; what would (redirects, extensions) is refused by name.

use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use serin_core::model::NamespacedName;

use super::headers::{Changes, Headers};
use super::matching::path_and_query;
use super::{Head, hosts};

/// Gateway API's group.
pub(super) const GROUP: &str = "gateway.networking.k8s.io";

/// An HTTPRoute.
#[derive(Debug)]
pub(super) struct GatewayRoute {
    pub(super) generation: i64,
    pub(super) status: Value,
    pub(super) parents: Vec<Parent>,
    pub(super) hostnames: Vec<String>,
    /// The older of two equal rules decides.
    created: String,
    /// The rules, or why they cannot be obeyed.
    pub(super) rules: Result<Vec<Rule>, String>,
}

/// What a route is attached to.
#[derive(Debug)]
pub(super) struct Parent {
    /// As it is written, for the status.
    pub(super) reference: Value,
    pub(super) kind: ParentKind,
    pub(super) key: NamespacedName,
    pub(super) section: Option<String>,
    pub(super) port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParentKind {
    Gateway,
    Service,
    Other,
}

#[derive(Debug)]
pub(super) struct Rule {
    matches: Vec<Match>,
    headers: Headers,
    rewrite: Option<Rewrite>,
    pub(super) mirrors: Vec<Backend>,
    pub(super) backends: Vec<(Backend, u32, Headers)>,
    pub(super) timeout: Option<Duration>,
    pub(super) backend_timeout: Option<Duration>,
}

/// What a rule refers to.
#[derive(Debug)]
pub(super) struct Backend {
    /// `None` for what is no Service.
    pub(super) service: Option<NamespacedName>,
    pub(super) kind: String,
    pub(super) port: Option<u16>,
}

#[derive(Debug)]
struct Rewrite {
    host: Option<String>,
    path: Option<(Replace, String)>,
}

#[derive(Debug, Clone, Copy)]
enum Replace {
    Path,
    Prefix,
}

#[derive(Debug)]
struct Match {
    path: Path,
    method: Option<String>,
    headers: Vec<(String, Text)>,
    queries: Vec<(String, Text)>,
}

#[derive(Debug)]
enum Path {
    Exact(String),
    /// Without a slash at its end.
    Prefix(String),
    Regex(Regex),
}

#[derive(Debug)]
enum Text {
    Exact(String),
    Regex(Regex),
}

/// How closely a match fits a request: more is closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Closeness {
    exact: bool,
    path: usize,
    method: bool,
    headers: usize,
    queries: usize,
}

/// A rule that matches, and how.
#[derive(Debug)]
pub(super) struct Fitting<'a> {
    pub(super) rule: &'a Rule,
    pub(super) closeness: Closeness,
    prefix: usize,
}

impl GatewayRoute {
    pub(super) fn read(object: &Value) -> Self {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let namespace = metadata["namespace"].as_str().unwrap_or_default();
        let array = |field: &str| spec[field].as_array().map_or(&[][..], Vec::as_slice);
        let rules = array("rules").iter().enumerate();
        let rules = rules.map(|(index, rule)| {
            Rule::read(rule, namespace).map_err(|reason| format!("spec.rules[{index}]: {reason}"))
        });
        Self {
            generation: metadata["generation"].as_i64().unwrap_or_default(),
            status: object["status"].clone(),
            parents: array("parentRefs").iter().map(|parent| Parent::read(parent, namespace)).collect(),
            hostnames: array("hostnames").iter().filter_map(|host| host.as_str().map(str::to_owned)).collect(),
            created: metadata["creationTimestamp"].as_str().unwrap_or_default().to_owned(),
            rules: rules.collect(),
        }
    }

    /// How closely its names fit a host; a route without names is for all.
    pub(super) fn host_fit(&self, host: &str) -> Option<usize> {
        if self.hostnames.is_empty() {
            return Some(0);
        }
        self.hostnames.iter().filter_map(|pattern| hosts::specificity(pattern, host)).max()
    }

    /// The rule that fits a request most closely; of equal ones the first.
    pub(super) fn fitting(&self, head: Head<'_>) -> Option<Fitting<'_>> {
        let rules = self.rules.as_ref().ok()?;
        let all = rules.iter().flat_map(|rule| {
            rule.matches.iter().filter_map(move |found| {
                let prefix = found.fits(head)?;
                Some(Fitting { rule, closeness: found.closeness(), prefix })
            })
        });
        all.reduce(|best, next| if next.closeness > best.closeness { next } else { best })
    }

    pub(super) fn created(&self) -> &str {
        &self.created
    }
}

impl Parent {
    fn read(reference: &Value, namespace: &str) -> Self {
        let text = |field: &str| reference[field].as_str();
        let kind = match (text("group").unwrap_or(GROUP), text("kind").unwrap_or("Gateway")) {
            (GROUP, "Gateway") => ParentKind::Gateway,
            ("", "Service") => ParentKind::Service,
            _ => ParentKind::Other,
        };
        Self {
            reference: reference.clone(),
            kind,
            key: NamespacedName::new(text("namespace").unwrap_or(namespace), text("name").unwrap_or_default()),
            section: text("sectionName").map(str::to_owned),
            port: port(&reference["port"]),
        }
    }
}

impl Rule {
    fn read(rule: &Value, namespace: &str) -> Result<Self, String> {
        let array = |field: &str| rule[field].as_array().map_or(&[][..], Vec::as_slice);
        let mut matches = array("matches").iter().map(Match::read).collect::<Result<Vec<_>, _>>()?;
        if matches.is_empty() {
            matches.push(Match::read(&Value::Null)?);
        }
        let mut read = Self {
            matches,
            headers: Headers::default(),
            rewrite: None,
            mirrors: Vec::new(),
            backends: Vec::new(),
            timeout: duration(&rule["timeouts"]["request"])?,
            backend_timeout: duration(&rule["timeouts"]["backendRequest"])?,
        };
        for filter in array("filters") {
            match filter["type"].as_str().unwrap_or_default() {
                "URLRewrite" => read.rewrite = Some(Rewrite::read(&filter["urlRewrite"])),
                "RequestMirror" => {
                    let mirror = &filter["requestMirror"];
                    if !(mirror["percent"].is_null() && mirror["fraction"].is_null()) {
                        return Err("a RequestMirror of a share is not supported".to_owned());
                    }
                    read.mirrors.push(Backend::read(&mirror["backendRef"], namespace));
                }
                "CORS" => {}
                _ => read.headers = read.headers.and(&modifier(filter)?),
            }
        }
        for backend in array("backendRefs") {
            let filters = backend["filters"].as_array().into_iter().flatten();
            let headers =
                filters.map(modifier).try_fold(Headers::default(), |all, one| one.map(|one| all.and(&one)))?;
            let weight = backend["weight"].as_u64().and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1);
            read.backends.push((Backend::read(backend, namespace), weight, headers));
        }
        Ok(read)
    }

    /// A backend by weight, and what is done to headers on the way there and back.
    pub(super) fn pick(&self, random: &mut fastrand::Rng) -> Option<(&Backend, Headers)> {
        let total: u32 = self.backends.iter().map(|(_, weight, _)| *weight).sum();
        let mut point = random.u32(0..total.max(1));
        for (backend, weight, headers) in &self.backends {
            match point.checked_sub(*weight) {
                Some(rest) => point = rest,
                None => return Some((backend, self.headers.and(headers))),
            }
        }
        None
    }
}

impl Fitting<'_> {
    /// Path with query, and host, as they are sent on.
    pub(super) fn rewritten(&self, uri: &http::Uri) -> (String, Option<String>) {
        let whole = path_and_query(uri);
        let Some(Rewrite { host, path }) = &self.rule.rewrite else { return (whole.to_owned(), None) };
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = match path {
            None => whole.to_owned(),
            Some((Replace::Path, replacement)) => format!("{replacement}{query}"),
            Some((Replace::Prefix, replacement)) => {
                let rest = uri.path().get(self.prefix..).unwrap_or_default().trim_start_matches('/');
                let replacement = replacement.trim_end_matches('/');
                if rest.is_empty() && !replacement.is_empty() {
                    format!("{replacement}{query}")
                } else {
                    format!("{replacement}/{rest}{query}")
                }
            }
        };
        (path, host.clone())
    }
}

impl Rewrite {
    fn read(rewrite: &Value) -> Self {
        let path = &rewrite["path"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let full = text(&path["replaceFullPath"]).map(|path| (Replace::Path, path));
        let prefix = text(&path["replacePrefixMatch"]).map(|path| (Replace::Prefix, path));
        Self { host: text(&rewrite["hostname"]), path: full.or(prefix) }
    }
}

impl Backend {
    fn read(reference: &Value, namespace: &str) -> Self {
        let text = |field: &str, default: &'static str| reference[field].as_str().unwrap_or(default).to_owned();
        let (group, kind) = (text("group", ""), text("kind", "Service"));
        let is_service = group.is_empty() && kind == "Service";
        let key = NamespacedName::new(
            reference["namespace"].as_str().unwrap_or(namespace),
            reference["name"].as_str().unwrap_or_default(),
        );
        Self { service: is_service.then_some(key), kind, port: port(&reference["port"]) }
    }
}

impl Match {
    fn read(found: &Value) -> Result<Self, String> {
        let value = found["path"]["value"].as_str().unwrap_or("/");
        let path = match found["path"]["type"].as_str() {
            Some("Exact") => Path::Exact(value.to_owned()),
            Some("RegularExpression") => Path::Regex(anchored(value)?),
            None | Some("PathPrefix") => Path::Prefix(value.trim_end_matches('/').to_owned()),
            Some(other) => return Err(format!("a path of type {other} is not supported")),
        };
        let texts = |field: &str| {
            let all = found[field].as_array().into_iter().flatten();
            let all = all.map(|one| {
                let (name, value) =
                    (one["name"].as_str().unwrap_or_default(), one["value"].as_str().unwrap_or_default());
                let text = match one["type"].as_str() {
                    Some("RegularExpression") => Text::Regex(anchored(value)?),
                    _ => Text::Exact(value.to_owned()),
                };
                Ok((name.to_owned(), text))
            });
            all.collect::<Result<Vec<_>, String>>()
        };
        let method = found["method"].as_str().map(str::to_owned);
        Ok(Self { path, method, headers: texts("headers")?, queries: texts("queryParams")? })
    }

    /// Length of the matched prefix, if all conditions hold.
    fn fits(&self, head: Head<'_>) -> Option<usize> {
        let path = head.uri.path();
        let prefix = match &self.path {
            Path::Exact(exact) => (exact == path).then_some(path.len())?,
            Path::Regex(regex) => regex.is_match(path).then_some(path.len())?,
            Path::Prefix(prefix) => {
                let rest = path.strip_prefix(prefix.as_str())?;
                (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())?
            }
        };
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let holds = self.method.as_ref().is_none_or(|method| method == head.method.as_str())
            && self.headers.iter().all(|(name, text)| header(name).is_some_and(|value| text.is_match(value)))
            && self.queries.iter().all(|(name, text)| {
                super::matching::query_value(head.uri, name).is_some_and(|value| text.is_match(value))
            });
        holds.then_some(prefix)
    }

    fn closeness(&self) -> Closeness {
        let (exact, path) = match &self.path {
            Path::Exact(path) => (true, path.len()),
            Path::Prefix(path) => (false, path.len()),
            Path::Regex(_) => (false, 0),
        };
        let (headers, queries) = (self.headers.len(), self.queries.len());
        Closeness { exact, path, method: self.method.is_some(), headers, queries }
    }
}

impl Text {
    fn is_match(&self, value: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// As proxies with Envoy inside take them: of the whole value.
fn anchored(text: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?:{text})$")).map_err(|error| format!("`{text}` is no regular expression: {error}"))
}

fn modifier(filter: &Value) -> Result<Headers, String> {
    match filter["type"].as_str().unwrap_or_default() {
        "RequestHeaderModifier" => {
            let request = Changes::of_modifier(&filter["requestHeaderModifier"])?;
            Ok(Headers { request, response: Changes::default() })
        }
        "ResponseHeaderModifier" => {
            let response = Changes::of_modifier(&filter["responseHeaderModifier"])?;
            Ok(Headers { request: Changes::default(), response })
        }
        other => Err(format!("the filter {other} is not supported")),
    }
}

fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok())
}

/// `0s` is no limit.
fn duration(value: &Value) -> Result<Option<Duration>, String> {
    let Some(text) = value.as_str() else { return Ok(None) };
    let duration = super::virtual_service::duration(text)?;
    Ok((!duration.is_zero()).then_some(duration))
}
