//! Manifests of these tests.

pub(super) const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: test}\n";

pub(super) fn config(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: test}}\ndata: {{key: \"{value}\"}}\n"
    )
}

pub(super) fn deployment(tag: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: podinfo, namespace: test}}\nspec:\n  replicas: 3\n  \
         selector: {{matchLabels: {{app: podinfo}}}}\n  template:\n    metadata: {{labels: {{app: podinfo}}}}\n    \
         spec: {{containers: [{{name: podinfod, image: \"podinfo:{tag}\"}}]}}\n"
    )
}

pub(super) const CANARY: &str = "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: podinfo, namespace: test}\nspec:\n  \
    targetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}\n  service: {port: 9898}\n  \
    analysis: {interval: 1m, threshold: 5, stepWeight: 10, maxWeight: 50}\n";

pub(super) const HPA: &str = "apiVersion: autoscaling/v2beta2\nkind: HorizontalPodAutoscaler\nmetadata: {name: podinfo, namespace: \
    test}\nspec:\n  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}\n  minReplicas: 2\n  \
    maxReplicas: 4\n  metrics:\n  - {type: Resource, resource: {name: cpu, target: {type: Utilization, \
    averageUtilization: 99}}}\n";

pub(super) const WIDGETS: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: \
    widgets.example.com}\nspec:\n  group: example.com\n  scope: Namespaced\n  names: {kind: Widget, plural: widgets, \
    singular: widget, listKind: WidgetList}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    schema: \
    {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}\n";

pub(super) const WIDGET: &str =
    "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a, namespace: test}\nspec: {size: 1}\n";
