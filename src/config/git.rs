//! The section `git` of the settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::RunArgs;
use super::reader::{Errors, Fields, Place};
use super::settings::{Here, flag};
use crate::api::duration;
use crate::git::{
    AllowedSigners, Credentials, GitError, Ignore, Location, Reference, Remote, SigningKey, TreePath,
};

/// Default time between two looks at the repository: local repositories are watched, pushes can call a webhook.
const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// Shortest accepted time between two looks: a Git host would take less for an attack.
const POLL_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The branch that is watched if none is named.
const BRANCH: &str = "main";

/// Where releases come from.
#[derive(Debug, Clone, PartialEq)]
pub struct GitSettings {
    /// The repository and how we prove who we are.
    pub remote: Remote,
    /// What is watched: a branch as a rule. A tag is followed, and never moved.
    pub branch: Reference,
    /// Folder of the manifests.
    pub path: TreePath,
    /// What is left out of the repository, as in `.gitignore`, from its root.
    pub ignore: Vec<String>,
    /// Time between two looks; jittered.
    pub poll_interval: Duration,
    /// Name on our commits.
    pub author_name: String,
    /// E-mail address on our commits.
    pub author_email: String,
    /// Branch of the record.
    pub status_branch: Reference,
    /// Keys whose commits are applied; `None`: everybody's.
    pub allowed_signers: Option<PathBuf>,
    /// The key that signs our own commits.
    pub signing_key: Option<PathBuf>,
}

impl GitSettings {
    /// The patterns of what is left out.
    pub fn leaves_out(&self) -> Ignore {
        Ignore::of(self.ignore.iter().map(String::as_str))
    }
}

/// Reads the section; `None` if what cannot be left out is wrong.
pub(super) fn read(
    fields: &mut Fields,
    args: &RunArgs,
    cluster: &str,
    here: Here,
    errors: &mut Errors<'_>,
) -> Option<GitSettings> {
    let mut git = fields.section("git", errors);
    let remote = read_remote(&mut git, args, here, errors);
    let branch = git.parsed_at("branch", errors, str::parse::<Reference>);
    let branch = flag("--branch", args.source.branch.as_ref(), errors, str::parse)
        .map(|name| (name, Place::default()))
        .or(branch);
    let path = git.parsed("path", errors, str::parse::<TreePath>);
    let path = flag("--path", args.source.path.as_ref(), errors, str::parse).or(path);
    let ignore = git.texts("ignore", errors).unwrap_or_default();
    let poll_interval = git.parsed("pollInterval", errors, parse_poll_interval).unwrap_or(POLL_INTERVAL);
    let mut author = git.section("author", errors);
    let author_name = text(&mut author, "name", errors);
    let author_email = text(&mut author, "email", errors);
    author.finish(errors);
    let status_branch = git.parsed_at("statusBranch", errors, parse_branch);
    let (allowed_signers, signing_key) = read_signing(&mut git, here, errors);
    git.finish(errors);

    let (branch, _) = branch.or_else(|| Some((BRANCH.parse().ok()?, Place::default())))?;
    // A cluster without a name has been told of.
    let default = || Some((format!("serin/status/{cluster}").parse().ok()?, Place::default()));
    let (status_branch, place) = status_branch.or_else(default)?;
    if branch == status_branch || branch.excludes(&status_branch) {
        let why = if branch == status_branch { "it is the watched one" } else { "Git cannot have both" };
        let message =
            format!("`git.statusBranch`: {status_branch} cannot be used beside {branch}: {why}; name another");
        errors.add(place, &message);
    }
    Some(GitSettings {
        remote: remote?,
        branch,
        path: path.unwrap_or_default(),
        ignore,
        poll_interval,
        author_name: author_name.unwrap_or_else(|| "serin".to_owned()),
        author_email: author_email.unwrap_or_else(|| "serin@localhost".to_owned()),
        status_branch,
        allowed_signers,
        signing_key,
    })
}

/// Whose commits are believed, and what ours are signed with: the first without the second would refuse our rollbacks.
fn read_signing(git: &mut Fields, here: Here, errors: &mut Errors<'_>) -> (Option<PathBuf>, Option<PathBuf>) {
    let allowed = file(git, "allowedSignersFile", here, errors);
    let key = file(git, "signingKeyFile", here, errors);
    if let (Some((_, place)), None) = (&allowed, &key) {
        errors.add(*place, "`git.allowedSignersFile` needs `git.signingKeyFile`: a rollback commit that is not signed would be refused");
    }
    if here == Here::Needed {
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        let signers = allowed.as_ref().and_then(|(path, place)| Some((read(path)?, *place)));
        let signers = signers.map(|(text, place)| (AllowedSigners::parse(&text), place));
        if let Some((Err(reason), place)) = &signers {
            errors.add(*place, &format!("`git.allowedSignersFile`: {reason}"));
        }
        let signing = key.as_ref().and_then(|(path, place)| Some((read(path)?, *place)));
        match signing.map(|(text, place)| (SigningKey::parse(&text), place)) {
            Some((Err(reason), place)) => errors.add(place, &format!("`git.signingKeyFile`: {reason}")),
            Some((Ok(key), place)) => {
                if let Some((Ok(allowed), _)) = &signers
                    && !key.is_among(allowed)
                {
                    errors.add(place, "`git.signingKeyFile`: its key is not in git.allowedSignersFile, so our rollbacks would be refused");
                }
            }
            None => {}
        }
    }
    (allowed.map(|(path, _)| path), key.map(|(path, _)| path))
}

/// A text that is not empty.
fn text(fields: &mut Fields, field: &'static str, errors: &mut Errors<'_>) -> Option<String> {
    fields.text(field, errors).map(|(text, _)| text).filter(|text| !text.is_empty())
}

/// A file that is named, which can be read if it has to be.
fn file(git: &mut Fields, field: &'static str, here: Here, errors: &mut Errors<'_>) -> Option<(PathBuf, Place)> {
    let (name, place) = git.text(field, errors)?;
    let path = PathBuf::from(name);
    if here == Here::Needed
        && let Err(reason) = readable(&path)
    {
        errors.add(place, &format!("`git.{field}`: {} cannot be read: {reason}", path.display()));
    }
    Some((path, place))
}

fn readable(path: &Path) -> Result<(), String> {
    let metadata =
        std::fs::File::open(path).and_then(|file| file.metadata()).map_err(|error| error.to_string())?;
    match (metadata.is_dir(), metadata.len()) {
        (true, _) => Err("it is a folder".to_owned()),
        (false, 0) => Err("it is empty".to_owned()),
        (false, _) => Ok(()),
    }
}

fn read_remote(git: &mut Fields, args: &RunArgs, here: Here, errors: &mut Errors<'_>) -> Option<Remote> {
    let typed = git.text("url", errors);
    let credentials = read_credentials(git, here, errors);
    let (name, url, place) = match (&args.source.git_url, typed) {
        (Some(url), _) => ("--git-url", url.clone(), Place::default()),
        (None, Some((url, place))) => ("`git.url`", url, place),
        (None, None) => {
            let missing = "`git.url` is missing: it names the repository to release from";
            errors.add(Place::default(), missing);
            return None;
        }
    };
    let remote = match credentials {
        Some(credentials) => Remote::new(&url, credentials).map(Some),
        None => Location::of(&url).map(|_| None),
    };
    let reason = match remote {
        Ok(remote) => match remote.as_ref().and_then(Remote::local_path) {
            Some(path) if here == Here::Needed && path.is_relative() && !path.exists() => {
                "there is no such folder".to_owned()
            }
            Some(_) | None => return remote,
        },
        Err(GitError::Remote { reason, .. }) => reason,
        Err(error) => error.to_string(),
    };
    errors.add(place, &format!("{name}: {reason}"));
    None
}

/// `None` if they do not fit together.
fn read_credentials(git: &mut Fields, here: Here, errors: &mut Errors<'_>) -> Option<Credentials> {
    let username = text(git, "username", errors);
    let token = file(git, "tokenFile", here, errors);
    let key = file(git, "keyFile", here, errors);
    let known_hosts = file(git, "knownHostsFile", here, errors);
    match (token, key, known_hosts) {
        (Some(_), Some((_, place)), _) => {
            errors.add(place, "`git.keyFile` is for ssh and `git.tokenFile` for https: name one of them");
            None
        }
        (Some((token_file, _)), None, _) => Some(Credentials::Token { username, token_file }),
        (None, Some((key_file, _)), Some((known_hosts, _))) => Some(Credentials::Key { key_file, known_hosts }),
        (None, Some((_, place)), None) => {
            errors.add(
                place,
                "`git.keyFile` needs `git.knownHostsFile`: `ssh-keyscan HOST > known_hosts` writes one; compare it with \
                 what the host publishes",
            );
            None
        }
        (None, None, _) => Some(Credentials::None),
    }
}

/// The record is written to it: a tag would have to be moved.
fn parse_branch(text: &str) -> Result<Reference, String> {
    let reference: Reference = text.parse().map_err(|error: crate::git::ReferenceError| error.to_string())?;
    if reference.is_branch() { Ok(reference) } else { Err(format!("{reference} is no branch")) }
}

fn parse_poll_interval(text: &str) -> Result<Duration, String> {
    let interval = duration::parse(text).map_err(|error| error.to_string())?;
    if interval < POLL_INTERVAL_MIN {
        return Err(format!("`{text}` is shorter than {} s", POLL_INTERVAL_MIN.as_secs()));
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;
    use super::*;

    fn read(git: &str, here: Here) -> Result<GitSettings, String> {
        let text = format!("cluster: {{name: prod}}\ngit: {git}\n");
        let make = if here == Here::Needed { Settings::for_here } else { Settings::from_text };
        let settings = make("serin.yaml", &text, &RunArgs::default());
        settings.map(|settings| settings.git).map_err(|error| error.to_string())
    }

    #[test]
    fn qualified_names_and_tags_are_taken() {
        let git =
            read("{url: https://h/a.git, branch: refs/heads/main, path: ./deploy/}", Here::Elsewhere).unwrap();
        assert_eq!((git.branch.short(), git.path.as_str()), ("main", "deploy"));
        let git = read("{url: https://h/a.git, branch: refs/tags/v1}", Here::Elsewhere).unwrap();
        assert!(git.branch.is_tag());
    }

    #[test]
    fn what_is_left_out_is_a_list_of_patterns() {
        let git = read("{url: https://h/a.git, ignore: ['*.json', '!/keep.json']}", Here::Elsewhere).unwrap();
        assert!(
            git.leaves_out().leaves_out("a/b.json", false) && !git.leaves_out().leaves_out("keep.json", false)
        );
        let error = read("{url: https://h/a.git, ignore: '*.json'}", Here::Elsewhere).unwrap_err();
        assert!(error.contains("`git.ignore` must be a list"), "{error}");
    }

    #[test]
    fn branches_that_exclude_each_other_are_refused() {
        for git in [
            "{url: /a, branch: serin}",
            "{url: /a, branch: serin/status}",
            "{url: /a, branch: main, statusBranch: main}",
            "{url: /a, branch: refs/heads/main, statusBranch: main}",
            "{url: /a, branch: main, statusBranch: main/status}",
        ] {
            let error = read(git, Here::Elsewhere).unwrap_err();
            assert!(error.contains("cannot be used beside"), "{error}");
        }
        assert!(read("{url: /a, branch: serin-main}", Here::Elsewhere).is_ok());
    }

    #[test]
    fn files_must_be_readable_where_they_are_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("token"), "t").unwrap();
        std::fs::write(path("empty"), "").unwrap();
        let git = |token: &str| format!("{{url: https://h/a.git, tokenFile: {token}}}");
        assert!(read(&git(&path("token")), Here::Needed).is_ok());
        for (token, said) in
            [(path("none"), "No such file"), (path("empty"), "it is empty"), (path(""), "it is a folder")]
        {
            let error = read(&git(&token), Here::Needed).unwrap_err();
            assert!(error.contains(&token) && error.contains(said) && error.contains("serin.yaml:2:"), "{error}");
            assert!(read(&git(&token), Here::Elsewhere).is_ok());
        }
        let ssh = format!("{{url: 'git@h:a', keyFile: {0}, knownHostsFile: {0}x}}", path("token"));
        assert!(read(&ssh, Here::Needed).unwrap_err().contains("git.knownHostsFile"));
        let alone = format!("{{url: 'git@h:a', keyFile: {}}}", path("token"));
        assert!(read(&alone, Here::Needed).unwrap_err().contains("needs `git.knownHostsFile`"));
        let both = format!("{{url: 'git@h:a', keyFile: {0}, tokenFile: {0}}}", path("token"));
        assert!(read(&both, Here::Needed).unwrap_err().contains("name one of them"));
        assert!(read("{url: none.git}", Here::Needed).unwrap_err().contains("there is no such folder"));
    }
}
