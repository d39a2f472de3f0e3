"""What to do about memory: batches that evaluation can bear, and advice to a user who ran out of it."""

from components.train import models
from components.train.settings import Settings

EVALUATION_BATCH = 64


def evaluation_batch(settings: Settings) -> int:
    """Examples of an evaluation batch: at most as many as were trained at once, and a multiple of the replicas."""
    replicas = settings.replicas
    return -(-min(EVALUATION_BATCH, settings.batch_size) // replicas) * replicas


def advice(settings: Settings, image_size: int | None = None) -> str:
    """What to try after memory ran out, in parameters: a smaller batch, smaller pictures (stored at `image_size`)."""
    tries = []
    batch = settings.batch_size // 2 // settings.replicas * settings.replicas
    if batch:
        tries.append(f"batch_size={batch}")
    if image_size is None:
        tries.append("a smaller image_size")
    else:
        smallest = models.smallest_image_size(settings.models[0], settings.pre_trained)
        smaller = max(smallest, image_size * 3 // 4)
        if smaller < image_size:
            tries.append(f"image_size={smaller}")
    tries.append("more memory")
    return "try " + ", or ".join(tries)
