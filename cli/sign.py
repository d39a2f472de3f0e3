"""`pipeline.py sign`: signs a model with a key, so that servers that have its public half know whose it is."""

import argparse
from pathlib import Path

from cli import chosen


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `sign`."""
    parser.add_argument("--model", default="", help=chosen.MODEL_HELP)
    parser.add_argument("--root", default="runs", help="folder of the runs (default: runs)")
    parser.add_argument("--key", required=True, metavar="FILE", help="private elliptic-curve key, PEM")


def main(options: argparse.Namespace) -> int:
    """Signs the model of a folder or URI."""
    from components.artifacts import signature

    model = chosen.model(options)
    signature.sign(model, Path(options.key).read_text(errors="replace"))
    print(f"{model} is signed; serve it with --public-key FILE")
    return 0
