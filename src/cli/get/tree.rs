//! One release as a tree: both sides with their weights, checks against limits, what it waits for, what happened.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;

use crate::analysis::Verdict;
use crate::cli::output::Paint;
use crate::release::{CheckResult, EventType};

use super::table::{age, short_revision};
use super::view::View;

/// Events shown; the whole history is in `kubectl describe` and on the status branch.
const EVENTS_SHOWN: usize = 8;

/// The two workloads, as far as they exist.
pub(super) struct Sides<'a> {
    pub(super) primary: Option<&'a Deployment>,
    pub(super) canary: Option<&'a Deployment>,
}

/// The whole tree.
pub(super) fn render(view: &View, sides: &Sides<'_>, now: Timestamp, colours: bool) -> String {
    let mut out = format!(
        "{}  {}  {}\n",
        Paint::Bold.apply(&format!("{}/{}", view.namespace, view.name), colours),
        phase(&view.phase, colours),
        view.target
    );
    let mut lines: Vec<String> = vec![
        side("primary", 100 - view.weight, sides.primary, view.promoted.as_deref()),
        side("canary", view.weight, sides.canary, view.release.as_ref().and(view.revision.as_deref())),
    ];
    if let Some((step, of)) = view.step {
        let failed = format!("{} of {} failed checks", view.failed_checks, view.threshold);
        lines.push(format!("step      {step} of {of}   {failed}"));
    }
    lines.extend(view.checks.iter().map(|result| check(result, colours)));
    if let Some(cause) = &view.cause {
        lines.push(format!("failed    {}", Paint::Red.apply(cause, colours)));
    }
    if let Some(waiting) = &view.waiting_on {
        lines.push(format!("waits for {}", Paint::Yellow.apply(waiting, colours)));
    }
    if let Some(reason) = &view.blocked {
        lines.push(format!("blocked   {}", Paint::Yellow.apply(reason, colours)));
    }
    let skipped = view.events.len().saturating_sub(EVENTS_SHOWN);
    lines.extend(view.events.iter().skip(skipped).map(|entry| {
        let text = format!("{:>5}  {}", age(entry.at, now), entry.event.message);
        match entry.event.kind {
            EventType::Normal => Paint::Dim.apply(&text, colours),
            EventType::Warning => Paint::Yellow.apply(&text, colours),
        }
    }));
    let last = lines.len().saturating_sub(1);
    for (index, line) in lines.iter().enumerate() {
        let branch = if index == last { "└─" } else { "├─" };
        out.push_str(&format!("{branch} {line}\n"));
    }
    out
}

fn phase(phase: &str, colours: bool) -> String {
    match phase {
        "" => "not seen by the daemon yet".to_owned(),
        "Failed" => Paint::Red.apply(phase, colours),
        "Succeeded" | "Initialized" => Paint::Green.apply(phase, colours),
        other => Paint::Yellow.apply(other, colours),
    }
}

fn side(name: &str, weight: i64, deployment: Option<&Deployment>, revision: Option<&str>) -> String {
    let pods = deployment.map_or_else(
        || "does not exist".to_owned(),
        |deployment| {
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let status = deployment.status.as_ref();
            let available = status.and_then(|status| status.available_replicas).unwrap_or(0);
            format!("{available}/{wanted} pods")
        },
    );
    let image = deployment.and_then(image_tag).unwrap_or_default();
    let revision = revision.map(short_revision).unwrap_or_default();
    format!("{name:<9} {weight:>3} %  {pods}  {image}  {revision}").trim_end().to_owned()
}

fn image_tag(deployment: &Deployment) -> Option<String> {
    let container = deployment.spec.as_ref()?.template.spec.as_ref()?.containers.first()?;
    let image = container.image.as_ref()?;
    Some(image.rsplit('/').next().unwrap_or(image).to_owned())
}

fn check(result: &CheckResult, colours: bool) -> String {
    let CheckResult { name, verdict, value, limit } = result;
    let value = value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.2}"));
    let mark = match verdict {
        Verdict::Pass => Paint::Green.apply("✓", colours),
        Verdict::Fail => Paint::Red.apply("✗", colours),
        Verdict::NoData | Verdict::Error | Verdict::Inconclusive => Paint::Yellow.apply("?", colours),
    };
    format!("check     {mark} {name} {value} ({limit}) {}", verdict.as_str())
}
