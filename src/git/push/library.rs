//! Moving a local repository's ref without a `git` binary: objects first, then the ref by comparison.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use git2::{Buf, ErrorCode, Oid, Repository};

use super::super::error::GitError;
use super::super::store::{Inner, oid};
use super::{Move, PushError, Stopped};

/// Hooks that a push would run.
const HOOKS: [&str; 7] = [
    "pre-receive",
    "update",
    "proc-receive",
    "post-receive",
    "post-update",
    "reference-transaction",
    "push-to-checkout",
];

pub(super) fn push(inner: &Inner, step: &Move<'_>, path: &Path) -> Result<(), Stopped> {
    let failed = |error: git2::Error| Stopped::from(GitError::from_remote(step.remote.url(), &error));
    let target = Repository::open(path).map_err(failed)?;
    refuse_where_others_decide(&target, step)?;
    let (new, old) = (oid(step.new)?, step.old.map(oid).transpose()?);
    let current = match target.refname_to_id(step.reference) {
        Ok(current) => Some(current),
        Err(error) if error.code() == ErrorCode::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    if current != old {
        let now = current.map_or_else(|| "gone".to_owned(), |id| format!("at {id}"));
        return Err(Stopped::Refused(format!("it is {now}")));
    }
    inner.with(|repo| copy(repo, &target, new, old).map_err(|error| inner.local(&error)))?;
    let moved = match old {
        Some(old) => target.reference_matching(step.reference, new, true, old, "push"),
        None => target.reference(step.reference, new, false, "push"),
    };
    moved.map(drop).map_err(|error| {
        let what = if error.code() == ErrorCode::Locked { "locked" } else { "written" };
        Stopped::Refused(format!("{} cannot be {what}: {}", step.reference, error.message()))
    })
}

/// We would go past hooks and past the rule that a checked-out branch does not move.
fn refuse_where_others_decide(target: &Repository, step: &Move<'_>) -> Result<(), PushError> {
    let denied = |reason: String| Err(PushError::Denied { reference: step.reference.to_owned(), reason });
    if let Some(hook) =
        hooks_folder(target).and_then(|folder| HOOKS.iter().find(|hook| folder.join(hook).is_file()))
    {
        return denied(format!("the repository has a {hook} hook; install git beside serin so that it can run"));
    }
    let head = target.find_reference("HEAD").ok();
    let checked_out = head.as_ref().and_then(|head| head.symbolic_target_bytes());
    if !target.is_bare() && checked_out == Some(step.reference.as_bytes()) {
        return denied("the branch is checked out there; use a bare repository".to_owned());
    }
    Ok(())
}

fn hooks_folder(target: &Repository) -> Option<PathBuf> {
    let configured = target.config().and_then(|config| config.get_path("core.hooksPath"));
    Some(configured.unwrap_or_else(|_| target.commondir().join("hooks")))
}

fn copy(from: &Repository, to: &Repository, new: Oid, old: Option<Oid>) -> Result<(), git2::Error> {
    let mut walk = from.revwalk()?;
    walk.push(new)?;
    if let Some(old) = old.filter(|old| from.find_commit(*old).is_ok()) {
        walk.hide(old)?;
    }
    let mut builder = from.packbuilder()?;
    builder.insert_walk(&mut walk)?;
    if builder.object_count() == 0 {
        return Ok(());
    }
    let mut pack = Buf::new();
    builder.write_buf(&mut pack)?;
    let odb = to.odb()?;
    let mut writer = odb.packwriter()?;
    writer.write_all(&pack).map_err(|error| git2::Error::from_str(&error.to_string()))?;
    writer.commit().map(drop)
}
