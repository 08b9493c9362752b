//! `serin history`: finished releases and what they come to, from the record on the status branch alone. No cluster is asked.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;

use crate::config::{RunArgs, SourceArgs};
use crate::git::Store;
use crate::model::NamespacedName;
use crate::release::OutcomeKind;
use crate::report::history::{Spread, Stats, stats};
use crate::report::record::{FinishedRecord, Line, Record};

use super::exit::{CliError, Exit};
use super::output;

/// How far `--stats` looks back.
const YEAR: &str = "8760h";

/// Arguments of `serin history`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  serin history podinfo -n test --config serin.yaml\n  \
    serin history --stats --since 720h --cluster-name prod --git-url https://git.example.com/a.git\n\n\
    Exit codes: 0 done, 1 failed under way, 2 bad input, or nothing is recorded of it, 3 Git cannot be reached.")]
pub struct HistoryArgs {
    /// Name of the Canary; all without it
    name: Option<String>,
    /// Namespace of the Canary; all without it
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Deployment frequency, lead time, change failure rate and time to restore
    #[arg(long)]
    stats: bool,
    /// How far back, as 72h or 90m
    #[arg(long, value_name = "TIME", default_value = YEAR)]
    since: String,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    place: Place,
}

/// Where the record is.
#[derive(Debug, Args)]
struct Place {
    /// The daemon's settings file
    #[arg(long, value_name = "FILE", env = "SERIN_CONFIG")]
    config: Option<PathBuf>,
    /// Name of the cluster on the status branch
    #[arg(long, value_name = "NAME")]
    cluster_name: Option<String>,
    /// Repository: a path, https:// or ssh:// URL
    #[arg(long, value_name = "URL")]
    git_url: Option<String>,
}

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// A table for people
    #[default]
    Table,
    /// JSON
    Json,
}

/// One target's past.
struct Past {
    canary: NamespacedName,
    lines: Vec<Line>,
    told: Vec<FinishedRecord>,
}

/// Prints what the record has.
pub async fn run(args: HistoryArgs) -> anyhow::Result<u8> {
    let HistoryArgs { name, namespace, stats: figures, since, output: format, place } = args;
    let window: Duration = crate::api::duration::parse(&since)
        .map_err(|error| CliError::input(error).hint("write --since as in 720h"))?;
    let record = fetch(place).await?;
    let until = Timestamp::now();
    let since = until.checked_sub(window).unwrap_or(Timestamp::MIN);
    let wanted = |canary: &NamespacedName| {
        name.as_ref().is_none_or(|name| canary.name == *name)
            && namespace.as_ref().is_none_or(|namespace| canary.namespace == *namespace)
    };
    let past: Vec<Past> = record
        .targets
        .keys()
        .filter(|canary| wanted(canary))
        .map(|canary| Past { canary: canary.clone(), lines: record.lines(canary), told: record.history(canary) })
        .collect();
    if past.is_empty() {
        let nothing = anyhow::anyhow!("the record has nothing of {}", name.as_deref().unwrap_or("any target"));
        return Err(CliError::input(nothing).hint("`serin history` without a name shows all that it has").into());
    }
    let text = match (figures, format) {
        (true, Format::Table) => figures_table(&past, since, until),
        (true, Format::Json) => {
            pretty(&json!({"all": all_stats(&past, since, until), "targets": each_stats(&past, since, until)}))
        }
        (false, Format::Table) => table(&past, since),
        (false, Format::Json) => pretty(&entries(&past, since)),
    };
    output::data(&text)?;
    Ok(Exit::Done.code())
}

async fn fetch(place: Place) -> anyhow::Result<Record> {
    let Place { config, cluster_name, git_url } = place;
    let settings = RunArgs::from(SourceArgs { config, cluster_name, git_url, ..SourceArgs::default() });
    let settings = settings.settings().map_err(|error| {
        CliError::input(error).hint("name the daemon's settings file with --config, or give its flags")
    })?;
    // The daemon's own cache may be in use.
    let folder = tempfile::tempdir().context("failed to make a folder for the Git cache")?;
    let store = Store::open(folder.path().join("git")).context("failed to make a Git cache")?;
    let branch = &settings.git.status_branch;
    let record = Record::fetch(&store, &settings.git.remote, branch).await.map_err(CliError::unreachable)?;
    let missing = || anyhow::anyhow!("{} has no branch {}", settings.git.remote, branch.short());
    Ok(record.ok_or_else(|| CliError::input(missing()).hint("is `cluster.name` the one that the daemon has?"))?)
}

/// An entry of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    namespace: &'a str,
    name: &'a str,
    release: &'a str,
    outcome: OutcomeKind,
    started: Timestamp,
    ended: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    committed: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overrode: Option<&'a str>,
}

/// Newest first.
fn entries(past: &[Past], since: Timestamp) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> =
        past.iter().flat_map(|past| past.lines.iter().map(|line| entry(past, line))).collect();
    entries.retain(|entry| entry.ended >= since);
    entries.sort_by(|a, b| (b.ended, a.namespace, a.name).cmp(&(a.ended, b.namespace, b.name)));
    entries
}

fn entry<'a>(past: &'a Past, line: &'a Line) -> Entry<'a> {
    let told = past.told.iter().find(|told| told.release == line.release && told.started >= line.started);
    Entry {
        namespace: &past.canary.namespace,
        name: &past.canary.name,
        release: line.release.as_str(),
        outcome: line.outcome,
        started: line.started,
        ended: line.ended,
        commit: line.commit.as_ref().map(crate::model::CommitId::as_str),
        committed: line.committed,
        cause: told.and_then(|told| told.cause.as_deref()),
        overrode: told.and_then(|told| told.overrode.as_deref()),
    }
}

fn table(past: &[Past], since: Timestamp) -> String {
    let head = ["ENDED", "NAMESPACE", "NAME", "RESULT", "RELEASE", "COMMIT", "TOOK", "LEAD TIME", "WHY"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for entry in entries(past, since) {
        let lead = entry.committed.filter(|_| entry.outcome == OutcomeKind::Succeeded);
        rows.push(vec![
            format!("{:.0}", entry.ended),
            entry.namespace.to_owned(),
            entry.name.to_owned(),
            format!("{:?}", entry.outcome),
            entry.release.to_owned(),
            entry.commit.map_or("-", |commit| commit.get(..7).unwrap_or(commit)).to_owned(),
            words(entry.ended.duration_since(entry.started).as_secs()),
            lead.map_or_else(|| "-".to_owned(), |at| words(entry.ended.duration_since(at).as_secs())),
            output::tame(entry.cause.or(entry.overrode).unwrap_or_default()),
        ]);
    }
    output::columns(&rows)
}

fn all_stats(past: &[Past], since: Timestamp, until: Timestamp) -> Stats {
    let lines: Vec<Vec<Line>> = past.iter().map(|past| past.lines.clone()).collect();
    stats(&lines, since.max(oldest(past).unwrap_or(since)), until)
}

fn each_stats(past: &[Past], since: Timestamp, until: Timestamp) -> Vec<serde_json::Value> {
    let of = |past: &Past| {
        let stats = all_stats(std::slice::from_ref(past), since, until);
        json!({"namespace": past.canary.namespace, "name": past.canary.name, "stats": stats})
    };
    past.iter().filter(|past| !past.lines.is_empty()).map(of).collect()
}

/// The record does not reach further back.
fn oldest(past: &[Past]) -> Option<Timestamp> {
    past.iter().filter_map(|past| past.lines.first()).map(|line| line.ended).min()
}

fn figures_table(past: &[Past], since: Timestamp, until: Timestamp) -> String {
    let Stats {
        since,
        until,
        deployments,
        deployments_a_week,
        lead_time,
        failed,
        change_failure_rate,
        time_to_restore,
        time_to_next_deployment,
        superseded,
        refused,
    } = all_stats(past, since, until);
    let what = match past {
        [one] => one.canary.to_string(),
        more => format!("{} targets", more.len()),
    };
    let rate = change_failure_rate.map_or_else(
        || "-".to_owned(),
        |rate| format!("{:.1} % ({failed} of {})", rate * 100.0, failed + deployments),
    );
    let rows = [
        ("deployments", format!("{deployments}, {deployments_a_week:.1} a week")),
        ("lead time", spread(lead_time, "commit to all users")),
        ("change failure rate", rate),
        ("time to restore", spread(time_to_restore, "begin of a failed release to its end")),
        ("next deployment", spread(time_to_next_deployment, "after a failure")),
        ("superseded", superseded.to_string()),
        ("refused", format!("{refused} commits with a revision that had failed before")),
    ];
    let day = |at: Timestamp| at.strftime("%F").to_string();
    let head = format!("{what}, {} to {}\n\n", day(since), day(until));
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(label, text)| vec![label.to_owned(), text]).collect();
    head + &output::columns(&rows)
}

fn spread(spread: Option<Spread>, of_what: &str) -> String {
    let Some(Spread { of, median_seconds, p90_seconds, longest_seconds }) = spread else { return "-".to_owned() };
    let [median, p90, longest] = [median_seconds, p90_seconds, longest_seconds].map(words);
    format!("median {median}, 90 % within {p90}, longest {longest}; {of_what}, {of} measured")
}

/// Two units at most: `3d4h`, `12m`, `40s`.
fn words(seconds: i64) -> String {
    let seconds = SignedDuration::from_secs(seconds).as_secs().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |high: i64, unit: &str, low: i64, below: &str| {
        if low == 0 { format!("{high}{unit}") } else { format!("{high}{unit}{low}{below}") }
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => two(minutes, "m", seconds % 60, "s"),
        3600..86_400 => two(hours, "h", minutes, "m"),
        _ => two(days, "d", hours, "h"),
    }
}

fn pretty(value: &impl Serialize) -> String {
    // Plain data: there is no way in which this could fail.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}
