//! Services and the EndpointSlices behind them.

use serde_json::Value;

#[derive(Debug)]
pub(super) struct Service {
    pub(super) ports: Vec<ServicePort>,
}

#[derive(Debug)]
pub(super) struct ServicePort {
    /// Empty for the only, unnamed port.
    pub(super) name: String,
    pub(super) port: u16,
}

/// Where a pod, or whatever else, listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::traffic) struct Endpoint {
    pub(in crate::traffic) ip: String,
    pub(in crate::traffic) port: u16,
}

#[derive(Debug)]
pub(super) struct EndpointSlice {
    pub(super) service: String,
    /// Port names and numbers.
    ports: Vec<(String, u16)>,
    ready: Vec<String>,
}

impl Service {
    pub(super) fn read(object: &Value) -> Self {
        let ports = array(&object["spec"]["ports"])
            .iter()
            .filter_map(|port| Some(ServicePort { name: text(&port["name"]), port: number(&port["port"])? }))
            .collect();
        Self { ports }
    }
}

impl EndpointSlice {
    pub(super) fn read(object: &Value) -> Self {
        let ports = array(&object["ports"])
            .iter()
            .filter_map(|port| Some((text(&port["name"]), number(&port["port"])?)))
            .collect();
        let ready = array(&object["endpoints"])
            .iter()
            // Unknown readiness counts as ready, as the API defines it.
            .filter(|endpoint| endpoint["conditions"]["ready"].as_bool().unwrap_or(true))
            .filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned))
            .collect();
        Self { service: text(&object["metadata"]["labels"]["kubernetes.io/service-name"]), ports, ready }
    }

    /// The ready endpoints of the port with this name.
    pub(super) fn ready(&self, port: &str) -> Vec<Endpoint> {
        let Some((_, port)) = self.ports.iter().find(|(name, _)| name == port) else { return Vec::new() };
        self.ready.iter().map(|ip| Endpoint { ip: ip.clone(), port: *port }).collect()
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok())
}
