"""`pipeline.py doctor`: before the first run, what of a cluster is ready for it and what to do about the rest.

It only reads: with KFP's own API, and with the rights of whoever asks on Kubernetes. What those do not reach, it says.
"""

import argparse
import os
import time
import urllib.error
from collections.abc import Iterator
from typing import Any

from cli import diagnosis, kfp_api, store_diagnosis
from cli.diagnosis import Finding, Patient
from cli.submit import OLDEST_KFP, TRIED_KFP
from cli.target import add_target_options, read_target
from components.shared import kubernetes
from components.shared.errors import PipelineError

_MARKS = {"ok": "ok  ", "mend": "MEND", "note": "note", "unknown": "?   "}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `doctor`, beside those that choose a cluster."""
    add = parser.add_argument
    add("--host", default=os.environ.get("KFP_HOST", ""), help="URL of KFP's UI or API server (default: KFP_HOST)")
    add("--token", default=os.environ.get("KFP_TOKEN", ""), help="bearer token for it (default: KFP_TOKEN)")
    add("--root", default="", metavar="URI", help="the pipeline root that runs will have (default: the server's)")
    add("--account", default="", help="ServiceAccount of the steps (default: pipeline-runner, or default-editor)")
    add_target_options(parser)


def main(options: argparse.Namespace) -> int:
    """Prints the page; returns 1 if something is to be mended."""
    findings = list(_findings(options))
    for finding in findings:
        first, *others = finding.text.split("\n")
        print(f"{_MARKS[finding.state]}  {finding.topic:<13}{first}")
        for line in others:
            print(f"{'':<19}{line}")
    mends = sum(finding.state == "mend" for finding in findings)
    unknown = sum(finding.state == "unknown" for finding in findings)
    seen = f"; {unknown} could not be looked at" if unknown else ""
    print(f"\n{mends or 'nothing'} to mend{seen}. Nothing was changed.")
    return int(mends > 0)


def _findings(options: argparse.Namespace) -> Iterator[Finding]:
    target = read_target(options)
    health: dict[str, Any] = {}
    yield from _of_kfp(options, health)
    try:
        cluster = kubernetes.connect(options.kubeconfig, options.context, options.namespace or "kubeflow", attempts=2)
        told = cluster.look("/version")
    except PipelineError as error:
        yield Finding("unknown", "Kubernetes", f"{error}\nthe rest is its to say: give --kubeconfig or --context")
        return
    yield Finding("ok", "Kubernetes", f"{told.get('gitVersion', '')}, namespace {cluster.namespace}")
    patient = Patient(cluster, target, options.root, options.account, bool(health.get("multi_user")))
    first, *others = diagnosis.CHECKS
    for check in (first, *store_diagnosis.CHECKS, *others):
        try:
            yield from check(patient)
        except kubernetes.Forbidden as error:
            yield Finding("unknown", diagnosis.TOPICS[check.__name__], _may_not(error))
        except PipelineError as error:
            yield Finding("unknown", diagnosis.TOPICS[check.__name__], str(error))
    if health:
        yield _tensorboard_by_ui(options, cluster.namespace)


def _may_not(error: Exception) -> str:
    return f"you may not look: {str(error).replace('; grant it (manifests/base/rbac)', '')}"


def _of_kfp(options: argparse.Namespace, health: dict) -> Iterator[Finding]:
    """KFP by its own API; fills `health` with what it says."""
    if not options.host:
        yield Finding("unknown", "KFP", "give --host URL, such as http://localhost:8080, and its version is asked")
        return
    if not options.host.startswith(("http://", "https://")):
        raise PipelineError(f"--host {options.host} is no URL: give one such as http://localhost:8080")
    try:
        health.update(kfp_api.KfpApi(options.host, options.token).health())
    except PipelineError as error:
        yield Finding("mend", "KFP", str(error))
        return
    version, tag = kfp_api.version(health), health.get("apiServerTagName") or health.get("tag_name") or "unknown"
    tried, oldest = (".".join(map(str, each)) for each in (TRIED_KFP, OLDEST_KFP))
    if version is None:
        yield Finding("note", "KFP", f"{options.host} does not say its version ({tag}): it should be {tried}")
    elif version < OLDEST_KFP:
        words = f"{tag} refuses fields of this pipeline, which came with {oldest}: upgrade it to {tried}"
        yield Finding("mend", "KFP", words)
    elif version < TRIED_KFP:
        yield Finding("note", "KFP", f"{tag} at {options.host}; this was tried with {tried}")
    else:
        yield Finding("ok", "KFP", f"{tag} at {options.host}")
    if health.get("multi_user") and not options.namespace:
        yield Finding("mend", "KFP", f"{options.host} serves several users: give --namespace YOURS")


def _tensorboard_by_ui(options: argparse.Namespace, namespace: str) -> Finding:
    """Whether the UI's server would open TensorBoard: it is asked for one that nobody has."""
    api = kfp_api.KfpApi(options.host, options.token)
    try:
        api.get("apps/tensorboard", logdir=f"none-{time.time_ns()}", namespace=namespace)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return Finding("note", "TensorBoard", f"{options.host} is no UI: give the UI's URL, since that opens it")
        words = f"the UI at {options.host} does not open it ({error.code}): may you use viewers in {namespace}?"
        return Finding("mend", "TensorBoard", words)
    except (OSError, ValueError) as error:
        return Finding("mend", "TensorBoard", f"the UI at {options.host} does not open it: {error}")
    return Finding("ok", "TensorBoard", f"the UI at {options.host} opens it from a run's page")
