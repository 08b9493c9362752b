//! The whole world: its folder, its API server, its proxy and its ingress.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use serin::sandbox::world::{Sandbox, SandboxOptions};
use tokio_util::sync::CancellationToken;

use super::world::{CAP, World, deployment, rolling, tls};

#[tokio::test]
async fn the_world_is_served_in_its_folder() {
    tls();
    let dir = tempfile::tempdir().unwrap();
    let options = SandboxOptions { dir: dir.path().join("world"), speed: 30.0, ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let kubeconfig = kube::config::Kubeconfig::read_from(sandbox.kubeconfig()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let service = Api::<Service>::namespaced(client.clone(), "istio-system").get("prometheus").await.unwrap();
    assert_eq!(service.spec.unwrap().ports.unwrap()[0].port, 9090);

    let kind = kube::core::GroupVersionKind::gvk("networking.istio.io", "v1beta1", "VirtualService");
    let (resource, _) = kube::discovery::pinned_kind(&client, &kind).await.unwrap();
    let routes: Api<DynamicObject> = Api::namespaced_with(client, "default", &resource);
    let route = |destination: Value| {
        DynamicObject::new("podinfo", &resource).data(json!({"spec": {
            "hosts": ["podinfo"], "http": [{"route": [{"destination": destination, "weight": 100}]}],
        }}))
    };
    let refused = routes.create(&PostParams::default(), &route(json!({"subset": "a"}))).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.is_invalid()), "{refused}");
    let made = routes.create(&PostParams::default(), &route(json!({"host": "podinfo", "hots": 1}))).await.unwrap();
    assert_eq!(made.data["spec"]["http"][0]["route"][0]["destination"], json!({"host": "podinfo"}));

    assert!(std::fs::read_to_string(dir.path().join("world/serin.yaml")).unwrap().contains("speed: 30"));
    assert!(sandbox.repository().tip("main").unwrap().is_none());
    sandbox.shutdown().await;
}

#[tokio::test]
async fn the_proxy_reaches_pods_and_the_mesh_prometheus_by_name() {
    tls();
    let dir = tempfile::tempdir().unwrap();
    let options = SandboxOptions { dir: dir.path().to_owned(), ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let world = World {
        client: sandbox.client(),
        namespace: "default".to_owned(),
        _running: CancellationToken::new().drop_guard(),
    };
    world
        .create::<Service>(json!({
            "metadata": {"name": "podinfo"},
            "spec": {"selector": {"app": "podinfo"}, "ports": [{"name": "http", "port": 9898, "targetPort": "http"}]},
        }))
        .await;
    world.create::<Deployment>(deployment("podinfo", 2, "3.1.0", rolling(1, 0))).await;
    world.rolled_out("podinfo").await;
    let proxy = reqwest::Proxy::http(sandbox.proxy_url()).unwrap();
    let http = reqwest::Client::builder().proxy(proxy).build().unwrap();
    assert!(answer(&http, "http://podinfo.default:9898/version").await.contains("3.1.0"));
    let query = "http://prometheus.istio-system:9090/api/v1/query?query=istio_requests_total";
    assert!(answer(&http, query).await.contains("\"success\""));

    // The way in from outside, by name and by the address that scripts look up; no route leads on from there yet.
    let ingress =
        Api::<Service>::namespaced(sandbox.client(), "istio-system").get("istio-ingressgateway").await.unwrap();
    let points = ingress.status.unwrap().load_balancer.unwrap().ingress.unwrap();
    for host in ["istio-ingressgateway.istio-system", points[0].ip.as_deref().unwrap()] {
        let asked = async {
            while !http
                .get(format!("http://{host}/"))
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap()
                .contains("Gateway")
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(CAP, asked).await.unwrap_or_else(|_| panic!("the ingress never answered as {host}"));
    }
    sandbox.shutdown().await;
}

/// The proxy follows the cluster by watches: what is not routed yet is asked for again.
async fn answer(http: &reqwest::Client, url: &str) -> String {
    let asked = async {
        loop {
            let response = http.get(url).send().await.unwrap();
            if response.status().is_success() {
                return response.text().await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(CAP, asked).await.unwrap_or_else(|_| panic!("{url} never answered 200"))
}
