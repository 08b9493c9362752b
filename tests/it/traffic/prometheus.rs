//! A real Prometheus beside the sandbox's own.

use std::process::Stdio;

use serin::sandbox::traffic::TrafficOptions;
use tokio_util::sync::CancellationToken;

use super::{World, eventually, is_installed, load, value};

/// Flagger's built-in queries and the template of the example.
const QUERIES: [&str; 4] = [
    r#"sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="test",destination_workload=~"podinfo",response_code!~"5.*"}[3s]))
       / sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="test",destination_workload=~"podinfo"}[3s])) * 100"#,
    r#"histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter="destination",destination_workload_namespace="test",destination_workload=~"podinfo"}[3s])) by (le))"#,
    r#"100 - sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="test",destination_workload="podinfo",response_code!="404"}[3s]))
       / sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="test",destination_workload="podinfo"}[3s])) * 100"#,
    r#"sum(increase(istio_requests_total{reporter="destination"}[3s])) by (destination_workload)"#,
];

#[tokio::test]
async fn a_real_prometheus_agrees() {
    if !is_installed("prometheus") {
        eprintln!("SKIPPED: prometheus is not installed");
        return;
    }
    let world = World::canary(TrafficOptions::default(), 100, "podinfo:3.1.1-errors-20").await;
    let dir = tempfile::tempdir().unwrap();
    let target = world.traffic.metrics_address;
    let config = format!(
        "scrape_configs:\n- job_name: sandbox\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\n  static_configs:\n  - targets: ['{target}']\n"
    );
    let config_path = dir.path().join("prometheus.yml");
    std::fs::write(&config_path, config).unwrap();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut real = tokio::process::Command::new("prometheus")
        .arg(format!("--config.file={}", config_path.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={free}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let prometheus = format!("http://{free}");

    // Steady traffic, so that the two may sample at different instants and still see nearly the same.
    let stop = CancellationToken::new();
    let client = load(format!("{}/version", world.traffic.ingress_url), &stop);
    let series = r#"count_over_time(istio_requests_total{reporter="destination",response_code="500"}[4s])"#;
    eventually("prometheus has scraped four seconds", async || {
        value(&world.http, &prometheus, series, None).await.filter(|samples| *samples >= 35.0)
    })
    .await;
    // The two scrape at different instants, and the slowest hundredth of three seconds is a handful of requests: at one instant a
    // quantile may differ by one of them, at each it does only where something is computed in another way.
    for query in QUERIES {
        eventually(&format!("agreement within 5 % on {query}"), async || {
            let at = format!("{:.3}", jiff::Timestamp::now().as_millisecond() as f64 / 1000.0 - 0.3);
            let ours = value(&world.http, &world.traffic.metrics_url, query, Some(&at)).await?;
            let theirs = value(&world.http, &prometheus, query, Some(&at)).await?;
            let agree = (ours - theirs).abs() <= theirs.abs().max(1.0) * 0.05;
            if !agree {
                eprintln!("at {at} ours {ours}, Prometheus' {theirs}: {query}");
            }
            agree.then_some(())
        })
        .await;
    }
    super::counters::agree(&world.traffic.metrics_url, &prometheus).await;
    stop.cancel();
    drop(client.await);
    real.kill().await.unwrap();
}
