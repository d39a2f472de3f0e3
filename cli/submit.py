"""`pipeline.py submit`: a run of the pipeline on a KFP API server."""

import argparse
import dataclasses
import hashlib
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from cli import compile as compile_command
from cli import follow, kfp_api
from cli.target import Target, add_target_options, read_target
from components.shared.errors import PipelineError

# The first KFP that takes lists in the run form (literals) and runAsNonRoot; the one that this is tried with.
OLDEST_KFP, TRIED_KFP = (2, 16), (2, 17)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `submit`."""
    add = parser.add_argument
    add("--host", default=os.environ.get("KFP_HOST", ""), help="URL of the KFP API server (default: KFP_HOST)")
    add("--namespace", default=None, help="your namespace, on an installation with several users")
    token = os.environ.get("KFP_TOKEN")
    add("--token", default=token, help="bearer token, if the server asks for one (default: KFP_TOKEN)")
    add("--experiment", default="museum-classifier", help="experiment of the run; created if missing (%(default)s)")
    add("--name", default="", help="name of the run (default: the label to learn, and the time)")
    add("--root", default=None, metavar="URI", help="pipeline root, such as s3://bucket/prefix (default: the server's)")
    add("--no-cache", action="store_true", help="run every step, also those whose result is known")
    add("--wait", action="store_true", help="follow the run; exit status 1 if it fails")
    add_target_options(parser)


def main(options: argparse.Namespace, arguments: dict[str, Any]) -> int:
    """Uploads the pipeline, creates the run and prints its link; returns the exit status."""
    if not options.host:
        raise PipelineError("where to? give --host URL, or set KFP_HOST, such as http://localhost:8080")
    if not options.host.startswith(("http://", "https://")):
        raise PipelineError(f"--host {options.host} is no URL: give one such as http://localhost:8080")
    target = dataclasses.replace(read_target(options).accepting(arguments), caching=not options.no_cache)
    api = kfp_api.KfpApi(options.host, options.token or "")
    if _is_older(api.health(), options):
        target = dataclasses.replace(target, limits=False)
    compile_command.warn_of_bare_images(target)
    try:
        client = _client(options)
        experiment = client.create_experiment(options.experiment, namespace=options.namespace)
        pipeline_id, version_id = _upload(client, target, options.namespace)
        run = client.run_pipeline(
            experiment_id=experiment.experiment_id,
            job_name=options.name or _run_name(arguments),
            params=arguments,
            pipeline_id=pipeline_id,
            version_id=version_id,
            pipeline_root=options.root,
        )
    except Exception as error:  # the client raises its own, urllib3's and requests' errors
        raise kfp_api.explained(options.host, error) from error
    link = f"{options.host.rstrip('/')}/#/runs/details/{run.run_id}"
    print(f"run: {link}", flush=True)
    if not options.wait:
        return 0
    try:
        return follow.follow(api, run.run_id, link)
    except (OSError, ValueError) as error:
        raise kfp_api.explained(link, error) from error


def _run_name(arguments: dict[str, Any]) -> str:
    return f"{arguments['label'] or arguments['data_source']} {time.strftime('%Y-%m-%d %H:%M')}"


def _is_older(health: dict[str, Any], options: argparse.Namespace) -> bool:
    """Whether the server is one before 2.17, which is warned of. Raises PipelineError where it refuses the pipeline."""
    if health.get("multi_user") and not options.namespace:
        raise PipelineError(f"{options.host} serves several users: give --namespace YOURS")
    version = kfp_api.version(health)
    if version and version < OLDEST_KFP:
        raise PipelineError(
            f"{options.host} is KFP {version[0]}.{version[1]}, which refuses fields of this pipeline: upgrade it to "
            f"{TRIED_KFP[0]}.{TRIED_KFP[1]}"
        )
    older = version is not None and version < TRIED_KFP
    if version and older:
        print(
            f"warning: {options.host} is KFP {version[0]}.{version[1]}; this was tried with "
            f"{TRIED_KFP[0]}.{TRIED_KFP[1]}, without which a run has no end and its Workflow stays (--no-limits)",
            file=sys.stderr,
        )
    return older


def _client(options: argparse.Namespace):
    import kfp

    warnings.filterwarnings("ignore", category=FutureWarning, module="kfp")  # that it is for KFP 2; so is all of this
    return kfp.Client(host=options.host, existing_token=options.token, namespace=options.namespace or "kubeflow")


def _upload(client, target: Target, namespace: str | None) -> tuple[str, str]:
    """Ids of the pipeline and of the version with exactly this content, which is uploaded unless it is there."""
    import pipeline

    name = pipeline.pipeline.name
    description = pipeline.pipeline.description
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "pipeline.yaml")
        compile_command.write(str(package), target)
        version = f"{name}-{hashlib.sha256(package.read_bytes()).hexdigest()[:12]}"
        known = _pipeline(client, name, namespace)
        if known is None:
            uploaded = client.upload_pipeline(
                str(package), pipeline_name=name, description=description, namespace=namespace
            )  # fmt: skip
            known = uploaded.pipeline_id
        found = _version(client, known, version)
        if found is None:
            uploaded = client.upload_pipeline_version(str(package), version, pipeline_id=known, description=description)
            found = uploaded.pipeline_version_id
    print(f"pipeline: {name}, version {version}", flush=True)
    return known, found


def _pipeline(client, name: str, namespace: str | None) -> str | None:
    # The client's get_pipeline_id asks without a namespace, and sees no pipeline of a user's own.
    wanted = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    found = client.list_pipelines(namespace=namespace, filter=json.dumps({"predicates": [wanted]})).pipelines
    return found[0].pipeline_id if found else None


def _version(client, pipeline_id: str, name: str) -> str | None:
    token = ""
    while True:
        page = client.list_pipeline_versions(pipeline_id, page_token=token, page_size=100)
        for version in page.pipeline_versions or ():
            if version.display_name == name:
                return version.pipeline_version_id
        token = page.next_page_token
        if not token:
            return None
