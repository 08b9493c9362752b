//! `serin retry|promote|abort|pause|resume|release`: asks the daemon through an annotation on the Canary and waits for its answer.
//!
//! The cluster's own access rules decide who may ask: it is a patch of one Canary.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::api::Canary;
use crate::api::annotations::{MANAGER_CLI, REQUEST};
use crate::model::NamespacedName;
use crate::release::{Event, EventType, State, Verb, WaitingOn, wire};

use super::connect::{CanaryArgs, ClusterArgs, Connection, place};
use super::exit::{CliError, Exit};
use super::output;

/// Longest wait for the daemon's answer: it looks at a changed Canary at once, unless it is not there.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Time between two looks for the answer.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Arguments of the verbs that ask something of a release.
#[derive(Debug, Args)]
pub struct RequestArgs {
    #[command(flatten)]
    canary: CanaryArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// A Canary that was found.
pub(super) struct Found {
    /// `<namespace>/<name>`.
    pub(super) key: NamespacedName,
    pub(super) canary: Canary,
}

/// What the daemon answered.
pub(super) enum Answered {
    /// Yes, and the state that it leads to.
    Yes(Box<State>),
    /// No, and why.
    No(String),
}

/// Asks and prints the answer.
pub async fn run(verb: Verb, args: RequestArgs) -> anyhow::Result<u8> {
    let RequestArgs { canary, cluster } = args;
    let connection = cluster.connect().await?;
    let (namespace, name) = canary.place(&connection)?;
    let found = find(&connection, &name, Some(&namespace)).await?;
    let Found { key, canary } = &found;
    let subject = subject(verb, canary).map_err(|reason| {
        CliError::input(anyhow::anyhow!("Canary {key}: {reason}"))
            .hint(format!("`serin get {name} -n {}` shows what it does", key.namespace))
    })?;
    if let Some(done) = nothing_to_do(verb, canary) {
        output::data(&format!("{key}: {done}\n"))?;
        return Ok(Exit::Done.code());
    }
    match ask(&connection, &found, verb, &subject).await? {
        Answered::No(message) => {
            output::message(&message);
            Ok(Exit::Failed.code())
        }
        Answered::Yes(state) => {
            let next = what_happens_now(verb, &state, &subject, &format!("{name} -n {}", key.namespace));
            output::data(&format!("{key}: {next}\n"))?;
            Ok(Exit::Done.code())
        }
    }
}

/// Reads a Canary; in the context's namespace where none is named.
pub(super) async fn find(connection: &Connection, name: &str, namespace: Option<&str>) -> anyhow::Result<Found> {
    let (namespace, name) = place(name.to_owned(), namespace.map(str::to_owned), connection)?;
    let client = connection.client.clone();
    let api: Api<Canary> = Api::namespaced(client, &namespace);
    let read = format!("read Canary {namespace}/{name}");
    let canary = api.get_opt(&name).await.map_err(|error| connection.failed(error, &read))?;
    let canary = canary.ok_or_else(|| {
        let missing = anyhow::anyhow!("Canary {namespace}/{name} does not exist");
        CliError::input(missing).hint("`serin get -A` lists all of them")
    })?;
    Ok(Found { key: NamespacedName::new(namespace, name), canary })
}

/// Asks the daemon, and waits for its answer.
pub(super) async fn ask(
    connection: &Connection,
    found: &Found,
    verb: Verb,
    subject: &str,
) -> anyhow::Result<Answered> {
    let NamespacedName { namespace, name } = &found.key;
    if let Some(reason) = super::get::nobody_works(&connection.client).await {
        let silent = anyhow::anyhow!("the daemon is not running: {reason}");
        return Err(CliError::unreachable(silent)
            .hint("nothing was asked; start `serin run` and ask again")
            .into());
    }
    let raw = format!("{verb}/{subject}/{}", Timestamp::now().as_nanosecond());
    let patch = json!({"metadata": {"annotations": {REQUEST: raw}}});
    let params = PatchParams { field_manager: Some(MANAGER_CLI.to_owned()), ..PatchParams::default() };
    let api: Api<Canary> = Api::namespaced(connection.client.clone(), namespace);
    api.patch_metadata(name, &params, &Patch::Merge(&patch))
        .await
        .map_err(|error| connection.failed(error, &format!("patch Canary {namespace}/{name}")))?;
    let answer = tokio::time::timeout(ANSWER_MAX, answer(api, name, &raw, verb)).await.map_err(|_| {
        let silent = anyhow::anyhow!("no answer within {} s", ANSWER_MAX.as_secs());
        CliError::unreachable(silent).hint("is `serin run` up? It answers when it is; the request stays")
    })?;
    let (Event { kind, message }, state) = answer;
    Ok(if kind == EventType::Warning { Answered::No(message) } else { Answered::Yes(Box::new(state)) })
}

/// What is so already, and need not be asked for.
fn nothing_to_do(verb: Verb, canary: &Canary) -> Option<String> {
    let state = state_of(canary)?;
    let release = state.release()?;
    (verb == Verb::Pause && release.paused).then(|| format!("already paused at {} %", weight(&state)))
}

fn weight(state: &State) -> u8 {
    state.release().map_or(0, |release| release.routing.base.candidate())
}

/// What an accepted request leads to, and what comes next.
fn what_happens_now(verb: Verb, state: &State, subject: &str, named: &str) -> String {
    let at = weight(state);
    match verb {
        Verb::Pause => format!(
            "paused at {at} %; its checks go on and still roll it back. `serin resume {named}` lets it go on"
        ),
        Verb::Resume => format!("goes on at {at} %"),
        Verb::Quarantine => format!("{subject} is not released any more"),
        Verb::Release => format!("{subject} is released now; the record says that it did not wait"),
        Verb::Promote => "is promoted without the remaining steps".to_owned(),
        Verb::Abort => format!(
            "is rolled back: traffic goes to primary now, Git is put right then. `serin get {named}` shows both"
        ),
        Verb::Retry => match &state.waiting_on {
            Some(WaitingOn::Quarantine { revision, .. }) if revision.digest.short() != subject => {
                format!(
                    "{subject} may be released again, once Git names it; now it names {}",
                    revision.digest.short()
                )
            }
            _ if state.release().is_some() => format!("{subject} is released again"),
            _ => format!("{subject} may be released again: it is as soon as Git names it"),
        },
    }
}

/// The release or the revision that is meant: there is only one that can be.
fn subject(verb: Verb, canary: &Canary) -> Result<String, &'static str> {
    let state = state_of(canary).ok_or("the daemon has not seen it yet")?;
    match verb {
        // It names what it refuses.
        Verb::Quarantine => Err("name the revision"),
        Verb::Retry => {
            let newest = state.quarantine.last().ok_or("no revision of it has failed")?;
            Ok(newest.revision.digest.short().to_owned())
        }
        Verb::Release => {
            let held = state.held().ok_or("nothing waits for a release window or another environment")?;
            Ok(held.revision.digest.short().to_owned())
        }
        Verb::Promote | Verb::Abort | Verb::Pause | Verb::Resume => {
            let release = state.release().ok_or("nothing is being released")?;
            Ok(release.id.to_string())
        }
    }
}

pub(super) fn state_of(canary: &Canary) -> Option<State> {
    let serin = canary.status.as_ref()?.serin.as_ref()?;
    wire::read(serin.version, serin.state.clone()).ok().flatten()
}

/// Asks until the request is handled; the answer is the newest journal entry about it. Reading again and again needs no right
/// but the one to read this Canary; an API server that is away for a moment is asked again, too.
async fn answer(api: Api<Canary>, name: &str, raw: &str, verb: Verb) -> (Event, State) {
    let about = format!("Request to {verb} ");
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Ok(canary) = api.get(name).await else { continue };
        let Some(state) = state_of(&canary).filter(|state| state.handled_request.as_deref() == Some(raw)) else {
            continue;
        };
        let said = state.journal.iter().rev().map(|entry| &entry.event);
        let said = said.into_iter().find(|event| event.message.starts_with(&about)).cloned();
        return (said.unwrap_or_else(|| Event::normal(format!("Request to {verb} {name} handled"))), state);
    }
}
