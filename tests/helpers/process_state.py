"""What belongs to the whole process and not to a test: compared before and after each one."""

import asyncio
import locale
import logging
import os
import re
import signal
import sys
from pathlib import Path
from types import ModuleType

_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1]
_OURS = ("components", "cli", "pipeline", "containers", "manifests")
# pytest's own; what TensorFlow and what it imports set when they are imported for the first time.
_NOT_COMPARED = re.compile(r"PYTEST_CURRENT_TEST|ENABLE_RUNTIME_UPTIME_TELEMETRY|HDF5_PLUGIN_PATH|(KMP|TF2?|TPU)_\w+")


def process_state() -> dict[str, object]:
    """Name -> value; two states of a process that nothing has changed in between compare equal in `differences`."""
    state: dict[str, object] = {"working directory": os.getcwd(), "sys.path": tuple(sys.path), "umask": _umask()}
    compared = {name: value for name, value in os.environ.items() if not _NOT_COMPARED.fullmatch(name)}
    state |= {f"environment variable {name}": value for name, value in compared.items()}
    state |= {f"handler of {number.name}": signal.getsignal(number) for number in _SIGNALS}
    state |= {"locale": locale.setlocale(locale.LC_ALL), "event loop": _event_loop()}
    state |= {"logging": (logging.root.level, logging.root.manager.disable, tuple(logging.root.handlers))}
    keras = sys.modules.get("keras")
    state["Keras's precision"] = keras.config.dtype_policy().name if hasattr(keras, "config") else "float32"
    return state | _globals_of_our_modules()


def differences(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """One line per value that is another one; modules that were imported in between are no difference."""
    absent = object()
    known = {name.rpartition(".")[0] for name in before if name.startswith("global ")}
    found = []
    for name in before.keys() | after.keys():
        old, new = before.get(name, absent), after.get(name, absent)
        same = old is new or (not name.startswith("global ") and old == new)
        if not same and not (name.startswith("global ") and name.rpartition(".")[0] not in known):
            found.append(f"{name}: {_shown(old, absent)} before, {_shown(new, absent)} after")
    return sorted(found)


def _globals_of_our_modules() -> dict[str, object]:
    return {
        f"global {name}.{key}": value
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in _OURS
        for key, value in list(vars(module).items())
        if not isinstance(value, ModuleType) and not key.startswith("__")
    }


def _umask() -> str:
    """Read and not set: setting it to read it would be seen by other threads. Empty where there is no /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("Umask:")), "")


def _event_loop() -> object:
    """What asyncio.set_event_loop has set for this thread, without making one."""
    policy = getattr(asyncio.events, "_event_loop_policy", None)
    return getattr(getattr(policy, "_local", None), "_loop", None)


def _shown(value: object, absent: object) -> str:
    return "absent" if value is absent else f"{value!r:.100}"
