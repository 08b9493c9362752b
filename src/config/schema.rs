//! What `serin.yaml` may hold, as a JSON schema: `deploy/serin.schema.json`, for editors and for CI.
//!
//! The reader decides; this table says the same for machines, and a test holds the two against each other.

use serde_json::{Map, Value, json};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Text,
    Texts,
    Flag,
    Number,
    /// Go's `1m30s`.
    Duration,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// Every field by its path; `[]` stands for the items of a list.
const FIELDS: &[(&str, Holds, &str)] = &[
    ("cluster.name", Holds::Text, "Names this cluster on the status branch"),
    (
        "kubeconfig",
        Holds::Text,
        "Kubeconfig file; otherwise $KUBECONFIG, ~/.kube/config or the pod's service account",
    ),
    ("context", Holds::Text, "Context of the kubeconfig"),
    ("git.url", Holds::Text, "Repository to release from: a path, https:// or ssh:// URL"),
    ("git.branch", Holds::Text, "What is watched; main when absent"),
    ("git.path", Holds::Text, "Folder of the manifests in the repository"),
    ("git.ignore", Holds::Texts, "What is left out, as in .gitignore"),
    ("git.pollInterval", Holds::Duration, "Time between two looks; 30s when absent"),
    ("git.author.name", Holds::Text, "Name on Serin's commits"),
    ("git.author.email", Holds::Text, "E-mail address on Serin's commits"),
    ("git.statusBranch", Holds::Text, "Branch of the record; serin/status/<cluster.name> when absent"),
    ("git.username", Holds::Text, "User name that goes with the token"),
    ("git.tokenFile", Holds::Text, "File with a token that may push"),
    ("git.keyFile", Holds::Text, "SSH key, in OpenSSH's format, without a passphrase"),
    ("git.knownHostsFile", Holds::Text, "Host keys that are trusted, as ssh-keyscan prints them"),
    ("git.allowedSignersFile", Holds::Text, "Only commits signed by these SSH keys are applied"),
    ("git.signingKeyFile", Holds::Text, "SSH key that signs Serin's own commits"),
    ("rollback", Holds::Word(&["commit", "pullRequest", "record"]), "What a failed release does in Git"),
    ("forge.type", Holds::Text, "What kind of forge it is; told by the URL when absent"),
    ("forge.url", Holds::Text, "Its address, if it is not the public one"),
    ("forge.repository", Holds::Text, "Owner and name; told by git.url when absent"),
    ("forge.username", Holds::Text, "User name that goes with the token"),
    ("forge.tokenFile", Holds::Text, "File with a token; git.tokenFile when absent"),
    ("forge.tokenEnv", Holds::Text, "Environment variable with a token"),
    ("forge.targetUrl", Holds::Text, "Where a commit's status leads to"),
    ("forge.caFile", Holds::Text, "Certificate authorities that are trusted, as PEM"),
    ("forge.app.id", Holds::Text, "Id of a GitHub App"),
    ("forge.app.keyFile", Holds::Text, "File with its private key"),
    ("forge.app.keyEnv", Holds::Text, "Environment variable with its private key"),
    ("webhooks.secretFile", Holds::Text, "File with what push webhooks prove themselves with"),
    ("webhooks.secretEnv", Holds::Text, "Environment variable with what push webhooks prove themselves with"),
    ("loadTester.urls", Holds::Texts, "Load testers that are asked with the token"),
    ("loadTester.tokenFile", Holds::Text, "File with the token that they were started with"),
    ("loadTester.tokenEnv", Holds::Text, "Environment variable with the token that they were started with"),
    ("metrics.address", Holds::Text, "Prometheus for the built-in checks"),
    ("http.listen", Holds::Text, "Where probes, metrics and push webhooks are served"),
    ("http.proxy", Holds::Text, "Proxy for webhooks and metric queries"),
    ("lease.enabled", Holds::Flag, "Whether a lease makes this daemon the only one"),
    ("lease.namespace", Holds::Text, "Namespace of lease and inventory"),
    ("lease.name", Holds::Text, "Name of the lease"),
    ("stateDir", Holds::Text, "Folder for caches, which may be lost at any time"),
    ("speed", Holds::Number, "Divides intervals and deadlines, for demonstrations"),
    ("drain", Holds::Duration, "How long the canary is kept after its weight has become 0"),
    ("settle", Holds::Duration, "How long a canary has to have been ready before it gets traffic"),
    ("rollouts", Holds::Flag, "Release Argo Rollouts' Rollouts, too"),
    ("namespace", Holds::Text, "Only this namespace"),
    ("selectorLabels", Holds::Texts, "Labels that may tell the pods of both sides apart, most wanted first"),
    ("releaseWindows[].kind", Holds::Word(&["allow", "freeze"]), "Releases begin in it, or none does"),
    ("releaseWindows[].schedule", Holds::Text, "When it begins: minute, hour, day of month, month, weekday"),
    ("releaseWindows[].timeZone", Holds::Text, "Time zone of the schedule, by its IANA name; UTC when absent"),
    ("releaseWindows[].duration", Holds::Duration, "How long it lasts"),
    ("environments[].name", Holds::Text, "Name of another environment"),
    ("environments[].branch", Holds::Text, "Branch of its record; serin/status/<name> when absent"),
    ("environments[].protected", Holds::Flag, "Only its daemon may push to that branch: its record is believed"),
    (
        "environments[].allowedSignersFile",
        Holds::Text,
        "Its record is believed if it is signed by one of these SSH keys",
    ),
    ("waitFor[].environment", Holds::Text, "The environment that has to have run a new revision first"),
    ("waitFor[].bake", Holds::Duration, "For how long; not at all when absent"),
    ("waitFor[].match", Holds::Word(&["images", "commit", "digest"]), "What has to be the same"),
];

/// Fields that cannot be left out where what is around them is there.
const NEEDED: &[&str] =
    &["releaseWindows[].schedule", "releaseWindows[].duration", "environments[].name", "waitFor[].environment"];

/// The schema.
pub fn schema() -> Value {
    let mut root = object();
    for (path, holds, words) in FIELDS {
        let mut at = &mut root;
        let parts: Vec<&str> = path.split('.').collect();
        let (last, above) = match parts.as_slice() {
            [above @ .., last] => (*last, above),
            [] => continue,
        };
        for part in above {
            let (name, is_list) = part.strip_suffix("[]").map_or((*part, false), |name| (name, true));
            let made = if is_list { json!({"type": "array", "items": object()}) } else { object() };
            let below = at["properties"].as_object_mut().map(|fields| fields.entry(name).or_insert(made));
            let Some(below) = below else { return root };
            at = if is_list { &mut below["items"] } else { below };
        }
        at["properties"][last] = field(*holds, words);
        if NEEDED.contains(path) {
            let needed = at.as_object_mut().map(|at| at.entry("required").or_insert_with(|| json!([])));
            if let Some(Value::Array(needed)) = needed {
                needed.push(json!(last));
            }
        }
    }
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("serin.yaml");
    root
}

fn object() -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": Map::new()})
}

fn field(holds: Holds, words: &str) -> Value {
    // A number is a text, too: `name: 1`.
    let text = json!(["string", "number"]);
    match holds {
        Holds::Text => json!({"description": words, "type": text}),
        Holds::Texts => json!({"description": words, "type": "array", "items": {"type": "string"}}),
        Holds::Flag => json!({"description": words, "type": "boolean"}),
        Holds::Number => json!({"description": words, "type": text}),
        Holds::Duration => {
            json!({"description": words, "type": "string", "pattern": "^([0-9.]+(ns|us|µs|ms|s|m|h))+$"})
        }
        Holds::Word(known) => json!({"description": words, "enum": known}),
    }
}

/// The paths of the table.
#[cfg(test)]
pub(super) fn paths() -> std::collections::BTreeSet<String> {
    FIELDS.iter().map(|(path, _, _)| (*path).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_committed_schema_is_fresh() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/serin.schema.json");
        let want = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        if std::env::var_os("SERIN_BLESS").is_some() {
            std::fs::write(&path, &want).unwrap();
        }
        let have = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(have == want, "it is stale: run the tests once with SERIN_BLESS=1");
    }

    /// Every key of a text is in the schema.
    fn unknown(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match schema["properties"].get(name) {
                        Some(below) => unknown(below, value, &format!("{at}.{name}"), found),
                        None => found.push(format!("{at}.{name}")),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| unknown(&schema["items"], item, at, found)),
            _ => {}
        }
    }

    #[test]
    fn what_is_shipped_is_in_the_schema() {
        let text = include_str!("../../deploy/kustomize/serin.yaml");
        let value: Value = serde_yaml::from_str(text).unwrap();
        let mut found = Vec::new();
        unknown(&schema(), &value, "", &mut found);
        assert_eq!(found, [""; 0]);
        unknown(&schema(), &json!({"git": {"brunch": "main"}}), "", &mut found);
        assert_eq!(found, [".git.brunch"]);
    }
}
