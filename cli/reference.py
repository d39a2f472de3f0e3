"""Writes docs/parameters.md: `python -m cli.reference`."""

from pathlib import Path

import pipeline
from cli import parameters
from cli.target import DROP_DOWNS, allowed_values

PAGE = Path(__file__).resolve().parent.parent / "docs" / "parameters.md"


def text() -> str:
    """The page as the docstring of the pipeline has it now."""
    declared = parameters.declared(pipeline.pipeline.pipeline_func)
    return parameters.reference(declared, {name: allowed_values(name) for name in DROP_DOWNS})


if __name__ == "__main__":
    PAGE.write_text(text())
    print(PAGE)
