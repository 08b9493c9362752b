//! `serin logs`: what happened to one release, from its Events, oldest first; `--follow` goes on.

use clap::Args;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};

use crate::api::Canary;

use super::connect::{CanaryArgs, ClusterArgs};
use super::exit::{CliError, Exit};
use super::output::{self, Paint};

/// Events read at once; Kubernetes forgets them after an hour, as a rule.
const EVENTS_READ: u32 = 500;

/// Arguments of `serin logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  serin logs podinfo -n test\n  serin logs podinfo -n test --follow\n\n\
    Kubernetes keeps Events for an hour; what came before is on the status branch.\n\n\
    Exit codes: 0 done, 2 not found or bad usage, 3 the cluster cannot be reached.")]
pub struct LogsArgs {
    #[command(flatten)]
    canary: CanaryArgs,
    /// Go on until interrupted
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Prints what happened.
pub async fn run(args: LogsArgs) -> anyhow::Result<u8> {
    let LogsArgs { canary, follow, cluster } = args;
    let connection = cluster.connect().await?;
    let (namespace, name) = canary.place(&connection)?;
    let subject = format!("Canary {namespace}/{name}");
    let canaries: Api<Canary> = Api::namespaced(connection.client.clone(), &namespace);
    let found = canaries.get_opt(&name).await;
    let canary =
        found.map_err(|error| connection.failed(error, &format!("read {subject}")))?.ok_or_else(|| {
            let missing = anyhow::anyhow!("{subject} does not exist");
            CliError::input(missing).hint("`serin get -A` lists all of them")
        })?;
    let uid = canary.uid().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(connection.client.clone(), &namespace);
    let selector = format!("involvedObject.kind=Canary,involvedObject.name={name}");
    let listed = events.list(&ListParams::default().fields(&selector).limit(EVENTS_READ)).await;
    let listed = listed.map_err(|error| connection.failed(error, &format!("list the Events of {subject}")))?;
    let mut past: Vec<Event> = listed.items.into_iter().filter(|event| is_about(event, &uid)).collect();
    past.sort_by_key(at);
    let colours = output::colours();
    for event in &past {
        output::data(&line(event, colours))?;
    }
    if past.is_empty() {
        output::message(&format!("{subject} has no Events; the status branch has what was recorded"));
    }
    if !follow {
        return Ok(Exit::Done.code());
    }
    let mut seen: Vec<(String, Option<i32>)> = past.iter().map(mark).collect();
    let config = watcher::Config::default().fields(&selector);
    let mut changes = watcher(events, config).default_backoff().applied_objects().boxed();
    loop {
        tokio::select! {
            change = changes.try_next() => match change {
                Ok(Some(event)) if is_about(&event, &uid) && !seen.contains(&mark(&event)) => {
                    seen.push(mark(&event));
                    output::data(&line(&event, colours))?;
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Exit::Done.code()),
                // The watcher reconnects by itself, with backoff.
                Err(error) => tracing::debug!(%error, "the watch on Events is interrupted"),
            },
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Ok(Exit::Interrupted.code());
            }
        }
    }
}

/// An Event that came again is a new line.
fn mark(event: &Event) -> (String, Option<i32>) {
    (event.name_any(), event.count)
}

/// A Canary that was deleted and made again has Events of its own.
fn is_about(event: &Event, uid: &str) -> bool {
    event.involved_object.uid.as_deref().is_none_or(|about| about.is_empty() || about == uid)
}

fn at(event: &Event) -> Option<Timestamp> {
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    last.or_else(|| event.event_time.as_ref().map(|time| time.0))
}

fn line(event: &Event, colours: bool) -> String {
    let when = at(event).map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"));
    let times = event.count.filter(|count| *count > 1).map(|count| {
        let first = event.first_timestamp.as_ref().map(|time| format!(" since {:.0}", time.0)).unwrap_or_default();
        format!(" (x{count}{first})")
    });
    let times = times.unwrap_or_default();
    let text = format!("{when}  {}{times}\n", event.message.as_deref().unwrap_or_default());
    match event.type_.as_deref() {
        Some("Warning") => Paint::Yellow.apply(&text, colours),
        Some(_) | None => text,
    }
}
