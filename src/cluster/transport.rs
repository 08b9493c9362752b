//! What every request to the API server passes, whoever sends it: watches are begun at most once a second, and answers
//! tell the time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, Uri};
use kube::Client;
use kube::client::Body;
use tokio::time::Instant;

use super::clock::ServerTime;

/// Shortest time between two beginnings of a watch. Load balancers and API servers that shed load end streams at once and
/// without an error, and what begins anew at once would be thousands of requests a second.
const WATCH_FLOOR: Duration = Duration::from_secs(1);
/// A watch that came to its end sooner after its beginning than the floor so often in a row is worth a word.
const SHORT_WATCHES_TOLD: u32 = 10;
/// Watches remembered at once; beyond that those that began longest ago are forgotten, which only costs them their floor.
const WATCHES_MAX: usize = 4096;

/// A client whose requests pass here.
pub(super) fn passing(client: Client, time: Arc<ServerTime>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let pace = Arc::new(Pace::default());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, time, pace) = (client.clone(), time.clone(), pace.clone());
        async move { pass(&client, &time, &pace, request).await }
    });
    Client::new(service, namespace)
}

async fn pass(
    client: &Client,
    time: &ServerTime,
    pace: &Pace,
    request: Request<Body>,
) -> kube::Result<Response<Body>> {
    if let Some(watch) = watch_of(request.uri()) {
        tokio::time::sleep_until(pace.begin(watch, Instant::now())).await;
    }
    let sent = Instant::now();
    let response = client.send(request).await?;
    time.learn(response.headers(), sent);
    Ok(response)
}

/// What a request watches: its address without the place where it goes on; `None` if it is no watch.
fn watch_of(uri: &Uri) -> Option<String> {
    let parameters = || uri.query().unwrap_or_default().split('&');
    parameters().any(|it| matches!(it, "watch=true" | "watch=1")).then(|| {
        let same = parameters().filter(|it| !it.starts_with("resourceVersion="));
        format!("{}?{}", uri.path(), same.collect::<Vec<_>>().join("&"))
    })
}

/// When each watch was begun last.
#[derive(Debug, Default)]
struct Pace(Mutex<HashMap<String, Begun>>);

#[derive(Debug)]
struct Begun {
    at: Instant,
    /// How often in a row it ended before the floor.
    short: u32,
}

impl Pace {
    /// When this watch may begin.
    fn begin(&self, watch: String, now: Instant) -> Instant {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.len() >= WATCHES_MAX {
            begun.retain(|_, begun| begun.at + WATCH_FLOOR > now);
        }
        let Some(last) = begun.get_mut(&watch) else {
            begun.insert(watch, Begun { at: now, short: 0 });
            return now;
        };
        let from = (last.at + WATCH_FLOOR).max(now);
        last.short = if from > now { last.short + 1 } else { 0 };
        last.at = from;
        if last.short == SHORT_WATCHES_TOLD {
            let path = watch.split('?').next().unwrap_or_default();
            tracing::warn!(
                "the watch of {path} ends as soon as it begins, again and again: it is begun anew once a second; \
                 does a proxy before the API server cut it?"
            );
        }
        from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(uri: &str) -> Option<String> {
        watch_of(&uri.parse().unwrap())
    }

    #[test]
    fn a_watch_is_known_by_what_it_watches_not_by_where_it_goes_on() {
        let first = watch("/api/v1/pods?watch=true&labelSelector=a&resourceVersion=1&allowWatchBookmarks=true");
        let next = watch("/api/v1/pods?watch=true&labelSelector=a&resourceVersion=922&allowWatchBookmarks=true");
        assert!(first.is_some() && first == next);
        assert_ne!(
            first,
            watch("/api/v1/pods?watch=true&labelSelector=b&resourceVersion=1&allowWatchBookmarks=true")
        );
        assert_eq!(watch("/api/v1/pods?limit=500&resourceVersion=1"), None);
        assert_eq!(watch("/api/v1/watches"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn beginnings_are_a_floor_apart_and_a_long_watch_is_begun_anew_at_once() {
        let pace = Pace::default();
        let start = Instant::now();
        let begins: Vec<Instant> = (0..5).map(|_| pace.begin("pods".into(), start)).collect();
        assert_eq!(begins, (0..5).map(|it| start + WATCH_FLOOR * it).collect::<Vec<_>>());
        assert_eq!(pace.begin("services".into(), start), start, "each watch has its own");
        let later = start + Duration::from_secs(290);
        assert_eq!(pace.begin("pods".into(), later), later);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let pace = Pace::default();
        let start = Instant::now();
        for name in 0..WATCHES_MAX * 3 {
            let at = start + Duration::from_millis(u64::try_from(name).unwrap());
            pace.begin(name.to_string(), at);
            assert!(pace.0.lock().unwrap().len() <= WATCHES_MAX);
        }
    }
}
