"""The learning rate over a phase: linear warm-up, then cosine decay to zero."""

import keras

WARM_UP_SHARE = 0.05


def cosine(peak: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Rises to `peak` over the first 5 % of `steps`, then falls to 0 along a cosine (arXiv:1608.03983)."""
    warm_up = max(1, round(steps * WARM_UP_SHARE))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak * 0.1,
        decay_steps=max(steps - warm_up, 1),
        warmup_target=peak,
        warmup_steps=warm_up,
    )
