"""Engines side by side on one image at a time: LiteRT, ONNX Runtime and OpenVINO, taking turns.

    python -m benchmarks.engines MODEL.tflite [MODEL.onnx] [--rounds 15]

The files are of one network, for [1, side, side, 3]; random weights are fine. Each engine has one thread. Times are
processor milliseconds, so that what else the machine does counts little, and minimum and median are over the rounds.
ONNX Runtime and OpenVINO are no dependencies: what is not installed is left out.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np


def litert(path: str) -> tuple[Callable[[], np.ndarray], np.ndarray]:
    """A call that answers for one image, and that image."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    image = np.random.default_rng(1).integers(0, 256, source["shape"]).astype(source["dtype"])

    def run() -> np.ndarray:
        interpreter.set_tensor(source["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return run, image


def onnx_runtime(path: str, image: np.ndarray) -> Callable[[], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    fed = {session.get_inputs()[0].name: image.astype(np.float32)}
    return lambda: session.run(None, fed)[0]


def openvino(path: str, image: np.ndarray, precision: str) -> Callable[[], np.ndarray]:
    import openvino as ov

    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(path, "CPU", options)
    fed = image.astype(compiled.input(0).element_type.to_dtype())
    return lambda: compiled(fed)[0]


def engines(tflite: str, onnx: str) -> dict[str, Callable[[], np.ndarray]]:
    """Those that are installed, by name; OpenVINO reads the ONNX file where there is one, else the LiteRT file."""
    first, image = litert(tflite)
    found = {"LiteRT": first}
    makers: dict[str, Callable] = {"ONNX Runtime": lambda: onnx_runtime(onnx, image)} if onnx else {}
    makers["OpenVINO f32"] = lambda: openvino(onnx or tflite, image, "f32")
    makers["OpenVINO bf16"] = lambda: openvino(onnx or tflite, image, "bf16")
    for name, make in makers.items():
        try:
            found[name] = make()
        except ImportError as error:
            print(f"{name}: {error.name} is not installed")
    return found


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("tflite")
    parser.add_argument("onnx", nargs="?", default="")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    runs = engines(arguments.tflite, arguments.onnx)
    expected = runs["LiteRT"]()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name, run in runs.items():
        print(f"{name}: differs from LiteRT by at most {np.abs(run() - expected).max():.1e}")
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            started = time.process_time()
            run()
            times[name].append(1000 * (time.process_time() - started))
    for name, values in times.items():
        gain = statistics.median(times["LiteRT"]) / statistics.median(values)
        print(f"{name:<14} min {min(values):7.1f} ms  median {statistics.median(values):7.1f} ms  {gain:.2f} of LiteRT")


if __name__ == "__main__":
    main()
