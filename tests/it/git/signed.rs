//! Signed commits: ours are what `git verify-commit` takes, and what ssh-keygen and git sign is what we take.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serin::git::{AllowedSigners, Base, Edit, GitError, SignatureError, SigningKey};
use serin::model::CommitId;

use super::world::{World, command, meta};
use crate::support::program;

struct Signed {
    world: World,
}

impl Signed {
    /// `None` where there is no ssh-keygen.
    fn new() -> Option<Self> {
        program("ssh-keygen")?;
        Some(Self { world: World::new(&[("a.yaml", "a: 1\n")]) })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.dir.path().join(name)
    }

    fn key(&self, name: &str, kind: &[&str]) -> PathBuf {
        let path = self.path(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-C", "", "-f"])
            .arg(&path)
            .args(kind)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        path
    }

    fn allowed(&self, keys: &[&Path]) -> AllowedSigners {
        AllowedSigners::parse(&allowed_text(keys)).unwrap()
    }

    /// Somebody's commit, signed by git itself.
    fn push(&self, key: &Path, text: &str) -> CommitId {
        for (name, value) in
            [("gpg.format", "ssh"), ("user.signingkey", key.to_str().unwrap()), ("commit.gpgsign", "true")]
        {
            self.world.git(&["config", name, value]);
        }
        self.world.push(&[("a.yaml", text)], "Signed")
    }
}

fn allowed_text(keys: &[&Path]) -> String {
    let line = |key: &&Path| {
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        format!("serin@example.com {public}")
    };
    keys.iter().map(line).collect()
}

fn reason(verified: Result<(), GitError>) -> SignatureError {
    match verified {
        Err(GitError::NotVerified { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_git_signs_is_believed_if_the_key_is_allowed() {
    let Some(signed) = Signed::new() else { return };
    let store = signed.world.store();
    let fetch = async || store.fetch(&signed.world.remote(), super::world::MAIN).await.unwrap().unwrap();
    let other = signed.key("other", &["-t", "ed25519"]);
    let unsigned = fetch().await;
    assert_eq!(reason(store.verify(&unsigned, &signed.allowed(&[&other])).await), SignatureError::Unsigned);
    let kinds: [(&str, &[&str]); 4] = [
        ("ed25519", &["-t", "ed25519"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
    ];
    for (name, kind) in kinds {
        let key = signed.key(name, kind);
        signed.push(&key, &format!("a: {name}\n"));
        let commit = fetch().await;
        store
            .verify(&commit, &signed.allowed(&[&other, &key]))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let refused = reason(store.verify(&commit, &signed.allowed(&[&other])).await);
        assert!(matches!(refused, SignatureError::NotAllowed(_)), "{refused:?}");
    }
}

#[tokio::test]
async fn a_signature_that_is_moved_to_another_commit_proves_nothing() {
    let Some(signed) = Signed::new() else { return };
    let key = signed.key("key", &["-t", "ed25519"]);
    let commit = signed.push(&key, "a: 2\n");
    let forged = signed.world.git(&["cat-file", "commit", commit.as_str()]).replace("Signed", "Forged");
    let path = signed.path("forged");
    std::fs::write(&path, forged + "\n").unwrap();
    let forged = signed.world.git(&["hash-object", "-t", "commit", "-w", path.to_str().unwrap()]);
    signed.world.git(&["push", "-q", "-f", "origin", &format!("{forged}:refs/heads/main")]);
    let store = signed.world.store();
    let tip = store.fetch(&signed.world.remote(), super::world::MAIN).await.unwrap().unwrap();
    assert_eq!(tip.as_str(), forged);
    assert_eq!(reason(store.verify(&tip, &signed.allowed(&[&key])).await), SignatureError::Wrong);
}

#[tokio::test]
async fn what_we_sign_is_what_git_verifies() {
    let Some(signed) = Signed::new() else { return };
    let key = signed.key("key", &["-t", "ed25519"]);
    let signer = SigningKey::parse(&std::fs::read_to_string(&key).unwrap()).unwrap();
    let allowed = signed.allowed(&[&key]);
    assert!(signer.is_among(&allowed));
    let store = signed.world.store().signing_with(Some(Arc::new(signer)));
    let remote = signed.world.remote();
    let tip = store.fetch(&remote, super::world::MAIN).await.unwrap().unwrap();
    let edit = || vec![Edit::Write { path: "a.yaml".into(), content: b"a: 3\n".to_vec() }];
    let commit = store.commit(Base::Parent(tip.clone()), edit(), meta("Roll back")).await.unwrap().unwrap();
    let again = store.commit(Base::Parent(tip.clone()), edit(), meta("Roll back")).await.unwrap().unwrap();
    assert_eq!(commit, again, "the same is the same commit");
    store.verify(&commit, &allowed).await.unwrap();
    store.push(&remote, super::world::MAIN, Some(&tip), &commit).await.unwrap();
    std::fs::write(signed.path("allowed"), allowed_text(&[&key])).unwrap();
    let file = format!("gpg.ssh.allowedSignersFile={}", signed.path("allowed").display());
    let verified =
        command(&signed.world.bare()).args(["-c", &file, "verify-commit", commit.as_str()]).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.contains("Good \"git\" signature"), "{said}");
}
