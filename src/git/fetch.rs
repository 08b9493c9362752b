//! Asking a remote for one ref, and bringing its commit here.

use git2::{Direction, ErrorCode, FetchOptions, Oid, RemoteConnection, Repository};

use super::error::{GitError, is_local_damage};
use super::objects::Objects;
use super::remote::{Location, Remote, Talk, proxy};
use super::store::{Inner, NETWORK_DEADLINE, PROBE_DEADLINE, Store, Until, commit_id};
use crate::model::CommitId;

impl Store {
    /// What a fully qualified ref (`refs/heads/main`) of the remote points at now; `None` if it does not exist.
    ///
    /// One question, nothing written.
    ///
    /// # Errors
    /// If the remote cannot be reached or refuses us.
    pub async fn probe(&self, remote: &Remote, reference: &str) -> Result<Option<CommitId>, GitError> {
        if let Some(found) = self.inner().asking.ask(remote, reference).await {
            return found.map(commit_id).transpose();
        }
        let (remote, reference) = (remote.clone(), reference.to_owned());
        self.run("probing the git remote", PROBE_DEADLINE, move |inner, until| {
            probe(inner, &remote, &reference, until)
        })
        .await
    }

    /// Whether the remote takes pushes from our credentials, as far as it says before any is made: a protected branch, or a hook,
    /// may still refuse one. Nothing is sent.
    ///
    /// # Errors
    /// If it cannot be reached, or takes none.
    pub async fn may_push(&self, remote: &Remote) -> Result<(), GitError> {
        let remote = remote.clone();
        self.run("asking the git remote for pushes", PROBE_DEADLINE, move |inner, until| {
            may_push(inner, &remote, until)
        })
        .await
    }

    /// Brings the ref's commit into the store and says which it is; `None` if the ref does not exist.
    ///
    /// A damaged store is made again first.
    ///
    /// # Errors
    /// If the remote cannot be reached or refuses us, or the store cannot be written.
    pub async fn fetch(&self, remote: &Remote, reference: &str) -> Result<Option<CommitId>, GitError> {
        let (remote, reference) = (remote.clone(), reference.to_owned());
        let what = "fetching from the git remote";
        // Before there is a place for it: fetches that wait for one another must not hold up those who only read.
        let alone = tokio::time::timeout(NETWORK_DEADLINE, self.inner().fetching.lock()).await;
        let _alone = alone.map_err(|_| GitError::Deadline { what, limit: NETWORK_DEADLINE })?;
        self.run(what, NETWORK_DEADLINE, move |inner, until| {
            inner.heal()?;
            let fetched = match inner.with(|repo| fetch(inner, repo, &remote, &reference, until)) {
                // Damage that only this fetch came across: once more, into a new store.
                Err(GitError::Corrupt { .. }) => {
                    inner.heal()?;
                    let again = inner.with(|repo| fetch(inner, repo, &remote, &reference, until));
                    again.map_err(|error| match error {
                        // In a new store, too: then it is what was pushed.
                        GitError::Corrupt { dir: _, reason } => GitError::Remote {
                            url: remote.to_string(),
                            reason: format!("what it sends cannot be read: {reason}; `git fsck` there says more"),
                        },
                        other => other,
                    })
                }
                other => other,
            }?;
            Ok(match fetched {
                Fetched::Nothing => None,
                Fetched::Known(commit) => Some(commit),
                Fetched::New(commit) => {
                    inner.tidy();
                    Some(commit)
                }
            })
        })
        .await
    }
}

/// What a fetch found.
enum Fetched {
    /// The ref does not exist.
    Nothing,
    /// It is where it was.
    Known(CommitId),
    /// Something was brought here.
    New(CommitId),
}

pub(super) fn probe(
    inner: &Inner,
    remote: &Remote,
    reference: &str,
    until: Until,
) -> Result<Option<CommitId>, GitError> {
    let found = match remote.location() {
        Location::Local(_) => probe_local(remote, reference)?,
        // Of the store, whose settings say which redirects are followed.
        Location::Http | Location::Ssh => inner.with(|repo| {
            let mut handle = repo.remote_anonymous(&remote.connect_url()).map_err(|error| inner.local(&error))?;
            let talk = remote.talk(until);
            let connection = connect(&mut handle, &talk)?;
            advertised(&connection, &talk, reference)
        })?,
    };
    found.map(commit_id).transpose()
}

fn may_push(inner: &Inner, remote: &Remote, until: Until) -> Result<(), GitError> {
    match remote.location() {
        Location::Local(_) => {
            there_is(remote)?;
            let unreachable = |error: &git2::Error| GitError::from_remote(remote.url(), error);
            let repo = Repository::open(remote.connect_url()).map_err(|error| unreachable(&error))?;
            // As a push does before anything else: a file of its own beside the objects.
            tempfile::tempfile_in(repo.commondir().join("objects")).map(drop).map_err(|error| GitError::Denied {
                url: remote.to_string(),
                reason: format!("nothing can be written there: {error}"),
            })
        }
        Location::Http | Location::Ssh => inner.with(|repo| {
            let mut handle = repo.remote_anonymous(&remote.connect_url()).map_err(|error| inner.local(&error))?;
            let talk = remote.talk(until);
            let connected = handle.connect_auth(Direction::Push, Some(talk.callbacks()), Some(proxy()));
            connected.map(drop).map_err(|error| talk.error(&error))
        }),
    }
}

/// libgit2 takes a folder that is not there for a URL of an unknown kind.
fn there_is(remote: &Remote) -> Result<(), GitError> {
    match remote.location() {
        Location::Local(path) if !path.exists() => {
            let reason = "there is no such folder".to_owned();
            Err(GitError::Unreachable { url: remote.to_string(), reason })
        }
        Location::Local(_) | Location::Http | Location::Ssh => Ok(()),
    }
}

fn probe_local(remote: &Remote, reference: &str) -> Result<Option<Oid>, GitError> {
    let unreachable = |error: &git2::Error| GitError::from_remote(remote.url(), error);
    there_is(remote)?;
    let repo = Repository::open(remote.connect_url()).map_err(|error| unreachable(&error))?;
    match repo.find_reference(reference) {
        Ok(found) => Ok(Some(found.peel_to_commit().map_err(|error| unreachable(&error))?.id())),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(unreachable(&error)),
    }
}

fn connect<'repo, 'a>(
    handle: &'a mut git2::Remote<'repo>,
    talk: &'a Talk<'_>,
) -> Result<RemoteConnection<'repo, 'a, 'a>, GitError> {
    handle
        .connect_auth(Direction::Fetch, Some(talk.callbacks()), Some(proxy()))
        .map_err(|error| talk.error(&error))
}

fn advertised(
    connection: &RemoteConnection<'_, '_, '_>,
    talk: &Talk<'_>,
    reference: &str,
) -> Result<Option<Oid>, GitError> {
    let heads = connection.list().map_err(|error| talk.error(&error))?;
    let peeled = format!("{reference}^{{}}");
    // An annotated tag is followed by what it points at.
    let named = |name: &str| heads.iter().find(|head| head.name() == name).map(git2::RemoteHead::oid);
    Ok(named(&peeled).or_else(|| named(reference)))
}

/// Where a fetched ref is kept, so that its objects stay reachable.
fn tracking(reference: &str) -> String {
    format!("refs/serin/fetched/{}", reference.trim_start_matches("refs/"))
}

fn fetch(
    inner: &Inner,
    repo: &Repository,
    remote: &Remote,
    reference: &str,
    until: Until,
) -> Result<Fetched, GitError> {
    there_is(remote)?;
    let ours = tracking(reference);
    let mut handle = repo.remote_anonymous(&remote.connect_url()).map_err(|error| inner.local(&error))?;
    let talk = remote.talk(until);
    let mut connection = connect(&mut handle, &talk)?;
    let Some(oid) = advertised(&connection, &talk, reference)? else {
        if let Ok(mut stale) = repo.find_reference(&ours) {
            stale.delete().map_err(|error| inner.local(&error))?;
        }
        return Ok(Fetched::Nothing);
    };
    let known = repo.refname_to_id(&ours).is_ok_and(|current| current == oid);
    if !known {
        let mut options = FetchOptions::new();
        options.remote_callbacks(talk.callbacks());
        options.download_tags(git2::AutotagOption::None).update_fetchhead(false).proxy_options(proxy());
        let spec = format!("+{reference}:{ours}");
        let downloaded = connection.remote().download(&[spec], Some(&mut options));
        downloaded.map_err(|error| {
            if talk.ended_it() || !is_local_damage(&error) { talk.error(&error) } else { inner.damaged(&error) }
        })?;
    }
    let objects = Objects::new(inner, repo)?;
    let commit = objects.commit(oid)?;
    objects.tree_of(&commit)?;
    if !known {
        repo.reference(&ours, commit.id(), true, "fetch").map_err(|error| inner.local(&error))?;
    }
    commit_id(commit.id()).map(if known { Fetched::Known } else { Fetched::New })
}
