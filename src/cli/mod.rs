//! One file per verb; `cli/run.rs` alone wires the rooms together.

pub mod check;
pub mod completions;
pub mod connect;
pub mod crds;
#[cfg(feature = "sandbox")]
pub mod demo;
#[cfg(test)]
mod documented;
pub mod exit;
mod gauges;
pub mod get;
mod hey;
pub mod history;
mod install;
pub mod loadtest;
pub mod logs;
pub mod output;
pub mod plan;
pub mod prune;
mod pulse;
pub mod quarantine;
mod records;
pub mod reload;
pub mod request;
pub mod rollouts;
pub mod run;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod screen;
mod signal;
pub mod sync;
pub mod validate;
mod verdict;
pub mod wait;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::release::Verb as Asked;
use exit::Exit;

/// Releases software from Git: progressive delivery, analysis, rollback and status in one daemon.
#[derive(Debug, Parser)]
#[command(name = "serin", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Start here:\n  serin demo                 watch releases, a rollback and a supersede, no cluster needed\n  \
    serin validate DIR         check manifests offline\n  serin run --help           the daemon\n\n\
    Exit codes: 0 done, 1 the release failed or the request was refused, 2 bad input or usage, 3 a cluster or a \
    program that is needed cannot be reached."
)]
pub struct Cli {
    /// What is logged, e.g. `info` or `serin=debug,kube=warn`
    #[arg(long, global = true, env = "SERIN_LOG", value_name = "FILTER", default_value = "info,kube=warn")]
    #[arg(help_heading = "Logging", hide_env_values = true)]
    log: String,
    /// How it is logged
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        value_name = "FORMAT",
        help_heading = "Logging"
    )]
    log_format: LogFormat,
    #[command(subcommand)]
    verb: Verb,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show releases, a rollback and a supersede on an embedded cluster
    #[cfg(feature = "sandbox")]
    Demo(demo::DemoArgs),
    /// Leave the demo's world running for your own kubectl and git push
    #[cfg(feature = "sandbox")]
    Sandbox(sandbox::SandboxArgs),
    /// Run the daemon
    Run(Box<crate::config::RunArgs>),
    /// Check an installation before and after: cluster, rights, mesh, metrics, Git
    Check(Box<check::CheckArgs>),
    /// Check manifests offline: syntax, schema, references
    Validate(validate::ValidateArgs),
    /// Show what a branch would change in the cluster
    Plan(Box<plan::PlanArgs>),
    /// Show releases and what they wait for
    #[command(aliases = ["status", "list"])]
    Get(get::GetArgs),
    /// Say in one sentence why a release stands as it stands, and what that rests on
    Why(get::WhyArgs),
    /// Show what happened to a release
    #[command(alias = "events")]
    Logs(logs::LogsArgs),
    /// Show finished releases and what they come to, from the record in Git
    History(history::HistoryArgs),
    /// Wait until a release is over, for CI
    Wait(wait::WaitArgs),
    /// Release a revision again that failed before
    #[command(after_help = asked("retry podinfo -n test"))]
    Retry(request::RequestArgs),
    /// Promote without the remaining steps
    #[command(after_help = asked("promote podinfo -n test"))]
    Promote(request::RequestArgs),
    /// Roll a release back now
    #[command(aliases = ["rollback", "undo", "terminate"])]
    #[command(after_help = asked("abort podinfo -n test"))]
    Abort(request::RequestArgs),
    /// Keep a release at its weight
    #[command(after_help = asked("pause podinfo -n test"))]
    Pause(request::RequestArgs),
    /// Let a paused release go on
    #[command(after_help = asked("resume podinfo -n test"))]
    Resume(request::RequestArgs),
    /// Release now what waits for a release window or another environment; it is recorded
    #[command(after_help = asked("release podinfo -n test"))]
    Release(request::RequestArgs),
    /// Show what is quarantined, refuse a revision by hand, or let one go
    Quarantine(quarantine::QuarantineArgs),
    /// Look at the repository now
    Sync(sync::SyncArgs),
    /// Show removals that were refused, or allow one
    Prune(prune::PruneArgs),
    /// Run the load tester that webhooks call
    Loadtest(loadtest::LoadtestArgs),
    /// Argo Rollouts' commands and screens
    Rollouts(Box<rollouts::RolloutsArgs>),
    /// Print the custom resource definitions
    Crds(crds::CrdsArgs),
    /// Print a shell's completion script
    Completions(completions::CompletionsArgs),
}

/// Under which name the process was started.
enum Started {
    Hey(Vec<String>),
    Plugin(Box<rollouts::Plugin>),
    Serin(Cli),
}

/// The end of the help of a verb that asks something of a release.
fn asked(example: &str) -> String {
    format!(
        "Examples:\n  serin {example}\n\nExit codes: 0 accepted, 1 refused, 2 nothing to ask it of, 3 the cluster or the \
         daemon does not answer."
    )
}

/// Parses the command line, runs the verb and returns its exit code.
pub fn main() -> ExitCode {
    let started = match hey::arguments() {
        Some(arguments) => Started::Hey(arguments),
        None => match rollouts::Plugin::started() {
            Some(plugin) => Started::Plugin(Box::new(plugin)),
            None => Started::Serin(Cli::parse()),
        },
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return internal_error(&format!("failed to start the async runtime: {error}")),
    };
    let done = match started {
        Started::Hey(arguments) => runtime.block_on(hey::run(arguments)),
        Started::Plugin(plugin) => runtime.block_on(plugin.run()),
        Started::Serin(Cli { log, log_format, verb }) => {
            runtime.block_on(dispatch(verb, LogOptions { filter: log, format: log_format }))
        }
    };
    let code = match done {
        Ok(code) => code,
        Err(error) => exit::report(&error).code(),
    };
    // Blocking Git calls have deadlines of their own; nothing after the verb's end is worth waiting for.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Reports a failure that is not the user's.
pub fn internal_error(text: &str) -> ExitCode {
    output::message(&format!("error: {text}"));
    ExitCode::from(Exit::Failed.code())
}

/// What kube says of every connection, as structures: that its certificate is not checked, which `cluster` says once; that
/// it failed or ended, which whoever asked says with what was asked.
const QUIET: &str = "kube_client::client=error,kube_client::client::builder=off";

/// Where and how to log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    filter: String,
    format: LogFormat,
}

impl LogOptions {
    /// Logs to stderr. A filter that does not parse is bad usage.
    pub fn init(&self) -> anyhow::Result<()> {
        let builder = tracing_subscriber::fmt()
            .with_env_filter(self.filter()?)
            .with_writer(|| output::Indented(std::io::stderr()));
        match self.format {
            LogFormat::Text => builder.with_target(false).with_ansi(output::colours_on(&std::io::stderr())).init(),
            LogFormat::Json => builder.json().init(),
        }
        Ok(())
    }

    /// Logs to a file, so that a live display stays readable.
    pub fn init_to(&self, path: &std::path::Path) -> anyhow::Result<()> {
        let filter = self.filter()?;
        let file = std::fs::File::create(path).with_context(|| format!("failed to write {}", path.display()))?;
        let writer = std::sync::Mutex::new(file);
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(writer);
        match self.format {
            LogFormat::Text => builder.with_target(false).init(),
            LogFormat::Json => builder.json().init(),
        }
        Ok(())
    }

    fn filter(&self) -> anyhow::Result<EnvFilter> {
        let filter = EnvFilter::try_new(format!("{QUIET},{}", self.filter));
        Ok(filter
            .map_err(|error| exit::CliError::input(error).hint("write --log as in `serin=debug,kube=warn`"))?)
    }
}

async fn dispatch(verb: Verb, log: LogOptions) -> anyhow::Result<u8> {
    // Also where nothing is logged: a mistake that is passed over is found when it matters.
    log.filter()?;
    match verb {
        #[cfg(feature = "sandbox")]
        Verb::Demo(args) => demo::run(args, &log).await,
        #[cfg(feature = "sandbox")]
        Verb::Sandbox(args) => sandbox::run(args, &log).await,
        Verb::Run(args) => {
            log.init()?;
            run::run(*args).await
        }
        Verb::Check(args) => check::run(*args).await,
        Verb::Validate(args) => validate::run(&args),
        Verb::Plan(args) => plan::run(*args).await,
        Verb::Get(args) => get::run(args).await,
        Verb::Why(args) => get::why(args).await,
        Verb::Logs(args) => logs::run(args).await,
        Verb::History(args) => history::run(args).await,
        Verb::Wait(args) => wait::run(args).await,
        Verb::Retry(args) => request::run(Asked::Retry, args).await,
        Verb::Promote(args) => request::run(Asked::Promote, args).await,
        Verb::Abort(args) => request::run(Asked::Abort, args).await,
        Verb::Pause(args) => request::run(Asked::Pause, args).await,
        Verb::Resume(args) => request::run(Asked::Resume, args).await,
        Verb::Quarantine(args) => quarantine::run(args).await,
        Verb::Release(args) => request::run(Asked::Release, args).await,
        Verb::Sync(args) => sync::run(args).await,
        Verb::Prune(args) => prune::run(args).await,
        Verb::Loadtest(args) => {
            log.init()?;
            loadtest::run(args).await
        }
        Verb::Rollouts(args) => rollouts::run(*args).await,
        Verb::Crds(args) => crds::run(args),
        Verb::Completions(args) => completions::run(&args),
    }
}
