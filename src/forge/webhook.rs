//! Whether a push webhook comes from whom it says: each forge's way of proving it, over a body that is never held whole.
//!
//! A body only wakes: nothing of it is believed, so nothing of it is kept.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use jiff::Timestamp;
use ring::hmac;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::http::{Secret, SecretSource};

/// Shortest secret, in characters: less can be guessed.
pub const SECRET_MIN: usize = 16;
/// Secrets that are good at the same time: the old and the new one while they are exchanged, and room.
const SECRETS_MAX: usize = 4;
/// Age of a signed time beyond which a webhook is one of the past, in seconds (Standard Webhooks).
const AGE_MAX: i64 = 300;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// GitHub: `X-Hub-Signature-256`.
    GitHub,
    /// GitLab: `webhook-signature`, or the older `X-Gitlab-Token`.
    GitLab,
    /// Gitea, Forgejo: `X-Gitea-Signature`, `X-Forgejo-Signature`.
    Gitea,
    /// Bitbucket: `X-Hub-Signature`.
    Bitbucket,
    /// Azure DevOps: the password of basic authentication.
    Azure,
    /// Anybody: `X-Signature: sha256=<hex>`.
    Generic,
}

impl FromStr for Sender {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "github" => Self::GitHub,
            "gitlab" => Self::GitLab,
            "gitea" | "forgejo" => Self::Gitea,
            "bitbucket" => Self::Bitbucket,
            "azure" => Self::Azure,
            "generic" => Self::Generic,
            _ => return Err(()),
        })
    }
}

/// The secrets that are good now: one a line of a file, so that they can be exchanged.
#[derive(Clone)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// Reads them.
    ///
    /// # Errors
    /// When there is none, too many, or one is too short. The words hold nothing of them.
    pub fn read(source: &SecretSource) -> Result<Self, String> {
        let text = source.read()?;
        let all: Vec<Secret> = text.expose().lines().map(Secret::new).filter(|it| !it.is_empty()).collect();
        if all.len() > SECRETS_MAX {
            return Err(format!("{source} holds {} secrets, more than {SECRETS_MAX}", all.len()));
        }
        match all.iter().any(|secret| secret.expose().chars().count() < SECRET_MIN) {
            true => Err(format!("{source} holds a secret of fewer than {SECRET_MIN} characters")),
            false => Ok(Self(all)),
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// What proves a body.
enum Proof {
    /// A signature, made with one of the secrets.
    Signature { signed: Vec<u8>, with: Vec<hmac::Context> },
    /// What came beside it was right.
    Known,
}

/// A body on its way.
pub struct Body {
    proof: Proof,
    digest: Sha256,
}

/// What a proved body is known by: a repetition has the same.
pub type Fingerprint = [u8; 32];

impl Sender {
    /// Begins to look at a webhook: its head. `None` if nothing in it could prove it.
    pub fn begin(self, headers: &HeaderMap, secrets: &Secrets, now: Timestamp) -> Option<Body> {
        let proof = match self {
            Self::GitHub => signature(text(headers, "x-hub-signature-256")?, secrets)?,
            Self::Bitbucket => signature(text(headers, "x-hub-signature")?, secrets)?,
            Self::Generic => signature(text(headers, "x-signature")?, secrets)?,
            Self::Gitea => {
                let own = ["x-forgejo-signature", "x-gitea-signature"].iter().find_map(|it| text(headers, it));
                match own {
                    Some(hex) => hmac_of(hex, hmac::HMAC_SHA256, secrets)?,
                    None => signature(text(headers, "x-hub-signature-256")?, secrets)?,
                }
            }
            Self::GitLab => match text(headers, "webhook-signature") {
                Some(signatures) => standard(signatures, headers, secrets, now)?,
                None => known(text(headers, "x-gitlab-token")?, secrets)?,
            },
            Self::Azure => {
                let basic = text(headers, "authorization")?.strip_prefix("Basic ")?;
                let pair = String::from_utf8(STANDARD.decode(basic.trim()).ok()?).ok()?;
                known(pair.split_once(':')?.1, secrets)?
            }
        };
        Some(Body { proof, digest: Sha256::new() })
    }

    /// Whether it only asks whether somebody is there.
    pub fn is_ping(self, headers: &HeaderMap) -> bool {
        let event = ["x-github-event", "x-event-key"].iter().find_map(|name| text(headers, name));
        event.is_some_and(|event| event == "ping" || event == "diagnostics:ping")
    }
}

impl Body {
    /// The next part of it.
    pub fn update(&mut self, part: &[u8]) {
        self.digest.update(part);
        if let Proof::Signature { with, signed: _ } = &mut self.proof {
            for context in with {
                context.update(part);
            }
        }
    }

    /// The end of it: what it is known by if it was proved.
    pub fn finish(self) -> Option<Fingerprint> {
        let proved = match self.proof {
            Proof::Known => true,
            Proof::Signature { signed, with } => {
                let mut right = subtle::Choice::from(0);
                for context in with {
                    // All are compared, whichever is right.
                    right |= context.sign().as_ref().ct_eq(&signed);
                }
                right.into()
            }
        };
        proved.then(|| self.digest.finalize().into())
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// `sha256=<hex>`; SHA-1 proves nothing any more.
fn signature(text: &str, secrets: &Secrets) -> Option<Proof> {
    let (algorithm, hex) = text.split_once('=')?;
    match algorithm {
        "sha256" => hmac_of(hex, hmac::HMAC_SHA256, secrets),
        "sha512" => hmac_of(hex, hmac::HMAC_SHA512, secrets),
        _ => None,
    }
}

fn hmac_of(hex: &str, algorithm: hmac::Algorithm, secrets: &Secrets) -> Option<Proof> {
    let signed = unhex(hex.trim())?;
    let with = secrets.0.iter().map(|secret| hmac::Key::new(algorithm, secret.expose().as_bytes()));
    Some(Proof::Signature { signed, with: with.map(|key| hmac::Context::with_key(&key)).collect() })
}

/// Standard Webhooks: `v1,<base64>` of `<id>.<timestamp>.<body>`.
fn standard(signatures: &str, headers: &HeaderMap, secrets: &Secrets, now: Timestamp) -> Option<Proof> {
    let (id, at) = (text(headers, "webhook-id")?, text(headers, "webhook-timestamp")?);
    let age = now.as_second().saturating_sub(at.parse::<i64>().ok()?);
    if age.saturating_abs() > AGE_MAX {
        return None;
    }
    // Several stand there while keys are exchanged; one of ours signs the newest.
    let first = signatures.split_whitespace().find_map(|it| it.strip_prefix("v1,"))?;
    let signed = STANDARD.decode(first).ok()?;
    let head = format!("{id}.{at}.");
    let contexts = secrets.0.iter().map(|secret| {
        let text = secret.expose();
        let decoded = text.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
        let key = decoded.unwrap_or_else(|| text.as_bytes().to_vec());
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
        context.update(head.as_bytes());
        context
    });
    Some(Proof::Signature { signed, with: contexts.collect() })
}

/// A secret that was sent itself. Compared by digests: of one length, whatever was sent.
fn known(sent: &str, secrets: &Secrets) -> Option<Proof> {
    let sent = Sha256::digest(sent.as_bytes());
    let mut right = subtle::Choice::from(0);
    for secret in &secrets.0 {
        right |= sent.as_slice().ct_eq(Sha256::digest(secret.expose().as_bytes()).as_slice());
    }
    bool::from(right).then_some(Proof::Known)
}

/// Longest signature, in hexadecimal characters: SHA-512's.
const HEX_MAX: usize = 128;

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || text.len() > HEX_MAX || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "the-old-secret-of-16";
    const NEW: &str = "the-new-secret-of-16";

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn secrets() -> Secrets {
        Secrets(vec![Secret::new(OLD), Secret::new(NEW)])
    }

    fn headers(all: &[(&'static str, String)]) -> HeaderMap {
        all.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn mac(secret: &str, body: &[u8]) -> String {
        hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body).as_ref())
    }

    fn proved(sender: Sender, headers: &HeaderMap, body: &[u8]) -> bool {
        let Some(mut found) = sender.begin(headers, &secrets(), now()) else { return false };
        for part in body.chunks(7) {
            found.update(part);
        }
        found.finish().is_some()
    }

    fn standard_headers(secret: &str, at: i64, body: &[u8]) -> HeaderMap {
        let content = [format!("msg_1.{at}.").as_bytes(), body].concat();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &content);
        headers(&[
            ("webhook-id", "msg_1".into()),
            ("webhook-timestamp", at.to_string()),
            ("webhook-signature", format!("v1,{}", STANDARD.encode(tag))),
        ])
    }

    #[test]
    fn each_forge_proves_itself_with_either_secret_and_with_no_other() {
        let body = br#"{"ref":"refs/heads/main"}"#;
        for (secret, right) in [(OLD, true), (NEW, true), ("somebody-elses-secret", false)] {
            let basic = STANDARD.encode(format!("anybody:{secret}"));
            let all = [
                (Sender::GitHub, "x-hub-signature-256", format!("sha256={}", mac(secret, body))),
                (Sender::Bitbucket, "x-hub-signature", format!("sha256={}", mac(secret, body))),
                (Sender::Gitea, "x-gitea-signature", mac(secret, body)),
                (Sender::Gitea, "x-forgejo-signature", mac(secret, body)),
                (Sender::Gitea, "x-hub-signature-256", format!("sha256={}", mac(secret, body))),
                (Sender::Generic, "x-signature", format!("sha256={}", mac(secret, body))),
                (Sender::GitLab, "x-gitlab-token", secret.to_owned()),
                (Sender::Azure, "authorization", format!("Basic {basic}")),
            ];
            for (sender, name, value) in all {
                assert_eq!(proved(sender, &headers(&[(name, value)]), body), right, "{sender:?} {name}");
            }
            assert_eq!(proved(Sender::GitLab, &standard_headers(secret, 1_800_000_010, body), body), right);
        }
        // Of another body, of the past, unsigned, or signed with what anybody can break.
        let other = headers(&[("x-hub-signature-256", format!("sha256={}", mac(NEW, b"other")))]);
        assert!(!proved(Sender::GitHub, &other, body));
        assert!(!proved(Sender::GitLab, &standard_headers(NEW, 1_799_999_000, body), body));
        assert!(!proved(Sender::GitHub, &HeaderMap::new(), body));
        assert!(!proved(Sender::Bitbucket, &headers(&[("x-hub-signature", "sha1=00".into())]), body));
        assert!(!proved(Sender::Azure, &headers(&[("authorization", format!("Bearer {NEW}"))]), body));
    }

    #[test]
    fn secrets_are_many_enough_long_enough_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let source = SecretSource::File(folder.path().join("secret"));
        let read = |text: &str| {
            std::fs::write(folder.path().join("secret"), text).unwrap();
            Secrets::read(&source)
        };
        assert_eq!(format!("{:?}", read(&format!("{OLD}\n\n{NEW}\n")).unwrap()), "Secrets(2)");
        let error = read("PLANTED\n").unwrap_err();
        assert!(error.contains("fewer than 16") && !error.contains("PLANTED"), "{error}");
        assert!(read(&format!("{OLD}\n").repeat(5)).unwrap_err().contains("5 secrets"));
    }

    proptest! {
        #[test]
        fn what_anybody_sends_proves_nothing_and_breaks_nothing(
            name in prop::sample::select(vec![
                "x-hub-signature-256", "x-hub-signature", "x-signature", "x-gitea-signature", "webhook-signature",
                "webhook-timestamp", "x-gitlab-token", "authorization",
            ]),
            value in "[ -~]{0,200}",
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let head = headers(&[(name, value.clone()), ("webhook-id", "a".into()), ("x-event-key", value)]);
            for sender in ["github", "gitlab", "gitea", "bitbucket", "azure", "generic"] {
                let sender: Sender = sender.parse().unwrap();
                prop_assert!(!proved(sender, &head, &body));
                sender.is_ping(&head);
            }
        }
    }
}
