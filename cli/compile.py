"""`pipeline.py compile`: the pipeline as the YAML that the Kubeflow UI takes."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `compile`."""
    parser.add_argument("--output", default="pipeline.yaml", help="file to write (default: pipeline.yaml)")


def main(options: argparse.Namespace) -> int:
    """Writes the compiled pipeline to `options.output`; returns the exit status."""
    write(options.output)
    print(f"{options.output}: upload it to the Kubeflow UI, or: python pipeline.py submit --host URL")
    return 0


def write(output: str) -> None:
    """Compiles the pipeline into the file `output`."""
    from kfp import compiler

    import pipeline

    compiler.Compiler().compile(pipeline.pipeline, output)
