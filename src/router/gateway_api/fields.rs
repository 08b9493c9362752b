//! The fields of `spec.service` in Gateway API's words, and what it has no words for.

use serde_json::{Map, Value, json};

use crate::api::{CanaryService, GatewayRef, Rewrite};
use crate::model::{Cookie, NamespacedName};
use crate::router::{FieldProblem, RouteAsk};

use super::{GATEWAY, GROUP, matches};

/// Gateway API's default of a parent's group.
pub(super) const GROUP_DEFAULT: &str = GROUP;
/// Most host names of an HTTPRoute.
const HOSTS_MAX: usize = 16;
/// Longest of them.
const HOST_LENGTH_MAX: usize = 253;
/// `rewrite.type` that replaces what a prefix has matched; everything else replaces the path.
const REPLACE_PREFIX: &str = "ReplacePrefixMatch";
/// Units of a duration, and most digits before each, in Gateway API's notation (GEP-2257).
const UNITS: [&str; 4] = ["ms", "h", "m", "s"];
const DIGITS_MAX: usize = 5;
const PARTS_MAX: usize = 4;

/// A parent as it is written, with all defaults, so that the API server adds none.
pub(super) fn parent(parent: &GatewayRef) -> Value {
    let GatewayRef { group, kind, name, namespace, section_name, port } = parent;
    let mut out = json!({
        "group": group.as_deref().unwrap_or(GROUP_DEFAULT), "kind": kind.as_deref().unwrap_or(GATEWAY), "name": name
    });
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            out[field] = value;
        }
    };
    set("namespace", namespace.clone().map(Value::from));
    set("sectionName", section_name.clone().map(Value::from));
    set("port", port.map(Value::from));
    out
}

/// Whether a parent is one of Gateway API's Gateways.
pub(super) fn is_gateway(parent: &GatewayRef) -> bool {
    parent.group.as_deref().unwrap_or(GROUP_DEFAULT) == GROUP
        && parent.kind.as_deref().unwrap_or(GATEWAY) == GATEWAY
}

/// Where a parent is, of a Canary in `namespace`.
pub(super) fn key(parent: &GatewayRef, namespace: &str) -> NamespacedName {
    NamespacedName::new(parent.namespace.as_deref().unwrap_or(namespace), parent.name.as_str())
}

/// `Gateway test/public`.
pub(super) fn words(parent: &GatewayRef, namespace: &str) -> String {
    format!("{} {}", parent.kind.as_deref().unwrap_or(GATEWAY), key(parent, namespace))
}

/// The filters of every rule: headers, rewriting, copies, cross-origin policy.
pub(super) fn filters(
    spec: &CanaryService,
    withdraws: Option<&Cookie>,
    copies: Option<Value>,
    is_whole: bool,
) -> Vec<Value> {
    let headers = |side: &str| spec.headers.as_ref().map(|headers| modifier(&headers[side])).unwrap_or_default();
    let (request, mut response) = (headers("request"), headers("response"));
    if let Some(cookie) = withdraws {
        let header = json!({"name": "Set-Cookie", "value": cookie.header()});
        match response.entry("add").or_insert_with(|| json!([])).as_array_mut() {
            Some(added) => added.push(header),
            None => drop(response.insert("add".to_owned(), json!([header]))),
        }
    }
    let mut filters = Vec::new();
    let mut filter = |kind: &str, field: &str, value: Value| filters.push(json!({"type": kind, field: value}));
    if !request.is_empty() {
        filter("RequestHeaderModifier", "requestHeaderModifier", Value::Object(request));
    }
    if !response.is_empty() {
        filter("ResponseHeaderModifier", "responseHeaderModifier", Value::Object(response));
    }
    if let Some(rewrite) = spec.rewrite.as_ref().and_then(url_rewrite) {
        filter("URLRewrite", "urlRewrite", rewrite);
    }
    let permanent = spec.mirror.iter().map(|mirror| with_defaults(&mirror["backendRef"], spec.port));
    for backend in permanent.chain(copies) {
        filter("RequestMirror", "requestMirror", json!({"backendRef": backend}));
    }
    if let Some(cors) = spec.cors_policy.as_ref().filter(|_| is_whole) {
        filter("CORS", "cors", cors_filter(cors));
    }
    filters
}

fn with_defaults(backend: &Value, port: i32) -> Value {
    let mut backend = backend.clone();
    for (field, default) in [("group", json!("")), ("kind", json!("Service")), ("port", json!(port))] {
        if backend[field].is_null() {
            backend[field] = default;
        }
    }
    backend
}

/// Istio's `{add: {name: value}, set, remove}` as a header modifier.
fn modifier(headers: &Value) -> Map<String, Value> {
    let mut out = Map::new();
    for field in ["add", "set"] {
        let named = headers[field].as_object().into_iter().flatten();
        let named: Vec<Value> = named.map(|(name, value)| json!({"name": name, "value": value})).collect();
        if !named.is_empty() {
            out.insert(field.to_owned(), Value::Array(named));
        }
    }
    if let Some(removed) = headers["remove"].as_array().filter(|removed| !removed.is_empty()) {
        out.insert("remove".to_owned(), json!(removed));
    }
    out
}

fn url_rewrite(rewrite: &Rewrite) -> Option<Value> {
    let Rewrite { uri, authority, type_ } = rewrite;
    let mut out = Map::new();
    if let Some(uri) = uri {
        let path = match type_.as_deref() {
            Some(REPLACE_PREFIX) => json!({"type": REPLACE_PREFIX, "replacePrefixMatch": uri}),
            Some(_) | None => json!({"type": "ReplaceFullPath", "replaceFullPath": uri}),
        };
        out.insert("path".to_owned(), path);
    }
    if let Some(authority) = authority {
        out.insert("hostname".to_owned(), json!(authority));
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// Istio's CorsPolicy as Gateway API's filter.
fn cors_filter(policy: &Value) -> Value {
    let mut out = Map::new();
    let deprecated = policy["allowOrigin"].as_array().into_iter().flatten().cloned();
    let exact = policy["allowOrigins"].as_array().into_iter().flatten().map(|origin| origin["exact"].clone());
    let origins: Vec<Value> = deprecated.chain(exact).collect();
    if !origins.is_empty() {
        out.insert("allowOrigins".to_owned(), Value::Array(origins));
    }
    for field in ["allowMethods", "allowHeaders", "exposeHeaders"] {
        if let Some(values) = policy[field].as_array().filter(|values| !values.is_empty()) {
            out.insert(field.to_owned(), json!(values));
        }
    }
    if policy["allowCredentials"] == true {
        out.insert("allowCredentials".to_owned(), json!(true));
    }
    let age = policy["maxAge"].as_str().and_then(seconds).unwrap_or(MAX_AGE_DEFAULT);
    out.insert("maxAge".to_owned(), json!(age));
    Value::Object(out)
}

/// What the API server fills in for a policy without `maxAge`, in seconds.
const MAX_AGE_DEFAULT: u64 = 5;

/// `timeouts` of every rule.
pub(super) fn timeouts(spec: &CanaryService) -> Option<Value> {
    let fields = [("request", &spec.timeout), ("backendRequest", &spec.backend_timeout)];
    let set = fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), json!(value.as_ref()?))));
    let all: Map<String, Value> = set.collect();
    (!all.is_empty()).then_some(Value::Object(all))
}

/// A duration in Gateway API's notation, in milliseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let (mut rest, mut sum, mut parts) = (text, 0_u64, 0);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|it: char| it.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let unit = UNITS.into_iter().find(|unit| after.starts_with(unit))?;
        parts += 1;
        if !(1..=DIGITS_MAX).contains(&digits) || parts > PARTS_MAX {
            return None;
        }
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            _ => 3_600_000,
        };
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = &after[unit.len()..];
    }
    (parts > 0).then_some(sum)
}

fn seconds(text: &str) -> Option<u64> {
    milliseconds(text).map(|milliseconds| milliseconds / 1_000).filter(|seconds| *seconds > 0)
}

/// Fields that are accepted and have no effect here.
pub(super) fn ignored(spec: &CanaryService, is_whole: bool) -> Vec<&'static str> {
    let fields = [
        ("spec.service.gateways", !spec.gateways.is_empty()),
        ("spec.service.trafficPolicy", spec.traffic_policy.is_some()),
        ("spec.service.retries", spec.retries.is_some()),
        ("spec.service.timeout", spec.timeout.is_some() && !is_whole),
        ("spec.service.backendTimeout", spec.backend_timeout.is_some() && !is_whole),
        ("spec.service.corsPolicy", spec.cors_policy.is_some() && !is_whole),
    ];
    fields.into_iter().filter(|(_, is_set)| *is_set).map(|(path, _)| path).collect()
}

/// The first field that an HTTPRoute cannot carry out.
pub(super) fn check(provider: &str, ask: &RouteAsk<'_>) -> Result<(), FieldProblem> {
    let spec = ask.spec;
    if spec.gateway_refs.is_empty() {
        let message = format!("is empty: provider {provider} attaches its HTTPRoute to the Gateways named there");
        return problem("spec.service.gatewayRefs", &message);
    }
    if spec.app_protocol.as_deref().is_some_and(|protocol| protocol.eq_ignore_ascii_case("tcp")) {
        return problem("spec.service.appProtocol", "tcp is not supported yet: only HTTP routes are generated");
    }
    if spec.delegation {
        return problem("spec.service.delegation", "is Istio's: an HTTPRoute is attached to Gateways");
    }
    check_hosts(&spec.hosts)?;
    check_matches(provider, ask)?;
    check_times(spec)?;
    check_mirrors(spec)?;
    check_cors(spec)
}

fn problem<T>(path: &str, message: &str) -> Result<T, FieldProblem> {
    Err(FieldProblem { path: path.to_owned(), message: format!("{path} {message}") })
}

fn check_hosts(hosts: &[String]) -> Result<(), FieldProblem> {
    if hosts.len() > HOSTS_MAX {
        return problem(
            "spec.service.hosts",
            &format!("has more than {HOSTS_MAX} names, the most of an HTTPRoute"),
        );
    }
    let wrong = hosts.iter().enumerate().find(|(_, host)| host.as_str() != "*" && !is_host(host));
    wrong.map_or(Ok(()), |(index, host)| {
        let path = format!("spec.service.hosts[{index}]");
        problem(&path, &format!("`{host}` is no host name: use lower-case labels, `*.` in front, or just `*`"))
    })
}

fn is_host(host: &str) -> bool {
    let labels = host.strip_prefix("*.").unwrap_or(host);
    let is_label = |label: &str| {
        let is_inner = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
        !label.is_empty() && label.chars().all(is_inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    host.len() <= HOST_LENGTH_MAX && labels.split('.').all(is_label)
}

fn check_matches(provider: &str, ask: &RouteAsk<'_>) -> Result<(), FieldProblem> {
    let of_service = ask.spec.match_.iter().enumerate();
    let of_service = of_service.map(|(index, when)| (format!("spec.service.match[{index}]"), when));
    let of_rules = ask.rules.iter().flat_map(|rule| &rule.when);
    let of_rules = of_rules.map(|when| ("spec.analysis.match".to_owned(), when));
    for (path, when) in of_service.chain(of_rules) {
        if let Err((field, why)) = matches::of(when) {
            let message = format!("cannot be matched by provider {provider}: {field} {why}");
            return problem(&format!("{path}.{field}"), &message);
        }
    }
    check_prefix(ask)
}

/// The API server refuses a rule that replaces a prefix and has another number of prefixes than one.
fn check_prefix(ask: &RouteAsk<'_>) -> Result<(), FieldProblem> {
    let rewrite = ask.spec.rewrite.as_ref().filter(|rewrite| rewrite.uri.is_some());
    if rewrite.and_then(|rewrite| rewrite.type_.as_deref()) != Some(REPLACE_PREFIX) {
        return Ok(());
    }
    let is_one_prefix = |when: &[Value]| matches!(when, [only] if only["uri"]["prefix"].is_string());
    let all = ask.rules.iter().map(|rule| rule.when.as_slice()).chain([ask.spec.match_.as_slice()]);
    if all.into_iter().all(is_one_prefix) {
        return Ok(());
    }
    let message = format!("{REPLACE_PREFIX} needs exactly one match, with uri.prefix: that is what it replaces");
    problem("spec.service.rewrite.type", &message)
}

fn check_times(spec: &CanaryService) -> Result<(), FieldProblem> {
    let times = [("timeout", &spec.timeout), ("backendTimeout", &spec.backend_timeout)];
    let mut read = [None, None];
    for (slot, (field, text)) in read.iter_mut().zip(times) {
        let Some(text) = text else { continue };
        *slot = milliseconds(text);
        if slot.is_none() {
            let path = format!("spec.service.{field}");
            return problem(
                &path,
                &format!("`{text}` is no duration of Gateway API: write it as 1h30m, 15s or 500ms"),
            );
        }
    }
    match read {
        [Some(whole), Some(single)] if whole > 0 && single > whole => {
            problem("spec.service.backendTimeout", "is longer than spec.service.timeout")
        }
        _ => Ok(()),
    }
}

fn check_mirrors(spec: &CanaryService) -> Result<(), FieldProblem> {
    let unnamed = spec.mirror.iter().position(|mirror| !mirror["backendRef"]["name"].is_string());
    unnamed.map_or(Ok(()), |index| {
        problem(&format!("spec.service.mirror[{index}].backendRef"), "names no Service: set its name")
    })
}

fn check_cors(spec: &CanaryService) -> Result<(), FieldProblem> {
    let Some(policy) = &spec.cors_policy else { return Ok(()) };
    let origins = policy["allowOrigins"].as_array().into_iter().flatten().enumerate();
    for (index, origin) in origins {
        if !origin["exact"].is_string() {
            let path = format!("spec.service.corsPolicy.allowOrigins[{index}]");
            return problem(
                &path,
                "must be exact: Gateway API knows neither prefixes nor regular expressions there",
            );
        }
    }
    match policy["maxAge"].as_str() {
        Some(text) if seconds(text).is_none() => {
            problem("spec.service.corsPolicy.maxAge", &format!("`{text}` is no duration of a second or more"))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gateway_apis() {
        for (text, wanted) in [
            ("15s", Some(15_000)),
            ("1h30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("0s", Some(0)),
            ("10m", Some(600_000)),
        ] {
            assert_eq!(milliseconds(text), wanted, "{text}");
        }
        for text in ["", "15", "1.5s", "s", "123456s", "1s1s1s1s1s", "1d", "-1s"] {
            assert_eq!(milliseconds(text), None, "{text}");
        }
    }

    #[test]
    fn hosts_are_what_the_api_server_takes() {
        for host in ["a", "app.example.com", "*.example.com", "1.example"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["", "*", "a.*", "A.example", "a..b", "-a", "a-", "a_b", "*a.b"] {
            assert!(!is_host(host), "{host}");
        }
    }
}
