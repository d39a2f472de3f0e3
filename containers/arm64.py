"""Whether every package that the images lock has a wheel for ARM64: python containers/arm64.py   (make arm64)

pip resolves each line of a lock file for another machine, without its hashes and without installing anything; `tensorflow`
stands for `tensorflow-cpu`, which exists for x86-64 only.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from containers.lock import LOCKS, PYTHON, ROOT

# In an image for ARM64 these are other packages (see setup.cfg), or there is nothing in their place.
REPLACED = {"tensorflow-cpu": "tensorflow", "cykooz-resizer": ""}
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
_LINE = re.compile(r"^([a-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE | re.IGNORECASE)


def pins(lock: str) -> dict[str, str]:
    """Package -> version of a lock file's text, as an image for ARM64 has them."""
    found = {name.lower(): version for name, version in _LINE.findall(lock)}
    return {REPLACED.get(name, name): version for name, version in found.items() if REPLACED.get(name, name)}


def missing(packages: dict[str, str]) -> list[str]:
    """`name==version` of what has no wheel; asks the package index that pip is configured for, one after another."""
    return [f"{name}=={version}" for name, version in packages.items() if not _has_wheel(name, version)]


def _has_wheel(name: str, version: str) -> bool:
    platforms = [option for platform in _PLATFORMS for option in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, *platforms]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, "--target", folder, f"{name}=={version}"], capture_output=True, text=True)
    return done.returncode == 0


def main() -> int:
    """Prints what has no wheel for ARM64; returns the exit status."""
    every: dict[str, str] = {}
    for lock in (name for name in LOCKS if "gpu" not in name):
        every |= pins(Path(ROOT, "containers", lock).read_text())
    print(f"{len(every)} packages", flush=True)
    without = missing(every)
    for name in without:
        print(f"no wheel for ARM64: {name}")
    return int(bool(without))


if __name__ == "__main__":
    sys.exit(main())
