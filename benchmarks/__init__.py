"""Started as `python -m benchmarks.NAME`: whatever one puts into the temporary folder is gone at its end."""

import atexit
import os
import shutil
import sys
import tempfile

# While the package is imported for `-m`; not where a test imports it, nor in the processes that a benchmark starts.
if sys.argv[:1] == ["-m"] and "BENCHMARK_SCRATCH" not in os.environ:
    # TensorFlow writes a file per traced function there, and a worker that is killed leaves its own.
    os.environ["BENCHMARK_SCRATCH"] = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="benchmarks-")
    tempfile.tempdir = None
    atexit.register(shutil.rmtree, os.environ["TMPDIR"], ignore_errors=True)
