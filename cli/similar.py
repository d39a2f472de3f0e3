"""`pipeline.py similar`: the works of the model's collection that are nearest to an image."""

import json
from collections.abc import Iterator, Sequence

from components.shared.errors import PipelineError


def similar(model: str, images: Sequence[str], top: int, as_json: bool) -> int:
    """Prints the `top` most similar works of each of `images` (as predict takes them); 1 if one cannot be read."""
    from cli.predict import expanded, quietly_loaded
    from components.artifacts import works
    from components.server.predict import look

    if top < 1:
        raise PipelineError(f"--top must be at least 1, not {top}")
    found = [name for image in images for name in expanded(image)]
    loaded, known = quietly_loaded(model), works.load(model)
    if known is None:
        raise PipelineError(f"{model} has no works to compare with: train the model again, with this release")
    failed = False
    for image in found:
        try:
            nearest = known.nearest(look(loaded, image), top)
        except PipelineError as error:
            failed = True
            print(json.dumps({"image": image, "error": str(error)}) if as_json else f"{image}\n  error: {error}")
            continue
        print(_json(image, nearest) if as_json else "\n".join(_lines(image, nearest)))
    return int(failed)


def _json(image: str, nearest: Sequence) -> str:
    rows = [{"similarity": work.similarity, **work.about} for work in nearest]
    return json.dumps({"image": image, "works": rows}, ensure_ascii=False)


def _lines(image: str, nearest: Sequence) -> Iterator[str]:
    from components.artifacts.objects import credit_line, web_link
    from components.shared.display import spelt

    yield image
    for work in nearest:
        about = work.about
        parts = [about["label"], about["title"] or about["object_id"], credit_line(about), web_link(about)]
        yield f"  {work.similarity:.3f}  {spelt(' · '.join(filter(None, parts)))}"
