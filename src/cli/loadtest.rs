//! `serin loadtest`: the load tester that webhooks call.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use regex::Regex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::exit::CliError;
use super::signal;
use crate::http::{SecretSource, serve};
use crate::loadtest::{Callers, LoadTestOptions, LoadTester, TIMEOUT, adopt};

/// Flags of `serin loadtest`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  serin loadtest --port 8080 --token-file /etc/serin/loadtester/token\n  serin loadtest --port 8080 --no-token\n  curl -d '{\"name\": \"podinfo\", \"namespace\": \"test\", \"metadata\": \
    {\"type\": \"bash\", \"cmd\": \"echo hi\"}}' http://127.0.0.1:8080/\n\n\
    Exit codes: 0 stopped by SIGTERM or Ctrl-C, 1 failed under way, 2 bad usage."
)]
pub struct LoadtestArgs {
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    address: IpAddr,
    /// Port to listen on
    #[arg(long, value_name = "PORT", default_value_t = 9090)]
    port: u16,
    #[command(flatten)]
    callers: CallersArgs,
    /// Longest run of one command in seconds; then it is killed
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT.as_secs(), value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Refuse canaries in namespaces that this regular expression does not match
    #[arg(long, value_name = "REGEX")]
    namespace_regexp: Option<Regex>,
    /// HTTP proxy for hey lines and, as http_proxy, for commands
    #[arg(long, value_name = "URL", env = "http_proxy")]
    proxy: Option<String>,
    /// Divide the duration of `hey -z` by this
    #[arg(long, value_name = "N", default_value_t = NonZeroU32::MIN)]
    speed: NonZeroU32,
}

/// Who may call: it has to be said, because whoever may runs commands here.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct CallersArgs {
    /// File with the token that callers have to send as `Authorization: Bearer`; it may be replaced at any time
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Let everybody who can reach it run commands, as Flagger's load tester does
    #[arg(long)]
    no_token: bool,
}

impl CallersArgs {
    /// What was said, with a token that can be read now.
    fn read(self) -> anyhow::Result<Callers> {
        let Some(file) = self.token_file else { return Ok(Callers::Anybody) };
        let source = SecretSource::File(file);
        if let Err(reason) = source.read() {
            return Err(CliError::input(anyhow::anyhow!("--token-file: {reason}")).into());
        }
        Ok(Callers::WithToken(source))
    }
}

/// Serves until it is told to stop.
///
/// # Errors
/// When the token cannot be read or the port cannot be listened on.
pub async fn run(args: LoadtestArgs) -> anyhow::Result<u8> {
    let LoadtestArgs { address, port, callers, timeout, namespace_regexp, proxy, speed } = args;
    let callers = callers.read()?;
    if let Err(error) = adopt() {
        tracing::warn!(%error, "what commands leave behind may stay as zombies");
    }
    let tester = LoadTester::new(LoadTestOptions {
        callers,
        timeout: Duration::from_secs(timeout),
        namespaces: namespace_regexp,
        proxy,
        speed,
    });
    let address = SocketAddr::new(address, port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    tracing::info!(address = %listener.local_addr().context("cannot read the listener's address")?, "load tester ready");
    let told_to_stop = signal::stop()?;
    let stopping = tester.clone();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        told_to_stop.await;
        // Callers that wait for a command get their answer, then connections close.
        stopping.stop();
        stop.cancel();
    });
    serve(listener, tester.router(), shutdown).await;
    Ok(0)
}
