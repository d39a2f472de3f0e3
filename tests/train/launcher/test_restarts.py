import pytest

from components.shared.errors import PipelineError
from components.train.launcher.restarts import Failure, run_with_restarts

LOST = Failure("worker 1", "was killed", 137, ("step 5",))


def attempts(*outcomes):
    """An attempt that ends as told, and the generations that it was called with."""
    called, rest = [], list(outcomes)

    def attempt(generation):
        called.append(generation)
        return rest.pop(0)

    return attempt, called


def test_restarts_are_counted():
    attempt, called = attempts(LOST, LOST, None)
    assert run_with_restarts(attempt, max_restarts=3) == 2
    assert called == [0, 1, 2]


def test_a_retried_step_has_restarts_of_its_own_after_the_generations_of_its_earlier_try():
    attempt, called = attempts(LOST, None)
    assert run_with_restarts(attempt, max_restarts=1, first=4) == 1
    assert called == [4, 5]


def test_when_they_are_used_up_the_last_line_is_told():
    attempt, called = attempts(LOST, LOST)
    message = "worker 1 was killed and max_restarts=1 is used up; its last line: 'step 5'"
    with pytest.raises(PipelineError, match=message):
        run_with_restarts(attempt, max_restarts=1)
    assert called == [0, 1]


def test_a_mistake_is_not_tried_again():
    attempt, called = attempts(Failure("worker 0", "failed", 1, ("error: batch_size is too large",)))
    with pytest.raises(PipelineError, match="^batch_size is too large$"):
        run_with_restarts(attempt, max_restarts=3)
    assert called == [0]
