"""Which model is the champion: a path or a URI, or whatever a service of the cluster serves at this moment."""

from components.artifacts.served import PREFIX, in_service_named
from components.evaluate.settings import check_passed


def resolve(champion: str) -> str:
    """The path or URI of the champion's folder; "" if there is none to beat.

    Args:
        champion: "", a path or URI, or `service:NAME` for the model that NAME now serves: none before the first one
            was deployed, so that a recurring run needs no other parameter the first time.

    Raises:
        PipelineError: NAME is no service of this project, or it cannot be looked up; or the evaluation refused the
            champion, so that whatever is better than it may still be worse than all that passed.
    """
    if not champion.startswith(PREFIX):
        check_passed(champion)
        return champion
    return in_service_named(champion)
