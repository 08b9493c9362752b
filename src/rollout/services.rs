//! A Rollout's two Services: each is pointed at the pods of one ReplicaSet by a key in its selector.

use serde_json::{Value, json};

use super::keys::{HASH, MANAGED_BY};
use super::sets::{SetView, Sides};

/// The hash that a live Service is pointed at.
pub fn pointed_at(service: &Value) -> Option<&str> {
    service["spec"]["selector"][HASH].as_str()
}

/// Where the stable Service is to lead; `None`: as it does.
pub fn stable(sides: &Sides) -> Option<String> {
    sides.stable.as_ref().map(|set| set.hash.clone())
}

/// Where the canary Service is to lead; `None`: as it does. What is to serve next gets it as soon as it has pods, but not while
/// users are on another revision by it; when that has been drained and is put away, it leads to what serves.
pub fn candidate(sides: &Sides, live: Option<&str>, exposes: bool) -> Option<String> {
    let led = live.and_then(|hash| sides.all().find(|set| set.hash == hash));
    if exposes && led.is_some_and(|set| set.available > 0) {
        return None;
    }
    let ready = sides.candidate().filter(|set| set.is_up() && set.available > 0);
    if let Some(ready) = ready {
        return Some(ready.hash.clone());
    }
    match led {
        Some(set) if set.is_up() => None,
        Some(_) | None => stable(sides),
    }
}

/// Where both Services are to lead where pods are the traffic: never to a side without any.
pub fn by_pods(sides: &Sides) -> [Option<String>; 2] {
    let hash = |set: &SetView| set.hash.clone();
    let stable = sides.stable.as_deref();
    let ready = sides.candidate().map(AsRef::as_ref).filter(|set| set.replicas > 0 && set.available > 0);
    let serving = stable.filter(|set| set.replicas > 0 || ready.is_none());
    [serving.or(ready).map(hash), ready.or(stable).map(hash)]
}

/// Where the active and the preview Service are to lead. The first leads where it was led, as long as that is one of the sides:
/// only a route leads users from one to the other.
pub fn blue_green(sides: &Sides, live: [Option<&str>; 2]) -> [Option<String>; 2] {
    let [active, preview] = live;
    let stays = sides.stable.iter().chain(sides.candidate()).find(|set| active == Some(set.hash.as_str()));
    let active = stays.or(sides.stable.as_ref()).map(|set| set.hash.clone());
    [active, candidate(sides, preview, false)]
}

/// The percentage that an active Service gives to what is to serve next; `None`: it leads to neither side.
pub fn shown(sides: &Sides, active: Option<&str>) -> Option<u8> {
    let leads_to = |set: Option<&SetView>| set.is_some_and(|set| active == Some(set.hash.as_str()));
    if leads_to(sides.stable.as_deref()) {
        return Some(0);
    }
    leads_to(sides.candidate().map(AsRef::as_ref)).then_some(100)
}

/// The merge patch that points a live Service; `None` if it is.
pub fn point(service: &Value, hash: &str, rollout: &str) -> Option<Value> {
    let metadata = &service["metadata"];
    let is_marked = metadata["annotations"][MANAGED_BY] == rollout;
    if pointed_at(service) == Some(hash) && is_marked {
        return None;
    }
    Some(json!({
        "metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": {MANAGED_BY: rollout}},
        "spec": {"selector": {HASH: hash}},
    }))
}

/// The merge patch that gives a Service back of a Rollout that is gone; `None` if it is not that one's.
pub fn release(service: &Value, rollout: &str) -> Option<Value> {
    let metadata = &service["metadata"];
    (metadata["annotations"][MANAGED_BY] == rollout).then(|| {
        json!({
            "metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": {MANAGED_BY: null}},
            "spec": {"selector": {HASH: null}},
        })
    })
}

/// Gives what Git says of a Service the key by which it is pointed: a selector is replaced whole by whoever applies it.
pub fn keep(wanted: &mut Value, live: &Value) {
    let Some(hash) = pointed_at(live) else { return };
    let is_pointed = live["metadata"]["annotations"][MANAGED_BY].is_string();
    let selector = wanted.pointer_mut("/spec/selector").and_then(Value::as_object_mut);
    if let (true, Some(selector)) = (is_pointed, selector) {
        selector.entry(HASH).or_insert_with(|| Value::from(hash));
    }
}

/// Why a Service cannot be pointed: `path` is the field that names it.
pub fn refuse(service: Option<&Value>, name: &str, path: &str, rollout: &str, template: &Value) -> Option<String> {
    let Some(service) = service else {
        return Some(format!("{path}: Invalid value: \"{name}\": service \"{name}\" not found"));
    };
    let managed = service["metadata"]["annotations"][MANAGED_BY].as_str().filter(|by| *by != rollout);
    if let Some(by) = managed {
        return Some(format!(
            "{path}: Invalid value: \"{name}\": Service \"{name}\" is managed by another Rollout, {by}"
        ));
    }
    let labels = &template["metadata"]["labels"];
    let selector = service["spec"]["selector"].as_object();
    let foreign =
        selector.into_iter().flatten().find(|(key, value)| *key != HASH && labels[key.as_str()] != **value);
    foreign.map(|(key, _)| {
        format!(
            "{path}: Invalid value: \"{name}\": Service \"{name}\" selects by {key}, which the pods do not have so"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::sets::SetView;
    use super::*;

    fn set(name: &str, replicas: i32, available: i32) -> Arc<SetView> {
        let value = json!({
            "metadata": {"name": name, "labels": {HASH: name}, "generation": 1},
            "spec": {"replicas": replicas, "template": {}},
            "status": {"availableReplicas": available, "replicas": replicas, "observedGeneration": 1},
        });
        Arc::new(SetView::of(&value).unwrap())
    }

    #[test]
    fn the_canary_service_follows_what_has_pods_and_never_leaves_its_users() {
        let sides = |replicas, available| Sides {
            stable: Some(set("old", 2, 2)),
            current: Some(set("new", replicas, available)),
            others: vec![set("between", 1, 1)],
        };
        let to = |hash: &str| Some(hash.to_owned());
        assert_eq!(candidate(&sides(1, 0), None, false), to("old"), "nothing is ready");
        assert_eq!(candidate(&sides(1, 0), Some("between"), false), None, "it is still up");
        assert_eq!(candidate(&sides(1, 1), Some("old"), false), to("new"));
        assert_eq!(candidate(&sides(1, 1), Some("between"), true), None, "its users are on it");
        assert_eq!(candidate(&sides(1, 1), Some("gone"), true), to("new"));
        assert_eq!(candidate(&sides(0, 0), Some("new"), false), to("old"));
    }

    #[test]
    fn a_service_is_pointed_once_and_given_back_by_its_own_rollout_only() {
        let service = json!({"metadata": {"resourceVersion": "1"}, "spec": {"selector": {"app": "a"}}});
        let patch = point(&service, "abc", "web").unwrap();
        assert_eq!(patch["spec"]["selector"], json!({HASH: "abc"}));
        let pointed = json!({
            "metadata": {"annotations": {MANAGED_BY: "web"}}, "spec": {"selector": {"app": "a", HASH: "abc"}}
        });
        assert_eq!(point(&pointed, "abc", "web"), None);
        let mut wanted = service.clone();
        keep(&mut wanted, &pointed);
        assert_eq!(wanted["spec"]["selector"], json!({"app": "a", HASH: "abc"}));
        keep(&mut wanted, &service);
        assert_eq!(release(&pointed, "other"), None);
        assert!(release(&pointed, "web").is_some());
        let template = json!({"metadata": {"labels": {"app": "a"}}});
        let refused = |service: Option<&Value>, rollout: &str| refuse(service, "s", "p", rollout, &template);
        assert_eq!(refused(Some(&pointed), "web"), None);
        assert!(refused(Some(&pointed), "other").unwrap().contains("managed by another Rollout, web"));
        assert!(refused(None, "web").unwrap().contains("service \"s\" not found"));
        let other = json!({"spec": {"selector": {"app": "b"}}});
        assert!(refused(Some(&other), "web").unwrap().contains("selects by app"));
    }
}
