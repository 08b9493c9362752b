//! Input of kustomize, told apart from objects, and what it asks for.
//!
//! A kustomization that only lists files and folders of its own folder is a selection: those files are applied as they are. One
//! that changes or adds something has to be rendered, or the cluster would get what its author never meant.

use serde_json::{Map, Value};

use super::error::ManifestError;
use super::tree;

/// Names that kustomize looks for; the file may leave out `apiVersion` and `kind`.
const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// Its API group; others (Flux's) have ordinary objects of the same kind.
const GROUP: &str = "kustomize.config.k8s.io/";
/// Fields that change nothing of what they list.
const HARMLESS: [&str; 6] = ["apiVersion", "kind", "metadata", "resources", "bases", "sortOptions"];
/// Fields that list files or folders.
const PLACES: [&str; 3] = ["resources", "bases", "components"];
/// Fields that list files, folders or whole objects.
const PLUGINS: [&str; 3] = ["transformers", "generators", "validators"];
/// Fields that list files.
const FILES: [&str; 3] = ["crds", "configurations", "patchesStrategicMerge"];
/// Fields that list mappings with a `path`.
const PATCHES: [&str; 3] = ["patches", "patchesJson6902", "replacements"];
/// Fields that list generators with files.
const GENERATORS: [&str; 2] = ["configMapGenerator", "secretGenerator"];
/// Fields for which kustomize runs another program.
const PROGRAMS: [&str; 3] = ["helmCharts", "helmChartInflationGenerator", "helmGlobals"];

/// What is named of it, at most.
const ASKED_SHOWN: usize = 4;

/// Whether a file has a name that kustomize looks for.
pub fn is_kustomization(path: &str) -> bool {
    FILE_NAMES.contains(&path.rsplit('/').next().unwrap_or(path))
}

/// Whether a kustomization's text is kustomize's own: Flux's objects have the same kind, and people name their files after it.
pub fn is_kustomizes(text: &str) -> bool {
    let version = text.lines().find_map(|line| line.strip_prefix("apiVersion:"));
    version.is_none_or(|version| version.contains("kustomize.config.k8s.io"))
}

/// What a kustomization asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kustomization {
    /// Files and folders that it names.
    pub references: Vec<Reference>,
    /// What it asks for beside listing what is in its folder, in words.
    pub changes: Option<String>,
    /// It is a part of others and nothing by itself.
    pub is_component: bool,
    /// A field for which another program would be run.
    pub runs: Option<String>,
}

/// Something that a kustomization names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// As it is written.
    pub path: String,
    /// Whether it may be a folder, with a kustomization of its own.
    pub may_be_folder: bool,
}

impl Kustomization {
    /// Reads one.
    ///
    /// # Errors
    /// What is no YAML, or no mapping, in words.
    pub fn read(path: &str, text: &str) -> Result<Self, ManifestError> {
        let mut faults = super::error::Faults::new(path, text);
        let root = match tree::read(text) {
            Ok(documents) => {
                documents.into_iter().find(|document| !matches!(document.root.value(), Ok(Value::Null)))
            }
            Err(fault) => {
                faults.add(fault, None);
                None
            }
        };
        let object = root.as_ref().map(|document| document.root.value()).transpose();
        match (object, faults.into_errors().into_iter().next()) {
            (_, Some(error)) => Err(error),
            (Ok(object), None) => Ok(Self::of(&object.unwrap_or_default())),
            (Err(fault), None) => {
                let mut faults = super::error::Faults::new(path, text);
                faults.add(fault, None);
                faults.into_errors().into_iter().next().map_or_else(|| Ok(Self::default()), Err)
            }
        }
    }

    fn of(object: &Value) -> Self {
        let texts = |field: &str| list(object, field).filter_map(Value::as_str);
        let mut references = Vec::new();
        let mut add = |path: &str, may_be_folder: bool| {
            // What has lines, or a field, is written in place.
            if !path.contains('\n') && !path.contains(": ") && !path.is_empty() {
                references.push(Reference { path: path.to_owned(), may_be_folder });
            }
        };
        PLACES.into_iter().flat_map(texts).for_each(|path| add(path, true));
        PLUGINS.into_iter().flat_map(texts).for_each(|path| add(path, true));
        FILES.into_iter().flat_map(texts).for_each(|path| add(path, false));
        for entry in PATCHES.into_iter().flat_map(|field| list(object, field)) {
            add(text(entry, "path"), false);
        }
        add(object["openapi"]["path"].as_str().unwrap_or_default(), false);
        for generator in GENERATORS.into_iter().flat_map(|field| list(object, field)) {
            let file =
                |entry: &Value| entry.as_str().map(|entry| entry.rsplit('=').next().unwrap_or(entry).to_owned());
            list(generator, "files")
                .chain(list(generator, "envs"))
                .filter_map(file)
                .for_each(|path| add(&path, false));
            add(text(generator, "env"), false);
        }
        let runs = PROGRAMS.into_iter().find(|field| !is_empty(&object[*field])).map(str::to_owned);
        let is_component = text(object, "kind") == "Component";
        Self { references, changes: what_it_changes(object), is_component, runs }
    }
}

fn list<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    object[field].as_array().into_iter().flatten()
}

/// Whether this document is for kustomize.
pub(super) fn is_one(path: &str, object: &Value) -> bool {
    let field = |name: &str| object.get(name).and_then(Value::as_str);
    match field("apiVersion") {
        Some(version) => {
            version.starts_with(GROUP) && matches!(field("kind"), Some("Kustomization" | "Component") | None)
        }
        None => {
            let name = path.rsplit('/').next().unwrap_or(path);
            FILE_NAMES.contains(&name)
                && object.is_object()
                && field("kind").is_none_or(|kind| kind == "Kustomization")
        }
    }
}

/// What it asks for beside the plain files of its folder, in words; `None` when that is nothing.
pub(super) fn what_it_changes(object: &Value) -> Option<String> {
    let empty = Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    let mut asked: Vec<String> = fields
        .iter()
        .filter(|(name, value)| !HARMLESS.contains(&name.as_str()) && !is_empty(value))
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    let listed = list(object, "resources").chain(list(object, "bases"));
    asked.extend(
        listed.filter_map(Value::as_str).filter(|entry| !is_inside(entry)).map(|entry| format!("`{entry}`")),
    );
    if text(object, "kind") == "Component" {
        asked.push("being a component".to_owned());
    }
    let more = asked.len().saturating_sub(ASKED_SHOWN);
    asked.truncate(ASKED_SHOWN);
    match (asked.join(", "), more) {
        (asked, 0) if asked.is_empty() => None,
        (asked, 0) => Some(format!("kustomize is asked for {asked}")),
        (asked, more) => Some(format!("kustomize is asked for {asked} and {more} more")),
    }
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or("")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether a resource is a file or folder below the kustomization: not above it, and not on some server.
fn is_inside(entry: &str) -> bool {
    let first = entry.split('/').next().unwrap_or(entry);
    let is_host = entry.contains('/') && first.contains('.') && first != ".";
    !entry.starts_with('/') && !entry.split('/').any(|part| part == "..") && !entry.contains("://") && !is_host
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_kustomizes_own_files_are_meant() {
        let named = |path: &str, object: Value| is_one(path, &object);
        assert!(named(
            "a/b.yaml",
            json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"})
        ));
        assert!(named("a/kustomization.yml", json!({"resources": ["a.yaml"]})));
        assert!(!named(
            "a/kustomization.yaml",
            json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1",
            "kind": "Kustomization", "metadata": {"name": "apps"}})
        ));
        assert!(!named("a/b.yaml", json!({"resources": ["a.yaml"]})));
        assert!(!named("kustomization.yaml", json!([1])));
    }

    #[test]
    fn a_list_of_own_files_changes_nothing() {
        let asked = |fields: Value| what_it_changes(&fields);
        assert_eq!(asked(json!({"resources": ["a.yaml", "./b/c.yaml", "base"], "images": []})), None);
        let all = asked(
            json!({"resources": ["../base", "github.com/a/b?ref=v1", "https://a.b/c.yaml"], "namespace": "x",
            "images": [{"name": "a"}]}),
        );
        assert_eq!(
            all.as_deref(),
            Some("kustomize is asked for `images`, `namespace`, `../base`, `github.com/a/b?ref=v1` and 1 more")
        );
    }

    #[test]
    fn whatever_it_names_is_known_before_anything_runs() {
        let text = "resources: [../base, a.yaml]\ncomponents: [../c]\npatches:\n- {path: p.yaml}\n- {patch: '- op: x'}\n\
            patchesStrategicMerge:\n- s.yaml\n- |-\n  kind: A\nreplacements: [{path: r.yaml}]\nopenapi: {path: o.json}\n\
            configMapGenerator: [{files: [f.txt, k=g.txt], envs: [e.env], env: d.env}]\ngenerators: [\"a: 1\\n\"]\n";
        let read = Kustomization::read("kustomization.yaml", text).unwrap();
        let folders = |may: bool| {
            let these = read.references.iter().filter(move |reference| reference.may_be_folder == may);
            these.map(|reference| reference.path.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(folders(true), ["../base", "a.yaml", "../c"]);
        let files = ["s.yaml", "p.yaml", "r.yaml", "o.json", "f.txt", "g.txt", "e.env", "d.env"];
        assert_eq!(folders(false), files);
        let helm = Kustomization::read("kustomization.yaml", "helmCharts: [{name: a}]\n").unwrap();
        assert_eq!(helm.runs.as_deref(), Some("helmCharts"));
        assert!(Kustomization::read("kustomization.yaml", "a: [\n").is_err());
        assert_eq!(Kustomization::read("kustomization.yaml", "").unwrap(), Kustomization::default());
    }
}
