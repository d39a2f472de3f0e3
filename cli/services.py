"""`pipeline.py status`, `rollback` and `undeploy`: what is in service on a cluster, and changing it from a desk."""

import argparse

from components.serve import services
from components.serve.services import Served, Version
from components.shared import kubernetes


def status(options: argparse.Namespace) -> int:
    """Prints what is in service; returns 1 if a service has fewer pods than it should."""
    cluster = _connect(options)
    found = services.status(cluster)
    if not found:
        print(f"nothing is in service in namespace {cluster.namespace}")
    for served in found:
        print("\n".join(_lines(served)))
    return int(any(served.ready < served.wanted or served.problem for served in found))


def rollback(options: argparse.Namespace) -> int:
    """Puts an earlier version back."""
    timeouts = services.Timeouts(ready=options.seconds)
    print(services.rollback(_connect(options), options.service, options.to, timeouts))
    return 0


def undeploy(options: argparse.Namespace) -> int:
    """Takes a service down."""
    for what in services.undeploy(_connect(options), options.service):
        print(f"deleted {what}")
    print(f"{options.service} is no longer served; its models stay where the runs left them")
    return 0


def _connect(options: argparse.Namespace) -> kubernetes.Cluster:
    return kubernetes.connect(options.kubeconfig, options.context, options.namespace)


def _lines(served: Served) -> list[str]:
    since = f" since {_time(served.since)}" if served.since else ""
    kind = " (KServe)" if served.serving == "kserve" else ""
    lines = [f"{served.name}{kind}: serves {served.main.name}{since}, {served.ready} of {served.wanted} pods ready"]
    lines += [f"  {served.problem}"] if served.problem else []
    lines += [f"  model     {served.main.uri or 'unknown'}", f"  made by   {_made(served.main)}"]
    if served.canary:
        lines.append(f"  canary    {served.canary.name}, made by {_made(served.canary)}")
    if not served.earlier:
        lines.append("  earlier   none to roll back to")
    for place, version in enumerate(served.earlier):
        lines.append(f"  {'earlier' if place == 0 else '':<9} {version.name}, made by {_made(version)}")
    return lines


def _made(version: Version) -> str:
    run = f"run {version.run}" if version.run else "an unknown run"
    return f"{run}, deployed {_time(version.deployed)}" if version.deployed else run


def _time(text: str) -> str:
    """`2026-11-29T10:01:02Z` for people."""
    return text.replace("T", " ").removesuffix("Z") + " UTC"
