//! Conditions of a rule.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;

use super::{Entry, Head, MESH, hosts};

/// One alternative: every condition in it has to hold. What is not listed here is refused when it is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HttpMatch {
    #[serde(default, rename = "name")]
    _name: Option<String>,
    uri: Option<StringMatch>,
    #[serde(default)]
    ignore_uri_case: bool,
    method: Option<StringMatch>,
    authority: Option<StringMatch>,
    scheme: Option<StringMatch>,
    #[serde(default)]
    headers: BTreeMap<String, StringMatch>,
    #[serde(default)]
    without_headers: BTreeMap<String, StringMatch>,
    #[serde(default)]
    query_params: BTreeMap<String, StringMatch>,
    port: Option<u16>,
    #[serde(default)]
    gateways: Vec<String>,
    #[serde(default)]
    source_labels: BTreeMap<String, String>,
    source_namespace: Option<String>,
}

/// Istio's StringMatch; empty means that the value only has to be there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StringMatch {
    exact: Option<String>,
    prefix: Option<String>,
    #[serde(default, deserialize_with = "anchored")]
    regex: Option<Regex>,
}

/// Istio's regular expressions match the whole value.
fn anchored<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Regex>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    Regex::new(&format!("^(?:{text})$")).map(Some).map_err(serde::de::Error::custom)
}

/// What of a request a rule matched.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Matched {
    /// Length of the matched prefix of the path.
    pub(super) prefix: Option<usize>,
}

impl StringMatch {
    fn is_match(&self, value: &str) -> bool {
        let Self { exact, prefix, regex } = self;
        exact.as_ref().is_none_or(|exact| exact == value)
            && prefix.as_ref().is_none_or(|prefix| value.starts_with(prefix.as_str()))
            && regex.as_ref().is_none_or(|regex| regex.is_match(value))
    }

    fn lowered(&self) -> Self {
        let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
        Self { exact: lower(&self.exact), prefix: lower(&self.prefix), regex: self.regex.clone() }
    }
}

impl HttpMatch {
    pub(super) fn matches(&self, entry: Entry<'_>, head: Head<'_>, port: u16, namespace: &str) -> Option<Matched> {
        let Self {
            _name,
            uri,
            ignore_uri_case,
            method,
            authority,
            scheme,
            headers,
            without_headers,
            query_params,
            port: wanted_port,
            gateways,
            source_labels,
            source_namespace,
        } = self;
        let header = |name: &String, condition: &StringMatch| {
            head.headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .is_some_and(|text| condition.is_match(text))
        };
        let path = head.uri.path();
        let holds = uri.as_ref().is_none_or(|uri| {
            if *ignore_uri_case { uri.lowered().is_match(&path.to_lowercase()) } else { uri.is_match(path) }
        }) && method.as_ref().is_none_or(|method| method.is_match(head.method.as_str()))
            && authority.as_ref().is_none_or(|authority| authority.is_match(head.authority))
            && scheme.as_ref().is_none_or(|scheme| scheme.is_match("http"))
            && headers.iter().all(|(name, condition)| header(name, condition))
            && !without_headers.iter().any(|(name, condition)| header(name, condition))
            && query_params.iter().all(|(name, condition)| {
                query_value(head.uri, name).is_some_and(|value| condition.is_match(value))
            })
            && wanted_port.is_none_or(|wanted| wanted == port)
            && is_from(entry, source_labels, source_namespace.as_deref())
            && (gateways.is_empty() || gateways.iter().any(|gateway| comes_through(gateway, entry, namespace)));
        let prefix = uri.as_ref().and_then(|uri| uri.prefix.as_ref()).map(String::len);
        holds.then_some(Matched { prefix })
    }
}

/// Whether a request comes from where a condition wants it; only pods have labels.
fn is_from(entry: Entry<'_>, wanted: &BTreeMap<String, String>, namespace: Option<&str>) -> bool {
    match entry {
        Entry::Ingress => wanted.is_empty() && namespace.is_none(),
        Entry::Mesh { namespace: from, labels } => {
            let has =
                |(key, value): (&String, &String)| labels.is_some_and(|labels| labels.get(key) == Some(value));
            wanted.iter().all(has) && namespace.is_none_or(|wanted| wanted == from)
        }
    }
}

/// Whether a request came in where a condition wants it; the sandbox has one ingress for all Gateways.
fn comes_through(gateway: &str, entry: Entry<'_>, namespace: &str) -> bool {
    match entry {
        Entry::Mesh { .. } => gateway == MESH,
        Entry::Ingress => gateway != MESH && hosts::gateway(gateway, namespace).is_some(),
    }
}

pub(super) fn query_value<'a>(uri: &'a http::Uri, name: &str) -> Option<&'a str> {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// Path and query, `/` when there is none.
pub(super) fn path_and_query(uri: &http::Uri) -> &str {
    uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
}
