//! The rules of an HTTPRoute as a routing, and back.
//!
//! Gateway API does not go by the order of rules but by how closely they match: a longer path, then a method, then more
//! headers. Rules of a routing hold the conditions of all other requests and more, so they come first there, too.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::CanaryService;
use crate::model::{Cookie, Routing, Split};
use crate::router::RouteRequest;
use crate::router::plan::{Backend, Found, Planned, plan, routing, split, unknown};

use super::{fields, matches};

/// Annotation with names and conditions of the rules, as the routing has them: an HTTPRoute's matches say less, and names of
/// rules are not kept by every version.
pub(super) const RULES: &str = "serin.dev/rules";
/// A header that nobody sends: what cannot be said is refused before, and must not become a rule for everybody.
const NEVER: &str = "serin-never";
/// Weight of a route's only backend.
const WHOLE: u8 = 100;

/// A rule as it is remembered.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    name: String,
    when: Vec<Value>,
}

/// What [`RULES`] says.
pub(super) fn remember(request: &RouteRequest<'_>, routing: &Routing) -> String {
    let rules = plan(routing, &request.spec.match_);
    let named = rules
        .into_iter()
        .filter_map(|Planned { name, when, .. }| Some(Remembered { name: name?.to_owned(), when }));
    // Plain data: there is no way in which this could fail.
    serde_json::to_string(&named.collect::<Vec<_>>()).unwrap_or_default()
}

/// The rules that say `routing`.
pub(super) fn write(request: &RouteRequest<'_>, routing: &Routing, is_whole: bool) -> Vec<Value> {
    plan(routing, &request.spec.match_).iter().map(|planned| rule(request, planned, is_whole)).collect()
}

/// One rule that sends all requests to one Service.
pub(super) fn leading_to(request: &RouteRequest<'_>, service: &str, is_whole: bool) -> Value {
    let mut rule = common(request.spec, &request.spec.match_, None, None, is_whole);
    rule["backendRefs"] = json!([backend(request, service, WHOLE, None)]);
    rule
}

fn rule(request: &RouteRequest<'_>, planned: &Planned<'_>, is_whole: bool) -> Value {
    let Planned { name: _, when, split, issues: _, withdraws } = planned;
    let (primary, canary) = (request.side("primary"), request.side("canary"));
    let copies = (split.mirror() > 0).then(|| reference(request, &canary));
    let mut rule = common(request.spec, when, *withdraws, copies, is_whole);
    let extra = split.extra().iter().map(|extra| backend(request, &extra.backend, extra.percent, None));
    let sides = [
        backend(request, &primary, split.stable(), planned.for_stable()),
        backend(request, &canary, split.candidate(), planned.for_candidate()),
    ];
    rule["backendRefs"] = sides.into_iter().chain(extra).collect();
    rule
}

/// What all rules of a Canary say besides where requests go.
fn common(
    spec: &CanaryService,
    when: &[Value],
    withdraws: Option<&Cookie>,
    copies: Option<Value>,
    is_whole: bool,
) -> Value {
    let mut rule = json!({"matches": matches_of(when)});
    let filters = fields::filters(spec, withdraws, copies, is_whole);
    if !filters.is_empty() {
        rule["filters"] = Value::Array(filters);
    }
    if let Some(timeouts) = fields::timeouts(spec).filter(|_| is_whole) {
        rule["timeouts"] = timeouts;
    }
    rule
}

fn matches_of(when: &[Value]) -> Vec<Value> {
    if when.is_empty() {
        return vec![matches::every_request()];
    }
    let never = || json!({"headers": [{"type": "Exact", "name": NEVER, "value": NEVER}]});
    when.iter().map(|when| matches::of(when).unwrap_or_else(|_| never())).collect()
}

/// A Service, `name` or `name.namespace`.
fn reference(request: &RouteRequest<'_>, service: &str) -> Value {
    let (name, namespace) = service.split_once('.').map_or((service, None), |(name, rest)| (name, Some(rest)));
    let mut reference = json!({"group": "", "kind": "Service", "name": name, "port": request.spec.port});
    if let Some(namespace) = namespace {
        reference["namespace"] = json!(namespace);
    }
    reference
}

fn backend(request: &RouteRequest<'_>, service: &str, weight: u8, cookie: Option<&Cookie>) -> Value {
    let mut backend = reference(request, service);
    backend["weight"] = json!(weight);
    if let Some(cookie) = cookie {
        let add = json!([{"name": "Set-Cookie", "value": cookie.header()}]);
        backend["filters"] = json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": add}}]);
    }
    backend
}

/// What a live route says.
pub(super) fn read(request: &RouteRequest<'_>, route: &Value) -> Routing {
    let rules = route["spec"]["rules"].as_array().map_or(&[][..], Vec::as_slice);
    let remembered = route["metadata"]["annotations"][RULES].as_str();
    let mut remembered = remembered
        .and_then(|text| serde_json::from_str::<Vec<Remembered>>(text).ok())
        .filter(|remembered| remembered.len() + 1 == rules.len())
        .unwrap_or_default()
        .into_iter();
    let Some((rest, apart)) = rules.split_last() else { return routing(Vec::new(), None) };
    let apart = apart.iter().map(|rule| found(request, rule, remembered.next()));
    routing(apart.collect(), Some(found(request, rest, None)))
}

/// A rule; with the name and the conditions that are remembered, as long as they are what it says.
fn found(request: &RouteRequest<'_>, rule: &Value, remembered: Option<Remembered>) -> Found {
    let live = rule["matches"].as_array().map_or(&[][..], Vec::as_slice);
    let remembered = remembered.filter(|remembered| matches_of(&remembered.when) == live);
    let (name, when) = match remembered {
        Some(Remembered { name, when }) => (Some(name), when),
        None => (None, live.iter().map(matches::words).collect()),
    };
    let to = |side: &str| backends(rule).iter().find(|to| is_service(request, to, &request.side(side)));
    Found {
        name,
        when,
        split: read_split(request, rule),
        for_stable: to("primary").and_then(cookie_in),
        for_candidate: to("canary").and_then(cookie_in),
        withdraws: cookie_in(rule),
    }
}

fn backends(rule: &Value) -> &[Value] {
    rule["backendRefs"].as_array().map_or(&[], Vec::as_slice)
}

/// The cookie that answers of a rule, or of one of its backends, set.
fn cookie_in(filters_of: &Value) -> Option<Cookie> {
    let filters = filters_of["filters"].as_array()?.iter();
    let added = filters.filter_map(|filter| filter["responseHeaderModifier"]["add"].as_array()).flatten();
    let mut cookies = added.filter(|header| header["name"].as_str().is_some_and(is_set_cookie));
    cookies.find_map(|header| Cookie::parse(header["value"].as_str()?))
}

fn is_set_cookie(name: &str) -> bool {
    name.eq_ignore_ascii_case("set-cookie")
}

fn read_split(request: &RouteRequest<'_>, rule: &Value) -> Split {
    let (primary, canary) = (request.side("primary"), request.side("canary"));
    let backend = |to: &Value| {
        let backend = if is_service(request, to, &primary) {
            Backend::Stable
        } else if is_service(request, to, &canary) {
            Backend::Candidate
        } else {
            other(to)
        };
        (backend, to["weight"].as_u64().unwrap_or(1))
    };
    let filters = rule["filters"].as_array().into_iter().flatten();
    let copied = filters
        .map(|filter| &filter["requestMirror"]["backendRef"])
        .any(|copy| is_service(request, copy, &canary));
    let all: Vec<_> = backends(rule).iter().map(backend).collect();
    split(&all, if copied { 100 } else { 0 })
}

/// What is neither of the two sides, named as we would name it.
fn other(to: &Value) -> Backend {
    let Some(name) = to["name"].as_str() else { return unknown() };
    let kind = to["kind"].as_str().filter(|kind| *kind != "Service");
    let name = kind.map_or_else(|| name.to_owned(), |kind| format!("{kind}/{name}"));
    Backend::Other(match to["namespace"].as_str() {
        Some(namespace) => format!("{name}.{namespace}"),
        None => name,
    })
}

fn is_service(request: &RouteRequest<'_>, to: &Value, service: &str) -> bool {
    let is = |field: &str, wanted: &str| to[field].as_str().is_none_or(|found| found == wanted);
    to["name"] == service && is("group", "") && is("kind", "Service") && is("namespace", request.namespace)
}
