"""`pipeline.py submit`: a run of the pipeline on a KFP API server."""

import argparse
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `submit`."""
    parser.add_argument("--host", required=True, help="URL of the KFP API server, as http://localhost:8888")


def main(options: argparse.Namespace, arguments: dict[str, Any]) -> int:
    """Creates the run and prints its link; returns the exit status."""
    import kfp

    import pipeline

    client = kfp.Client(host=options.host)
    client.create_run_from_pipeline_func(pipeline.pipeline, arguments=arguments)
    return 0
