//! The repository that the demo releases from, compiled in so that the binary alone is enough.

use clap::ValueEnum;

use crate::sandbox::repository::{FileEdit, Repository, RepositoryError};

/// The Deployment's file.
pub(super) const DEPLOYMENT: &str = "deployment.yaml";

/// The Canary's file.
const CANARY: &str = "canary.yaml";

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

/// What differs with Gateway API, `examples/gateway-api`.
const OF_GATEWAY_API: [(&str, &str); 2] = [
    ("canary.yaml", include_str!("../../../examples/gateway-api/canary.yaml")),
    ("gateway.yaml", include_str!("../../../examples/gateway-api/gateway.yaml")),
];
/// What is Istio's.
const OF_ISTIO: [&str; 2] = ["canary.yaml", "public-gateway.yaml"];

/// What shifts traffic in the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DemoProvider {
    /// Istio's VirtualService
    #[value(name = "istio")]
    Istio,
    /// Gateway API's HTTPRoute
    #[value(name = "gatewayapi:v1")]
    GatewayApi,
}

/// All files, for the first commit.
pub(super) fn files(provider: DemoProvider) -> Vec<FileEdit> {
    let more = match provider {
        DemoProvider::Istio => &[][..],
        DemoProvider::GatewayApi => &OF_GATEWAY_API,
    };
    let common = FILES.iter().filter(|(path, _)| more.is_empty() || !OF_ISTIO.contains(path));
    common
        .chain(more)
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

/// How the canary is compared with primary from now on.
pub(super) fn set_comparison(repository: &Repository, lines: &str) -> Result<Vec<FileEdit>, RepositoryError> {
    let text = repository.read(crate::sandbox::repository::BRANCH, CANARY)?;
    let kept = text.lines().filter(|line| !line.trim_start().starts_with("comparison"));
    let content = kept.flat_map(|line| {
        let added = if line.trim_end() == "  analysis:" { lines } else { "" };
        [line, "\n", added]
    });
    Ok(vec![FileEdit { path: CANARY.to_owned(), content: content.collect() }])
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
    fn each_provider_has_one_canary_and_its_own_gateway() {
        for (provider, gateway) in
            [(DemoProvider::Istio, "public-gateway.yaml"), (DemoProvider::GatewayApi, "gateway.yaml")]
        {
            let files = files(provider);
            let mut names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), files.len());
            let gateways: Vec<&&str> = names.iter().filter(|name| name.ends_with("gateway.yaml")).collect();
            assert_eq!(gateways, [&gateway]);
        }
    }

    #[test]
    fn the_tag_is_found() {
        assert_eq!(tag(FILES[2].1), Some("3.1.0"));
    }
}
