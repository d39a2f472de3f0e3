"""Settings of a fetch for tests, on what pipeline.py has by default."""

from components.fetch.settings import ShardSettings

_DEFAULTS = {
    "image_base": "", "image_size": 128, "jpeg_quality": 90, "max_failed_fraction": 0.2, "requests_per_second": 80.0,
    "contact": "", "respect_robots": True, "allow_private_addresses": False, "named": (), "side_by_side": 1,
}  # fmt: skip


def fetch_settings(**changes: object) -> ShardSettings:
    """Small images, the pipeline's manners, and `changes`."""
    return ShardSettings(**{**_DEFAULTS, **changes})
