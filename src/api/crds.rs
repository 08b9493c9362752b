//! The CustomResourceDefinitions, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt as _;

use super::{AlertProvider, Canary, MetricTemplate, Source};

/// Our kinds' API group: Flagger's, so that its manifests apply unchanged.
pub const GROUP: &str = "flagger.app";
/// Their only version.
pub const VERSION: &str = "v1beta1";

/// All definitions, in the order in which they are printed.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut all = vec![Canary::crd(), MetricTemplate::crd(), AlertProvider::crd(), Source::crd()];
    for crd in &mut all {
        for version in &mut crd.spec.versions {
            // Flagger serves the status subresource of all three kinds; tools that write it must go on working.
            version.subresources.get_or_insert_default().status.get_or_insert_default();
        }
    }
    all
}

/// Whether the served Canary definition keeps `status.serin`, as far as it decides. Flagger's own definition prunes it, and no release may
/// start on it: its state would be lost.
pub fn keeps_serin_status(crd: &CustomResourceDefinition) -> bool {
    crd.spec.versions.iter().filter(|version| version.served && version.name == VERSION).any(|version| {
        let root = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let ours = [["status", "serin", "state"], ["status", "serin", "handover"]];
        root.is_some_and(|root| ours.iter().all(|path| keeps(root, path)))
    })
}

fn keeps(schema: &JSONSchemaProps, path: &[&str]) -> bool {
    if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
        return true;
    }
    match path {
        [] => schema.properties.is_some(),
        [field, rest @ ..] => schema
            .properties
            .as_ref()
            .and_then(|properties| properties.get(*field))
            .is_some_and(|property| keeps(property, rest)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde::Deserialize as _;
    use serde_json::Value;

    use super::*;

    /// The API server refuses objects beyond 256 KiB in client-side apply's annotation; stay well below.
    const SIZE_MAX: usize = 200_000;

    #[test]
    fn committed_definitions_are_fresh_and_small() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/crds");
        for crd in crds() {
            let name = crd.metadata.name.clone().unwrap();
            let want = serde_yaml::to_string(&crd).unwrap();
            let path = folder.join(format!("{name}.yaml"));
            if std::env::var_os("SERIN_BLESS").is_some() {
                std::fs::write(&path, &want).unwrap();
            }
            let have = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(have == want, "{name} is stale: run the tests once with SERIN_BLESS=1");
            assert!(want.len() < SIZE_MAX, "{name} has {} bytes", want.len());
        }
    }

    #[test]
    fn ours_keep_the_state() {
        assert!(keeps_serin_status(&crds()[0]));
    }

    #[test]
    fn everything_that_flaggers_schema_accepts_is_accepted() {
        let data = std::env::var_os("SERIN_DATA")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
        let Ok(text) = std::fs::read_to_string(data.join("crds/flagger.yaml")) else {
            eprintln!("skipped: no crds/flagger.yaml in {} (set SERIN_DATA)", data.display());
            return;
        };
        let ours = crds();
        let mut problems = Vec::new();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let theirs = Value::deserialize(document).unwrap();
            let name = theirs["metadata"]["name"].as_str().unwrap();
            let mine = ours.iter().find(|crd| crd.metadata.name.as_deref() == Some(name)).unwrap();
            let mine = serde_json::to_value(mine).unwrap();
            let schema = |crd: &Value| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
            narrower(&schema(&mine), &schema(&theirs), name, &mut problems);
            if name.starts_with("canaries") {
                assert!(!keeps_serin_status(&serde_json::from_value(theirs).unwrap()));
            }
        }
        assert!(problems.is_empty(), "{problems:#?}");
    }

    /// Collects every place where `mine` refuses or prunes what `theirs` accepts.
    fn narrower(mine: &Value, theirs: &Value, path: &str, problems: &mut Vec<String>) {
        for keyword in ["oneOf", "anyOf", "allOf", "not", "pattern", "minLength", "maxLength", "maxItems"] {
            if !mine[keyword].is_null() && mine[keyword] != theirs[keyword] {
                problems.push(format!("{path}: ours has {keyword}"));
            }
        }
        if mine["x-kubernetes-preserve-unknown-fields"] == true || mine["x-kubernetes-int-or-string"] == true {
            return;
        }
        if mine["type"] != theirs["type"] && !theirs["type"].is_null() {
            problems.push(format!("{path}: type {} is not {}", mine["type"], theirs["type"]));
        }
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        if !mine["enum"].is_null() {
            let (mine, theirs) = (list(&mine["enum"]), list(&theirs["enum"]));
            if theirs.is_empty() || theirs.iter().any(|word| !mine.contains(word)) {
                problems.push(format!("{path}: enum is narrower"));
            }
        }
        for field in list(&mine["required"]) {
            // An object without a spec says nothing; Flagger's controller cannot use it either.
            let branches = list(&theirs["oneOf"]);
            let in_every_branch =
                !branches.is_empty() && branches.iter().all(|branch| list(&branch["required"]).contains(&field));
            if field != "spec" && !in_every_branch && !list(&theirs["required"]).contains(&field) {
                problems.push(format!("{path}: {field} is required"));
            }
        }
        for (field, schema) in theirs["properties"].as_object().into_iter().flatten() {
            match mine["properties"].get(field) {
                // The API server knows the fields of every object's head by itself.
                None if ["apiVersion", "kind", "metadata"].contains(&field.as_str()) => {}
                None => problems.push(format!("{path}.{field}: missing")),
                Some(mine) => narrower(mine, schema, &format!("{path}.{field}"), problems),
            }
        }
        for below in ["items", "additionalProperties"] {
            if theirs[below].is_object() {
                narrower(&mine[below], &theirs[below], &format!("{path}.{below}"), problems);
            }
        }
    }
}
