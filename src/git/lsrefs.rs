//! One ref of an http remote by Git's protocol version 2, in which the server sends the refs that are asked for.
//!
//! libgit2 speaks the older protocol: the server sends all its refs at every question, megabytes where a host keeps one for
//! each pull request. Whatever is unusual here (another status, an old server, no answer) is left to libgit2, whose words
//! about it are the ones that people see.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use git2::Oid;
use reqwest::StatusCode;

use super::remote::{Location, Remote};

/// Longest that the answer may take; libgit2's deadline comes on top if it does.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Largest answer, in bytes: some thousand refs that begin like ours.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Bytes of a packet's length.
const LENGTH: usize = 4;

/// What is known of asking this way.
#[derive(Debug, Default)]
pub(super) struct Asking {
    client: OnceLock<Option<reqwest::Client>>,
    /// A server answered in the old protocol: it is not asked again.
    is_old: AtomicBool,
}

impl Asking {
    /// Where the ref is; the outer `None`: ask in another way.
    pub(super) async fn ask(&self, remote: &Remote, reference: &str) -> Option<Option<Oid>> {
        if *remote.location() != Location::Http || self.is_old.load(Ordering::Relaxed) {
            return None;
        }
        let client = self.client.get_or_init(client).as_ref()?;
        let asked = tokio::time::timeout(ANSWER_MAX, exchange(client, remote, reference)).await;
        let answer = asked.ok().flatten()?;
        let found = parse(&answer, reference);
        if found.is_none() {
            tracing::debug!(git.url = remote.url(), "the git host does not speak protocol version 2");
            self.is_old.store(true, Ordering::Relaxed);
        }
        found
    }
}

/// `None` before the process has chosen its cryptography, or without usable root certificates.
fn client() -> Option<reqwest::Client> {
    rustls::crypto::CryptoProvider::get_default()?;
    // A host that redirects is followed by libgit2.
    let builder = reqwest::Client::builder()
        .user_agent(concat!("git/serin-", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none());
    builder.build().ok()
}

async fn exchange(client: &reqwest::Client, remote: &Remote, reference: &str) -> Option<Vec<u8>> {
    let url = format!("{}/git-upload-pack", remote.url().trim_end_matches('/'));
    let mut request = client
        .post(url)
        .header("content-type", "application/x-git-upload-pack-request")
        .header("accept", "application/x-git-upload-pack-result")
        .header("git-protocol", "version=2")
        .body(question(reference));
    if let Some((user, token)) = remote.token().await? {
        request = request.basic_auth(user, Some(token));
    }
    let response = request.send().await.ok()?;
    match response.status() {
        StatusCode::OK => {}
        // Our question itself is not understood: as much as an answer in another protocol.
        StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            return Some(Vec::new());
        }
        // Refused, moved, out of order: libgit2 has the words.
        _ => return None,
    }
    let mut answer = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        answer.extend_from_slice(&chunk.ok()?);
        if answer.len() > ANSWER_BYTES_MAX {
            return None;
        }
    }
    Some(answer)
}

fn question(reference: &str) -> String {
    let packet = |line: &str| format!("{:04x}{line}\n", line.len() + LENGTH + 1);
    let agent = concat!("agent=serin/", env!("CARGO_PKG_VERSION"));
    let prefix = format!("ref-prefix {reference}");
    format!("{}{}0001{}{}0000", packet("command=ls-refs"), packet(agent), packet("peel"), packet(&prefix))
}

/// The ref's commit in an answer; the outer `None` if it is no answer to our question.
fn parse(mut answer: &[u8], reference: &str) -> Option<Option<Oid>> {
    let mut found = None;
    loop {
        let (length, rest) = answer.split_first_chunk::<LENGTH>()?;
        let length = usize::from_str_radix(std::str::from_utf8(length).ok()?, 16).ok()?;
        if length == 0 {
            return Some(found);
        }
        let (line, rest) = rest.split_at_checked(length.checked_sub(LENGTH)?)?;
        answer = rest;
        let mut words = std::str::from_utf8(line).ok()?.trim_end().split(' ');
        let (id, name) = (words.next()?, words.next()?);
        // Even what is not asked for must look like a ref, or this is another protocol.
        let id = Oid::from_str(id).ok().filter(|_| id.len() == 40)?;
        if name == reference {
            // An annotated tag comes with what it points at.
            let peeled = words.find_map(|word| word.strip_prefix("peeled:"));
            found = Some(peeled.map_or(Some(id), |peeled| Oid::from_str(peeled).ok())?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    fn packets(lines: &[&str]) -> Vec<u8> {
        let packets: String = lines.iter().map(|line| format!("{:04x}{line}\n", line.len() + 5)).collect();
        format!("{packets}0000").into_bytes()
    }

    #[test]
    fn asks_for_one_ref() {
        let asked = question("refs/heads/main");
        assert!(asked.starts_with("0014command=ls-refs\n"), "{asked}");
        assert!(asked.ends_with("00010009peel\n001fref-prefix refs/heads/main\n0000"), "{asked}");
    }

    #[test]
    fn takes_the_very_ref_and_what_a_tag_points_at() {
        let answer = packets(&[
            &format!("{ONE} refs/heads/main-2"),
            &format!("{TWO} refs/heads/main"),
            &format!("{ONE} refs/tags/v1 peeled:{TWO}"),
        ]);
        let two = Oid::from_str(TWO).unwrap();
        assert_eq!(parse(&answer, "refs/heads/main"), Some(Some(two)));
        assert_eq!(parse(&answer, "refs/tags/v1"), Some(Some(two)));
        assert_eq!(parse(&answer, "refs/heads/none"), Some(None));
        assert_eq!(parse(b"0000", "refs/heads/main"), Some(None));
    }

    #[test]
    fn another_protocol_is_no_answer() {
        for answer in [
            &b""[..],
            b"<html>not found</html>",
            b"001e# service=git-upload-pack\n0000",
            b"00",
            b"fffftoo short",
            b"0001",
            &packets(&["ERR upload-pack: not our ref"]),
        ] {
            assert_eq!(parse(answer, "refs/heads/main"), None, "{:?}", String::from_utf8_lossy(answer));
        }
    }
}
