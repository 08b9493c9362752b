//! `serin crds`: prints the CustomResourceDefinitions for `kubectl apply --server-side -f -`.

use anyhow::Context as _;

/// Arguments of `serin crds`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  serin crds | kubectl apply --server-side -f -\n\nExit codes: 0 done.")]
pub struct CrdsArgs {
    /// Argo Rollouts' kinds of analysis, too, for clusters that do not have its own definitions
    #[arg(long)]
    rollouts: bool,
}

/// Prints every definition as a YAML document. A closed pipe is not an error.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: CrdsArgs) -> anyhow::Result<u8> {
    super::output::data(&text(args.rollouts)?).context("failed to write to standard output")?;
    Ok(super::exit::Exit::Done.code())
}

fn text(rollouts: bool) -> anyhow::Result<String> {
    let mut text = String::new();
    let of_argo = if rollouts { crate::api::argo_crds() } else { Vec::new() };
    for crd in crate::api::crds().into_iter().chain(of_argo) {
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&crd).context("failed to write a CustomResourceDefinition as YAML")?);
    }
    Ok(text)
}
