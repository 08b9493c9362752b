use serde_json::json;

use super::*;
use crate::model::NamespacedName;

fn object(id: ObjectRef, body: Value, role: Role) -> Desired {
    let digest = Digest::of_canonical(body.to_string().as_bytes());
    Desired { id, version: "v1".into(), body, digest, origin: "app.yaml:1".into(), role, warnings: Vec::new() }
}

fn config(name: &str, data: Value) -> Desired {
    let id = config_id(Some("test"), ConfigKind::ConfigMap, name);
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "test"}, "data": data});
    let reader =
        |target: &str| Reader { canary: NamespacedName::new("test", target), target: target.into(), pinned: None };
    object(id, body, Role::TargetConfig { readers: vec![reader("one"), reader("two")] })
}

fn target(name: &str) -> Desired {
    let id = ObjectRef {
        group: "apps".into(),
        kind: "Deployment".into(),
        namespace: Some("test".into()),
        name: name.into(),
    };
    let containers = json!([{"name": "a", "envFrom": [{"configMapRef": {"name": "settings"}}]}]);
    let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": {"containers": containers}}}});
    let digest = template_digest(&body["spec"]["template"]);
    let canary = NamespacedName::new("test", name);
    object(id, body, Role::Target { canary, digest, configs: Box::default() })
}

fn pinned_set(objects: Vec<Desired>, complete: bool) -> DesiredSet {
    let named = objects.iter().map(|object| object.id.clone()).collect();
    let mut set = DesiredSet { objects, named, complete, ..DesiredSet::default() };
    pin(&mut set);
    set
}

fn find<'a>(set: &'a DesiredSet, name: &str) -> &'a Desired {
    set.objects.iter().find(|object| object.id.name == name).unwrap()
}

fn configs(object: &Desired) -> &TargetConfigs {
    match &object.role {
        Role::Target { configs, .. } => configs,
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_targets_share_one_copy_and_each_has_its_revision() {
    let set = pinned_set(vec![config("settings", json!({"a": "1"})), target("one"), target("two")], true);
    let copies: Vec<&Desired> = set.objects.iter().filter(|object| object.role == Role::ConfigCopy).collect();
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0].body["immutable"], true);
    assert!(set.named.contains(&copies[0].id), "it is Git's as long as its config is");
    let pinned = configs(find(&set, "one")).pinned.as_ref().unwrap();
    assert_eq!(pinned.pins[0].copy, copies[0].id.name);
    let Role::TargetConfig { readers } = &find(&set, "settings").role else { panic!() };
    assert!(readers.iter().all(|reader| reader.pinned.as_ref() == Some(&pinned.digest)));
    let kinds: Vec<&str> = set.objects.iter().map(|object| object.id.kind.as_str()).collect();
    assert_eq!(kinds, ["ConfigMap", "ConfigMap", "Deployment", "Deployment"], "copies come before who reads them");
}

#[test]
fn another_content_unsettles_the_target_although_its_text_is_the_same() {
    let digest =
        |data: Value| find(&pinned_set(vec![config("settings", data), target("one")], true), "one").digest.clone();
    assert_ne!(digest(json!({"a": "1"})), digest(json!({"a": "2"})));
    assert_eq!(digest(json!({"a": "1"})), digest(json!({"a": "1"})));
}

#[test]
fn what_may_be_in_a_part_that_cannot_be_read_is_not_taken_for_absent() {
    let unsure = |set: &DesiredSet| configs(find(set, "one")).unsure.len();
    assert_eq!(unsure(&pinned_set(vec![target("one")], true)), 0, "it is not Git's");
    assert_eq!(unsure(&pinned_set(vec![target("one")], false)), 1);
    let mut held = DesiredSet { objects: vec![target("one")], complete: true, ..DesiredSet::default() };
    held.named.insert(config_id(Some("test"), ConfigKind::ConfigMap, "settings"));
    pin(&mut held);
    assert_eq!(unsure(&held), 1, "Git names it");
}

#[test]
fn an_object_of_a_copys_name_is_left_to_whoever_wrote_it() {
    let first = pinned_set(vec![config("settings", json!({"a": "1"})), target("one")], true);
    let copy = first.objects.iter().find(|object| object.role == Role::ConfigCopy).unwrap();
    let own = Desired { role: Role::Plain, ..copy.clone() };
    let set = pinned_set(vec![config("settings", json!({"a": "1"})), target("one"), own], true);
    assert_eq!(set.objects.iter().filter(|object| object.id == copy.id).count(), 1);
}
