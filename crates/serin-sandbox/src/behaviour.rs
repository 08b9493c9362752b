//! How an in-process pod behaves, read from its image tag or environment.
//!
//! | tag contains | environment (first container) | effect |
//! |---|---|---|
//! | `-errors-<percent>` | `SANDBOX_ERRORS=<percent>` | that share of requests is answered 500 |
//! | `-notfound-<percent>` | `SANDBOX_NOTFOUND=<percent>` | that share of requests is answered 404 |
//! | `-slow-<ms>` | `SANDBOX_SLOW=<ms>` | every answer takes that long |
//! | `-unready` | `SANDBOX_UNREADY=true` | the pod never becomes ready |
//! | `-capacity-<n>` | `SANDBOX_CAPACITY=<n>` | requests beyond that many a second are answered 503 |
//! | `-badtoken` | `SANDBOX_BADTOKEN=true` | `/token` answers 500, so the acceptance test fails |
//!
//! The environment wins over the tag. Anything else is healthy. An image cannot be pulled whose tag contains `nopull`, `fake`,
//! `invalid` or `does-not-exist`.

use std::time::Duration;

use serde_json::Value;

/// What a tag can say and what it does, for people.
pub const TAGS: [(&str, &str); 7] = [
    ("-errors-50", "50 % of requests are answered 500"),
    ("-notfound-20", "20 % of requests are answered 404"),
    ("-slow-300", "every answer takes 300 ms"),
    ("-capacity-20", "requests beyond 20 a second and pod are answered 503"),
    ("-unready", "pods never become ready"),
    ("-badtoken", "the acceptance test fails"),
    ("-nopull", "the image cannot be pulled"),
];

/// Longest simulated latency; beyond it every client in use has given up.
const SLOW_MAX: Duration = Duration::from_secs(60);

/// How a pod behaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Behaviour {
    /// Image tag, what `/version` answers.
    pub version: String,
    /// Percent of requests answered 500.
    pub errors: u8,
    /// Percent of requests answered 404.
    pub not_found: u8,
    /// Added to every answer.
    pub slow: Duration,
    /// Never ready.
    pub unready: bool,
    /// `/token` fails.
    pub bad_token: bool,
    /// Requests a second that are answered; zero: all.
    pub capacity: u32,
}

impl Behaviour {
    /// Reads a pod (or pod template): `spec.containers[0]`.
    pub fn of(pod: &Value) -> Self {
        let container = &pod["spec"]["containers"][0];
        let tag = tag_of(container["image"].as_str().unwrap_or_default());
        let env = |name: &str| {
            container["env"]
                .as_array()
                .and_then(|vars| vars.iter().find(|var| var["name"] == name))
                .and_then(|var| var["value"].as_str())
        };
        let number = |name: &str, marker: &str| -> u64 {
            env(name).and_then(|text| text.parse().ok()).or_else(|| number_after(tag, marker)).unwrap_or(0)
        };
        let flag =
            |name: &str, marker: &str| env(name).map_or_else(|| tag.contains(marker), |text| text == "true");
        Self {
            version: tag.to_owned(),
            errors: percent(number("SANDBOX_ERRORS", "-errors-")),
            not_found: percent(number("SANDBOX_NOTFOUND", "-notfound-")),
            slow: Duration::from_millis(number("SANDBOX_SLOW", "-slow-")).min(SLOW_MAX),
            unready: flag("SANDBOX_UNREADY", "-unready"),
            bad_token: flag("SANDBOX_BADTOKEN", "-badtoken"),
            capacity: u32::try_from(number("SANDBOX_CAPACITY", "-capacity-")).unwrap_or(u32::MAX),
        }
    }
}

/// Whether an image is one that no registry has.
pub fn cannot_be_pulled(image: &str) -> bool {
    let tag = tag_of(image).to_ascii_lowercase();
    ["nopull", "fake", "invalid", "does-not-exist"].iter().any(|word| tag.contains(word))
}

/// The tag of an image reference; `latest` without one. A registry's port is not a tag.
fn tag_of(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').map_or("latest", |(_, tag)| tag)
}

fn number_after(tag: &str, marker: &str) -> Option<u64> {
    let rest = tag.split_once(marker)?.1;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn percent(number: u64) -> u8 {
    u8::try_from(number.min(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(image: &str) -> Behaviour {
        Behaviour::of(&json!({"spec": {"containers": [{"image": image}]}}))
    }

    #[test]
    fn reads_tags() {
        assert_eq!(
            of("stefanprodan/podinfo:3.1.0"),
            Behaviour { version: "3.1.0".into(), ..Behaviour::default() }
        );
        assert_eq!(of("r.io:5000/podinfo:3.1.2-errors-50").errors, 50);
        assert_eq!(of("podinfo:1-slow-700").slow, Duration::from_millis(700));
        assert!(of("podinfo:1-unready").unready);
        assert_eq!(of("podinfo:1-errors-5-capacity-20").capacity, 20);
        assert!(cannot_be_pulled("alpine:fakeVersion") && !cannot_be_pulled("fake.example.com/podinfo:1"));
        assert_eq!(of("r.io:5000/podinfo").version, "latest");
    }

    #[test]
    fn environment_wins() {
        let pod = json!({"spec": {"containers": [{
            "image": "podinfo:1-errors-50", "env": [{"name": "SANDBOX_ERRORS", "value": "0"}]
        }]}});
        assert_eq!(Behaviour::of(&pod).errors, 0);
    }
}
