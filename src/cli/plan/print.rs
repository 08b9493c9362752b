//! A plan as text, markdown and JSON.

use std::fmt::Write as _;
use std::sync::Arc;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::api::{Canary, CanaryAnalysis, TargetResult};
use crate::cli::output::{self, Paint};
use crate::sync::{Action, Content, Planned, PlannedRelease, Preview};
use crate::workload::Risk;

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// For a pull request.
    Markdown,
    /// For machines.
    Json,
}

/// Everything that is told.
pub(super) struct Plan {
    pub(super) reference: String,
    pub(super) content: Arc<Content>,
    pub(super) preview: Preview,
    pub(super) risks: Vec<Risk>,
}

/// Something beside the changes: what kind of thing, about what, in words.
struct Notice {
    kind: &'static str,
    about: Option<String>,
    words: String,
}

pub(super) fn render(plan: &Plan, format: Format) -> anyhow::Result<String> {
    Ok(match format {
        Format::Text => text(plan, output::colours()),
        Format::Markdown => markdown(plan),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&data(plan))?),
    })
}

fn title(plan: &Plan) -> String {
    format!("{}@{}", plan.reference, plan.content.commit.short())
}

fn summary(preview: &Preview) -> String {
    if preview.changes.is_empty() {
        return "nothing would change".to_owned();
    }
    let count = |action: Action| preview.changes.iter().filter(|planned| planned.action == action).count();
    let all = [Action::Release, Action::Create, Action::Configure, Action::Prune];
    let counted = all.into_iter().map(|action| (count(action), action)).filter(|(count, _)| *count > 0);
    counted.map(|(count, action)| format!("{count} to {}", action.as_str())).collect::<Vec<_>>().join(", ")
}

fn notices(plan: &Plan) -> Vec<Notice> {
    let status = &plan.preview.status;
    let of = |kind: &'static str, all: &std::collections::BTreeMap<crate::model::ObjectRef, String>| {
        let notice = |(id, words): (&crate::model::ObjectRef, &String)| Notice {
            kind,
            about: Some(id.to_string()),
            words: words.clone(),
        };
        all.iter().map(notice).collect::<Vec<_>>()
    };
    let mut notices = of("refused", &status.conditions);
    notices.extend(status.problems.iter().map(|words| Notice {
        kind: "problem",
        about: None,
        words: words.clone(),
    }));
    notices.extend(plan.risks.iter().map(|risk| Notice {
        kind: "risk",
        about: Some(risk.object.to_string()),
        words: risk.message.clone(),
    }));
    notices.extend(plan.preview.changes.iter().filter(|planned| is_removed_workload(planned)).map(|planned| {
        Notice {
            kind: "risk",
            about: Some(planned.id.to_string()),
            words: "a workload is removed, and what it serves with it".to_owned(),
        }
    }));
    notices.extend(of("waits", &status.waiting));
    notices.extend(of("stays", &status.kept));
    notices
}

fn is_removed_workload(planned: &Planned) -> bool {
    let kinds = ["Deployment", "StatefulSet", "DaemonSet", "CronJob"];
    planned.action == Action::Prune && kinds.contains(&planned.id.kind.as_str())
}

fn text(plan: &Plan, colours: bool) -> String {
    let mut out = format!("{}: {}\n", title(plan), summary(&plan.preview));
    for planned in &plan.preview.changes {
        let (sign, paint) = match planned.action {
            Action::Create => ("+", Paint::Green),
            Action::Configure => ("~", Paint::Yellow),
            Action::Release => (">", Paint::Bold),
            Action::Prune => ("-", Paint::Red),
        };
        let line = format!("{sign} {}: {}", planned.id, words(plan, planned));
        writeln!(out, "{}", paint.apply(&line, colours)).unwrap_or_default();
    }
    for Notice { kind, about, words } in notices(plan) {
        let about = about.map(|about| format!("{about}: ")).unwrap_or_default();
        writeln!(out, "! {kind}: {about}{}", words.trim_end()).unwrap_or_default();
    }
    out
}

fn markdown(plan: &Plan) -> String {
    let mut out = format!("### {}: {}\n", title(plan), summary(&plan.preview));
    if !plan.preview.changes.is_empty() {
        out.push_str("\n| | object | change |\n|---|---|---|\n");
    }
    for planned in &plan.preview.changes {
        let words = cell(&words(plan, planned));
        writeln!(out, "| {} | {} | {words} |", planned.action.as_str(), cell(&planned.id.to_string()))
            .unwrap_or_default();
    }
    let notices = notices(plan);
    if !notices.is_empty() {
        out.push('\n');
    }
    for Notice { kind, about, words } in notices {
        let about = about.map(|about| format!(" {}:", cell(&about))).unwrap_or_default();
        writeln!(out, "- **{kind}**{about} {}", cell(&words)).unwrap_or_default();
    }
    out
}

/// Text of others in a table: in one line, and nothing of it is markup.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '|' | '*' | '_' | '[' | ']' | '`' | '\\' | '#' | '@' | '!' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

fn data(plan: &Plan) -> Value {
    let changes: Vec<Value> = plan
        .preview
        .changes
        .iter()
        .map(|planned| {
            let release = planned.release.as_ref().map(|release| {
                json!({
                    "canary": release.canary.to_string(),
                    "revision": revision(release),
                    "reason": release.reason.as_str(),
                    "waits": matches!(release.result, TargetResult::Announced { .. }),
                    "strategy": strategy_of(plan, release),
                })
            });
            json!({"action": planned.action.as_str(), "object": planned.id, "change": planned.words,
                "origin": planned.origin, "release": release})
        })
        .collect();
    let notices: Vec<Value> = notices(plan)
        .into_iter()
        .map(|Notice { kind, about, words }| json!({"kind": kind, "object": about, "message": words}))
        .collect();
    json!({"ref": plan.reference, "commit": plan.content.commit, "changes": changes, "notices": notices})
}

fn revision(release: &PlannedRelease) -> Option<String> {
    match &release.result {
        TargetResult::Written { revision } | TargetResult::Announced { revision } => {
            Some(revision.digest.to_string())
        }
        TargetResult::Invalid { .. } => None,
    }
}

fn words(plan: &Plan, planned: &Planned) -> String {
    let Some(release) = &planned.release else { return planned.words.clone() };
    let strategy = strategy_of(plan, release).map(|words| format!(" by {words}")).unwrap_or_default();
    let waits = matches!(release.result, TargetResult::Announced { .. });
    let waits = if waits { ", after the release that is under way" } else { "" };
    format!("{} (new: {}){strategy}{waits}", planned.words, release.reason.as_str())
}

/// How a Canary of the commit releases, in words.
fn strategy_of(plan: &Plan, release: &PlannedRelease) -> Option<String> {
    let canaries = plan.content.documents.iter().map(|kept| kept.thaw().object);
    let mut canaries = canaries.filter(|object| object["kind"] == "Canary");
    let object = canaries.find(|object| {
        let metadata = &object["metadata"];
        metadata["name"] == release.canary.name.as_str()
            && metadata["namespace"].as_str().unwrap_or("default") == release.canary.namespace
    })?;
    let canary: Canary = serde_json::from_value(object).ok()?;
    Some(if canary.spec.skip_analysis {
        "promotion without analysis".to_owned()
    } else {
        strategy(&canary.spec.analysis)
    })
}

fn strategy(analysis: &CanaryAnalysis) -> String {
    let every = analysis.interval.as_deref().map(|interval| format!(", every {interval}")).unwrap_or_default();
    let weights = || analysis.weights().iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    match (analysis.iterations, analysis.match_.is_empty()) {
        (Some(rounds), false) => format!("A/B test, {rounds} rounds{every}"),
        (Some(rounds), true) => format!("blue/green, {rounds} rounds{every}"),
        (None, _) => format!("weights {} %{every}", weights()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_are_told_by_what_they_do() {
        let of = |fields: Value| strategy(&serde_json::from_value(fields).unwrap());
        assert_eq!(of(json!({"interval": "1m", "stepWeight": 25, "maxWeight": 50})), "weights 25, 50 %, every 1m");
        assert_eq!(of(json!({"interval": "1m", "iterations": 3})), "blue/green, 3 rounds, every 1m");
        let ab = json!({"interval": "5s", "iterations": 3, "match": [{"headers": {"x": {"exact": "y"}}}]});
        assert_eq!(of(ab), "A/B test, 3 rounds, every 5s");
    }

    #[test]
    fn nothing_of_others_is_markup() {
        assert_eq!(cell("a|b\n<script> `x` @team"), "a\\|b &lt;script&gt; \\`x\\` \\@team");
    }
}
