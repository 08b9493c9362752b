//! A bare repository and a clone, driven by the `git` command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serin::git::{CommitMeta, Credentials, Identity, Remote, Store};
use serin::model::CommitId;
use tempfile::TempDir;

/// The watched branch.
pub(crate) const MAIN: &str = "refs/heads/main";

/// A remote, somebody's clone of it, and our store.
pub(crate) struct World {
    pub(crate) dir: TempDir,
}

impl World {
    /// A remote with one commit that holds these files.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        run(world.dir.path(), &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        run(world.dir.path(), &["init", "-q", "-b", "main", "clone"]);
        world.git(&["remote", "add", "origin", world.bare().to_str().unwrap()]);
        world.push(files, "First");
        world
    }

    pub(crate) fn bare(&self) -> PathBuf {
        self.dir.path().join("remote.git")
    }

    pub(crate) fn clone_dir(&self) -> PathBuf {
        self.dir.path().join("clone")
    }

    pub(crate) fn remote(&self) -> Remote {
        Remote::new(self.bare().to_str().unwrap(), Credentials::None).unwrap()
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(self.dir.path().join("cache")).unwrap()
    }

    /// Runs git in the clone.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        run(&self.clone_dir(), args)
    }

    /// Runs git in the remote.
    pub(crate) fn bare_git(&self, args: &[&str]) -> String {
        run(&self.bare(), args)
    }

    /// Somebody commits these files and pushes.
    pub(crate) fn push(&self, files: &[(&str, &str)], message: &str) -> CommitId {
        for (path, text) in files {
            let path = self.clone_dir().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["push", "-q", "origin", "HEAD:refs/heads/main"]);
        self.tip("main").unwrap()
    }

    /// What a branch of the remote points at.
    pub(crate) fn tip(&self, branch: &str) -> Option<CommitId> {
        let reference = format!("refs/heads/{branch}");
        let output = command(&self.bare()).args(["rev-parse", "-q", "--verify", &reference]).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
    }

    /// A file of the remote.
    pub(crate) fn show(&self, branch: &str, path: &str) -> String {
        let output = command(&self.bare()).args(["show", &format!("{branch}:{path}")]).output().unwrap();
        checked("show", &output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// An executable hook of the remote.
    pub(crate) fn hook(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.bare().join("hooks").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

pub(crate) fn meta(message: &str) -> CommitMeta {
    CommitMeta {
        message: message.to_owned(),
        author: Identity { name: "serin".into(), email: "serin@example.com".into() },
        time: "2026-01-02T03:04:05Z".parse().unwrap(),
    }
}

/// `git` without anybody's configuration and with fixed names and dates.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "Ann")
        .env("GIT_AUTHOR_EMAIL", "ann@example.com")
        .env("GIT_COMMITTER_NAME", "Ann")
        .env("GIT_COMMITTER_EMAIL", "ann@example.com");
    command
}

fn run(dir: &Path, args: &[&str]) -> String {
    let output = command(dir).args(args).output().unwrap();
    checked(&args.join(" "), &output);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn checked(what: &str, output: &Output) {
    assert!(output.status.success(), "git {what}: {}", String::from_utf8_lossy(&output.stderr));
}
