//! What an object says about itself: identity, and for our kinds the whole schema.

use crate::api;
use crate::manifest::Manifest;

use super::files::Source;
use super::finding::{Finding, Severity};

/// Checks one object by itself.
pub(super) fn check(source: &Source, manifest: &Manifest) -> Vec<Finding> {
    let error = |path: &str, message: String| Finding::at(Severity::Error, source, manifest, path, message);
    api::strict::check(&manifest.object)
        .into_iter()
        .map(|problem| error(&problem.path, problem.to_string()))
        .collect()
}
