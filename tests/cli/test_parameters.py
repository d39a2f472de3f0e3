import pytest

from cli import parameters
from components.shared.errors import PipelineError


def pipeline(
    data_source: str = "sample",
    data_keywords: str = "",
    split_fold: int = 0,
    split_folds: int = 0,
    train_epochs: int = 5,
    train_fine_tune_epochs: int = 0,
    train_learning_rate: float = 0.1,
    serve_enabled: bool = True,
    seed: int = 1,
):
    """A pipeline.

    Args:
        train_epochs: Passes over the training split.
        serve_enabled: Deploy the model.
    """


DECLARED = parameters.declared(pipeline)


DEFAULTS = {name: parameter.default for name, parameter in DECLARED.items()}


def test_declared_takes_type_default_and_help_from_the_function():
    assert list(DECLARED)[:3] == ["data_source", "data_keywords", "split_fold"] and len(DECLARED) == 9
    assert DECLARED["train_epochs"] == parameters.Parameter("train_epochs", int, 5, "Passes over the training split.")
    assert DECLARED["train_learning_rate"].help == ""


def test_values_are_converted_and_the_rest_keeps_its_default():
    values = parameters.parse(["train_epochs=7", "learning_rate=1e-3", "enabled=False"], DECLARED)
    assert values == {**DEFAULTS, "train_epochs": 7, "train_learning_rate": 1e-3, "serve_enabled": False}


def test_a_value_may_hold_an_equals_sign():
    assert parameters.parse(["source=a=b"], DECLARED)["data_source"] == "a=b"


def test_flickr_words_may_stand_behind_the_source():
    values = parameters.parse(["source=flickr:monkey,wild boar"], DECLARED)
    assert (values["data_source"], values["data_keywords"]) == ("flickr", "monkey,wild boar")


@pytest.mark.parametrize(
    "name, meant",
    [
        ("train_epochs", "train_epochs"),
        ("epochs", "train_epochs"),  # also the end of train_fine_tune_epochs, whose name without its group is longer
        ("fine_tune_epochs", "train_fine_tune_epochs"),
        ("tune_epochs", "train_fine_tune_epochs"),
        ("rate", "train_learning_rate"),
        ("fold", "split_fold"),
        ("seed", "seed"),
    ],
)
def test_a_name_may_lack_its_group_or_be_an_ending(name, meant):
    assert parameters.resolve(name, DECLARED) == meant


def test_an_ending_of_several_names_lists_them():
    with pytest.raises(PipelineError, match="^rate could be a_rate or b_rate: write the whole name$"):
        parameters.resolve("rate", ["a_rate", "b_rate", "a_rates"])


def test_a_run_of_another_version_is_not_resumed():
    with pytest.raises(PipelineError, match="parameters of another version .epochs.: start a new one"):
        parameters.parse([], DECLARED, {"epochs": 3})


@pytest.mark.parametrize(
    "assignment, words",
    [
        ("epoch=3", "there is no parameter 'epoch': did you mean train_epochs?"),
        ("epochs=many", "epochs must be a whole number, not 'many'"),
        ("epochs=1.5", "epochs must be a whole number, not '1.5'"),
        ("learning_rate=fast", "learning_rate must be a number, not 'fast'"),
        ("serve_enabled=1", "serve_enabled must be true or false, not '1'"),
        ("epochs", "'epochs' is not NAME=VALUE"),
    ],
)
def test_bad_assignments_say_what_is_wrong(assignment, words):
    with pytest.raises(PipelineError, match=words.replace("?", r"\?")):
        parameters.parse([assignment], DECLARED)


@pytest.mark.parametrize(
    "name, hint",
    [("serve", "serve_enabled?"), ("tune", "train_fine_tune_epochs?"), ("xyz", "--help lists them")],
)
def test_an_unknown_name_says_which_could_be_meant(name, hint):
    with pytest.raises(PipelineError, match=f"there is no parameter '{name}': .*{hint.replace('?', '[?]')}$"):
        parameters.parse([f"{name}=3"], DECLARED)
