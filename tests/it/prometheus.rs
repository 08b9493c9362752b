//! End to end with a real Prometheus: it scrapes the sandbox, and the daemon asks it through the sandbox's proxy, for the
//! built-in checks and for the MetricTemplate alike.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::support::world::World;
use crate::support::{Process, output, program};

/// Often enough for the shortest query window (1 s at this speed) to hold several samples.
const SCRAPE_INTERVAL: &str = "200ms";

/// A port that was free a moment ago: the sandbox has to know it before Prometheus, which has to know the sandbox's, runs.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").to_string()
}

fn start(prometheus: &Path, address: &str, world: &World) -> Process {
    let target = world.url("scrape").trim_start_matches("http://").trim_end_matches("/metrics");
    let config = format!(
        "scrape_configs:\n- job_name: sandbox\n  scrape_interval: {SCRAPE_INTERVAL}\n  scrape_timeout: {SCRAPE_INTERVAL}\n  \
        static_configs:\n  - targets: ['{target}']\n"
    );
    let path = world.dir().join("prometheus.yml");
    std::fs::write(&path, config).expect("the configuration can be written");
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", path.display()))
        .arg(format!("--storage.tsdb.path={}", world.dir().join("prometheus").display()))
        .arg(format!("--web.listen-address={address}"));
    Process::start("prometheus", &mut command, &world.dir().join("logs/prometheus.log"))
}

/// How many queries Prometheus has answered.
fn answered(address: &str) -> u64 {
    let text = output(Command::new("curl").args(["-s", &format!("http://{address}/metrics")]));
    let count = |line: &str| -> Option<u64> {
        let value =
            line.strip_prefix("prometheus_http_requests_total{")?.split_once("handler=\"/api/v1/query\"")?.1;
        value.rsplit(' ').next()?.parse().ok()
    };
    text.lines().filter(|line| line.contains("code=\"200\"")).filter_map(count).sum()
}

#[test]
fn a_real_prometheus_decides() {
    let Some(prometheus) = program("prometheus") else { return };
    let address = free_address();
    let Some(world) = World::start(&["--prometheus", &format!("http://{address}")]) else { return };
    let _prometheus = start(&prometheus, &address, &world);
    world.initialize();

    world.push_tag("3.1.1");
    world.wait("{.status.phase}", "Progressing");
    world.wait("{.status.phase}", "Succeeded");
    assert!(world.image("podinfo-primary").ends_with(":3.1.1"));
    let asked = answered(&address);
    assert!(asked >= 15, "three checks at five weights are more than {asked} queries");

    // Only the MetricTemplate minds missing pages.
    world.push_tag("3.1.2-notfound-30");
    world.wait("{.status.phase}", "Progressing");
    world.wait("{.status.phase}", "Failed");
    assert!(world.image("podinfo-primary").ends_with(":3.1.1"));
    let events = world.kubectl(&["-n", "test", "describe", "canary/podinfo"]);
    assert!(events.contains("Halt podinfo.test advancement 404s percentage"), "{events}");
    assert!(!events.contains("advancement success rate"), "{events}");
    assert!(answered(&address) > asked);
    let record = world.wait_record("phase: Failed");
    assert!(record.contains("404s percentage"), "{record}");
}
