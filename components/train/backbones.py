"""Backbones that are no entry of the zoo: `hub:` a folder that KerasHub can convert, `saved:` a finished model.

What is here looks at files and needs neither Keras nor TensorFlow: so a folder that is no backbone is refused before a
run fetches its first image. components/train/worker/foreign.py makes networks of them.
"""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.shared.errors import PipelineError
from components.shared.parameters import refuse
from components.shared.storage import storage
from components.shared.storage.storage import FileInfo
from components.train import cards, configurations, files, presets, zoo
from components.train.cards import Card, CardError

HUB, SAVED = "hub:", "saved:"
SAVED_FORMS = (".keras", ".onnx", ".tflite")
SAVED_MODEL_FILE = "saved_model.pb"
_PRESET = re.compile(r"[a-z0-9][a-z0-9_.]*")
_SHORT = re.compile(r"[^A-Za-z0-9_.-]+")
CACHE_VARIABLE = "BACKBONE_CACHE"


class BackboneError(PipelineError):
    """A folder or file that is no backbone; the message says what was expected there."""


@dataclass(frozen=True)
class Backbone:
    """One of somebody else's, as its files describe it.

    Attributes:
        name: the value of the parameter `model`.
        form: keras_hub, transformers, timm, saved_model, or the ending of a file: keras, onnx, tflite.
        place: URI of its folder, or of the one file.
        card: how it is fed and read.
        files: what has to be there to load it, by name below its folder.
        tokens: how many tokens stand before those of the patches; None where the output is a map or a vector.
        flexible: whether it takes images of any size, as CNNs do.
    """

    name: str
    form: str
    place: str
    card: Card
    files: Mapping[str, FileInfo]
    tokens: int | None = None
    flexible: bool = False

    @property
    def tunable(self) -> bool:
        """Whether its upper part can be trained further."""
        return self.name.startswith(HUB)

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(file.size for file in self.files.values())


def is_foreign(name: str) -> bool:
    """Whether the model `name` is none of the zoo."""
    return name.startswith((HUB, SAVED))


def is_preset(name: str) -> bool:
    """Whether `name` is `hub:` and the name of a preset that KerasHub downloads."""
    place = name.removeprefix(HUB)
    return name.startswith(HUB) and bool(_PRESET.fullmatch(place)) and not os.path.exists(place)


def check_name(name: str) -> None:
    """Raises ParameterError unless `name` can be a model: of the zoo, `keras:NAME`, `hub:URI` or `saved:URI`."""
    if not is_foreign(name):
        zoo.entry(name)
    elif not name.partition(":")[2]:
        raise refuse("model", name, f"a path or URI has to follow, such as {name}s3://bucket/dinov2-small")


def short_name(name: str) -> str:
    """`name` for files, logs and pages: letters, digits, `_`, `.` and `-`; another for another name."""
    if not is_foreign(name):
        return _SHORT.sub("-", name)
    last = _SHORT.sub("-", os.path.basename(name.rstrip("/").rpartition(":")[2]))[:40].strip("-.")
    return f"{name.partition(':')[0]}-{last}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def describe(name: str) -> Backbone:
    """What the files of the foreign model `name` say; its weights are not read whole, unless the card has a checksum.

    Raises:
        BackboneError: it is no backbone, lacks a file, is a pickle, or has another checksum than its card says.
        CardError: neither card nor configuration says how it is fed.
        StorageError: it cannot be read.
    """
    found = _hub(name) if name.startswith(HUB) else _saved(name)
    if found.card.sha256:
        _check_sum(found)
    return found


def local(backbone: Backbone, folder: str) -> str:
    """The path of a local copy of it: what is local is used where it is, other is downloaded once per content.

    Copies stay in $BACKBONE_CACHE, or the user's cache folder; where that cannot be written, in `folder`.
    """
    if (path := storage.local_path(backbone.place)) is not None:
        return path
    version = hashlib.sha256(state(backbone).encode()).hexdigest()[:32]
    target = os.path.join(_cache(folder), version)
    if not os.path.isdir(target):
        _download(backbone, target)
    return os.path.join(target, os.path.basename(backbone.place)) if backbone.form in _file_forms() else target


def state(backbone: Backbone) -> str:
    """A text that changes when a file of it changes: a cheap one, of what the store says; local files are read."""
    lines = [backbone.name]
    for name, file in sorted(backbone.files.items()):
        path = storage.local_path(file.uri)
        told = f"{file.checksum} {file.version}" if path is None else _sha256(file.uri)
        lines.append(f"{name} {file.size} {told}")
    return "\n".join(lines)


def states(models: str, weights: str) -> str:
    """A hash of what the files of `models` (comma-separated) and `weights` are now; `none` where there are none.

    Where that cannot be told, it is one that never was: the train step then runs, and says what is wrong.
    """
    foreign = [name.strip() for name in models.split(",") if is_foreign(name.strip())]
    file = "" if weights in ("", zoo.NONE, zoo.IMAGENET) else weights
    if not foreign and not file:
        return zoo.NONE
    try:
        parts = [name if _in_the_image(name) or is_preset(name) else state(describe(name)) for name in foreign]
        info = None if not file or _in_the_image(file) else storage.stat(file)
    except PipelineError as error:
        return f"unknown at {time.time():.0f}: {error}"
    told = "" if info is None else f"{info.size} {info.checksum} {info.version}"
    return hashlib.sha256("\n".join([*parts, file, told]).encode()).hexdigest()[:32]


def _in_the_image(name: str) -> bool:
    """Whether the local path in `name` is not here: it is in the training image, which has a digest of its own."""
    path = storage.local_path(name.partition(":")[2] if is_foreign(name) else name)
    return path is not None and not os.path.exists(path)


def digest(backbone: Backbone, path: str) -> str:
    """SHA-256 over names and contents of the files of its local copy at `path`, card included."""
    whole = hashlib.sha256()
    folder = os.path.dirname(path) if backbone.form in _file_forms() else path
    for name in sorted(backbone.files):
        whole.update(f"{name} {_sha256(os.path.join(folder, name))}\n".encode())
    return whole.hexdigest()


def _file_forms() -> tuple[str, ...]:
    return tuple(form[1:] for form in SAVED_FORMS)


def _cache(folder: str) -> str:
    base = os.environ.get(CACHE_VARIABLE) or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "museum-classifier", "backbones"
    )
    try:
        os.makedirs(base, exist_ok=True)
    except OSError:
        return folder
    return base if os.access(base, os.W_OK) else folder


def _download(backbone: Backbone, target: str) -> None:
    """All or nothing: several workers of one machine may do it at once."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(target), prefix="download-") as folder:
        copy = os.path.join(folder, "copy")
        storage.download_all((file.uri, os.path.join(copy, name)) for name, file in backbone.files.items())
        try:
            os.rename(copy, target)
        except OSError:
            if not os.path.isdir(target):
                raise


def _hub(name: str) -> Backbone:
    place = name.removeprefix(HUB).rstrip("/")
    place = presets.folder(place) if is_preset(name) else place
    listed = _listed(place)
    if not listed:
        raise BackboneError(f"model={name}: there is no such folder, or it is empty; give one with config.json")
    files.refuse_pickles(listed, name)
    if "config.json" not in listed:
        raise BackboneError(
            f"model={name}: the folder has no config.json but {files.some(listed)}; give a folder in KerasHub's "
            "preset format, or of Hugging Face transformers or timm (config.json and model.safetensors)"
        )
    config = files.json_object(listed["config.json"].uri)
    preprocessor = next((file for file in configurations.PREPROCESSORS if file in listed), None)
    told = files.json_object(listed[preprocessor].uri) if preprocessor else {}
    try:
        form, found, tokens, flexible = configurations.read(config, told)
    except configurations.Unsupported as error:
        raise BackboneError(f"model={name}: {error}") from None
    where = storage.join(place, cards.FILE_NAME)
    if "README.md" in listed and (licence := files.licence(listed["README.md"].uri)):
        found.setdefault("licence", licence)
    card = _card(listed, cards.FILE_NAME, found, where)
    configurations.check(card, config, form, where)
    needed = _weights_of(listed, form, name)
    also = [each for each in ("config.json", preprocessor, cards.FILE_NAME) if each in listed]
    chosen = {each: listed[each] for each in [*also, *needed]}
    return Backbone(name, form, place, card, chosen, tokens, flexible)


def _weights_of(listed: Mapping[str, FileInfo], form: str, name: str) -> list[str]:
    if form == "keras_hub":
        single, index = "model.weights.h5", "model.weights.json"
    else:
        single, index = "model.safetensors", "model.safetensors.index.json"
    if index in listed:
        parts = sorted(set(files.json_object(listed[index].uri).get("weight_map", {}).values()))
        parts = sorted({part for each in parts for part in ([each] if isinstance(each, str) else each)})
        if missing := [part for part in parts if part not in listed]:
            raise BackboneError(f"model={name}: {missing[0]} is missing, which {index} names: copy the whole folder")
        needed = parts
    elif single in listed:
        needed = [single]
    else:
        raise BackboneError(f"model={name}: {single} is missing; the folder has {files.some(listed)}")
    for part in needed:
        files.check_weights(listed[part], name)
    return [*needed, *([index] if index in listed else [])]


def _saved(name: str) -> Backbone:
    place = name.removeprefix(SAVED).rstrip("/")
    ending = os.path.splitext(place)[1]
    if ending in SAVED_FORMS:
        parent = os.path.dirname(place)
        listed = {file: info for file in (os.path.basename(place), f"{os.path.basename(place)}.card.json",
                  cards.FILE_NAME) if (info := _stat(storage.join(parent, file) if parent else file))}  # fmt: skip
        if os.path.basename(place) not in listed:
            raise BackboneError(f"model={name}: there is no such file")
        return _saved_file(name, place, ending, listed)
    files.refuse_pickles({os.path.basename(place): FileInfo(place, 0)}, name)
    listed = _listed(place)
    if SAVED_MODEL_FILE not in listed:
        found = files.some(listed) if listed else "nothing"
        raise BackboneError(
            f"model={name}: found {found}; give a SavedModel's folder (with {SAVED_MODEL_FILE}), or a file "
            f"that ends in {' or '.join(SAVED_FORMS)}"
        )
    card = _card(listed, cards.FILE_NAME, {}, storage.join(place, cards.FILE_NAME))
    return Backbone(name, "saved_model", place, card, listed)


def _saved_file(name: str, place: str, ending: str, listed: Mapping[str, FileInfo]) -> Backbone:
    own = f"{os.path.basename(place)}.card.json"
    chosen = own if own in listed else cards.FILE_NAME
    model = listed[os.path.basename(place)]
    files.check_saved(model, ending, name)
    found: dict[str, Any] = {}
    output = ""
    where = storage.join(os.path.dirname(place) or ".", chosen if chosen in listed else own)
    if ending == ".onnx":
        written = cards.parse(storage.read_bytes(listed[chosen].uri), where) if chosen in listed else {}
        output = str(written.get("output", ""))
        found = files.onnx_card(model.uri, output, name, where)
    card = _card(listed, chosen, found, where)
    kept = {each: listed[each] for each in (os.path.basename(place), chosen) if each in listed}
    return Backbone(name, ending[1:], place, card, kept)


def _card(listed: Mapping[str, FileInfo], name: str, found: Mapping[str, Any], where: str) -> Card:
    written = cards.parse(storage.read_bytes(listed[name].uri), where) if name in listed else {}
    return cards.complete(written, found, where)


def _listed(place: str) -> dict[str, FileInfo]:
    """The files below a folder, by their path there."""
    root = storage.local_path(place)
    prefix = len((root if root is not None else place).rstrip("/")) + 1
    return {file.uri[prefix:]: file for file in storage.list_files(place)}


def _stat(uri: str) -> FileInfo | None:
    return storage.stat(uri) if storage.exists(uri) else None


def _check_sum(backbone: Backbone) -> None:
    weights = [file for name, file in backbone.files.items() if not name.endswith(".json")]
    if len(weights) != 1:
        raise CardError(f"model={backbone.name}: its card has one sha256 for {len(weights)} files; leave it out")
    found = _sha256(weights[0].uri)
    if found != backbone.card.sha256:
        raise BackboneError(
            f"model={backbone.name}: the sha256 of {os.path.basename(weights[0].uri)} is {found} and its card says "
            f"{backbone.card.sha256}: it is damaged or another file; copy it again, or correct the card"
        )


def _sha256(uri: str) -> str:
    whole = hashlib.sha256()
    with storage.open_read(uri) as file:
        for piece in _pieces(file):
            whole.update(piece)
    return whole.hexdigest()


def _pieces(file) -> Iterator[bytes]:
    return iter(lambda: file.read(1 << 20), b"")
