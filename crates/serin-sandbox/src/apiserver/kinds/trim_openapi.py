#!/usr/bin/env python3
"""Cuts Kubernetes' api/openapi-spec/swagger.json down to types.json, the types that the sandbox serves.

    trim_openapi.py swagger.json > types.json

Kept are the served kinds and everything they refer to, with the first sentence of each description (for `kubectl
explain`). One definition a line, so that an update is a readable diff.
"""
import json
import re
import sys

KINDS = {
    ("", "v1"): "Namespace Pod Service ConfigMap Secret ServiceAccount Event Endpoints Node PersistentVolumeClaim Binding",
    ("apps", "v1"): "Deployment ReplicaSet DaemonSet StatefulSet ControllerRevision",
    ("autoscaling", "v2"): "HorizontalPodAutoscaler",
    ("autoscaling", "v1"): "Scale",
    ("discovery.k8s.io", "v1"): "EndpointSlice",
    ("coordination.k8s.io", "v1"): "Lease",
    ("events.k8s.io", "v1"): "Event",
    ("batch", "v1"): "Job CronJob",
    ("networking.k8s.io", "v1"): "Ingress NetworkPolicy",
    ("policy", "v1"): "PodDisruptionBudget",
    ("rbac.authorization.k8s.io", "v1"): "Role RoleBinding ClusterRole ClusterRoleBinding",
    ("apiextensions.k8s.io", "v1"): "CustomResourceDefinition",
    ("authorization.k8s.io", "v1"): "SelfSubjectAccessReview",
    ("authentication.k8s.io", "v1"): "SelfSubjectReview",
}
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
# Version 2 of OpenAPI can say neither of these; version 3 does.
EXACT = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
}


def first_sentence(text):
    text = text.replace("\n", " ")
    match = re.match(r"(.{15,}?[.!?])(\s|$)", text)
    return (match.group(1) if match else text)[:300]


def trim(node, definition=True):
    if isinstance(node, list):
        return [trim(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        if key == "description" and isinstance(value, str):
            out[key] = first_sentence(value)
        elif key == "$ref" and isinstance(value, str):
            out[key] = value.split("/")[-1]
        elif key == "x-kubernetes-group-version-kind" and len(value) > 3:
            continue  # DeleteOptions and the like name every group
        elif key == "x-kubernetes-unions":
            continue
        else:
            out[key] = trim(value)
    return out


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].split("/")[-1]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def main():
    definitions = json.load(open(sys.argv[1], encoding="utf-8"))["definitions"]
    by_kind = {}
    for name, node in definitions.items():
        for gvk in node.get("x-kubernetes-group-version-kind", []):
            by_kind[(gvk["group"], gvk["version"], gvk["kind"])] = name
    stack = [by_kind[(*gv, kind)] for gv, kinds in KINDS.items() for kind in kinds.split()]
    stack += [META + name for name in ("Status", "DeleteOptions", "ListMeta", "Patch", "WatchEvent")]
    out = {}
    while stack:
        name = stack.pop()
        if name in out:
            continue
        out[name] = EXACT.get(name) or trim(definitions[name])
        if out[name].keys() <= {"description", "type"} and out[name].get("type") in (None, "object"):
            out[name]["x-kubernetes-preserve-unknown-fields"] = True  # RawExtension, FieldsV1, JSON: anything goes
        stack += references(definitions[name])
    # List keys with a default: an item that leaves it out is the item with the default.
    for name in ("ContainerPort", "ServicePort"):
        out["io.k8s.api.core.v1." + name]["properties"]["protocol"]["default"] = "TCP"
    lines = [f"{json.dumps(name)}: {json.dumps(out[name], sort_keys=True)}" for name in sorted(out)]
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
