"""A bill of materials per image, in CycloneDX, and the licences of all that the images carry: make sbom

cyclonedx-py reads the lock files, which are all that pip installs into an image, with every hash; the licences are
those that the same packages declare in this environment (`make test` makes one with all but CUDA).

    build/sbom-serve.cdx.json  ...   one per image
    build/licences.md                one table
"""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from components.container_images import PREFIX, TAG
from containers.lock import LOCKS, ROOT

_HASHES = re.compile(r"\s*--hash=\S+|\s*#.*")
# What builds a source package while an image is built, and is gone from it.
_NOT_IN_AN_IMAGE = "build.lock"


def main(cyclonedx: str, target: Path) -> None:
    """Writes the bills and the table into the folder `target`; `cyclonedx` is the program cyclonedx-py."""
    target.mkdir(exist_ok=True)
    images: dict[str, set[str]] = {}
    for lock in (name for name in LOCKS if name != _NOT_IN_AN_IMAGE):
        name = image_of(lock)
        path = target / f"sbom-{name}.cdx.json"
        command = [cyclonedx, "requirements", str(ROOT / "containers" / lock), "--output-format", "JSON"]
        subprocess.run([*command, "--output-reproducible", "--output-file", str(path)], check=True)
        bill = completed(json.loads(path.read_text()), name)
        path.write_text(json.dumps(bill, indent=1) + "\n")
        for component in bill["components"]:
            images.setdefault(component["name"], set()).add(name)
        print(f"{path}: {len(bill['components'])} packages")
    (target / "licences.md").write_text(table(images))
    print(target / "licences.md")


def image_of(lock: str) -> str:
    """`train/requirements-gpu.lock` is `train-gpu`; the CPU's is `train`."""
    folder, _, file = lock.partition("/")
    return folder + ("-gpu" if "gpu" in file else "")


def completed(bill: dict[str, Any], image: str) -> dict[str, Any]:
    """The bill with the image as its subject, and each package's licence; without the lock file's lines in it."""
    subject = {"bom-ref": "image", "type": "container", "name": f"{PREFIX}-{image}", "version": TAG}
    bill["metadata"]["component"] = subject
    for component in bill["components"]:
        component["description"] = _HASHES.sub("", component.get("description", "")).replace("\\", "").strip()
        if found := licence(component["name"]):
            component["licenses"] = [{"license": {"name": found, "acknowledgement": "declared"}}]
    return bill


def licence(package: str) -> str:
    """What the installed package declares: an SPDX expression, or its classifiers; empty if it is not installed."""
    try:
        told = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return ""
    if "License-Expression" in told:
        return told["License-Expression"]
    classifiers = [
        text.rpartition(" :: ")[2] for text in told.get_all("Classifier") or () if text.startswith("License")
    ]
    text = told["License"].strip() if "License" in told else ""
    return ", ".join(classifiers) or (text if len(text) < 60 and "\n" not in text else "see its files")


def table(images: dict[str, set[str]]) -> str:
    """Package, licence and the images that carry it, as Markdown."""
    lines = ["| package | licence | in |", "|---|---|---|"]
    for package in sorted(images):
        lines.append(
            f"| {package} | {licence(package) or 'not installed here'} | {', '.join(sorted(images[package]))} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1], ROOT / "build")
