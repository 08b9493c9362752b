//! Signatures of commits with SSH keys, as `git commit -S` with `gpg.format=ssh` makes them and `git verify-commit` reads them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
};
use sha2::{Digest as _, Sha256, Sha512};

/// What is signed is signed for this: a signature of a file proves no commit.
const NAMESPACE: &str = "git";
/// How a signature begins, and what is signed.
const MAGIC: &[u8] = b"SSHSIG";
/// Lines around a signature.
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// Characters of one line between them, as ssh-keygen writes it.
const LINE: usize = 70;
/// Largest signature that is read, in bytes: RSA of 8192 bits with its key takes 3 kB.
const SIGNATURE_MAX: usize = 16 << 10;
/// Longest part of one.
const PART_MAX: usize = 8 << 10;

/// Keys whose commits are believed.
#[derive(Clone, PartialEq, Eq)]
pub struct AllowedSigners(Vec<Vec<u8>>);

/// Why a commit is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is nothing to believe.
    #[error("it is not signed")]
    Unsigned,
    /// Another kind.
    #[error("it is signed with OpenPGP or X.509; only signatures with SSH keys are verified")]
    OtherKind,
    /// It cannot be read.
    #[error("its signature cannot be read: {0}")]
    Malformed(&'static str),
    /// It is whole, and its key is nobody's that is known.
    #[error("the key that signed it ({0}) is not among the allowed ones")]
    NotAllowed(String),
    /// It is of another content.
    #[error("its signature is not of this commit")]
    Wrong,
}

impl AllowedSigners {
    /// Reads a file as `gpg.ssh.allowedSignersFile` names it: `principals [options] keytype base64-key [comment]` a line.
    ///
    /// # Errors
    /// With the line that cannot be used: an option that would be passed over could let in whom it keeps out.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |reason: &str| format!("line {}: {reason}", number + 1);
            let words: Vec<&str> = line.split_whitespace().collect();
            let at = words.iter().position(|word| KEY_TYPES.contains(word));
            let at =
                at.filter(|at| *at > 0).ok_or_else(|| wrong("no key of a kind that is known, or no principal"))?;
            for option in words.get(1..at).unwrap_or_default().iter().flat_map(|options| options.split(',')) {
                let namespaces = option.strip_prefix("namespaces=").map(|it| it.trim_matches('"'));
                match namespaces {
                    Some(namespaces) if namespaces == NAMESPACE => {}
                    Some(_) => return Err(wrong("its namespaces are not exactly \"git\"")),
                    None => return Err(wrong("options other than namespaces=\"git\" are not supported")),
                }
            }
            let key = words.get(at + 1).and_then(|key| STANDARD.decode(key).ok());
            let key = key.ok_or_else(|| wrong("the key is no base64"))?;
            PublicKey::read(&key).map_err(wrong)?;
            keys.push(key);
        }
        if keys.is_empty() { Err("it names no key".to_owned()) } else { Ok(Self(keys)) }
    }

    /// Whether one of them signed this.
    ///
    /// # Errors
    /// When none did, and why that is so.
    pub fn verify(&self, signature: &str, content: &[u8]) -> Result<(), SignatureError> {
        let malformed = SignatureError::Malformed;
        let text = signature.trim();
        if !text.starts_with(BEGIN) {
            return Err(SignatureError::OtherKind);
        }
        let body = text.strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END));
        let body: String = body.ok_or(malformed("it has no end"))?.split_whitespace().collect();
        if body.len() > SIGNATURE_MAX {
            return Err(malformed("it is too long"));
        }
        let blob = STANDARD.decode(body).map_err(|_| malformed("it is no base64"))?;
        let rest = blob.strip_prefix(MAGIC).ok_or(malformed("it is not one of SSH's"))?;
        let mut parts = Parts(rest.strip_prefix(&[0, 0, 0, 1]).ok_or(malformed("its version is not 1"))?);
        let key = parts.next().map_err(malformed)?;
        let namespace = parts.next().map_err(malformed)?;
        let reserved = parts.next().map_err(malformed)?;
        let hash = parts.next().map_err(malformed)?;
        let signature = parts.next().map_err(malformed)?;
        if namespace != NAMESPACE.as_bytes() {
            return Err(malformed("it is for something else than Git"));
        }
        if !self.0.iter().any(|allowed| allowed == key) {
            return Err(SignatureError::NotAllowed(fingerprint(key)));
        }
        let signed = signed(reserved, hash, content).ok_or(malformed("its hash is not known"))?;
        let mut signature = Parts(signature);
        let (algorithm, bytes) = (signature.next().map_err(malformed)?, signature.next().map_err(malformed)?);
        let key = PublicKey::read(key).map_err(malformed)?;
        if key.has_signed(algorithm, &signed, bytes) { Ok(()) } else { Err(SignatureError::Wrong) }
    }
}

impl fmt::Debug for AllowedSigners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| fingerprint(key))).finish()
    }
}

/// A key that signs our own commits. Never shown.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: Vec<u8>,
}

impl SigningKey {
    /// Reads an Ed25519 key as ssh-keygen writes it, without a passphrase.
    ///
    /// # Errors
    /// When it is none; the words hold nothing of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "it is no Ed25519 key as `ssh-keygen -t ed25519` writes it";
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        let blob = STANDARD.decode(body).map_err(|_| WRONG)?;
        let mut parts = Parts(blob.strip_prefix(b"openssh-key-v1\0").ok_or(WRONG)?);
        if parts.next().map_err(|_| WRONG)? != b"none" {
            return Err("it has a passphrase; `ssh-keygen -p` takes that away");
        }
        let (_kdf, _options) = (parts.next().map_err(|_| WRONG)?, parts.next().map_err(|_| WRONG)?);
        let mut parts = Parts(parts.0.strip_prefix(&[0, 0, 0, 1]).ok_or(WRONG)?);
        let (public, private) = (parts.next().map_err(|_| WRONG)?, parts.next().map_err(|_| WRONG)?);
        // Two equal numbers that would tell a wrong passphrase.
        let mut parts = Parts(private.get(8..).ok_or(WRONG)?);
        if parts.next().map_err(|_| WRONG)? != b"ssh-ed25519" {
            return Err(WRONG);
        }
        let (key, secret) = (parts.next().map_err(|_| WRONG)?, parts.next().map_err(|_| WRONG)?);
        let seed = secret.get(..32).ok_or(WRONG)?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, key).map_err(|_| WRONG)?;
        Ok(Self { pair, public: public.to_vec() })
    }

    /// Whether its commits are believed by these.
    pub fn is_among(&self, allowed: &AllowedSigners) -> bool {
        allowed.0.contains(&self.public)
    }

    /// The signature of a commit's content.
    pub(super) fn sign(&self, content: &[u8]) -> String {
        let hash = b"sha512";
        // SHA-512 is known.
        let signed = signed(&[], hash, content).unwrap_or_default();
        let mut inner = Vec::new();
        put(&mut inner, b"ssh-ed25519");
        put(&mut inner, self.pair.sign(&signed).as_ref());
        let mut blob = [MAGIC, &[0, 0, 0, 1]].concat();
        for part in [self.public.as_slice(), NAMESPACE.as_bytes(), &[], hash, &inner] {
            put(&mut blob, part);
        }
        let text = STANDARD.encode(blob);
        let lines: Vec<&str> =
            (0..text.len()).step_by(LINE).filter_map(|at| text.get(at..text.len().min(at + LINE))).collect();
        format!("{BEGIN}\n{}\n{END}", lines.join("\n"))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&fingerprint(self.pair.public_key().as_ref())).finish()
    }
}

/// Kinds of keys that are read.
const KEY_TYPES: [&str; 4] = ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"];

enum PublicKey<'k> {
    Ed25519(&'k [u8]),
    P256(&'k [u8]),
    P384(&'k [u8]),
    Rsa { e: &'k [u8], n: &'k [u8] },
}

impl<'k> PublicKey<'k> {
    fn read(blob: &'k [u8]) -> Result<Self, &'static str> {
        let mut parts = Parts(blob);
        Ok(match parts.next()? {
            b"ssh-ed25519" => Self::Ed25519(parts.next()?),
            b"ecdsa-sha2-nistp256" => {
                parts.next()?;
                Self::P256(parts.next()?)
            }
            b"ecdsa-sha2-nistp384" => {
                parts.next()?;
                Self::P384(parts.next()?)
            }
            b"ssh-rsa" => Self::Rsa { e: unsigned(parts.next()?), n: unsigned(parts.next()?) },
            _ => return Err("its kind of key is not known"),
        })
    }

    fn has_signed(&self, algorithm: &[u8], content: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Ed25519(key), b"ssh-ed25519") => {
                UnparsedPublicKey::new(&ED25519, key).verify(content, signature).is_ok()
            }
            (Self::P256(key), b"ecdsa-sha2-nistp256") => fixed(signature, 32).is_some_and(|signature| {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(content, &signature).is_ok()
            }),
            (Self::P384(key), b"ecdsa-sha2-nistp384") => fixed(signature, 48).is_some_and(|signature| {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key).verify(content, &signature).is_ok()
            }),
            // SHA-1 (`ssh-rsa`) proves nothing any more.
            (Self::Rsa { e, n }, b"rsa-sha2-512") => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA512, content, signature).is_ok()
            }
            (Self::Rsa { e, n }, b"rsa-sha2-256") => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, content, signature).is_ok()
            }
            (Self::Ed25519(_) | Self::P256(_) | Self::P384(_) | Self::Rsa { .. }, _) => false,
        }
    }
}

/// SSH's parts: a length of four bytes, and as many bytes.
struct Parts<'p>(&'p [u8]);

impl<'p> Parts<'p> {
    fn next(&mut self) -> Result<&'p [u8], &'static str> {
        const SHORT: &str = "it ends too early";
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or(SHORT)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| SHORT)?;
        if length > PART_MAX || length > rest.len() {
            return Err(SHORT);
        }
        let (part, rest) = rest.split_at(length);
        self.0 = rest;
        Ok(part)
    }
}

fn put(into: &mut Vec<u8>, part: &[u8]) {
    into.extend(u32::try_from(part.len()).unwrap_or_default().to_be_bytes());
    into.extend(part);
}

/// Without the zero that keeps a number from being negative.
fn unsigned(number: &[u8]) -> &[u8] {
    number.strip_prefix(&[0]).unwrap_or(number)
}

/// Two numbers one after the other, each as long as the curve's.
fn fixed(signature: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut parts = Parts(signature);
    let mut out = Vec::with_capacity(2 * length);
    for _ in 0..2 {
        let number = unsigned(parts.next().ok()?);
        out.extend(std::iter::repeat_n(0, length.checked_sub(number.len())?));
        out.extend(number);
    }
    Some(out)
}

/// What is really signed.
fn signed(reserved: &[u8], hash: &[u8], content: &[u8]) -> Option<Vec<u8>> {
    let digest = match hash {
        b"sha512" => Sha512::digest(content).to_vec(),
        b"sha256" => Sha256::digest(content).to_vec(),
        _ => return None,
    };
    let mut out = MAGIC.to_vec();
    for part in [NAMESPACE.as_bytes(), reserved, hash, &digest] {
        put(&mut out, part);
    }
    Some(out)
}

/// As `ssh-keygen -l` shows it.
fn fingerprint(key: &[u8]) -> String {
    let digest = STANDARD.encode(Sha256::digest(key));
    format!("SHA256:{}", digest.trim_end_matches('='))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_pushed_as_a_signature_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), text in "\\PC{0,200}") {
            let key = {
                let mut key = Vec::new();
                put(&mut key, b"ssh-ed25519");
                put(&mut key, &[7; 32]);
                key
            };
            let line = format!("a ssh-ed25519 {}", STANDARD.encode(key));
            let allowed = AllowedSigners::parse(&line).unwrap();
            let magic = [MAGIC, &[0, 0, 0, 1], &bytes].concat();
            for body in [STANDARD.encode(&bytes), STANDARD.encode(&magic), text.clone()] {
                let signature = format!("{BEGIN}\n{body}\n{END}");
                prop_assert!(allowed.verify(&signature, b"x").is_err());
            }
            prop_assert!(allowed.verify(&text, b"x").is_err());
            let key = STANDARD.encode([b"openssh-key-v1\0".as_slice(), &bytes].concat());
            prop_assert!(SigningKey::parse(&key).is_err());
        }
    }

    #[test]
    fn lines_that_would_let_in_more_than_they_say_are_refused() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
        assert!(AllowedSigners::parse(&format!("# ours\n\nann@example.com namespaces=\"git\" {key} ann")).is_ok());
        for (line, said) in [
            (format!("ann cert-authority {key}"), "not supported"),
            (format!("ann valid-before=\"20200101\" {key}"), "not supported"),
            (format!("ann namespaces=\"file\" {key}"), "namespaces"),
            (key.to_owned(), "no principal"),
            ("ann ssh-dss AAAA".to_owned(), "kind"),
            ("ann ssh-ed25519 ???".to_owned(), "base64"),
            ("ann ssh-ed25519 AAAA".to_owned(), "line 1"),
            ("# nobody".to_owned(), "names no key"),
        ] {
            let error = AllowedSigners::parse(&line).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
