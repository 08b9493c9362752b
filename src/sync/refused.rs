//! Canaries that are valid and that the release engine does not carry out. PURE.
//!
//! They are applied, so that they say why in the cluster, and hold their targets and configs: written, a new revision would
//! be released by the policy that was there before, or stay where it is half-way.

use std::collections::BTreeMap;

use super::desired::{DesiredSet, Problem, Role};
use super::order::Stage;
use crate::api::CanarySpec;
use crate::model::{NamespacedName, ObjectRef};

/// Why the engine would refuse a Canary, in its words. A function, because sync does not know the engine.
pub type Judge = fn(&NamespacedName, &CanarySpec) -> Option<String>;

/// Takes what belongs to refused Canaries out of the set.
pub(super) fn hold(set: &mut DesiredSet, judge: Judge) {
    let refused = refused(set, judge);
    set.refused = refused.values().map(|(id, _)| id.clone()).collect();
    for object in std::mem::take(&mut set.objects) {
        let guards: Vec<&NamespacedName> = match &object.role {
            Role::Target { canary, .. } => vec![canary],
            Role::TargetConfig { readers } => readers.iter().map(|reader| &reader.canary).collect(),
            Role::Plain | Role::ConfigCopy | Role::Apex | Role::Led(_) => Vec::new(),
        };
        match guards.into_iter().find_map(|canary| Some((canary, refused.get(canary)?))) {
            None => set.objects.push(object),
            Some((canary, (_, reason))) => set.problems.push(Problem {
                message: format!(
                    "{}: {} is held until Canary {canary} can be carried out: {reason}",
                    object.origin, object.id
                ),
                id: Some(object.id.clone()),
            }),
        }
    }
}

fn refused(set: &DesiredSet, judge: Judge) -> BTreeMap<NamespacedName, (ObjectRef, String)> {
    let canaries = set.objects.iter().filter(|object| Stage::of(&object.id) == Stage::Canaries);
    canaries
        .filter_map(|canary| {
            let spec: CanarySpec = serde_json::from_value(canary.body["spec"].clone()).ok()?;
            let key = NamespacedName::new(canary.id.namespace.clone().unwrap_or_default(), canary.id.name.clone());
            let reason = judge(&key, &spec)?;
            Some((key, (canary.id.clone(), reason)))
        })
        .collect()
}
