//! The repository that the demo releases from, compiled in so that the binary alone is enough.

use crate::sandbox::repository::{FileEdit, Repository, RepositoryError};

/// The Deployment's file.
pub(super) const DEPLOYMENT: &str = "deployment.yaml";

/// `examples/podinfo`, file by file.
const FILES: [(&str, &str); 8] = [
    ("README.md", include_str!("../../../examples/podinfo/README.md")),
    ("canary.yaml", include_str!("../../../examples/podinfo/canary.yaml")),
    (DEPLOYMENT, include_str!("../../../examples/podinfo/deployment.yaml")),
    ("hpa.yaml", include_str!("../../../examples/podinfo/hpa.yaml")),
    ("loadtester.yaml", include_str!("../../../examples/podinfo/loadtester.yaml")),
    ("metric-template.yaml", include_str!("../../../examples/podinfo/metric-template.yaml")),
    ("namespace.yaml", include_str!("../../../examples/podinfo/namespace.yaml")),
    ("public-gateway.yaml", include_str!("../../../examples/podinfo/public-gateway.yaml")),
];

/// All files, for the first commit.
pub(super) fn files() -> Vec<FileEdit> {
    FILES
        .iter()
        .map(|(path, content)| FileEdit { path: (*path).to_owned(), content: (*content).to_owned() })
        .collect()
}

/// The image tag that a Deployment file names.
pub(super) fn tag(deployment: &str) -> Option<&str> {
    let rest = deployment.split_once("stefanprodan/podinfo:")?.1;
    rest.split(|c: char| c.is_whitespace() || c == '"').next()
}

/// The edit a developer makes: one tag on one line.
pub(super) fn set_tag(repository: &Repository, new: &str) -> Result<Vec<FileEdit>, RepositoryError> {
    let text = repository.read(crate::sandbox::repository::BRANCH, DEPLOYMENT)?;
    let missing = || RepositoryError::NoFile { path: DEPLOYMENT.to_owned() };
    let old = tag(&text).ok_or_else(missing)?;
    let content = text.replacen(&format!("stefanprodan/podinfo:{old}"), &format!("stefanprodan/podinfo:{new}"), 1);
    Ok(vec![FileEdit { path: DEPLOYMENT.to_owned(), content }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_file_is_compiled_in() -> std::io::Result<()> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/podinfo");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        let mut compiled: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        compiled.sort();
        assert_eq!(names, compiled);
        Ok(())
    }

    #[test]
    fn the_tag_is_found() {
        assert_eq!(tag(FILES[2].1), Some("3.1.0"));
    }
}
