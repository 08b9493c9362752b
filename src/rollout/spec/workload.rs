//! `spec.workloadRef`: the template is another workload's.

use serde_json::{Value, json};

use super::SpecError;
use super::at::At;

/// A workload whose template a Rollout takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadRef {
    /// The Deployment.
    pub name: String,
    /// When its own pods go.
    pub scale_down: ScaleDown,
}

/// When the pods of a workload go that a Rollout has taken over from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleDown {
    /// Never: somebody else sees to it.
    Never,
    /// When the Rollout serves.
    OnSuccess,
    /// One by one, as those of the Rollout come.
    Progressively,
}

impl WorkloadRef {
    /// The Deployment that a Rollout's `spec` names, whatever else it says.
    pub fn named(spec: &Value) -> Option<&str> {
        let workload = &spec["workloadRef"];
        workload["name"].as_str().filter(|_| workload["kind"] == "Deployment")
    }

    /// A Rollout's `spec` with the template of the workload that it names.
    pub fn resolve(spec: &Value, workload: &Value) -> Value {
        let mut resolved = spec.clone();
        resolved["template"] = json!({
            "metadata": workload["spec"]["template"]["metadata"], "spec": workload["spec"]["template"]["spec"],
        });
        if resolved["selector"].is_null() {
            resolved["selector"] = workload["spec"]["selector"].clone();
        }
        resolved
    }

    pub(super) fn read(workload: &At<'_>) -> Result<Option<Self>, SpecError> {
        if workload.is_absent() {
            return Ok(None);
        }
        workload.object(&["apiVersion", "kind", "name", "scaleDown"], &[])?;
        let kind = workload.field("kind");
        if kind.value != "Deployment" {
            return kind.problem(format!(
                "Invalid value: {}: Serin takes the template of a Deployment so far",
                kind.value
            ));
        }
        let scale_down = workload.field("scaleDown");
        Ok(Some(Self {
            name: workload.field("name").text()?,
            scale_down: match scale_down.value.as_str() {
                None | Some("" | "never") => ScaleDown::Never,
                Some("onsuccess") => ScaleDown::OnSuccess,
                Some("progressively") => ScaleDown::Progressively,
                Some(other) => {
                    return scale_down.problem(format!(
                        "Invalid value: \"{other}\": must be never, onsuccess or progressively"
                    ));
                }
            },
        }))
    }
}

/// How many pods a workload is to have besides the Rollout that has taken over from it; `None`: as it has.
pub(crate) fn left(mode: ScaleDown, size: i32, serving: i32, is_done: bool, live: i32) -> Option<i32> {
    let left = match mode {
        ScaleDown::Never => return None,
        ScaleDown::OnSuccess => {
            if !is_done {
                return None;
            }
            0
        }
        ScaleDown::Progressively => (size - serving).max(0),
    };
    (left < live).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_of_a_workload_go_as_is_said_and_never_come_back() {
        let cases = [
            (ScaleDown::Never, 4, true, None),
            (ScaleDown::OnSuccess, 4, false, None),
            (ScaleDown::OnSuccess, 4, true, Some(0)),
            (ScaleDown::Progressively, 1, false, Some(3)),
            (ScaleDown::Progressively, 4, true, Some(0)),
            (ScaleDown::Progressively, 0, false, None),
        ];
        for (mode, serving, is_done, expected) in cases {
            assert_eq!(left(mode, 4, serving, is_done, 4), expected, "{mode:?}, {serving} serve");
        }
        assert_eq!(left(ScaleDown::Progressively, 4, 1, false, 2), None);
    }
}
