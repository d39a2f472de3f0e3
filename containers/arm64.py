"""Whether every package that the images lock has a wheel for ARM64: python containers/arm64.py   (make arm64)

pip resolves the lock files for that machine, without their hashes and without installing anything.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from containers.lock import LOCKS, PYTHON, ROOT

# Pure Python that comes as source only: the image's build makes the wheel.
SOURCE_ONLY = ("kfp-server-api",)
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
_LINE = re.compile(r"^([a-z0-9._-]+)==([^\s;\\]+)(?: ; platform_machine == \"(\w+)\")?", re.MULTILINE | re.IGNORECASE)


def pins(lock: str) -> dict[str, str]:
    """Package -> version of a lock file's text, as an image for ARM64 has them."""
    return {
        name.lower(): version
        for name, version, machine in _LINE.findall(lock)
        if machine in ("", "aarch64") and name.lower() not in SOURCE_ONLY
    }


def missing(packages: dict[str, str]) -> list[str]:
    """`name==version` of what has no wheel; asks the package index that pip is configured for."""
    wanted, found = [f"{name}=={version}" for name, version in sorted(packages.items())], []
    while wanted:
        told = _resolved(wanted)  # pip stops at the first that it cannot find
        without = next((name for name in re.findall(r"No matching distribution found for (\S+)", told)), "")
        if not without:
            if told:
                raise SystemExit(f"error: pip cannot say: {told.strip().splitlines()[-1]}")
            break
        found.append(without)
        wanted.remove(without)
    return found


def _resolved(requirements: list[str]) -> str:
    """What pip has to say against these; empty if each has a wheel."""
    platforms = [option for platform in _PLATFORMS for option in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, *platforms]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, "--target", folder, *requirements], capture_output=True, text=True)
    return done.stderr if done.returncode else ""


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
