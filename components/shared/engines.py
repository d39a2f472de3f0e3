"""What runs a model's file: LiteRT, OpenVINO, which reads the same file, or TensorFlow."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from components.shared.errors import PipelineError

LITERT, OPENVINO, OPENVINO_BF16, SAVED_MODEL = "litert", "openvino", "openvino-bf16", "savedmodel"
# Those that take a .tflite file.
LITE_ENGINES = (LITERT, OPENVINO, OPENVINO_BF16)
ENGINES = (*LITE_ENGINES, SAVED_MODEL)
# Signature and output of a SavedModel that also gives the features; of a .tflite file they are the second output.
FEATURES = "features"
_NO_FEATURES = np.empty(0, np.float32)
Answer = tuple[np.ndarray, np.ndarray]


class ModelError(PipelineError):
    """A folder that is no classifier: none or two models, a file missing, or parts that do not fit each other."""


@dataclass(frozen=True)
class Network:
    """A loaded model.

    Attributes:
        run: from pixels [M, M, 3] uint8 (a SavedModel: an encoded image) to probabilities [classes] and features
            [width] float32; width is 0 where the file gives none.
        shape: of the input, [1, M, M, 3]; empty for a SavedModel.
        classes: length of the answer; None if the file does not say.
    """

    run: Callable[..., Answer]
    shape: tuple[int, ...]
    classes: int | None


def load(path: str, engine: str) -> Network:
    """The model at `path` in one of ENGINES; each runs in one thread, that of its caller.

    One thread: a server runs one engine per core, which serves more than one engine on all cores.

    Raises:
        ModelError: the engine is not installed, or cannot load the file.
    """
    if engine == LITERT:
        return _litert(path)
    if engine == SAVED_MODEL:
        return _saved_model(path)
    if engine in LITE_ENGINES:
        return _openvino(path, "bf16" if engine == OPENVINO_BF16 else "f32")
    raise ValueError(engine)


def computes_bf16() -> bool:
    """Whether OpenVINO is installed and this processor computes bfloat16 by itself.

    Only for a process that does not fork afterwards: OpenVINO's threads do not survive it.
    """
    try:
        import openvino
    except ImportError:
        return False
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _litert(path: str) -> Network:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=path, num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{path} is no LiteRT model: {error}") from error
    source, targets = interpreter.get_input_details()[0], interpreter.get_output_details()[:2]

    def run(pixels: np.ndarray) -> Answer:
        interpreter.set_tensor(source["index"], _quantized(pixels, source)[None])
        interpreter.invoke()
        row, *features = (_real(interpreter.get_tensor(target["index"]), target)[0] for target in targets)
        return row, features[0] if features else _NO_FEATURES

    return Network(run, tuple(map(int, source["shape"])), int(targets[0]["shape"][-1]))


def input_steps(path: str) -> tuple[float, int]:
    """(scale, zero) of the input of the LiteRT model at `path`: it wants `pixels / scale + zero`. (1, 0) for pixels.

    Raises:
        ModelError: it takes other numbers than uint8 and float32, or answers with others than float32.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if source["dtype"] not in (np.uint8, np.float32) or target["dtype"] != np.float32:
        raise ModelError(f"{path} takes {source['dtype'].__name__} and answers in {target['dtype'].__name__}: "
                         "uint8 or float32, and float32, are possible; train it again")  # fmt: skip
    scale, zero = source["quantization"]
    return (float(scale), int(zero)) if scale and source["dtype"] == np.uint8 else (1.0, 0)


def _quantized(pixels: np.ndarray, details: dict) -> np.ndarray:
    scale, zero = details["quantization"]
    if not scale or details["dtype"] == np.float32:
        return pixels.astype(details["dtype"])
    limits = np.iinfo(details["dtype"])
    return np.clip(np.round(pixels / scale) + zero, limits.min, limits.max).astype(details["dtype"])


def _real(values: np.ndarray, details: dict) -> np.ndarray:
    scale, zero = details["quantization"]
    return values if not scale or values.dtype == np.float32 else (values.astype(np.float32) - zero) * scale


def _openvino(path: str, precision: str) -> Network:
    try:
        import openvino
    except ImportError as error:
        raise ModelError("engine openvino is not installed: pip install openvino, or use litert") from error
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        # Pinned, the engines of all workers would share the first core.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        compiled = openvino.Core().compile_model(path, "CPU", options)
        request, source, target = compiled.create_infer_request(), compiled.input(0), compiled.output(0)
        shape, classes = tuple(source.shape), int(target.shape[-1])
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot load {path}: {str(error).splitlines()[0]}; use litert") from error
    if _is_quantized(path):
        raise ModelError(f"{path} is an int8 model: only litert runs it")
    outputs, kind = range(min(len(compiled.outputs), 2)), source.element_type.to_dtype()

    def run(pixels: np.ndarray) -> Answer:
        request.infer({0: pixels.astype(kind)[None]}, share_inputs=True)
        row, *features = (request.get_output_tensor(number).data[0].copy() for number in outputs)
        return row, features[0] if features else _NO_FEATURES

    return Network(run, shape, classes)


def _is_quantized(path: str) -> bool:
    """Whether pixels have to be scaled before they go into the .tflite file, which OpenVINO does not tell."""
    from ai_edge_litert.interpreter import Interpreter

    return bool(Interpreter(model_path=path, num_threads=1).get_input_details()[0]["quantization"][0])


def _saved_model(path: str) -> Network:
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ModelError("engine savedmodel needs TensorFlow, which is not installed; use litert") from error
    try:
        # TensorFlow takes [ ] * ? and \ in a path for a pattern: it gets another name of the folder.
        with tempfile.TemporaryDirectory(prefix="classifier-") as folder:
            link = os.path.join(folder, "model")
            os.symlink(os.path.abspath(path), link)
            signatures = tf.saved_model.load(link).signatures
            signature = signatures[FEATURES] if FEATURES in signatures else signatures["serving_default"]
    except (OSError, KeyError) as error:
        raise ModelError(f"{path} is no SavedModel with the signature serving_default: {error}") from error
    name = next(iter(signature.structured_input_signature[1]))

    def run(picture: bytes) -> Answer:
        found = signature(**{name: tf.constant([picture])})
        return found["probabilities"].numpy()[0], found[FEATURES].numpy()[0] if FEATURES in found else _NO_FEATURES

    return Network(run, (), signature.structured_outputs["probabilities"].shape[-1])
