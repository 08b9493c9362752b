//! Which forge, where, and how we prove who we are.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;

use crate::http::SecretSource;

/// A kind of forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// GitHub, GitHub Enterprise Server.
    GitHub,
    /// GitLab.
    GitLab,
    /// Gitea, Forgejo, Codeberg.
    Gitea,
    /// Bitbucket Cloud.
    Bitbucket,
    /// Bitbucket Data Center.
    BitbucketServer,
    /// Azure DevOps.
    Azure,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::GitHub, Self::GitLab, Self::Gitea, Self::Bitbucket, Self::BitbucketServer, Self::Azure];

    /// Its name in serin.yaml.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
            Self::Bitbucket => "bitbucket",
            Self::BitbucketServer => "bitbucketServer",
            Self::Azure => "azure",
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::GitHub => "GitHub",
            Self::GitLab => "GitLab",
            Self::Gitea => "Gitea",
            Self::Bitbucket => "Bitbucket Cloud",
            Self::BitbucketServer => "Bitbucket Data Center",
            Self::Azure => "Azure DevOps",
        }
    }

    /// By a host that everybody knows.
    fn of_host(host: &str) -> Option<Self> {
        Some(match host {
            "github.com" => Self::GitHub,
            "gitlab.com" => Self::GitLab,
            "codeberg.org" | "gitea.com" => Self::Gitea,
            "bitbucket.org" => Self::Bitbucket,
            "dev.azure.com" | "ssh.dev.azure.com" => Self::Azure,
            _ => return None,
        })
    }

    /// Segments that a repository's name has: at least, at most.
    fn segments(self) -> (usize, usize) {
        match self {
            Self::GitHub | Self::Gitea | Self::Bitbucket | Self::BitbucketServer => (2, 2),
            // Groups lie in groups, twenty deep.
            Self::GitLab => (2, 21),
            Self::Azure => (3, 3),
        }
    }

    /// How such a repository is named.
    fn example(self) -> &'static str {
        match self {
            Self::GitHub | Self::Gitea => "owner/name",
            Self::GitLab => "group/name",
            Self::Bitbucket => "workspace/name",
            Self::BitbucketServer => "PROJECT/name",
            Self::Azure => "organization/project/name",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "forgejo" {
            return Ok(Self::Gitea);
        }
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.iter().map(|kind| kind.as_str()).chain(["forgejo"]).collect();
            format!("`{text}` is no forge: use {}", all.join(", "))
        })
    }
}

/// How we prove who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// A token, sent as the forge wants it.
    Token(SecretSource),
    /// A user's name and password (Bitbucket's app passwords and API tokens).
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: SecretSource,
    },
    /// A GitHub App: its key makes tokens that live for an hour.
    App {
        /// The App's id or client id.
        id: String,
        /// Its private key, in PEM.
        key: SecretSource,
    },
}

/// Where a repository is at its forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What kind of forge.
    pub kind: Kind,
    /// Where people see it: scheme, host and port, and a path in front of everything if there is one.
    pub web: Url,
    /// The repository's name, by segments.
    pub repository: Vec<String>,
}

/// Everything about the forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeSettings {
    /// Where.
    pub place: Place,
    /// How we prove who we are.
    pub access: Access,
    /// Certificates to trust besides the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// Where statuses lead; the record's file at the forge without one.
    pub target_url: Option<String>,
}

/// Settings that do not name a forge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Nobody can tell what it is.
    #[error(
        "`forge.type` is missing, and {0} is not known by its name: github, gitlab, gitea, forgejo, bitbucket, bitbucketServer or azure"
    )]
    UnknownHost(String),
    /// The repository is somewhere else.
    #[error("`forge.url` is missing: git.url names no host")]
    NoHost,
    /// A name that cannot be one.
    #[error("`forge.repository`: `{name}` is no repository of {forge}: write it as {example}")]
    Repository {
        /// As given, or as git.url has it.
        name: String,
        /// The forge.
        forge: &'static str,
        /// How it is written.
        example: &'static str,
    },
    /// No URL, or one that may not be used.
    #[error("`forge.url`: {0}")]
    Url(&'static str),
}

/// Host and path of a repository's URL: `https://host/path`, `ssh://git@host:22/path`, `git@host:path`.
fn taken_apart(remote: &str) -> Option<(String, Option<u16>, Vec<String>, bool)> {
    let (authority, path, web) = match remote.split_once("://") {
        Some(("file", _)) => return None,
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/')?;
            (authority, path, scheme.starts_with("http"))
        }
        None => {
            let (authority, path) = remote.split_once(':')?;
            if authority.contains('/') || authority.is_empty() {
                return None;
            }
            (authority, path, false)
        }
    };
    let host = authority.rsplit('@').next()?;
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (host, None),
    };
    let path = path.trim_matches('/').trim_end_matches(".git");
    let segments = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    Some((host.to_ascii_lowercase(), port.filter(|_| web), segments, web))
}

/// The repository's name as the path of its clone URL has it.
fn repository_of(kind: Kind, mut path: Vec<String>) -> Vec<String> {
    match kind {
        Kind::BitbucketServer => path.retain(|part| part != "scm"),
        Kind::Azure => path.retain(|part| part != "_git" && part != "v3"),
        Kind::GitHub | Kind::GitLab | Kind::Gitea | Kind::Bitbucket => {}
    }
    path
}

impl Place {
    /// What the settings name, made whole from the repository's URL.
    ///
    /// # Errors
    /// When something is missing that cannot be told from the URL, or does not fit.
    pub fn of(
        kind: Option<Kind>,
        url: Option<&str>,
        repository: Option<&str>,
        remote: &str,
    ) -> Result<Self, SettingsError> {
        let parts = taken_apart(remote);
        let host = parts.as_ref().map(|(host, ..)| host.as_str());
        let web = match url {
            Some(url) => web_url(url)?,
            None => {
                let (host, port, _, web) = parts.as_ref().ok_or(SettingsError::NoHost)?;
                let host = if host == "ssh.dev.azure.com" { "dev.azure.com" } else { host };
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                let scheme = if *web && remote.starts_with("http://") { "http" } else { "https" };
                web_url(&format!("{scheme}://{host}{port}"))?
            }
        };
        let kind = kind.or_else(|| web.host_str().and_then(Kind::of_host)).or_else(|| Kind::of_host(host?));
        let kind =
            kind.ok_or_else(|| SettingsError::UnknownHost(web.host_str().unwrap_or("the host").to_owned()))?;
        let name: Vec<String> = match repository {
            Some(name) => name.trim_matches('/').split('/').map(str::to_owned).collect(),
            None => repository_of(kind, parts.map(|(_, _, path, _)| path).unwrap_or_default()),
        };
        let (least, most) = kind.segments();
        let well_formed =
            |part: &String| !part.is_empty() && part != "." && part != ".." && !part.contains(char::is_control);
        if name.len() < least || name.len() > most || !name.iter().all(well_formed) {
            let (forge, example) = (kind.name(), kind.example());
            return Err(SettingsError::Repository { name: name.join("/"), forge, example });
        }
        Ok(Self { kind, web, repository: name })
    }

    /// The parts of the repository's name.
    pub(super) fn name(&self) -> Vec<&str> {
        self.repository.iter().map(String::as_str).collect()
    }

    /// Where the API is.
    pub fn api(&self) -> Url {
        let mut api = self.web.clone();
        let host = self.web.host_str().unwrap_or_default();
        match (self.kind, host) {
            (Kind::GitHub, "github.com") => {
                // A name that is known to be one: it cannot fail.
                api.set_host(Some("api.github.com")).unwrap_or_default();
            }
            (Kind::Bitbucket, "bitbucket.org") => api.set_host(Some("api.bitbucket.org")).unwrap_or_default(),
            _ => {}
        }
        let below: &[&str] = match (self.kind, host) {
            (Kind::GitHub, "github.com") => &[],
            (Kind::GitHub, _) => &["api", "v3"],
            (Kind::GitLab, _) => &["api", "v4"],
            (Kind::Gitea, _) => &["api", "v1"],
            (Kind::Bitbucket, _) => &["2.0"],
            (Kind::BitbucketServer, _) => &["rest", "api", "latest"],
            (Kind::Azure, _) => &[],
        };
        if let Ok(mut segments) = api.path_segments_mut() {
            segments.pop_if_empty().extend(below);
        }
        api
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.repository.join("/"), self.web.host_str().unwrap_or_default())
    }
}

fn web_url(text: &str) -> Result<Url, SettingsError> {
    let url = Url::parse(text).map_err(|_| SettingsError::Url("it is not an https:// URL"))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(SettingsError::Url("it carries a secret or a query; put a token into forge.tokenFile"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(SettingsError::Url("a token would travel unencrypted over http; use https")),
        _ => Err(SettingsError::Url("it is not an https:// URL")),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(remote: &str) -> (String, String, String) {
        let place = Place::of(None, None, None, remote).unwrap();
        (place.kind.as_str().to_owned(), place.api().to_string(), place.repository.join("/"))
    }

    #[test]
    fn known_hosts_need_no_settings() {
        let all = [
            ("https://github.com/acme/shop.git", "github", "https://api.github.com/", "acme/shop"),
            ("git@github.com:acme/shop.git", "github", "https://api.github.com/", "acme/shop"),
            ("ssh://git@gitlab.com:22/a/b/shop.git", "gitlab", "https://gitlab.com/api/v4", "a/b/shop"),
            ("https://codeberg.org/acme/shop", "gitea", "https://codeberg.org/api/v1", "acme/shop"),
            ("git@bitbucket.org:acme/shop.git", "bitbucket", "https://api.bitbucket.org/2.0", "acme/shop"),
            ("https://dev.azure.com/acme/web/_git/shop", "azure", "https://dev.azure.com/", "acme/web/shop"),
            ("git@ssh.dev.azure.com:v3/acme/web/shop", "azure", "https://dev.azure.com/", "acme/web/shop"),
        ];
        for (remote, kind, api, repository) in all {
            assert_eq!(place(remote), (kind.to_owned(), api.to_owned(), repository.to_owned()), "{remote}");
        }
    }

    #[test]
    fn own_hosts_say_what_they_are() {
        let remote = "https://git.example.com:8443/scm/SHOP/web.git";
        let error = Place::of(None, None, None, remote).unwrap_err();
        assert!(error.to_string().contains("git.example.com is not known"), "{error}");
        let place = Place::of(Some(Kind::BitbucketServer), None, None, remote).unwrap();
        assert_eq!(place.api().as_str(), "https://git.example.com:8443/rest/api/latest");
        assert_eq!(place.repository, ["SHOP", "web"]);
        let place = Place::of(Some(Kind::GitHub), None, None, "git@ghe.example.com:a/b.git").unwrap();
        assert_eq!(place.api().as_str(), "https://ghe.example.com/api/v3");
        // A forge under a path, for a repository that is fetched from elsewhere.
        let place = Place::of(Some(Kind::GitLab), Some("https://h/git/"), Some("a/b"), "/srv/mirror.git").unwrap();
        assert_eq!(place.api().as_str(), "https://h/git/api/v4");
    }

    #[test]
    fn what_cannot_be_is_refused_and_shows_no_secret() {
        for url in
            ["http://git.example.com", "https://user:SECRET@h", "https://h?token=SECRET", "SECRET", "ftp://h"]
        {
            let error = Place::of(Some(Kind::Gitea), Some(url), Some("a/b"), "/x").unwrap_err().to_string();
            assert!(error.starts_with("`forge.url`") && !error.contains("SECRET"), "{error}");
        }
        assert!(Place::of(Some(Kind::Gitea), Some("http://127.0.0.1:3000"), Some("a/b"), "/x").is_ok());
        for name in ["a", "a/b/c", "a/..", "/", "a//b"] {
            let error = Place::of(Some(Kind::GitHub), Some("https://h"), Some(name), "/x").unwrap_err();
            assert!(error.to_string().contains("owner/name"), "{error}");
        }
        assert_eq!(Place::of(Some(Kind::Gitea), None, Some("a/b"), "/srv/x.git"), Err(SettingsError::NoHost));
        assert_eq!("forgejo".parse::<Kind>(), Ok(Kind::Gitea));
        assert!("svn".parse::<Kind>().unwrap_err().contains("bitbucketServer"));
    }
}
