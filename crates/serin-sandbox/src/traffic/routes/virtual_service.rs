//! VirtualServices: hosts, and HTTP rules in order.
//!
//! Obeyed are match, rewrite, delegate, weighted destinations, mirror, headers, timeout and retries. `corsPolicy` changes no
//! way and is left out; what would (redirect, fault, subsets …) is refused by name.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::headers::Headers;
use super::matching::{HttpMatch, Matched, path_and_query};
use super::{Entry, Head, MESH, hosts};
use serin_core::model::NamespacedName;

#[derive(Debug)]
pub(super) struct VirtualService {
    hosts: Vec<String>,
    pub(super) gateways: Vec<String>,
    /// The rules, or why they cannot be obeyed.
    pub(super) rules: Result<Vec<HttpRoute>, String>,
}

/// A rule.
#[derive(Debug)]
pub(in crate::traffic) struct HttpRoute {
    matches: Vec<HttpMatch>,
    destinations: Vec<(Destination, u32, Headers)>,
    headers: Headers,
    rewrite: Option<Rewrite>,
    pub(in crate::traffic) timeout: Option<Duration>,
    pub(in crate::traffic) retries: Retries,
    mirror: Option<(Destination, f64)>,
    delegate: Option<Delegate>,
}

/// Another VirtualService whose rules say where the request goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Delegate {
    name: String,
    namespace: Option<String>,
}

/// When and how often a request is tried again.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::traffic) struct Retries {
    /// Tries after the first one.
    pub(in crate::traffic) attempts: u32,
    pub(in crate::traffic) per_try_timeout: Option<Duration>,
    /// Conditions and status codes, as Envoy names them.
    pub(in crate::traffic) on: Vec<String>,
}

impl Default for Retries {
    /// What Istio does where nothing is said.
    fn default() -> Self {
        Self { attempts: 2, per_try_timeout: None, on: conditions(DEFAULT_RETRY_ON) }
    }
}

/// Istio's default conditions, without those of gRPC, which the sandbox does not speak.
const DEFAULT_RETRY_ON: &str = "connect-failure,refused-stream";
/// What a rule may say besides what is obeyed, because it does not change where a request goes.
const WITHOUT_EFFECT: [&str; 2] = ["name", "corsPolicy"];

fn conditions(list: &str) -> Vec<String> {
    list.split(',')
        .map(|condition| condition.trim().to_owned())
        .filter(|condition| !condition.is_empty())
        .collect()
}

/// A Service, as a rule names it.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rewrite {
    uri: Option<String>,
    authority: Option<String>,
}

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default, rename = "match")]
    matches: Vec<HttpMatch>,
    #[serde(default)]
    route: Vec<Weighted>,
    rewrite: Option<Rewrite>,
    timeout: Option<String>,
    retries: Option<RetriesSpec>,
    mirror: Option<DestinationSpec>,
    mirror_percentage: Option<Percentage>,
    delegate: Option<Delegate>,
    #[serde(default)]
    headers: Value,
    #[serde(flatten)]
    other: serde_json::Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Weighted {
    destination: DestinationSpec,
    weight: Option<u32>,
    #[serde(default)]
    headers: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DestinationSpec {
    host: String,
    port: Option<PortSpec>,
}

#[derive(Debug, Deserialize)]
struct PortSpec {
    number: u16,
}

#[derive(Debug, Deserialize)]
struct Percentage {
    value: f64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RetriesSpec {
    #[serde(default)]
    attempts: u32,
    per_try_timeout: Option<String>,
    retry_on: Option<String>,
}

impl VirtualService {
    pub(super) fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let mut gateways = strings(&spec["gateways"]);
        if gateways.is_empty() {
            gateways.push(MESH.to_owned());
        }
        let rules = spec["http"].as_array().map_or(&[][..], Vec::as_slice);
        let rules = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| HttpRoute::read(rule).map_err(|reason| format!("spec.http[{index}]: {reason}")));
        Self { hosts: strings(&spec["hosts"]), gateways, rules: rules.collect() }
    }

    pub(super) fn is_bound_to_mesh(&self) -> bool {
        self.gateways.iter().any(|gateway| gateway == MESH)
    }

    pub(super) fn ingress_match(&self, namespace: &str, host: &str) -> Option<usize> {
        self.hosts
            .iter()
            .filter_map(|pattern| {
                // A short name stands for the Service's full name.
                let full = if pattern.contains(['.', '*']) {
                    None
                } else {
                    hosts::service(pattern, namespace).map(|service| hosts::full(&service))
                };
                hosts::specificity(full.as_deref().unwrap_or(pattern), host)
            })
            .max()
    }

    /// `client` is the namespace in which the request's host is understood, `namespace` the VirtualService's.
    pub(super) fn mesh_match(&self, namespace: &str, host: &str, client: &str) -> Option<usize> {
        let requested = hosts::service(host, client);
        self.hosts
            .iter()
            .filter_map(|pattern| {
                if pattern.contains('*') {
                    return hosts::specificity(pattern, host);
                }
                let is_service = requested.is_some() && hosts::service(pattern, namespace) == requested;
                // A short name means the Service next to the VirtualService, whatever the client's namespace.
                let is_literal = pattern.contains('.') && pattern.eq_ignore_ascii_case(host);
                (is_service || is_literal).then_some(usize::MAX)
            })
            .max()
    }
}

impl HttpRoute {
    fn read(rule: &Value) -> Result<Self, String> {
        let rule: Rule = serde_json::from_value(rule.clone()).map_err(|error| error.to_string())?;
        let Rule {
            matches,
            route,
            rewrite,
            timeout,
            retries,
            mirror,
            mirror_percentage,
            delegate,
            headers,
            other,
        } = rule;
        if let Some(field) = other.keys().find(|field| !WITHOUT_EFFECT.contains(&field.as_str())) {
            return Err(format!("{field} is not supported"));
        }
        let only = route.len() == 1;
        let destinations = route
            .into_iter()
            .map(|Weighted { destination, weight, headers }| {
                // The only destination gets everything unless a weight is given.
                let weight = weight.unwrap_or(if only { 100 } else { 0 });
                Ok((Destination::of(destination), weight, Headers::of_istio(&headers)?))
            })
            .collect::<Result<_, String>>()?;
        let share = mirror_percentage.map_or(100.0, |Percentage { value }| value);
        Ok(Self {
            matches,
            destinations,
            headers: Headers::of_istio(&headers)?,
            rewrite,
            timeout: timeout.as_deref().map(duration).transpose()?.filter(|timeout| !timeout.is_zero()),
            retries: retries.map(Retries::read).transpose()?.unwrap_or_default(),
            mirror: mirror.map(|mirror| (Destination::of(mirror), share)),
            delegate,
        })
    }

    /// The VirtualService that decides instead, for a rule in `namespace`.
    pub(super) fn delegate(&self, namespace: &str) -> Option<NamespacedName> {
        let Delegate { name, namespace: named } = self.delegate.as_ref()?;
        Some(NamespacedName::new(named.as_deref().unwrap_or(namespace), name.as_str()))
    }

    /// Whether it changes path or host.
    pub(super) fn rewrites(&self) -> bool {
        self.rewrite.is_some()
    }

    /// What of the request matched, if the rule applies. A rule without conditions always does.
    pub(super) fn matches(&self, entry: Entry<'_>, head: Head<'_>, port: u16, namespace: &str) -> Option<Matched> {
        if self.matches.is_empty() {
            return Some(Matched::default());
        }
        self.matches.iter().find_map(|condition| condition.matches(entry, head, port, namespace))
    }

    /// A destination by weight, and what is done to headers on the way there and back.
    pub(super) fn pick(&self, random: &mut fastrand::Rng) -> Option<(&Destination, Headers)> {
        let total: u32 = self.destinations.iter().map(|(_, weight, _)| *weight).sum();
        if total == 0 {
            return None;
        }
        let mut point = random.u32(0..total);
        for (destination, weight, headers) in &self.destinations {
            match point.checked_sub(*weight) {
                Some(rest) => point = rest,
                None => return Some((destination, self.headers.and(headers))),
            }
        }
        None
    }

    /// Where this request is copied to.
    pub(super) fn mirrored(&self, random: &mut fastrand::Rng) -> Option<&Destination> {
        let (destination, percent) = self.mirror.as_ref()?;
        (random.f64() * 100.0 < *percent).then_some(destination)
    }

    /// Path with query, and host, as they are sent on.
    pub(super) fn rewritten(&self, uri: &http::Uri, matched: Matched) -> (String, Option<String>) {
        let whole = path_and_query(uri);
        let Some(Rewrite { uri: rewrite, authority }) = &self.rewrite else { return (whole.to_owned(), None) };
        let path = match rewrite {
            None => whole.to_owned(),
            Some(rewrite) => {
                // A matched prefix is replaced, else the whole path.
                let rest = matched.prefix.and_then(|length| uri.path().get(length..)).unwrap_or_default();
                let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
                format!("{rewrite}{rest}{query}")
            }
        };
        (path, authority.clone())
    }
}

impl Destination {
    fn of(spec: DestinationSpec) -> Self {
        let DestinationSpec { host, port } = spec;
        Self { host, port: port.map(|PortSpec { number }| number) }
    }
}

impl Retries {
    fn read(spec: RetriesSpec) -> Result<Self, String> {
        let RetriesSpec { attempts, per_try_timeout, retry_on } = spec;
        Ok(Self {
            attempts,
            per_try_timeout: per_try_timeout.as_deref().map(duration).transpose()?,
            on: conditions(retry_on.as_deref().unwrap_or(DEFAULT_RETRY_ON)),
        })
    }
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Go's notation.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration: kube::core::Duration =
        text.parse().map_err(|error| format!("cannot read the duration {text:?}: {error}"))?;
    if duration.is_negative() {
        return Err(format!("the duration {text:?} is negative"));
    }
    Ok(duration.into())
}
