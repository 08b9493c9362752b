//! Fixed columns of the built-in kinds that people look at.

use serde_json::{Value, json};

use super::super::json::text;
use super::super::kinds::Resource;
use super::age::since;

/// How a kind is printed: columns with their priority, and the cells of an object.
pub(super) struct Printer {
    pub(super) columns: &'static [(&'static str, i64)],
    pub(super) cells: fn(&Value) -> Vec<Value>,
}

/// The printer of a kind; name and age for those without one of their own.
pub(super) fn printer(resource: &Resource) -> Printer {
    match resource.storage.as_str() {
        "namespaces" => Printer { columns: &[("Name", 0), ("Status", 0), ("Age", 0)], cells: namespace },
        "pods" => Printer {
            columns: &[
                ("Name", 0),
                ("Ready", 0),
                ("Status", 0),
                ("Restarts", 0),
                ("Age", 0),
                ("IP", 1),
                ("Node", 1),
                ("Nominated Node", 1),
                ("Readiness Gates", 1),
            ],
            cells: pod,
        },
        "deployments.apps" => Printer {
            columns: &[
                ("Name", 0),
                ("Ready", 0),
                ("Up-to-date", 0),
                ("Available", 0),
                ("Age", 0),
                ("Containers", 1),
                ("Images", 1),
                ("Selector", 1),
            ],
            cells: deployment,
        },
        "replicasets.apps" => Printer {
            columns: &[
                ("Name", 0),
                ("Desired", 0),
                ("Current", 0),
                ("Ready", 0),
                ("Age", 0),
                ("Containers", 1),
                ("Images", 1),
                ("Selector", 1),
            ],
            cells: replica_set,
        },
        "services" => Printer {
            columns: &[
                ("Name", 0),
                ("Type", 0),
                ("Cluster-IP", 0),
                ("External-IP", 0),
                ("Port(s)", 0),
                ("Age", 0),
                ("Selector", 1),
            ],
            cells: service,
        },
        "horizontalpodautoscalers.autoscaling" => Printer {
            columns: &[
                ("Name", 0),
                ("Reference", 0),
                ("Targets", 0),
                ("MinPods", 0),
                ("MaxPods", 0),
                ("Replicas", 0),
                ("Age", 0),
            ],
            cells: autoscaler,
        },
        "events" => Printer {
            columns: &[
                ("Last Seen", 0),
                ("Type", 0),
                ("Reason", 0),
                ("Object", 0),
                ("Subobject", 1),
                ("Source", 1),
                ("Message", 0),
                ("First Seen", 1),
                ("Count", 1),
                ("Name", 1),
            ],
            cells: event,
        },
        "configmaps" => Printer { columns: &[("Name", 0), ("Data", 0), ("Age", 0)], cells: config_map },
        "secrets" => Printer { columns: &[("Name", 0), ("Type", 0), ("Data", 0), ("Age", 0)], cells: secret },
        "nodes" => Printer { columns: &[("Name", 0), ("Status", 0), ("Version", 0), ("Age", 0)], cells: node },
        "leases.coordination.k8s.io" => {
            Printer { columns: &[("Name", 0), ("Holder", 0), ("Age", 0)], cells: lease }
        }
        "customresourcedefinitions.apiextensions.k8s.io" => {
            Printer { columns: &[("Name", 0), ("Created At", 0)], cells: definition }
        }
        _ => Printer { columns: &[("Name", 0), ("Age", 0)], cells: named },
    }
}

fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

fn age(object: &Value) -> Value {
    json!(since(&object["metadata"]["creationTimestamp"]))
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

fn named(object: &Value) -> Vec<Value> {
    vec![name(object), age(object)]
}

fn definition(object: &Value) -> Vec<Value> {
    vec![name(object), object["metadata"]["creationTimestamp"].clone()]
}

fn namespace(object: &Value) -> Vec<Value> {
    vec![name(object), object["status"]["phase"].clone(), age(object)]
}

fn config_map(object: &Value) -> Vec<Value> {
    let size = |field: &str| object[field].as_object().map_or(0, serde_json::Map::len);
    vec![name(object), json!(size("data") + size("binaryData")), age(object)]
}

fn secret(object: &Value) -> Vec<Value> {
    let size = object["data"].as_object().map_or(0, serde_json::Map::len);
    vec![name(object), object["type"].clone(), json!(size), age(object)]
}

fn lease(object: &Value) -> Vec<Value> {
    vec![name(object), object["spec"]["holderIdentity"].clone(), age(object)]
}

fn node(object: &Value) -> Vec<Value> {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.filter(|condition| condition["type"] == "Ready").any(|ready| ready["status"] == "True");
    let mut status = if ready { "Ready" } else { "NotReady" }.to_owned();
    if object["spec"]["unschedulable"] == json!(true) {
        status.push_str(",SchedulingDisabled");
    }
    vec![name(object), json!(status), object["status"]["nodeInfo"]["kubeletVersion"].clone(), age(object)]
}

fn pod(object: &Value) -> Vec<Value> {
    let statuses = object["status"]["containerStatuses"].as_array().map_or(&[][..], Vec::as_slice);
    let ready = statuses.iter().filter(|status| status["ready"] == json!(true)).count();
    let total = object["spec"]["containers"].as_array().map_or(0, Vec::len);
    let restarts: i64 = statuses.iter().map(|status| number(&status["restartCount"])).sum();
    let waiting = statuses.iter().find_map(|status| {
        ["waiting", "terminated"].iter().find_map(|state| status["state"][*state]["reason"].as_str())
    });
    let phase = object["status"]["reason"].as_str().unwrap_or_else(|| text(&object["status"]["phase"]));
    let status = if object["metadata"].get("deletionTimestamp").is_some() {
        "Terminating"
    } else {
        waiting.unwrap_or(phase)
    };
    vec![
        name(object),
        json!(format!("{ready}/{total}")),
        json!(status),
        json!(restarts.to_string()),
        age(object),
        or_none(text(&object["status"]["podIP"])),
        or_none(text(&object["spec"]["nodeName"])),
        or_none(text(&object["status"]["nominatedNodeName"])),
        json!("<none>"),
    ]
}

/// Containers, images and selector of a workload.
fn template_cells(object: &Value) -> [Value; 3] {
    let containers = object["spec"]["template"]["spec"]["containers"].as_array().map_or(&[][..], Vec::as_slice);
    let join = |field: &str| containers.iter().map(|each| text(&each[field])).collect::<Vec<_>>().join(",");
    [json!(join("name")), json!(join("image")), or_none(&labels(&object["spec"]["selector"]["matchLabels"]))]
}

fn labels(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    pairs.map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(",")
}

fn deployment(object: &Value) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let ready = format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"]));
    let [containers, images, selector] = template_cells(object);
    vec![
        name(object),
        json!(ready),
        json!(number(&status["updatedReplicas"]).to_string()),
        json!(number(&status["availableReplicas"]).to_string()),
        age(object),
        containers,
        images,
        selector,
    ]
}

fn replica_set(object: &Value) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [containers, images, selector] = template_cells(object);
    vec![
        name(object),
        json!(number(&spec["replicas"]).to_string()),
        json!(number(&status["replicas"]).to_string()),
        json!(number(&status["readyReplicas"]).to_string()),
        age(object),
        containers,
        images,
        selector,
    ]
}

/// Addresses of the load balancers in front of a Service.
fn load_balancers(object: &Value) -> Value {
    let ingress = object["status"]["loadBalancer"]["ingress"].as_array();
    let points = ingress.into_iter().flatten();
    let names: Vec<&str> =
        points.filter_map(|point| point["ip"].as_str().or(point["hostname"].as_str())).collect();
    if names.is_empty() { json!("<pending>") } else { json!(names.join(",")) }
}

fn service(object: &Value) -> Vec<Value> {
    let spec = &object["spec"];
    let ports: Vec<String> = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| match port["nodePort"].as_i64() {
            Some(node) => format!("{}:{node}/{}", port["port"], text(&port["protocol"])),
            None => format!("{}/{}", port["port"], text(&port["protocol"])),
        })
        .collect();
    let external = match text(&spec["type"]) {
        "ExternalName" => json!(text(&spec["externalName"])),
        "LoadBalancer" => load_balancers(object),
        _ => json!("<none>"),
    };
    vec![
        name(object),
        spec["type"].clone(),
        or_none(text(&spec["clusterIP"])),
        external,
        or_none(&ports.join(",")),
        age(object),
        or_none(&labels(&spec["selector"])),
    ]
}

fn autoscaler(object: &Value) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let reference = &spec["scaleTargetRef"];
    let metrics = spec["metrics"].as_array().map_or(&[][..], Vec::as_slice);
    let targets: Vec<String> =
        metrics.iter().enumerate().map(|(index, metric)| target(metric, status, index)).collect();
    vec![
        name(object),
        json!(format!("{}/{}", text(&reference["kind"]), text(&reference["name"]))),
        or_none(&targets.join(", ")),
        json!(number(&spec["minReplicas"]).to_string()),
        json!(number(&spec["maxReplicas"]).to_string()),
        json!(number(&status["currentReplicas"]).to_string()),
        age(object),
    ]
}

fn target(metric: &Value, status: &Value, index: usize) -> String {
    let resource = &metric["resource"];
    let current = &status["currentMetrics"][index]["resource"]["current"];
    let shown = |value: &Value, unit: &str| {
        value.as_i64().map_or_else(|| "<unknown>".to_owned(), |number| format!("{number}{unit}"))
    };
    match resource["target"]["averageUtilization"].as_i64() {
        Some(wanted) => {
            format!("{}: {}/{wanted}%", text(&resource["name"]), shown(&current["averageUtilization"], "%"))
        }
        None => format!("{}: <unknown>", text(&metric["type"]).to_lowercase()),
    }
}

fn event(object: &Value) -> Vec<Value> {
    // Both versions of events are printed the same.
    let either = |core: &str, new: &str| match object.get(core) {
        Some(value) => value.clone(),
        None => object[new].clone(),
    };
    let about = either("involvedObject", "regarding");
    let first = either("firstTimestamp", "deprecatedFirstTimestamp");
    let last = match either("lastTimestamp", "deprecatedLastTimestamp") {
        Value::Null => object["eventTime"].clone(),
        time => time,
    };
    let first = if first.is_null() { object["eventTime"].clone() } else { first };
    let source = text(&either("source", "deprecatedSource")["component"]).to_owned();
    let reporter = text(&either("reportingComponent", "reportingController")).to_owned();
    let count = either("count", "deprecatedCount").as_i64().unwrap_or(1);
    vec![
        json!(since(&last)),
        object["type"].clone(),
        object["reason"].clone(),
        json!(format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"]))),
        json!(text(&about["fieldPath"])),
        json!(if source.is_empty() { reporter } else { source }),
        json!(text(&either("message", "note")).trim()),
        json!(since(&first)),
        json!(count.to_string()),
        name(object),
    ]
}
