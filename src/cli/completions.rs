//! `serin completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Arguments of `serin completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  source <(serin completions bash)\n  serin completions zsh > ~/.zfunc/_serin")]
pub struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "serin", &mut script);
    super::output::data(&String::from_utf8_lossy(&script))?;
    Ok(super::exit::Exit::Done.code())
}
