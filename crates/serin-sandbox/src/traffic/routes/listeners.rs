//! Gateway API's Gateways: which routes their listeners take, and for which hosts.

use serde_json::Value;

use super::hosts;

/// A Gateway.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) generation: i64,
    pub(super) status: Value,
    listeners: Vec<Listener>,
}

/// A listener.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    port: Option<u16>,
    /// Empty for all hosts.
    hostname: Option<String>,
    /// Namespaces of its routes.
    from: From,
    is_http: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum From {
    All,
    Same,
    /// By labels of namespaces, which the sandbox does not look at; or none.
    Others,
}

/// Protocols that the sandbox's one plain listener stands for.
const HTTP: &str = "HTTP";

/// Why no listener takes a route: reason and message of the condition.
pub(super) type Refusal = (&'static str, String);

/// What of a route matters to a listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attaching<'a> {
    pub(super) namespace: &'a str,
    pub(super) section: Option<&'a str>,
    pub(super) port: Option<u16>,
    pub(super) hostnames: &'a [String],
}

impl Listeners {
    pub(super) fn read(object: &Value) -> Self {
        let listeners = object["spec"]["listeners"].as_array().into_iter().flatten();
        Self {
            generation: object["metadata"]["generation"].as_i64().unwrap_or_default(),
            status: object["status"].clone(),
            listeners: listeners.map(Listener::read).collect(),
        }
    }

    pub(super) fn all(&self) -> &[Listener] {
        &self.listeners
    }

    /// The listeners that take a route of `attaching`; `namespace` is the Gateway's own.
    pub(super) fn taking(&self, namespace: &str, attaching: Attaching<'_>) -> Result<Vec<&Listener>, Refusal> {
        let Attaching { section, port, .. } = attaching;
        let named = self.listeners.iter().filter(|listener| {
            listener.is_http
                && section.is_none_or(|section| listener.name == section)
                && port.is_none_or(|port| listener.port == Some(port))
        });
        let named: Vec<&Listener> = named.collect();
        if named.is_empty() {
            return Err(("NoMatchingParent", "no HTTP listener has that name and port".to_owned()));
        }
        let allowed = named.into_iter().filter(|listener| match listener.from {
            From::All => true,
            From::Same => attaching.namespace == namespace,
            From::Others => false,
        });
        let allowed: Vec<&Listener> = allowed.collect();
        if allowed.is_empty() {
            let message = format!("no listener allows routes of namespace {}", attaching.namespace);
            return Err(("NotAllowedByListeners", message));
        }
        let taking: Vec<&Listener> = allowed.into_iter().filter(|it| it.meets(attaching.hostnames)).collect();
        if taking.is_empty() {
            return Err(("NoMatchingListenerHostname", "no listener has one of its host names".to_owned()));
        }
        Ok(taking)
    }
}

impl Listener {
    fn read(listener: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            name: text(&listener["name"]).unwrap_or_default(),
            port: listener["port"].as_u64().and_then(|port| u16::try_from(port).ok()),
            hostname: text(&listener["hostname"]).filter(|host| !host.is_empty()),
            from: match listener["allowedRoutes"]["namespaces"]["from"].as_str() {
                Some("All") => From::All,
                None | Some("Same") => From::Same,
                Some(_) => From::Others,
            },
            is_http: listener["protocol"] == HTTP,
        }
    }

    fn meets(&self, hostnames: &[String]) -> bool {
        let Some(own) = &self.hostname else { return true };
        let meets =
            |other: &String| hosts::specificity(own, other).is_some() || hosts::specificity(other, own).is_some();
        hostnames.is_empty() || hostnames.iter().any(meets)
    }

    /// Whether requests for a host come in here.
    pub(super) fn serves(&self, host: &str) -> bool {
        self.hostname.as_ref().is_none_or(|own| hosts::specificity(own, host).is_some())
    }
}
