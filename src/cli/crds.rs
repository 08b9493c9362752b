//! `serin crds`: prints the CustomResourceDefinitions for `kubectl apply --server-side -f -`.

use anyhow::Context as _;

/// `serin crds` takes no options.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  serin crds | kubectl apply --server-side -f -\n\nExit codes: 0 done.")]
pub struct CrdsArgs {}

/// Prints every definition as a YAML document. A closed pipe is not an error.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(_args: CrdsArgs) -> anyhow::Result<u8> {
    super::output::data(&text()?).context("failed to write to standard output")?;
    Ok(super::exit::Exit::Done.code())
}

fn text() -> anyhow::Result<String> {
    let mut text = String::new();
    for crd in crate::api::crds() {
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&crd).context("failed to write a CustomResourceDefinition as YAML")?);
    }
    Ok(text)
}
