//! The repository: readable, writable, and who else may write.

use super::{Line, World};
use crate::cluster::explain;
use crate::config::RollbackMode;

const WHAT: &str = "Git";

pub(super) async fn lines(world: &World) -> Vec<Line> {
    let (git, store) = (&world.settings.git, &world.store);
    let (remote, branch) = (&git.remote, git.branch.short());
    let credentials = "git.url, git.tokenFile or git.keyFile: the daemon reads and writes with them";
    let mut lines = Vec::new();
    match store.fetch(remote, git.branch.qualified()).await {
        Err(error) => {
            lines.push(Line::fail(WHAT, format!("{remote} cannot be read: {}", explain(&error)), credentials));
            return lines;
        }
        Ok(None) => {
            let words = format!("{remote} has no branch {branch}");
            lines.push(Line::fail(WHAT, words, "push it, or name another in git.branch"));
        }
        Ok(Some(tip)) => {
            lines.push(Line::pass(WHAT, format!("{remote} can be read: {branch} is at {}", tip.short())));
            lines.push(folder(world, &tip).await);
        }
    }
    lines.push(match store.may_push(remote).await {
        Ok(()) => Line::pass(WHAT, format!("{remote} takes pushes from these credentials")),
        Err(error) => Line::fail(
            WHAT,
            format!("{remote} takes no pushes: {}", explain(&error)),
            "record and rollback commits need the right to push; give the token or key that right",
        ),
    });
    lines.push(protection(world));
    lines
}

async fn folder(world: &World, tip: &crate::model::CommitId) -> Line {
    let git = &world.settings.git;
    match world.store.snapshot(tip, git.path.as_str(), crate::git::Limits::default()).await {
        Ok(snapshot) => {
            let count = snapshot.files.len();
            match count {
                0 => Line::warn(WHAT, format!("{} holds no manifest", git.path), "git.path names the folder"),
                _ => Line::pass(WHAT, format!("{} holds {count} files", git.path)),
            }
        }
        Err(error) => Line::fail(
            WHAT,
            format!("{} cannot be read: {}", git.path, explain(&error)),
            "git.path names the folder",
        ),
    }
}

/// Git itself does not tell who else may push, and whether a branch takes commits that were not reviewed.
fn protection(world: &World) -> Line {
    let settings = &world.settings;
    let (branch, status) = (settings.git.branch.short(), settings.git.status_branch.short());
    let advice = format!(
        "protect {status} so that only the daemon pushes there: a rebuilt cluster asks it; if {branch} takes reviewed changes \
         only, let the daemon pass, or say rollback: pullRequest with a forge"
    );
    match settings.rollback {
        RollbackMode::Commit => {
            Line::warn(WHAT, format!("whether {branch} and {status} are protected is not told by Git"), advice)
        }
        RollbackMode::PullRequest => Line::pass(
            WHAT,
            format!("{branch} may be protected: rollbacks are proposed; {status} takes the record"),
        ),
        RollbackMode::Record => Line::pass(
            WHAT,
            format!("{branch} may be protected: nothing is pushed there; {status} takes the record"),
        ),
    }
}
