//! Objects around the pair that select the target's pods and will not select primary's, which serve from the first release on.

use serde_json::Value;

use super::selector::{Labels, Sides};
use crate::model::ObjectRef;

/// An object that leaves primary's pods out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Risk {
    /// The object.
    pub object: ObjectRef,
    /// Where it selects, e.g. `spec.podSelector`.
    pub path: &'static str,
    /// What that means, in words.
    pub message: String,
}

/// A kind, where its selector is, and what it means that primary's pods are not selected.
struct Row {
    group: &'static str,
    kind: &'static str,
    path: &'static str,
    /// Labels alone, as in a Service.
    plain: bool,
    means: &'static str,
}

const ISTIO_SECURITY: &str = "security.istio.io";
const ISTIO_NETWORK: &str = "networking.istio.io";
const MONITORING: &str = "monitoring.coreos.com";

const ROWS: [Row; 11] = [
    plain("", "Service", "spec.selector", "whoever comes by it finds nobody"),
    row("networking.k8s.io", "NetworkPolicy", "spec.podSelector", "its rules do not hold for them"),
    row("policy", "PodDisruptionBudget", "spec.selector", "a drain may evict all of them at once"),
    row(MONITORING, "ServiceMonitor", "spec.selector", "what they measure is not collected"),
    row(MONITORING, "PodMonitor", "spec.selector", "what they measure is not collected"),
    row(ISTIO_SECURITY, "AuthorizationPolicy", "spec.selector", "its rules do not hold for them"),
    row(ISTIO_SECURITY, "PeerAuthentication", "spec.selector", "its rules do not hold for them"),
    row(ISTIO_SECURITY, "RequestAuthentication", "spec.selector", "its rules do not hold for them"),
    plain(ISTIO_NETWORK, "Sidecar", "spec.workloadSelector.labels", "it configures none of them"),
    plain(ISTIO_NETWORK, "EnvoyFilter", "spec.workloadSelector.labels", "it configures none of them"),
    row("telemetry.istio.io", "Telemetry", "spec.selector", "it configures none of them"),
];

const fn row(group: &'static str, kind: &'static str, path: &'static str, means: &'static str) -> Row {
    Row { group, kind, path, plain: false, means }
}

const fn plain(group: &'static str, kind: &'static str, path: &'static str, means: &'static str) -> Row {
    Row { group, kind, path, plain: true, means }
}

/// Whether an object is of a kind that may leave primary's pods out.
pub fn may_be_risk(object: &Value) -> bool {
    let group = group_of(object);
    let is = |other: &str, kind: &str| other == group && object["kind"] == kind;
    is("autoscaling", "HorizontalPodAutoscaler") || ROWS.iter().any(|row| is(row.group, row.kind))
}

/// What a Canary takes care of itself.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// Name of its service, which follows primary.
    pub service: &'a str,
    /// Name of the target's autoscaler, as it names it.
    pub scaler: Option<&'a str>,
}

impl Own<'_> {
    /// Whether a Service is the one in front of both sides, or of one.
    fn has_service(&self, name: &str) -> bool {
        let side = name.strip_prefix(self.service);
        side.is_some_and(|side| matches!(side, "" | "-primary" | "-canary"))
    }
}

/// What leaves primary's pods out among `objects`, which may be of any kind. `target` is the workload, `own` what its Canary
/// takes care of.
pub fn risks<'a>(
    objects: impl IntoIterator<Item = &'a Value>,
    target: &Value,
    sides: &Sides,
    own: Own<'_>,
) -> Vec<Risk> {
    let namespace = namespace_of(target);
    let pods = Labels::of(&target["spec"]["template"]["metadata"]["labels"]);
    let primary = sides.as_primary(&pods);
    let here = objects.into_iter().filter(|object| namespace_of(object) == namespace);
    here.filter_map(|object| risk(object, target, (&pods, &primary), own)).collect()
}

fn risk(object: &Value, target: &Value, (pods, primary): (&Labels, &Labels), own: Own<'_>) -> Option<Risk> {
    let group = group_of(object);
    let kind = object["kind"].as_str()?;
    let name = target["metadata"]["name"].as_str().unwrap_or_default();
    let found =
        |path: &'static str, message: String| Risk { object: identity(object, group, kind), path, message };
    if (group, kind) == ("autoscaling", "HorizontalPodAutoscaler") {
        let scales = &object["spec"]["scaleTargetRef"];
        let is_targets = scales["kind"] == "Deployment" && scales["name"] == name;
        let unnamed = own.scaler != object["metadata"]["name"].as_str();
        return (is_targets && unnamed).then(|| {
            let message = format!(
                "it scales Deployment {name}, which rests without pods, and nothing scales {name}-primary, which serves: name it in \
                 the Canary's spec.autoscalerRef"
            );
            found("spec.scaleTargetRef.name", message)
        });
    }
    let row = ROWS.iter().find(|row| row.group == group && row.kind == kind)?;
    if row.kind == "Service" && own.has_service(object["metadata"]["name"].as_str().unwrap_or_default()) {
        return None;
    }
    let left_out = |selector: &Value| match row.plain {
        true => {
            let labels = Labels::of(selector);
            pods.are_selected_by(&labels) && !primary.are_selected_by(&labels)
        }
        false => selects(selector, pods) && !selects(selector, primary),
    };
    let pointer = format!("/{}", row.path.replace('.', "/"));
    if object.pointer(&pointer).is_some_and(left_out) {
        let means = row.means;
        let message = format!(
            "it selects the pods of Deployment {name} and not those of {name}-primary, which serve: {means}; select by a label \
             that both carry"
        );
        return Some(found(row.path, message));
    }
    let mut peers = peers(object, kind);
    peers.find(|(_, selector)| left_out(selector)).map(|(path, _)| {
            let message = format!(
                "it lets through what the pods of Deployment {name} send or get, and not those of {name}-primary, which serve; \
                 select by a label that both carry"
            );
            found(path, message)
        })
}

/// Selectors of pods on the other side of a NetworkPolicy's rules, in its own namespace.
fn peers<'a>(object: &'a Value, kind: &str) -> impl Iterator<Item = (&'static str, &'a Value)> + use<'a> {
    let rules: &[(&'static str, &str, &str)] = match kind {
        "NetworkPolicy" => &[("spec.ingress", "ingress", "from"), ("spec.egress", "egress", "to")],
        _ => &[],
    };
    rules.iter().flat_map(move |(path, direction, side)| {
        let rules = object["spec"][*direction].as_array().into_iter().flatten();
        let peers = rules.flat_map(move |rule| rule[*side].as_array().into_iter().flatten());
        let near = peers.filter(|peer| peer["namespaceSelector"].is_null());
        near.filter_map(move |peer| Some((*path, peer.get("podSelector")?)))
    })
}

/// Whether a LabelSelector takes pods with these labels. One that says nothing takes all.
fn selects(selector: &Value, pods: &Labels) -> bool {
    let labels = Labels::of(&selector["matchLabels"]);
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    labels.iter().all(|(key, value)| pods.get(key) == Some(value))
        && expressions.into_iter().all(|expression| {
            let value = expression["key"].as_str().and_then(|key| pods.get(key));
            let among = || expression["values"].as_array().into_iter().flatten().any(|it| it.as_str() == value);
            match expression["operator"].as_str() {
                Some("In") => value.is_some() && among(),
                Some("NotIn") => value.is_none() || !among(),
                Some("Exists") => value.is_some(),
                Some("DoesNotExist") => value.is_none(),
                Some(_) | None => false,
            }
        })
}

fn group_of(object: &Value) -> &str {
    object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group)
}

fn namespace_of(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

fn identity(object: &Value, group: &str, kind: &str) -> ObjectRef {
    ObjectRef {
        group: group.to_owned(),
        kind: kind.to_owned(),
        namespace: Some(namespace_of(object).to_owned()),
        name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(object: Value, scaler: Option<&str>) -> Option<&'static str> {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop", "namespace": "n"},
            "spec": {"selector": {"matchLabels": {"app": "shop", "tier": "web"}},
                "template": {"metadata": {"labels": {"app": "shop", "tier": "web", "team": "a"}}}}});
        let sides = Sides::of(&target, &["app".to_owned()]).unwrap();
        let mut object = object;
        let name = object["metadata"]["name"].as_str().unwrap_or("it").to_owned();
        object["metadata"] = json!({"name": name, "namespace": "n"});
        let own = Own { service: "shop", scaler };
        risks([&object], &target, &sides, own).first().map(|risk| risk.path)
    }

    fn of(api_version: &str, kind: &str, spec: Value) -> Value {
        json!({"apiVersion": api_version, "kind": kind, "spec": spec})
    }

    #[test]
    fn what_selects_by_the_label_that_differs_leaves_primary_out() {
        let shop = json!({"matchLabels": {"app": "shop"}});
        let shared = json!({"matchLabels": {"team": "a"}});
        let both =
            json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["shop", "shop-primary"]}]});
        let only = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["shop"]}]});
        let not = json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["shop-primary"]}]});
        let exists = json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]});
        for (version, kind, field) in [
            ("networking.k8s.io/v1", "NetworkPolicy", "podSelector"),
            ("policy/v1", "PodDisruptionBudget", "selector"),
            ("monitoring.coreos.com/v1", "ServiceMonitor", "selector"),
            ("security.istio.io/v1", "AuthorizationPolicy", "selector"),
        ] {
            let risky = |selector: &Value| found(of(version, kind, json!({field: selector})), None).is_some();
            for selector in [&shop, &only, &not] {
                assert!(risky(selector), "{kind}: {selector}");
            }
            let others = json!({"matchLabels": {"app": "other"}});
            for selector in [&shared, &both, &exists, &others, &json!({})] {
                assert!(!risky(selector), "{kind}: {selector}");
            }
        }
        let sidecar = |labels: Value| {
            of("networking.istio.io/v1", "Sidecar", json!({"workloadSelector": {"labels": labels}}))
        };
        assert!(found(sidecar(json!({"app": "shop"})), None).is_some());
        assert_eq!(found(sidecar(json!({"team": "a"})), None), None);
        let external = of("v1", "Service", json!({"type": "LoadBalancer", "selector": {"app": "shop"}}));
        assert_eq!(found(external.clone(), None), Some("spec.selector"));
        let mut own = external;
        own["metadata"]["name"] = json!("shop");
        assert_eq!(found(own, None), None, "the engine's");
        assert_eq!(found(of("v1", "Service", json!({"selector": {"team": "a"}})), None), None);
        assert_eq!(found(of("v1", "Service", json!({"type": "ExternalName"})), None), None);
    }

    #[test]
    fn rules_between_pods_and_a_scaler_of_the_target_are_seen_too() {
        let from = |peer: Value| {
            let ingress = json!([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}, peer]}]);
            found(
                of(
                    "networking.k8s.io/v1",
                    "NetworkPolicy",
                    json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": ingress}),
                ),
                None,
            )
        };
        let shop = json!({"matchLabels": {"app": "shop"}});
        assert_eq!(from(json!({"podSelector": shop})), Some("spec.ingress"));
        assert_eq!(from(json!({"podSelector": shop, "namespaceSelector": {}})), None);
        assert_eq!(from(json!({"podSelector": {}})), None);
        let scaler = of(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"scaleTargetRef": {"kind": "Deployment", "name": "shop"}}),
        );
        assert_eq!(found(scaler.clone(), None), Some("spec.scaleTargetRef.name"));
        assert_eq!(found(scaler, Some("it")), None);
    }
}
