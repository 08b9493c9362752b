//! Whether the parents of a route follow it: what their controllers say of it as it is now.

use serde_json::Value;

use crate::api::GatewayRef;
use crate::model::NamespacedName;
use crate::release::Unaccepted;
use crate::router::{RouteRequest, Seen};

use super::GATEWAY;
use super::fields::{self, GROUP_DEFAULT};

/// What a parent must say of a route: that it takes it, and that it knows where it leads.
const OF_ROUTE: [&str; 2] = ["Accepted", "ResolvedRefs"];
/// What a Gateway says of itself when its proxies have its configuration.
const OF_GATEWAY: &str = "Programmed";

/// Why the proxies may not follow the route; `None` when all parents say that they do. `find` is a Gateway.
pub(super) fn unaccepted(
    request: &RouteRequest<'_>,
    route: &Value,
    find: impl Fn(&NamespacedName) -> Seen,
) -> Option<Unaccepted> {
    let parents = &request.spec.gateway_refs;
    let all = parents.iter().filter_map(|parent| {
        let gateway = fields::is_gateway(parent).then(|| fields::key(parent, request.namespace));
        let of_gateway = gateway.and_then(|key| of_gateway(&key, find(&key)));
        of_gateway.or_else(|| of_route(request, parent, route))
    });
    // A refusal says more than what is still awaited.
    all.min_by_key(|why| matches!(why, Unaccepted::Pending(_)))
}

fn of_gateway(key: &NamespacedName, seen: Seen) -> Option<Unaccepted> {
    let gateway = match seen {
        Seen::There(gateway) => gateway,
        Seen::Gone => {
            return Some(Unaccepted::Refused(format!(
                "{GATEWAY} {key} does not exist: create it or correct spec.service.gatewayRefs"
            )));
        }
        Seen::Hidden => return None,
    };
    // Not every controller says it; what it says of the route counts then.
    let condition = condition(&gateway["status"]["conditions"], OF_GATEWAY)?;
    let verdict = judge(condition, &gateway["metadata"]["generation"])?;
    // It may become so by itself: addresses are given out, proxies start.
    Some(Unaccepted::Pending(format!("{GATEWAY} {key} is not programmed: {}", verdict.words(condition))))
}

fn of_route(request: &RouteRequest<'_>, parent: &GatewayRef, route: &Value) -> Option<Unaccepted> {
    let what = format!("HTTPRoute {}/{}", request.namespace, request.service);
    let parent_words = fields::words(parent, request.namespace);
    let said = route["status"]["parents"].as_array().into_iter().flatten();
    let mut said = said.filter(|said| is_same(&said["parentRef"], parent, request.namespace)).peekable();
    if said.peek().is_none() {
        return Some(Unaccepted::Pending(format!("no controller says whether {parent_words} takes {what}")));
    }
    let generation = &route["metadata"]["generation"];
    let conditions = said.flat_map(|said| OF_ROUTE.map(|name| (name, condition(&said["conditions"], name))));
    let verdicts = conditions.filter_map(|(name, found)| {
        let Some(found) = found else {
            let silent = || Unaccepted::Pending(format!("{parent_words} does not say whether it takes {what}"));
            return (name == OF_ROUTE[0]).then(silent);
        };
        let verdict = judge(found, generation)?;
        let words = verdict.words(found);
        Some(match verdict {
            Verdict::Stale | Verdict::Unknown => {
                Unaccepted::Pending(format!("{parent_words} has not taken {what} up yet: {words}"))
            }
            Verdict::No => Unaccepted::Refused(format!("{parent_words} does not take {what}: {words}")),
        })
    });
    verdicts.min_by_key(|why| matches!(why, Unaccepted::Pending(_)))
}

/// What keeps a condition from being true of an object as it is.
enum Verdict {
    /// It is about an older object.
    Stale,
    Unknown,
    No,
}

impl Verdict {
    fn words(&self, condition: &Value) -> String {
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        match self {
            Self::Stale => format!("{} is said of an older one", text("type")),
            Self::Unknown | Self::No => {
                let (kind, status, reason, message) =
                    (text("type"), text("status"), text("reason"), text("message"));
                let message = if message.is_empty() { String::new() } else { format!(": {message}") };
                format!("{kind} is {status} ({reason}){message}")
            }
        }
    }
}

fn judge(condition: &Value, generation: &Value) -> Option<Verdict> {
    // Some controllers do not say of which one they speak.
    let is_stale = match (condition["observedGeneration"].as_i64(), generation.as_i64()) {
        (Some(observed), Some(generation)) => observed < generation,
        (None, _) | (_, None) => false,
    };
    match condition["status"].as_str() {
        _ if is_stale => Some(Verdict::Stale),
        Some("True") => None,
        Some("False") => Some(Verdict::No),
        _ => Some(Verdict::Unknown),
    }
}

fn condition<'a>(conditions: &'a Value, name: &str) -> Option<&'a Value> {
    conditions.as_array()?.iter().find(|condition| condition["type"] == name)
}

fn is_same(said: &Value, parent: &GatewayRef, namespace: &str) -> bool {
    let GatewayRef { group, kind, name, namespace: named, section_name, port } = parent;
    let is = |field: &str, wanted: &str, default: &str| said[field].as_str().unwrap_or(default) == wanted;
    is("group", group.as_deref().unwrap_or(GROUP_DEFAULT), GROUP_DEFAULT)
        && is("kind", kind.as_deref().unwrap_or(GATEWAY), GATEWAY)
        && is("name", name, "")
        && is("namespace", named.as_deref().unwrap_or(namespace), namespace)
        && said["sectionName"].as_str() == section_name.as_deref()
        && said["port"].as_i64() == port.map(i64::from)
}
