//! Pushing over http and ssh with libgit2: the server compares the old id that we send.

use std::cell::RefCell;

use git2::{ErrorCode, PushOptions, PushUpdate};

use super::super::commit::is_ancestor;
use super::super::error::GitError;
use super::super::remote::proxy;
use super::super::store::{Inner, oid};
use super::{Move, PushError, Stopped};

/// A refusal with what a hook said: `pre-receive hook declined` alone helps nobody.
fn with_words(status: &str, said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let said: Vec<&str> = said.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
    if said.is_empty() { status.to_owned() } else { format!("{status}: {}", said.join(" ")) }
}

pub(super) fn push(inner: &Inner, step: &Move<'_>) -> Result<(), Stopped> {
    let outcome = inner.with(|repo| {
        let new = oid(step.new)?;
        // libgit2 pushes refs, not ids.
        let ours = format!("refs/serin/push/{}", step.new);
        repo.reference(&ours, new, true, "push").map_err(|error| inner.local(&error))?;
        let result = send(inner, repo, step, &ours);
        let removed = repo.find_reference(&ours).and_then(|mut reference| reference.delete());
        removed.map_err(|error| inner.local(&error))?;
        Ok(result)
    });
    outcome?
}

fn send(inner: &Inner, repo: &git2::Repository, step: &Move<'_>, ours: &str) -> Result<(), Stopped> {
    let Move { remote, reference, old, new, until } = step;
    // A replaced history (the status branch) needs force; the comparison below is what makes that safe.
    let forward = match old {
        Some(old) => is_ancestor(inner, repo, old, new)?,
        None => true,
    };
    let spec = format!("{}{ours}:{reference}", if forward { "" } else { "+" });
    let expected = old.map(oid).transpose()?.unwrap_or(git2::Oid::ZERO_SHA1);
    let moved: RefCell<Option<String>> = RefCell::default();
    let refused: RefCell<Option<String>> = RefCell::default();
    let talk = remote.talk(*until);
    let mut callbacks = talk.callbacks();
    callbacks.push_negotiation(|updates: &[PushUpdate<'_>]| {
        let found = updates.iter().find(|update| update.dst_refname_bytes() == reference.as_bytes());
        match found.map(PushUpdate::src) {
            Some(at) if at == expected => Ok(()),
            at => {
                let now = at.map_or_else(|| "gone".to_owned(), |at| format!("at {at}"));
                moved.borrow_mut().replace(format!("it is {now}"));
                Err(git2::Error::from_str("the ref has moved"))
            }
        }
    });
    callbacks.push_update_reference(|_, status| {
        if let Some(status) = status {
            refused.borrow_mut().replace(status.to_owned());
        }
        Ok(())
    });
    let mut options = PushOptions::new();
    options.remote_callbacks(callbacks).proxy_options(proxy());
    let mut handle = repo.remote_anonymous(&remote.connect_url()).map_err(|error| inner.local(&error))?;
    let pushed = handle.push(&[spec], Some(&mut options));
    drop(options);
    if let Some(reason) = moved.take() {
        return Err(PushError::Moved { reference: (*reference).to_owned(), reason }.into());
    }
    if let Some(status) = refused.take() {
        return Err(Stopped::Refused(with_words(&status, &talk.said())));
    }
    pushed.map_err(|error| match error.code() {
        ErrorCode::NotFastForward | ErrorCode::Modified => Stopped::Refused("non-fast-forward".to_owned()),
        _ => match talk.error(&error) {
            GitError::Denied { url: _, reason } => {
                PushError::Denied { reference: (*reference).to_owned(), reason }.into()
            }
            other => other.into(),
        },
    })
}
