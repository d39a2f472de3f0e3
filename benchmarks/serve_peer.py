"""What the benchmark of the server compares with: TensorFlow behind Starlette and uvicorn, as tutorials write it."""

import io
import json
import os
import sys
from pathlib import Path

STORED, INPUT, CLASSES = 256, 224, 1000


def create():
    """The application; the variables PEER, keras (model.predict) or function (a concrete function), and PEER_MODEL."""
    import numpy as np
    import tensorflow as tf
    from PIL import Image
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse
    from starlette.routing import Route

    kind, directory = os.environ["PEER"], os.environ["PEER_MODEL"]
    model = tf.keras.models.load_model(Path(directory, "model.keras"))
    labels = Path(directory, "labels.txt").read_text().splitlines()
    spec = tf.TensorSpec([1, INPUT, INPUT, 3], tf.float32)
    concrete = tf.function(lambda pixels: model(pixels, training=False)).get_concrete_function(spec)

    def predict(pixels: np.ndarray) -> np.ndarray:
        if kind == "keras":
            return model.predict(pixels, verbose=0)[0]
        return concrete(tf.constant(pixels)).numpy()[0]

    predict(np.zeros([1, INPUT, INPUT, 3], np.float32))

    def labelled(data: bytes) -> JSONResponse:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        scale = STORED / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - INPUT) // 2, (image.height - INPUT) // 2
        image = image.crop((left, top, left + INPUT, top + INPUT))
        row = predict(np.asarray(image, np.float32)[None])
        best = np.argsort(-row)[:5]
        predictions = [{"label": labels[index], "probability": float(row[index])} for index in best]
        return JSONResponse({"predictions": predictions})

    async def ready(_: Request) -> PlainTextResponse:
        return PlainTextResponse("ready")

    async def classify(request: Request) -> JSONResponse:
        return await run_in_threadpool(labelled, await request.body())

    return Starlette(routes=[Route("/v2/health/ready", ready), Route("/classify", classify, methods=["POST"])])


def build(directory: str) -> None:
    """Writes the same MobileNetV2 for all: model.keras, model.tflite, labels and card."""
    import numpy as np
    import tensorflow as tf

    from components.artifacts import classifier
    from components.shared.imaging import encode_jpeg

    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    inputs = tf.keras.Input([INPUT, INPUT, 3])
    scaled = tf.keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    body = tf.keras.applications.MobileNetV2(weights=None, classes=CLASSES, input_tensor=scaled)
    model = tf.keras.Model(inputs, body.output)
    # Answers as far apart as a trained model's: else bfloat16 changes the likeliest of a thousand equal labels.
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * 100, bias])
    model.save(folder / "model.keras")
    spec = tf.TensorSpec([1, INPUT, INPUT, 3], tf.float32)
    concrete = tf.function(lambda pixels: model(pixels, training=False)).get_concrete_function(spec)
    # Constants in the file: the converter loses a Keras 3 model's variables.
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(concrete)
    (folder / "model.tflite").write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert())
    labels = [f"class {number}" for number in range(CLASSES)]
    (folder / "labels.txt").write_text("\n".join(labels) + "\n")
    card = {"name": "mobilenet_v2", "labels": labels, "stored_size": STORED, "input_size": INPUT}
    (folder / "model_card.json").write_text(json.dumps(card))
    noise = np.random.default_rng(1)
    sizes = [(STORED, STORED + number, 3) for number in range(classifier.SAMPLE_IMAGES)]
    classifier.write_samples(directory, [encode_jpeg(noise.integers(0, 256, size, np.uint8), 85) for size in sizes])


if __name__ == "__main__":
    build(sys.argv[2])
