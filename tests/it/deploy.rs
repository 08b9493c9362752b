//! The kustomize base: it renders, belongs together, and its roles hold what the daemon was seen to use on a real cluster.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use serin::manifest::{Manifest, parse};

use crate::support::{output, program};

const NAMESPACE: &str = "serin-system";

/// What the daemon asks for when it plays the story, deletes its Canary and answers a metric with a Secret.
const USED: &[(&str, &str, &str)] = &[
    ("flagger.app", "canaries", "get list watch create patch delete"),
    ("flagger.app", "canaries/status", "patch"),
    ("flagger.app", "canaries/finalizers", "update"),
    ("flagger.app", "metrictemplates", "get list watch create patch delete"),
    ("apps", "deployments", "get list watch create update patch delete"),
    ("apps", "deployments/scale", "patch"),
    ("apps", "controllerrevisions", "get list create delete"),
    ("autoscaling", "horizontalpodautoscalers", "get list watch create patch delete"),
    ("", "services", "get list watch create patch delete"),
    ("", "events", "get list create patch delete"),
    ("", "secrets", "get"),
    ("", "namespaces", "get create patch delete"),
    ("", "configmaps", "get create patch delete"),
    ("networking.istio.io", "virtualservices", "get list watch create patch delete"),
    ("networking.istio.io", "destinationrules", "get list watch create patch delete"),
    ("networking.istio.io", "gateways", "get list create patch delete"),
    ("gateway.networking.k8s.io", "httproutes", "get list watch create patch delete"),
    ("gateway.networking.k8s.io", "gateways", "get list watch create patch delete"),
    ("apiextensions.k8s.io", "customresourcedefinitions", "get"),
    ("coordination.k8s.io", "leases", "get create update"),
];

fn render() -> Option<Vec<Value>> {
    let kubectl = program("kubectl")?;
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kustomize");
    let text = output(Command::new(kubectl).arg("kustomize").arg(base));
    let objects = parse("kustomize", &text).expect("the base is YAML");
    Some(objects.into_iter().map(|Manifest { object, .. }| object).collect())
}

/// Roles that no process holds.
fn is_for_people(object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    ["serin-viewer", "serin-operator", "serin-admin", "serin-lease-viewer"].contains(&name)
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[test]
fn the_base_renders_and_belongs_together() {
    let Some(objects) = render() else { return };
    let names: BTreeSet<(&str, &str)> = objects
        .iter()
        .map(|object| {
            (object["kind"].as_str().expect("a kind"), object["metadata"]["name"].as_str().expect("a name"))
        })
        .collect();
    assert_eq!(names.len(), objects.len(), "every object is there once: {names:?}");
    for object in &objects {
        let (kind, namespace) = (&object["kind"], &object["metadata"]["namespace"]);
        let global = ["Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"];
        let expected = if strings(&Value::from(global.to_vec())).any(|global| kind == global) {
            None
        } else {
            Some(NAMESPACE)
        };
        assert_eq!(namespace.as_str(), expected, "{kind} {}", object["metadata"]["name"]);
        for subject in object["subjects"].as_array().into_iter().flatten() {
            match is_for_people(object) {
                // All that everybody may read is whether the daemon lives.
                true => assert_eq!(subject["name"], "system:authenticated"),
                false => assert_eq!(
                    (&subject["name"], &subject["namespace"]),
                    (&Value::from("serin"), &Value::from(NAMESPACE))
                ),
            }
        }
        if let Some(role) = object["roleRef"]["name"].as_str() {
            assert!(names.contains(&(object["roleRef"]["kind"].as_str().unwrap_or_default(), role)), "{role}");
        }
    }
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    for volume in pod["volumes"].as_array().expect("volumes") {
        if let Some(config) = volume["configMap"]["name"].as_str() {
            assert!(names.contains(&("ConfigMap", config)), "{config}");
        }
    }
    assert_eq!(pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(deployment["spec"]["strategy"]["type"], "Recreate");
}

#[test]
fn the_roles_hold_exactly_what_is_used_of_every_listed_kind() {
    let Some(objects) = render() else { return };
    let mut granted: BTreeSet<(String, String, String)> = BTreeSet::new();
    let is_role = |object: &&Value| object["kind"] == "ClusterRole" || object["kind"] == "Role";
    for role in objects.iter().filter(is_role).filter(|role| !is_for_people(role)) {
        for rule in role["rules"].as_array().into_iter().flatten() {
            for group in strings(&rule["apiGroups"]) {
                for resource in strings(&rule["resources"]) {
                    for verb in strings(&rule["verbs"]) {
                        assert!(![group, resource, verb].contains(&"*"), "{}", role["metadata"]["name"]);
                        granted.insert((group.to_owned(), resource.to_owned(), verb.to_owned()));
                    }
                }
            }
        }
    }
    for (group, resource, verbs) in USED {
        let used: BTreeSet<&str> = verbs.split(' ').collect();
        let held: BTreeSet<&str> = granted
            .iter()
            .filter(|(in_group, of, _)| in_group == group && of == resource)
            .map(|(_, _, verb)| verb.as_str())
            .collect();
        assert_eq!(held, used, "{group}/{resource}");
    }
}

/// The controller that fills an aggregated role writes its rules; whoever applies it with rules of their own, even none, is
/// refused with a conflict the second time.
#[test]
fn the_rules_of_an_aggregated_role_are_left_to_the_cluster() {
    let Some(objects) = render() else { return };
    let aggregated: Vec<&Value> = objects.iter().filter(|object| !object["aggregationRule"].is_null()).collect();
    assert!(!aggregated.is_empty());
    for role in aggregated {
        assert!(role.get("rules").is_none(), "{}", role["metadata"]["name"]);
    }
}

#[test]
fn people_may_read_releases_and_only_ask_by_a_patch() {
    let Some(objects) = render() else { return };
    let people: Vec<&Value> =
        objects.iter().filter(|object| object["rules"].is_array() && is_for_people(object)).collect();
    assert_eq!(people.len(), 4);
    for role in people {
        let name = role["metadata"]["name"].as_str().expect("a name");
        let view = &role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"];
        for rule in role["rules"].as_array().expect("rules") {
            let reads = |verb: &str| ["get", "list", "watch"].contains(&verb);
            assert!(strings(&rule["verbs"]).all(|verb| reads(verb) || verb == "patch"), "{name}");
            assert!(view.is_null() || strings(&rule["verbs"]).all(reads), "{name}: a viewer changes nothing");
            assert!(strings(&rule["resources"]).all(|resource| resource != "secrets"), "{name}");
        }
    }
}

#[test]
fn monitoring_is_a_component_whose_rules_name_metrics_that_exist() {
    let Some(kubectl) = program("kubectl") else { return };
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let folder = tempfile::tempdir_in(&deploy).expect("a folder beside the base");
    let overlay = "resources: [../kustomize]\ncomponents: [../monitoring]\n";
    std::fs::write(folder.path().join("kustomization.yaml"), overlay).expect("it can be written");
    let text = output(Command::new(kubectl).arg("kustomize").arg(folder.path()));
    let objects: Vec<Value> =
        parse("kustomize", &text).expect("YAML").into_iter().map(|Manifest { object, .. }| object).collect();
    let rules = objects.iter().find(|object| object["kind"] == "PrometheusRule").expect("rules");
    let sources = ["src/controller/telemetry.rs", "src/cli/gauges.rs"]
        .map(|path| std::fs::read_to_string(deploy.join("..").join(path)).expect("a source file"))
        .concat();
    let mut seen = 0;
    for rule in rules["spec"]["groups"][0]["rules"].as_array().expect("rules") {
        let query = rule["expr"].as_str().expect("a query");
        let words = query.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        for metric in words.filter(|word| word.starts_with("serin_") || word.starts_with("flagger_")) {
            let name = metric.strip_suffix("_total").unwrap_or(metric);
            assert!(sources.contains(&format!("\"{name}\"")), "{metric} is not among the daemon's metrics");
            seen += 1;
        }
    }
    assert!(seen >= 5);
}
