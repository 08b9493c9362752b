//! `serin crds`: prints the CustomResourceDefinitions for `kubectl apply --server-side -f -`.

use std::io::Write;

use anyhow::Context as _;

/// Writes every definition as a YAML document.
///
/// # Errors
/// When the output cannot be written.
pub fn run(out: &mut impl Write) -> anyhow::Result<()> {
    for crd in crate::api::crds() {
        let text = serde_yaml::to_string(&crd).context("failed to write a CustomResourceDefinition as YAML")?;
        write!(out, "---\n{text}").context("failed to write to standard output")?;
    }
    Ok(())
}
