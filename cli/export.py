"""`pipeline.py export web FOLDER`: the page and the model in one folder, for any static host."""

import argparse

from cli import chosen


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `export`."""
    add = parser.add_argument
    add("kind", choices=["web"], help="web: a page that classifies in the browser, without a server")
    add("folder", metavar="FOLDER", help="a new folder")
    add("--model", default="", help=chosen.MODEL_HELP)
    add("--root", default="runs", help="folder of the runs (default: runs)")
    add("--name", default="museum-classifier", help="what the page calls it (default: %(default)s)")
    runtime = "folder with the archives of LiteRT.js that `npm pack` wrote (default: npm fetches them)"
    add("--runtime", default="", metavar="DIR", help=runtime)


def main(options: argparse.Namespace) -> int:
    """Writes the folder and says how to look at it."""
    from cli.predict import without_information
    from components.server.export import export

    model, accuracy = chosen.model(options), chosen.test_accuracy(options)
    with without_information():
        done = export(model, options.folder, options.name, accuracy, options.runtime)
    model_size, runtime_size, total = (f"{size / 1e6:.1f} MB" for size in (done.model, done.runtime, done.total))
    print(f"{options.folder}: {total}, of which the model {model_size} and LiteRT.js {runtime_size}")
    print(f"to try it: python -m http.server --directory {options.folder}, then open http://localhost:8000")
    return 0
