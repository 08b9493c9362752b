//! The HTTP rules of a VirtualService as a routing, and back.
//!
//! Reading never fails: whatever a rule sends elsewhere is an extra backend of the routing, so a route that somebody bent is
//! seen to differ from every routing that is wanted.

use serde_json::{Map, Value, json};

use crate::api::{CanaryService, Retries, Rewrite};
use crate::model::{Affinity, Cookie, Routing, Rule, Split, Sticky};

use super::super::RouteRequest;
use super::super::matches::merged;

/// Name of the rule for users who bring the canary's cookie.
const STICKY_CANARY: &str = "serin-sticky-canary";
/// Name of the rule for users who bring primary's cookie.
const STICKY_PRIMARY: &str = "serin-sticky-primary";
/// Name of the rule for users who bring a cookie of an earlier release.
const STICKY_OVER: &str = "serin-sticky-over";
/// Where a rule leads that has no destination with a weight.
const NOWHERE: &str = "nowhere";

/// The rules that say `routing`: cookies first, then its rules, then the rest.
pub(super) fn write(request: &RouteRequest<'_>, routing: &Routing) -> Vec<Value> {
    let Routing { rules, base, sticky } = routing;
    let apart = rules.iter().map(|Rule { name, when, split }| {
        let mut rule = rule(request, &when[..], split, &Sticky::Off);
        rule.insert("name".to_owned(), json!(name));
        rule
    });
    let rest = rule(request, &request.spec.match_, base, sticky);
    let all = by_cookie(request, base, sticky).into_iter().chain(apart).chain([rest]);
    all.map(Value::Object).collect()
}

/// One rule that sends all requests to one host.
pub(super) fn leading_to(request: &RouteRequest<'_>, host: &str) -> Value {
    let mut rule = common(request.spec, &request.spec.match_);
    rule.insert("route".to_owned(), json!([{"destination": destination(request, host)}]));
    Value::Object(rule)
}

/// The rules for users who bring a cookie.
fn by_cookie(request: &RouteRequest<'_>, base: &Split, sticky: &Sticky) -> Vec<Map<String, Value>> {
    let pinned = |name: &str, cookie: &Cookie, split: &Split| {
        let when = merged(&[json!({"headers": {"cookie": {"regex": brings(cookie)}}})], &request.spec.match_);
        let mut rule = rule(request, &when, split, &Sticky::Off);
        rule.insert("name".to_owned(), json!(name));
        rule
    };
    match sticky {
        Sticky::Off => Vec::new(),
        Sticky::Issue(affinity) => {
            let Affinity { candidate, stable } = affinity.as_ref();
            let to_canary = pinned(STICKY_CANARY, candidate, &Split::candidate_percent(100));
            let to_primary = stable.as_ref().map(|cookie| pinned(STICKY_PRIMARY, cookie, &Split::default()));
            [to_canary].into_iter().chain(to_primary).collect()
        }
        Sticky::Withdraw(cookie) => {
            let mut rule = pinned(STICKY_OVER, cookie, base);
            let headers = rule.entry("headers").or_insert_with(|| json!({}));
            headers["response"]["add"]["Set-Cookie"] = json!(cookie.header());
            vec![rule]
        }
    }
}

/// Matches a header `Cookie` that has this one among others. Names of cookies may hold characters that mean something in
/// regular expressions.
fn brings(cookie: &Cookie) -> String {
    let pair: String = cookie
        .pair()
        .chars()
        .flat_map(|character| {
            let means_something = !(character.is_ascii_alphanumeric() || "_-=".contains(character));
            means_something.then_some('\\').into_iter().chain([character])
        })
        .collect();
    format!("(.*;)? ?{pair}(;.*)?")
}

fn rule(request: &RouteRequest<'_>, when: &[Value], split: &Split, sticky: &Sticky) -> Map<String, Value> {
    let mut rule = common(request.spec, when);
    let (primary, canary) = (side(request, "primary"), side(request, "canary"));
    let (for_primary, for_canary) = match sticky {
        Sticky::Issue(affinity) => (affinity.stable.as_ref(), Some(&affinity.candidate)),
        Sticky::Off | Sticky::Withdraw(_) => (None, None),
    };
    let to = |host: &str, weight: u8, cookie: Option<&Cookie>| {
        let mut to = json!({"destination": destination(request, host), "weight": weight});
        if let Some(cookie) = cookie {
            to["headers"] = json!({"response": {"add": {"Set-Cookie": cookie.header()}}});
        }
        to
    };
    let extra = split.extra().iter().map(|extra| to(&extra.backend, extra.percent, None));
    let sides = [to(&primary, split.stable(), for_primary), to(&canary, split.candidate(), for_canary)];
    rule.insert("route".to_owned(), sides.into_iter().chain(extra).collect());
    if split.mirror() > 0 {
        rule.insert("mirror".to_owned(), destination(request, &canary));
    }
    if (1..100).contains(&split.mirror()) {
        rule.insert("mirrorPercentage".to_owned(), json!({"value": split.mirror()}));
    }
    rule
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

/// `<service>-primary` or `<service>-canary`.
fn side(request: &RouteRequest<'_>, side: &str) -> String {
    format!("{}-{side}", request.service)
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
    let Some(rest) = rules.get(last) else { return Routing::all(nowhere()) };
    let apart = &rules[..last];
    let (sticky, apart) = match read_sticky(request, apart, rest) {
        Some((sticky, used)) => (sticky, &apart[used..]),
        None => (Sticky::Off, apart),
    };
    let rule = |(index, rule): (usize, &Value)| Rule {
        name: rule["name"].as_str().map_or_else(|| format!("rule {index}"), str::to_owned),
        when: conditions(rule).to_vec(),
        split: read_split(request, rule),
    };
    let base = read_split(request, rest);
    Routing { rules: apart.iter().enumerate().map(rule).collect(), base, sticky }
}

fn conditions(rule: &Value) -> &[Value] {
    rule["match"].as_array().map_or(&[], Vec::as_slice)
}

/// What the first rules say of cookies, and how many of them do. `None` if they say nothing, or something of their own.
fn read_sticky(request: &RouteRequest<'_>, apart: &[Value], rest: &Value) -> Option<(Sticky, usize)> {
    let named = |index: usize, name: &str| apart.get(index).filter(|rule| rule["name"] == name);
    let issued_to = |host: &str| {
        let to = rest["route"].as_array()?.iter().find(|to| is_host(request, to, host))?;
        cookie_in(to)
    };
    if let Some(over) = named(0, STICKY_OVER) {
        return Some((Sticky::Withdraw(cookie_in(over)?), 1));
    }
    let to_canary = named(0, STICKY_CANARY)?;
    if read_split(request, to_canary) != Split::candidate_percent(100) {
        return None;
    }
    let candidate = issued_to(&side(request, "canary"))?;
    let stable = issued_to(&side(request, "primary"));
    let used = if stable.is_some() && named(1, STICKY_PRIMARY).is_some() { 2 } else { 1 };
    Some((Sticky::Issue(Box::new(Affinity { candidate, stable })), used))
}

fn cookie_in(headers_of: &Value) -> Option<Cookie> {
    Cookie::parse(headers_of["headers"]["response"]["add"]["Set-Cookie"].as_str()?)
}

/// Where a rule sends requests. Weights are shares of their sum; what is not whole counts for the canary.
fn read_split(request: &RouteRequest<'_>, rule: &Value) -> Split {
    let route = rule["route"].as_array().map_or(&[][..], Vec::as_slice);
    let weight = |to: &Value| to["weight"].as_u64().unwrap_or(u64::from(route.len() == 1) * 100);
    let sum: u64 = route.iter().map(weight).sum();
    if sum == 0 {
        return nowhere();
    }
    let percent = |weight: u64| u8::try_from((weight * 100).div_ceil(sum)).unwrap_or(100);
    let (primary, canary) = (side(request, "primary"), side(request, "canary"));
    let to_canary = route.iter().filter(|to| is_host(request, to, &canary)).map(weight).sum();
    let mut split = Split::candidate_percent(percent(to_canary)).mirrored(read_mirror(request, rule, &canary));
    for to in route.iter().filter(|to| !is_host(request, to, &primary) && !is_host(request, to, &canary)) {
        let host = to["destination"]["host"].as_str().unwrap_or(NOWHERE);
        split = split.with_extra(host, percent(weight(to)));
    }
    split
}

/// A split that no routing wants.
fn nowhere() -> Split {
    Split::default().with_extra(NOWHERE, 100)
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
