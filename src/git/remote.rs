//! Where a repository is and how we prove who we are.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};

use git2::{CertificateCheckStatus, Cred, CredentialType, ProxyOptions, RemoteCallbacks};

use super::error::GitError;
use super::known_hosts;
use super::limits::{FETCH_BYTES_MAX, FETCH_OBJECTS_MAX};
use super::store::Until;

/// Times that libgit2 may ask for credentials in one connection: once for the user name, once for the secret, once for a
/// proxy. Without a limit a wrong key is offered for ever.
const CREDENTIAL_REQUESTS_MAX: u32 = 3;
/// Most of what a server says beside its answer that is kept: hooks may be talkative.
const SAID_MAX: usize = 64 << 10;
/// User name beside a token: what GitHub documents, and what other hosts accept with any token.
const TOKEN_USER: &str = "x-access-token";

/// A repository somewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Remote {
    url: String,
    location: Location,
    credentials: Credentials,
}

/// What kind of place a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder on this machine: a path or `file://`.
    Local(PathBuf),
    /// `https://`, or `http://` without secrets.
    Http,
    /// `ssh://` or `user@host:path`.
    Ssh,
}

/// How we prove who we are. Secrets are read from their files at each connection, so they can be rotated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// Not at all.
    #[default]
    None,
    /// A token for https.
    Token {
        /// User name; most hosts take any.
        username: Option<String>,
        /// File with the token.
        token_file: PathBuf,
    },
    /// A key for ssh.
    Key {
        /// Private key in OpenSSH's format, without a passphrase.
        key_file: PathBuf,
        /// The host keys to trust, as `ssh-keyscan` prints them. There is no trust on first use.
        known_hosts: PathBuf,
    },
}

impl Location {
    /// What a URL names.
    ///
    /// # Errors
    /// If it carries a secret, names no host or is of an unknown kind.
    pub fn of(url: &str) -> Result<Self, GitError> {
        let location = locate(url);
        match wrong_with(url, &location) {
            Some(reason) => Err(unusable(url, reason)),
            None => Ok(location),
        }
    }
}

impl Remote {
    /// A remote by path or URL. Nothing is looked at yet.
    ///
    /// # Errors
    /// If the URL carries a secret or is of an unknown kind, a token would travel unencrypted, or the credentials are not
    /// those of such a remote.
    pub fn new(url: &str, credentials: Credentials) -> Result<Self, GitError> {
        let location = Location::of(url)?;
        match mismatch(url, &location, &credentials) {
            Some(reason) => Err(unusable(url, reason)),
            None => Ok(Self { url: url.to_owned(), location, credentials }),
        }
    }

    /// What kind of place it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The folder of a local repository: what a file watch looks at.
    pub fn local_path(&self) -> Option<&Path> {
        match &self.location {
            Location::Local(path) => Some(path),
            Location::Http | Location::Ssh => None,
        }
    }

    /// Where the token for https is kept, if that is how we prove who we are.
    pub fn token_file(&self) -> Option<&Path> {
        match &self.credentials {
            Credentials::Token { username: _, token_file } => Some(token_file),
            Credentials::None | Credentials::Key { .. } => None,
        }
    }

    /// The URL as configured; it carries no secret.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// User name and token for https, the outer `None` if the token cannot be read.
    pub(super) async fn token(&self) -> Option<Option<(&str, String)>> {
        match &self.credentials {
            Credentials::Token { username, token_file } => {
                let token = tokio::fs::read_to_string(token_file).await.ok()?;
                Some(Some((username.as_deref().unwrap_or(TOKEN_USER), token.trim().to_owned())))
            }
            Credentials::None | Credentials::Key { .. } => Some(None),
        }
    }

    /// What libgit2 connects to.
    pub(super) fn connect_url(&self) -> String {
        match &self.location {
            Location::Local(path) => path.display().to_string(),
            Location::Http | Location::Ssh => self.url.clone(),
        }
    }

    /// Begins to talk to it.
    pub(super) fn talk(&self, until: Until) -> Talk<'_> {
        Talk { remote: self, until, ended: Cell::default(), said: RefCell::default(), refusal: RefCell::default() }
    }

    fn check_host_key(&self, host: &str, key: &[u8]) -> Result<(), String> {
        let Credentials::Key { key_file: _, known_hosts } = &self.credentials else {
            return Err("ssh needs a known hosts file".to_owned());
        };
        let file = std::fs::read_to_string(known_hosts)
            .map_err(|error| format!("failed to read known hosts {}: {error}", known_hosts.display()))?;
        let port = authority(&self.url).and_then(port).unwrap_or(known_hosts::SSH_PORT);
        known_hosts::check(&file, host, port, key)
    }

    fn credential(&self, user: Option<&str>, allowed: CredentialType, request: u32) -> Result<Cred, git2::Error> {
        match &self.credentials {
            Credentials::None => Err(auth_error("the remote asks for credentials and none are configured")),
            Credentials::Token { username, token_file } => {
                if request > 1 {
                    return Err(auth_error(&format!("the remote refused the token in {}", token_file.display())));
                }
                let token = std::fs::read_to_string(token_file).map_err(|error| {
                    auth_error(&format!("failed to read token file {}: {error}", token_file.display()))
                })?;
                Cred::userpass_plaintext(username.as_deref().unwrap_or(TOKEN_USER), token.trim())
            }
            Credentials::Key { key_file, known_hosts: _ } => {
                let user = user.unwrap_or("git");
                if allowed.contains(CredentialType::USERNAME) {
                    return Cred::username(user);
                }
                if request > 2 {
                    return Err(auth_error(&format!("the remote refused the key {}", key_file.display())));
                }
                Cred::ssh_key(user, None, key_file, None)
            }
        }
    }
}

/// One exchange with a remote. libgit2 forgets why a callback of ours refused something; this remembers.
pub(super) struct Talk<'a> {
    remote: &'a Remote,
    until: Until,
    /// Why we hung up.
    ended: Cell<Option<Ended>>,
    /// What the remote said beside its answer.
    said: RefCell<Vec<u8>>,
    refusal: RefCell<Option<String>>,
}

/// Why we hung up in the middle of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    TooLate,
    TooMuch,
}

impl Talk<'_> {
    /// Callbacks that answer with our credentials and check the host.
    pub(super) fn callbacks(&self) -> RemoteCallbacks<'_> {
        let mut callbacks = RemoteCallbacks::new();
        let mut requests = 0;
        callbacks.credentials(move |url, user, allowed| {
            requests += 1;
            if requests > CREDENTIAL_REQUESTS_MAX {
                return Err(auth_error("the remote refused our credentials"));
            }
            // A redirect asks for those of another place.
            if *self.remote.location() == Location::Http && origin(url) != origin(self.remote.url()) {
                let reason = format!(
                    "it leads to {}, and credentials are only for where they were given for; name that URL itself in git.url",
                    super::error::redact(url)
                );
                let error = auth_error(&reason);
                self.refusal.borrow_mut().replace(reason);
                return Err(error);
            }
            self.remote.credential(user, allowed, requests)
        });
        callbacks.sideband_progress(|bytes| {
            let mut said = self.said.borrow_mut();
            let room = SAID_MAX.saturating_sub(said.len());
            said.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            self.goes_on(false)
        });
        callbacks.transfer_progress(|progress| {
            self.goes_on(
                progress.received_bytes() > FETCH_BYTES_MAX || progress.total_objects() > FETCH_OBJECTS_MAX,
            )
        });
        callbacks.certificate_check(|cert, host| {
            let Some(host_key) = cert.as_hostkey() else {
                // TLS: libgit2's own verification decides.
                return Ok(CertificateCheckStatus::CertificatePassthrough);
            };
            match self.remote.check_host_key(host, host_key.hostkey().unwrap_or_default()) {
                Ok(()) => Ok(CertificateCheckStatus::CertificateOk),
                Err(reason) => {
                    let error = certificate_error(&reason);
                    self.refusal.borrow_mut().replace(reason);
                    Err(error)
                }
            }
        });
        callbacks
    }

    /// Whether an exchange goes on; a progress that never ends is none.
    fn goes_on(&self, too_much: bool) -> bool {
        if too_much {
            self.ended.set(Some(Ended::TooMuch));
        } else if self.until.is_over() {
            self.ended.set(Some(Ended::TooLate));
        }
        self.ended.get().is_none()
    }

    /// Whether it was us who ended it.
    pub(super) fn ended_it(&self) -> bool {
        self.ended.get().is_some() || self.refusal.borrow().is_some()
    }

    /// What the remote said beside its answer.
    pub(super) fn said(&self) -> Vec<u8> {
        self.said.borrow().clone()
    }

    /// What an error of this exchange means.
    pub(super) fn error(&self, error: &git2::Error) -> GitError {
        let url = self.remote.to_string();
        match self.ended.get() {
            Some(Ended::TooMuch) => {
                let (bytes, objects) = (FETCH_BYTES_MAX >> 30, FETCH_OBJECTS_MAX);
                let reason = format!("it sends more than {bytes} GiB or {objects} objects");
                return GitError::Remote { url, reason };
            }
            Some(Ended::TooLate) => {
                return GitError::Unreachable { url, reason: "it did not come to an end in time".to_owned() };
            }
            None => {}
        }
        match self.refusal.borrow_mut().take() {
            Some(reason) => GitError::Denied { url: self.remote.to_string(), reason },
            None => GitError::from_remote(self.remote.url(), error),
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.url).finish()
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// The proxy from the environment or Git's configuration.
pub(super) fn proxy<'a>() -> ProxyOptions<'a> {
    let mut options = ProxyOptions::new();
    options.auto();
    options
}

fn auth_error(message: &str) -> git2::Error {
    git2::Error::new(git2::ErrorCode::Auth, git2::ErrorClass::Callback, message)
}

fn certificate_error(message: &str) -> git2::Error {
    git2::Error::new(git2::ErrorCode::Certificate, git2::ErrorClass::Callback, message)
}

fn unusable(url: &str, reason: &str) -> GitError {
    GitError::Remote { url: super::error::redact(url), reason: reason.to_owned() }
}

/// Why a URL is not taken, whatever the credentials.
fn wrong_with(url: &str, location: &Location) -> Option<&'static str> {
    let is_local = matches!(location, Location::Local(_));
    if url.is_empty() || url.contains(char::is_control) || (!is_local && url.contains(char::is_whitespace)) {
        return Some("it is empty or holds a blank");
    }
    if url.split_once("://").is_some_and(|(scheme, _)| !SCHEMES.contains(&scheme)) {
        return Some("its scheme is not known: use a path, https:// or ssh://");
    }
    let user = authority(url).and_then(|authority| authority.rsplit_once('@')).map(|(user, _)| user);
    match location {
        // It would be in every message about the remote.
        Location::Http if user.is_some() => Some(
            "it carries a user name or a secret; put the name into git.username and the secret into a file that \
             git.tokenFile names",
        ),
        Location::Http if url.contains(['?', '#']) => {
            Some("it carries a query; put a token into a file that git.tokenFile names")
        }
        Location::Ssh if user.is_some_and(|user| user.contains(':')) => {
            Some("it carries a password; ssh uses the key in git.keyFile")
        }
        Location::Http | Location::Ssh
            if host(url).is_none_or(|host| host.is_empty() || host.starts_with('-')) =>
        {
            Some("it names no host")
        }
        Location::Local(_) | Location::Http | Location::Ssh => None,
    }
}

/// Why these credentials are not for this URL.
fn mismatch(url: &str, location: &Location, credentials: &Credentials) -> Option<&'static str> {
    match (location, credentials) {
        (Location::Http, Credentials::Token { .. }) if url.starts_with("http://") && !is_loopback(url) => {
            Some("a token would travel unencrypted over http; use https")
        }
        (Location::Http | Location::Local(_), Credentials::Key { .. }) => {
            Some("git.keyFile is for ssh remotes; https takes git.tokenFile")
        }
        (Location::Ssh, Credentials::Token { .. } | Credentials::None) => {
            Some("ssh needs git.keyFile and git.knownHostsFile")
        }
        (Location::Local(_), Credentials::Token { .. }) => Some("a local repository takes no git.tokenFile"),
        (Location::Ssh, Credentials::Key { .. })
        | (Location::Http, Credentials::Token { .. } | Credentials::None)
        | (Location::Local(_), Credentials::None) => None,
    }
}

/// Schemes of remotes.
const SCHEMES: [&str; 5] = ["file", "git+ssh", "http", "https", "ssh"];

fn locate(url: &str) -> Location {
    if let Some(path) = url.strip_prefix("file://") {
        return Location::Local(PathBuf::from(path));
    }
    if url.starts_with("https://") || url.starts_with("http://") {
        return Location::Http;
    }
    if url.starts_with("ssh://") || url.starts_with("git+ssh://") {
        return Location::Ssh;
    }
    // As git reads it: `host:path` is ssh unless a slash comes before the colon.
    match url.split_once(':') {
        Some((host, _)) if !host.contains('/') && !host.is_empty() => Location::Ssh,
        _ => Location::Local(PathBuf::from(url)),
    }
}

/// Scheme, host and port: who gets what is sent there.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let (scheme, _) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let authority = authority(url)?.rsplit('@').next()?;
    // The port is behind the last colon, unless that is within an IPv6 address.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    Some((scheme, host.trim_matches(['[', ']']).to_ascii_lowercase(), port))
}

/// `user@host:port` of a URL with a scheme.
fn authority(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.split('/').next()
}

/// The host of a URL, or of `user@host:path`.
fn host(url: &str) -> Option<&str> {
    let authority = authority(url).or_else(|| url.split_once(':').map(|(host, _)| host))?;
    let host = authority.rsplit('@').next()?;
    Some(if host.starts_with('[') { host } else { host.split(':').next().unwrap_or(host) })
}

fn port(authority: &str) -> Option<u16> {
    authority.rsplit_once(':')?.1.parse().ok()
}

fn is_loopback(url: &str) -> bool {
    let host = authority(url).map_or("", |authority| authority.rsplit('@').next().unwrap_or(""));
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
