"""KerasHub's own presets, `hub:NAME`: a folder that kagglehub downloads once, where there is internet."""

import importlib.util

from components.shared.errors import PipelineError, TransientError
from components.shared.parameters import choice

_KAGGLE = "kaggle://"


def folder(name: str) -> str:
    """The local folder of the preset `name`, in kagglehub's cache.

    Raises:
        ParameterError: KerasHub knows no such preset of a backbone.
        PipelineError: KerasHub or kagglehub is missing here.
        TransientError: it cannot be downloaded.
    """
    for library in ("keras_hub", "kagglehub"):
        if importlib.util.find_spec(library) is None:
            raise PipelineError(
                f"model=hub:{name}: there is no folder {name}, and to download a preset of that name {library} has to "
                "be installed (docs/backbones.md); give the path or URI of a folder"
            )
    import kagglehub
    import keras_hub

    presets = keras_hub.models.Backbone.presets
    choice("model", f"hub:{name}", [f"hub:{each}" for each in presets])
    handle = presets[name]["kaggle_handle"].removeprefix(_KAGGLE)
    try:
        return kagglehub.model_download(handle)
    except Exception as error:  # kagglehub raises those of its HTTP library, and its own
        raise TransientError(f"model=hub:{name}: the preset cannot be downloaded ({error})") from error
