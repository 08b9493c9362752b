//! Installations with one thing wrong, each named with what helps.

use std::convert::Infallible;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use jiff::SignedDuration;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::analysis::Reading;
use crate::api;
use crate::metrics::Endpoint;
use crate::sandbox::apiserver::ApiServer;
use crate::sandbox::{crds, repository};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    ApiServer,
    Clock,
    Namespace,
    Definitions,
    OldDefinition,
    Rights,
    TooManyRights,
    Mesh,
    Metrics,
    NoRequests,
    Webhook,
    Branch,
    Repository,
}

struct Metrics(Wrong);

impl MetricProvider for Metrics {
    fn query<'a>(&'a self, _: &'a Endpoint, query: &'a str) -> BoxFuture<'a, Reading> {
        let reading = match (self.0, query) {
            (Wrong::Metrics, _) => Reading::Error { reason: "connection refused".into() },
            (_, "vector(1)") => Reading::Value { value: 1.0 },
            (Wrong::NoRequests, _) => Reading::NoData { reason: "no sample".into() },
            _ => Reading::Value { value: 42.0 },
        };
        futures::future::ready(reading).boxed()
    }
}

/// The API server with the rights that are said to hold, or away.
fn client(server: &ApiServer, wrong: Wrong) -> kube::Client {
    let server = server.clone();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let server = server.clone();
        async move {
            let path = request.uri().path().to_owned();
            if wrong == Wrong::ApiServer {
                return Ok::<_, Infallible>(answer(
                    503,
                    &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "message": "the server is starting", "reason": "ServiceUnavailable", "code": 503}),
                ));
            }
            if path.ends_with("/selfsubjectrulesreviews") {
                return Ok(answer(201, &rules(wrong)));
            }
            let response = server.oneshot(request).await?;
            let (head, body) = response.into_parts();
            let watch = head.status.is_success() && path.contains("watch");
            assert!(!watch, "nothing is watched");
            let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            Ok(Response::from_parts(head, Full::new(bytes)))
        }
    });
    kube::Client::new(service, "default")
}

fn answer(status: u16, body: &Value) -> Response<Full<axum::body::Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::new(axum::body::Bytes::from(body.to_string())))
        .unwrap()
}

/// The roles of the installation, as the API server lists what holds.
fn rules(wrong: Wrong) -> Value {
    let mut rules: Vec<Value> = Vec::new();
    for document in serde_yaml::Deserializer::from_str(include_str!("../../../deploy/kustomize/rbac.yaml")) {
        let object = <Value as serde::Deserialize>::deserialize(document).unwrap();
        rules.extend(object["rules"].as_array().cloned().unwrap_or_default());
    }
    rules.push(json!({"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectrulesreviews"], "verbs": ["create"]}));
    match wrong {
        Wrong::Rights => rules.retain(|rule| rule["resources"] != json!(["deployments/scale"])),
        Wrong::TooManyRights => {
            rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "get"]}))
        }
        _ => {}
    }
    json!({"kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}, "spec": {},
        "status": {"resourceRules": rules, "nonResourceRules": [], "incomplete": false}})
}

async fn install(server: &ApiServer, wrong: Wrong) {
    let client = server.client();
    let served: Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
        Api::all(client.clone());
    let mut wanted = api::crds();
    if wrong == Wrong::Definitions {
        wanted.retain(|it| it.metadata.name.as_deref() != Some("sources.serin.dev"));
    }
    if wrong == Wrong::OldDefinition {
        let mut old = serde_json::to_value(&wanted[0]).unwrap();
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        old.pointer_mut(spec).unwrap().as_object_mut().unwrap().remove("releaseWindows").unwrap();
        wanted[0] = serde_json::from_value(old).unwrap();
    }
    if wrong != Wrong::Mesh {
        wanted.extend(crds::istio().unwrap());
    }
    for definition in wanted {
        let name = definition.metadata.name.clone().unwrap();
        served.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&definition)).await.unwrap();
    }
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    for name in ["serin-system", "test"].into_iter().filter(|name| wrong != Wrong::Namespace || *name == "test") {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    }
}

async fn canary(server: &ApiServer, webhook: &str) {
    let canaries: Api<api::Canary> = Api::namespaced(server.client(), "test");
    let canary = serde_json::from_value(json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "podinfo"},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"}, "service": {"port": 80},
            "analysis": {"stepWeight": 10, "webhooks": [{"name": "load-test", "url": webhook}]}}
    }));
    canaries.create(&PostParams::default(), &canary.unwrap()).await.unwrap();
}

/// What `serin check --install` prints, without what is different at every run.
async fn printed(wrong: Wrong) -> String {
    let folder = tempfile::tempdir().unwrap();
    let git = folder.path().join("repo");
    let work = repository::Repository::open_or_init(&git).unwrap();
    let content = "kind: Namespace\napiVersion: v1\nmetadata: {name: test}\n".to_owned();
    let file = repository::FileEdit { path: "podinfo.yaml".into(), content };
    work.commit("Add podinfo", |_| Ok(vec![file.clone()])).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap();
    let app = axum::Router::new();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let hook = if wrong == Wrong::Webhook { closed } else { open };
    let server = ApiServer::new();
    install(&server, wrong).await;
    if wrong != Wrong::OldDefinition {
        canary(&server, &format!("http://{hook}/gate")).await;
    }
    let branch = if wrong == Wrong::Branch { "live" } else { "main" };
    let url = if wrong == Wrong::Repository {
        folder.path().join("none").display().to_string()
    } else {
        git.display().to_string()
    };
    let text = format!("cluster: {{name: prod}}\ngit: {{url: {url}, branch: {branch}}}\n");
    let settings = Settings::from_text("serin.yaml", &text, &RunArgs::default()).unwrap();
    let world = World {
        settings,
        cluster: Cluster::from_client(client(&server, wrong)),
        store: Store::open(folder.path().join("cache")).unwrap(),
        metrics: Arc::new(Metrics(wrong)),
        clients: HttpClients::new(None).unwrap(),
        now: if wrong == Wrong::Clock {
            || Timestamp::now() + SignedDuration::from_mins(3)
        } else {
            Timestamp::now
        },
    };
    let mut text = text_of(&world).await;
    for (found, named) in [
        (folder.path().display().to_string(), "/folder"),
        (open.to_string(), "open:80"),
        (closed.to_string(), "closed:80"),
    ] {
        text = text.replace(&found, named);
    }
    let commit = regex::Regex::new("is at [0-9a-f]{7}").unwrap();
    let skew = regex::Regex::new("differ by 1[78][0-9] s").unwrap();
    skew.replace(&commit.replace(&text, "is at <commit>"), "differ by 180 s").into_owned()
}

async fn text_of(world: &World) -> String {
    text(&lines(world).await, false)
}

#[tokio::test]
async fn an_installation_as_it_should_be_has_nothing_to_fail() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let printed = printed(Wrong::Nothing).await;
    assert!(printed.ends_with("0 failed\n"), "{printed}");
    insta::assert_snapshot!(printed);
}

#[tokio::test]
async fn what_is_wrong_is_the_line_that_fails_and_says_what_helps() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let good = printed(Wrong::Nothing).await;
    let cases = [
        Wrong::ApiServer,
        Wrong::Clock,
        Wrong::Namespace,
        Wrong::Definitions,
        Wrong::OldDefinition,
        Wrong::Rights,
        Wrong::TooManyRights,
        Wrong::Mesh,
        Wrong::Metrics,
        Wrong::NoRequests,
        Wrong::Webhook,
        Wrong::Branch,
        Wrong::Repository,
    ];
    let mut told = String::new();
    for wrong in cases {
        let printed = printed(wrong).await;
        // What is as it should be need not be shown again.
        let news: Vec<&str> =
            printed.lines().filter(|line| !line.starts_with("pass") && !good.contains(line)).collect();
        told.push_str(&format!("{wrong:?}\n{}\n\n", news.join("\n")));
        assert!(news.iter().any(|line| line.trim_start().starts_with("->")), "{wrong:?}: {printed}");
    }
    insta::assert_snapshot!(told);
}
