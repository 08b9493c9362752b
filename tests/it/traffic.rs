//! Integration tests: real HTTP through ingress and forward proxy to pods, fed by the sandbox's API server.

mod counters;
mod prometheus;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use serin::sandbox::apiserver::ApiServer;
use serin::sandbox::crds;
use serin::sandbox::traffic::{self, Failure, RetryMode, Traffic, TrafficOptions};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Every wait is capped by this.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until a condition holds; says what it waits for when it never does.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let looking = async {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never: {what}"))
}

struct World {
    client: Client,
    http: reqwest::Client,
    traffic: Traffic,
    _stop: DropGuard,
}

fn plural(kind: &str) -> &'static str {
    match kind {
        "Pod" => "pods",
        "Service" => "services",
        "EndpointSlice" => "endpointslices",
        "Gateway" => "gateways",
        "VirtualService" => "virtualservices",
        "Namespace" => "namespaces",
        "CustomResourceDefinition" => "customresourcedefinitions",
        other => panic!("no plural for {other}"),
    }
}

fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
        Some(parts) => parts,
        None => ("", object["apiVersion"].as_str().unwrap()),
    };
    let kind = object["kind"].as_str().unwrap();
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural(kind));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

async fn create(client: &Client, object: Value) {
    let api = api(client, &object);
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

impl World {
    async fn start(options: TrafficOptions) -> Self {
        let options = TrafficOptions { programs: serin::loadtest::programs(), ..options };
        // Another test of the process may have installed it already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = ApiServer::new().client();
        for namespace in ["test", "istio-system"] {
            create(&client, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
                .await;
        }
        for definition in crds::istio().unwrap() {
            let mut object = serde_json::to_value(definition).unwrap();
            object["apiVersion"] = json!("apiextensions.k8s.io/v1");
            object["kind"] = json!("CustomResourceDefinition");
            create(&client, object).await;
        }
        let stop = CancellationToken::new();
        let traffic = traffic::start(client.clone(), options, stop.clone()).await.unwrap();
        Self { client, http: http(), traffic, _stop: stop.drop_guard() }
    }

    /// A running pod of the Deployment `workload`.
    async fn pod(&self, workload: &str, ip: &str, image: &str) {
        let name = format!("{workload}-5d4-{}", ip.rsplit('.').next().unwrap());
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": "test", "name": name, "labels": {"pod-template-hash": "5d4"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{workload}-5d4"),
                    "uid": "1", "controller": true}]
            },
            "spec": {"nodeName": "node", "containers": [{"name": "c", "image": image, "ports": [{"containerPort": 9898}]}]}
        });
        create(&self.client, pod.clone()).await;
        let status = json!({"status": {"phase": "Running", "podIP": ip}});
        let api = api(&self.client, &pod);
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    /// A Service and its ready endpoints.
    async fn service(&self, namespace: &str, name: &str, port: u16, ips: &[&str]) {
        let metadata = json!({"namespace": namespace, "name": name});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"ports": [{"name": "http", "port": port}]}});
        create(&self.client, service).await;
        let endpoints: Vec<Value> =
            ips.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}], "endpoints": endpoints
        });
        create(&self.client, slice).await;
    }

    async fn canary_route(&self, canary: u32) {
        let gateway = json!({
            "apiVersion": "networking.istio.io/v1beta1", "kind": "Gateway",
            "metadata": {"namespace": "istio-system", "name": "public-gateway"},
            "spec": {"selector": {"istio": "ingressgateway"},
                "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}
        });
        create(&self.client, gateway).await;
        let route = json!({
            "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
            "metadata": {"namespace": "test", "name": "podinfo"},
            "spec": {
                "hosts": ["*"], "gateways": ["public-gateway.istio-system.svc.cluster.local"],
                "http": [{"route": [
                    {"destination": {"host": "podinfo-primary"}, "weight": 100 - canary},
                    {"destination": {"host": "podinfo-canary"}, "weight": canary}
                ]}]
            }
        });
        create(&self.client, route).await;
    }

    /// Primary and canary with a pod each, and a route between them.
    async fn canary(options: TrafficOptions, weight: u32, canary_image: &str) -> Self {
        let world = Self::start(options).await;
        world.pod("podinfo-primary", "10.0.0.1", "podinfo:3.1.0").await;
        world.pod("podinfo", "10.0.0.2", canary_image).await;
        world.service("test", "podinfo-primary", 9898, &["10.0.0.1"]).await;
        world.service("test", "podinfo-canary", 9898, &["10.0.0.2"]).await;
        world.canary_route(weight).await;
        for name in ["podinfo-primary", "podinfo-canary"] {
            let url = format!("http://{name}:9898/healthz");
            eventually(name, async || (world.proxied(&url).await.0 == 200).then_some(())).await;
        }
        let url = format!("{}/healthz", world.traffic.ingress_url);
        eventually("the ingress routes", async || (get(&world.http, &url).await.0 == 200).then_some(())).await;
        world
    }

    /// Asks through the forward proxy.
    async fn proxied(&self, url: &str) -> (u16, String) {
        let proxy = reqwest::Proxy::all(&self.traffic.proxy_url).unwrap();
        let client = reqwest::Client::builder().no_proxy().proxy(proxy).build().unwrap();
        let response = client.get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// The only value that a query gives.
    async fn query(&self, query: &str) -> Option<f64> {
        value(&self.http, &self.traffic.metrics_url, query, None).await
    }
}

/// A client that no proxy of the environment gets in the way of.
fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn get(client: &reqwest::Client, url: &str) -> (u16, String) {
    let response = client.get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn value(client: &reqwest::Client, prometheus: &str, query: &str, at: Option<&str>) -> Option<f64> {
    let mut request = client.get(format!("{prometheus}/api/v1/query")).query(&[("query", query)]);
    if let Some(at) = at {
        request = request.query(&[("time", at)]);
    }
    let answer: Value = request.send().await.ok()?.json().await.ok()?;
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

#[tokio::test]
async fn the_ingress_splits_by_weight_and_counts_what_pods_answered() {
    let world = World::canary(TrafficOptions::default(), 30, "podinfo:3.1.1-errors-50").await;
    let url = format!("{}/version", world.traffic.ingress_url);
    let (mut canary, mut failed) = (0, 0);
    for _ in 0..400 {
        let (status, body) = get(&world.http, &url).await;
        failed += u32::from(status == 500);
        canary += u32::from(status == 500 || body.contains("3.1.1"));
    }
    assert!((90..=150).contains(&canary), "30 % of 400 is {canary}");
    assert_eq!(failed, canary / 2, "half of the canary's answers");
    assert_eq!(world.traffic.counts().failures_of(Failure::ServerError), u64::from(failed));

    let failures = r#"sum(istio_requests_total{reporter="destination",destination_workload="podinfo",
        destination_workload_namespace="test",response_code="500"})"#;
    let counted = eventually("the failures are sampled", async || {
        world.query(failures).await.filter(|count| *count >= f64::from(failed))
    })
    .await;
    assert_eq!(counted, f64::from(failed));
    let slowest = "histogram_quantile(0.99, sum(istio_request_duration_milliseconds_bucket{reporter=\"destination\"}) by (le))";
    assert!(world.query(slowest).await.unwrap() > 0.0);
}

#[tokio::test]
async fn without_ready_endpoints_there_is_no_healthy_upstream() {
    let world = World::start(TrafficOptions::default()).await;
    world.service("test", "podinfo-primary", 9898, &[]).await;
    world.service("test", "podinfo-canary", 9898, &[]).await;
    world.canary_route(50).await;
    let url = format!("{}/", world.traffic.ingress_url);
    let (status, body) = eventually("the route is known", async || {
        let answer = get(&world.http, &url).await;
        answer.1.contains("upstream").then_some(answer)
    })
    .await;
    assert_eq!((status, body.as_str()), (503, "no healthy upstream\n"));
    assert!(world.traffic.counts().failures_of(Failure::NoHealthyUpstream) >= 1);
}

#[tokio::test]
async fn a_pod_serves_through_its_grace_and_then_refuses() {
    let options = TrafficOptions { retries: RetryMode::Off, ..TrafficOptions::default() };
    let world = World::canary(options, 100, "podinfo:3.1.1").await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "test"}});
    let url = format!("{}/version", world.traffic.ingress_url);
    let slow = tokio::spawn({
        let url = format!("{}/delay/3", world.traffic.ingress_url);
        let http = world.http.clone();
        async move { get(&http, &url).await }
    });
    let params = DeleteParams::default().grace_period(2);
    let started = std::time::Instant::now();
    drop(api(&world.client, &pod).delete("podinfo-5d4-2", &params).await.unwrap());
    let (status, _) = get(&world.http, &url).await;
    assert_eq!(status, 200, "a terminating pod still serves");
    let (status, body) = eventually("the pod refuses", async || {
        let answer = get(&world.http, &url).await;
        (answer.0 != 200).then_some(answer)
    })
    .await;
    assert_eq!(status, 503);
    assert!(body.contains("connection failure"), "{body}");
    assert!(
        started.elapsed() >= Duration::from_millis(500),
        "not before its grace ended: {:?}",
        started.elapsed()
    );
    assert_eq!(slow.await.unwrap().0, 200, "an answer under way is finished");
    let counts = world.traffic.counts();
    assert_eq!(counts.failures_of(Failure::ConnectionRefused), 1);
    assert_eq!(counts.failed.back().unwrap().pod.as_deref(), Some("10.0.0.2"));
}

#[tokio::test]
async fn who_meets_the_end_of_a_grace_is_answered_or_refused_and_never_cut_off() {
    let options = TrafficOptions { retries: RetryMode::Off, ..TrafficOptions::default() };
    let world = World::canary(options, 100, "podinfo:3.1.1").await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "test"}});
    let url = format!("{}/version", world.traffic.ingress_url);
    drop(
        api(&world.client, &pod).delete("podinfo-5d4-2", &DeleteParams::default().grace_period(1)).await.unwrap(),
    );
    let users = (0..16).map(|_| {
        let (http, url) = (world.http.clone(), url.clone());
        tokio::spawn(async move {
            eventually("the pod refuses", async || (get(&http, &url).await.0 == 503).then_some(())).await
        })
    });
    for user in users.collect::<Vec<_>>() {
        user.await.unwrap();
    }
    let counts = world.traffic.counts();
    assert_eq!(counts.failures_of(Failure::ConnectionRefused), 16);
    assert_eq!(counts.failures_of(Failure::ConnectionReset), 0);
}

#[tokio::test]
async fn the_forward_proxy_resolves_services_and_passes_the_rest() {
    let world = World::canary(TrafficOptions::default(), 0, "podinfo:3.1.1").await;
    for host in [
        "podinfo-canary",
        "podinfo-canary.test",
        "podinfo-canary.test.svc",
        "podinfo-canary.test.svc.cluster.local",
    ] {
        let (status, body) = world.proxied(&format!("http://{host}:9898/version")).await;
        assert_eq!(status, 200, "{host}: {body}");
        assert!(body.contains("3.1.1"), "{host}: {body}");
    }
    let (status, body) = world.proxied("http://podinfo-canary.test/version").await;
    assert_eq!(status, 502);
    assert!(body.contains("no port 80"), "{body}");
    let (status, body) = world.proxied("http://example.com/").await;
    assert_eq!(status, 502);
    assert!(body.contains("example.com is no Service"), "{body}");

    // An address that is no pod's, as the query endpoint behind prometheus.istio-system.
    world.traffic.register(IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1)), world.traffic.metrics_address);
    world.service("istio-system", "prometheus", 9090, &["10.9.0.1"]).await;
    eventually("the query endpoint answers by name", async || {
        let (status, _) = world.proxied("http://prometheus.istio-system:9090/-/ready").await;
        (status == 200).then_some(())
    })
    .await;
    let (status, _) = world.proxied(&format!("{}/-/healthy", world.traffic.metrics_url)).await;
    assert_eq!(status, 200, "loopback passes");
}

#[tokio::test]
async fn late_control_planes_are_simulated() {
    let options =
        TrafficOptions { propagation_max: Duration::from_millis(200), seed: 3, ..TrafficOptions::default() };
    let world = World::canary(options, 0, "podinfo:3.1.1").await;
    let url = format!("{}/version", world.traffic.ingress_url);
    assert!(get(&world.http, &url).await.1.contains("3.1.0"));
    let route = json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "metadata": {"namespace": "test"}});
    let swap = json!([
        {"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 0},
        {"op": "replace", "path": "/spec/http/0/route/1/weight", "value": 100}
    ]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(swap).unwrap());
    api(&world.client, &route).patch("podinfo", &PatchParams::default(), &patch).await.unwrap();
    eventually("the new weight is taken up", async || {
        get(&world.http, &url).await.1.contains("3.1.1").then_some(())
    })
    .await;
    assert!(
        world.traffic.counts().failures.keys().all(|failure| matches!(
            failure,
            Failure::NoRoute | Failure::NoHealthyUpstream | Failure::ConnectionRefused
        )),
        "only before the first routes arrived: {:?}",
        world.traffic.counts().failures
    );
}

/// Asks over and over until stopped.
fn load(url: String, stop: &CancellationToken) -> tokio::task::JoinHandle<Option<()>> {
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        let client = http();
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        loop {
            ticks.tick().await;
            client.get(&url).send().await.unwrap().bytes().await.unwrap();
        }
    }))
}

#[tokio::test]
async fn a_switch_after_a_drain_fails_nothing_and_one_without_fails() {
    let options = TrafficOptions {
        retries: RetryMode::Off,
        propagation_max: Duration::from_millis(300),
        seed: 11,
        ..TrafficOptions::default()
    };
    let world = World::canary(options, 0, "podinfo:3.1.1").await;
    let before = world.traffic.counts();
    let stop = CancellationToken::new();
    let clients: Vec<_> = (0..4).map(|_| load(format!("{}/version", world.traffic.ingress_url), &stop)).collect();
    let route = json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "metadata": {"namespace": "test"}});
    let swap = json!([
        {"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 0},
        {"op": "replace", "path": "/spec/http/0/route/1/weight", "value": 100}
    ]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(swap).unwrap());
    api(&world.client, &route).patch("podinfo", &PatchParams::default(), &patch).await.unwrap();
    let url = format!("{}/version", world.traffic.ingress_url);
    eventually("the canary serves", async || get(&world.http, &url).await.1.contains("3.1.1").then_some(())).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "test"}});
    let delete = async |name: &str| {
        let params = DeleteParams::default().grace_period(0);
        drop(api(&world.client, &pod).delete(name, &params).await.unwrap());
    };
    delete("podinfo-primary-5d4-1").await;
    let so_far = world.traffic.counts().attempts;
    eventually("a hundred requests more", async || (world.traffic.counts().attempts > so_far + 100).then_some(()))
        .await;
    assert_eq!(world.traffic.counts().failures, before.failures, "the drained side is not missed");

    delete("podinfo-5d4-2").await;
    eventually("requests fail", async || {
        let refused = world.traffic.counts().failures_of(Failure::ConnectionRefused);
        (refused > before.failures_of(Failure::ConnectionRefused)).then_some(())
    })
    .await;
    stop.cancel();
    for client in clients {
        drop(client.await);
    }
}

#[tokio::test]
async fn a_load_tester_pod_runs_the_webhooks_of_git() {
    let world = World::canary(TrafficOptions::default(), 0, "podinfo:3.1.1").await;
    world.pod("flagger-loadtester", "10.0.0.3", "ghcr.io/fluxcd/flagger-loadtester:0.38.0").await;
    world.service("test", "flagger-loadtester", 9898, &["10.0.0.3"]).await;
    let proxy = reqwest::Proxy::all(&world.traffic.proxy_url).unwrap();
    let client = reqwest::Client::builder().no_proxy().proxy(proxy).build().unwrap();
    let run = async |metadata: Value| {
        let body = json!({"name": "podinfo", "namespace": "test", "phase": "Progressing", "metadata": metadata});
        let request = client.post("http://flagger-loadtester.test:9898/").body(body.to_string());
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let hey = json!({"type": "bash", "cmd": "hey -n 20 -c 2 http://podinfo-canary.test:9898/", "returnCmdOutput": "true"});
    let (status, body) = eventually("the load tester answers", async || {
        let answer = run(hey.clone()).await;
        (answer.0 == 200).then_some(answer)
    })
    .await;
    assert!(status == 200 && body.contains("[200]\t20 responses"), "{body}");
    if !is_installed("curl") {
        eprintln!("SKIPPED: curl is not installed, so the acceptance test of the example is not run");
        return;
    }
    let accept = json!({"type": "bash", "cmd": "curl -sd 'test' http://podinfo-canary:9898/token | grep token"});
    assert_eq!(run(accept).await.0, 200);
    let refuse =
        json!({"type": "bash", "cmd": "curl -sd 'test' http://podinfo-nowhere:9898/token | grep '\"token\"'"});
    assert_eq!(run(refuse).await.0, 500);
}

fn is_installed(program: &str) -> bool {
    let found =
        std::process::Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}
