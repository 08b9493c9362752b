//! The HTTP rules of a VirtualService as a routing, and back.

use serde_json::{Map, Value, json};

use crate::api::{CanaryService, Retries, Rewrite};
use crate::model::{Cookie, Routing, Split};

use super::super::RouteRequest;
use super::super::plan::{Backend, Found, Planned, plan, routing, split, unknown};

/// The rules that say `routing`.
pub(super) fn write(request: &RouteRequest<'_>, routing: &Routing) -> Vec<Value> {
    plan(routing, &request.spec.match_).iter().map(|planned| rule(request, planned)).collect()
}

/// One rule that sends all requests to one host.
pub(super) fn leading_to(request: &RouteRequest<'_>, host: &str) -> Value {
    let mut rule = common(request.spec, &request.spec.match_);
    rule.insert("route".to_owned(), json!([{"destination": destination(request, host)}]));
    Value::Object(rule)
}

fn rule(request: &RouteRequest<'_>, planned: &Planned<'_>) -> Value {
    let Planned { name, when, split, issues: _, withdraws } = planned;
    let mut rule = common(request.spec, when);
    if let Some(name) = name {
        rule.insert("name".to_owned(), json!(name));
    }
    if let Some(cookie) = withdraws {
        let headers = rule.entry("headers").or_insert_with(|| json!({}));
        headers["response"]["add"]["Set-Cookie"] = json!(cookie.header());
    }
    let (primary, canary) = (request.side("primary"), request.side("canary"));
    let to = |host: &str, weight: u8, cookie: Option<&Cookie>| {
        let mut to = json!({"destination": destination(request, host), "weight": weight});
        if let Some(cookie) = cookie {
            to["headers"] = json!({"response": {"add": {"Set-Cookie": cookie.header()}}});
        }
        to
    };
    let extra = split.extra().iter().map(|extra| to(&extra.backend, extra.percent, None));
    let sides = [
        to(&primary, split.stable(), planned.for_stable()),
        to(&canary, split.candidate(), planned.for_candidate()),
    ];
    rule.insert("route".to_owned(), sides.into_iter().chain(extra).collect());
    if split.mirror() > 0 {
        rule.insert("mirror".to_owned(), destination(request, &canary));
    }
    if (1..100).contains(&split.mirror()) {
        rule.insert("mirrorPercentage".to_owned(), json!({"value": split.mirror()}));
    }
    Value::Object(rule)
}

/// What all rules of a Canary say besides where requests go.
fn common(spec: &CanaryService, when: &[Value]) -> Map<String, Value> {
    let CanaryService { rewrite, timeout, retries, cors_policy, headers, .. } = spec;
    let mut rule = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            rule.insert(key.to_owned(), value);
        }
    };
    set("match", (!when.is_empty()).then(|| Value::Array(when.to_vec())));
    set("rewrite", rewrite.as_ref().map(istio_rewrite));
    set("timeout", timeout.clone().map(Value::from));
    set("retries", retries.as_ref().map(istio_retries));
    set("corsPolicy", cors_policy.clone());
    set("headers", headers.clone());
    rule
}

/// The port is named only where Istio cannot guess it: behind a gateway when the service has several ports.
fn destination(request: &RouteRequest<'_>, host: &str) -> Value {
    let CanaryService { port, port_discovery, .. } = request.spec;
    if *port_discovery && request.is_behind_gateway() {
        json!({"host": host, "port": {"number": port}})
    } else {
        json!({"host": host})
    }
}

fn istio_rewrite(Rewrite { uri, authority, type_: _ }: &Rewrite) -> Value {
    pruned([("uri", uri.clone().map(Value::from)), ("authority", authority.clone().map(Value::from))])
}

fn istio_retries(Retries { attempts, per_try_timeout, retry_on }: &Retries) -> Value {
    pruned([
        ("attempts", attempts.map(Value::from)),
        ("perTryTimeout", per_try_timeout.clone().map(Value::from)),
        ("retryOn", retry_on.clone().map(Value::from)),
    ])
}

fn pruned<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    Value::Object(fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
}

/// What live rules say.
pub(super) fn read(request: &RouteRequest<'_>, rules: &Value) -> Routing {
    let rules = rules.as_array().map_or(&[][..], Vec::as_slice);
    // What follows a rule without conditions is never reached.
    let last = rules.iter().position(|rule| conditions(rule).is_empty()).unwrap_or(rules.len().saturating_sub(1));
    let apart = rules.iter().take(last).map(|rule| found(request, rule));
    routing(apart.collect(), rules.get(last).map(|rule| found(request, rule)))
}

fn conditions(rule: &Value) -> &[Value] {
    rule["match"].as_array().map_or(&[], Vec::as_slice)
}

fn found(request: &RouteRequest<'_>, rule: &Value) -> Found {
    let issued_to = |side: &str| {
        let to = rule["route"].as_array()?.iter().find(|to| is_host(request, to, &request.side(side)))?;
        cookie_in(to)
    };
    Found {
        name: rule["name"].as_str().map(str::to_owned),
        when: conditions(rule).to_vec(),
        split: read_split(request, rule),
        for_stable: issued_to("primary"),
        for_candidate: issued_to("canary"),
        withdraws: cookie_in(rule),
    }
}

fn cookie_in(headers_of: &Value) -> Option<Cookie> {
    Cookie::parse(headers_of["headers"]["response"]["add"]["Set-Cookie"].as_str()?)
}

fn read_split(request: &RouteRequest<'_>, rule: &Value) -> Split {
    let route = rule["route"].as_array().map_or(&[][..], Vec::as_slice);
    let (primary, canary) = (request.side("primary"), request.side("canary"));
    let backend = |to: &Value| {
        let backend = if is_host(request, to, &primary) {
            Backend::Stable
        } else if is_host(request, to, &canary) {
            Backend::Candidate
        } else {
            to["destination"]["host"].as_str().map_or_else(unknown, |host| Backend::Other(host.to_owned()))
        };
        (backend, to["weight"].as_u64().unwrap_or(u64::from(route.len() == 1) * 100))
    };
    let backends: Vec<_> = route.iter().map(backend).collect();
    split(&backends, read_mirror(request, rule, &canary))
}

/// Percent of which the canary gets copies; all of them unless something else is said.
fn read_mirror(request: &RouteRequest<'_>, rule: &Value, canary: &str) -> u8 {
    let percent = |value: &Value| value.as_f64().map_or(100, |percent| percent.ceil().clamp(0.0, 100.0) as u8);
    let single = host_is(request, &rule["mirror"]["host"], canary);
    let single = single.then(|| percent(&rule["mirrorPercentage"]["value"]));
    let several = rule["mirrors"].as_array().map_or(&[][..], Vec::as_slice).iter();
    let several = several.filter(|mirror| is_host(request, mirror, canary));
    single.into_iter().chain(several.map(|mirror| percent(&mirror["percentage"]["value"]))).max().unwrap_or(0)
}

fn is_host(request: &RouteRequest<'_>, to: &Value, service: &str) -> bool {
    host_is(request, &to["destination"]["host"], service)
}

/// Whether a host is this Service of the Canary's namespace: short, with the namespace, or in full.
fn host_is(request: &RouteRequest<'_>, host: &Value, service: &str) -> bool {
    let Some(rest) = host.as_str().and_then(|host| host.strip_prefix(service)) else { return false };
    let namespace = request.namespace;
    rest.is_empty() || ["", ".svc", ".svc.cluster.local"].iter().any(|end| *rest == format!(".{namespace}{end}"))
}
