"""Networks of backbones that are no entry of the zoo: KerasHub's conversion, or a finished model as a frozen layer."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from components.train import backbones
from components.train.backbones import HUB, Backbone, BackboneError
from components.train.worker import frozen

_INSTALL = "python -m pip install --no-deps keras-hub==0.32.0 regex tokenizers safetensors"


@dataclass(frozen=True)
class Foreign:
    """`backbone` with its files at the local `path`, whose contents have the SHA-256 `digest`."""

    backbone: Backbone
    path: str
    digest: str

    @classmethod
    def open(cls, backbone: Backbone, folder: str) -> "Foreign":
        """Has its files at hand, downloaded at most once.

        Raises:
            BackboneError: a library that it needs is missing here.
            StorageError: a file cannot be read.
        """
        if backbone.name.startswith(HUB):
            _library("keras_hub", _INSTALL)
        path = backbones.local(backbone, folder)
        return cls(backbone, path, backbones.digest(backbone, path))

    def network(self, side: int, stages: Sequence[str] = ()) -> keras.Model:
        """Prepared images [batch, side, side, 3] to its last output, then those of `stages`; not yet with its weights.

        Raises BackboneError: it has no such stage, or cannot be converted.
        """
        if not self.backbone.name.startswith(HUB):
            return frozen.network(self.backbone, self.path, side)
        return self._attempt(lambda: self._converted(side, stages, weights=False))

    def load(self, network: keras.Model) -> None:
        """Gives what `network` built its weights. Raises BackboneError: they are not those of its configuration."""
        if self.backbone.name.startswith(HUB):
            side = int(network.input_shape[1])
            # The names after the first are outputs of the same network, so they change none of its weights.
            loaded = self._attempt(lambda: self._converted(side, self.backbone.card.stages, weights=True))
            network.set_weights(loaded.get_weights())

    def _converted(self, side: int, stages: Sequence[str], weights: bool) -> keras.Model:
        hub = _library("keras_hub", _INSTALL)
        if self.backbone.form == "keras_hub":
            shape = {"image_shape": (side, side, 3)} if self.backbone.flexible else {}
            body = hub.models.Backbone.from_preset(self.path, load_weights=weights, **shape)
        else:
            conversion = importlib.import_module("components.train.worker.conversion")
            body = conversion.backbone(self.path, self.backbone.form, side, weights)
        outputs = getattr(body, "pyramid_outputs", {})
        if missing := [name for name in stages if name not in outputs]:
            there = f"it has {', '.join(outputs)}" if outputs else "it has none"
            raise BackboneError(
                f"{backbones.cards.FILE_NAME}: stages={missing[0]}, but {there}; correct or leave it out"
            )
        return keras.Model(body.inputs[0], [body.output, *(outputs[name] for name in stages)], name=_name(body))

    def _attempt(self, convert) -> keras.Model:
        try:
            return convert()
        except BackboneError as error:
            raise BackboneError(f"model={self.backbone.name}: {error}") from None
        except Exception as error:  # of any kind: the converters read configuration and weights without a check
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise BackboneError(
                f"model={self.backbone.name}: configuration and weights cannot be converted ({what}): are both of one "
                "model, and is the folder complete?"
            ) from error


def _name(body: keras.Model) -> str:
    return f"{body.name}_outputs"


def _library(name: str, install: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BackboneError(f"{error.name or name} is not installed, which hub: needs: {install}") from None
