//! Random worlds of objects that name each other, against a plain walk over the edges they were made of; and mutants of what
//! is tested, each of which some world must catch.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::super::references::{self as places, Named, OBJECTS, ObjectPlace, POD, Place};
use super::*;

/// How a pod's specification is carried.
const SHAPES: [(&str, &str, &str); 9] = [
    ("apps/v1", "Deployment", "spec template spec"),
    ("apps/v1", "ReplicaSet", "spec template spec"),
    ("apps/v1", "StatefulSet", "spec template spec"),
    ("apps/v1", "DaemonSet", "spec template spec"),
    ("batch/v1", "Job", "spec template spec"),
    ("batch/v1", "CronJob", "spec jobTemplate spec template spec"),
    ("v1", "Pod", "spec"),
    ("apps/v1", "ControllerRevision", "data spec template spec"),
    ("argoproj.io/v1alpha1", "Rollout", "spec template spec"),
];
const NAMESPACES: [&str; 2] = ["a", "b"];

/// Somebody of one kind, in one place, names an object.
#[derive(Debug, Clone)]
struct Edge {
    row: usize,
    namespace: usize,
    name: u8,
}

#[derive(Debug, Clone)]
struct Binding {
    cluster_wide: bool,
    namespace: usize,
    role: u8,
    subject: (usize, u8),
    as_user: bool,
}

#[derive(Debug, Clone)]
struct World {
    /// A workload of a shape for each.
    pods: Vec<(usize, Edge)>,
    /// Objects that are no workloads: the reader's name, and whether it is to go itself.
    objects: BTreeMap<(usize, u8, bool), Edge>,
    bindings: Vec<Binding>,
    /// Roles that are made of those with a label.
    aggregates: Vec<(u8, u8)>,
}

fn edge(rows: usize) -> impl Strategy<Value = Edge> {
    (0..rows, 0_usize..2, 0_u8..3).prop_map(|(row, namespace, name)| Edge { row, namespace, name })
}

fn world() -> impl Strategy<Value = World> {
    let binding = (any::<bool>(), 0_usize..2, 0_u8..3, (0_usize..2, 0_u8..3), any::<bool>()).prop_map(
        |(cluster_wide, namespace, role, subject, as_user)| Binding {
            cluster_wide,
            namespace,
            role,
            subject,
            as_user,
        },
    );
    let pods = prop::collection::vec((0..SHAPES.len(), edge(POD.len())), 0..8);
    let objects = prop::collection::vec((0_u8..3, any::<bool>(), edge(OBJECTS.len())), 0..10);
    let objects = objects
        .prop_map(|all| all.into_iter().map(|(reader, goes, edge)| ((edge.row, reader, goes), edge)).collect());
    let bindings = prop::collection::vec(binding, 0..5);
    let aggregates = prop::collection::vec((0_u8..3, 0_u8..3), 0..2);
    (pods, objects, bindings, aggregates).prop_map(|(pods, objects, bindings, aggregates)| World {
        pods,
        objects,
        bindings,
        aggregates,
    })
}

fn id(named: Named, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef {
        group: named.group.to_owned(),
        kind: named.kind.to_owned(),
        namespace: named.namespaced.then(|| namespace.to_owned()),
        name: name.to_owned(),
    }
}

fn object(id: &ObjectRef) -> Value {
    let api_version = if id.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", id.group) };
    json!({"apiVersion": api_version, "kind": id.kind, "metadata": {"name": id.name, "namespace": id.namespace}})
}

/// Puts a value where a path leads, in a new item of every list on the way.
fn put(object: &mut Value, path: &str, value: Value) {
    let (segment, rest) = path.split_once(' ').map_or((path, None), |(segment, rest)| (segment, Some(rest)));
    let field = segment.trim_end_matches("[]");
    if !object[field].is_object() && !object[field].is_array() {
        object[field] = if segment.ends_with("[]") { json!([]) } else { json!({}) };
    }
    let inner = match object[field].as_array_mut() {
        Some(list) => {
            list.push(json!({}));
            list.last_mut().unwrap()
        }
        None => &mut object[field],
    };
    match rest {
        Some(rest) => put(inner, rest, value),
        None => *inner = value,
    }
}

/// What stands at a place: some hold names, some references.
fn value(path: &str, named: Named, namespace: Option<&str>, name: &str) -> Value {
    let last = path.rsplit(' ').next().unwrap();
    let is_name = last.ends_with("Name") || last.ends_with("Class") || last == "serviceAccount";
    match namespace {
        Some(namespace) if path.contains("annotations") => json!(format!("{namespace}/{name}")),
        None if is_name => json!(name),
        Some(namespace) => json!({"name": name, "namespace": namespace}),
        None if last == "roleRef" => json!({"kind": named.kind, "name": name}),
        None => json!({"name": name}),
    }
}

struct Rendered {
    readers: Vec<Value>,
    going: BTreeMap<ObjectRef, Value>,
    /// Names of a reader or of a candidate, and what it names.
    edges: Vec<(ObjectRef, ObjectRef)>,
}

const ACCOUNT: Named = Named { group: "", kind: "ServiceAccount", namespaced: true };
const CLUSTER_ROLE: Named = Named { group: "rbac.authorization.k8s.io", kind: "ClusterRole", namespaced: false };
const ROLE_BINDING: Named = Named { group: "rbac.authorization.k8s.io", kind: "RoleBinding", namespaced: true };
const CLUSTER_ROLE_BINDING: Named = Named { kind: "ClusterRoleBinding", namespaced: false, ..ROLE_BINDING };

impl World {
    fn render(&self) -> Rendered {
        let mut readers = Vec::new();
        let mut edges = Vec::new();
        let mut going: BTreeMap<ObjectRef, Value> = BTreeMap::new();
        let all = POD.iter().map(|(_, named)| *named).chain(OBJECTS.iter().map(|row| row.place.1));
        for named in all.chain([ACCOUNT]) {
            for (namespace, name) in NAMESPACES.iter().flat_map(|namespace| (0..3).map(move |n| (namespace, n))) {
                let id = id(named, namespace, &format!("n{name}"));
                going.entry(id.clone()).or_insert_with(|| object(&id));
            }
        }
        for (index, (shape, Edge { row, namespace, name })) in self.pods.iter().enumerate() {
            let (api_version, kind, at) = SHAPES[*shape];
            let ((path, named), namespace, name) = (POD[*row], NAMESPACES[*namespace], format!("n{name}"));
            let mut spec = json!({"containers": [], "serviceAccountName": "other"});
            put(&mut spec, path, value(path, named, None, &name));
            let metadata = json!({"name": format!("w{index}"), "namespace": namespace});
            let mut workload = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
            put(&mut workload, at, spec);
            let reader = ObjectRef {
                group: api_version.split_once('/').map_or("", |(group, _)| group).to_owned(),
                kind: kind.to_owned(),
                namespace: Some(namespace.to_owned()),
                name: format!("w{index}"),
            };
            edges.push((reader, id(named, namespace, &name)));
            readers.push(workload);
        }
        let targets: BTreeSet<Named> = OBJECTS.iter().map(|row| row.place.1).chain([ACCOUNT]).collect();
        for ((row, reader, goes), Edge { row: _, namespace, name }) in &self.objects {
            let ObjectPlace { reader: kind, place: (path, named), far } = OBJECTS[*row];
            let (home, name) = (NAMESPACES[*namespace], format!("n{name}"));
            // Across namespaces only where that is possible.
            let away = far.then(|| NAMESPACES[1 - *namespace]);
            let named_id = id(named, away.unwrap_or(home), &name);
            // One that others name may be kept and pass it on.
            let reader = match (goes, targets.contains(&kind)) {
                (true, true) => id(kind, home, &format!("n{reader}")),
                (true, false) => id(kind, home, &format!("n{row}-{reader}")),
                (false, _) => id(kind, home, &format!("live{row}-{reader}")),
            };
            let mut body = going.get(&reader).cloned().unwrap_or_else(|| object(&reader));
            put(&mut body, path, value(path, named, away, &name));
            edges.push((reader.clone(), named_id));
            if *goes {
                going.insert(reader, body);
            } else {
                readers.push(body);
            }
        }
        for (index, binding) in self.bindings.iter().enumerate() {
            let kind = if binding.cluster_wide { CLUSTER_ROLE_BINDING } else { ROLE_BINDING };
            let binding_id = id(kind, NAMESPACES[binding.namespace], &format!("b{index}"));
            let (namespace, account) = (NAMESPACES[binding.subject.0], format!("n{}", binding.subject.1));
            let mut body = object(&binding_id);
            body["roleRef"] = json!({"kind": "ClusterRole", "name": format!("n{}", binding.role)});
            body["subjects"] = match binding.as_user {
                true => json!([{"kind": "User", "name": format!("system:serviceaccount:{namespace}:{account}")}]),
                false => json!([{"kind": "ServiceAccount", "name": account, "namespace": namespace}]),
            };
            edges.push((id(ACCOUNT, namespace, &account), binding_id.clone()));
            edges.push((binding_id.clone(), id(CLUSTER_ROLE, "", &format!("n{}", binding.role))));
            going.insert(binding_id, body);
        }
        for (whole, part) in self.aggregates.iter().filter(|(whole, part)| whole != part) {
            let (whole, part) = [whole, part].map(|name| id(CLUSTER_ROLE, "", &format!("n{name}"))).into();
            let label = format!("to-{}", whole.name);
            let selector = json!([{"matchLabels": {&label: "yes"}}]);
            going.get_mut(&whole).unwrap()["aggregationRule"] = json!({"clusterRoleSelectors": selector});
            let labels = &mut going.get_mut(&part).unwrap()["metadata"]["labels"];
            labels[&label] = json!("yes");
            edges.push((whole, part));
        }
        Rendered { readers, going, edges }
    }
}

/// What is reached from the readers, edge by edge.
fn expected(Rendered { going, edges, .. }: &Rendered) -> BTreeSet<ObjectRef> {
    let mut reached: BTreeSet<ObjectRef> = BTreeSet::new();
    loop {
        let lives = |id: &ObjectRef| !going.contains_key(id) || reached.contains(id);
        let more: Vec<ObjectRef> = edges
            .iter()
            .filter(|(from, to)| lives(from) && going.contains_key(to) && !reached.contains(to))
            .map(|(_, to)| to.clone())
            .collect();
        if more.is_empty() {
            return reached;
        }
        reached.extend(more);
    }
}

/// The tables and rules under test, or a mutant of them.
struct Subject<'a> {
    pod: &'a [Place],
    objects: &'a [ObjectPlace],
    needs: Needs<'a>,
}

fn holds(subject: &Subject<'_>, world: &World) -> bool {
    let rendered = world.render();
    let readers: Vec<Reader> = rendered
        .readers
        .iter()
        .map(|object| {
            let (group, kind) = places::group_and_kind(object);
            let metadata = &object["metadata"];
            Reader {
                id: ObjectRef {
                    group: group.to_owned(),
                    kind: kind.to_owned(),
                    namespace: metadata["namespace"].as_str().map(str::to_owned),
                    name: metadata["name"].as_str().unwrap().to_owned(),
                },
                references: places::through(subject.pod, subject.objects, object),
            }
        })
        .collect();
    let kept = reached(&readers, &rendered.going, subject.needs);
    kept.into_keys().collect::<BTreeSet<_>>() == expected(&rendered)
}

/// Whether some world shows the difference.
fn is_caught(subject: &Subject<'_>) -> bool {
    /// Enough for a row that one edge in fifty uses.
    const WORLDS: u32 = 4000;
    let config = Config { cases: WORLDS, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let differs = runner.run(&world().no_shrink(), |world| match holds(subject, &world) {
        true => Ok(()),
        false => Err(TestCaseError::fail("differs")),
    });
    differs.is_err()
}

proptest! {
    #[test]
    fn exactly_what_is_reached_from_a_reader_is_kept(world in world()) {
        let subject = Subject { pod: POD, objects: OBJECTS, needs: &needs };
        prop_assert!(holds(&subject, &world), "{:?}", world);
    }
}

#[test]
fn every_place_and_every_rule_is_missed_when_it_is_taken_away() {
    let without = |index: usize, len: usize| (0..len).filter(move |it| *it != index);
    for (index, place) in POD.iter().enumerate() {
        let pod: Vec<Place> = without(index, POD.len()).map(|it| POD[it]).collect();
        assert!(is_caught(&Subject { pod: &pod, objects: OBJECTS, needs: &needs }), "{place:?}");
    }
    for (index, row) in OBJECTS.iter().enumerate() {
        let objects: Vec<ObjectPlace> = without(index, OBJECTS.len())
            .map(|it| ObjectPlace { reader: OBJECTS[it].reader, place: OBJECTS[it].place, far: OBJECTS[it].far })
            .collect();
        let path = row.place.0;
        assert!(is_caught(&Subject { pod: POD, objects: &objects, needs: &needs }), "{path}");
    }
    let only = |keep: fn(&ObjectRef, &Value, &ObjectRef, &Value) -> bool| {
        move |id: &ObjectRef, live: &Value, going: &BTreeMap<ObjectRef, Value>| -> BTreeSet<ObjectRef> {
            going.iter().filter(|(to, body)| keep(id, live, to, body)).map(|(to, _)| to.clone()).collect()
        }
    };
    let mutants: [(&str, Needs<'_>); 4] = [
        ("nothing is passed on", &|_, _, _| BTreeSet::new()),
        ("names only", &only(|_, live, to, _| places::references(live).contains(to))),
        ("no names", &only(|id, live, _, body| places::binds(body, id) || places::aggregates(live, body))),
        (
            "any account",
            &only(|id, live, to, body| {
                let bound = id.kind == "ServiceAccount" && body["subjects"].is_array();
                places::references(live).contains(to) || bound || places::aggregates(live, body)
            }),
        ),
    ];
    for (name, needs) in mutants {
        assert!(is_caught(&Subject { pod: POD, objects: OBJECTS, needs }), "{name}");
    }
}

#[test]
fn a_binding_taken_from_an_account_that_stays_goes() {
    let account = id(ACCOUNT, "a", "app");
    let binding = id(ROLE_BINDING, "a", "may-read");
    let mut body = object(&binding);
    body["roleRef"] = json!({"kind": "ClusterRole", "name": "view"});
    body["subjects"] = json!([{"kind": "ServiceAccount", "name": "app", "namespace": "a"}]);
    let reader = Reader {
        id: ObjectRef { group: "apps".into(), kind: "Deployment".into(), ..account.clone() },
        references: BTreeSet::from([account.clone()]),
    };
    let mut going = BTreeMap::from([(binding.clone(), body)]);
    assert_eq!(still_read(std::slice::from_ref(&reader), &going), BTreeMap::new(), "it was revoked");
    going.insert(account.clone(), object(&account));
    let kept = still_read(std::slice::from_ref(&reader), &going);
    assert_eq!(
        kept,
        BTreeMap::from([(account.clone(), reader.id), (binding, account)]),
        "it goes with the account"
    );
}

/// The properties of a pod that name another object, as Kubernetes' own definitions have them.
#[test]
fn no_place_of_a_pod_is_forgotten() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/serin-sandbox/src/apiserver/kinds/types.json");
    let types: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut found = BTreeSet::new();
    walk(&types, "io.k8s.api.core.v1.PodSpec", &mut Vec::new(), &mut found);
    assert!(found.len() > 25, "{found:#?}");
    let known: BTreeSet<String> = POD.iter().map(|(path, _)| (*path).to_owned()).collect();
    let covers = |path: &str| {
        known
            .iter()
            .any(|known| path == known || path.starts_with(&format!("{known} ")) || path == format!("{known}[]"))
    };
    let missing: Vec<&String> = found.iter().filter(|path| !covers(path)).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

/// Collects paths whose last field has the name or type of a reference.
fn walk(types: &Value, name: &str, path: &mut Vec<String>, found: &mut BTreeSet<String>) {
    /// Deeper than any place; types may hold themselves.
    const DEPTH_MAX: usize = 7;
    const FIELDS: [&str; 12] = [
        "secretName",
        "secretRef",
        "claimName",
        "storageClassName",
        "serviceAccountName",
        "serviceAccount",
        "priorityClassName",
        "runtimeClassName",
        "resourceClaimName",
        "resourceClaimTemplateName",
        "nodePublishSecretRef",
        "volumeAttributesClassName",
    ];
    const TYPES: [&str; 9] = [
        "LocalObjectReference",
        "SecretReference",
        "SecretKeySelector",
        "ConfigMapKeySelector",
        "SecretEnvSource",
        "ConfigMapEnvSource",
        "ConfigMapProjection",
        "SecretProjection",
        "ConfigMapVolumeSource",
    ];
    if path.len() > DEPTH_MAX {
        return;
    }
    for (field, schema) in types[name]["properties"].as_object().into_iter().flatten() {
        let is_list = schema["items"].is_object();
        let inner = if is_list { &schema["items"] } else { schema };
        let reference = inner["$ref"].as_str().or_else(|| inner["allOf"][0]["$ref"].as_str());
        let kind = reference.and_then(|reference| reference.rsplit('/').next()).unwrap_or_default();
        path.push(if is_list { format!("{field}[]") } else { field.clone() });
        let is_type = TYPES.iter().any(|it| kind.ends_with(&format!(".{it}")));
        if FIELDS.contains(&field.as_str()) || is_type {
            found.insert(path.join(" "));
        } else if !kind.is_empty() {
            walk(types, kind, path, found);
        }
        path.pop();
    }
}
