"""Builds and pushes the images with podman or docker, and writes their references for `pipeline.py compile --digests`.

python containers/build.py --registry ghcr.io/you --tag 0.1.0           (make images REGISTRY=... TAG=...)
python containers/build.py --registry ghcr.io/you --tag 0.1.0 --push    (make push REGISTRY=... TAG=...)
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from components.container_images import NAMES, PREFIX, TAG  # noqa: E402  found by the line above


def main() -> int:
    """Builds or pushes; returns the exit status."""
    options = _parser().parse_args()
    engine = options.engine or next((name for name in ("podman", "docker") if shutil.which(name)), None)
    if engine is None:
        print("error: neither podman nor docker is installed", file=sys.stderr)
        return 1
    references = {name: _reference(name, options) for name in options.names}
    try:
        for name, reference in references.items():
            if options.push:
                references[name] = push(engine, reference)
            else:
                build(engine, name, reference, options)
            print(f"{name}: {references[name]}  {_details(engine, reference)}", flush=True)
    except subprocess.CalledProcessError as error:  # what it said stands above
        print(f"error: `{' '.join(error.cmd[:2])}` ended with status {error.returncode}", file=sys.stderr)
        return 1
    _remember(Path(options.output), references)
    return 0


def build(engine: str, name: str, reference: str, options: argparse.Namespace) -> None:
    """Builds the image `name` as `reference`."""
    command = [engine, "build", "-f", f"containers/{name}/Containerfile", "-t", reference]
    command += ["--build-arg", f"VERSION={options.tag}"]
    if options.base_image:
        command += ["--build-arg", f"BASE_IMAGE={options.base_image}"]
    if options.gpu and name == "train":
        command += ["--build-arg", "VARIANT=gpu"]
    if engine.endswith("podman"):
        command += ["--format", "docker"]  # the other format has no HEALTHCHECK
    command += _platform(engine, reference, options.platform)
    for secret, path in (("pip", options.pip_conf), ("ca", options.ca_bundle)):
        command += ["--secret", f"id={secret},src={path}"] if path else []
    command += ["--network", options.network] if options.network else []
    subprocess.run([*command, "."], cwd=ROOT, check=True)


def _platform(engine: str, reference: str, platforms: str) -> list[str]:
    """For which machines; several become one reference that leads each node to its own."""
    if not platforms:
        return []
    if "," in platforms and engine.endswith("podman"):
        subprocess.run([engine, "manifest", "rm", reference], capture_output=True)  # that of an earlier build
        return ["--platform", platforms, "--manifest", reference]
    return ["--platform", platforms]


def push(engine: str, reference: str) -> str:
    """Pushes the image and returns its reference by digest: what a cluster pulls then can never change."""
    repository = reference.rpartition(":")[0]
    with tempfile.NamedTemporaryFile("r") as file:
        if engine.endswith("podman"):
            several = subprocess.run([engine, "manifest", "exists", reference]).returncode == 0
            command = [engine, "manifest", "push", "--all"] if several else [engine, "push"]
            subprocess.run([*command, "--digestfile", file.name, reference], check=True)
            return f"{repository}@{file.read().strip()}"
    subprocess.run([engine, "push", reference], check=True)
    found = _output(engine, "image", "inspect", "--format", "{{json .RepoDigests}}", reference)
    return next(each for each in json.loads(found) if each.startswith(repository + "@"))


def _reference(name: str, options: argparse.Namespace) -> str:
    suffix = "-gpu" if options.gpu and name == "train" else ""
    prefix = f"{options.registry.rstrip('/')}/" if options.registry else ""
    return f"{prefix}{PREFIX}-{name}:{options.tag}{suffix}"


def _details(engine: str, reference: str) -> str:
    size = int(_output(engine, "image", "inspect", "--format", "{{.Size}}", reference))
    return f"{size / 1e6:.0f} MB, {_output(engine, 'image', 'inspect', '--format', '{{.Id}}', reference)}"


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _remember(path: Path, references: dict[str, str]) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **references}, indent=1) + "\n")
    print(f"compile for these images: python pipeline.py compile --digests {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("names", nargs="*", default=NAMES, metavar="IMAGE", help=f"of {', '.join(NAMES)} (default: all)")
    add("--registry", default="", help="where they are pushed to, such as ghcr.io/you")
    add("--tag", default=TAG, help="(default: %(default)s)")
    add("--push", action="store_true", help="push what was built, instead of building")
    add("--gpu", action="store_true", help="train with CUDA; its tag gets -gpu")
    add("--platform", default="", help="linux/arm64, linux/amd64 or both with a comma (default: this machine's)")
    add("--base-image", default="", help="a Debian-like image with Python 3.11 (default: the official slim one)")
    add("--engine", default="", help="podman or docker (default: what is there)")
    add("--network", default="", help="network of the build, such as host")
    add("--pip-conf", default="", help="pip.conf for the build only, such as for a mirror")
    add("--ca-bundle", default="", help="CA bundle for the build only: /run/secrets/ca.crt, name it in pip.conf")
    add("--output", default="images.json", help="references of the images (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
