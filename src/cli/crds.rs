//! `serin crds`: prints the CustomResourceDefinitions for `kubectl apply --server-side -f -`.

use std::io::{ErrorKind, Write};

use anyhow::Context as _;

/// `serin crds` takes no options.
#[derive(Debug, Clone, clap::Args)]
pub struct CrdsArgs {}

/// Prints every definition as a YAML document. A closed pipe is not an error.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(_args: CrdsArgs) -> anyhow::Result<u8> {
    match std::io::stdout().lock().write_all(text()?.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("failed to write to standard output")
        }
        Ok(()) | Err(_) => Ok(0),
    }
}

fn text() -> anyhow::Result<String> {
    let mut text = String::new();
    for crd in crate::api::crds() {
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&crd).context("failed to write a CustomResourceDefinition as YAML")?);
    }
    Ok(text)
}
