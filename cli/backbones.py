"""`pipeline.py backbones` and `fetch-weights`: what a model can be, and its weights where there is no internet."""

import argparse
import hashlib
import json
import os
import tempfile

from components.shared.parameters import refuse
from components.shared.storage import storage
from components.train import backbones, cards, zoo

# Milliseconds of an image by LiteRT on one thread at `input_size`, measured (docs/backbones.md says on what).
MILLISECONDS: dict[str, float] = {}


FETCH_SUMMARY = "copy a model's weights, with their checksum, to where a cluster without internet can read them"


def add_options(show: argparse.ArgumentParser, fetch: argparse.ArgumentParser) -> None:
    """Adds the arguments of the two commands."""
    show.add_argument("model", nargs="?", default="", metavar="NAME", help="such as hub:s3://bucket/dinov2-small")
    fetch.add_argument("model", metavar="NAME", help="of the zoo, keras:NAME, hub:NAME, hub:URI or saved:URI")
    fetch.add_argument("target", metavar="FOLDER_OR_URI", help="where to")


def show(options: argparse.Namespace) -> int:
    """Prints every name, or what the files of one `hub:` or `saved:` backbone say."""
    if options.model:
        return _show_one(options.model)
    print(f"{'model=':<24} {'input':>6} {'million':>8} {'MB':>6} {'ms':>6}  licence of the ImageNet weights")
    entries = zoo.ZOO | {zoo.PREFIX + name: each for name, each in zoo.OTHERS.items()}
    for name, entry in entries.items():
        licence = entry.card.licence or "none: from scratch only"
        took = f"{MILLISECONDS[name]:.0f}" if name in MILLISECONDS else ""
        size = 4 * entry.parameters
        print(f"{name:<24} {entry.card.input_size:>6} {entry.parameters:>8.1f} {size:>6.0f} {took:>6}  {licence}")
    print("keras:NAME               any of these by its name in keras.applications")
    print("hub:URI                  a folder of KerasHub, Hugging Face transformers or timm")
    print(f"saved:URI                a SavedModel's folder, or a file that ends in {', '.join(backbones.SAVED_FORMS)}")
    print("`pipeline.py backbones hub:URI` says what one is; docs/backbones.md has more")
    return 0


def fetch_weights(options: argparse.Namespace) -> int:
    """Copies the weights of a model, with their checksum, to a folder or URI; prints the parameters to run with."""
    name, target = options.model, options.target.rstrip("/")
    if "," in name:
        raise refuse("model", name, "one at a time")
    backbones.check_name(name)
    with tempfile.TemporaryDirectory(prefix="weights-") as folder:
        parameters = _foreign(name, folder, target) if backbones.is_foreign(name) else _own(name, folder, target)
        for file in storage.list_files(folder):
            storage.upload(file.uri, storage.join(target, os.path.relpath(file.uri, folder)))
    print(f"python pipeline.py run {parameters}")
    return 0


def _own(name: str, folder: str, target: str) -> str:
    """ImageNet's weights of a network of keras.applications, and their checksum beside them."""
    from components.train.worker import weights

    zoo.check_weights(name, zoo.IMAGENET)
    path = weights.fetch(zoo.IMAGENET, name, folder)
    assert path is not None  # ImageNet's are a file
    file = os.path.basename(path)
    with open(path + weights.CHECKSUM, "w", encoding="utf-8") as checksum:
        checksum.write(f"{weights.digest(path)}  {file}\n")
    return f"model={name} weights={storage.join(target, file)}"


def _foreign(name: str, folder: str, target: str) -> str:
    """The files of a backbone, and a card that has all that is known of it."""
    found = backbones.describe(name)
    scheme, _, _ = name.partition(":")
    for each, info in found.files.items():
        storage.download(info.uri, os.path.join(folder, each))
    weights = [each for each in found.files if not each.endswith(".json")]
    card = cards.to_json(found.card)
    if len(weights) == 1:
        with open(os.path.join(folder, weights[0]), "rb") as file:
            card["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    single = found.form not in ("keras_hub", "transformers", "timm", "saved_model")
    file_name = f"{os.path.basename(found.place)}.card.json" if single else cards.FILE_NAME
    with open(os.path.join(folder, file_name), "w", encoding="utf-8") as file:
        json.dump(card, file, indent=1)
    return f"model={scheme}:{storage.join(target, os.path.basename(found.place)) if single else target}"


def _show_one(name: str) -> int:
    backbones.check_name(name)
    if not backbones.is_foreign(name):
        entry = zoo.entry(name)
        lines = {"parameters": f"{entry.parameters:.1f} million", "fine-tuning": "yes"}
        card = entry.card
    else:
        found = backbones.describe(name)
        card = found.card
        size = f"{found.bytes / 1e6:.1f} MB in {len(found.files)} files"
        sizes = "any size of images" if found.flexible else f"images of {card.input_size} pixels"
        lines = {"form": found.form, "files": size, "takes": sizes, "fine-tuning": "yes" if found.tunable else "no"}
    for key, value in {**lines, **cards.to_json(card)}.items():
        print(f"{key:<12} {value if isinstance(value, str) else json.dumps(value)}")
    if not card.licence:
        print("nothing names its licence: find out, and write it into the card as licence")
    return 0
