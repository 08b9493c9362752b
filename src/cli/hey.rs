//! The binary under the name `hey`: for load test lines that need a shell, which finds no other `hey` in the load tester's
//! image. Plain lines never get here, the load tester runs them itself.

use std::ffi::OsStr;
use std::num::NonZeroU32;
use std::path::Path;

use anyhow::Context as _;

use super::exit::{CliError, Exit};
use super::output;
use crate::loadtest::hey::{self, Context};

/// The name.
const NAME: &str = "hey";

/// The arguments after the name, if the process was started under it.
pub(super) fn arguments() -> Option<Vec<String>> {
    let mut words = std::env::args_os();
    let called = words.next()?;
    let is_hey = Path::new(&called).file_name() == Some(OsStr::new(NAME));
    is_hey.then(|| words.map(|word| word.to_string_lossy().into_owned()).collect())
}

/// Sends the load and prints the summary.
pub(super) async fn run(arguments: Vec<String>) -> anyhow::Result<u8> {
    let proxy = std::env::var("http_proxy").ok().filter(|proxy| !proxy.is_empty());
    let context = Context { proxy, speed: NonZeroU32::MIN };
    let summary = hey::run(&arguments, context).await.map_err(CliError::input)?;
    output::data(&summary).context("failed to print the summary")?;
    Ok(Exit::Done.code())
}
