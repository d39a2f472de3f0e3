"""LiteRT.js, which runs a model in a browser: fetched by the user's own npm, or read from a folder, and checked.

Of the files that its packages have one WebAssembly module is taken, 9 MB, which every browser runs; LiteRT.js has
further ones for threads and for graphics processors.
"""

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.shared.errors import PipelineError

VERSION = "2.5.3"
# What npm says of a package that it cannot get is at the end of much else.
NPM_SECONDS = 600


@dataclass(frozen=True)
class Package:
    """An npm package: its name, the SHA-512 of its archive, and which of its files are taken, under what name."""

    name: str
    integrity: str
    files: dict[str, str]

    @property
    def wanted(self) -> str:
        """What npm is asked for."""
        return f"{self.name}@{VERSION}"

    @property
    def archive(self) -> str:
        """The name of the file that `npm pack` writes."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{VERSION}.tgz"


PACKAGES = (
    Package(
        "@litertjs/core",
        "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
        {
            "package/dist/index.js": "core.js",
            "package/wasm/litert_wasm_compat_internal.js": "litert_wasm_compat_internal.js",
            "package/wasm/litert_wasm_compat_internal.wasm": "litert_wasm_compat_internal.wasm",
        },
    ),
    Package(
        "@litertjs/wasm-utils",
        "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
        {"package/dist/index.js": "wasm-utils.js"},
    ),
)
_COMMAND = f"npm pack {' '.join(package.wanted for package in PACKAGES)}"


def files(folder: str = "") -> dict[str, bytes]:
    """The files of LiteRT.js by their names: from the packages' archives in `folder`, or else by npm.

    Raises:
        PipelineError: there is no npm, it cannot get them, one is missing, or it is another than it should be.
    """
    if folder:
        return _read(Path(folder))
    with tempfile.TemporaryDirectory(prefix="runtime-") as fetched:
        fetch(fetched)
        return _read(Path(fetched))


def fetch(folder: str) -> None:
    """Has npm write the packages' archives into `folder`. Raises PipelineError: there is no npm, or it cannot."""
    npm = shutil.which("npm")
    if npm is None:
        raise PipelineError(
            f"npm is not installed here, and the page needs LiteRT.js: install Node.js, or run `{_COMMAND}` "
            "where there is npm, and name the folder with the two files by --runtime"
        )
    command = [npm, "pack", "--ignore-scripts", "--loglevel=error", "--pack-destination", folder]
    command += [package.wanted for package in PACKAGES]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise PipelineError(f"npm had no LiteRT.js within {NPM_SECONDS} s: try again, or use --runtime") from error
    if done.returncode:
        raise PipelineError(f"`{_COMMAND}` failed: {_reason(done.stderr)}")


def _reason(log: str) -> str:
    """The first line in which npm says more than a code."""
    lines = [line.removeprefix("npm error").removeprefix("npm ERR!").strip() for line in log.splitlines()]
    said = [line for line in lines if line and not line.startswith(("code ", "errno ", "syscall ", "A complete log"))]
    return said[0] if said else "npm does not say why"


def _read(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for package in PACKAGES:
        path = folder / package.archive
        if not path.is_file():
            raise PipelineError(f"{folder} has no {package.archive}: `{_COMMAND}` writes it")
        content = path.read_bytes()
        if base64.b64encode(hashlib.sha512(content).digest()).decode() != package.integrity:
            raise PipelineError(
                f"{path} is not {package.wanted} as it was published: delete it, and `{_COMMAND}` again"
            )
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for source, name in package.files.items():
                file = archive.extractfile(source)
                assert file is not None, source
                found[name] = file.read()
    return found
