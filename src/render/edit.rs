//! Which edit of the files of an overlay may bring back what an earlier commit of it made. Pure: what an edit makes is for the
//! caller to prove.

use std::collections::BTreeMap;

use serde_json::Value;

use super::collect::Export;
use crate::manifest::{Manifest, is_kustomization, parse_each, restore, restore_at, values};
use crate::model::ObjectRef;

/// Fields of an entry of `images` that hold values.
const IMAGE_FIELDS: [&str; 3] = ["newTag", "digest", "newName"];
/// Edits that are considered: more have changed than one release.
const CANDIDATES_MAX: usize = 24;

/// One edit of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The file.
    pub(super) path: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// A value of an entry of `images`, by its place now and then.
    Image { now: String, then: String, field: &'static str },
    /// An object's pod template.
    Template(ObjectRef),
    /// A field of a kustomization.
    Field(String),
    /// The whole file.
    Whole,
}

/// Edits that each bring back a part of what `then` was, the smallest first.
pub(super) fn candidates(now: &Export, then: &Export) -> Vec<Candidate> {
    let mut all = Vec::new();
    let changed = now.files.iter().filter_map(|(path, (oid, bytes))| {
        let (before, old) = then.files.get(path)?;
        (oid != before).then_some((path, text(bytes)?, text(old)?))
    });
    for (path, now, then) in changed {
        let of = |what| Candidate { path: path.clone(), what };
        let found = if is_kustomization(path) { in_kustomization(now, then) } else { in_objects(path, now, then) };
        all.extend(found.into_iter().chain([What::Whole]).map(of));
    }
    all.sort_by_key(|candidate| match candidate.what {
        What::Image { .. } => 0,
        What::Template(_) => 1,
        What::Field(_) => 2,
        What::Whole => 3,
    });
    all.truncate(CANDIDATES_MAX);
    all
}

/// The file with an edit, which may follow another of the same file; `None` if it cannot be made.
pub(super) fn apply(candidate: &Candidate, now: &str, then: &str) -> Option<String> {
    match &candidate.what {
        What::Image { now: index, then: before, field } => {
            restore_at(now, &["images", index, field], then, &["images", before, field]).ok()
        }
        What::Template(object) => restore(now, object, &["spec", "template"], then).ok(),
        What::Field(field) => restore_at(now, &[field], then, &[field]).ok(),
        What::Whole => Some(then.to_owned()),
    }
}

/// The files of an export with edits in them; `None` if one cannot be made.
pub(super) fn edited(now: &Export, then: &Export, edits: &[&Candidate]) -> Option<BTreeMap<String, String>> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for edit in edits {
        let before = text(&then.files.get(&edit.path)?.1)?;
        let current = match files.get(&edit.path) {
            Some(text) => text.clone(),
            None => text(&now.files.get(&edit.path)?.1)?.to_owned(),
        };
        files.insert(edit.path.clone(), apply(edit, &current, before)?);
    }
    Some(files)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn in_kustomization(now: &str, then: &str) -> Vec<What> {
    let first = |text: &str| values(text).and_then(|all| all.into_iter().find(|value| !value.is_null()));
    let (Some(now), Some(then)) = (first(now), first(then)) else { return Vec::new() };
    let mut found = images(&now["images"], &then["images"]);
    let fields = now.as_object().into_iter().flatten();
    let differs =
        |(field, value): &(&String, &Value)| then.get(field.as_str()).is_some_and(|before| before != *value);
    found.extend(fields.filter(differs).map(|(field, _)| What::Field(field.clone())));
    found
}

fn images(now: &Value, then: &Value) -> Vec<What> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let before = list(then);
    let mut found = Vec::new();
    for (index, image) in list(now).iter().enumerate() {
        let Some(place) = before.iter().position(|old| old["name"] == image["name"]) else { continue };
        let old = before.get(place).unwrap_or(&Value::Null);
        for field in IMAGE_FIELDS.into_iter().filter(|field| image[*field] != old[*field]) {
            found.push(What::Image { now: index.to_string(), then: place.to_string(), field });
        }
    }
    found
}

fn in_objects(path: &str, now: &str, then: &str) -> Vec<What> {
    let before = parse_each(path, then).manifests;
    let template = |manifest: &Manifest| manifest.object["spec"]["template"].clone();
    let differs = |manifest: &Manifest| {
        let old = before.iter().find(|old| old.object_ref() == manifest.object_ref());
        old.is_some_and(|old| !template(old).is_null() && template(old) != template(manifest))
    };
    let now = parse_each(path, now).manifests;
    now.iter().filter(|manifest| differs(manifest)).map(|manifest| What::Template(manifest.object_ref())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn export(files: &[(&str, &str)]) -> Export {
        let file =
            |(path, text): &(&str, &str)| (path.to_string(), (format!("{text:?}"), text.as_bytes().to_vec()));
        Export {
            folder: "prod".into(),
            file: "prod/kustomization.yaml".into(),
            files: files.iter().map(file).collect(),
            folders: BTreeSet::new(),
            changes: None,
            is_component: false,
        }
    }

    #[test]
    fn the_value_that_changed_is_put_back_and_no_other_byte() {
        let now =
            "# tags\nimages:\n- {name: b, newTag: \"7\"}\n- name: a   # ours\n  newTag: \"2\"\nreplicas: []\n";
        let then = "images:\n- name: a\n  newTag: \"1\"\n- {name: b, newTag: \"7\"}\n";
        let (now, then) =
            (export(&[("prod/kustomization.yaml", now)]), export(&[("prod/kustomization.yaml", then)]));
        let candidates = candidates(&now, &then);
        let first = candidates.first().unwrap();
        assert!(matches!(&first.what, What::Image { now, then, field: "newTag" } if now == "1" && then == "0"));
        let files = edited(&now, &then, &[first]).unwrap();
        let expected =
            "# tags\nimages:\n- {name: b, newTag: \"7\"}\n- name: a   # ours\n  newTag: \"1\"\nreplicas: []\n";
        assert_eq!(files["prod/kustomization.yaml"], expected);
        assert_eq!(candidates.last().unwrap().what, What::Whole);
    }

    #[test]
    fn patches_and_bases_are_edited_where_they_are() {
        let patch = |image: &str, replicas: u8| {
            format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: {replicas}\n  template:\n    \
                 spec:\n      containers:\n      - name: web\n        image: {image} # by CI\n"
            )
        };
        let (bad, good) = (patch("web:2", 5), patch("web:1", 3));
        let (now, then) = (export(&[("prod/p.yaml", &bad)]), export(&[("prod/p.yaml", &good)]));
        let all = candidates(&now, &then);
        assert!(matches!(all[0].what, What::Template(_)), "{all:?}");
        let edited = edited(&now, &then, &[&all[0]]).unwrap();
        assert_eq!(edited["prod/p.yaml"], patch("web:1", 5), "the size that came since stays");
        // Nothing that has not changed is a candidate.
        assert_eq!(candidates(&now, &now), []);
    }
}
