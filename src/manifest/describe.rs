//! What changed between two versions of an object, in words for a plan, an event or a commit.

use std::collections::BTreeSet;

use serde_json::Value;

use super::defaults::Image;

/// Most changes told one by one; the rest is a count. A line in a table or a commit holds no more.
const CHANGES_MAX: usize = 8;
/// Longest value that is shown, in characters.
const VALUE_MAX: usize = 60;
/// Fields that the API server writes: never the user's change.
const SERVER_FIELDS: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];
/// List items that are told apart by a field rather than by their place.
const LIST_KEYS: [&str; 2] = ["name", "containerPort"];

/// Says what differs: `image 3.1.0 -> 3.1.1`, `replicas 2 -> 3`, else field paths with both values.
///
/// Empty when nothing but server-written fields and status differs. Values of a Secret are not shown.
pub fn describe_change(kind: &str, old: &Value, new: &Value) -> Vec<String> {
    let mut walk =
        Walk { secret: kind == "Secret", containers: containers(new).max(containers(old)), found: Vec::new() };
    walk.compare(&mut Vec::new(), Some(old), Some(new));
    let mut found = walk.found;
    // What a release is about comes first.
    found.sort_by_key(|(rank, _)| *rank);
    let more = found.len().saturating_sub(CHANGES_MAX);
    let mut words: Vec<String> = found.into_iter().take(CHANGES_MAX).map(|(_, words)| words).collect();
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    words
}

fn containers(object: &Value) -> usize {
    let spec = object.pointer("/spec/template/spec");
    spec.and_then(|spec| spec.get("containers")?.as_array()).map_or(0, Vec::len)
}

struct Walk {
    secret: bool,
    containers: usize,
    found: Vec<(u8, String)>,
}

impl Walk {
    fn compare(&mut self, path: &mut Vec<String>, old: Option<&Value>, new: Option<&Value>) {
        let (old, new) = (old.filter(|value| !value.is_null()), new.filter(|value| !value.is_null()));
        match (old, new) {
            _ if old == new => {}
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
                for key in keys {
                    if ignored(path, key) {
                        continue;
                    }
                    path.push(key.clone());
                    self.compare(path, before.get(key), after.get(key));
                    path.pop();
                }
            }
            (Some(Value::Array(before)), Some(Value::Array(after))) => self.compare_lists(path, before, after),
            _ => self.tell(path, old, new),
        }
    }

    fn compare_lists(&mut self, path: &mut Vec<String>, before: &[Value], after: &[Value]) {
        let Some(key) = LIST_KEYS.into_iter().find(|key| keyed(before, key) && keyed(after, key)) else {
            if before.len() == after.len() {
                for (index, (old, new)) in before.iter().zip(after).enumerate() {
                    path.push(format!("[{index}]"));
                    self.compare(path, Some(old), Some(new));
                    path.pop();
                }
            } else {
                self.tell(path, Some(&Value::from(before)), Some(&Value::from(after)));
            }
            return;
        };
        let named =
            |list: &'_ [Value], name: &Value| list.iter().find(|item| item.get(key) == Some(name)).cloned();
        let mut told = BTreeSet::new();
        for item in before.iter().chain(after) {
            let name = &item[key];
            let label = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
            if told.insert(label.clone()) {
                path.push(format!("[{label}]"));
                self.compare(path, named(before, name).as_ref(), named(after, name).as_ref());
                path.pop();
            }
        }
        let order = |list: &[Value]| list.iter().map(|item| item[key].to_string()).collect::<Vec<_>>();
        if told.len() == before.len() && told.len() == after.len() && order(before) != order(after) {
            // Order matters: environment variables refer to earlier ones, init containers run one by one.
            self.found.push((2, format!("{} in another order", joined(path))));
        }
    }

    fn tell(&mut self, path: &[String], old: Option<&Value>, new: Option<&Value>) {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let (old_text, new_text) = (self.show(&words, old), self.show(&words, new));
        let told = match words.as_slice() {
            ["spec", "replicas"] => (1, format!("replicas {old_text} -> {new_text}")),
            ["spec", "template", "spec", list @ ("containers" | "initContainers"), item, "image"] => {
                let alone = *list == "containers" && self.containers <= 1;
                let owner = if alone { String::new() } else { format!(" of {}", item.trim_matches(['[', ']'])) };
                let (before, after) = image_words(old, new);
                (0, format!("image{owner} {before} -> {after}"))
            }
            _ => match (old, new) {
                (None, _) => (2, format!("{} added: {new_text}", joined(path))),
                (_, None) => (2, format!("{} removed", joined(path))),
                _ => (2, format!("{} {old_text} -> {new_text}", joined(path))),
            },
        };
        self.found.push(told);
    }

    fn show(&self, path: &[&str], value: Option<&Value>) -> String {
        let hidden = self.secret && matches!(path.first(), Some(&"data" | &"stringData"));
        let text = match value {
            None => return "unset".to_owned(),
            Some(_) if hidden => return "(hidden)".to_owned(),
            Some(Value::String(text)) if text.contains('\n') => format!("{} lines", text.lines().count()),
            Some(Value::String(text)) if text.is_empty() => "\"\"".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        if text.chars().count() <= VALUE_MAX {
            return text;
        }
        text.chars().take(VALUE_MAX).chain(['…']).collect()
    }
}

fn ignored(path: &[String], key: &str) -> bool {
    match path {
        [] => key == "status",
        [.., parent] => parent == "metadata" && SERVER_FIELDS.contains(&key),
    }
}

fn keyed(list: &[Value], key: &str) -> bool {
    let names: BTreeSet<String> = list.iter().filter_map(|item| item.get(key)).map(Value::to_string).collect();
    !list.is_empty() && names.len() == list.len()
}

fn joined(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if !part.starts_with('[') && !text.is_empty() {
            text.push('.');
        }
        text.push_str(part);
    }
    text
}

/// Only what differs: tags if the repositories agree, else the whole references.
fn image_words(old: Option<&Value>, new: Option<&Value>) -> (String, String) {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("unset").to_owned();
    let (before, after) = (text(old), text(new));
    let (a, b) = (Image::parse(&before), Image::parse(&after));
    if a.name != b.name || a.name == "unset" {
        return (before, after);
    }
    let version = |image: Image<'_>| match (image.tag, image.digest) {
        (Some(tag), None) => tag.to_owned(),
        (None, Some(digest)) => short_digest(digest),
        (Some(tag), Some(digest)) if a.tag == b.tag => format!("{tag}@{}", short_digest(digest)),
        (Some(tag), Some(_)) => tag.to_owned(),
        (None, None) => "latest".to_owned(),
    };
    (version(a), version(b))
}

/// `sha256:` and twelve characters, as container tools abbreviate.
fn short_digest(digest: &str) -> String {
    let length = digest.find(':').map_or(12, |colon| colon + 13);
    digest.get(..length).unwrap_or(digest).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(image: &str, replicas: i64) -> Value {
        json!({"metadata": {"generation": replicas}, "status": {"replicas": replicas}, "spec": {"replicas": replicas,
            "template": {"spec": {"containers": [{"name": "podinfod", "image": image, "env": [{"name": "A", "value": image}]}]}}}})
    }

    #[test]
    fn images_and_replicas_in_words() {
        let words = |old: &str, new: &str| {
            describe_change("Deployment", &deployment(old, 2), &deployment(new, 2))[0].clone()
        };
        assert_eq!(words("ghcr.io/x/podinfo:3.1.0", "ghcr.io/x/podinfo:3.1.1"), "image 3.1.0 -> 3.1.1");
        assert_eq!(words("host:5000/podinfo", "host:5000/podinfo:2"), "image latest -> 2");
        assert_eq!(words("a/podinfo:1", "b/podinfo:1"), "image a/podinfo:1 -> b/podinfo:1");
        let (old, new) = (format!("p:1@sha256:{}", "a".repeat(64)), format!("p:1@sha256:{}", "b".repeat(64)));
        assert_eq!(words(&old, &new), "image 1@sha256:aaaaaaaaaaaa -> 1@sha256:bbbbbbbbbbbb");
        let changes = describe_change("Deployment", &deployment("p:1", 2), &deployment("p:2", 3));
        assert_eq!(
            changes,
            ["image 1 -> 2", "replicas 2 -> 3", "spec.template.spec.containers[podinfod].env[A].value p:1 -> p:2"]
        );
    }

    #[test]
    fn nothing_of_a_secret_is_shown_and_nothing_of_the_server_is_told() {
        let (old, new) = (json!({"data": {"password": "YQ=="}}), json!({"data": {"password": "Yg=="}}));
        assert_eq!(describe_change("Secret", &old, &new), ["data.password (hidden) -> (hidden)"]);
        let (old, new) = (json!({"metadata": {"uid": "1"}, "status": {}}), json!({"metadata": {"uid": "2"}}));
        assert!(describe_change("Deployment", &old, &new).is_empty());
    }

    #[test]
    fn many_changes_are_counted() {
        let object = |value: &str| json!({"data": (0..12).map(|n| (format!("k{n}"), json!(value))).collect::<serde_json::Map<_, _>>()});
        let changes = describe_change("ConfigMap", &object("a"), &object("b"));
        assert_eq!((changes.len(), changes[8].as_str()), (9, "and 4 more"));
    }
}
