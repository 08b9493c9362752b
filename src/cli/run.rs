//! `serin run`: the daemon. The one place where the rooms are wired together.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::alert::{Chats, HttpChats};
use crate::api::{Canary, Source};
use crate::cluster::{
    Claim, Clock, Cluster, ConnectOptions, EffectProbe, Lease, LeaseConfig, Lender, NoProbe, Reflected,
    SharedWatch, Wake, Writer,
};
use crate::config::{EnvironmentSettings, RollbackMode, RunArgs, Settings};
use crate::controller::{self, ControllerContext, ControllerSettings, Telemetry};
use crate::forge::{self, Forge};
use crate::git::{AllowedSigners, Identity, SigningKey, Store};
use crate::hook::{HookCaller, HttpHooks};
use crate::http::HttpClients;
use crate::metrics::{MetricProvider, Providers};
use crate::model::Projection;
use crate::release::Guards;
use crate::render::{Program, Renderer};
use crate::report::environments::{self, Environment};
use crate::report::writer::BATCH;
use crate::report::{self, ReporterSettings, RollbackCommits, WatchedBranch, alerts, statuses};
use crate::server::{self, Hooks, Pushed, ServerState};
use crate::sync::{self, GitSource, PushTrigger, SyncContext, SyncSettings, SyncStatus, WatchedCanary};

use super::exit::{CliError, Exit};
use super::gauges::Gauges;
use super::install::install_crds;
use super::pulse::Pulses;
use super::records::Records;
use super::reload::{Reloads, SettingsHealth, TRIAL};
use super::signal;

/// How long the loops may take to finish what they are writing once they are told to stop; a pod has 30 s in all.
const STOP_MAX: Duration = Duration::from_secs(15);

/// What a loop does until it is told to stop.
type LoopWork = BoxFuture<'static, anyhow::Result<()>>;

/// What the daemon asks the outside through; tests put their own here.
pub struct Backends {
    /// Answers metric queries.
    pub metrics: Arc<dyn MetricProvider>,
    /// Calls webhooks.
    pub hooks: Arc<dyn HookCaller>,
    /// Where commits get their statuses; `None`: nowhere.
    pub forge: Option<Arc<dyn Forge>>,
    /// Where alerts go; `None`: nowhere.
    pub chats: Option<Arc<dyn Chats>>,
    /// Sees every outside write.
    pub probe: Arc<dyn EffectProbe>,
    /// What time it is.
    pub clock: Clock,
    /// Where probes and metrics are served; `None`: nowhere.
    pub listener: Option<TcpListener>,
    /// What is done so that no request fails for want of pods.
    pub guards: Guards,
    /// Whether the settings are those of the file.
    pub health: SettingsHealth,
}

impl Backends {
    /// The real ones, through the configured proxy, by the cluster's clock.
    ///
    /// # Errors
    /// When the proxy's address is not one, or the port is taken.
    pub async fn over_http(settings: &Settings, cluster: &Cluster) -> anyhow::Result<Self> {
        let listen = settings.http.listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("failed to listen on {listen}"))
            .map_err(|error| CliError::input(error).hint("choose another address with --listen or http.listen"))?;
        let clients = HttpClients::new(settings.http.proxy.as_deref()).map_err(CliError::input)?;
        // Where a proxy is named it decides where addresses lead.
        let outside = match calls_itself(settings) {
            true => clients.clone(),
            false => clients.clone().without_loopback(),
        };
        Ok(Self {
            metrics: Arc::new(Providers::new(clients)),
            hooks: Arc::new(HttpHooks::new(outside.clone()).with_token(settings.load_tester.clone())),
            chats: Some(Arc::new(HttpChats::new(outside))),
            forge: forge(settings, cluster)?,
            probe: Arc::new(NoProbe),
            clock: cluster.clock(),
            listener: Some(listener),
            guards: Guards::default(),
            health: SettingsHealth::default(),
        })
    }
}

/// Runs until SIGTERM or Ctrl-C.
pub async fn run(args: RunArgs) -> anyhow::Result<u8> {
    let named = args.source.config.is_some();
    let settings = args.settings().map_err(|error| match named {
        true => CliError::input(error),
        false => CliError::input(error)
            .hint("name a settings file with --config, or give flags: `serin run --help` lists them"),
    })?;
    let shutdown = CancellationToken::new();
    let (told_to_stop, stop) = (signal::stop()?, shutdown.clone());
    tokio::spawn(async move {
        // Not inside the macro: what is not logged is not evaluated.
        let told = told_to_stop.await;
        tracing::info!("{told}: stopping");
        stop.cancel();
    });
    with_reloads(settings, args, shutdown).await?;
    Ok(Exit::Done.code())
}

/// Runs, and begins anew whenever the settings file says something else that can be used.
async fn with_reloads(mut settings: Settings, args: RunArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let health = SettingsHealth::default();
    let mut reloads = Reloads::of(args, health.clone());
    // What held before, while the present ones are on trial.
    let mut former: Option<Settings> = None;
    loop {
        let (stop, began) = (shutdown.child_token(), Instant::now());
        let mut running = std::pin::pin!(daemon_of(settings.clone(), health.clone(), stop.clone()));
        let ended = tokio::select! {
            ended = &mut running => ended,
            next = reloads.next(&settings) => {
                tracing::info!("the settings changed: starting anew with them");
                stop.cancel();
                running.await?;
                former = Some(std::mem::replace(&mut settings, next));
                continue;
            }
        };
        match (ended, former.take()) {
            (Err(error), Some(good)) if began.elapsed() < TRIAL && !shutdown.is_cancelled() => {
                tracing::error!(
                    "the new settings do not work, going on with those before: {}",
                    crate::cluster::explain(&*error)
                );
                health.set(false);
                settings = good;
            }
            (ended, _) => return ended,
        }
    }
}

/// The whole daemon with its real backends.
pub async fn daemon(settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    daemon_of(settings, SettingsHealth::default(), shutdown).await
}

async fn daemon_of(settings: Settings, health: SettingsHealth, shutdown: CancellationToken) -> anyhow::Result<()> {
    let options = ConnectOptions { kubeconfig: settings.kubeconfig.clone(), context: settings.context.clone() };
    let cluster = Cluster::connect(&options).await.map_err(|error| {
        CliError::input(error).hint("name a cluster with --kubeconfig or $KUBECONFIG; `serin sandbox` makes one")
    })?;
    let backends = Backends { health, ..Backends::over_http(&settings, &cluster).await? };
    daemon_with(settings, cluster, backends, shutdown).await
}

/// The whole daemon on a given cluster and backends, until `shutdown`.
///
/// # Errors
/// When it cannot start, loses its lease, or a loop ends for an error; the others are stopped first.
pub async fn daemon_with(
    settings: Settings,
    cluster: Cluster,
    backends: Backends,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let store = open_store(&settings)?;
    let renderer = renderer(&settings, &store);
    let remote = settings.git.remote.clone();

    // The loops stop before the lease is given back: no other process may write while they still can.
    let stop = shutdown.child_token();
    let release = CancellationToken::new();
    let mut loops: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let mut lease: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let Backends { metrics, hooks, forge, chats, probe, clock, listener, guards, health } = backends;
    let claim = claim(&settings, &cluster, &mut lease, release.clone());
    let writer = Writer::new(claim.clone()).with_probe(probe);
    let mut registry = Registry::default();
    let (telemetry, sync_telemetry) =
        (Telemetry::register(&mut registry), sync::Telemetry::register(&mut registry));
    let (sync_status, synced) = watch::channel(SyncStatus::default());
    registry.register_collector(Box::new(Gauges { claim, sync: synced.clone(), health }));
    let mut canaries = SharedWatch::of::<Canary>(&cluster, settings.namespace.as_deref());
    let synced_canaries = sync::watched_canaries(&mut canaries);
    let recorded_canaries = report::git::watched_canaries(&mut canaries);
    let journals = report::events::Journals::of(&mut canaries);
    let released_canaries = controller::Canaries::of(&mut canaries);
    let told_targets = statuses::watched_targets(&mut canaries);
    let waiting_canaries = environments::watched_waiting(&mut canaries);
    let told_alerts = alerts::watched_alerts(&mut canaries);
    let mut sources = SharedWatch::of::<Source>(&cluster, Some(&settings.lease.namespace));
    let told_sources = statuses::watched_sources(&mut sources);
    let (board_sender, board) = watch::channel(Arc::new(statuses::Board::default()));
    let source =
        GitSource::new(store.clone(), remote.clone(), settings.git.branch.clone(), settings.git.path.clone())
            .signed_by(settings.git.allowed_signers.clone())
            .rendering(renderer.clone());

    let pulses = Pulses::default();
    let alive = pulses.clone();
    let (ready_canaries, standing) = (synced_canaries.clone(), writer.claim().clone());
    let wake = Wake::default();
    let pushes = PushTrigger::new(wake.clone());
    let requests = sync::watched_requests(&mut sources, &settings.cluster_name, wake.clone());
    let state = ServerState {
        registry: Arc::new(registry),
        alive: Arc::new(move || alive.check()),
        ready: Arc::new(move || readiness(&standing, &synced.borrow(), &ready_canaries)),
        hooks: push_hooks(&settings, &clock, &pushes),
        revisions: Arc::new(move |revision| board.borrow().find(revision)),
    };
    if let Some(listener) = listener {
        let stop_server = stop.clone();
        loops.spawn(async move {
            server::run(listener, state, stop_server).await;
            Ok(())
        });
    }

    let (install_cluster, install_writer) = (cluster.clone(), writer.clone());
    if settings.install_crds
        && stop
            .run_until_cancelled(install_crds(&install_cluster, &install_writer, settings.rollouts))
            .await
            .transpose()?
            .is_none()
    {
        return Ok(());
    }
    // Not before its definition is there: a list of a kind that is not served is only tried again later.
    canaries.start(stop.clone());
    sources.start(stop.clone());

    let reporters_clock = clock.clone();
    let now: report::events::Now = Arc::new(move || reporters_clock.now());
    let watched =
        WatchedBranch::new(store.clone(), remote.clone(), settings.git.branch.clone(), settings.git.path.as_str())
            .rendering(renderer.clone());
    let records = Records::new(store.clone(), remote.clone(), settings.git.status_branch.clone(), watched);
    let statuses = statuses::Context {
        cluster: cluster.clone(),
        writer: writer.clone(),
        targets: told_targets,
        sources: told_sources,
        store: store.clone(),
        forge: forge.clone(),
        settings: statuses_settings(&settings),
        board: board_sender,
        now: now.clone(),
    };
    let alerts = chats.map(|chats| alerts::Context {
        cluster: cluster.clone(),
        cluster_name: settings.cluster_name.clone(),
        writer: writer.clone(),
        canaries: told_alerts,
        lender: Lender::new(cluster.clone(), settings.lease.namespace.clone()),
        chats,
        now: now.clone(),
    });
    let environments = environments::Context {
        cluster: cluster.clone(),
        writer: writer.clone(),
        canaries: waiting_canaries,
        store: store.clone(),
        remote: remote.clone(),
        environments: environments_of(&settings)?,
        wait_for: settings.wait_for.clone(),
        every: settings.git.poll_interval,
        now: now.clone(),
    };
    let reporter = report::git::Context {
        cluster: cluster.clone(),
        writer: writer.clone(),
        canaries: recorded_canaries,
        rollouts: settings
            .rollouts
            .then(|| report::git::watch_rollouts(&cluster, settings.namespace.as_deref(), stop.clone())),
        store,
        remote,
        forge,
        renderer,
        settings: report_settings(&settings),
        now: now.clone(),
    };
    let context = ControllerContext {
        cluster: cluster.clone(),
        canaries: released_canaries,
        writer: writer.clone(),
        settings: controller_settings(&settings, statuses.forge.is_some(), guards),
        metrics,
        hooks,
        clock,
        telemetry,
    };
    let sync_context = SyncContext {
        cluster: cluster.clone(),
        writer: writer.clone(),
        source: Arc::new(source),
        records: Arc::new(records),
        canaries: synced_canaries,
        judge: |canary, spec| {
            controller::check_policy(canary, spec).err().map(|error| crate::cluster::explain(&error))
        },
        settings: sync_settings(&settings),
        wake,
        requests,
        pushes,
        resync: Wake::default(),
        telemetry: sync_telemetry,
        status: sync_status,
        shutdown: stop.clone(),
    };
    let (stop_engine, stop_events, stop_report, stop_statuses, stop_alerts, stop_environments) =
        (stop.clone(), stop.clone(), stop.clone(), stop.clone(), stop.clone(), stop.clone());
    let namespace = settings.namespace.clone();
    let mut turn = |name, work: LoopWork| loops.spawn(pulses.watch(name, work));
    turn(
        "the release engine",
        async move { controller::run(context, stop_engine).await.context("the release engine ended") }.boxed(),
    );
    turn("sync", sync::run(sync_context).map(Ok).boxed());
    let events = report::events::run(cluster, writer, namespace, journals, now, stop_events);
    turn("events", events.map(Ok).boxed());
    turn("the record", report::git::run(reporter, stop_report).map(Ok).boxed());
    turn("statuses", statuses::run(statuses, stop_statuses).map(Ok).boxed());
    turn("environments", environments::run(environments, stop_environments).map(Ok).boxed());
    if let Some(alerts) = alerts {
        turn("alerts", alerts::run(alerts, stop_alerts).map(Ok).boxed());
    }
    supervise(loops, lease, stop, release).await
}

/// Waits for the first end, then stops everything: loops first, lease last.
async fn supervise(
    mut loops: JoinSet<anyhow::Result<()>>,
    mut lease: JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
    release: CancellationToken,
) -> anyhow::Result<()> {
    let mut result = tokio::select! {
        () = stop.cancelled() => Ok(()),
        Some(ended) = loops.join_next() => ended.context("a loop ended abnormally").and_then(|inner| inner),
        Some(ended) = lease.join_next() => ended.context("the lease ended abnormally").and_then(|inner| inner),
    };
    stop.cancel();
    let rest = async {
        let mut first = Ok(());
        while let Some(ended) = loops.join_next().await {
            let ended = ended.context("a loop ended abnormally").and_then(|inner| inner);
            first = first.and(ended);
        }
        first
    };
    match tokio::time::timeout(STOP_MAX, rest).await {
        Ok(rest) => result = result.and(rest),
        Err(_elapsed) => tracing::warn!("not all loops stopped within {} s", STOP_MAX.as_secs()),
    }
    loops.shutdown().await;
    release.cancel();
    while let Some(ended) = lease.join_next().await {
        result = result.and(ended.context("the lease ended abnormally").and_then(|inner| inner));
    }
    result
}

fn claim(
    settings: &Settings,
    cluster: &Cluster,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    release: CancellationToken,
) -> Claim {
    if !settings.lease.enabled {
        return Claim::always();
    }
    let config = LeaseConfig { namespace: settings.lease.namespace.clone(), name: settings.lease.name.clone() };
    let lease = Lease::new(cluster, config);
    let claim = lease.claim();
    tasks.spawn(async move { lease.run(release).await.context("the lease is not held any more") });
    claim
}

fn controller_settings(settings: &Settings, tells_forge: bool, guards: Guards) -> ControllerSettings {
    let forge = tells_forge.then_some(Projection::Forge);
    ControllerSettings {
        projections: Projection::GIT.into_iter().chain(forge).collect(),
        namespace: settings.namespace.clone(),
        metrics_address: settings.metrics_address.clone(),
        own_namespace: settings.lease.namespace.clone(),
        speed: settings.speed,
        drain: settings.drain,
        settle: settings.settle,
        guards,
        selector_labels: settings.selector_labels.clone(),
        loopback: calls_itself(settings),
        windows: settings.windows.clone(),
        wait_for: settings.wait_for.clone(),
        rollouts: settings.rollouts,
    }
}

/// Whether addresses of this machine may be called: where a proxy is named it decides where addresses lead.
fn calls_itself(settings: &Settings) -> bool {
    settings.http.proxy.is_some()
}

fn sync_settings(settings: &Settings) -> SyncSettings {
    SyncSettings {
        cluster_name: settings.cluster_name.clone(),
        namespace: settings.lease.namespace.clone(),
        poll_interval: settings.git.poll_interval,
        only_namespace: settings.namespace.clone(),
        selector_labels: settings.selector_labels.clone(),
        about: sync::About {
            repository: settings.git.remote.to_string(),
            branch: settings.git.branch.short().to_owned(),
            path: settings.git.path.as_str().to_owned(),
            lease: settings.lease.enabled.then(|| format!("{}/{}", settings.lease.namespace, settings.lease.name)),
        },
    }
}

/// What push webhooks meet, if they have something to prove themselves with.
fn push_hooks(settings: &Settings, clock: &Clock, pushes: &PushTrigger) -> Option<Arc<Hooks>> {
    let secrets = settings.webhook_secrets.clone()?;
    let (clock, pushes) = (clock.clone(), pushes.clone());
    let now = Arc::new(move || clock.now());
    Some(Arc::new(Hooks::new(secrets, now, Arc::new(move |pushed| pushes.pushed(pushed == Pushed::Again)))))
}

/// The forge's client, with the certificates that it is trusted by.
fn forge(settings: &Settings, cluster: &Cluster) -> anyhow::Result<Option<Arc<dyn Forge>>> {
    let Some(forge) = settings.forge.clone() else { return Ok(None) };
    let (proxy, clock) = (settings.http.proxy.as_deref(), cluster.clock());
    let clients = match &forge.ca_file {
        Some(path) => {
            let pem = std::fs::read(path)
                .with_context(|| format!("failed to read forge.caFile {}", path.display()))
                .map_err(CliError::input)?;
            HttpClients::trusting(proxy, &pem)
        }
        None => HttpClients::new(proxy),
    };
    tracing::info!("commits get their statuses in {}", forge.place);
    Ok(Some(Arc::new(forge::Client::new(forge, clients.map_err(CliError::input)?, Arc::new(move || clock.now())))))
}

fn statuses_settings(settings: &Settings) -> statuses::Settings {
    statuses::Settings {
        cluster: settings.cluster_name.clone(),
        namespace: settings.lease.namespace.clone(),
        branch: settings.git.branch.short().to_owned(),
        path: settings.git.path.clone(),
        status_branch: settings.git.status_branch.short().to_owned(),
    }
}

/// The environments whose records are read, with the keys that they are believed by.
fn environments_of(settings: &Settings) -> anyhow::Result<Vec<Environment>> {
    let read = |environment: &EnvironmentSettings| {
        let EnvironmentSettings { name, branch, signers } = environment.clone();
        let read = |path: &Path| -> anyhow::Result<AllowedSigners> {
            AllowedSigners::parse(&std::fs::read_to_string(path)?).map_err(anyhow::Error::msg)
        };
        let named = || format!("failed to read allowedSignersFile of environment {name}");
        let signers = signers.as_deref().map(read).transpose().with_context(named).map_err(CliError::input)?;
        Ok(Environment { name, branch, signers })
    };
    settings.environments.iter().map(read).collect()
}

/// What signs our commits, if they are to be signed.
fn signing_key(settings: &Settings) -> anyhow::Result<Option<Arc<SigningKey>>> {
    let Some(path) = &settings.git.signing_key else { return Ok(None) };
    let named = || format!("failed to read git.signingKeyFile {}", path.display());
    let text = std::fs::read_to_string(path).with_context(named).map_err(CliError::input)?;
    let key = SigningKey::parse(&text).map_err(anyhow::Error::msg).with_context(named).map_err(CliError::input)?;
    Ok(Some(Arc::new(key)))
}

fn open_store(settings: &Settings) -> anyhow::Result<Store> {
    let folder: &Path = &settings.state_dir;
    let signer = signing_key(settings)?;
    Store::open(folder.join("git"))
        .map(|store| store.signing_with(signer).ignoring(settings.git.leaves_out()))
        .with_context(|| format!("failed to open the Git cache in {}", folder.display()))
        .map_err(|error| CliError::input(error).hint("name a writable folder with --state-dir or stateDir").into())
}

/// Renders by what is on this machine, if anything is.
fn renderer(settings: &Settings, store: &Store) -> Renderer {
    let program = Program::find(std::env::var_os("PATH").as_deref());
    match &program {
        Some(program) => tracing::debug!("kustomizations are rendered by {}", program.path().display()),
        None => tracing::debug!("there is neither kustomize nor kubectl: overlays are held"),
    }
    Renderer::new(store.clone(), program, settings.state_dir.join("render"))
}

/// Whether it works or could take over: who waits for the lease only has to know what there is.
fn readiness(claim: &Claim, sync: &SyncStatus, canaries: &Reflected<WatchedCanary>) -> Result<(), String> {
    if !claim.is_held() {
        return if canaries.is_ready() {
            Ok(())
        } else {
            Err("the list of Canaries is not there yet\n".to_owned())
        };
    }
    if let Some(error) = &sync.error {
        return Err(format!("sync: {error}\n"));
    }
    if sync.commit.is_none() {
        return Err("sync: no commit applied yet\n".to_owned());
    }
    if canaries.is_ready() { Ok(()) } else { Err("the list of Canaries is not there yet\n".to_owned()) }
}

fn report_settings(settings: &Settings) -> ReporterSettings {
    let git = &settings.git;
    ReporterSettings {
        cluster: settings.cluster_name.clone(),
        // Known once the cluster answers.
        writer: String::new(),
        branch: git.branch.clone(),
        path: git.path.to_string(),
        status_branch: git.status_branch.clone(),
        identity: Identity { name: git.author_name.clone(), email: git.author_email.clone() },
        rollback: match settings.rollback {
            RollbackMode::Commit => RollbackCommits::Make,
            RollbackMode::PullRequest => RollbackCommits::Propose,
            RollbackMode::Record => RollbackCommits::Skip,
        },
        batch: BATCH,
    }
}
