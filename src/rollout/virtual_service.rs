//! The user's own VirtualService: the weights of two destinations in the routes that the Rollout names, and nothing else of it.
//!
//! A weight that is not there is 0. What is as it should be is not written, so an object that leads everybody to the stable
//! Service stays as it is, to the byte, until the first raise. Destinations of others keep their weights; their share is taken
//! from the stable side.

use serde_json::{Value, json};

use super::spec::Shifted;

/// What the routes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Percent that the canary Service gets; where routes differ, the most.
    pub candidate: u8,
    /// Whether all routes say just that.
    pub current: bool,
}

/// A route that cannot be shifted, in words that name the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spec.strategy.canary.trafficRouting.istio.virtualService: Invalid value: \"{name}\": {message}")]
pub struct RouteProblem {
    name: String,
    message: String,
}

/// The two destinations of one route, and where they stand.
struct Pair {
    route: usize,
    stable: usize,
    candidate: usize,
    weights: (i64, i64),
    others: i64,
}

/// Reads the live object.
///
/// # Errors
/// When it has not the routes, or they not the destinations, that the Rollout names.
pub fn read(virtual_service: &Value, shifted: &Shifted) -> Result<Shown, RouteProblem> {
    let pairs = pairs(virtual_service, shifted)?;
    let candidate = pairs.iter().map(|pair| pair.weights.1).max().unwrap_or(0).clamp(0, 100);
    let wanted = |pair: &Pair| (100 - candidate - pair.others, candidate);
    let current = pairs.iter().all(|pair| pair.weights == wanted(pair));
    Ok(Shown { candidate: u8::try_from(candidate).unwrap_or(100), current })
}

/// The JSON Patch that gives the canary Service this percentage; `None` if it has it.
///
/// # Errors
/// As [`read`], and when destinations of others do not leave as much.
pub fn shift(virtual_service: &Value, shifted: &Shifted, percent: u8) -> Result<Option<Value>, RouteProblem> {
    let mut patch = Vec::new();
    for pair in pairs(virtual_service, shifted)? {
        let candidate = i64::from(percent);
        let stable = 100 - candidate - pair.others;
        if stable < 0 {
            return problem(
                shifted,
                format!("other destinations have {} %, which leaves none for {percent} %", pair.others),
            );
        }
        let at = |index: usize| format!("/spec/http/{}/route/{index}/weight", pair.route);
        for (index, live, wanted) in
            [(pair.stable, pair.weights.0, stable), (pair.candidate, pair.weights.1, candidate)]
        {
            if live != wanted {
                patch.push(json!({"op": "add", "path": at(index), "value": wanted}));
            }
        }
    }
    if patch.is_empty() {
        return Ok(None);
    }
    let version = &virtual_service["metadata"]["resourceVersion"];
    let mut tested = vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})];
    tested.extend(patch);
    Ok(Some(Value::Array(tested)))
}

/// Gives what Git says of the object the weights that it has: they are the engine's.
pub fn keep(wanted: &mut Value, live: &Value, shifted: &Shifted) {
    let (Ok(ours), Ok(theirs)) = (pairs(wanted, shifted), pairs(live, shifted)) else { return };
    for (wants, has) in ours.iter().zip(theirs) {
        for (to, from) in [(wants.stable, has.stable), (wants.candidate, has.candidate)] {
            let at = |route: usize, index: usize| format!("/spec/http/{route}/route/{index}");
            let weight = live.pointer(&at(has.route, from)).map(|destination| destination["weight"].clone());
            let destination = wanted.pointer_mut(&at(wants.route, to)).and_then(Value::as_object_mut);
            if let (Some(weight), Some(destination)) = (weight.filter(|weight| !weight.is_null()), destination) {
                destination.insert("weight".to_owned(), weight);
            }
        }
    }
}

fn problem<T>(shifted: &Shifted, message: impl Into<String>) -> Result<T, RouteProblem> {
    Err(RouteProblem { name: shifted.virtual_service.clone(), message: message.into() })
}

fn pairs(virtual_service: &Value, shifted: &Shifted) -> Result<Vec<Pair>, RouteProblem> {
    let http = virtual_service["spec"]["http"].as_array().map(Vec::as_slice).unwrap_or_default();
    let chosen: Vec<usize> = if shifted.routes.is_empty() {
        match http {
            [_] => vec![0],
            [] => return problem(shifted, "it has no HTTP route"),
            _ => return problem(shifted, "it has several HTTP routes: name those to shift in `routes`"),
        }
    } else {
        let find = |name: &String| match http.iter().position(|route| route["name"] == name.as_str()) {
            Some(index) => Ok(index),
            None => problem(shifted, format!("HTTP Route '{name}' is not found in the defined Virtual Service.")),
        };
        shifted.routes.iter().map(find).collect::<Result<_, _>>()?
    };
    chosen.into_iter().map(|index| pair(index, &http[index], shifted)).collect()
}

fn pair(index: usize, route: &Value, shifted: &Shifted) -> Result<Pair, RouteProblem> {
    let destinations = route["route"].as_array().map(Vec::as_slice).unwrap_or_default();
    // As Argo Rollouts reads hosts: the first label is the Service's name.
    let host = |destination: &Value| {
        let host = destination["destination"]["host"].as_str().unwrap_or_default();
        host.split('.').next().unwrap_or_default().to_owned()
    };
    let find = |service: &str| match destinations.iter().position(|destination| host(destination) == service) {
        Some(at) => Ok(at),
        None => problem(shifted, format!("HTTP route {index} has no destination with the host \"{service}\"")),
    };
    let (stable, candidate) = (find(&shifted.stable_service)?, find(&shifted.canary_service)?);
    let weight = |at: usize| destinations[at]["weight"].as_i64().unwrap_or(0);
    let others = (0..destinations.len()).filter(|at| *at != stable && *at != candidate).map(weight).sum();
    Ok(Pair { route: index, stable, candidate, weights: (weight(stable), weight(candidate)), others })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(routes: &[&str]) -> Shifted {
        Shifted {
            stable_service: "stable".to_owned(),
            canary_service: "canary".to_owned(),
            virtual_service: "web".to_owned(),
            routes: routes.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn service(routes: Value) -> Value {
        json!({"metadata": {"resourceVersion": "7"}, "spec": {"http": routes}})
    }

    fn to(host: &str, weight: Option<i64>) -> Value {
        let destination = json!({"destination": {"host": host}});
        match weight {
            None => destination,
            Some(weight) => json!({"destination": {"host": host}, "weight": weight}),
        }
    }

    #[test]
    fn the_seeds_route_is_at_rest_and_not_written_until_the_first_raise() {
        let seed =
            service(json!([{"name": "primary", "route": [to("stable.ns.svc", Some(100)), to("canary", None)]}]));
        let named = canary(&["primary"]);
        assert_eq!(read(&seed, &named), Ok(Shown { candidate: 0, current: true }));
        assert_eq!(shift(&seed, &named, 0), Ok(None));
        let expected = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "add", "path": "/spec/http/0/route/0/weight", "value": 90},
            {"op": "add", "path": "/spec/http/0/route/1/weight", "value": 10},
        ]);
        assert_eq!(shift(&seed, &named, 10), Ok(Some(expected)));
    }

    #[test]
    fn others_keep_their_weight_and_unnamed_routes_are_left_alone() {
        let live = service(json!([
            {"name": "admin", "route": [to("admin", Some(100))]},
            {"name": "primary", "route": [to("stable", Some(75)), to("legacy", Some(5)), to("canary", Some(20))]},
        ]));
        let named = canary(&["primary"]);
        assert_eq!(read(&live, &named), Ok(Shown { candidate: 20, current: true }));
        let patch = shift(&live, &named, 40).unwrap().unwrap();
        assert_eq!(patch[1], json!({"op": "add", "path": "/spec/http/1/route/0/weight", "value": 55}));
        assert_eq!(patch.as_array().unwrap().len(), 3);
        assert!(shift(&live, &named, 96).is_err());
    }

    #[test]
    fn what_git_says_keeps_the_weights_that_are_shown() {
        let mut wanted = service(json!([
            {"name": "new", "route": [to("admin", None)]},
            {"name": "primary", "timeout": "3s", "route": [to("stable", Some(100)), to("canary", None)]},
        ]));
        let live =
            service(json!([{"name": "primary", "route": [to("canary", Some(30)), to("stable", Some(70))]}]));
        keep(&mut wanted, &live, &canary(&["primary"]));
        let route = &wanted["spec"]["http"][1];
        assert_eq!(route["route"], json!([to("stable", Some(70)), to("canary", Some(30))]));
        assert_eq!(route["timeout"], "3s");
        let before = wanted.clone();
        keep(&mut wanted, &service(json!([])), &canary(&["primary"]));
        assert_eq!(wanted, before);
    }

    #[test]
    fn what_cannot_be_shifted_is_named() {
        let one = service(json!([{"route": [to("stable", Some(100)), to("canary", Some(0))]}]));
        assert!(read(&one, &canary(&[])).is_ok());
        let said = |live: &Value, routes: &[&str]| read(live, &canary(routes)).unwrap_err().to_string();
        assert!(said(&one, &["primary"]).contains("HTTP Route 'primary' is not found"));
        assert!(said(&service(json!([{}, {}])), &[]).contains("several HTTP routes"));
        assert!(said(&service(json!([{"route": [to("stable", None)]}])), &[]).contains("\"canary\""));
        let bent = service(json!([{"route": [to("stable", Some(100)), to("canary", Some(30))]}]));
        assert_eq!(read(&bent, &canary(&[])), Ok(Shown { candidate: 30, current: false }));
    }
}
