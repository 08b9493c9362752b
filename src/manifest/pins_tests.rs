use serde_json::{Value, json};

use super::*;

fn template() -> Value {
    json!({"spec": {
        "volumes": [
            {"name": "a", "configMap": {"name": "files"}},
            {"name": "b", "secret": {"secretName": "tls"}},
            {"name": "c", "projected": {"sources": [{"configMap": {"name": "files"}}, {"secret": {"name": "token"}}]}},
        ],
        "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "settings"}}]}],
        "containers": [{"name": "app", "image": "app:1",
            "envFrom": [{"secretRef": {"name": "env"}}],
            "env": [
                {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "x"}}},
                {"name": "Y", "valueFrom": {"secretKeyRef": {"name": "tls", "key": "y"}}},
                {"name": "Z", "value": "settings"}]}]}})
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "test"}, "data": data})
}

fn pin_all(template: &Value, configs: &[Value]) -> Option<Pinned> {
    pinned(template, |name| {
        configs.iter().find(|config| {
            config["metadata"]["name"] == name.name.as_str() && config["kind"] == name.kind.as_str()
        })
    })
}

#[test]
fn every_place_of_every_kind_is_found_and_comes_back() {
    let names: Vec<String> =
        configs_read(&template()).iter().map(|read| format!("{}/{}", read.kind.as_str(), read.name)).collect();
    assert_eq!(names, ["ConfigMap/files", "ConfigMap/settings", "Secret/env", "Secret/tls", "Secret/token"]);
    let mut configs: Vec<Value> = ["files", "settings"].map(|name| map(name, json!({"a": name}))).to_vec();
    for name in ["env", "tls", "token"] {
        configs.push(json!({"kind": "Secret", "metadata": {"name": name}, "stringData": {"a": name}}));
    }
    let all = pin_all(&template(), &configs).unwrap();
    assert_eq!(all.pins.len(), 5);
    assert!(configs_read(&all.template).iter().all(|read| all.pins.iter().any(|pin| pin.copy == read.name)));
    assert_eq!(all.template["spec"]["containers"][0]["env"][2], template()["spec"]["containers"][0]["env"][2]);
    assert_eq!(with_pins(&template(), &all.pins), all.template);
    assert_eq!(without_copies(&all.template, &configs_read(&template())), template());
}

#[test]
fn only_another_content_is_another_copy() {
    let read = json!({"spec": {"containers": [{"envFrom": [{"configMapRef": {"name": "settings"}}]}]}});
    let digest = |config: Value| pin_all(&read, &[config]).map(|pinned| pinned.digest);
    let first = digest(map("settings", json!({"a": "1"})));
    let mut labelled = map("settings", json!({"a": "1"}));
    labelled["metadata"]["labels"] = json!({"team": "x"});
    labelled["immutable"] = json!(false);
    assert_eq!(digest(labelled), first);
    assert_ne!(digest(map("settings", json!({"a": "2"}))), first);
    let mut binary = map("settings", json!({"a": "1"}));
    binary["binaryData"] = json!({"b": "AA=="});
    assert_ne!(digest(binary), first);
    assert_ne!(first, Some(template_digest(&read)));
}

#[test]
fn what_is_not_there_or_not_wanted_is_left_as_it_is() {
    let read = json!({"spec": {"containers": [{"envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "s"}}]}]}});
    assert_eq!(pin_all(&read, &[]), None);
    for key in CONFIG_TRACKING {
        let mut config = map("settings", json!({}));
        config["metadata"]["annotations"] = json!({key: "disabled"});
        assert_eq!(pin_all(&read, &[config]), None, "{key}");
    }
    let token =
        json!({"kind": "Secret", "metadata": {"name": "s"}, "type": "kubernetes.io/service-account-token"});
    assert_eq!(pin_all(&read, &[token]), None);
}

#[test]
fn a_secret_is_the_same_however_it_is_written() {
    let plain = json!({"kind": "Secret", "metadata": {"name": "s", "namespace": "n"}, "stringData": {"a": "x"}});
    let encoded = json!({"kind": "Secret", "type": "Opaque", "metadata": {"name": "s", "namespace": "n"}, "data": {"a": "eA=="}});
    assert!(same_content(&plain, &encoded));
    let copy = copy_of(&plain, "s-1");
    assert_eq!(copy["data"], json!({"a": "eA=="}));
    assert_eq!(copy["immutable"], true);
    assert_eq!(copy["metadata"], json!({"name": "s-1", "namespace": "n"}));
    assert!(same_content(&copy, &encoded));
}

#[test]
fn a_copys_name_fits_and_is_known_again() {
    let digest = Digest::of_canonical(b"x");
    for length in [1, 243, 244, 245, 253] {
        let name = "a".repeat(length);
        let copy = copy_name(&name, &digest);
        assert!(copy.len() <= NAME_MAX, "{length}");
        assert!(ConfigName { kind: ConfigKind::Secret, name }.is_copied_by(&copy));
    }
    let dashed = format!("{}---------b", "a".repeat(240));
    assert!(!copy_name(&dashed, &digest).contains("--"), "no segment ends in a dash");
    let settings = ConfigName { kind: ConfigKind::ConfigMap, name: "settings".into() };
    for other in ["settings", "settings-1234567", "settings-12345678x", "other-12345678", "settings-x-12345678"] {
        assert!(!settings.is_copied_by(other), "{other}");
    }
    assert!(settings.is_copied_by("settings-12345678"));
}
