"""The compiled graph: its edges, images, parameters."""

import inspect
import re

import pytest
from google.protobuf.json_format import MessageToJson
from kfp import compiler, components

import pipeline
from cli import parameters, reference
from cli.main import main
from components.container_images import image
from components.train.launcher.resources import Resources

PARAMETERS = parameters.declared(pipeline.pipeline.pipeline_func)
NAMED_IN_THE_ISSUE = (
    "data_source data_table data_images_table data_image_base label data_where label_min_images_per_class "
    "label_max_classes label_max_images_per_class fetch_shards fetch_image_size split_validation_fraction "
    "split_test_fraction train_model train_weights train_epochs train_batch_size train_learning_rate "
    "train_augmentation train_workers train_accelerator train_gpus eval_min_accuracy serve_enabled seed"
).split()


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compiler.Compiler().compile(pipeline.pipeline, str(path))
    return components.load_component_from_file(str(path)).pipeline_spec


def edges(dag) -> set[tuple[str, str]]:
    """(producer, consumer) for every task of the dag that takes another's output, whatever the way."""
    found = {(before, name) for name, task in dag.tasks.items() for before in task.dependent_tasks}
    return found | {
        (source.producer_task, name)
        for name, task in dag.tasks.items()
        for kind, inputs in (
            ("task_output_parameter", task.inputs.parameters),
            ("task_output_artifact", task.inputs.artifacts),
        )
        for source in (getattr(value, kind) for value in inputs.values())
        if source.producer_task
    }


def test_edges(spec):
    assert edges(spec.root.dag) == {
        ("probe", "query"),
        ("probe", "train"),  # what the model's weights are, for the cache
        ("query", "for-loop-1"),
        ("query", "assemble"),
        ("for-loop-1", "assemble"),
        ("assemble", "train"),
        ("assemble", "tensorboard"),
        ("tensorboard", "train"),
        ("assemble", "evaluate"),
        ("train", "evaluate"),
        ("assemble", "condition-2"),
        ("evaluate", "condition-2"),
    }
    assert set(spec.components["comp-for-loop-1"].dag.tasks) == {"fetch"}
    assert set(spec.components["comp-condition-2"].dag.tasks) == {"serve"}


def test_the_model_is_served_only_if_wanted_and_passed(spec):
    assert "evaluate-Output" in spec.root.dag.tasks["condition-2"].trigger_policy.condition
    inputs = spec.root.dag.tasks["evaluate"].inputs.parameters
    assert inputs["serve"].component_input_parameter == "serve_enabled"


def test_images(spec):
    executors = spec.deployment_spec["executors"]
    images = {name.removeprefix("exec-"): executor["container"]["image"] for name, executor in executors.items()}
    assert images == {
        **dict.fromkeys(["probe", "query", "fetch", "assemble", "tensorboard", "serve"], image("data")),
        **dict.fromkeys(["train", "evaluate"], image("train")),
    }


def test_nothing_is_installed_at_run_time(spec):
    for executor in spec.deployment_spec["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_only_steps_that_need_the_bytes_take_large_artifacts(spec):
    takers = {
        name.removeprefix("comp-"): set(component.input_definitions.artifacts)
        for name, component in spec.components.items()
        if component.executor_label
    }
    for stage in ("fetch", "assemble", "train", "evaluate"):
        assert not takers[stage] & {"images", "records"}


def test_no_two_artifacts_of_the_graph_have_one_name(spec):
    """The run's page and the comparison of runs show nothing else of them."""
    names = [
        name
        for component in spec.components.values()
        if component.executor_label
        for name in component.output_definitions.artifacts
    ]
    assert len(names) == len(set(names)), sorted(names)


def test_parameters_are_those_of_the_form(spec):
    declared = spec.root.input_definitions.parameters
    assert set(NAMED_IN_THE_ISSUE) <= set(declared) == set(PARAMETERS)
    for name, parameter in declared.items():
        assert parameter.description, f"{name} has no line in the docstring"
        assert parameter.HasField("default_value"), f"{name} has no default"


def test_every_name_begins_with_its_group():
    """The form of the Kubeflow UI sorts the fields by name and shows nothing else."""
    groups = [name.partition("_")[0] for name in PARAMETERS]
    assert list(dict.fromkeys(groups)) == list(parameters.GROUPS) and sorted(set(groups)) == sorted(parameters.GROUPS)
    for name in PARAMETERS:
        assert parameters.resolve(parameters.short_name(name), PARAMETERS) == name


def test_every_help_line_is_complete_in_itself():
    for parameter in PARAMETERS.values():
        assert parameter.help.endswith(".") and not parameter.help.startswith("."), parameter.name


def test_parameters_md_is_that_of_the_docstring():
    assert reference.PAGE.read_text() == reference.text(), "run: python -m cli.reference"


def test_every_parameter_reaches_a_step(spec):
    used = set()
    for dag in [spec.root.dag, *(part.dag for part in spec.components.values() if part.HasField("dag"))]:
        for task in dag.tasks.values():
            used |= {value.component_input_parameter for value in task.inputs.parameters.values()}
            used |= set(re.findall(r"pipelinechannel--(\w+)", task.trigger_policy.condition))
    # The names of Secrets reach the pods by the platform's part of the YAML.
    used |= set(re.findall(r'"componentInputParameter": "([\w-]+)"', MessageToJson(pipeline.pipeline.platform_spec)))
    used = {name.removeprefix("pipelinechannel--") for name in used}
    # What the train step reads in its run, since inputs would be in its cache key.
    used |= {"train_max_restarts", *Resources.__annotations__}
    assert not set(PARAMETERS) - used


def test_parameters_have_plain_types():
    for parameter in PARAMETERS.values():
        assert parameter.type in (str, int, float, bool)
        assert isinstance(parameter.default, parameter.type)


def test_a_changed_source_is_no_cache_hit(spec):
    """KFP's key holds a step's parameters: what the source's state is, asked anew in every run, is one of query's."""
    tasks = spec.root.dag.tasks
    assert not tasks["probe"].caching_options.enable_cache and tasks["query"].caching_options.enable_cache
    source = tasks["query"].inputs.parameters["state"].task_output_parameter
    assert (source.producer_task, source.output_parameter_key) == ("probe", "Output")


def test_serving_is_never_cached(spec):
    tasks = spec.components["comp-condition-2"].dag.tasks
    assert not tasks["serve"].caching_options.enable_cache
    assert spec.root.dag.tasks["train"].caching_options.enable_cache


@pytest.mark.parametrize(
    "assignment, words",
    [
        ("modle=resnet50", "did you mean train_model"),
        ("epochs=ten", "epochs must be a whole number"),
        ("augmentation=wild", "none, light, strong"),
        ("source=louvre", "bigquery"),
    ],
)
def test_a_bad_parameter_fails_before_any_work(tmp_path, capsys, assignment, words):
    assert main(["run", "--root", str(tmp_path / "runs"), assignment]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


COMMANDS = ["run", "compile", "submit", "attributes", "inspect", "predict", "serve", "tensorboard", "drift"]
COMMANDS += ["doctor", "status", "rollback", "undeploy"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert command in capsys.readouterr().out


def test_options_and_assignments_may_be_mixed(tmp_path, capsys):
    line = ["run", "epochs=1", "--root", str(tmp_path / "runs"), "min_accuracy=7"]
    assert main(line) == 2
    assert "min_accuracy" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*line, "--unknown"])
    assert "unrecognized arguments: --unknown" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "tensorboard"])
@pytest.mark.parametrize("port", ["99999", "0", "http"])
def test_a_port_that_is_none(command, port, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--port", port])
    assert ended.value.code == 2 and f"{port} is no port: 1 to 65535" in capsys.readouterr().err


def test_the_pipelines_function_says_what_each_parameter_is():
    documented = inspect.getdoc(pipeline.pipeline.pipeline_func)
    assert documented.startswith("From a museum collection to a served image classifier.")
