//! What the settings mean.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::args::{RunArgs, SourceArgs};
use super::environments::{self, EnvironmentSettings};
use super::forge;
use super::git::{self, GitSettings};
use super::load_tester;
use super::reader::{ConfigError, Errors, Fields, Place};
use super::windows;
use crate::api::{WaitFor, duration};
use crate::calendar::Window;
use crate::forge::ForgeSettings;
use crate::http::{OriginToken, SecretSource};

/// Default time the canary is kept after weight 0 has been observed.
const DRAIN: Duration = Duration::from_secs(5);
/// Default time a side must have been ready before it gets traffic: how much later than the control plane proxies learn of
/// new endpoints, with room to spare.
const SETTLE: Duration = Duration::from_secs(2);
/// Flagger's default of `-metrics-server`.
const METRICS_ADDRESS: &str = "http://prometheus:9090";
/// Flagger's default of `-selector-labels`.
pub const SELECTOR_LABELS: [&str; 3] = ["app", "name", "app.kubernetes.io/name"];
/// Default port of probes and metrics.
const PORT: u16 = 8080;

/// Everything the daemon needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Names this cluster on the status branch.
    pub cluster_name: String,
    /// Kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// Its context.
    pub context: Option<String>,
    /// Where releases come from.
    pub git: GitSettings,
    /// What a failed release does in Git.
    pub rollback: RollbackMode,
    /// Where commits get their statuses.
    pub forge: Option<ForgeSettings>,
    /// What push webhooks prove themselves with.
    pub webhook_secrets: Option<SecretSource>,
    /// What load testers know the daemon by.
    pub load_tester: Option<OriginToken>,
    /// Prometheus for the built-in checks.
    pub metrics_address: String,
    /// HTTP, in and out.
    pub http: HttpSettings,
    /// What makes this daemon the only one.
    pub lease: LeaseSettings,
    /// Folder for caches; may be lost at any time.
    pub state_dir: PathBuf,
    /// Divides analysis interval, query windows and progress deadline; 1 except in demonstrations.
    pub speed: f64,
    /// How long the canary is kept after weight 0 has been observed.
    pub drain: Duration,
    /// How long a side must have been ready before it gets traffic, so that proxies know its endpoints.
    pub settle: Duration,
    /// Only this namespace's targets.
    pub namespace: Option<String>,
    /// Labels that may identify a workload's pods, most wanted first.
    pub selector_labels: Vec<String>,
    /// When releases may begin.
    pub windows: Vec<Window>,
    /// Whose records are read, too.
    pub environments: Vec<EnvironmentSettings>,
    /// What every release waits for.
    pub wait_for: Vec<WaitFor>,
    /// Install our custom resource definitions first.
    pub install_crds: bool,
    /// Release Argo Rollouts' Rollouts, too.
    pub rollouts: bool,
}

/// Whether what the settings name on this machine is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Here {
    /// The daemon is about to use it: a file that cannot be read is an error.
    Needed,
    /// The settings are for another machine.
    Elsewhere,
}

/// What a failed release does in Git.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackMode {
    /// A commit on the watched branch restores the last good manifest.
    Commit,
    /// A pull request would restore it.
    PullRequest,
    /// Only the record says so.
    Record,
}

/// HTTP, in and out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where probes and metrics are served.
    pub listen: SocketAddr,
    /// Proxy for webhooks and metric queries.
    pub proxy: Option<String>,
}

/// What makes this daemon the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSettings {
    /// Whether a lease is used.
    pub enabled: bool,
    /// The namespace of the lease and the inventory.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Settings {
    /// Reads settings from the text of the file `name`, overridden by flags.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn from_text(name: &str, text: &str, args: &RunArgs) -> Result<Self, ConfigError> {
        Self::read(name, text, args, Here::Elsewhere)
    }

    /// As [`Settings::from_text`], and what they name on this machine is looked at, too.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn for_here(name: &str, text: &str, args: &RunArgs) -> Result<Self, ConfigError> {
        Self::read(name, text, args, Here::Needed)
    }

    fn read(name: &str, text: &str, args: &RunArgs, here: Here) -> Result<Self, ConfigError> {
        let mut fields = Fields::parse(name, text)?;
        let mut errors = Errors::new(name, text);
        let settings = read(&mut fields, args, here, &mut errors);
        fields.finish(&mut errors);
        match settings {
            Some(settings) => errors.into_result(settings),
            None => Err(errors.into_error()),
        }
    }
}

/// `None` if what cannot be left out is wrong; `errors` has it.
fn read(fields: &mut Fields, args: &RunArgs, here: Here, errors: &mut Errors<'_>) -> Option<Settings> {
    let RunArgs {
        source,
        metrics_server,
        listen: _,
        http_proxy: _,
        state_dir,
        speed,
        install_crds,
        rollouts,
        no_lease: _,
    } = args;
    let SourceArgs { config: _, cluster_name, kubeconfig, context, git_url: _, branch: _, path: _, namespace } =
        source;
    let cluster_name = read_cluster_name(fields, cluster_name.as_ref(), errors);
    let file_kubeconfig = fields.text("kubeconfig", errors).map(|(path, _)| PathBuf::from(path));
    let file_context = fields.text("context", errors).map(|(context, _)| context);
    let git = git::read(fields, args, &cluster_name, here, errors);
    let remote = git.as_ref().map(|git| git.remote.url().to_owned());
    let has_forge = fields.has("forge");
    let forge = forge::read(fields, remote.as_deref(), git_token(git.as_ref()), here, errors);
    let webhook_secrets = forge::read_webhooks(fields, here, errors);
    let load_tester = load_tester::read(fields, here, errors);
    let rollback = fields.parsed_at("rollback", errors, parse_rollback);
    if let Some((RollbackMode::PullRequest, place)) = rollback
        && !has_forge
    {
        errors.add(place, "`rollback`: `pullRequest` needs the section `forge`, where pull requests are made");
    }
    let rollback = rollback.map_or(RollbackMode::Commit, |(mode, _)| mode);
    let mut metrics = fields.section("metrics", errors);
    let metrics_address = metrics.parsed("address", errors, parse_http_url);
    metrics.finish(errors);
    let metrics_address =
        flag("--metrics-server", metrics_server.as_ref(), errors, parse_http_url).or(metrics_address);
    let http = read_http(fields, args, errors);
    let lease = read_lease(fields, args, errors);
    let file_state_dir = fields.text("stateDir", errors).map(|(dir, _)| PathBuf::from(dir));
    let file_speed = fields.parsed("speed", errors, parse_speed);
    let speed = match speed {
        None => file_speed.unwrap_or(1.0),
        Some(speed) if speed.is_finite() && *speed >= 1.0 => *speed,
        Some(speed) => {
            errors.add(Place::default(), &format!("--speed {speed}: must be 1 or more"));
            1.0
        }
    };
    let drain = fields.parsed("drain", errors, duration::parse).unwrap_or(DRAIN);
    let settle = fields.parsed("settle", errors, duration::parse).unwrap_or(SETTLE);
    let windows = windows::read(fields, errors);
    let (environments, wait_for) = environments::read(fields, here, errors);
    let file_rollouts = fields.flag("rollouts", errors).unwrap_or(false);
    let file_namespace = fields.text("namespace", errors).map(|(namespace, _)| namespace);
    let selector_labels = fields.texts("selectorLabels", errors).filter(|labels| !labels.is_empty());
    Some(Settings {
        cluster_name,
        kubeconfig: kubeconfig.clone().or(file_kubeconfig),
        context: context.clone().or(file_context),
        git: git?,
        rollback,
        forge,
        webhook_secrets,
        load_tester,
        metrics_address: metrics_address.unwrap_or_else(|| METRICS_ADDRESS.to_owned()),
        http,
        lease,
        state_dir: state_dir.clone().or(file_state_dir).unwrap_or_else(|| PathBuf::from("/var/lib/serin")),
        speed,
        drain,
        settle,
        namespace: namespace.clone().or(file_namespace),
        selector_labels: selector_labels
            .unwrap_or_else(|| SELECTOR_LABELS.iter().map(|&label| label.to_owned()).collect()),
        windows,
        environments,
        wait_for,
        install_crds: *install_crds,
        rollouts: *rollouts || file_rollouts,
    })
}

/// The token that Git's host gets: its forge takes the same one, unless another is named.
fn git_token(git: Option<&GitSettings>) -> Option<SecretSource> {
    git?.remote.token_file().map(|file| SecretSource::File(file.to_owned()))
}

/// What a flag says, if it was given and can be used.
pub(super) fn flag<T, E: fmt::Display>(
    name: &str,
    text: Option<&String>,
    errors: &mut Errors<'_>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Option<T> {
    match parse(text?) {
        Ok(value) => Some(value),
        Err(error) => {
            errors.add(Place::default(), &format!("{name}: {error}"));
            None
        }
    }
}

fn read_cluster_name(fields: &mut Fields, flag: Option<&String>, errors: &mut Errors<'_>) -> String {
    let mut cluster = fields.section("cluster", errors);
    let named = cluster.text("name", errors);
    cluster.finish(errors);
    let (name, place) = match (flag, named) {
        (Some(name), _) => (name.clone(), Place::default()),
        (None, Some((name, place))) => (name, place),
        (None, None) => {
            errors.add(Place::default(), "`cluster.name` is missing: it names this cluster on the status branch");
            return String::new();
        }
    };
    // It becomes part of a branch name and of file names.
    let well_formed = !name.is_empty()
        && name.len() <= 63
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !well_formed {
        let rule = "use at most 63 lower-case letters, digits and `-`";
        errors.add(place, &format!("`cluster.name`: `{name}` is not a name: {rule}"));
    }
    name
}

fn read_http(fields: &mut Fields, args: &RunArgs, errors: &mut Errors<'_>) -> HttpSettings {
    let mut http = fields.section("http", errors);
    let listen = http.parsed("listen", errors, str::parse::<SocketAddr>);
    let proxy = http.parsed("proxy", errors, parse_http_url);
    http.finish(errors);
    HttpSettings {
        listen: args.listen.or(listen).unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))),
        proxy: flag("--http-proxy", args.http_proxy.as_ref(), errors, parse_http_url).or(proxy),
    }
}

fn read_lease(fields: &mut Fields, args: &RunArgs, errors: &mut Errors<'_>) -> LeaseSettings {
    let mut lease = fields.section("lease", errors);
    let namespace = lease.text("namespace", errors).map(|(namespace, _)| namespace);
    let name = lease.text("name", errors).map(|(name, _)| name);
    let enabled = lease.flag("enabled", errors).unwrap_or(true);
    lease.finish(errors);
    LeaseSettings {
        enabled: enabled && !args.no_lease,
        namespace: namespace.unwrap_or_else(|| "serin-system".to_owned()),
        name: name.unwrap_or_else(|| "serin".to_owned()),
    }
}

fn parse_rollback(text: &str) -> Result<RollbackMode, String> {
    match text {
        "commit" => Ok(RollbackMode::Commit),
        "record" => Ok(RollbackMode::Record),
        "pullRequest" => Ok(RollbackMode::PullRequest),
        other => Err(format!("`{other}` is not a rollback mode; use `commit`, `pullRequest` or `record`")),
    }
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed >= 1.0 => Ok(speed),
        Ok(_) | Err(_) => Err(format!("`{text}` must be a number, 1 or more")),
    }
}

fn parse_http_url(text: &str) -> Result<String, String> {
    match text.parse::<http::Uri>() {
        Ok(uri) if uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")) => {
            Ok(text.to_owned())
        }
        Ok(_) | Err(_) => Err(format!("`{text}` is not an http:// or https:// address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_file_has_defaults_and_flags_override() {
        let text = "cluster: {name: prod}\ngit: {url: https://git.example.com/a.git, pollInterval: 1m}\n";
        let settings = Settings::from_text("serin.yaml", text, &RunArgs::default()).unwrap();
        assert_eq!(settings.git.status_branch.short(), "serin/status/prod");
        assert_eq!(settings.git.poll_interval, Duration::from_secs(60));
        assert_eq!(settings.http.listen.to_string(), "0.0.0.0:8080");
        assert!(settings.lease.enabled);
        let args = RunArgs {
            source: SourceArgs {
                branch: Some("live".into()),
                cluster_name: Some("demo".into()),
                ..SourceArgs::default()
            },
            speed: Some(30.0),
            no_lease: true,
            ..RunArgs::default()
        };
        let settings = Settings::from_text("serin.yaml", text, &args).unwrap();
        assert_eq!((settings.git.branch.short(), settings.speed), ("live", 30.0));
        assert_eq!(settings.cluster_name, "demo");
        assert!(!settings.lease.enabled);
    }

    #[test]
    fn all_errors_come_at_once_with_line_and_caret() {
        let text = "\
cluster:
  nam: prod
git:
  url: ftp://git.example.com/a.git
  branch: a..b
  path: ../../etc
  pollInterval: soon
  keyFile: /none/key
  statusBranch: refs/tags/v1
rollback: pullRequest
speed: 0.5
http:
  listen: everywhere
";
        let error = Settings::from_text("serin.yaml", text, &RunArgs::default()).unwrap_err().to_string();
        insta::assert_snapshot!(error);
    }

    #[test]
    fn what_is_wrong_with_flags_is_said_as_of_the_file() {
        let text = "cluster: {name: prod}\ngit: {url: https://git.example.com/a.git}\n";
        let args = RunArgs {
            source: SourceArgs {
                git_url: Some("git.example.com:a b".into()),
                branch: Some("main ".into()),
                path: Some("/etc".into()),
                ..SourceArgs::default()
            },
            metrics_server: Some("prom:9090".into()),
            http_proxy: Some("foo".into()),
            ..RunArgs::default()
        };
        let error = Settings::from_text("serin.yaml", text, &args).unwrap_err().to_string();
        for flag in ["--git-url", "--branch", "--path", "--metrics-server", "--http-proxy"] {
            assert!(error.contains(&format!("error: {flag}: ")), "{flag} is not in:\n{error}");
        }
        assert_eq!(error.lines().count(), 5, "{error}");
    }

    /// Every field that the reader asks for is in the published schema, and no other.
    #[test]
    fn the_schema_is_what_is_read() {
        let text = "cluster: {name: prod}\ngit: {url: https://git.example.com/a.git}\n\
            forge: {type: gitlab, app: {id: 1}}\nreleaseWindows: [{schedule: 0 0 * * *, duration: 1h}]\n\
            environments: [{name: staging, protected: true}]\nwaitFor: [{environment: staging}]\n";
        let mut fields = Fields::parse("serin.yaml", text).unwrap();
        let mut errors = Errors::new("serin.yaml", text);
        super::read(&mut fields, &RunArgs::default(), Here::Elsewhere, &mut errors);
        fields.finish(&mut errors);
        let known = std::mem::take(&mut errors.known);
        // What holds others is no field of its own.
        let holds = |path: &String| {
            known
                .iter()
                .any(|other| other.starts_with(&format!("{path}.")) || other.starts_with(&format!("{path}[].")))
        };
        let read: std::collections::BTreeSet<String> = known.iter().filter(|path| !holds(path)).cloned().collect();
        assert_eq!(read, super::super::schema::paths());
    }

    #[test]
    fn text_that_is_no_yaml_says_where() {
        let read = |text| Settings::from_text("serin.yaml", text, &RunArgs::default());
        let error = read("git: {url: a").unwrap_err().to_string();
        assert!(error.starts_with("error: unclosed bracket") && error.contains("--> serin.yaml:1:6"), "{error}");
        assert!(read("- a").is_err());
    }
}
