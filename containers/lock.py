"""Writes the lock files of the container images: every package pinned and hashed, from the extras of setup.cfg.

python containers/lock.py            (make lock)
"""

import configparser
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "3.11"
STEPS = ["kfp", "kfp-kubernetes", "kubernetes"]
# kfp-server-api comes as source only; with these at hand it is built without fetching anything that is not hashed.
BUILD = ["setuptools", "wheel"]
# uv overlooks that newer versions exclude this Python (an upper bound of Requires-Python).
BOUNDS = ["backports-strenum<1.3"]
# No wheel for ARM64: there TensorFlow's other package is taken, and Pillow resizes.
X86_ONLY = ("tensorflow-cpu", "cykooz-resizer")
# Lock file -> extras, further packages, replacements. The server gets no kfp; steps get it at the compiled version.
LOCKS = {
    "build.lock": ([], []),
    "data/requirements.lock": (
        ["query", "fetch", "convert", "assemble", "sign", "gcs", "s3", "bigquery"],
        ["tensorboard"],
    ),
    "train/requirements-cpu.lock": (["train", "hub", "evaluate", "fetch", "gcs", "s3"], []),
    "train/requirements-gpu.lock": (["train", "hub", "evaluate", "fetch", "gcs", "s3"], []),
    "serve/requirements.lock": (["serve", "sign", "gcs", "s3"], []),
}


def requirements(name: str) -> list[str]:
    """The requirements of lock file `name` as setup.cfg states them."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras, further = LOCKS[name]
    if name == "build.lock":
        return BUILD
    found = [*BOUNDS] if "data" not in name else []
    found += [line for extra in extras for line in _lines(config["options.extras_require"][extra])]
    every = [line for extra in config["options.extras_require"].values() for line in _lines(extra)]
    found += [line for line in every if line.startswith(tuple(further))] if further else []
    if not name.startswith("serve"):
        found += [line for line in _lines(config["options"]["install_requires"]) if line.startswith(tuple(STEPS))]
    if "gpu" in name:
        found = [_gpu(line) for line in found if not line.startswith("tensorflow-cpu")]
    return sorted(set(found))


def _gpu(line: str) -> str:
    """TensorFlow with its CUDA libraries, on every platform."""
    return line.partition(";")[0].replace("tensorflow==", "tensorflow[and-cuda]==")


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def lock(name: str) -> None:
    """Resolves and writes one lock file. Addresses of package indexes stay out of it."""
    command = ["uv", "pip", "compile", "-", "--output-file", str(ROOT / "containers" / name), "--generate-hashes"]
    command += ["--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28", "--no-emit-index-url"]
    command += ["--no-emit-find-links", "--no-header", "--annotation-style", "line", "--upgrade", "--quiet"]
    command += ["--override", str(ROOT / "containers" / "overrides.txt")]
    constraints = ROOT / "constraints.txt"
    if constraints.exists():  # what the tests ran with is what the images carry
        command += ["--constraint", str(constraints)]
    subprocess.run(command, input="\n".join(requirements(name)), text=True, check=True)
    print(f"containers/{name}")


def for_both_machines() -> None:
    """Makes the lock files, which were resolved for x86-64, good for ARM64 too.

    All else has the same version on both, and the hashes of every wheel stand in the lock file already.
    """
    for name in LOCKS:
        path = ROOT / "containers" / name
        text = path.read_text()
        for package in X86_ONLY:
            marked = r'\1 ; platform_machine == "x86_64" \\'
            text = re.sub(rf"^({package}==[^ ;]+) \\$", marked, text, flags=re.MULTILINE)
        if "\ntensorflow-cpu==" in text and "\ntensorflow==" not in text:
            other = (ROOT / "containers/train/requirements-gpu.lock").read_text()
            block = re.search(r"^tensorflow==(?:.+\\\n)+.+\n", other, re.MULTILINE)
            assert block is not None
            marked = re.sub(r"^(\S+) \\", r'\1 ; platform_machine == "aarch64" \\', block[0])
            text = text.replace("\ntensorflow-cpu==", f"\n{marked}tensorflow-cpu==", 1)
        path.write_text(text)


if __name__ == "__main__":
    for each in sys.argv[1:] or LOCKS:
        lock(each)
    for_both_machines()
