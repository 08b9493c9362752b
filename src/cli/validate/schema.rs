//! What an object says about itself: the whole schema of our kinds and of those that are built in.

use serde_json::Value;

use crate::api;
use crate::manifest::Manifest;

use super::files::Source;
use super::finding::{Finding, Rule, Severity};

/// Checks one object by itself.
pub(super) fn check(source: &Source, manifest: &Manifest) -> Vec<Finding> {
    const KIND: (Severity, Rule) = (Severity::Error, Rule::Schema);
    let error = |path: &str, message: String| Finding::at(KIND, source, manifest, path, message);
    let problems = api::strict::check(&manifest.object).into_iter();
    let ours = problems.map(|problem| error(&problem.path, problem.to_string()));
    let written = |path: &[String]| source.written(manifest, path).map(str::to_owned);
    ours.chain(built_in(&manifest.object, &written).into_iter().map(|(path, message)| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        Finding::at_field(KIND, source, manifest, &path, message)
    }))
    .collect()
}

/// What an API server would say of a built-in kind: the embedded one says it.
#[cfg(feature = "sandbox")]
fn built_in(object: &Value, written: &dyn Fn(&[String]) -> Option<String>) -> Vec<(Vec<String>, String)> {
    let faults = crate::sandbox::apiserver::lint(object, written);
    faults.into_iter().map(|fault| (fault.path, fault.message)).collect()
}

/// Without the embedded API server nobody here knows.
#[cfg(not(feature = "sandbox"))]
fn built_in(_object: &Value, _written: &dyn Fn(&[String]) -> Option<String>) -> Vec<(Vec<String>, String)> {
    Vec::new()
}
