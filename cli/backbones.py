"""`pipeline.py backbones` and `fetch-weights`: what a model can be, and its weights where there is no internet."""

import argparse
import hashlib
import json
import os
import tempfile

from components.shared.parameters import refuse
from components.shared.storage import storage
from components.train import backbones, cards, zoo

# Billions of multiplications with additions for an image of the input's size, as published.
OPERATIONS = {
    "alexnet": 0.7, "vgg16": 15.3, "vgg19": 19.5, "inception_v3": 5.7, "inception_resnet_v2": 13.2, "resnet50": 3.9,
    "resnet101": 7.6, "mobilenet": 0.57, "mobilenet_075": 0.33, "mobilenet_050": 0.15, "mobilenet_025": 0.041,
    "mobilenet_v2": 0.3, "mobilenet_v3_small": 0.06, "mobilenet_v3_large": 0.22, "efficientnet_v2_b0": 0.7,
    "efficientnet_v2_s": 8.4, "convnext_tiny": 4.5, "Xception": 8.4, "ResNet152": 11.3, "ResNet50V2": 3.5,
    "ResNet101V2": 7.2, "ResNet152V2": 10.9, "DenseNet121": 2.9, "DenseNet169": 3.4, "DenseNet201": 4.3,
    "NASNetMobile": 0.56, "NASNetLarge": 23.8, "EfficientNetB0": 0.39, "EfficientNetB1": 0.7, "EfficientNetB2": 1.0,
    "EfficientNetB3": 1.8, "EfficientNetB4": 4.2, "EfficientNetB5": 9.9, "EfficientNetB6": 19.0, "EfficientNetB7": 37.0,
    "EfficientNetV2B1": 1.2, "EfficientNetV2B2": 1.7, "EfficientNetV2B3": 3.0, "EfficientNetV2M": 24.0,
    "EfficientNetV2L": 53.0, "ConvNeXtSmall": 8.7, "ConvNeXtBase": 15.4, "ConvNeXtLarge": 34.4, "ConvNeXtXLarge": 60.9,
}  # fmt: skip
# LiteRT on one thread of an EPYC: 25 for MobileNetV2, 31 for ConvNeXt-Tiny, 23 for a ViT-S/14.
MILLISECONDS_PER_BILLION = 27


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
        operations = OPERATIONS.get(name.removeprefix(zoo.PREFIX), 0)
        took = f"~{max(1, operations * MILLISECONDS_PER_BILLION):.0f}" if operations else ""
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
