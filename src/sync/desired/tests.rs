use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::sync::source::Content;

fn document(object: Value) -> Document {
    let template = object["spec"]["template"].is_object().then(|| Digest::of_canonical(b"template"));
    Document { file: "app.yaml".into(), line: 1, object, template }
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "test"}, "spec":
        {"template": {"spec": {"containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "settings"}}]}]}}}})
}

fn canary(name: &str, target: Value) -> Value {
    json!({"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": name, "namespace": "test"},
        "spec": {"targetRef": target, "service": {"port": 80}, "analysis": {"stepWeight": 10}}})
}

fn reference(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name})
}

fn plain(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "test"}})
}

fn collected(objects: Vec<Value>) -> DesiredSet {
    let content = Content {
        commit: "1".repeat(40).parse().unwrap(),
        documents: objects.into_iter().map(|object| Arc::new(document(object).keep())).collect(),
        unreadable: Vec::new(),
        unusable: Vec::new(),
    };
    let documents = documents(&content);
    let mut scopes: Scopes = kinds(&documents).into_iter().map(|kind| (kind, Ok(true))).collect();
    scopes.insert((String::new(), "v1".into(), "Namespace".into()), Ok(false));
    scopes.insert(
        ("gone.example.com".into(), "v1".into(), "Thing".into()),
        Err("the API server knows no such kind".into()),
    );
    collect(documents, &scopes, &[], None)
}

fn role<'a>(set: &'a DesiredSet, kind: &str, name: &str) -> Option<&'a Role> {
    set.objects.iter().find(|object| object.id.kind == kind && object.id.name == name).map(|object| &object.role)
}

#[test]
fn roles_follow_the_canary_and_stages_order_the_set() {
    let set = collected(vec![
        canary("podinfo", reference("podinfo")),
        plain("Service", "podinfo"),
        deployment("podinfo"),
        deployment("other"),
        plain("ConfigMap", "settings"),
        plain("ConfigMap", "unrelated"),
        plain("Namespace", "test"),
    ]);
    assert_eq!(set.problems, []);
    let owner = NamespacedName::new("test", "podinfo");
    assert!(matches!(role(&set, "Deployment", "podinfo"), Some(Role::Target { canary, .. }) if *canary == owner));
    assert_eq!(role(&set, "Deployment", "other"), Some(&Role::Plain));
    let readers = vec![Reader { canary: owner, target: "podinfo".into(), pinned: None }];
    assert_eq!(role(&set, "ConfigMap", "settings"), Some(&Role::TargetConfig { readers }));
    assert_eq!(role(&set, "ConfigMap", "unrelated"), Some(&Role::Plain));
    assert_eq!(role(&set, "Service", "podinfo"), Some(&Role::Apex));
    let kinds: Vec<&str> = set.objects.iter().map(|object| object.id.kind.as_str()).collect();
    assert_eq!(kinds, ["Namespace", "ConfigMap", "ConfigMap", "Service", "Deployment", "Deployment", "Canary"]);
    assert_eq!(set.objects[0].id.namespace, None, "cluster-scoped");
}

#[test]
fn an_invalid_canary_holds_its_target_and_configs_and_nothing_else() {
    let mut broken = canary("podinfo", reference("podinfo"));
    broken["spec"]["analysis"]["threshold"] = json!("five");
    let set = collected(vec![
        broken,
        deployment("podinfo"),
        plain("ConfigMap", "settings"),
        deployment("other"),
        canary("other", reference("other")),
    ]);
    let names: Vec<String> = set.objects.iter().map(|object| object.id.to_string()).collect();
    assert_eq!(names, ["Deployment test/other", "Canary test/other"], "{:?}", set.problems);
    assert_eq!(set.problems.len(), 3);
    assert!(
        set.problems.iter().any(|problem| problem.message.contains("`spec.analysis.threshold` must be a number"))
    );
    assert!(set.complete && set.named.len() == 5, "held objects are not absent");
}

#[test]
fn bad_documents_are_problems_of_their_own() {
    let set = collected(vec![
        json!({"apiVersion": "gone.example.com/v1", "kind": "Thing", "metadata": {"name": "a"}}),
        plain("ConfigMap", "twice"),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "twice", "namespace": "test"}, "data": {}}),
        plain("ConfigMap", "twice"),
        plain("Namespace", "same"),
        plain("Namespace", "same"),
        plain("ConfigMap", "good"),
        canary("one", reference("podinfo")),
        canary("two", reference("podinfo")),
    ]);
    let messages: Vec<&str> = set.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(messages.len(), 4, "{messages:#?}");
    assert!(messages[0].contains("Thing a: the API server knows no such kind"), "{messages:#?}");
    assert!(messages[1].contains("is also in app.yaml:1"), "{messages:#?}");
    let same = set.objects.iter().find(|object| object.id.kind == "Namespace").unwrap();
    assert_eq!(same.warnings, ["it is also in app.yaml:1, with the same content"]);
    assert!(messages[3].contains("already released by test/one"), "{messages:#?}");
    assert!(role(&set, "ConfigMap", "good").is_some() && role(&set, "ConfigMap", "twice").is_none());
    assert!(set.complete, "all objects are known");
    assert!(!collected(vec![json!({"kind": "ConfigMap"})]).complete, "an object without a name may be any object");
}

#[test]
fn an_object_of_a_kind_that_is_not_served_is_not_absent_wherever_it_is() {
    let set =
        collected(vec![json!({"apiVersion": "gone.example.com/v1", "kind": "Thing", "metadata": {"name": "a"}})]);
    let thing = |namespace: Option<&str>| ObjectRef {
        group: "gone.example.com".into(),
        kind: "Thing".into(),
        namespace: namespace.map(str::to_owned),
        name: "a".into(),
    };
    assert_eq!(set.named, BTreeSet::from([thing(None), thing(Some("default"))]));
}

#[test]
fn lists_are_flattened_and_server_fields_dropped() {
    let mut exported = plain("ConfigMap", "a");
    exported["metadata"]["uid"] = json!("x");
    exported["status"] = json!({});
    exported["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": "{}", "deployment.kubernetes.io/revision": "3"});
    let set =
        collected(vec![json!({"apiVersion": "v1", "kind": "List", "items": [exported, plain("Secret", "b")]})]);
    assert_eq!(set.objects.len(), 2);
    assert_eq!(set.objects[0].body, plain("ConfigMap", "a"));
}
