//! What objects say about each other.
//!
//! A reference may lead to something that is in the cluster and not in Git, so a missing end is a warning. Two objects
//! that claim the same thing are an error wherever they live.

use std::collections::HashMap;

use kube::ResourceExt;

use crate::api::Canary;
use crate::manifest::Manifest;
use crate::model::ObjectRef;

use super::files::Source;
use super::finding::{Finding, Rule, Severity};
use super::{generated, pair, queries};

/// Where objects go that name no namespace.
const DEFAULT_NAMESPACE: &str = "default";

/// An object with the file it was read from.
pub(super) struct Located<'a> {
    pub(super) source: &'a Source,
    pub(super) manifest: &'a Manifest,
}

/// Checks all objects against each other.
pub(super) fn check(all: &[Located<'_>]) -> Vec<Finding> {
    let mut by_ref: HashMap<ObjectRef, &Located<'_>> = HashMap::new();
    let mut findings = Vec::new();
    for located in all {
        let object = located.manifest.object_ref();
        if let Some(first) = by_ref.get(&placed(&object)) {
            let same = without_namespace(first.manifest) == without_namespace(located.manifest);
            let (severity, how) =
                if same { (Severity::Warning, ", with the same content") } else { (Severity::Error, "") };
            let Manifest { file, line, .. } = first.manifest;
            let message = format!("{object} is also defined in {file}:{line}{how}");
            findings.push(finding((severity, Rule::Duplicate), located, "metadata.name", message));
        } else {
            by_ref.insert(placed(&object), located);
        }
    }
    let mut targets: HashMap<ObjectRef, &Located<'_>> = HashMap::new();
    let mut services: HashMap<(String, String), &Located<'_>> = HashMap::new();
    for located in all {
        let Some(canary) = canary_of(located.manifest) else { continue };
        let namespace = located.manifest.namespace().unwrap_or(DEFAULT_NAMESPACE).to_owned();
        for reference in references_of(&canary, &namespace) {
            if !by_ref.contains_key(&placed(&reference.object)) {
                let message = format!("{} is not among these manifests", reference.object);
                findings.push(finding((Severity::Warning, Rule::Reference), located, &reference.path, message));
            }
        }
        let target = target_of(&canary, &namespace);
        if let Some(first) = targets.get(&target) {
            let message = format!("{target} is already released by {}", first.manifest.object_ref());
            findings.push(finding((Severity::Error, Rule::Duplicate), located, "spec.targetRef.name", message));
        } else {
            findings.extend(pair::check(&canary, &placed(&target), located, all, &by_ref));
            targets.insert(target, located);
        }
        let service = (namespace.clone(), canary.spec.service_name().to_owned());
        if let Some(first) = services.get(&service) {
            let message =
                format!("Service {}/{} is already led by {}", service.0, service.1, first.manifest.object_ref());
            findings.push(finding((Severity::Error, Rule::Duplicate), located, "spec.service.name", message));
        } else {
            services.insert(service, located);
        }
        findings.extend(queries::check(&canary, &namespace, located, &by_ref));
        findings.extend(generated::check(&canary, &namespace, located, all, &by_ref));
    }
    findings
}

/// An object's content, however it names the namespace it gets.
fn without_namespace(manifest: &Manifest) -> serde_json::Value {
    let mut object = manifest.object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
    object
}

/// An object's identity with the namespace it gets. Which kinds have none is the cluster's to say, so all get one.
pub(super) fn placed(object: &ObjectRef) -> ObjectRef {
    let namespace = object.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    ObjectRef { namespace: Some(namespace), ..object.clone() }
}

pub(super) fn finding(kind: (Severity, Rule), located: &Located<'_>, path: &str, message: String) -> Finding {
    Finding::at(kind, located.source, located.manifest, path, message)
}

/// The Canary in a manifest; one that does not decode has been reported by the schema check.
pub(super) fn canary_of(manifest: &Manifest) -> Option<Canary> {
    if manifest.kind() != "Canary" || manifest.object_ref().group != crate::api::GROUP {
        return None;
    }
    serde_json::from_value(manifest.object.clone()).ok()
}

struct Reference {
    path: String,
    object: ObjectRef,
}

fn target_of(canary: &Canary, namespace: &str) -> ObjectRef {
    let target = &canary.spec.target_ref;
    ObjectRef {
        group: target.group().to_owned(),
        kind: target.kind.clone(),
        namespace: Some(namespace.to_owned()),
        name: target.name.clone(),
    }
}

fn references_of(canary: &Canary, own: &str) -> Vec<Reference> {
    let namespace = canary.namespace().unwrap_or_else(|| own.to_owned());
    let mut references =
        vec![Reference { path: "spec.targetRef.name".into(), object: target_of(canary, &namespace) }];
    if let Some(scaler) = &canary.spec.autoscaler_ref {
        let kind = scaler.kind.clone();
        let object = object_ref(&scaler.api_version, &kind, &namespace, &scaler.name);
        references.push(Reference { path: "spec.autoscalerRef.name".into(), object });
    }
    for (index, metric) in canary.spec.analysis.metrics.iter().enumerate() {
        if let Some(template) = &metric.template_ref {
            let namespace = template.namespace.as_deref().unwrap_or(&namespace);
            let object = ours("MetricTemplate", namespace, &template.name);
            references
                .push(Reference { path: format!("spec.analysis.metrics[{index}].templateRef.name"), object });
        }
    }
    for (index, alert) in canary.spec.analysis.alerts.iter().enumerate() {
        let namespace = alert.provider_ref.namespace.as_deref().unwrap_or(&namespace);
        let object = ours("AlertProvider", namespace, &alert.provider_ref.name);
        references.push(Reference { path: format!("spec.analysis.alerts[{index}].providerRef.name"), object });
    }
    references
}

pub(super) fn ours(kind: &str, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef {
        group: crate::api::GROUP.to_owned(),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    }
}

fn object_ref(api_version: &str, kind: &str, namespace: &str, name: &str) -> ObjectRef {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    ObjectRef {
        group: group.to_owned(),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    }
}
