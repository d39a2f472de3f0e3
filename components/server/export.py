"""The page as a folder for any static host: the model runs in the visitor's browser, and no server is needed.

index.html, static/   the served page, with another static/classify.js
model.tflite, labels.txt
runtime/              LiteRT.js and its licence
sw.js                 keeps all of it in the browser
"""

import base64
import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import classifier
from components.artifacts.classifier import Classifier
from components.artifacts.objects import LABELS
from components.server import runtime
from components.server.page import FOLDER, STATIC, render
from components.shared import engines
from components.shared.errors import PipelineError
from components.shared.geometry import input_size
from components.shared.storage import storage

# How the modules of LiteRT.js, which are left as they are published, find each other.
_MODULES = json.dumps(
    {"imports": {"@litertjs/core": "./runtime/core.js", "@litertjs/wasm-utils": "./runtime/wasm-utils.js"}}
)
_WEB = FOLDER / "web"
_LICENSE = FOLDER.parents[1] / "LICENSE"
_NOTICE = f"""LiteRT.js {runtime.VERSION} (npm packages @litertjs/core and @litertjs/wasm-utils), unchanged.
https://github.com/google-ai-edge/LiteRT
Licensed under the Apache License, Version 2.0:

"""


@dataclass(frozen=True)
class Exported:
    """What was written: bytes of the model, of LiteRT.js, and of all files."""

    model: int
    runtime: int
    total: int


def export(directory: str, folder: str, name: str, test_accuracy: float | None, runtime_folder: str = "") -> Exported:
    """Writes the page for the classifier in `directory`, a path or a URI, into the new local `folder`.

    Args:
        name: what the page calls the model.
        test_accuracy: share of the test images that the model had right; None if it is not known.
        runtime_folder: where the packages of LiteRT.js are; empty for by npm.

    Raises:
        PipelineError: `folder` is not empty, `directory` is no classifier, or LiteRT.js cannot be had.
    """
    target = _new(folder)
    with tempfile.TemporaryDirectory(prefix="classifier-") as copy:
        local = storage.local_path(directory)
        if local is None:
            classifier.download(directory, copy)
            local = copy
        model = classifier.load(local)
        model.check()
        path = classifier.lite_file(local)
        scale, zero = engines.input_steps(path)
        files = {classifier.TFLITE: Path(path).read_bytes()}
    files[LABELS] = "".join(f"{label}\n" for label in model.labels).encode()
    libraries = runtime.files(runtime_folder)
    files |= {f"runtime/{file}": content for file, content in libraries.items()}
    files["runtime/LICENSE"] = _NOTICE.encode() + _LICENSE.read_bytes()
    static = [
        STATIC / "page.css",
        STATIC / "page.js",
        *(_WEB / f"{file}.js" for file in ("classify", "geometry", "opened")),
    ]
    files |= {f"static/{file.name}": file.read_bytes() for file in static}
    files["index.html"] = _page(model, name, test_accuracy, scale, zero).encode()
    files["sw.js"] = _service_worker(files)
    for file, content in files.items():
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (target / file).write_bytes(content)
    sizes = [len(files[classifier.TFLITE]), sum(map(len, libraries.values())), sum(map(len, files.values()))]
    return Exported(*sizes)


def _new(folder: str) -> Path:
    if "://" in folder:
        raise PipelineError(f"{folder}: give a folder of this machine, and copy it to the host afterwards")
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise PipelineError(f"{folder} is a file: name a new folder")
    if target.is_dir() and any(target.iterdir()):
        raise PipelineError(f"{folder} is not empty: name a new folder")
    return target


def _page(model: Classifier, name: str, test_accuracy: float | None, scale: float, zero: int) -> str:
    digest = base64.b64encode(hashlib.sha256(_MODULES.encode()).digest()).decode()
    stored = model.card["stored_size"]
    web = {
        # Of all that is inline only the names of the modules, by their digest; WebAssembly is compiled, eval is not.
        "policy": f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'sha256-{digest}'; style-src 'self'; "
        "img-src 'self' blob: data:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'",
        "modules": _MODULES,
        "version": model.digest[:12],
        "view": model.card.get("view", "center"),
        "stored_size": stored,
        "input_size": input_size(stored),
        "scale": scale,
        "zero": zero,
    }
    return render(model, name, test_accuracy, f"LiteRT.js {runtime.VERSION}", web=web)


def _service_worker(files: dict[str, bytes]) -> bytes:
    """sw.js, whose version is that of all other files: a browser asks for them anew when this one has changed."""
    version = hashlib.sha256(b"".join(hashlib.sha256(files[name]).digest() for name in sorted(files))).hexdigest()[:16]
    kept = [name for name in files if name != "index.html" and not name.endswith("LICENSE")]
    head = f"const VERSION = {json.dumps(version)}, FILES = {json.dumps(kept)};\n"
    return head.encode() + (_WEB / "sw.js").read_bytes()
