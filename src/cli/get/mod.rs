//! `serin get`: releases as a table, or one release as a tree.

mod around;
mod source;
mod table;
mod tree;
mod view;
mod why;

use std::time::Duration;

use clap::Args;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;
use kube::runtime::watcher;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::Canary;
use crate::cluster::{self, Said, explain};

use super::connect::{CanaryArgs, ClusterArgs, Connection, place};
use super::exit::{CliError, Exit};
use super::output::{self, Format};
use super::screen::{self, Frame, Live, Row, Size};

pub(super) use table::age;

/// Values of a check that a live screen remembers.
const VALUES_KEPT: usize = 6;

/// Between two redraws of a live display, so that ages and pods move on although the Canary does not change.
const REDRAW: Duration = Duration::from_secs(2);

/// Arguments of `serin get`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  serin get -A                      every release\n  \
    serin get podinfo -n test         one release: weights, checks, what it waits for\n  \
    serin get podinfo -n test --watch the same, live\n  serin get -A -o json\n\n\
    Exit codes: 0 done, 1 the named release failed, 2 not found or bad usage, 3 the cluster cannot be reached.")]
pub struct GetArgs {
    /// Name of the Canary, or NAMESPACE/NAME; all of them without it
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

/// Arguments of `serin why`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  serin why podinfo -n test\n\nExit codes: 0 done, 2 not found or bad usage, 3 the cluster \
    cannot be reached."
)]
pub struct WhyArgs {
    #[command(flatten)]
    canary: CanaryArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Says why one release stands as it stands.
pub async fn why(args: WhyArgs) -> anyhow::Result<u8> {
    let WhyArgs { canary, cluster } = args;
    let connection = cluster.connect().await?;
    let (namespace, name) = canary.place(&connection)?;
    let now = Timestamp::now();
    let (view, around) = look(&connection, &namespace, &name, now).await?;
    output::data(&why::frame(&view, &around, now).render(screen::size().map(Size::endless), output::colours()))?;
    Ok(Exit::Done.code())
}

/// Why nobody would answer: no daemon works on any source. `None` where one does, or where that cannot be read.
pub(super) async fn nobody_works(client: &kube::Client) -> Option<String> {
    let sources = source::read(client, Timestamp::now()).await;
    let all = !sources.is_empty() && sources.iter().all(|source| source.not_running.is_some());
    sources.into_iter().find_map(|source| source.not_running).filter(|_| all)
}

/// One release with all that is known of it.
async fn look(
    connection: &Connection,
    namespace: &str,
    name: &str,
    now: Timestamp,
) -> anyhow::Result<(view::View, around::Around)> {
    let subject = format!("Canary {namespace}/{name}");
    let failed = |error, what: &str| connection.failed(error, &format!("read {what}{subject}"));
    let api: Api<Canary> = Api::namespaced(connection.client.clone(), namespace);
    let canary = api.get_opt(name).await.map_err(|error| failed(error, ""))?.ok_or_else(|| {
        let missing = anyhow::anyhow!("{subject} does not exist");
        CliError::input(missing).hint("`serin get -A` lists all of them")
    })?;
    let target = &canary.spec.target_ref.name;
    let around = around::read(&connection.client, namespace, target).await;
    let around = around.map_err(|error| failed(error, "what belongs to "))?;
    let mut sources = source::read(&connection.client, now).await;
    let about = source::About { namespace, canary: name, target };
    for source in &mut sources {
        source.status.objects.retain(|object| about.has(object));
    }
    let mut view = view::View::of(&canary, now);
    view.pending = around.pending();
    view.sources = sources;
    view.pods = around.troubles.clone();
    Ok((view, around))
}

/// Prints what is asked for, once or until interrupted.
pub async fn run(args: GetArgs) -> anyhow::Result<u8> {
    let GetArgs { name, namespace, all_namespaces, watch, output, cluster } = args;
    let connection = cluster.connect().await?;
    let client = connection.client.clone();
    let (namespace, name) = match name {
        Some(name) => {
            let (namespace, name) = place(name, namespace, &connection)?;
            (namespace, Some(name))
        }
        None => (namespace.unwrap_or_else(|| client.default_namespace().to_owned()), None),
    };
    let api: Api<Canary> = if all_namespaces { Api::all(client) } else { Api::namespaced(client, &namespace) };
    let mut screen = Screen { connection, api, namespace, name, all_namespaces, output, seen: Seen::default() };
    let size = screen::size().map(Size::endless);
    let shown = screen.read(size).await?;
    if watch {
        return screen.follow().await;
    }
    screen.say_if_empty(&shown);
    output::data(&shown.text)?;
    Ok(shown.exit.code())
}

struct Screen {
    connection: Connection,
    api: Api<Canary>,
    namespace: String,
    name: Option<String>,
    all_namespaces: bool,
    output: Format,
    seen: Seen,
}

/// What a live screen has seen of the checks.
#[derive(Default)]
struct Seen {
    /// Of which release and round the last values are.
    last: Option<(Option<String>, u32)>,
    values: tree::History,
}

impl Seen {
    /// Remembers the values of a round that has ended; those of another release are forgotten.
    fn look(&mut self, view: &view::View) {
        let now = (view.release.clone(), view.round);
        if self.last.as_ref() == Some(&now) {
            return;
        }
        if self.last.as_ref().is_none_or(|(release, _)| *release != now.0) {
            self.values.clear();
        }
        for check in &view.checks {
            let values = self.values.entry(check.name.clone()).or_default();
            values.extend(check.value);
            values.drain(..values.len().saturating_sub(VALUES_KEPT));
        }
        self.last = Some(now);
    }
}

/// What is on the screen, and what the verb exits with if this is the last of it.
struct Shown {
    text: String,
    exit: Exit,
    /// No release is shown.
    is_empty: bool,
}

impl Screen {
    async fn read(&mut self, size: Option<Size>) -> anyhow::Result<Shown> {
        match self.name.clone() {
            Some(name) => self.read_one(&name, size).await,
            None => self.read_all(size).await,
        }
    }

    async fn read_all(&self, size: Option<Size>) -> anyhow::Result<Shown> {
        let list = self.api.list(&ListParams::default()).await;
        let list = list.map_err(|error| self.connection.failed(error, "list Canaries"))?;
        let now = Timestamp::now();
        let sources = source::read(&self.connection.client, now).await;
        let text = match self.output {
            Format::Table => {
                let above = Frame { rows: source::rows(&sources, None, now), tail: Vec::new() };
                let mut text = above.render(size, output::colours());
                if !list.items.is_empty() {
                    let views: Vec<_> = list.items.iter().map(|canary| view::View::of(canary, now)).collect();
                    let columns = size.map(|size| size.columns);
                    text.push_str(&table::render(&views, self.all_namespaces, now, columns));
                }
                lines_that_fit(&text, size)
            }
            Format::Json => {
                format!("{}\n", serde_json::to_string_pretty(&view::All::of(sources, &list.items, now))?)
            }
            Format::Yaml => serde_yaml::to_string(&view::All::of(sources, &list.items, now))?,
        };
        Ok(Shown { text, exit: Exit::Done, is_empty: list.items.is_empty() })
    }

    async fn read_one(&mut self, name: &str, size: Option<Size>) -> anyhow::Result<Shown> {
        let now = Timestamp::now();
        let (view, around) = look(&self.connection, &self.namespace, name, now).await?;
        self.seen.look(&view);
        let text = match self.output {
            Format::Table => {
                let colours = output::colours();
                let mut frame = tree::frame(&view, &around, &self.seen.values, now, colours);
                let about = source::About { namespace: &self.namespace, canary: name, target: view.target_name() };
                frame.rows.splice(0..0, source::rows(&view.sources, Some(&about), now));
                frame.render(size, colours)
            }
            Format::Json => format!("{}\n", serde_json::to_string_pretty(&view)?),
            Format::Yaml => serde_yaml::to_string(&view)?,
        };
        let exit = if view.phase == "Failed" { Exit::Failed } else { Exit::Done };
        Ok(Shown { text, exit, is_empty: false })
    }

    fn say_if_empty(&self, shown: &Shown) {
        if shown.is_empty && self.output == Format::Table {
            let place = match self.all_namespaces {
                true => "any namespace".to_owned(),
                false => format!("namespace {}; `serin get -A` looks in all of them", self.namespace),
            };
            output::message(&format!("no Canary in {place}"));
        }
    }

    /// Shows it again whenever it would look different, until the user interrupts.
    async fn follow(&mut self) -> anyhow::Result<u8> {
        let mut live = match screen::size() {
            Some(_) if self.output == Format::Table => Some(Live::enter()?),
            Some(_) | None => None,
        };
        let config = match &self.name {
            Some(name) => watcher::Config::default().fields(&format!("metadata.name={name}")),
            None => watcher::Config::default(),
        };
        let mut changes = cluster::watch(self.api.clone(), config).boxed();
        let mut redraw = tokio::time::interval(REDRAW);
        let mut resized = signal(SignalKind::window_change())?;
        let (mut trouble, mut printed, mut said) = (String::new(), String::new(), Said::default());
        loop {
            match self.read(live.as_ref().and_then(|_| screen::size())).await {
                Ok(shown) => {
                    trouble.clear();
                    said.forget();
                    match &mut live {
                        Some(live) => live.draw(&shown.text)?,
                        None if shown.text != printed => {
                            self.say_if_empty(&shown);
                            output::data(&shown.text)?;
                        }
                        None => {}
                    }
                    printed = shown.text;
                }
                Err(error) if unreachable(&error) => {
                    trouble = format!("reconnecting: {}", explain(error.as_ref()))
                }
                Err(error) => return Err(error),
            }
            loop {
                if !trouble.is_empty() {
                    match &mut live {
                        Some(live) => live.draw(&format!("{}{printed}", note(&trouble)))?,
                        None => tell(&mut said, &trouble),
                    }
                }
                tokio::select! {
                    change = changes.try_next() => match change {
                        Ok(Some(watcher::Event::Init | watcher::Event::InitApply(_))) => continue,
                        Ok(Some(_)) => break,
                        Ok(None) => return Ok(Exit::Done.code()),
                        // The watcher reconnects by itself, with backoff; the screen keeps what was true last.
                        Err(error) => trouble = format!("watch interrupted, reconnecting: {}", explain(&error)),
                    },
                    _ = redraw.tick(), if live.is_some() => break,
                    _ = resized.recv(), if live.is_some() => break,
                    // Nothing else ends a watch: it is how it is done.
                    interrupted = tokio::signal::ctrl_c() => {
                        interrupted?;
                        return Ok(Exit::Done.code());
                    }
                }
            }
        }
    }
}

/// A message above a live screen, in one line.
fn note(text: &str) -> String {
    let columns = screen::size().map_or(usize::MAX, |size| size.columns);
    format!("{}\n", screen::cut(text, columns))
}

/// As many lines as there is room for.
fn lines_that_fit(text: &str, size: Option<Size>) -> String {
    let rows = text.lines().map(|line| Row { first: line.to_owned(), ..Row::default() }).collect();
    Frame { rows, tail: Vec::new() }.render(size.map(|size| Size { columns: usize::MAX, ..size }), false)
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
