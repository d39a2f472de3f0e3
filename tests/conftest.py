"""How the tests are spread over processes."""

import os

# They take a minute and more each. What starts last must be short, or one process works alone in the end.
LONGEST = (
    "tests/test_sources_run.py",
    "tests/test_first_steps.py",
    "tests/test_local_run.py",
    "tests/train/worker/test_export.py",
    "tests/train/worker/test_fine_tuning.py",
    "tests/test_louvre_run.py",
    "tests/train/launcher/test_launch_workers.py",
    "tests/test_recovery.py",
    "tests/test_store_runs.py",
    "tests/serve/test_rollout.py",
    "tests/train/worker/test_replicas.py",
    "tests/fetch/test_resume.py",
    "tests/serve/test_rollout_failures.py",
)


def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: a third of the time is waiting, for servers, deadlines and processes that start."""
    return min(4, len(os.sched_getaffinity(0)) + 1)


def pytest_collection_modifyitems(items: list) -> None:
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))
