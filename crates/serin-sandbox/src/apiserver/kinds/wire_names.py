#!/usr/bin/env python3
"""Collects the protobuf field numbers of the types in types.json from Kubernetes' Go sources.

    wire_names.py types.json <k8s.io/api> <k8s.io/apimachinery> > wire.json

kubectl's `create` subcommands send protobuf and nothing else. Per type: number -> JSON name, followed by `?` if Go leaves
out an empty value, or `>` and the name of the type whose fields stand inline.
"""
import json
import os
import re
import sys

PACKAGES = [("apps", "v1"), ("authentication", "v1"), ("authorization", "v1"), ("autoscaling", "v1"),
            ("autoscaling", "v2"), ("batch", "v1"), ("coordination", "v1"), ("core", "v1"), ("discovery", "v1"),
            ("events", "v1"), ("networking", "v1"), ("policy", "v1"), ("rbac", "v1")]
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
FIELD = re.compile(r'^\s+(?:(\w+)\s+)?(\S+)\s+`([^`]*)`')


def structs(text):
    for match in re.finditer(r"^type (\w+) struct \{\n(.*?)^\}", text, re.M | re.S):
        yield match.group(1), match.group(2)


def fields(body, prefix):
    out = {}
    for line in body.splitlines():
        match = FIELD.match(line)
        if not match:
            continue
        _, kind, tags = match.groups()
        proto = re.search(r'protobuf:"\w+,(\d+),', tags)
        name = re.search(r'json:"([^",]*)([^"]*)"', tags)
        if not proto or not name:
            continue
        name, flags = name.groups()
        if not name:
            out[proto.group(1)] = ">" + prefix + kind.split(".")[-1]
        elif not kind.startswith("*") and ("omitempty" in flags or "omitzero" in flags):
            out[proto.group(1)] = name + "?"
        else:
            out[proto.group(1)] = name
    return out


def main():
    types, api, machinery = json.load(open(sys.argv[1], encoding="utf-8")), sys.argv[2], sys.argv[3]
    found = {}
    for group, version in PACKAGES:
        text = open(os.path.join(api, group, version, "types.go"), encoding="utf-8").read()
        prefix = f"io.k8s.api.{group}.{version}."
        for name, body in structs(text):
            found[prefix + name] = fields(body, prefix)
    text = open(os.path.join(machinery, "pkg/apis/meta/v1/types.go"), encoding="utf-8").read()
    for name, body in structs(text):
        found[META + name] = fields(body, META)
    wanted = {name for name in found if name in types}
    wanted |= {inline[1:] for name in wanted for inline in found[name].values() if inline.startswith(">")}
    lines = [f"{json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(wanted) if found.get(name)]
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
