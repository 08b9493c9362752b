//! Exit codes, and the errors that carry them.

use std::fmt;

use crate::cluster::explain;

/// Exit codes, the same for every verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The release failed, or something differs.
    Failed = 1,
    /// Bad input or usage.
    Input = 2,
    /// A dependency could not be reached.
    Unreachable = 3,
    /// Ended by Ctrl-C before it was done, as shells count it: 128 and the signal's number.
    Interrupted = 130,
}

impl Exit {
    /// The number for the operating system.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// An error that knows its exit code; anything else that reaches `main` exits with 1.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    hint: Option<String>,
    source: anyhow::Error,
}

impl CliError {
    /// Bad input or usage (exit 2).
    pub fn input(source: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Input, hint: None, source: source.into() }
    }

    /// A dependency could not be reached (exit 3).
    pub fn unreachable(source: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Unreachable, hint: None, source: source.into() }
    }

    /// Which code it exits with.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Adds what to do about it, printed on a line of its own.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)
    }
}

impl std::error::Error for CliError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

/// Prints the whole chain of causes, then the hint, and says which code to exit with.
pub fn report(error: &anyhow::Error) -> Exit {
    let mut text = prefixed(explain(error.as_ref()));
    let mut exit = Exit::Failed;
    if let Some(cli) = error.downcast_ref::<CliError>() {
        text = prefixed(explain(cli.source.as_ref()));
        exit = cli.exit;
        if let Some(hint) = &cli.hint {
            text.push_str("\nhint: ");
            text.push_str(hint);
        }
    }
    super::output::message(&text);
    exit
}

/// Several errors told at once have their prefixes already.
fn prefixed(text: String) -> String {
    if text.starts_with("error: ") { text } else { format!("error: {text}") }
}
