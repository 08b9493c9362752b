//! The CustomResourceDefinitions, generated from the types.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;

use super::argo::{AnalysisRun, AnalysisTemplate};
use super::{AlertProvider, Canary, MetricTemplate, Source};

/// Our kinds' API group: Flagger's, so that its manifests apply unchanged.
pub const GROUP: &str = "flagger.app";
/// Their only version.
pub const VERSION: &str = "v1beta1";

/// The API group of Argo Rollouts' kinds.
pub const ARGO_GROUP: &str = "argoproj.io";
/// Their only version.
pub const ARGO_VERSION: &str = "v1alpha1";

/// Definitions of Argo Rollouts' kinds of analysis, for clusters that have none of Argo's own. Its controller and its tools
/// write the status of a run with the object, so there is no status subresource.
pub fn argo_crds() -> Vec<CustomResourceDefinition> {
    let template = AnalysisTemplate::crd();
    let mut cluster = template.clone();
    let names = &mut cluster.spec.names;
    names.kind = "ClusterAnalysisTemplate".to_owned();
    names.list_kind = Some("ClusterAnalysisTemplateList".to_owned());
    names.plural = "clusteranalysistemplates".to_owned();
    names.singular = Some("clusteranalysistemplate".to_owned());
    names.short_names = Some(vec!["cat".to_owned()]);
    cluster.spec.scope = "Cluster".to_owned();
    cluster.metadata.name = Some(format!("clusteranalysistemplates.{ARGO_GROUP}"));
    let mut all = vec![template, cluster, AnalysisRun::crd()];
    for version in all.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        version.subresources = None;
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            without_defaults(schema);
        }
    }
    all
}

/// Argo's definitions fill in nothing: what is read is what was written.
fn without_defaults(schema: &mut JSONSchemaProps) {
    schema.default = None;
    schema.properties.iter_mut().flatten().for_each(|(_, below)| without_defaults(below));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        without_defaults(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        without_defaults(values);
    }
}

/// All definitions of Serin's own kinds, in the order in which they are printed.
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

/// What a Canary definition keeps of `status.serin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeps {
    /// All that this version writes.
    All,
    /// Not this field: it is of an earlier version.
    Not(String),
    /// Nothing: Flagger's own definition prunes it.
    Nothing,
}

/// What the served Canary definition keeps of our state. No release may start on one that drops part of it: what is decided by
/// that part would be decided anew at every look, or be lost with the process.
pub fn keeps_serin_status(crd: &CustomResourceDefinition) -> Keeps {
    let ours = crds();
    for field in OURS {
        let Some(ours) = ours.first().and_then(|ours| below(ours, field)) else { continue };
        let lost = match below(crd, field) {
            Some(theirs) => dropped(&theirs, &ours),
            None if field == OURS[0] => return Keeps::Nothing,
            None => Some(String::new()),
        };
        if let Some(path) = lost {
            return Keeps::Not(format!("{}{path}", field.join(".")));
        }
    }
    Keeps::All
}

/// What Flagger's definition has not: our state, and what people ask of us alone. A window that is dropped would be open.
const OURS: [[&str; 2]; 3] = [["status", "serin"], ["spec", "releaseWindows"], ["spec", "waitFor"]];

/// The schema of a field in the served version.
fn below(crd: &CustomResourceDefinition, field: [&str; 2]) -> Option<JSONSchemaProps> {
    let version = crd.spec.versions.iter().find(|version| version.served && version.name == VERSION)?;
    let root = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    field
        .into_iter()
        .try_fold(root, |schema, field| match schema.x_kubernetes_preserve_unknown_fields {
            Some(true) => Some(schema),
            _ => schema.properties.as_ref()?.get(field),
        })
        .cloned()
}

/// The first field that `ours` has and `theirs` prunes, as a path.
fn dropped(theirs: &JSONSchemaProps, ours: &JSONSchemaProps) -> Option<String> {
    if theirs.x_kubernetes_preserve_unknown_fields == Some(true) {
        return None;
    }
    if ours.x_kubernetes_preserve_unknown_fields == Some(true) {
        return Some(String::new());
    }
    let none = BTreeMap::new();
    let known = theirs.properties.as_ref().unwrap_or(&none);
    let fields = ours.properties.iter().flatten().find_map(|(name, ours)| {
        let below = known.get(name).map_or_else(|| Some(String::new()), |theirs| dropped(theirs, ours))?;
        Some(format!(".{name}{below}"))
    });
    let items = || match (&theirs.items, &ours.items) {
        (Some(JSONSchemaPropsOrArray::Schema(theirs)), Some(JSONSchemaPropsOrArray::Schema(ours))) => {
            dropped(theirs, ours).map(|below| format!("[]{below}"))
        }
        _ => None,
    };
    let values = || match (&theirs.additional_properties, &ours.additional_properties) {
        (Some(JSONSchemaPropsOrBool::Schema(theirs)), Some(JSONSchemaPropsOrBool::Schema(ours))) => {
            dropped(theirs, ours).map(|below| format!(".*{below}"))
        }
        (None, Some(_)) => Some(String::new()),
        _ => None,
    };
    fields.or_else(items).or_else(values)
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
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
        let own = crds().into_iter().map(|crd| (crd, "crds"));
        for (crd, folder) in own.chain(argo_crds().into_iter().map(|crd| (crd, "rollouts/crds"))) {
            let name = crd.metadata.name.clone().unwrap();
            let want = serde_yaml::to_string(&crd).unwrap();
            let path = deploy.join(folder).join(format!("{name}.yaml"));
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
        assert_eq!(keeps_serin_status(&crds()[0]), Keeps::All);
    }

    /// A version adds a field somewhere below `status.serin`; the definitions before it are still installed.
    #[test]
    fn a_definition_of_before_any_of_our_fields_is_told_from_ours() {
        let whole = serde_json::to_value(&crds()[0]).unwrap();
        let root = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/serin";
        let mut fields = Vec::new();
        collect(whole.pointer(root).unwrap(), root, &mut fields);
        assert!(fields.len() > 12, "{}", fields.len());
        for field in fields {
            let mut older = whole.clone();
            let (parent, name) = field.rsplit_once('/').unwrap();
            older.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
            let kept = keeps_serin_status(&serde_json::from_value(older).unwrap());
            assert!(matches!(&kept, Keeps::Not(path) if path.ends_with(name)), "{field}: {kept:?}");
        }
    }

    fn collect(schema: &Value, at: &str, fields: &mut Vec<String>) {
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{at}/properties/{name}");
            collect(below, &path, fields);
            fields.push(path);
        }
        for (key, below) in
            [("items", &schema["items"]), ("additionalProperties", &schema["additionalProperties"])]
        {
            if below.is_object() {
                collect(below, &format!("{at}/{key}"), fields);
            }
        }
    }

    /// Definitions that another project has published; `None`, visibly, where they are not at hand.
    fn published(file: &str) -> Option<Vec<Value>> {
        let data = std::env::var_os("SERIN_DATA")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
        let Ok(text) = std::fs::read_to_string(data.join("crds").join(file)) else {
            eprintln!("skipped: no crds/{file} in {} (set SERIN_DATA)", data.display());
            return None;
        };
        Some(
            serde_yaml::Deserializer::from_str(&text)
                .map(|document| Value::deserialize(document).unwrap())
                .collect(),
        )
    }

    /// Every place where one of `ours` refuses or prunes what the published definition of the same name accepts.
    fn narrower_than(theirs: &[Value], ours: &[CustomResourceDefinition]) -> Vec<String> {
        let mut problems = Vec::new();
        for mine in ours {
            let name = mine.metadata.name.as_deref().unwrap();
            let Some(theirs) = theirs.iter().find(|crd| crd["metadata"]["name"] == name) else { continue };
            let mine = serde_json::to_value(mine).unwrap();
            let schema = |crd: &Value| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
            narrower(&schema(&mine), &schema(theirs), name, &mut problems);
        }
        problems
    }

    #[test]
    fn everything_that_flaggers_schema_accepts_is_accepted() {
        let Some(theirs) = published("flagger.yaml") else { return };
        assert_eq!(narrower_than(&theirs, &crds()), Vec::<String>::new());
        let canary = theirs.iter().find(|crd| crd["metadata"]["name"] == "canaries.flagger.app").unwrap();
        assert_eq!(keeps_serin_status(&serde_json::from_value(canary.clone()).unwrap()), Keeps::Nothing);
    }

    #[test]
    fn everything_that_argos_schemas_of_analysis_accept_is_accepted() {
        let Some(theirs) = published("argo-rollouts.yaml") else { return };
        let ours = argo_crds();
        assert_eq!(narrower_than(&theirs, &ours), Vec::<String>::new());
        for crd in &ours {
            let theirs = theirs.iter().find(|it| it["metadata"]["name"] == crd.metadata.name.as_deref().unwrap());
            let (theirs, ours) = (&theirs.unwrap()["spec"], &serde_json::to_value(crd).unwrap()["spec"]);
            for field in ["kind", "plural", "shortNames"] {
                assert_eq!(ours["names"][field], theirs["names"][field]);
            }
            assert_eq!(ours["scope"], theirs["scope"]);
            assert_eq!(ours["versions"][0]["subresources"], Value::Null);
        }
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
