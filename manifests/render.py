"""Prints an overlay as `kubectl apply -f -` takes it, with the images of your registry.

python manifests/render.py cluster --digests images.json     what make push wrote
python manifests/render.py local --registry localhost        by tag
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

MANIFESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(MANIFESTS.parent))

from components.container_images import NAMES, TAG, image  # noqa: E402  it is beside this folder, not installed


def main() -> str | None:
    """Prints the overlay; returns one line about what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overlay", choices=sorted(path.name for path in (MANIFESTS / "overlays").iterdir()))
    parser.add_argument("--digests", metavar="FILE", help="images by digest (goes before --registry)")
    parser.add_argument("--registry", default="", metavar="PREFIX", help="registry of the images, such as ghcr.io/you")
    parser.add_argument("--tag", default=TAG, help=f"tag of the images (default: {TAG})")
    options = parser.parse_args()
    if not shutil.which("kubectl"):
        return "error: kubectl renders the manifests and is not installed"
    try:
        references = _references(options)
    except (OSError, ValueError) as error:
        return f"error: {options.digests}: {error}; make push writes this file"
    command = ["kubectl", "kustomize", str(MANIFESTS / "overlays" / options.overlay)]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        return f"error: {found.stderr.strip()}"
    text = found.stdout
    for name in NAMES:
        text = text.replace(f"image: {image(name)}\n", f"image: {references[name]}\n")
    print(text, end="")


def _references(options: argparse.Namespace) -> dict[str, str]:
    own = {name: image(name).removesuffix(TAG) + options.tag for name in NAMES}
    if options.registry:
        own = {name: f"{options.registry.rstrip('/')}/{reference}" for name, reference in own.items()}
    return {**own, **(json.loads(Path(options.digests).read_text()) if options.digests else {})}


if __name__ == "__main__":
    sys.exit(main())
