//! `serin get`: releases as a table, or one release as a tree.

mod around;
mod source;
mod table;
mod tree;
mod view;

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use clap::Args;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;
use kube::runtime::watcher;

use crate::api::Canary;
use crate::cluster::{self, Said, explain};

use super::connect::{ClusterArgs, Connection};
use super::exit::{CliError, Exit};
use super::output::{self, Format};

/// Clears the screen and goes to its top left corner, for a live display on a terminal.
const CLEAR_SCREEN: &str = "\u{1b}[H\u{1b}[2J";

/// Between two redraws of a live display, so that ages and pods move on although the Canary does not change.
const REDRAW: Duration = Duration::from_secs(2);

/// Arguments of `serin get`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  serin get -A                      every release\n  \
    serin get podinfo -n test         one release: weights, checks, what it waits for\n  \
    serin get podinfo -n test --watch the same, live\n  serin get -A -o json\n\n\
    Exit codes: 0 done, 1 the named release failed, 2 not found or bad usage, 3 the cluster cannot be reached.")]
pub struct GetArgs {
    /// Name of the Canary; all of them without it
    name: Option<String>,
    /// Namespace; the context's without it
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Every namespace
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "name"])]
    all_namespaces: bool,
    /// Go on showing changes
    #[arg(short, long)]
    watch: bool,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Prints what is asked for, once or until interrupted.
pub async fn run(args: GetArgs) -> anyhow::Result<u8> {
    let GetArgs { name, namespace, all_namespaces, watch, output, cluster } = args;
    let connection = cluster.connect().await?;
    let client = connection.client.clone();
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let api: Api<Canary> = if all_namespaces { Api::all(client) } else { Api::namespaced(client, &namespace) };
    let screen = Screen { connection, api, namespace, name, all_namespaces, output };
    let shown = screen.read().await?;
    if watch {
        return screen.follow(shown).await;
    }
    screen.print(&shown, false)?;
    Ok(shown.exit.code())
}

struct Screen {
    connection: Connection,
    api: Api<Canary>,
    namespace: String,
    name: Option<String>,
    all_namespaces: bool,
    output: Format,
}

/// What is on the screen, and what the verb exits with if this is the last of it.
struct Shown {
    text: String,
    exit: Exit,
    /// No release is shown.
    is_empty: bool,
}

impl Screen {
    async fn read(&self) -> anyhow::Result<Shown> {
        match &self.name {
            Some(name) => self.read_one(name).await,
            None => self.read_all().await,
        }
    }

    async fn read_all(&self) -> anyhow::Result<Shown> {
        let list = self.api.list(&ListParams::default()).await;
        let list = list.map_err(|error| self.connection.failed(error, "list Canaries"))?;
        let now = Timestamp::now();
        let sources = source::read(&self.connection.client, now).await;
        let text = match self.output {
            Format::Table => {
                let mut text = source::lines(&sources, None, now, output::colours());
                if !list.items.is_empty() {
                    text.push_str(&table::render(&list.items, self.all_namespaces, now));
                }
                text
            }
            Format::Json => {
                format!("{}\n", serde_json::to_string_pretty(&view::All::of(sources, &list.items))?)
            }
            Format::Yaml => serde_yaml::to_string(&view::All::of(sources, &list.items))?,
        };
        Ok(Shown { text, exit: Exit::Done, is_empty: list.items.is_empty() })
    }

    async fn read_one(&self, name: &str) -> anyhow::Result<Shown> {
        let subject = format!("Canary {}/{name}", self.namespace);
        let failed = |error, what: &str| self.connection.failed(error, &format!("read {what}{subject}"));
        let found = self.api.get_opt(name).await.map_err(|error| failed(error, ""))?;
        let canary = found.ok_or_else(|| {
            let missing = anyhow::anyhow!("{subject} does not exist");
            CliError::input(missing).hint("`serin get -A` lists all of them")
        })?;
        let target = &canary.spec.target_ref.name;
        let about = around::read(&self.connection.client, &self.namespace, target);
        let around = about.await.map_err(|error| failed(error, "what belongs to "))?;
        let now = Timestamp::now();
        let mut sources = source::read(&self.connection.client, now).await;
        let about = source::About { namespace: &self.namespace, canary: name, target };
        for source in &mut sources {
            source.status.objects.retain(|object| about.has(object));
        }
        let mut view = view::View::of(&canary);
        view.pending = around.pending();
        view.sources = sources;
        let text = match self.output {
            Format::Table => {
                let sides = tree::Sides { primary: around.primary.as_ref(), canary: around.target.as_ref() };
                let above = source::lines(&view.sources, Some(&about), now, output::colours());
                above + &tree::render(&view, &sides, now, output::colours())
            }
            Format::Json => format!("{}\n", serde_json::to_string_pretty(&view)?),
            Format::Yaml => serde_yaml::to_string(&view)?,
        };
        let exit = if view.phase == "Failed" { Exit::Failed } else { Exit::Done };
        Ok(Shown { text, exit, is_empty: false })
    }

    fn print(&self, shown: &Shown, live: bool) -> anyhow::Result<()> {
        if shown.is_empty && self.output == Format::Table {
            let place = match self.all_namespaces {
                true => "any namespace".to_owned(),
                false => format!("namespace {}; `serin get -A` looks in all of them", self.namespace),
            };
            output::message(&format!("no Canary in {place}"));
        }
        let clear = if live { CLEAR_SCREEN } else { "" };
        output::data(&format!("{clear}{}", shown.text))?;
        Ok(())
    }

    /// Prints again whenever it would look different, until the user interrupts.
    async fn follow(&self, mut shown: Shown) -> anyhow::Result<u8> {
        let live = stdout().is_terminal() && self.output == Format::Table;
        self.print(&shown, live)?;
        let config = match &self.name {
            Some(name) => watcher::Config::default().fields(&format!("metadata.name={name}")),
            None => watcher::Config::default(),
        };
        let mut changes = cluster::watch(self.api.clone(), config).boxed();
        let mut redraw = tokio::time::interval(REDRAW);
        let mut said = Said::default();
        loop {
            tokio::select! {
                change = changes.try_next() => match change {
                    Ok(Some(watcher::Event::Init | watcher::Event::InitApply(_))) => continue,
                    Ok(Some(_)) => {}
                    Ok(None) => return Ok(Exit::Done.code()),
                    // The watcher reconnects by itself, with backoff; the screen keeps what was true last.
                    Err(error) => {
                        tell(&mut said, &format!("watch interrupted, reconnecting: {}", explain(&error)));
                        continue;
                    }
                },
                _ = redraw.tick(), if live => {}
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    return Ok(Exit::Done.code());
                }
            }
            let now = match self.read().await {
                Ok(now) => now,
                Err(error) if unreachable(&error) => {
                    tell(&mut said, &format!("reconnecting: {}", explain(error.as_ref())));
                    continue;
                }
                Err(error) => return Err(error),
            };
            said.forget();
            if now.text != shown.text {
                self.print(&now, live)?;
                shown = now;
            }
        }
    }
}

/// Says something once, not at every try.
fn tell(said: &mut Said, text: &str) {
    if said.is_news(text) {
        output::message(text);
    }
}

/// Whether the cluster did not answer, which a watch sits out.
fn unreachable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<CliError>().is_some_and(|error| error.exit() == Exit::Unreachable)
}
