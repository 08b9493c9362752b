//! `POST` to a pod's `eviction`: a deletion that a disruption budget may refuse.
//!
//! What a budget allows is counted from the pods that are there: no controller keeps its status here.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::super::body;
use super::super::call::{Call, Reply};
use super::super::json::text;
use super::super::selector::Selector;
use super::super::status::ApiError;
use super::delete;
use super::update::selector_text;

const BUDGETS: &str = "poddisruptionbudgets.policy";

/// Deletes the pod, unless its budget has nothing left.
pub(super) fn evict(call: &mut Call) -> Result<Reply, ApiError> {
    let eviction = body::parse(&call.content_type, &call.body)?.value;
    let pod = call.stored()?;
    let is_going = !pod["metadata"]["deletionTimestamp"].is_null() || has_ended(&pod);
    if !is_going {
        allow(call, &pod)?;
    }
    let options = &eviction["deleteOptions"];
    let options = if options.is_null() { Vec::new() } else { options.to_string().into_bytes() };
    (call.body, call.content_type) = (Bytes::from(options), "application/json".to_owned());
    delete::delete(call)?;
    Ok(Reply::Document(
        StatusCode::CREATED,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

fn allow(call: &Call, pod: &Value) -> Result<(), ApiError> {
    let budgets = call.server.store.list(BUDGETS, Some(call.namespace())).objects;
    let mut of_pod = Vec::new();
    for (key, budget) in &budgets {
        if selects(call, budget, pod)? {
            of_pod.push((&key.name, budget));
        }
    }
    let (name, budget) = match of_pod[..] {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(ApiError::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let counts = Counts::of(call, budget)?;
    let is_spare = match (is_ready(pod), budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow") {
        (false, true) => true,
        (false, false) => counts.desired > 0 && counts.healthy >= counts.desired,
        (true, _) => false,
    };
    if is_spare || counts.healthy > counts.desired {
        return Ok(());
    }
    Err(ApiError::disrupts(name, counts.desired, counts.healthy))
}

/// What a budget is about.
struct Counts {
    healthy: i64,
    /// The least that have to be.
    desired: i64,
}

impl Counts {
    fn of(call: &Call, budget: &Value) -> Result<Self, ApiError> {
        let (mut all, mut healthy) = (0, 0);
        for (_, pod) in &call.server.store.list("pods", Some(call.namespace())).objects {
            if !has_ended(pod) && selects(call, budget, pod)? {
                all += 1;
                healthy += i64::from(is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null());
            }
        }
        let spec = &budget["spec"];
        let desired = match (share(&spec["minAvailable"], all), share(&spec["maxUnavailable"], all)) {
            (Some(least), _) => least,
            (None, Some(most)) => all - most,
            (None, None) => 0,
        };
        Ok(Self { healthy, desired: desired.max(0) })
    }
}

/// A count, or percent of all, rounded up.
fn share(value: &Value, all: i64) -> Option<i64> {
    let percent = |text: &str| text.strip_suffix('%')?.parse::<i64>().ok();
    value.as_i64().or_else(|| Some((percent(value.as_str()?)? * all + 99) / 100))
}

/// No selector selects nothing, an empty one everything.
fn selects(call: &Call, budget: &Value, pod: &Value) -> Result<bool, ApiError> {
    let selector = &budget["spec"]["selector"];
    if selector.is_null() {
        return Ok(false);
    }
    Ok(Selector::parse(&call.resource, &selector_text(selector), "")?.matches(pod))
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn has_ended(pod: &Value) -> bool {
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_count_or_percent_rounded_up() {
        for (value, expected) in
            [(json!(2), Some(2)), (json!("50%"), Some(2)), (json!("100%"), Some(3)), (json!("x"), None)]
        {
            assert_eq!(share(&value, 3), expected, "{value}");
        }
    }
}
