"""The commands of pipeline.py."""

import argparse
import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from cli import chosen, parameters
from components.shared.display import one_line
from components.shared.errors import PipelineError

# What the user can mend: a folder that is not there or not theirs, a full disk.
_EXPECTED = (
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT,
)  # fmt: skip

# Those of components.server.choice, which is not imported here: it needs more than kfp.
ENGINES = ("auto", "litert", "openvino", "savedmodel")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that has no letter for something gets "?" and no traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = _parse(arguments)
    try:
        return options.command(options)
    except PipelineError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", "cli", "components", "pipeline"):
            raise
        absent = isinstance(error, ModuleNotFoundError)
        what = f"{name} is not installed here" if absent else f"{name} cannot be loaded here ({error})"
        return _failed(f"{what}: make run, or pip install --editable '.[local]'")
    except OSError as error:
        if error.errno not in _EXPECTED or not error.filename:
            raise
        return _failed(f"{error.filename}: {error.strerror}")


def _failed(message: str) -> int:
    print(f"error: {one_line(message)}", file=sys.stderr)
    return 2


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """argparse ends NAME=VALUE at the first option: those that follow one are taken as well."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    unknown = [text for text in rest if text.startswith("-") or not hasattr(options, "assignments")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        options.assignments = [*options.assignments, *rest]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pipeline.py", description="From a museum collection to a served image classifier."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_run, _add_compile, _add_submit, _add_attributes, _add_inspect, _add_predict, _add_annotate,
                _add_similar, _add_review, _add_serve, _add_tensorboard, _add_drift, _add_simple, _add_status,
                _add_rollback, _add_undeploy):  # fmt: skip
        add(commands)
    return parser


def _add(commands, name: str, command, summary: str, with_parameters: bool = False) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_parameter_help() if with_parameters and {"-h", "--help"} & set(sys.argv) else None,
    )
    parser.set_defaults(command=command, name_of_command=name)
    if with_parameters:
        parser.add_argument("assignments", nargs="*", metavar="NAME=VALUE", help="a pipeline parameter, see below")
    return parser


def _add_run(commands) -> None:
    parser = _add(commands, "run", _run, "run the whole pipeline on this machine", with_parameters=True)
    parser.add_argument("--root", default="runs", help="folder, or s3:// or gs:// URI, for the runs (default: runs)")
    parser.add_argument("--name", default="", help="name of the run's folder (default: date and time)")
    resume = "continue the last run that did not succeed, or --name, with its parameters and those given"
    parser.add_argument("--resume", action="store_true", help=resume)


def _add_compile(commands) -> None:
    from cli import compile as command

    def compile_(options) -> int:
        given = options.assignments
        return command.main(options, _arguments(given, on_cluster=True, graph=options.pipeline) if given else {})

    summary = "compile the pipeline to the YAML that the Kubeflow UI takes; NAME=VALUE fills its run form"
    command.add_options(_add(commands, "compile", compile_, summary, with_parameters=True))


def _add_submit(commands) -> None:
    from cli import submit as command

    def submit(options) -> int:
        return command.main(options, _arguments(options.assignments, on_cluster=True))

    parser = _add(commands, "submit", submit, "create a run on a KFP API server", with_parameters=True)
    command.add_options(parser)


def _add_attributes(commands) -> None:
    _add(commands, "attributes", _attributes, "show what could be learned from a collection", with_parameters=True)


def _add_inspect(commands) -> None:
    parser = _add(commands, "inspect", _inspect, "show a data set, or one of its examples")
    last = "dataset.json or its folder (default: of the last run that has one)"
    parser.add_argument("dataset", nargs="?", default="", metavar="DATASET_JSON", help=last)
    parser.add_argument("--root", default="runs", help="folder of the runs (default: runs)")
    parser.add_argument("--object", default=None, metavar="ID", help="show the example of this object")
    parser.add_argument("--verify", action="store_true", help="read every record file again and check every checksum")
    parser.add_argument("--export", default=None, metavar="DIR", help="write the examples for TensorFlow Datasets")


def _add_predict(commands) -> None:
    _add_images(_add(commands, "predict", _predict, "classify pictures"), "labels")


def _add_similar(commands) -> None:
    summary = "show the works of the collection that are most like a picture"
    _add_images(_add(commands, "similar", _similar, summary), "works")


def _add_images(parser: argparse.ArgumentParser, answers: str) -> None:
    images = "a picture: path, URL, - for standard input; or a folder, or a pattern such as 'pictures/*.jpg'"
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_URL", help=images)
    parser.add_argument("--model", default="", help=chosen.MODEL_HELP)
    parser.add_argument("--root", default="runs", help="folder of the runs (default: runs)")
    parser.add_argument("--top", type=int, default=5, help=f"{answers} to show (default: 5)")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    unsure = (
        "say one label or none: the labels that cannot be excluded hold the truth with this probability, such as 0.9"
    )
    parser.add_argument("--coverage", type=float, default=None, help=unsure)


def _add_review(commands) -> None:
    from cli import review as command

    summary = "open what a run asks a person: suspected wrong labels, worst mistakes"
    command.add_options(
        _add(commands, "review", lambda options: command.main(chosen.local(options.root), options), summary)
    )


def _add_annotate(commands) -> None:
    from cli import annotate as command

    summary = "suggest labels for the objects that have none; NAME=VALUE as in run, by default those of the model's run"
    parser = _add(commands, "annotate", _annotate, summary, with_parameters=True)
    parser.add_argument("--model", default="", help=chosen.MODEL_HELP + "; or service:NAME")
    parser.add_argument("--root", default="runs", help="folder of the runs (default: runs)")
    command.add_options(parser)


def _add_serve(commands) -> None:
    parser = _add(commands, "serve", _serve, "serve a model on this machine: a page and a REST API")
    parser.add_argument("--model", default="", help=chosen.MODEL_HELP)
    parser.add_argument("--root", default="runs", help="folder of the runs (default: runs)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, default=8080, help="port to listen on (default: 8080)")
    parser.add_argument(
        "--name", default="museum-classifier", help="name of the model in the API (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes with an engine each (default: one per core)")
    parser.add_argument("--engine", default="auto", choices=ENGINES, help="what runs the model (default: %(default)s)")
    share = "how often the labels that the page names as possible hold the truth (default: 0.9)"
    parser.add_argument("--coverage", type=float, default=0.9, help=share)
    parser.add_argument("--no-urls", action="store_true", help="do not fetch pictures by URL")
    parser.add_argument("--public-key", default="", metavar="FILE", help="refuse a model that its owner did not sign")
    parser.add_argument("--corrections", default="", metavar="FOLDER_OR_URI", help="save visitors' corrections (off)")


def _add_tensorboard(commands) -> None:
    parser = _add(commands, "tensorboard", _tensorboard, "show the curves of a run, also while it trains")
    parser.add_argument("--root", default="runs", help="folder of the runs (default: runs)")
    parser.add_argument("--name", default="", help="name of the run (default: the last one, also while it trains)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, default=6006, help="port to listen on (default: 6006)")


def _add_drift(commands) -> None:
    parser = _add(commands, "drift", _drift, "compare what a service sees with what its model was tested on")
    parser.add_argument(
        "--service", required=True, nargs="+", metavar="URL", help="base URL of the service, or of each of its pods"
    )
    parser.add_argument(
        "--reference",
        default="",
        metavar="DIR_OR_URI",
        help="the evaluation's predictions (default: of the last run whose model passed)",
    )
    parser.add_argument("--root", default="runs", help="folder of the runs (default: runs)")


def _add_status(commands) -> None:
    summary = "show what is in service on a cluster, since when, by which run, and what can be rolled back to"
    _choose_cluster(_add(commands, "status", _services, summary))


def _add_rollback(commands) -> None:
    summary = "put the previous version of a service on a cluster back, or end its canary"
    parser = _add(commands, "rollback", _services, summary)
    parser.add_argument("service", metavar="SERVICE", help="name of the service: the pipeline parameter serve_name")
    parser.add_argument("--to", default="", metavar="VERSION", help="one that status names (default: the previous)")
    parser.add_argument("--seconds", type=float, default=300, help="give up if it is not ready then (%(default)g)")
    _choose_cluster(parser)


def _add_undeploy(commands) -> None:
    parser = _add(commands, "undeploy", _services, "take a service on a cluster down, with all its versions")
    parser.add_argument("service", metavar="SERVICE", help="name of the service: the pipeline parameter serve_name")
    _choose_cluster(parser)


def _add_simple(commands) -> None:
    """Those whose module has all of it: the options, if any, and main."""
    from cli import backbones, doctor, export, gc, museums, run_list, sign

    _add(commands, "museums", museums.main, "list the collections that have a name: source=NAME")
    backbones.add_options(
        _add(commands, "backbones", backbones.show, "list what model=NAME can be, or show one backbone"),
        _add(commands, "fetch-weights", backbones.fetch_weights, backbones.FETCH_SUMMARY),
    )
    signing = _add(commands, "sign", sign.main, "sign a model with a key, for servers that have its public half")
    sign.add_options(signing)
    exporting = _add(
        commands, "export", export.main, "write a page that classifies in the browser, for any static host"
    )
    export.add_options(exporting)
    listed = _add(commands, "runs", run_list.main, "list the runs of this machine, or remove some")
    run_list.add_options(listed)
    for name, command, summary in (
        ("gc", gc, "show what runs have left below any root, and remove what nobody needs"),
        ("doctor", doctor, "look at a cluster before the first run: what is ready, what to do"),
    ):
        parser = _add(commands, name, command.main, summary)
        command.add_options(parser)
        _choose_cluster(parser)


def _choose_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--namespace", default="", help="where it is (default: that of the kubeconfig's context)")
    parser.add_argument("--kubeconfig", default="", metavar="FILE", help="default: $KUBECONFIG, then ~/.kube/config")
    parser.add_argument("--context", default="", help="context of the kubeconfig (default: its current one)")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text} is no port: 1 to 65535")
    return int(text)


def _run(options) -> int:
    from rich.console import Console

    from cli import local_run, preflight, resume, runs
    from components.shared.storage import storage

    store = "" if storage.local_path(options.root) is not None else options.root
    root = chosen.local(options.root)
    if options.resume:
        run = runs.unfinished(root, options.name)
        values = _arguments(options.assignments, run.summary["parameters"])
        preflight.check(values)
        resume.change(run, values)
    else:
        values = _arguments(options.assignments)
        preflight.check(values)
        run = runs.create(root, options.name, values, store)
    return local_run.run(run, Console())


def _attributes(options) -> int:
    from cli import wiring
    from components.query import attributes, selection

    values = wiring.arguments("query", _arguments(options.assignments))
    attributes.show(
        selection.Settings(**{name: values[name] for name in selection.Settings.__annotations__ if name in values})
    )
    return 0


def _inspect(options) -> int:
    from cli import local_run, runs
    from components.assemble import inspection

    place = local_run.LOCATIONS["dataset"]
    dataset = options.dataset or str(runs.newest_with(chosen.local(options.root), place).artifacts / place)
    return inspection.inspect(dataset, options.object, options.verify, options.export)


def _predict(options) -> int:
    from cli import predict

    return predict.predict(chosen.model(options), options.images, options.top, options.json, options.coverage)


def _similar(options) -> int:
    from cli import similar

    return similar.similar(chosen.model(options), options.images, options.top, options.json)


def _annotate(options) -> int:
    from cli import annotate, runs
    from components.annotate.settings import Settings

    Settings(options.model or "latest", options.coverage)  # before anything is asked of a model
    base = None if options.model else runs.latest(chosen.local(options.root)).summary["parameters"]
    values = _arguments(options.assignments, base)
    model = options.model if options.model.startswith("service:") else chosen.model(options)
    return annotate.annotate(model, values, options.output, options.take, options.coverage)


def _serve(options) -> int:
    from cli import needs

    model = chosen.model(options)
    needs.hold_serving(model)
    address = ["--host", options.host, "--port", str(options.port)]
    others = ["--name", options.name, "--workers", str(options.workers), "--engine", options.engine]
    others += ["--coverage", str(options.coverage)]
    others += [*chosen.tested(options), *["--no-urls"] * options.no_urls, "--corrections", options.corrections]
    others += ["--public-key", options.public_key] if options.public_key else []
    return _become("components.server", ["--model", model, *address, *others])


def _tensorboard(options) -> int:
    from cli import local_run, runs

    root = chosen.local(options.root)
    place = local_run.LOCATIONS["tensorboard"]
    run = runs.open_run(root / options.name) if options.name else runs.newest_with(root, place)
    logs = run.artifacts / place
    return _become("tensorboard.main", ["--logdir", str(logs), "--host", options.host, "--port", str(options.port)])


def _drift(options) -> int:
    from cli import runs
    from components.evaluate import drift

    reference = options.reference or runs.latest(chosen.local(options.root)).summary["artifacts"]["predictions"]
    report = drift.check(options.service, reference)
    if report.refused:
        chosen.note(f"the evaluation refused the model of {reference}: {report.refused}")
    print(report)
    return int(bool(report.due))


def _services(options) -> int:
    from cli import services

    return getattr(services, options.name_of_command)(options)


def _arguments(
    assignments: Sequence[str],
    base: dict[str, Any] | None = None,
    on_cluster: bool = False,
    graph: str = "run",
) -> dict[str, Any]:
    """`base` (else the defaults) with the given parameters in place, checked as far as that needs no work."""
    from cli.compile import GRAPHS
    from components import checks, step_resources

    function = importlib.import_module(GRAPHS[graph]).pipeline.pipeline_func
    values = parameters.parse(assignments, parameters.declared(function), base)
    if graph == "run":
        checks.check(values, on_cluster)
    else:
        checks.check_annotation(values, on_cluster)
    step_resources.Settings(**checks.arguments(step_resources.Settings, values))
    return values


def _become(module: str, arguments: list[str]) -> int:
    # exec, so that signals and the exit status are the server's own.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def _parameter_help() -> str:
    import pipeline

    heading = "pipeline parameters, NAME=VALUE; what stands in [] may be left out of a name:"
    return "\n".join([heading, *parameters.help_lines(parameters.declared(pipeline.pipeline.pipeline_func))])
