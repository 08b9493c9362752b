//! GitHub Apps: a key of the App's own makes tokens for one installation that live for an hour.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::http::Secret;

/// Lifetime that an App's own proof is given, in seconds: GitHub takes ten minutes at most.
const PROOF_LIFE: i64 = 540;
/// Seconds by which our clock may be ahead of GitHub's.
const PROOF_EARLY: i64 = 60;
/// Time that a token is used: it lives for an hour, and the last minutes are not counted on.
const TOKEN_LIFE: Duration = Duration::from_secs(55 * 60);

/// The token in use.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<Option<(Secret, Instant)>>);

impl Tokens {
    /// The token, or a new one by `make`; who comes meanwhile waits for the same.
    pub(super) async fn get<E>(&self, make: impl Future<Output = Result<Secret, E>>) -> Result<Secret, E> {
        let mut held = self.0.lock().await;
        if let Some((token, _)) = held.as_ref().filter(|(_, until)| Instant::now() < *until) {
            return Ok(token.clone());
        }
        let token = make.await?;
        *held = Some((token.clone(), Instant::now() + TOKEN_LIFE));
        Ok(token)
    }

    /// It was refused: the next one who asks gets another.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

/// What proves that we are the App: a JSON web token, signed with its key.
///
/// # Errors
/// When the key is none; the words hold nothing of it.
pub(super) fn proof(id: &str, key: &Secret, now: Timestamp) -> Result<Secret, &'static str> {
    let pair = key_pair(key.expose())?;
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let at = now.as_second();
    let head = part(json!({"alg": "RS256", "typ": "JWT"}));
    let claims = part(json!({"iat": at - PROOF_EARLY, "exp": at + PROOF_LIFE, "iss": id}));
    let signed = format!("{head}.{claims}");
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| "the App's key cannot sign")?;
    Ok(Secret::new(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

/// As GitHub hands it out (PKCS#1), or as openssl makes one today (PKCS#8).
fn key_pair(pem: &str) -> Result<RsaKeyPair, &'static str> {
    const WRONG: &str = "the App's key is no RSA key in PEM of 2048 bits or more";
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let der = STANDARD.decode(body).map_err(|_| WRONG)?;
    RsaKeyPair::from_der(&der).or_else(|_| RsaKeyPair::from_pkcs8(&der)).map_err(|_| WRONG)
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    /// Made for this test and for nothing else.
    fn key(form: &str) -> Option<String> {
        let made = std::process::Command::new("openssl").args(["genrsa", form, "2048"]).output().ok()?;
        let text = String::from_utf8(made.stdout).ok()?;
        made.status.success().then_some(text)
    }

    #[test]
    #[allow(clippy::print_stderr, reason = "a skipped test says so")]
    fn an_app_proves_itself_with_either_form_of_key() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for form in ["-traditional", "-verbose"] {
            let Some(pem) = key(form) else { return eprintln!("SKIPPED: openssl is not on the PATH") };
            let token = proof("Iv1.abc", &Secret::new(&pem), now).unwrap();
            let (signed, signature) = token.expose().rsplit_once('.').unwrap();
            let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
            let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
            assert_eq!(claims, json!({"iat": 1_799_999_940, "exp": 1_800_000_540, "iss": "Iv1.abc"}));
            let public = key_pair(&pem).unwrap();
            let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.public().as_ref());
            public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        }
    }

    #[test]
    fn what_is_no_key_is_said_and_not_shown() {
        let now = Timestamp::UNIX_EPOCH;
        for text in ["PLANTED", "-----BEGIN RSA PRIVATE KEY-----\nUExBTlRFRA==\n-----END RSA PRIVATE KEY-----"] {
            let error = proof("1", &Secret::new(text), now).unwrap_err();
            assert!(error.contains("no RSA key") && !error.contains("PLANTED"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_used_until_it_is_nearly_old() {
        let tokens = Tokens::default();
        let make = |name: &'static str| async move { Ok::<_, ()>(Secret::new(name)) };
        assert_eq!(tokens.get(make("one")).await.unwrap().expose(), "one");
        assert_eq!(tokens.get(make("two")).await.unwrap().expose(), "one");
        tokio::time::advance(TOKEN_LIFE).await;
        assert_eq!(tokens.get(make("three")).await.unwrap().expose(), "three");
        tokens.forget().await;
        assert_eq!(tokens.get(make("four")).await.unwrap().expose(), "four");
    }
}
