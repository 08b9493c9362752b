//! CustomResourceDefinitions for the kinds that shift traffic, written compactly: one schema a kind, served in all versions as
//! the real ones are. They are strict as the real ones are: what they do not name is pruned or refused.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

/// Who brings kinds, and what they have in common.
struct Group {
    name: &'static str,
    /// Served versions; the first is stored.
    versions: &'static [&'static str],
    labels: &'static [(&'static str, &'static str)],
    annotations: &'static [(&'static str, &'static str)],
    categories: &'static [&'static str],
}

const ISTIO: Group = Group {
    name: "networking.istio.io",
    versions: &["v1", "v1beta1", "v1alpha3"],
    labels: &[("app", "istio-pilot"), ("istio", "istiod")],
    annotations: &[],
    categories: &["istio-io", "networking-istio-io"],
};
const GATEWAY_API: Group = Group {
    name: "gateway.networking.k8s.io",
    versions: &["v1", "v1beta1"],
    labels: &[],
    // The API server asks for an approval of groups below k8s.io.
    annotations: &[("api-approved.kubernetes.io", "https://github.com/kubernetes-sigs/gateway-api/pull/2997")],
    categories: &["gateway-api"],
};

const ARGO: Group =
    Group { name: "argoproj.io", versions: &["v1alpha1"], labels: &[], annotations: &[], categories: &[] };

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
    short: &'static [&'static str],
    scope: &'static str,
    schema: &'static str,
    columns: &'static [(&'static str, &'static str)],
}

const OF_ISTIO: [Kind; 3] = [
    Kind {
        kind: "VirtualService",
        plural: "virtualservices",
        short: &["vs"],
        scope: "Namespaced",
        schema: include_str!("istio/virtualservice.yaml"),
        columns: &[("Gateways", ".spec.gateways"), ("Hosts", ".spec.hosts")],
    },
    Kind {
        kind: "DestinationRule",
        plural: "destinationrules",
        short: &["dr"],
        scope: "Namespaced",
        schema: include_str!("istio/destinationrule.yaml"),
        columns: &[("Host", ".spec.host")],
    },
    Kind {
        kind: "Gateway",
        plural: "gateways",
        short: &["gw"],
        scope: "Namespaced",
        schema: include_str!("istio/gateway.yaml"),
        columns: &[],
    },
];

const OF_ARGO: [Kind; 1] = [Kind {
    kind: "Rollout",
    plural: "rollouts",
    short: &["ro"],
    scope: "Namespaced",
    schema: include_str!("argo/rollout.yaml"),
    columns: &[],
}];

const OF_GATEWAY_API: [Kind; 3] = [
    Kind {
        kind: "GatewayClass",
        plural: "gatewayclasses",
        short: &["gc"],
        scope: "Cluster",
        schema: include_str!("gateway_api/gatewayclass.yaml"),
        columns: &[("Controller", ".spec.controllerName")],
    },
    Kind {
        kind: "Gateway",
        plural: "gateways",
        short: &["gtw"],
        scope: "Namespaced",
        schema: include_str!("gateway_api/gateway.yaml"),
        columns: &[
            ("Class", ".spec.gatewayClassName"),
            ("Programmed", r#".status.conditions[?(@.type=="Programmed")].status"#),
        ],
    },
    Kind {
        kind: "HTTPRoute",
        plural: "httproutes",
        short: &[],
        scope: "Namespaced",
        schema: include_str!("gateway_api/httproute.yaml"),
        columns: &[("Hostnames", ".spec.hostnames")],
    },
];

/// The definition of Argo Rollouts' Rollout.
///
/// # Errors
/// When a built-in schema cannot be read.
pub fn argo_rollouts() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    OF_ARGO.iter().map(|kind| definition(&ARGO, kind)).collect()
}

/// The definitions of Istio's VirtualService, DestinationRule and Gateway.
///
/// # Errors
/// When a built-in schema cannot be read.
pub fn istio() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    OF_ISTIO.iter().map(|kind| definition(&ISTIO, kind)).collect()
}

/// The definitions of Gateway API's GatewayClass, Gateway and HTTPRoute.
///
/// # Errors
/// When a built-in schema cannot be read.
pub fn gateway_api() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    OF_GATEWAY_API.iter().map(|kind| definition(&GATEWAY_API, kind)).collect()
}

fn definition(group: &Group, kind: &Kind) -> Result<CustomResourceDefinition, CrdError> {
    let Kind { kind, plural, short, scope, schema, columns } = *kind;
    let schema: Value = serde_yaml::from_str(schema).map_err(|source| CrdError::Yaml { kind, source })?;
    // Istio's say nothing of the status.
    let (spec, status) = match (schema.get("spec"), schema.get("status")) {
        (Some(spec), Some(status)) => (spec.clone(), status.clone()),
        _ => (schema, json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
    };
    let mut printed: Vec<Value> =
        columns.iter().map(|(name, path)| json!({"name": name, "type": "string", "jsonPath": path})).collect();
    printed.push(json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}));
    // Autoscalers size a Rollout as they size a Deployment.
    let subresources = match kind {
        "Rollout" => json!({"status": {}, "scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.HPAReplicas",
            "labelSelectorPath": ".status.selector",
        }}),
        _ => json!({"status": {}}),
    };
    let version = |name: &&str| {
        json!({
            "name": name, "served": true, "storage": *name == group.versions[0],
            "additionalPrinterColumns": printed,
            "subresources": subresources,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
        })
    };
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>()
    };
    let value = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{}", group.name),
            "labels": pairs(group.labels), "annotations": pairs(group.annotations),
        },
        "spec": {
            "group": group.name, "scope": scope,
            "names": {
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase(),
                "shortNames": short, "categories": group.categories,
            },
            "versions": group.versions.iter().map(version).collect::<Vec<_>>(),
        },
    });
    serde_json::from_value(value).map_err(|source| CrdError::Definition { kind, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_readable_and_require_what_the_real_ones_require() {
        let names = |all: &[CustomResourceDefinition]| -> Vec<String> {
            all.iter().filter_map(|definition| definition.metadata.name.clone()).collect()
        };
        let all = istio().unwrap();
        assert_eq!(
            names(&all),
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

        let all = gateway_api().unwrap();
        assert_eq!(
            names(&all),
            [
                "gatewayclasses.gateway.networking.k8s.io",
                "gateways.gateway.networking.k8s.io",
                "httproutes.gateway.networking.k8s.io"
            ]
        );
        let schema = serde_json::to_value(&all[2].spec.versions[1].schema).unwrap();
        let properties = &schema["openAPIV3Schema"]["properties"];
        let backends = &properties["spec"]["properties"]["rules"]["items"]["properties"]["backendRefs"];
        assert_eq!(backends["items"]["properties"]["weight"]["default"], json!(1));
        assert_eq!(properties["status"]["required"], json!(["parents"]));
    }
}
