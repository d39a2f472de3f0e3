"""`compile --kubernetes-manifest`: the pipeline as Kubernetes objects, for Argo CD, Flux or kubectl apply.

A KFP that keeps its pipelines in Kubernetes (`pipelineStore: kubernetes`) reads a Pipeline and its PipelineVersions. A
version never changes after it was created, so its name has the hash of its content.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from components.shared.errors import PipelineError

API_VERSION = "pipelines.kubeflow.org/v2beta1"
# KFP's: most tags of a pipeline or a version, most characters of a key and of a value.
_TAGS, _LENGTH = 20, 63


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `compile` that are about these objects."""
    add = parser.add_argument_group("objects for GitOps").add_argument
    add("--kubernetes-manifest", action="store_true", help="write a Pipeline and a PipelineVersion object instead")
    add("--manifest-namespace", default="", metavar="NAME", help="their namespace (default: whoever applies them says)")
    add("--pipeline-tag", action="append", default=[], metavar="KEY=VALUE", help="a tag of KFP's, on both of them")


def tags(options: argparse.Namespace) -> dict[str, str]:
    """The tags of the command line. Raises PipelineError: KFP would refuse them, or there are no objects for them."""
    if not options.kubernetes_manifest and (options.pipeline_tag or options.manifest_namespace):
        raise PipelineError("--pipeline-tag and --manifest-namespace are of --kubernetes-manifest: add that")
    found = {}
    for text in options.pipeline_tag:
        key, separator, value = text.partition("=")
        if not (key and separator) or "." in key or max(len(key), len(value)) > _LENGTH:
            raise PipelineError(f"--pipeline-tag {text}: write KEY=VALUE, {_LENGTH} characters each, no dot in KEY")
        found[key] = value
    if len(found) > _TAGS:
        raise PipelineError(f"--pipeline-tag: KFP takes at most {_TAGS} tags, these are {len(found)}")
    return found


def documents(
    spec: Mapping[str, Any], platform: Mapping[str, Any], namespace: str = "", labels: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """A Pipeline and its PipelineVersion of a compiled pipeline. Raises PipelineError: no name for a namespace."""
    if namespace and not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", namespace):
        raise PipelineError(f"--manifest-namespace {namespace}: use a-z, 0-9 and - between them, at most 63 characters")
    name, description = spec["pipelineInfo"]["name"], spec["pipelineInfo"].get("description", "")
    content = json.dumps([spec, platform], sort_keys=True).encode()
    version = f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
    common = {"description": description, **({"tags": dict(labels)} if labels else {})}
    return [
        _object("Pipeline", name, namespace, {"displayName": name, **common}),
        _object(
            "PipelineVersion",
            version,
            namespace,
            {"displayName": version, "pipelineName": name, **common, "pipelineSpec": spec, "platformSpec": platform},
        ),
    ]


def _object(kind: str, name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
