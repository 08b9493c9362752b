use serde_json::json;

use super::*;

fn user() -> Value {
    json!({
        "metadata": {"labels": {"app": "podinfo"}, "annotations": {"note": ""}},
        "spec": {
            "serviceAccountName": "podinfo",
            "initContainers": [{"name": "init", "image": "host:5000/busybox"}],
            "containers": [{
                "name": "podinfod",
                "image": "ghcr.io/stefanprodan/podinfo:3.1.0",
                "imagePullPolicy": "IfNotPresent",
                "command": ["./podinfo", "--port=9898"],
                "ports": [{"name": "http", "containerPort": 9898}],
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                        {"name": "EMPTY", "value": ""}],
                "livenessProbe": {"exec": {"command": ["true"]}, "initialDelaySeconds": 5, "timeoutSeconds": 5},
                "readinessProbe": {"httpGet": {"port": 9898, "path": "/readyz"}},
                "resources": {"limits": {"cpu": 2, "memory": "1024Mi"}, "requests": {"cpu": "0.1"}},
                "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": false}],
                "securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": false}
            }],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "cfg", "configMap": {"name": "cfg"}}]
        }
    })
}

/// What an API server (1.32) answers for [`user`].
fn defaulted() -> Value {
    let common = json!({"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"});
    let mut live = json!({
        "metadata": {"creationTimestamp": null, "labels": {"app": "podinfo"}, "annotations": {"note": ""}},
        "spec": {
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler", "securityContext": {},
            "serviceAccountName": "podinfo", "serviceAccount": "podinfo",
            "initContainers": [{"name": "init", "image": "host:5000/busybox", "imagePullPolicy": "Always", "resources": {}}],
            "containers": [{
                "name": "podinfod",
                "image": "ghcr.io/stefanprodan/podinfo:3.1.0",
                "imagePullPolicy": "IfNotPresent",
                "command": ["./podinfo", "--port=9898"],
                "ports": [{"name": "http", "containerPort": 9898, "protocol": "TCP"}],
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
                        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}},
                        {"name": "EMPTY"}],
                "livenessProbe": {"exec": {"command": ["true"]}, "initialDelaySeconds": 5, "timeoutSeconds": 5,
                                  "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "readinessProbe": {"httpGet": {"port": 9898, "path": "/readyz", "scheme": "HTTP"}, "timeoutSeconds": 1,
                                   "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": false}
            }],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "cfg", "configMap": {"name": "cfg", "defaultMode": 420}}]
        }
    });
    for list in ["containers", "initContainers"] {
        for (key, value) in common.as_object().unwrap() {
            live["spec"][list][0][key] = value.clone();
        }
    }
    live
}

#[test]
fn defaults_of_the_api_server_do_not_count() {
    assert_eq!(canonical_template(&user()), canonical_template(&defaulted()));
    assert_eq!(template_digest(&user()), template_digest(&defaulted()));
}

/// `v1` is a promise: a changed digest would release every target again on the next upgrade of Serin.
#[test]
fn version_one_is_frozen() {
    assert_eq!(template_digest(&user()).as_str(), "v1:16ef93d3f766cf59f785");
    assert_eq!(template_digest(&json!({})).as_str(), "v1:44136fa355b3678a1146");
}

#[test]
fn what_users_set_counts() {
    let base = template_digest(&user());
    for (pointer, value) in [
        ("/spec/containers/0/image", json!("ghcr.io/stefanprodan/podinfo:3.1.1")),
        ("/spec/containers/0/imagePullPolicy", json!("Always")),
        ("/spec/containers/0/securityContext/runAsUser", json!(1)),
        ("/spec/containers/0/livenessProbe/timeoutSeconds", json!(1)),
        ("/spec/containers/0/resources/limits/memory", json!("1G")),
        ("/spec/terminationGracePeriodSeconds", json!(0)),
        ("/spec/unknownField", json!(false)),
        ("/metadata/annotations/note", json!("x")),
        ("/metadata/annotations/other", json!("")),
        ("/spec/affinity", json!({"podAffinity": {"x": [{"labelSelector": {}}]}})),
    ] {
        let mut changed = user();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap()[key] = value;
        assert_ne!(template_digest(&changed), base, "{pointer}");
    }
}

/// What Kubernetes 1.36.2 answered for templates that were applied to it, with the fields that its defaults touch.
#[test]
fn templates_read_back_from_a_real_api_server_have_the_digest_of_git() {
    let captured: Value = serde_json::from_str(include_str!("templates_1_36.json")).unwrap();
    for (name, forms) in captured.as_object().unwrap() {
        pretty_assertions::assert_eq!(
            canonical_template(&forms["git"]),
            canonical_template(&forms["live"]),
            "{name}"
        );
        assert_eq!(template_digest(&forms["git"]), template_digest(&forms["live"]), "{name}");
    }
}

/// As Kubernetes 1.36.2 answers: zeros that Go leaves out, and one that it writes.
#[test]
fn zeros_that_the_server_drops_or_adds_say_nothing() {
    let template = |volumes: Value, sleep: Value| json!({"spec": {"volumes": volumes, "containers": [{"name": "a", "lifecycle": {"preStop": {"sleep": sleep}}}]}});
    let git = template(
        json!([
            {"name": "a", "awsElasticBlockStore": {"volumeID": "x", "partition": 0, "readOnly": false}},
            {"name": "b", "gcePersistentDisk": {"pdName": "x", "partition": 0}},
            {"name": "c", "iscsi": {"iqn": "x", "lun": 0, "chapAuthDiscovery": false, "chapAuthSession": false}},
        ]),
        json!({}),
    );
    let live = template(
        json!([
            {"name": "a", "awsElasticBlockStore": {"volumeID": "x"}},
            {"name": "b", "gcePersistentDisk": {"pdName": "x"}},
            {"name": "c", "iscsi": {"iqn": "x", "lun": 0, "iscsiInterface": "default"}},
        ]),
        json!({"seconds": 0}),
    );
    assert_eq!(template_digest(&git), template_digest(&live));
    assert_ne!(template_digest(&git), template_digest(&template(json!([]), json!({"seconds": 5}))));
}
