"""A KFP step's container as far as signals go: python -m tests.fakes.step_container COMMAND...

Argo's emissary is process 1. It starts KFP's launcher in a process group of its own, sends that group each signal that
comes, and looks once per second whether the launcher is gone. The launcher starts the step's command, handles no signal
and dies of SIGTERM at once. When process 1 ends, the kernel kills all that is left.
"""

import os
import signal
import subprocess
import sys
import time

_LAUNCHER = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"


def main() -> int:
    launcher = subprocess.Popen([sys.executable, "-c", _LAUNCHER, *sys.argv[1:]], start_new_session=True)
    signal.signal(signal.SIGTERM, lambda number, frame: os.killpg(launcher.pid, number))
    while launcher.poll() is None:
        time.sleep(1)
    try:
        os.killpg(launcher.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return launcher.returncode if launcher.returncode >= 0 else 128 - launcher.returncode


if __name__ == "__main__":
    sys.exit(main())
