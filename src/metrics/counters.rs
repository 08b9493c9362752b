//! Labels of counters become what the comparison counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::analysis::compare::{self, Block, Counted, History, Part, Series};

use super::{Counters, Stored};

/// Labels by which copies of the same counters differ: whoever is scraped twice.
const COPIES: [&str; 6] = ["job", "endpoint", "instance", "replica", "prometheus", "prometheus_replica"];
/// What gRPC calls the server's fault: unknown, deadline exceeded, internal, unavailable, data loss.
const GRPC_FAILED: [&str; 5] = ["2", "4", "13", "14", "15"];
/// Pods of primary that the noise is made of: more of them say no more.
const PODS_MAX: usize = 20;
/// Blocks of the history are this many of the short ones, too: clumps may last minutes.
const LONG: usize = 10;
/// How much of the history is primary's traffic of late, in blocks.
const LATELY: usize = 60;
/// What comes before the rest of the name of a pod of primary's, or stands for it.
const PRIMARY: &str = "-primary";

/// Counters of both sides of the target and service of these names.
pub fn series(counters: &Counters, target: &str, stored: Vec<Stored>) -> Vec<Series> {
    let all = stored.into_iter().filter_map(|Stored { labels, points }| {
        let of = |label: &str| labels.get(label).map_or("", String::as_str);
        let side = of(counters.side);
        let is_canary = match counters.counted {
            Counted::ByRouter if side.ends_with(PRIMARY) => false,
            Counted::ByRouter if side.ends_with("-canary") => true,
            Counted::ByRouter => return None,
            Counted::ByPods => !side.starts_with(&format!("{target}{PRIMARY}-")),
        };
        let observer = match counters.counted {
            Counted::ByPods => side.to_owned(),
            Counted::ByRouter if of("pod").is_empty() => of("instance").to_owned(),
            Counted::ByRouter => format!("{}/{}", of("namespace"), of("pod")),
        };
        let copy = COPIES.map(of).join(" ");
        let client = match counters.counted {
            Counted::ByRouter => String::new(),
            Counted::ByPods => of("source_workload").to_owned(),
        };
        Some(Series { observer, copy, client, part: Part { is_canary, failed: is_failed(&labels) }, points })
    });
    all.collect()
}

/// Whether these requests failed, as users see it: 5xx, none at all (they gave up), or gRPC's own words for either.
fn is_failed(labels: &BTreeMap<String, String>) -> bool {
    let code = labels.get("response_code").or_else(|| labels.get("status")).map_or("", String::as_str);
    let grpc = labels.get("grpc_response_status").map_or("", String::as_str);
    code.starts_with('5') || code == "0" || GRPC_FAILED.contains(&grpc)
}

/// What primary's pods did, of their counters at regular times.
pub fn history(counters: &Counters, all: &[Stored], failed: &[Stored], step: Duration) -> History {
    let pods = |stored: &[Stored]| -> BTreeMap<String, Vec<(i64, f64)>> {
        let named =
            stored.iter().filter_map(|one| Some((one.labels.get(counters.pod)?.clone(), one.points.clone())));
        named.collect()
    };
    let (all, failed) = (pods(all), pods(failed));
    let mut busiest: Vec<(&String, f64)> =
        all.iter().map(|(pod, points)| (pod, gains(points, None).iter().map(|(_, by)| by).sum())).collect();
    busiest.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(other.0)));
    let followed: Vec<BTreeMap<i64, (f64, f64)>> = busiest
        .iter()
        .take(PODS_MAX)
        .map(|(pod, _)| minutes(all.get(*pod).map_or(&[][..], Vec::as_slice), failed.get(*pod)))
        .collect();
    let times: BTreeSet<i64> = followed.iter().flat_map(|pod| pod.keys().copied()).collect();
    let at = |at: &i64| Block(followed.iter().map(|pod| pod.get(at).copied().unwrap_or_default()).collect());
    let short: Vec<Block> = times.iter().map(at).collect();
    let long: Vec<Block> = short.chunks(LONG).map(together).collect();
    let covered = step.saturating_mul(u32::try_from(short.len()).unwrap_or(u32::MAX)).as_secs();
    let lately = short.iter().rev().take(LATELY);
    let seconds = step.as_secs_f64() * short.len().min(LATELY) as f64;
    let (bad, requests) = lately.flat_map(|block| &block.0).fold((0.0, 0.0), |(f, n), one| (f + one.0, n + one.1));
    History {
        noise: compare::noise(&short, &long, covered),
        rate: if seconds > 0.0 { requests / seconds } else { 0.0 },
        failed: if requests > 0.0 { bad / requests } else { 0.0 },
    }
}

/// A pod's failures and requests up to each time. An error series is born with its first failure: until then there were none.
fn minutes(all: &[(i64, f64)], failed: Option<&Vec<(i64, f64)>>) -> BTreeMap<i64, (f64, f64)> {
    let since = all.first().map(|(at, _)| *at);
    let bad = failed.map(|points| gains(points, since)).unwrap_or_default();
    let bad: BTreeMap<i64, f64> = bad.into_iter().collect();
    let with_failures =
        |(at, requests): (i64, f64)| (at, (bad.get(&at).copied().unwrap_or_default().min(requests), requests));
    gains(all, None).into_iter().map(with_failures).collect()
}

/// What a counter gained from one time to the next; a fall says nothing. `born`: its pod was there from then on.
fn gains(points: &[(i64, f64)], born: Option<i64>) -> Vec<(i64, f64)> {
    let first = points.first().filter(|(at, _)| born.is_some_and(|born| born < *at));
    let before = first.map(|(at, value)| (*at, *value));
    let gained = points.windows(2).filter_map(|pair| match pair {
        [(_, before), (at, after)] => Some((*at, (after - before).max(0.0))),
        _ => None,
    });
    before.into_iter().chain(gained).collect()
}

/// Blocks of the same pods as one; pods are told by their places, which are those of the busiest.
fn together(blocks: &[Block]) -> Block {
    let places = blocks.iter().map(|block| block.0.len()).max().unwrap_or_default();
    let pod = |place: usize| {
        let of_pod = blocks.iter().filter_map(|block| block.0.get(place));
        of_pod.fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1))
    };
    Block((0..places).map(pod).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{HTTP, ISTIO};
    use super::*;

    fn stored(labels: &[(&str, &str)], points: &[(i64, f64)]) -> Stored {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        Stored { labels, points: points.to_vec() }
    }

    #[test]
    fn sides_failures_and_observers_are_told_by_labels() {
        let istio = ISTIO.counters.as_ref().unwrap();
        let read = |labels: &[(&str, &str)]| series(istio, "podinfo", vec![stored(labels, &[(0, 1.0)])]).pop();
        let to = |service, code| {
            let labels = [
                ("destination_service_name", service),
                ("response_code", code),
                ("pod", "gw-1"),
                ("namespace", "istio-system"),
            ];
            read(&labels).unwrap()
        };
        let canary = to("podinfo-canary", "500");
        assert_eq!(
            (canary.part, canary.observer.as_str()),
            (Part { is_canary: true, failed: true }, "istio-system/gw-1")
        );
        assert_eq!(to("podinfo-primary", "200").part, Part { is_canary: false, failed: false });
        assert!(to("podinfo-canary", "0").part.failed, "the client gave up");
        assert!(!to("podinfo-canary", "404").part.failed);
        let grpc = |status| {
            read(&[
                ("destination_service_name", "podinfo-canary"),
                ("response_code", "200"),
                ("grpc_response_status", status),
            ])
        };
        assert!(grpc("14").unwrap().part.failed && !grpc("5").unwrap().part.failed);
        assert_eq!(read(&[("destination_service_name", "podinfo")]), None, "neither side");

        let http = HTTP.counters.as_ref().unwrap();
        let pod = |name| {
            series(http, "podinfo", vec![stored(&[("kubernetes_pod_name", name), ("status", "500")], &[])]).pop()
        };
        assert_eq!(pod("podinfo-primary-6b5-x2").unwrap().part, Part { is_canary: false, failed: true });
        assert_eq!(pod("podinfo-6b5-x2").unwrap().part, Part { is_canary: true, failed: true });
    }

    #[test]
    fn primarys_past_is_made_of_counters_that_begin_and_restart() {
        let istio = ISTIO.counters.as_ref().unwrap();
        let minute = |count: i64| count * 60_000;
        let requests =
            |pod| stored(&[("pod", pod)], &(0..=120).map(|at| (minute(at), at as f64 * 60.0)).collect::<Vec<_>>());
        let failed = stored(&[("pod", "a")], &[(minute(60), 3.0), (minute(61), 3.0), (minute(62), 1.0)]);
        let found = history(istio, &[requests("a"), requests("b")], &[failed], Duration::from_secs(60));
        assert_eq!((found.noise.failures, found.noise.pods, found.noise.covered), (3.0, 2, 7_200));
        assert!((found.rate - 2.0).abs() < 1e-9, "{found:?}");
        let none = history(istio, &[], &[], Duration::from_secs(60));
        assert_eq!((none.rate, none.noise.covered), (0.0, 0));
    }
}
