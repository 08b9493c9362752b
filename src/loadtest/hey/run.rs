//! Sends the requests.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, NoProxy, Proxy, redirect};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::flags::{Body, Flags, Until};
use super::summary::{Answer, Summary};
use super::{Context, HeyError};

/// Idle connections kept, hey's own limit.
const IDLE_MAX: usize = 500;
/// Redirects followed, Go's default.
const REDIRECTS_MAX: usize = 10;

/// What every worker needs.
struct Job {
    client: Client,
    flags: Flags,
    body: String,
    stop: CancellationToken,
}

pub(super) async fn run(flags: Flags, context: Context) -> Result<Summary, HeyError> {
    let Context { proxy, speed } = context;
    let client = client(&flags, proxy).map_err(HeyError::Client)?;
    let body = match &flags.body {
        Body::Text(text) => text.clone(),
        Body::File(path) => tokio::fs::read_to_string(path)
            .await
            .map_err(|source| HeyError::Body { path: path.clone(), source })?,
    };
    let (workers, until) = (flags.workers, flags.until);
    let stop = CancellationToken::new();
    let job = Arc::new(Job { client, flags, body, stop: stop.clone() });
    let started = Instant::now();
    // Dropping the set ends the workers, so a killed run leaves nothing behind.
    let mut running = JoinSet::new();
    for _ in 0..workers {
        running.spawn(work(Arc::clone(&job), each(until, workers)));
    }
    if let Until::Elapsed(duration) = until {
        let deadline = duration / NonZeroU32::get(speed);
        running.spawn(async move {
            tokio::time::sleep(deadline).await;
            stop.cancel();
            Summary::default()
        });
    }
    let mut summary = Summary::default();
    while let Some(done) = running.join_next().await {
        match done {
            Ok(part) => summary.merge(part),
            // What was not sent cannot have passed.
            Err(error) => return Err(HeyError::Lost(error)),
        }
    }
    summary.total = started.elapsed();
    Ok(summary)
}

/// Requests of one worker; as in hey a remainder is not sent.
fn each(until: Until, workers: u64) -> u64 {
    match until {
        Until::Requests(requests) => requests / workers,
        Until::Elapsed(_) => u64::MAX,
    }
}

fn client(flags: &Flags, proxy: Option<String>) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder()
        .no_proxy()
        // hey checks no certificates: a test's target often has a private one.
        .tls_danger_accept_invalid_certs(true)
        .pool_max_idle_per_host(if flags.no_keepalive { 0 } else { IDLE_MAX })
        .redirect(if flags.no_redirects {
            redirect::Policy::none()
        } else {
            redirect::Policy::limited(REDIRECTS_MAX)
        });
    if let Some(timeout) = flags.timeout {
        builder = builder.timeout(timeout);
    }
    if let Some(url) = &flags.proxy {
        builder = builder.proxy(Proxy::all(url)?);
    } else if let Some(url) = proxy {
        builder = builder.proxy(Proxy::http(url)?.no_proxy(NoProxy::from_env()));
    }
    builder.build()
}

async fn work(job: Arc<Job>, requests: u64) -> Summary {
    let mut ticks = job.flags.rate.map(|rate| {
        let period = Duration::from_secs_f64(1.0 / rate);
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    });
    let mut summary = Summary::default();
    for _ in 0..requests {
        if let Some(ticks) = &mut ticks {
            tokio::select! {
                () = job.stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
        }
        // A request under way is finished after the time is up, as in hey.
        if job.stop.is_cancelled() {
            break;
        }
        let started = Instant::now();
        match request(&job).await {
            Ok((status, bytes)) => summary.answered(Answer { status, bytes, took: started.elapsed() }),
            Err(error) => summary.failed(causes(&error)),
        }
    }
    summary
}

async fn request(job: &Job) -> Result<(u16, u64), reqwest::Error> {
    let request = job
        .client
        .request(job.flags.method.clone(), job.flags.url.clone())
        .headers(job.flags.headers.clone())
        .body(job.body.clone());
    let mut response = request.send().await?;
    let status = response.status().as_u16();
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await? {
        bytes += chunk.len() as u64;
    }
    Ok((status, bytes))
}

/// The whole chain: reqwest's own message leaves the cause out.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
