//! How the pods of the two sides are told apart: by the target's whole selector, of which one label differs.

use std::fmt;

use serde_json::{Map, Value};

/// Labels of pods, sorted by key: few, and kept for every Deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The texts in a JSON object; everything else is no label.
    pub fn of(labels: &Value) -> Self {
        let pairs = labels.as_object().into_iter().flatten();
        Self::collect(pairs.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))))
    }

    fn collect<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut pairs: Vec<(Box<str>, Box<str>)> =
            pairs.map(|(key, value)| (Box::from(key), Box::from(value))).collect();
        pairs.sort();
        Self(pairs.into_boxed_slice())
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// Whether these labels have all of `selector`. A selector without labels selects nothing, as in a Service.
    pub fn are_selected_by(&self, selector: &Self) -> bool {
        !selector.0.is_empty() && selector.iter().all(|(key, value)| self.get(key) == Some(value))
    }

    /// Keys and values, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The same with another value of a label.
    pub fn with(&self, key: &str, value: &str) -> Self {
        let others = self.iter().filter(|(found, _)| *found != key);
        Self::collect(others.chain([(key, value)]))
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        Value::Object(self.iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect::<Map<_, _>>())
    }
}

/// `app=store,part=web`, as `kubectl -l` takes it.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.iter().map(|(key, value)| format!("{key}={value}")).collect();
        f.write_str(&pairs.join(","))
    }
}

/// What tells the pods of target and primary from each other and from everybody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    /// Key of the label whose value ends in `-primary` on primary's side.
    key: Box<str>,
    /// The target's `spec.selector.matchLabels`.
    labels: Labels,
}

/// A target whose pods cannot be told from primary's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// It selects them by none of the known labels.
    #[error(
        "deployment {target}: spec.selector.matchLabels must contain one of the labels {candidates}: primary and canary \
         pods are told apart by it"
    )]
    Unlabelled {
        /// Namespace and name.
        target: String,
        /// What it may be, in words.
        candidates: String,
    },
    /// Its selector says what primary's pods must not be.
    #[error(
        "deployment {target}: spec.selector.matchExpressions excludes pods with {label}, which primary's would carry: \
         remove that value"
    )]
    Excludes {
        /// Namespace and name.
        target: String,
        /// The label of primary's pods.
        label: String,
    },
    /// Primary's value would be too long.
    #[error(
        "deployment {target}: label {label} of its pods has {length} characters, and primary's, {label} with -primary behind it, \
         would have more than {LABEL_VALUE_MAX}: shorten it in selector and template, which makes another Deployment of it"
    )]
    TooLong {
        /// Namespace and name.
        target: String,
        /// Key and value.
        label: String,
        /// Characters of the value.
        length: usize,
    },
}

/// Longest value of a label, in characters.
const LABEL_VALUE_MAX: usize = 63;

impl Sides {
    /// Of a target: the first of `candidates` that is in its `matchLabels` is the label that differs.
    ///
    /// # Errors
    /// When there is none, or the selector rules primary's value out, or that is too long.
    pub fn of(target: &Value, candidates: &[String]) -> Result<Self, SelectorError> {
        let selector = &target["spec"]["selector"];
        let labels = Labels::of(&selector["matchLabels"]);
        let text = |key: &str| target["metadata"][key].as_str().unwrap_or_default();
        let name = || format!("{}/{}", text("namespace"), text("name"));
        let Some(key) = candidates.iter().find(|key| labels.get(key).is_some()) else {
            return Err(SelectorError::Unlabelled { target: name(), candidates: candidates.join(", ") });
        };
        let sides = Self { key: key.as_str().into(), labels };
        let primary = sides.primary_value();
        if primary.len() > LABEL_VALUE_MAX {
            let length = sides.target_value().len();
            let label = format!("{}={}", sides.key, sides.target_value());
            return Err(SelectorError::TooLong { target: name(), label, length });
        }
        let excludes = |expression: &&Value| {
            expression["key"] == *sides.key
                && match expression["operator"].as_str() {
                    Some("NotIn") => list(&expression["values"]).any(|value| value == primary.as_str()),
                    Some("DoesNotExist") => true,
                    Some(_) | None => false,
                }
        };
        if list(&selector["matchExpressions"]).any(|expression| excludes(&expression)) {
            return Err(SelectorError::Excludes { target: name(), label: format!("{}={primary}", sides.key) });
        }
        Ok(sides)
    }

    /// Key of the label that differs.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its value on the target's side.
    pub fn target_value(&self) -> &str {
        self.labels.get(&self.key).unwrap_or_default()
    }

    /// Its value on primary's side.
    pub fn primary_value(&self) -> String {
        format!("{}-primary", self.target_value())
    }

    /// What selects the target's pods.
    pub fn target(&self) -> &Labels {
        &self.labels
    }

    /// What selects primary's pods.
    pub fn primary(&self) -> Labels {
        self.labels.with(&self.key, &self.primary_value())
    }

    /// What selects primary's pods, given the labels that they carry: a primary that was made from another selector may
    /// have fewer, and must not lose its users for that.
    pub fn primary_among(&self, pods: &Labels) -> Labels {
        let primary = self.primary();
        let carried = primary.iter().filter(|(key, value)| *key == &*self.key || pods.get(key) == Some(value));
        Labels::collect(carried)
    }

    /// The labels that a pod of the target carries as primary's.
    pub fn as_primary(&self, pods: &Labels) -> Labels {
        pods.with(&self.key, &self.primary_value())
    }

    /// Which of the two selectors takes the pods of somebody else.
    pub fn takes(&self, pods: &Labels) -> Option<Labels> {
        let primary = self.primary();
        [&self.labels, &primary].into_iter().find(|selector| pods.are_selected_by(selector)).cloned()
    }

    /// The selector of a new primary: the target's, with primary's label.
    pub(super) fn primary_selector(&self, target: &Value) -> Value {
        let mut selector = target["spec"]["selector"].clone();
        if let Some(selector) = selector.as_object_mut() {
            selector.insert("matchLabels".to_owned(), self.labels.to_json());
        }
        self.rewrite_selector(&mut selector, self.target_value(), &self.primary_value());
        selector
    }

    /// Gives a pod template primary's label, also where its own affinity and spreading rules select by it.
    pub(super) fn make_primary(&self, template: &mut Value) {
        self.rename(template, self.target_value(), &self.primary_value());
    }

    /// The reverse: a template of primary in the target's terms.
    pub fn make_target(&self, template: &mut Value) {
        self.rename(template, &self.primary_value(), self.target_value());
    }

    fn rename(&self, template: &mut Value, from: &str, to: &str) {
        if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.insert(self.key.to_string(), Value::from(to));
        }
        for kind in ["podAffinity", "podAntiAffinity"] {
            let base = format!("/spec/affinity/{kind}");
            self.rewrite_terms(
                template.pointer_mut(&format!("{base}/requiredDuringSchedulingIgnoredDuringExecution")),
                "/labelSelector",
                from,
                to,
            );
            self.rewrite_terms(
                template.pointer_mut(&format!("{base}/preferredDuringSchedulingIgnoredDuringExecution")),
                "/podAffinityTerm/labelSelector",
                from,
                to,
            );
        }
        self.rewrite_terms(template.pointer_mut("/spec/topologySpreadConstraints"), "/labelSelector", from, to);
    }

    fn rewrite_terms(&self, terms: Option<&mut Value>, selector: &str, from: &str, to: &str) {
        for term in terms.and_then(Value::as_array_mut).into_iter().flatten() {
            let about = |selector: &Value| !self.is_about_others(selector, from);
            if let Some(selector) = term.pointer_mut(selector).filter(|selector| about(selector)) {
                self.rewrite_selector(selector, from, to);
            }
        }
    }

    /// Whether a selector means other pods than the side that has `own` value, although it has their label: another part of
    /// the same app.
    fn is_about_others(&self, selector: &Value, own: &str) -> bool {
        let labels = Labels::of(&selector["matchLabels"]);
        let is_other =
            |key: &str, value: &str, other: &str| if key == &*self.key { other != own } else { other != value };
        self.labels.iter().any(|(key, value)| labels.get(key).is_some_and(|other| is_other(key, value, other)))
    }

    fn rewrite_selector(&self, selector: &mut Value, from: &str, to: &str) {
        if let Some(value) = selector.get_mut("matchLabels").and_then(|labels| labels.get_mut(&*self.key))
            && value == from
        {
            *value = Value::from(to);
        }
        let expressions = selector.get_mut("matchExpressions").and_then(Value::as_array_mut);
        for expression in expressions.into_iter().flatten().filter(|expression| expression["key"] == *self.key) {
            for value in expression.get_mut("values").and_then(Value::as_array_mut).into_iter().flatten() {
                if value == from {
                    *value = Value::from(to);
                }
            }
        }
    }
}

/// Labels of the pods that an object is or makes; `None` if it has none to do with pods.
pub fn pods_of(object: &Value) -> Option<Labels> {
    if object["kind"] == "Pod" {
        return Some(Labels::of(&object["metadata"]["labels"]));
    }
    let templates = ["/spec/template", "/spec/jobTemplate/spec/template"];
    let template = templates.iter().find_map(|path| object.pointer(path))?;
    // Other kinds have templates of other things.
    template["spec"]["containers"].is_array().then(|| Labels::of(&template["metadata"]["labels"]))
}

/// Why a Canary cannot tell the pods of its target from those of another workload, in words. `target` is `Deployment a/b`.
pub fn mixed_up(target: &str, selector: &Labels, other: &str) -> String {
    format!(
        "{target}: its pods and primary's are told from others by their labels, and the pods of {other} carry {selector} \
         too: users of one would be sent to the other; give each of them a label of its own in spec.selector (a selector \
         cannot be changed: make the Deployment anew)"
    )
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(selector: Value) -> Value {
        json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"selector": selector}})
    }

    fn sides(labels: Value) -> Sides {
        Sides::of(&target(json!({"matchLabels": labels})), &["app".to_owned()]).unwrap()
    }

    fn labels(labels: Value) -> Labels {
        Labels::of(&labels)
    }

    #[test]
    fn prefers_labels_in_flaggers_order() {
        let known = ["app".to_owned(), "name".to_owned(), "app.kubernetes.io/name".to_owned()];
        let found =
            Sides::of(&target(json!({"matchLabels": {"app.kubernetes.io/name": "x", "name": "y"}})), &known)
                .unwrap();
        assert_eq!((found.key(), found.primary_value().as_str()), ("name", "y-primary"));
        assert_eq!(found.primary().to_string(), "app.kubernetes.io/name=x,name=y-primary");
        let error = Sides::of(&target(json!({"matchLabels": {"k8s-app": "x"}})), &known).unwrap_err().to_string();
        assert!(error.starts_with("deployment n/a:"), "{error}");
    }

    #[test]
    fn two_parts_of_one_app_take_only_their_own_pods() {
        let (web, api) = (json!({"app": "store", "part": "web"}), json!({"app": "store", "part": "api"}));
        let (web_side, api_side) = (sides(web.clone()), sides(api.clone()));
        for (own, others) in [(&web_side, &api), (&api_side, &web)] {
            assert_eq!(own.takes(&labels(others.clone())), None);
            assert_eq!(own.takes(&sides(others.clone()).as_primary(&labels(others.clone()))), None);
        }
        let both = sides(json!({"app": "store"}));
        assert_eq!(both.takes(&labels(web.clone())).unwrap().to_string(), "app=store");
        let primary_of_web = web_side.as_primary(&labels(web));
        assert_eq!(both.takes(&primary_of_web).unwrap().to_string(), "app=store-primary");
    }

    #[test]
    fn a_primary_with_fewer_labels_keeps_its_users() {
        let web = sides(json!({"app": "store", "part": "web"}));
        let carries = |found: Value| web.primary_among(&labels(found)).to_string();
        assert_eq!(
            carries(json!({"app": "store-primary", "part": "web", "x": "y"})),
            "app=store-primary,part=web"
        );
        assert_eq!(carries(json!({"app": "store-primary"})), "app=store-primary");
        assert_eq!(carries(json!({"app": "store-primary", "part": "old"})), "app=store-primary");
    }

    #[test]
    fn expressions_stay_and_one_that_rules_primary_out_is_refused() {
        let with = |expression: Value| {
            let target = target(json!({"matchLabels": {"app": "a"}, "matchExpressions": [expression]}));
            let sides = Sides::of(&target, &["app".to_owned()])?;
            Ok::<_, SelectorError>(sides.primary_selector(&target)["matchExpressions"][0]["values"].clone())
        };
        assert_eq!(
            with(json!({"key": "app", "operator": "In", "values": ["a", "b"]})).unwrap(),
            json!(["a-primary", "b"])
        );
        assert_eq!(with(json!({"key": "tier", "operator": "NotIn", "values": ["a"]})).unwrap(), json!(["a"]));
        let refused = with(json!({"key": "app", "operator": "NotIn", "values": ["a-primary"]})).unwrap_err();
        assert!(refused.to_string().contains("excludes pods with app=a-primary"), "{refused}");
    }

    #[test]
    fn affinity_and_spreading_follow_the_pods() {
        let selector = json!({"matchLabels": {"app": "podinfo", "tier": "web"},
            "matchExpressions": [{"key": "app", "operator": "In", "values": ["podinfo", "other"]}]});
        let elsewhere = json!({"matchLabels": {"app": "podinfo", "tier": "db"}});
        let mut template = json!({
            "metadata": {"labels": {"app": "podinfo", "tier": "web"}},
            "spec": {
                "affinity": {
                    "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": elsewhere}]},
                    "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": selector}],
                    "preferredDuringSchedulingIgnoredDuringExecution":
                        [{"weight": 1, "podAffinityTerm": {"labelSelector": selector}}]}},
                "topologySpreadConstraints": [{"labelSelector": selector}]
            }
        });
        let (sides, before) = (sides(json!({"app": "podinfo", "tier": "web"})), template.clone());
        sides.make_primary(&mut template);
        let mut back = template.clone();
        sides.make_target(&mut back);
        assert_eq!(back, before, "and back");
        let text = template.to_string();
        assert_eq!(text.matches("podinfo-primary").count(), 7);
        assert_eq!(text.matches("\"podinfo\"").count(), 1, "another part of the app keeps its name");
        assert_eq!(text.matches("other").count(), 3);
    }
}
