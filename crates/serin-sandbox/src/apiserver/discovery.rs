//! `/version`, `/api`, `/apis` and the resource lists.

use serde_json::{Value, json};

use super::kinds::{Catalog, Resource, api_version};

/// The Kubernetes version whose behaviour is reproduced.
const MINOR: u32 = 34;

/// `/version`.
pub(super) fn version() -> Value {
    json!({
        "major": "1", "minor": MINOR.to_string(), "gitVersion": format!("v1.{MINOR}.0+serin-sandbox"),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// `/api`.
pub(super) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`.
pub(super) fn groups(catalog: &Catalog) -> Value {
    let groups: Vec<Value> = catalog
        .groups()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| describe_group(group, &versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/G`.
pub(super) fn group(catalog: &Catalog, name: &str) -> Option<Value> {
    let (group, versions) = catalog.groups().find(|(group, _)| *group == name)?;
    let mut described = describe_group(group, &versions);
    described["kind"] = json!("APIGroup");
    described["apiVersion"] = json!("v1");
    Some(described)
}

fn describe_group(group: &str, versions: &[&str]) -> Value {
    let describe = |version: &&str| json!({"groupVersion": api_version(group, version), "version": version});
    let described: Vec<Value> = versions.iter().map(describe).collect();
    json!({"name": group, "versions": described, "preferredVersion": described.first()})
}

/// `/api/v1`, `/apis/G/V`.
pub(super) fn resources(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    let resources = catalog.resources(group, version)?;
    let mut list: Vec<Value> = resources.iter().flat_map(|resource| describe(resource)).collect();
    list.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version), "resources": list
    }))
}

/// A resource and its subresources.
fn describe(resource: &Resource) -> Vec<Value> {
    let mut main = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": resource.verbs(),
    });
    if !resource.short_names.is_empty() {
        main["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        main["categories"] = json!(resource.categories);
    }
    let sub = |name: &str, kind: &str, verbs: &[&str]| {
        json!({
            "name": format!("{}/{name}", resource.plural), "singularName": "",
            "namespaced": resource.namespaced, "kind": kind, "verbs": verbs,
        })
    };
    let mut all = vec![main];
    if resource.has_status {
        all.push(sub("status", &resource.kind, &["get", "patch", "update"]));
    }
    if resource.scale.is_some() {
        let mut scale = sub("scale", "Scale", &["get", "patch", "update"]);
        scale["group"] = json!("autoscaling");
        scale["version"] = json!("v1");
        all.push(scale);
    }
    match resource.storage.as_str() {
        "namespaces" => all.push(sub("finalize", "Namespace", &["update"])),
        "pods" => all.push(sub("binding", "Binding", &["create"])),
        _ => {}
    }
    all
}
