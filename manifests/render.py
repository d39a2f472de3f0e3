"""Prints an overlay as `kubectl apply -f -` takes it: python manifests/render.py cluster [images.json]

With images.json, which `make push` writes, the images are those of your registry, by digest.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

MANIFESTS = Path(__file__).resolve().parent


def render(overlay: str, digests: str = "") -> str:
    """The overlay's objects as YAML. Raises SystemExit with one line if kubectl or the digests cannot do it."""
    try:
        references = json.loads(Path(digests).read_text()) if digests else {}
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {digests}: {error}; make push writes this file") from error
    if not shutil.which("kubectl"):
        raise SystemExit("error: kubectl renders the manifests and is not installed")
    command = ["kubectl", "kustomize", str(MANIFESTS / "overlays" / overlay)]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(f"error: {found.stderr.strip()}")
    text = found.stdout
    sys.path.insert(0, str(MANIFESTS.parent))
    from components.images import image

    for name, reference in references.items():
        text = text.replace(f"image: {image(name)}\n", f"image: {reference}\n")
    return text


if __name__ == "__main__":
    print(render(*sys.argv[1:]), end="")
