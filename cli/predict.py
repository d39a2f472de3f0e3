"""`pipeline.py predict`: the labels of pictures, best first."""

import json
from typing import Sequence

from components.shared.errors import PipelineError


def predict(model: str, images: Sequence[str], top: int, as_json: bool) -> int:
    """Prints label and probabilities of each image (path or URL); returns 1 if one could not be classified."""
    from components.artifacts import classifier
    from components.server.predict import predict_files

    if top < 1:
        raise PipelineError(f"--top must be at least 1, not {top}")
    loaded = classifier.load(model)
    failed = False
    for image in images:
        try:
            answer = predict_files(loaded, [image])[0][:top]
        except PipelineError as error:
            failed = True
            print(json.dumps({"image": image, "error": str(error)}) if as_json else f"{image}\n  error: {error}")
            continue
        if as_json:
            predictions = [{"label": label, "probability": round(value, 6)} for label, value in answer]
            print(json.dumps({"image": image, "label": answer[0][0], "predictions": predictions}))
        else:
            print(image)
            for label, value in answer:
                print(f"  {value:6.1%}  {'█' * round(value * 30):<30}  {label}")
    return int(failed)
