//! What the comparison counts, read as the daemon reads it, of the sandbox and of a real Prometheus.

use std::time::Duration;

use serin::analysis::compare::{Counts, paired};
use serin::http::HttpClients;
use serin::metrics::{Endpoint, ISTIO, MetricProvider, PROMETHEUS, Providers, QueryContext, Samples, series};

use super::{TrafficOptions, World, eventually, get};

/// How far back is counted: long enough for hundreds of requests, shorter than what both have.
const BACK: Duration = Duration::from_secs(3);

/// What both sides got in the cells that end between two times, by whoever answers at this address.
pub(super) async fn counted(address: &str, from: i64, to: i64) -> Counts {
    let counters = ISTIO.counters.as_ref().expect("Istio's counters");
    let context = QueryContext {
        name: "podinfo".into(),
        namespace: "test".into(),
        target: "podinfo".into(),
        service: "podinfo".into(),
        ingress: String::new(),
        route: String::new(),
        interval: Duration::from_secs(60),
        variables: std::collections::BTreeMap::new(),
        lent: true,
    };
    let query = context.render(counters.both).expect("a query");
    let provider = Providers::new(HttpClients::new(None).expect("a client"));
    let endpoint = Endpoint { kind: PROMETHEUS.to_owned(), address: address.to_owned(), ..Endpoint::default() };
    let stored = provider.samples(&endpoint, &Samples::Raw { query }).await.expect("samples");
    let looked = paired(&series(counters, "podinfo", stored), &[]);
    let mut all = Counts::default();
    let cells = looked.cells.iter().filter(|cell| cell.end > from && cell.end <= to);
    cells.flat_map(|cell| &cell.strata).for_each(|counts| all.add(counts));
    all
}

/// The two sample at different instants, so each may have a few more requests at the ends.
pub(super) async fn agree(sandbox: &str, real: &str) {
    eventually("both count the same", async || {
        let to = jiff::Timestamp::now().as_millisecond() - 500;
        let from = to - i64::try_from(BACK.as_millis()).expect("seconds");
        let (ours, theirs) = (counted(sandbox, from, to).await, counted(real, from, to).await);
        let near = |one: f64, other: f64| (one - other).abs() <= other.max(100.0) * 0.1;
        let agree = near(ours.canary, theirs.canary) && near(ours.canary_failed, theirs.canary_failed);
        if !agree {
            eprintln!("the sandbox counts {ours:?}, Prometheus {theirs:?}");
        }
        (agree && theirs.canary > 100.0 && theirs.canary_failed > 10.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn raw_counters_of_both_sides_are_exact() {
    let options = TrafficOptions { sample_step: Duration::from_millis(200), ..TrafficOptions::default() };
    let world = World::canary(options, 50, "podinfo:3.1.1-errors-50").await;
    let url = format!("{}/version", world.traffic.ingress_url);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let from = jiff::Timestamp::now().as_millisecond();
    let mut failed = 0.0;
    for _ in 0..200 {
        failed += f64::from(u8::from(get(&world.http, &url).await.0 >= 500));
    }
    let seen = eventually("all 200 are sampled", async || {
        let counts = counted(&world.traffic.metrics_url, from, i64::MAX).await;
        (counts.canary + counts.primary >= 200.0).then_some(counts)
    })
    .await;
    assert_eq!(seen.canary + seen.primary, 200.0);
    assert_eq!(
        (seen.canary_failed, seen.primary_failed),
        (failed, 0.0),
        "a series born with its first failure counts"
    );
}
