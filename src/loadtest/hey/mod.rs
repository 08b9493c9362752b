//! A built-in load generator that understands the `hey` command lines in use, so that no binary has to be installed.

mod flags;
mod run;
mod summary;
mod words;

pub use flags::{Flags, FlagsError};
pub use summary::Summary;

use std::num::NonZeroU32;

/// What surrounds a run.
#[derive(Debug, Clone)]
pub struct Context {
    /// HTTP proxy, unless the line names one (`-x`).
    pub proxy: Option<String>,
    /// Divides the duration (`-z`).
    pub speed: NonZeroU32,
}

/// Why a run did not take place. Requests that fail are part of its summary instead.
#[derive(Debug, thiserror::Error)]
pub enum HeyError {
    /// The line cannot be understood.
    #[error(transparent)]
    Flags(#[from] FlagsError),
    /// The HTTP client cannot be built.
    #[error("cannot build the HTTP client: {0}")]
    Client(#[source] reqwest::Error),
    /// A worker ended before its work was done.
    #[error("a worker of the load generator was lost: {0}")]
    Lost(#[source] tokio::task::JoinError),
    /// The body file cannot be read.
    #[error("cannot read the request body from {path}: {source}")]
    Body {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
}

/// The arguments of a plain `hey` line; `None` for another program or a line that needs a shell.
pub fn arguments(command: &str) -> Option<Vec<String>> {
    let mut words = words::split(command)?.into_iter();
    (words.next()? == "hey").then(|| words.collect())
}

/// Runs a `hey` line and returns its summary as text.
///
/// # Errors
/// When the line is wrong or the client cannot be built.
pub async fn run(arguments: &[String], context: Context) -> Result<String, HeyError> {
    let flags = Flags::parse(arguments)?;
    Ok(run::run(flags, context).await?.to_string())
}
