//! The one label that tells primary and canary pods apart.

use serde_json::Value;

/// A selector label of the target: `app=podinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorLabel {
    /// The key.
    pub key: String,
    /// The target's value.
    pub value: String,
}

/// The target selects its pods by none of the known labels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "deployment {namespace}/{name}: spec.selector.matchLabels must contain one of the labels {candidates}: primary and \
     canary pods are told apart by it"
)]
pub struct SelectorError {
    /// The target's namespace.
    pub namespace: String,
    /// The target's name.
    pub name: String,
    /// What it may be, in words.
    pub candidates: String,
}

impl SelectorLabel {
    /// The first of `candidates` that is in the target's `matchLabels`.
    pub fn of(target: &Value, candidates: &[String]) -> Result<Self, SelectorError> {
        let labels = &target["spec"]["selector"]["matchLabels"];
        candidates
            .iter()
            .find_map(|key| Some(Self { key: key.clone(), value: labels[key].as_str()?.to_owned() }))
            .ok_or_else(|| {
                let text = |key: &str| target["metadata"][key].as_str().unwrap_or_default().to_owned();
                SelectorError {
                    namespace: text("namespace"),
                    name: text("name"),
                    candidates: candidates.join(", "),
                }
            })
    }

    /// The value that primary's pods carry.
    pub fn primary_value(&self) -> String {
        format!("{}-primary", self.value)
    }

    /// Gives a pod template primary's label, also where its own affinity and spreading rules select by it.
    pub(super) fn make_primary(&self, template: &mut Value) {
        let primary = self.primary_value();
        if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.insert(self.key.clone(), Value::from(primary.clone()));
        }
        for kind in ["podAffinity", "podAntiAffinity"] {
            let base = format!("/spec/affinity/{kind}");
            self.rewrite_terms(
                template.pointer_mut(&format!("{base}/requiredDuringSchedulingIgnoredDuringExecution")),
                "/labelSelector",
            );
            self.rewrite_terms(
                template.pointer_mut(&format!("{base}/preferredDuringSchedulingIgnoredDuringExecution")),
                "/podAffinityTerm/labelSelector",
            );
        }
        self.rewrite_terms(template.pointer_mut("/spec/topologySpreadConstraints"), "/labelSelector");
    }

    fn rewrite_terms(&self, terms: Option<&mut Value>, selector: &str) {
        for term in terms.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(selector) = term.pointer_mut(selector) {
                self.rewrite_selector(selector);
            }
        }
    }

    fn rewrite_selector(&self, selector: &mut Value) {
        let primary = Value::from(self.primary_value());
        if let Some(value) = selector.get_mut("matchLabels").and_then(|labels| labels.get_mut(&self.key))
            && value == self.value.as_str()
        {
            *value = primary.clone();
        }
        let expressions = selector.get_mut("matchExpressions").and_then(Value::as_array_mut);
        for expression in
            expressions.into_iter().flatten().filter(|expression| expression["key"] == self.key.as_str())
        {
            for value in expression.get_mut("values").and_then(Value::as_array_mut).into_iter().flatten() {
                if value == self.value.as_str() {
                    *value = primary.clone();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prefers_labels_in_flaggers_order() {
        let target = |labels: Value| json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"selector": {"matchLabels": labels}}});
        let known = ["app".to_owned(), "name".to_owned(), "app.kubernetes.io/name".to_owned()];
        let found =
            SelectorLabel::of(&target(json!({"app.kubernetes.io/name": "x", "name": "y"})), &known).unwrap();
        assert_eq!((found.key.as_str(), found.primary_value().as_str()), ("name", "y-primary"));
        let error = SelectorLabel::of(&target(json!({"k8s-app": "x"})), &known).unwrap_err().to_string();
        assert!(error.starts_with("deployment n/a:"), "{error}");
    }

    #[test]
    fn affinity_and_spreading_follow_the_pods() {
        let selector = json!({"matchLabels": {"app": "podinfo", "tier": "web"},
            "matchExpressions": [{"key": "app", "operator": "In", "values": ["podinfo", "other"]}]});
        let mut template = json!({
            "metadata": {"labels": {"app": "podinfo", "tier": "web"}},
            "spec": {
                "affinity": {"podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": selector}],
                    "preferredDuringSchedulingIgnoredDuringExecution":
                        [{"weight": 1, "podAffinityTerm": {"labelSelector": selector}}]}},
                "topologySpreadConstraints": [{"labelSelector": selector}]
            }
        });
        SelectorLabel { key: "app".into(), value: "podinfo".into() }.make_primary(&mut template);
        let text = template.to_string();
        assert_eq!(text.matches("podinfo-primary").count(), 7);
        assert_eq!(text.matches("\"podinfo\"").count(), 0);
        assert_eq!(text.matches("other").count(), 3);
    }
}
