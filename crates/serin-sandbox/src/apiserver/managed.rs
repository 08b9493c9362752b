//! `managedFields`: who owns which fields, through updates and through server-side apply.
//!
//! Follows structured-merge-diff: an update takes over what it changes; an apply owns exactly what it names, meets
//! conflicts where it would change what others own, and removes what it named before and nobody else owns.

use serde_json::{Value, json};

use super::fields::{FieldSet, compare, remove_unowned, set_of};
use super::json::{now, text};
use super::patch::merge_applied;
use super::schema::Schema;

/// Metadata that the server owns, and the object's identity: never anybody's.
const STRIPPED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
    &["metadata", "deletionTimestamp"],
    &["metadata", "deletionGracePeriodSeconds"],
];

/// Who writes.
#[derive(Debug, Clone)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) api_version: String,
    pub(super) subresource: String,
    /// The kind has a status subresource, so the main resource does not write status.
    pub(super) has_status: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Apply,
    Update,
}

#[derive(Debug, Clone)]
struct Entry {
    name: String,
    operation: Operation,
    api_version: String,
    subresource: String,
    time: String,
    fields: FieldSet,
}

impl Entry {
    fn is_of(&self, manager: &Manager, operation: Operation) -> bool {
        self.operation == operation
            && self.name == manager.name
            && self.subresource == manager.subresource
            && (operation == Operation::Apply || self.api_version == manager.api_version)
    }

    /// As conflicts name it.
    fn describe(&self) -> String {
        let mut text = format!("\"{}\"", self.name);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource \"{}\"", self.subresource);
        }
        if self.operation == Operation::Update {
            text = format!("{text} using {}", self.api_version);
        }
        text
    }

    fn read(value: &Value) -> Self {
        Self {
            name: text(&value["manager"]).to_owned(),
            operation: if value["operation"] == "Apply" { Operation::Apply } else { Operation::Update },
            api_version: text(&value["apiVersion"]).to_owned(),
            subresource: text(&value["subresource"]).to_owned(),
            time: text(&value["time"]).to_owned(),
            fields: FieldSet::from_fields_v1(&value["fieldsV1"]),
        }
    }

    fn render(&self) -> Value {
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let mut value = json!({
            "manager": self.name, "operation": operation, "apiVersion": self.api_version, "time": self.time,
            "fieldsType": "FieldsV1", "fieldsV1": self.fields.to_fields_v1()
        });
        if !self.subresource.is_empty() {
            value["subresource"] = json!(self.subresource);
        }
        value
    }
}

fn read(object: &Value) -> Vec<Entry> {
    object["metadata"]["managedFields"].as_array().into_iter().flatten().map(Entry::read).collect()
}

fn render(mut entries: Vec<Entry>) -> Value {
    entries.retain(|entry| !entry.fields.is_empty());
    entries.sort_by(|a, b| {
        (a.operation, &a.time, &a.name, &a.subresource).cmp(&(b.operation, &b.time, &b.name, &b.subresource))
    });
    entries.iter().map(Entry::render).collect()
}

fn strip(fields: &mut FieldSet, manager: &Manager) {
    for path in STRIPPED {
        fields.remove_fields(path);
    }
    fields.drop_membership("metadata");
    match manager.subresource.as_str() {
        "status" => fields.retain_field("status"),
        _ if manager.has_status => fields.remove_fields(&["status"]),
        _ => {}
    }
}

/// The entries that an update starts from: those it sends, if it sends any.
fn entries_for_update(old: &Value, new: &Value, manager: &Manager) -> Vec<Entry> {
    if !manager.subresource.is_empty() {
        return read(old);
    }
    let sent = new["metadata"]["managedFields"].as_array().map_or(&[][..], Vec::as_slice);
    if let [only] = sent
        && only.as_object().is_some_and(serde_json::Map::is_empty)
    {
        // The documented way to forget all owners.
        return Vec::new();
    }
    let sent: Vec<Entry> = sent.iter().map(Entry::read).filter(|entry| !entry.fields.is_empty()).collect();
    if sent.is_empty() { read(old) } else { sent }
}

/// The `managedFields` after an update (also a create, whose old state is empty).
pub(super) fn after_update(schema: Option<Schema<'_>>, old: &Value, new: &Value, manager: &Manager) -> Value {
    let mut entries = entries_for_update(old, new, manager);
    let mut changes = compare(schema, old, new);
    for set in [&mut changes.added, &mut changes.modified, &mut changes.removed] {
        for path in STRIPPED {
            set.remove_fields(path);
        }
    }
    let taken = changes.modified.clone().union(&changes.added);
    for entry in &mut entries {
        if !entry.is_of(manager, Operation::Update) {
            entry.fields = entry.fields.difference(&taken).difference(&changes.removed);
        }
    }
    let mut mine = taken;
    strip(&mut mine, manager);
    match entries.iter_mut().find(|entry| entry.is_of(manager, Operation::Update)) {
        Some(entry) => {
            let fields = entry.fields.difference(&changes.removed).union(&mine);
            if fields != entry.fields {
                entry.fields = fields;
                entry.time = now();
            }
        }
        None => entries.push(new_entry(manager, Operation::Update, mine)),
    }
    render(entries)
}

fn new_entry(manager: &Manager, operation: Operation, fields: FieldSet) -> Entry {
    let Manager { name, api_version, subresource, has_status: _ } = manager.clone();
    Entry { name, operation, api_version, subresource, time: now(), fields }
}

/// What an apply comes to.
pub(super) struct Applied {
    /// The merged object.
    pub(super) object: Value,
    /// Its `managedFields`.
    pub(super) managed_fields: Value,
}

/// Merges an applied configuration into the live object.
///
/// # Errors
/// Pairs of manager and field path where others own what would change, unless `force`.
pub(super) fn apply(
    schema: Option<Schema<'_>>,
    live: &Value,
    config: &Value,
    manager: &Manager,
    force: bool,
) -> Result<Applied, Vec<(String, String)>> {
    let mut entries = read(live);
    let mut object = merge_applied(schema, Some(live), config);
    let named = set_of(schema, config);
    let last = entries
        .iter()
        .find(|entry| entry.is_of(manager, Operation::Apply))
        .map_or_else(FieldSet::default, |entry| entry.fields.clone());
    let others = entries.iter().filter(|entry| !entry.is_of(manager, Operation::Apply));
    let owned = others.fold(named.clone(), |all, entry| all.union(&entry.fields));
    remove_unowned(schema, &mut object, &last, &owned);

    let changes = compare(schema, live, &object);
    let touched = changes.modified.clone().union(&changes.added);
    let mut conflicts = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !entry.is_of(manager, Operation::Apply)) {
        let contested = entry.fields.intersection(&touched);
        conflicts.extend(contested.paths().into_iter().map(|path| (entry.describe(), path)));
        entry.fields = entry.fields.difference(&contested).difference(&changes.removed);
    }
    if !force && !conflicts.is_empty() {
        return Err(conflicts);
    }
    let mut mine = named;
    strip(&mut mine, manager);
    match entries.iter_mut().find(|entry| entry.is_of(manager, Operation::Apply)) {
        Some(entry) => {
            if mine != entry.fields || entry.api_version != manager.api_version {
                entry.fields = mine;
                entry.time = now();
                entry.api_version.clone_from(&manager.api_version);
            }
        }
        None => entries.push(new_entry(manager, Operation::Apply, mine)),
    }
    Ok(Applied { object, managed_fields: render(entries) })
}

#[cfg(test)]
mod tests {
    use crate::apiserver::schema::named;

    use super::*;

    fn manager(name: &str) -> Manager {
        Manager { name: name.into(), api_version: "apps/v1".into(), subresource: String::new(), has_status: true }
    }

    fn schema() -> Option<Schema<'static>> {
        named("io.k8s.api.apps.v1.Deployment")
    }

    fn applied(live: &Value, config: &Value, name: &str, force: bool) -> Result<Value, Vec<(String, String)>> {
        let Applied { mut object, managed_fields } = apply(schema(), live, config, &manager(name), force)?;
        object["metadata"]["managedFields"] = managed_fields;
        Ok(object)
    }

    #[test]
    fn removes_what_is_no_longer_applied_unless_shared() {
        let both = json!({"spec": {"replicas": 2, "paused": true}});
        let live = applied(&json!({}), &both, "a", false).unwrap();
        let live = applied(&live, &json!({"spec": {"paused": true}}), "b", false).unwrap();
        let live = applied(&live, &json!({"spec": {"minReadySeconds": 1}}), "a", false).unwrap();
        assert_eq!(live["spec"], json!({"paused": true, "minReadySeconds": 1}));
    }

    #[test]
    fn conflicts_name_the_other_manager_and_force_takes_over() {
        let live = applied(&json!({}), &json!({"spec": {"replicas": 2}}), "a", false).unwrap();
        let config = json!({"spec": {"replicas": 3}});
        let conflicts = applied(&live, &config, "b", false).unwrap_err();
        assert_eq!(conflicts, [("\"a\"".to_owned(), ".spec.replicas".to_owned())]);
        let live = applied(&live, &config, "b", true).unwrap();
        let entries = live["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0]["manager"], "b");
    }

    #[test]
    fn list_items_of_two_managers_live_side_by_side() {
        let pod = |name: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": name}]}}}});
        let live = applied(&json!({}), &pod("a"), "one", false).unwrap();
        let live = applied(&live, &pod("b"), "two", false).unwrap();
        let live = applied(&live, &pod("c"), "two", false).unwrap();
        let names: Vec<&str> = live["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|container| container["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["a", "c"]);
    }
}
