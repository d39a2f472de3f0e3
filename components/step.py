"""Runs a component as a step: python3 -m components.step MODULE --function_to_execute NAME --executor_input JSON

The compiled YAML names this in place of the component's source, which `kfp` puts into the command: the Workflow's
status has each command eight times, and a Workflow that outgrows 1 MiB is lost to Kubeflow Pipelines.
"""

import os
import sys
from importlib.util import find_spec


def main() -> None:
    """Runs the component with kfp's own executor."""
    os.environ["_KFP_RUNTIME"] = "true"  # kfp without its compiler, which takes a second to import
    from kfp import dsl
    from kfp.dsl.executor_main import executor_main

    dsl.component = lambda **_: lambda function: function  # the decorator is the compiler's
    sys.argv[1:2] = ["--component_module_path", find_spec(sys.argv[1]).origin]
    executor_main()


if __name__ == "__main__":
    main()
