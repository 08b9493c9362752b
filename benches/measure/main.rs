//! `cargo bench --bench measure [-- size|snapshot|release|idle]`: the budgets, measured. `scripts/measure` runs all of them.
//!
//! Each figure is a line: what, value, budget, whether it is met. `SERIN_MEASURE_JSON=1` prints JSON lines instead. The
//! daemon is a real process; the cluster around it is the sandbox, whose request log counts what the daemon asks for.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures go to stdout, explanations to stderr")]

mod daemon;
mod figure;
mod idle;
mod release;
mod size;
mod snapshot;

use std::error::Error;

use serin::sandbox::traffic::TrafficOptions;

/// What goes wrong ends the measurement, in words.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Traffic as the daemon's users have it, with load tester pods.
fn traffic() -> TrafficOptions {
    TrafficOptions { programs: serin::loadtest::programs(), ..TrafficOptions::default() }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs this too; measuring is only meant by `cargo bench`.
    if !args.iter().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let chosen: Vec<&str> = args.iter().map(String::as_str).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.contains(&name);
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if wanted("size") {
        size::measure()?;
    }
    if wanted("snapshot") {
        runtime.block_on(snapshot::measure())?;
    }
    if wanted("release") {
        runtime.block_on(release::measure())?;
    }
    if wanted("idle") {
        runtime.block_on(idle::measure())?;
    }
    Ok(())
}

/// A number from the environment.
fn number<T: std::str::FromStr<Err: Error + Send + Sync + 'static>>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(default),
    }
}
