//! What is released, and how.

use std::path::Path;

use serde_json::{Value, json};
use serin::sandbox::repository::FileEdit;

use crate::support::world::{example, patient};

/// The header by which A/B testing knows its users.
pub(super) const INSIDER: (&str, &str) = ("x-canary", "insider");
/// The cookie by which users of the canary are known.
pub(super) const CANARY_COOKIE: &str = "side";

/// The example with two steps and without webhooks: users are the load, and a load test that goes on while the canary
/// leaves would be refused by right.
pub(super) fn manifests() -> Vec<FileEdit> {
    variant(&[])
}

/// The same with merge patches of the Canary's spec, one after the other: one patch in another would lose what it takes away.
pub(super) fn variant(patches: &[&Value]) -> Vec<FileEdit> {
    let read = |name: &str| std::fs::read_to_string(Path::new(example()).join(name)).unwrap();
    let canary = patient(&read("canary.yaml"))
        .replace("stepWeight: 10", "stepWeight: 25")
        // A second is not much on a busy machine.
        .replace("perTryTimeout: 1s", "perTryTimeout: 15s");
    let canary = canary.split("    webhooks:").next().unwrap_or_default();
    let mut canary: Value = serde_yaml::from_str(canary).unwrap();
    for patch in patches {
        json_patch::merge(&mut canary["spec"], patch);
    }
    let names = ["namespace.yaml", "deployment.yaml", "hpa.yaml", "public-gateway.yaml", "metric-template.yaml"];
    let mut files: Vec<FileEdit> =
        names.iter().map(|name| FileEdit { path: (*name).to_owned(), content: read(name) }).collect();
    files.push(FileEdit { path: "canary.yaml".to_owned(), content: serde_yaml::to_string(&canary).unwrap() });
    files
}

/// Along an HTTPRoute of a Gateway instead.
pub(super) fn by_gateway_api(patch: &Value) -> Vec<FileEdit> {
    let attached = json!({
        "provider": "gatewayapi:v1",
        "service": {
            "gatewayRefs": [{"name": "public", "namespace": "istio-system"}],
            "gateways": null, "trafficPolicy": null, "retries": null,
        },
    });
    let listener =
        json!({"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}});
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "public", "namespace": "istio-system"},
        "spec": {"gatewayClassName": "sandbox", "listeners": [listener]},
    });
    let mut files = variant(&[&attached, patch]);
    files.retain(|file| file.path != "public-gateway.yaml");
    files.push(FileEdit { path: "gateway.yaml".to_owned(), content: serde_yaml::to_string(&gateway).unwrap() });
    files
}

/// With plain Services; whoever comes from outside comes by a route of the user's own.
pub(super) fn by_services(patch: &Value) -> Vec<FileEdit> {
    let plain = json!({
        "provider": "kubernetes",
        "service": {"gateways": null, "hosts": null, "trafficPolicy": null, "retries": null},
    });
    let route = json!({
        "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
        "metadata": {"name": "outside", "namespace": "test"},
        "spec": {
            "hosts": ["*"], "gateways": ["istio-system/public-gateway"],
            "http": [{"route": [{"destination": {"host": "podinfo"}}]}],
        },
    });
    let mut files = variant(&[&plain, patch]);
    files.push(FileEdit { path: "outside.yaml".to_owned(), content: serde_yaml::to_string(&route).unwrap() });
    files
}

/// All users at once, after a round of checks. Nobody asks the canary before, so there is nothing to measure; the rounds are
/// long enough for a person to say no.
pub(super) fn blue_green() -> Value {
    json!({"analysis": {"iterations": 1, "stepWeight": null, "maxWeight": null, "interval": "5m", "metrics": null}})
}

/// The same, with copies of their requests until then.
pub(super) fn mirrored() -> Value {
    let mut patch = blue_green();
    patch["analysis"]["mirror"] = json!(true);
    patch
}

/// Some users, for two rounds.
pub(super) fn ab() -> Value {
    let mut patch = blue_green();
    let (header, value) = INSIDER;
    patch["analysis"]["match"] = json!([{"headers": {header: {"exact": value}}}]);
    patch
}

/// Shares of the users, who stay where they were answered first, and go back step by step.
pub(super) fn sticky() -> Value {
    json!({"analysis": {
        "stepWeightPromotion": 25,
        "sessionAffinity": {"cookieName": CANARY_COOKIE, "primaryCookieName": "first-side", "maxAge": 3600},
    }})
}
