//! What an object names: the places in which Kubernetes' kinds refer to others, and what stands there. PURE.
//!
//! One table for all: whoever asks what a template reads (prune, roles in a release) sees the same places.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api;
use crate::model::ObjectRef;

/// A kind as others name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    pub(super) group: &'static str,
    pub(super) kind: &'static str,
    /// Whether its objects live in namespaces.
    pub(super) namespaced: bool,
}

const fn namespaced(group: &'static str, kind: &'static str) -> Named {
    Named { group, kind, namespaced: true }
}

const fn cluster_wide(group: &'static str, kind: &'static str) -> Named {
    Named { group, kind, namespaced: false }
}

const CONFIG_MAP: Named = namespaced("", "ConfigMap");
const SECRET: Named = namespaced("", "Secret");
const CLAIM: Named = namespaced("", "PersistentVolumeClaim");
const SERVICE_ACCOUNT: Named = namespaced("", "ServiceAccount");
const RESOURCE_CLAIM: Named = namespaced("resource.k8s.io", "ResourceClaim");
const RESOURCE_CLAIM_TEMPLATE: Named = namespaced("resource.k8s.io", "ResourceClaimTemplate");
const SECRET_PROVIDER_CLASS: Named = namespaced("secrets-store.csi.x-k8s.io", "SecretProviderClass");
const PRIORITY_CLASS: Named = cluster_wide("scheduling.k8s.io", "PriorityClass");
const RUNTIME_CLASS: Named = cluster_wide("node.k8s.io", "RuntimeClass");
const STORAGE_CLASS: Named = cluster_wide("storage.k8s.io", "StorageClass");
const ATTRIBUTES_CLASS: Named = cluster_wide("storage.k8s.io", "VolumeAttributesClass");
const TRUST_BUNDLE: Named = cluster_wide("certificates.k8s.io", "ClusterTrustBundle");
const ROLE: Named = namespaced(RBAC, "Role");
const CLUSTER_ROLE: Named = cluster_wide(RBAC, "ClusterRole");
const METRIC_TEMPLATE: Named = namespaced(api::GROUP, "MetricTemplate");
const ALERT_PROVIDER: Named = namespaced(api::GROUP, "AlertProvider");

const RBAC: &str = "rbac.authorization.k8s.io";

/// A place that names objects of a kind: field names from the outside in, `[]` after those whose items are all looked at.
/// What is found there is a name, `<namespace>/<name>`, or a reference with the field `name`.
pub(super) type Place = (&'static str, Named);

/// Places in a pod's specification.
pub(super) const POD: &[Place] = &[
    ("volumes[] configMap", CONFIG_MAP),
    ("volumes[] secret secretName", SECRET),
    ("volumes[] persistentVolumeClaim claimName", CLAIM),
    ("volumes[] projected sources[] configMap", CONFIG_MAP),
    ("volumes[] projected sources[] secret", SECRET),
    ("volumes[] projected sources[] clusterTrustBundle", TRUST_BUNDLE),
    ("volumes[] ephemeral volumeClaimTemplate spec storageClassName", STORAGE_CLASS),
    ("volumes[] ephemeral volumeClaimTemplate spec volumeAttributesClassName", ATTRIBUTES_CLASS),
    ("volumes[] csi nodePublishSecretRef", SECRET),
    ("volumes[] csi volumeAttributes secretProviderClass", SECRET_PROVIDER_CLASS),
    ("volumes[] azureFile secretName", SECRET),
    ("volumes[] cephfs secretRef", SECRET),
    ("volumes[] cinder secretRef", SECRET),
    ("volumes[] flexVolume secretRef", SECRET),
    ("volumes[] iscsi secretRef", SECRET),
    ("volumes[] rbd secretRef", SECRET),
    ("volumes[] scaleIO secretRef", SECRET),
    ("volumes[] storageos secretRef", SECRET),
    ("containers[] envFrom[] configMapRef", CONFIG_MAP),
    ("containers[] envFrom[] secretRef", SECRET),
    ("containers[] env[] valueFrom configMapKeyRef", CONFIG_MAP),
    ("containers[] env[] valueFrom secretKeyRef", SECRET),
    ("initContainers[] envFrom[] configMapRef", CONFIG_MAP),
    ("initContainers[] envFrom[] secretRef", SECRET),
    ("initContainers[] env[] valueFrom configMapKeyRef", CONFIG_MAP),
    ("initContainers[] env[] valueFrom secretKeyRef", SECRET),
    ("ephemeralContainers[] envFrom[] configMapRef", CONFIG_MAP),
    ("ephemeralContainers[] envFrom[] secretRef", SECRET),
    ("ephemeralContainers[] env[] valueFrom configMapKeyRef", CONFIG_MAP),
    ("ephemeralContainers[] env[] valueFrom secretKeyRef", SECRET),
    ("imagePullSecrets[]", SECRET),
    ("serviceAccountName", SERVICE_ACCOUNT),
    // Its former name, which the server keeps in step.
    ("serviceAccount", SERVICE_ACCOUNT),
    ("priorityClassName", PRIORITY_CLASS),
    ("runtimeClassName", RUNTIME_CLASS),
    ("resourceClaims[] resourceClaimName", RESOURCE_CLAIM),
    ("resourceClaims[] resourceClaimTemplateName", RESOURCE_CLAIM_TEMPLATE),
];

/// The account of pods that name none.
const DEFAULT_ACCOUNT: &str = "default";

/// Where kinds carry a pod's specification; any kind with `spec.template` is taken for a workload.
const POD_SPECS: [&str; 5] = [
    "spec template spec",
    "spec jobTemplate spec template spec",
    // A PodTemplate.
    "template spec",
    // A ControllerRevision of ours, and those of the DaemonSet and StatefulSet controllers.
    "data spec template spec",
    "spec",
];

/// A row of [`OBJECTS`]: the kind that names, where, what, and whether it may name across namespaces.
pub(super) struct ObjectPlace {
    pub(super) reader: Named,
    pub(super) place: Place,
    pub(super) far: bool,
}

const fn near(reader: Named, path: &'static str, named: Named) -> ObjectPlace {
    ObjectPlace { reader, place: (path, named), far: false }
}

const fn far(reader: Named, path: &'static str, named: Named) -> ObjectPlace {
    ObjectPlace { reader, place: (path, named), far: true }
}

const INGRESS: Named = namespaced("networking.k8s.io", "Ingress");
const GATEWAY: Named = namespaced("gateway.networking.k8s.io", "Gateway");
const ISTIO_GATEWAY: Named = namespaced("networking.istio.io", "Gateway");
const CANARY: Named = namespaced(api::GROUP, "Canary");
const ROLE_BINDING: Named = namespaced(RBAC, "RoleBinding");
const CLUSTER_ROLE_BINDING: Named = cluster_wide(RBAC, "ClusterRoleBinding");
const STATEFUL_SET: Named = namespaced("apps", "StatefulSet");

/// Places in objects that are no workloads.
pub(super) const OBJECTS: &[ObjectPlace] = &[
    near(SERVICE_ACCOUNT, "imagePullSecrets[]", SECRET),
    near(SERVICE_ACCOUNT, "secrets[]", SECRET),
    near(INGRESS, "spec tls[] secretName", SECRET),
    far(INGRESS, "metadata annotations nginx.ingress.kubernetes.io/auth-secret", SECRET),
    far(INGRESS, "metadata annotations nginx.ingress.kubernetes.io/auth-tls-secret", SECRET),
    far(INGRESS, "metadata annotations nginx.ingress.kubernetes.io/proxy-ssl-secret", SECRET),
    far(GATEWAY, "spec listeners[] tls certificateRefs[]", SECRET),
    near(ISTIO_GATEWAY, "spec servers[] tls credentialName", SECRET),
    near(STATEFUL_SET, "spec volumeClaimTemplates[] spec storageClassName", STORAGE_CLASS),
    near(STATEFUL_SET, "spec volumeClaimTemplates[] spec volumeAttributesClassName", ATTRIBUTES_CLASS),
    near(CLAIM, "spec storageClassName", STORAGE_CLASS),
    near(CLAIM, "spec volumeAttributesClassName", ATTRIBUTES_CLASS),
    near(ROLE_BINDING, "roleRef", ROLE),
    near(ROLE_BINDING, "roleRef", CLUSTER_ROLE),
    near(CLUSTER_ROLE_BINDING, "roleRef", CLUSTER_ROLE),
    far(CANARY, "spec analysis metrics[] templateRef", METRIC_TEMPLATE),
    far(CANARY, "spec analysis alerts[] providerRef", ALERT_PROVIDER),
    near(METRIC_TEMPLATE, "spec provider secretRef", SECRET),
    near(ALERT_PROVIDER, "spec secretRef", SECRET),
];

/// What an object names.
pub(super) fn references(object: &Value) -> BTreeSet<ObjectRef> {
    through(POD, OBJECTS, object)
}

/// What a pod template names in its own namespace.
pub(super) fn of_template(template: &Value, namespace: &str) -> BTreeSet<ObjectRef> {
    let mut found = BTreeSet::new();
    of_pod(POD, &template["spec"], Some(namespace), &mut found);
    found
}

/// [`references`] through given tables.
pub(super) fn through(pod: &[Place], objects: &[ObjectPlace], object: &Value) -> BTreeSet<ObjectRef> {
    let mut found = BTreeSet::new();
    let namespace = object["metadata"]["namespace"].as_str();
    for spec in pod_specs(object) {
        of_pod(pod, spec, namespace, &mut found);
    }
    let (group, kind) = group_and_kind(object);
    for ObjectPlace { reader, place: (path, named), far: _ } in objects {
        if reader.group == group && reader.kind == kind {
            found.extend(at(object, path).into_iter().filter_map(|value| named_by(value, *named, namespace)));
        }
    }
    found
}

/// Whether an object runs pods, or would.
pub(super) fn has_pod_template(object: &Value) -> bool {
    !pod_specs(object).is_empty()
}

fn of_pod(table: &[Place], spec: &Value, namespace: Option<&str>, found: &mut BTreeSet<ObjectRef>) {
    for (path, named) in table {
        found.extend(at(spec, path).into_iter().filter_map(|value| named_by(value, *named, namespace)));
    }
    if spec["serviceAccountName"].is_null() && spec["serviceAccount"].is_null() {
        found.insert(reference(SERVICE_ACCOUNT, namespace, DEFAULT_ACCOUNT));
    }
}

/// Every pod specification in an object. What has no containers is something else's `spec`.
fn pod_specs(object: &Value) -> Vec<&Value> {
    let all = POD_SPECS.iter().flat_map(|path| at(object, path));
    all.filter(|spec| spec["containers"].is_array()).collect()
}

/// What stands at a place.
fn at<'v>(value: &'v Value, path: &str) -> Vec<&'v Value> {
    let mut found = vec![value];
    for segment in path.split(' ') {
        let (field, list) = match segment.strip_suffix("[]") {
            Some(field) => (field, true),
            None => (segment, false),
        };
        let fields = found.iter().filter_map(|value| value.get(field));
        found = match list {
            true => fields.filter_map(Value::as_array).flatten().collect(),
            false => fields.collect(),
        };
    }
    found
}

/// The object that a value names: a name, `<namespace>/<name>`, or a reference that says more.
fn named_by(value: &Value, named: Named, namespace: Option<&str>) -> Option<ObjectRef> {
    if let Some(kind) = value["kind"].as_str()
        && kind != named.kind
    {
        return None;
    }
    let text = value.as_str().or_else(|| value["name"].as_str()).filter(|name| !name.is_empty())?;
    let (own, name) = text.split_once('/').map_or((None, text), |(namespace, name)| (Some(namespace), name));
    Some(reference(named, value["namespace"].as_str().or(own).or(namespace), name))
}

fn reference(named: Named, namespace: Option<&str>, name: &str) -> ObjectRef {
    ObjectRef {
        group: named.group.to_owned(),
        kind: named.kind.to_owned(),
        namespace: namespace.filter(|_| named.namespaced).map(str::to_owned),
        name: name.to_owned(),
    }
}

pub(super) fn group_and_kind(object: &Value) -> (&str, &str) {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    (group, object["kind"].as_str().unwrap_or_default())
}

/// Whether a binding gives its role to this account: named itself, as a user, or by a group of accounts.
pub(super) fn binds(binding: &Value, account: &ObjectRef) -> bool {
    let namespace = account.namespace.as_deref().unwrap_or_default();
    let is_account = |subject: &Value| {
        let name = subject["name"].as_str().unwrap_or_default();
        match subject["kind"].as_str() {
            Some("ServiceAccount") => name == account.name && subject["namespace"].as_str() == Some(namespace),
            Some("User") => name == format!("system:serviceaccount:{namespace}:{}", account.name),
            Some("Group") => {
                name == "system:serviceaccounts" || name == format!("system:serviceaccounts:{namespace}")
            }
            Some(_) | None => false,
        }
    };
    is_kind(account, SERVICE_ACCOUNT)
        && matches!(group_and_kind(binding), (RBAC, "RoleBinding" | "ClusterRoleBinding"))
        && binding["subjects"].as_array().into_iter().flatten().any(is_account)
}

/// Whether a role is made of others, this one among them.
pub(super) fn aggregates(role: &Value, part: &Value) -> bool {
    let takes = |selector: &Value| {
        let labels = selector["matchLabels"].as_object();
        labels.is_some_and(|labels| labels.iter().all(|(key, value)| part["metadata"]["labels"][key] == *value))
    };
    group_and_kind(role) == (RBAC, "ClusterRole")
        && group_and_kind(part) == (RBAC, "ClusterRole")
        && role["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten().any(takes)
}

pub(super) fn is_kind(id: &ObjectRef, named: Named) -> bool {
    id.group == named.group && id.kind == named.kind
}
