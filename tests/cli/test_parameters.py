import pytest

from cli import parameters
from components.shared.errors import PipelineError


def pipeline(
    epochs: int = 5, learning_rate: float = 0.1, serve: bool = True, source: str = "sample", keywords: str = ""
):
    """A pipeline.

    Args:
        epochs: Passes over the training split.
        serve: Deploy the model.
    """


DECLARED = parameters.declared(pipeline)


def test_declared_takes_type_default_and_help_from_the_function():
    assert list(DECLARED) == ["epochs", "learning_rate", "serve", "source", "keywords"]
    assert DECLARED["epochs"] == parameters.Parameter("epochs", int, 5, "Passes over the training split.")
    assert DECLARED["learning_rate"].help == ""


def test_values_are_converted_and_the_rest_keeps_its_default():
    values = parameters.parse(["epochs=7", "learning_rate=1e-3", "serve=False"], DECLARED)
    assert values == {"epochs": 7, "learning_rate": 1e-3, "serve": False, "source": "sample", "keywords": ""}


def test_a_value_may_hold_an_equals_sign():
    assert parameters.parse(["source=a=b"], DECLARED)["source"] == "a=b"


def test_flickr_words_may_stand_behind_the_source():
    values = parameters.parse(["source=flickr:monkey,wild boar"], DECLARED)
    assert (values["source"], values["keywords"]) == ("flickr", "monkey,wild boar")


@pytest.mark.parametrize(
    "assignment, words",
    [
        ("epoch=3", "there is no parameter 'epoch'; did you mean epochs?"),
        ("epochs=many", "epochs must be a whole number, not 'many'"),
        ("epochs=1.5", "epochs must be a whole number, not '1.5'"),
        ("learning_rate=fast", "learning_rate must be a number, not 'fast'"),
        ("serve=1", "serve must be true or false, not '1'"),
        ("epochs", "'epochs' is not NAME=VALUE"),
    ],
)
def test_bad_assignments_say_what_is_wrong(assignment, words):
    with pytest.raises(PipelineError, match=words.replace("?", r"\?")):
        parameters.parse([assignment], DECLARED)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(PipelineError, match="Known: epochs, learning_rate, serve, source, keywords"):
        parameters.parse(["xyz=3"], DECLARED)
