//! Istio's CustomResourceDefinitions for the kinds that shift traffic, written compactly: one schema a kind, served in
//! all three versions as Istio does. They are strict as Istio's are: what they do not name is pruned or refused.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

const GROUP: &str = "networking.istio.io";

/// Served versions; the first is stored.
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];

/// A built-in definition that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// The schema is not YAML.
    #[error("the built-in schema of {kind} is not valid YAML")]
    Yaml {
        /// The kind.
        kind: &'static str,
        /// What the parser says.
        #[source]
        source: serde_yaml::Error,
    },
    /// The definition is not one.
    #[error("the built-in definition of {kind} is not a CustomResourceDefinition")]
    Definition {
        /// The kind.
        kind: &'static str,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
}

struct Kind {
    kind: &'static str,
    plural: &'static str,
    short: &'static str,
    schema: &'static str,
    columns: &'static [(&'static str, &'static str)],
}

const KINDS: [Kind; 3] = [
    Kind {
        kind: "VirtualService",
        plural: "virtualservices",
        short: "vs",
        schema: include_str!("virtualservice.yaml"),
        columns: &[("Gateways", ".spec.gateways"), ("Hosts", ".spec.hosts")],
    },
    Kind {
        kind: "DestinationRule",
        plural: "destinationrules",
        short: "dr",
        schema: include_str!("destinationrule.yaml"),
        columns: &[("Host", ".spec.host")],
    },
    Kind { kind: "Gateway", plural: "gateways", short: "gw", schema: include_str!("gateway.yaml"), columns: &[] },
];

/// The definitions of VirtualService, DestinationRule and Gateway.
pub fn istio() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    KINDS.iter().map(definition).collect()
}

fn definition(kind: &Kind) -> Result<CustomResourceDefinition, CrdError> {
    let Kind { kind, plural, short, schema, columns } = *kind;
    let spec: Value = serde_yaml::from_str(schema).map_err(|source| CrdError::Yaml { kind, source })?;
    let mut printed: Vec<Value> =
        columns.iter().map(|(name, path)| json!({"name": name, "type": "string", "jsonPath": path})).collect();
    printed.push(json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}));
    let version = |name: &str| {
        json!({
            "name": name, "served": true, "storage": name == VERSIONS[0],
            "additionalPrinterColumns": printed,
            "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": spec,
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            }}},
        })
    };
    let value = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}"), "labels": {"app": "istio-pilot", "istio": "istiod"}},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase(),
                "shortNames": [short], "categories": ["istio-io", "networking-istio-io"],
            },
            "versions": VERSIONS.map(version),
        },
    });
    serde_json::from_value(value).map_err(|source| CrdError::Definition { kind, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_readable_and_require_what_istio_requires() {
        let all = istio().unwrap();
        let names: Vec<_> = all.iter().filter_map(|definition| definition.metadata.name.as_deref()).collect();
        assert_eq!(
            names,
            [
                "virtualservices.networking.istio.io",
                "destinationrules.networking.istio.io",
                "gateways.networking.istio.io"
            ]
        );
        let schema = serde_json::to_value(&all[0].spec.versions[2].schema).unwrap();
        let route =
            &schema["openAPIV3Schema"]["properties"]["spec"]["properties"]["http"]["items"]["properties"]["route"];
        assert_eq!(route["items"]["required"], json!(["destination"]));
        assert_eq!(route["items"]["properties"]["destination"]["required"], json!(["host"]));
    }
}
