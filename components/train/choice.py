"""Parameters that allow some values and no others."""

import difflib

from components.shared.errors import PipelineError


class SettingsError(PipelineError):
    """A value that a parameter does not allow; the message names the allowed ones."""


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises SettingsError that names the allowed values, and the nearest one, unless `value` is among them."""
    if value in allowed:
        return
    near = difflib.get_close_matches(value, allowed, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise SettingsError(f"{name}={value} is not known{hint}; it must be one of: {', '.join(allowed)}")
