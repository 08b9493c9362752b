//! The screens of Argo Rollouts' plugin, to the column. PURE.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::super::get::age;
use crate::rollout::keys::{DEADLINE, HASH, REVISION};

/// What a screen is made of.
pub(super) struct Shown {
    /// The Rollout.
    pub(super) rollout: Value,
    /// Its ReplicaSets.
    pub(super) sets: Vec<Value>,
    /// Pods of its namespace.
    pub(super) pods: Vec<Value>,
    /// Its AnalysisRuns.
    pub(super) runs: Vec<Value>,
}

/// Blanks between two columns.
const GAP: usize = 2;

/// Whether `owner` controls an object.
pub(super) fn is_owned(object: &Value, owner: &Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let uid = &owner["metadata"]["uid"];
    owners.into_iter().any(|reference| reference["controller"] == true && reference["uid"] == *uid)
}

/// Phase and message. What the controller has not seen yet it has said nothing about.
pub(super) fn phase(rollout: &Value) -> (String, String) {
    let status = &rollout["status"];
    let generation = rollout["metadata"]["generation"].as_i64().unwrap_or(0).to_string();
    let progressing = |message: &str| ("Progressing".to_owned(), message.to_owned());
    if status["observedGeneration"].as_str() != Some(generation.as_str()) {
        return progressing("waiting for rollout spec update to be observed");
    }
    let is_released = status["pauseConditions"].as_array().is_none_or(Vec::is_empty);
    if status["controllerPause"] == true && is_released {
        return progressing("waiting for rollout to unpause");
    }
    (text(&status["phase"]).to_owned(), text(&status["message"]).to_owned())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn icon(phase: &str) -> &'static str {
    match phase {
        "Healthy" | "Running" | "Completed" | "Successful" => "✔",
        "Progressing" | "Pending" | "Terminating" | "ContainerCreating" => "◌",
        "Paused" => "॥",
        "ScaledDown" => "•",
        "Unknown" | "Inconclusive" => "?",
        "Degraded" | "Failed" | "ReplicaFailure" | "InvalidImageName" | "CrashLoopBackOff" => "✖",
        "ImagePullBackOff" | "RegistryUnavailable" => "⚠",
        other if other.starts_with("Init:") => "◌",
        other if other.starts_with("Signal:") || other.starts_with("ExitCode:") => "✖",
        other if other.starts_with("Err") || other.ends_with("Error") => "⚠",
        _ => " ",
    }
}

/// Steps done, of how many; `None` without steps or for a Rollout that is not carried out.
fn steps(rollout: &Value) -> Option<(i64, usize)> {
    let steps = rollout["spec"]["strategy"]["canary"]["steps"].as_array().filter(|steps| !steps.is_empty())?;
    let at = rollout["status"]["currentStepIndex"].as_i64()?;
    Some((at, steps.len()))
}

/// The weight that the steps have come to.
fn set_weight(rollout: &Value) -> i64 {
    const ALL: i64 = 100;
    if rollout["status"]["abort"] == true {
        return 0;
    }
    let steps = rollout["spec"]["strategy"]["canary"]["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let at = usize::try_from(count(&rollout["status"]["currentStepIndex"])).unwrap_or(0);
    if at >= steps.len() {
        return ALL;
    }
    let passed = steps.get(..=at).unwrap_or_default();
    passed.iter().rev().find_map(|step| step["setWeight"].as_i64()).unwrap_or(0)
}

fn actual_weight(rollout: &Value) -> i64 {
    match steps(rollout) {
        Some((at, of)) if usize::try_from(at).is_ok_and(|at| at >= of) => 100,
        Some(_) | None => count(&rollout["status"]["canary"]["weights"]["canary"]["weight"]),
    }
}

fn hash_of(set: &Value) -> &str {
    text(&set["metadata"]["labels"][HASH])
}

/// What a set is: `stable`, `canary`, or nothing any more.
fn role(rollout: &Value, set: &Value) -> Option<&'static str> {
    let status = &rollout["status"];
    let hash = hash_of(set);
    if status["stableRS"] == hash {
        Some("stable")
    } else {
        (status["currentPodHash"] == hash).then_some("canary")
    }
}

/// The whole screen.
pub(super) fn render(shown: &Shown, now: Timestamp) -> String {
    let Shown { rollout, sets, .. } = shown;
    let (metadata, status) = (&rollout["metadata"], &rollout["status"]);
    let (phase, message) = phase(rollout);
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |label: &str, value: String| rows.push((label.to_owned(), value));
    row("Name:", text(&metadata["name"]).to_owned());
    row("Namespace:", text(&metadata["namespace"]).to_owned());
    row("Status:", format!("{} {phase}", icon(&phase)));
    if !message.is_empty() {
        row("Message:", message);
    }
    row("Strategy:", strategy(rollout).to_owned());
    if strategy(rollout) == "Canary" {
        row("  Step:", steps(rollout).map(|(at, of)| format!("{at}/{of}")).unwrap_or_default());
        row("  SetWeight:", set_weight(rollout).to_string());
        row("  ActualWeight:", actual_weight(rollout).to_string());
    }
    for (index, image) in images(rollout, sets).into_iter().enumerate() {
        row(if index == 0 { "Images:" } else { "" }, image);
    }
    row("Replicas:", String::new());
    for (label, value) in [
        ("  Desired:", rollout["spec"]["replicas"].as_i64().unwrap_or(1)),
        ("  Current:", count(&status["replicas"])),
        ("  Updated:", count(&status["updatedReplicas"])),
        ("  Ready:", count(&status["readyReplicas"])),
        ("  Available:", count(&status["availableReplicas"])),
    ] {
        row(label, value.to_string());
    }
    let head: String = rows.into_iter().map(|(label, value)| format!("{label:<17}{value}\n")).collect();
    format!("{head}\n{}", table(shown, &phase_of(rollout), now))
}

fn phase_of(rollout: &Value) -> String {
    phase(rollout).0
}

fn strategy(rollout: &Value) -> &'static str {
    if rollout["spec"]["strategy"]["blueGreen"].is_object() { "BlueGreen" } else { "Canary" }
}

/// Images that run, each with the sides that it is on.
fn images(rollout: &Value, sets: &[Value]) -> Vec<String> {
    let mut images: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for set in sets.iter().filter(|set| count(&set["spec"]["replicas"]) > 0) {
        let containers = set["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten();
        for container in containers {
            let sides = images.entry(text(&container["image"])).or_default();
            sides.extend(role(rollout, set).filter(|role| !sides.contains(role)));
        }
    }
    let said = |(image, sides): (&str, Vec<&str>)| match sides.is_empty() {
        true => image.to_owned(),
        false => format!("{image} ({})", sides.join(", ")),
    };
    images.into_iter().map(said).collect()
}

/// Name, kind, status, age and more.
type Cells = [String; 5];

fn table(shown: &Shown, phase: &str, now: Timestamp) -> String {
    let Shown { rollout, sets, pods, runs } = shown;
    let mut rows: Vec<Cells> = vec![["NAME", "KIND", "STATUS", "AGE", "INFO"].map(str::to_owned)];
    let name = text(&rollout["metadata"]["name"]);
    let status = format!("{} {phase}", icon(phase));
    rows.push([format!("⟳ {name}"), "Rollout".to_owned(), status, age_of(rollout, now), String::new()]);
    let mut revisions: BTreeMap<u64, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    let number = |object: &Value| text(&object["metadata"]["annotations"][REVISION]).parse().unwrap_or(0);
    for set in sets {
        revisions.entry(number(set)).or_default().0.push(set);
    }
    for run in runs {
        revisions.entry(number(run)).or_default().1.push(run);
    }
    let last = revisions.keys().next().copied();
    for (number, (sets, runs)) in revisions.iter().rev() {
        let is_last = Some(*number) == last;
        let title = format!("{}# revision:{number}", branch(is_last));
        rows.push([title, String::new(), String::new(), String::new(), String::new()]);
        for (index, set) in sets.iter().enumerate() {
            let is_last_set = index + 1 == sets.len() && runs.is_empty();
            rows.push(set_row(rollout, set, &format!("{}{}", below(is_last), branch(is_last_set)), now));
            let mut own: Vec<&Value> = pods.iter().filter(|pod| is_owned(pod, set)).collect();
            own.sort_by_key(|pod| text(&pod["metadata"]["name"]));
            for (index, pod) in own.iter().enumerate() {
                let prefix = format!("{}{}{}", below(is_last), below(is_last_set), branch(index + 1 == own.len()));
                rows.push(pod_row(pod, &prefix, now));
            }
        }
        for (index, run) in runs.iter().enumerate() {
            let is_last_run = index + 1 == runs.len();
            rows.push(run_row(run, &format!("{}{}", below(is_last), branch(is_last_run)), now));
            let jobs: Vec<(&str, &Value)> = jobs(run).collect();
            for (index, (name, measurement)) in jobs.iter().enumerate() {
                let prefix =
                    format!("{}{}{}", below(is_last), below(is_last_run), branch(index + 1 == jobs.len()));
                rows.push(job_row(name, measurement, &prefix, now));
            }
        }
    }
    layout(&rows)
}

/// An AnalysisRun with how many of its measurements came to what.
fn run_row(run: &Value, prefix: &str, now: Timestamp) -> Cells {
    let results = || run["status"]["metricResults"].as_array().into_iter().flatten();
    let sum = |field: &str| results().map(|result| count(&result[field])).sum::<i64>();
    let counts = [("✔", "successful"), ("✖", "failed"), ("?", "inconclusive"), ("⚠", "error")];
    let counted = counts.map(|(icon, field)| (icon, sum(field))).into_iter().filter(|(_, count)| *count > 0);
    let info: Vec<String> = counted.map(|(icon, count)| format!("{icon} {count}")).collect();
    let status = &run["status"];
    let phase = text(&status["phase"]);
    [
        format!("{prefix}α {}", text(&run["metadata"]["name"])),
        "AnalysisRun".to_owned(),
        format!("{} {phase}", analysis_icon(phase)),
        age_of(run, now),
        info.join(","),
    ]
}

/// The Jobs that measured for a run.
fn jobs(run: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let results = run["status"]["metricResults"].as_array().into_iter().flatten();
    let measurements = results.filter_map(|result| result["measurements"].as_array()).flatten();
    measurements.filter_map(|measurement| Some((measurement["metadata"]["job-name"].as_str()?, measurement)))
}

fn job_row(name: &str, measurement: &Value, prefix: &str, now: Timestamp) -> Cells {
    let phase = text(&measurement["phase"]);
    let since = text(&measurement["startedAt"]).parse().map(|since| age(since, now)).unwrap_or_default();
    [
        format!("{prefix}⊞ {name}"),
        "Job".to_owned(),
        format!("{} {phase}", analysis_icon(phase)),
        since,
        String::new(),
    ]
}

fn analysis_icon(phase: &str) -> &'static str {
    match phase {
        "Pending" => "◷",
        "Running" => "◌",
        other => icon(other),
    }
}

fn branch(is_last: bool) -> &'static str {
    if is_last { "└──" } else { "├──" }
}

fn below(is_last: bool) -> &'static str {
    if is_last { "   " } else { "│  " }
}

fn age_of(object: &Value, now: Timestamp) -> String {
    text(&object["metadata"]["creationTimestamp"]).parse().map(|since| age(since, now)).unwrap_or_default()
}

fn set_row(rollout: &Value, set: &Value, prefix: &str, now: Timestamp) -> Cells {
    let status = set_status(set);
    let mut info: Vec<String> = role(rollout, set).map(str::to_owned).into_iter().collect();
    let deadline = text(&set["metadata"]["annotations"][DEADLINE]).parse::<Timestamp>().ok();
    if let Some(deadline) = deadline.filter(|_| count(&set["spec"]["replicas"]) > 0) {
        info.push(match deadline > now {
            true => format!("delay:{}", age(now, deadline)),
            false => "delay:passed".to_owned(),
        });
    }
    [
        format!("{prefix}⧉ {}", text(&set["metadata"]["name"])),
        "ReplicaSet".to_owned(),
        format!("{} {status}", icon(status)),
        age_of(set, now),
        info.join(","),
    ]
}

fn set_status(set: &Value) -> &'static str {
    let (spec, status) = (&set["spec"], &set["status"]);
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    if conditions.any(|found| found["type"] == "ReplicaFailure" && found["status"] == "True") {
        return "ReplicaFailure";
    }
    let desired = count(&spec["replicas"]);
    match (desired, count(&status["availableReplicas"])) {
        (0, _) => "ScaledDown",
        (desired, available) if available >= desired => "Healthy",
        _ => "Progressing",
    }
}

fn pod_row(pod: &Value, prefix: &str, now: Timestamp) -> Cells {
    let containers = || pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let all = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let ready = containers().filter(|container| container["ready"] == true).count();
    let restarts: i64 = containers().map(|container| count(&container["restartCount"])).sum();
    let status = pod_status(pod);
    let mut info = format!("ready:{ready}/{all}");
    if restarts > 0 {
        info.push_str(&format!(",restarts:{restarts}"));
    }
    [
        format!("{prefix}□ {}", text(&pod["metadata"]["name"])),
        "Pod".to_owned(),
        format!("{} {status}", icon(&status)),
        age_of(pod, now),
        info,
    ]
}

/// As `kubectl get pods` says it.
fn pod_status(pod: &Value) -> String {
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating".to_owned();
    }
    let status = &pod["status"];
    let reason = |container: &Value| {
        let (waiting, ended) = (&container["state"]["waiting"], &container["state"]["terminated"]);
        let named = waiting["reason"].as_str().or(ended["reason"].as_str()).map(str::to_owned);
        named.or_else(|| ended["exitCode"].as_i64().map(|code| format!("ExitCode:{code}")))
    };
    let inits = status["initContainerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_done =
        |container: &Value| container["state"]["terminated"]["exitCode"] == 0 || container["started"] == true;
    if let Some(at) = inits.iter().position(|container| !is_done(container)) {
        let usual = |reason: &String| reason == "PodInitializing";
        return match reason(&inits[at]).filter(|reason| !usual(reason)) {
            Some(reason) => format!("Init:{reason}"),
            None => format!("Init:{at}/{}", inits.len()),
        };
    }
    let containers = status["containerStatuses"].as_array().into_iter().flatten();
    let said = containers.into_iter().rev().find_map(reason);
    said.or_else(|| status["reason"].as_str().map(str::to_owned))
        .unwrap_or_else(|| text(&status["phase"]).to_owned())
}

/// Every cell but a row's last is padded to its column.
fn layout(rows: &[Cells]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + GAP;
    let widths: Vec<usize> = (0..4).map(width).collect();
    let line = |row: &Cells| {
        let padded: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{padded}{}\n", row[4])
    };
    rows.iter().map(line).collect()
}

/// `list rollouts`.
pub(super) fn list(rollouts: &[Value], all_namespaces: bool) -> String {
    let mut titles: Vec<String> =
        ["NAME", "STRATEGY", "STATUS", "STEP", "SET-WEIGHT", "READY", "DESIRED", "UP-TO-DATE", "AVAILABLE"]
            .map(str::to_owned)
            .into();
    if all_namespaces {
        titles.insert(0, "NAMESPACE".to_owned());
    }
    let mut rows = vec![titles];
    for rollout in rollouts {
        let (metadata, status) = (&rollout["metadata"], &rollout["status"]);
        let desired = rollout["spec"]["replicas"].as_i64().unwrap_or(1);
        let ready = count(&status["readyReplicas"]);
        let mut row = vec![
            text(&metadata["name"]).to_owned(),
            strategy(rollout).to_owned(),
            phase_of(rollout),
            steps(rollout).map_or_else(|| "-".to_owned(), |(at, of)| format!("{at}/{of}")),
            set_weight(rollout).to_string(),
            format!("{ready}/{}", count(&status["replicas"])),
            desired.to_string(),
            count(&status["updatedReplicas"]).to_string(),
            count(&status["availableReplicas"]).to_string(),
        ];
        if all_namespaces {
            row.insert(0, text(&metadata["namespace"]).to_owned());
        }
        rows.push(row);
    }
    crate::cli::output::columns(&rows)
}

#[cfg(test)]
mod tests;
