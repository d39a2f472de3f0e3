"""The zoo: one entry a model. Inputs are raw pixels 0..255; each model's own preprocessing is inside it."""

NAMES = (
    "simple_cnn",
    "mobilenet",
)


def check_name(name: str) -> None:
    """Raises SettingsError that lists the known models unless `name` is one of them."""
    from components.train.settings import check_choice

    check_choice("model", name, NAMES)
