//! Gateways: which hosts the ingress serves, and for whom.

use serde_json::Value;

use super::hosts;

/// Protocols that the sandbox's one plain listener stands for.
const HTTP: [&str; 3] = ["HTTP", "HTTP2", "GRPC"];

#[derive(Debug)]
pub(super) struct Gateway {
    hosts: Vec<String>,
}

impl Gateway {
    pub(super) fn read(object: &Value) -> Self {
        let servers = object["spec"]["servers"].as_array().map_or(&[][..], Vec::as_slice);
        let hosts = servers
            .iter()
            .filter(|server| {
                let protocol = server["port"]["protocol"].as_str().unwrap_or_default();
                HTTP.iter().any(|known| known.eq_ignore_ascii_case(protocol))
            })
            .flat_map(|server| server["hosts"].as_array().map_or(&[][..], Vec::as_slice))
            .filter_map(|host| host.as_str().map(str::to_owned))
            .collect();
        Self { hosts }
    }

    /// Whether a server takes this host for VirtualServices of `bound`. `gateway` is the Gateway's own namespace.
    pub(super) fn serves(&self, host: &str, gateway: &str, bound: &str) -> bool {
        self.hosts.iter().any(|pattern| {
            let (namespace, pattern) = pattern.split_once('/').unwrap_or(("*", pattern));
            let allowed = match namespace {
                "*" => true,
                "." => bound == gateway,
                namespace => bound == namespace,
            };
            allowed && hosts::specificity(pattern, host).is_some()
        })
    }
}
