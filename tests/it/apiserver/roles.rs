//! `--as`: who asks as somebody else may do what roles allow, and is refused in the words of a real server.

use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use serin::sandbox::apiserver::ApiServer;

/// Code and answer of a request made for a user.
async fn ask(client: &Client, user: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = if user.is_empty() { request } else { request.header("impersonate-user", user) };
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let response = client.send(request.body(Body::from(bytes)).unwrap()).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test]
async fn who_asks_as_somebody_else_may_do_what_roles_allow() {
    let client = ApiServer::new().client();
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let (configs, admin) = ("/api/v1/namespaces/default/configmaps", "");
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "ci", "namespace": "default"}],
    });
    assert_eq!(ask(&client, admin, "POST", &format!("{rbac}/clusterroles"), role).await.0, 201);
    let bindings = format!("{rbac}/namespaces/default/rolebindings");
    assert_eq!(ask(&client, admin, "POST", &bindings, binding).await.0, 201);
    let ci = "system:serviceaccount:default:ci";
    assert_eq!(ask(&client, ci, "GET", configs, Value::Null).await.0, 200);
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let (code, refused) = ask(&client, ci, "POST", configs, config.clone()).await;
    assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")));
    assert_eq!(
        refused["message"],
        format!(
            "configmaps is forbidden: User \"{ci}\" cannot create resource \"configmaps\" in API group \"\" in the \
             namespace \"default\""
        )
    );
    assert_eq!(ask(&client, ci, "GET", "/api/v1/namespaces/kube-system/configmaps", Value::Null).await.0, 403);
    assert_eq!(ask(&client, admin, "POST", configs, config).await.0, 201);
    let review = |verb: &str| {
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {
            "resourceAttributes": {"verb": verb, "resource": "configmaps", "namespace": "default"}}})
    };
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (user, verb, allowed) in [(ci, "list", true), (ci, "delete", false), (admin, "delete", true)] {
        let (_, answer) = ask(&client, user, "POST", reviews, review(verb)).await;
        assert_eq!(answer["status"]["allowed"], allowed, "{user} {verb}");
    }
}
