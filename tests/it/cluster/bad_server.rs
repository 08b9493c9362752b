//! API servers that misbehave: watches that end at once, servers that go away, clocks that are elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::client::Body;
use serde_json::json;
use serin::cluster::{Cluster, SharedWatch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::within;

/// What is asked of it, and how it behaves.
#[derive(Debug, Default)]
struct BadServer {
    lists: AtomicU32,
    watches: AtomicU32,
    away: AtomicBool,
    /// Watches are answered with "too old a version".
    gone: AtomicBool,
}

impl BadServer {
    fn cluster(self: &Arc<Self>) -> Cluster {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = server.answer(&request);
            async move { answer.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionRefused)) }
        });
        Cluster::from_client(Client::new(service, "default"))
    }

    fn answer(&self, request: &Request<Body>) -> Option<Response<Body>> {
        if self.away.load(Ordering::SeqCst) {
            return None;
        }
        let watch = request.uri().query().unwrap_or_default().contains("watch=true");
        let body = if watch {
            self.watches.fetch_add(1, Ordering::SeqCst);
            let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "metadata": {},
                "status": "Failure", "message": "too old", "reason": "Expired", "code": 410}});
            if self.gone.load(Ordering::SeqCst) { format!("{gone}\n") } else { String::new() }
        } else {
            self.lists.fetch_add(1, Ordering::SeqCst);
            json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": []})
                .to_string()
        };
        let date = "Thu, 26 Nov 2020 10:00:00 GMT";
        Response::builder().header(http::header::DATE, date).body(Body::from(body.into_bytes())).ok()
    }

    fn requests(&self) -> u32 {
        self.lists.load(Ordering::SeqCst) + self.watches.load(Ordering::SeqCst)
    }
}

fn watched(cluster: &Cluster) -> (serin::cluster::Reflected<()>, tokio_util::sync::DropGuard) {
    let shutdown = CancellationToken::new();
    let mut watch = SharedWatch::of::<ConfigMap>(cluster, None);
    let cache = watch.cache(|_| Ok(()), |_| {});
    watch.start(shutdown.clone());
    (cache, shutdown.drop_guard())
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_begun_once_a_second() {
    for gone in [false, true] {
        let server = Arc::new(BadServer::default());
        server.gone.store(gone, Ordering::SeqCst);
        let (cache, _guard) = watched(&server.cluster());
        within("the list", cache.ready()).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let (lists, watches) = (server.lists.load(Ordering::SeqCst), server.watches.load(Ordering::SeqCst));
        assert!((50..=62).contains(&watches), "{watches} watches in a minute");
        assert!(lists <= watches + 1, "{lists} lists in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_away_is_watched_again_within_seconds_of_its_return() {
    for seconds_away in [3, 60, 3600] {
        let server = Arc::new(BadServer::default());
        server.away.store(true, Ordering::SeqCst);
        let (cache, _guard) = watched(&server.cluster());
        tokio::time::sleep(Duration::from_secs(seconds_away)).await;
        assert!(!cache.is_ready());
        server.away.store(false, Ordering::SeqCst);
        let back = Instant::now();
        within("the list", cache.ready()).await;
        assert!(back.elapsed() <= Duration::from_secs(2), "{:?} after {seconds_away} s", back.elapsed());
        assert!(server.requests() <= 3);
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_is_the_api_servers() {
    let server = Arc::new(BadServer::default());
    let cluster = server.cluster();
    let (cache, _guard) = watched(&cluster);
    within("the list", cache.ready()).await;
    let now = cluster.clock().now().to_string();
    assert!(now.starts_with("2020-11-26T10:00:0"), "{now}");
}
