//! What the API server adds to a pod template, frozen: part of the digest's version `v1`, never changed in place.
//!
//! The list is that of Kubernetes' `SetDefaults_PodSpec` and what it calls. A default that a later Kubernetes brings is
//! not added here but to a `v2`, or an upgrade would start releases.

use serde_json::{Value, json};

/// Containers of any sort follow the same rules: these lists are looked up under the name `containers`.
const CONTAINER_LISTS: [&str; 2] = ["initContainers", "ephemeralContainers"];

/// Maps whose keys are the user's: nothing inside is a default, and empty values mean something.
pub(super) const FREE_MAPS: [&str; 9] = [
    "labels",
    "annotations",
    "matchLabels",
    "nodeSelector",
    "limits",
    "requests",
    "overhead",
    "volumeAttributes",
    "options",
];

/// Texts that mean something when empty. Every other empty text is what it is when absent, and the API server leaves most
/// of them out when it writes the object.
const MEANINGFUL_EMPTY_TEXTS: [&str; 1] = ["storageClassName"];

/// Maps that mean something when empty: a selector that matches everything is not a missing one.
pub(super) const MEANINGFUL_EMPTY: [&str; 3] = ["labelSelector", "namespaceSelector", "selector"];

/// Maps of quantities, and single fields that hold one.
pub(super) const QUANTITY_MAPS: [&str; 3] = ["limits", "requests", "overhead"];
/// See [`QUANTITY_MAPS`].
pub(super) const QUANTITY_FIELDS: [&str; 2] = ["sizeLimit", "divisor"];

/// Probe and handler fields, wherever a probe or handler stands.
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

/// The name under which a path segment is looked up.
pub(super) fn segment(key: &str) -> &str {
    if CONTAINER_LISTS.contains(&key) { "containers" } else { key }
}

/// Whether `value` at `path` (below the template, list indexes left out) is what the API server would put there.
///
/// `parent` is the object that holds the field: some defaults depend on a neighbour.
pub(super) fn is_default(path: &[&str], value: &Value, parent: &Value) -> bool {
    if value == "" {
        return path.last().is_some_and(|field| !MEANINGFUL_EMPTY_TEXTS.contains(field));
    }
    match path {
        ["spec", field] => pod_field(field, value),
        ["spec", "containers", field] => container_field(field, value, parent),
        ["spec", "containers", "ports", "protocol"] => value == "TCP",
        ["spec", "containers", "ports", "hostPort"] => *value == json!(0),
        ["spec", "containers", "volumeMounts", "readOnly"] => *value == json!(false),
        ["spec", "containers", "securityContext", "procMount"] => value == "Default",
        ["spec", "containers", probe, field] if PROBES.contains(probe) => probe_field(field, value),
        ["spec", "containers", _, "httpGet", field] | ["spec", "containers", "lifecycle", _, "httpGet", field] => {
            match *field {
                "scheme" => value == "HTTP",
                "path" => value == "/",
                _ => false,
            }
        }
        ["spec", "containers", "lifecycle", _, "sleep", "seconds"] => *value == json!(0),
        ["spec", .., "fieldRef", "apiVersion"] => value == "v1",
        ["spec", .., "resourceFieldRef", "divisor"] => value == "0" || *value == json!(0),
        ["spec", "volumes", rest @ ..] => volume_field(rest, value, parent),
        _ => false,
    }
}

fn pod_field(field: &str, value: &Value) -> bool {
    match field {
        "restartPolicy" => value == "Always",
        "terminationGracePeriodSeconds" => *value == json!(30),
        "dnsPolicy" => value == "ClusterFirst",
        "schedulerName" => value == "default-scheduler",
        "enableServiceLinks" => *value == json!(true),
        "hostNetwork" | "hostPID" | "hostIPC" => *value == json!(false),
        _ => false,
    }
}

fn container_field(field: &str, value: &Value, container: &Value) -> bool {
    match field {
        "terminationMessagePath" => value == "/dev/termination-log",
        "terminationMessagePolicy" => value == "File",
        "stdin" | "stdinOnce" | "tty" => *value == json!(false),
        "imagePullPolicy" => value == default_pull_policy(container, "image"),
        _ => false,
    }
}

/// `Always` for `latest` and for no tag at all, else `IfNotPresent`.
fn default_pull_policy(parent: &Value, field: &str) -> &'static str {
    let image = parent.get(field).and_then(Value::as_str).unwrap_or("");
    let Image { name: _, tag, digest } = Image::parse(image);
    match (tag, digest) {
        (Some("latest"), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

fn probe_field(field: &str, value: &Value) -> bool {
    let default = match field {
        "timeoutSeconds" | "successThreshold" => 1,
        "periodSeconds" => 10,
        "failureThreshold" => 3,
        "initialDelaySeconds" => 0,
        _ => return false,
    };
    // 0 is how these say "absent".
    *value == json!(default) || *value == json!(0)
}

fn volume_field(path: &[&str], value: &Value, parent: &Value) -> bool {
    match path {
        [_, "readOnly"] | ["iscsi", "chapAuthDiscovery" | "chapAuthSession"] => *value == json!(false),
        ["awsElasticBlockStore" | "gcePersistentDisk", "partition"] => *value == json!(0),
        ["image", "pullPolicy"] => value == default_pull_policy(parent, "reference"),
        ["configMap" | "secret" | "downwardAPI" | "projected", "defaultMode"] => *value == json!(420),
        ["projected", "sources", "serviceAccountToken", "expirationSeconds"] => *value == json!(3600),
        ["iscsi", "iscsiInterface"] => value == "default",
        ["rbd", "pool"] => value == "rbd",
        ["rbd", "user"] => value == "admin",
        ["rbd", "keyring"] => value == "/etc/ceph/keyring",
        ["azureDisk", "cachingMode"] => value == "ReadWrite",
        ["azureDisk", "fsType"] => value == "ext4",
        ["azureDisk", "kind"] => value == "Shared",
        ["scaleIO", "storageMode"] => value == "ThinProvisioned",
        ["scaleIO", "fsType"] => value == "xfs",
        ["ephemeral", "volumeClaimTemplate", "spec", "volumeMode"] => value == "Filesystem",
        _ => false,
    }
}

/// An image reference in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Image<'a> {
    /// Registry and repository; a port in the registry is not a tag.
    pub(super) name: &'a str,
    /// After the last `:` of the last path segment.
    pub(super) tag: Option<&'a str>,
    /// After `@`.
    pub(super) digest: Option<&'a str>,
}

impl<'a> Image<'a> {
    /// `registry:5000/team/app:1.2@sha256:…`.
    pub(super) fn parse(reference: &'a str) -> Self {
        let (rest, digest) =
            reference.split_once('@').map_or((reference, None), |(rest, digest)| (rest, Some(digest)));
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        match rest.get(last..).and_then(|segment| segment.find(':')) {
            Some(colon) => {
                let (name, tag) = rest.split_at(last + colon);
                Self { name, tag: tag.get(1..), digest }
            }
            None => Self { name: rest, tag: None, digest },
        }
    }
}
