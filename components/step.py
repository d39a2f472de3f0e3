"""Runs a component as a step: python3 -m components.step MODULE --function_to_execute NAME --executor_input JSON

The compiled YAML names this in place of the component's source, which `kfp` puts into the command: the Workflow's
status has each command eight times, and a Workflow that outgrows 1 MiB is lost to Kubeflow Pipelines.
"""

import os
import sys
import time
from importlib.util import find_spec

from components.shared.errors import MayPass

# Seconds before each further attempt at a step whose fault may pass. Argo retries failed pods on some clusters only,
# see docs/cluster.md.
PAUSES = (30, 60, 120, 240)


def main() -> None:
    """Runs the component with kfp's own executor; again, in the same pod, where its fault may pass."""
    os.environ["_KFP_RUNTIME"] = "true"  # kfp without its compiler, which takes a second to import
    from kfp import dsl
    from kfp.dsl.executor_main import executor_main

    dsl.component = lambda **_: lambda function: function  # the decorator is the compiler's
    module = find_spec(sys.argv[1])
    if module is None or module.origin is None:
        raise ModuleNotFoundError(f"this image has no {sys.argv[1]}")
    sys.argv[1:2] = ["--component_module_path", module.origin]
    for pause in PAUSES:
        try:
            return executor_main()
        except MayPass:
            print(f"this may pass: trying again in {pause} s", flush=True)
            time.sleep(pause)
    executor_main()


if __name__ == "__main__":
    main()
