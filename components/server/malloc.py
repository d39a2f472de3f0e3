"""Memory that goes back to the system after a large picture."""

import ctypes

# Numbers of mallopt(3), the same in every glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
# Pictures of usual sizes stay below, so their memory is reused; a larger one is a mapping of its own, gone when freed.
LARGE = 4_000_000
ARENAS = 2


def return_large_blocks() -> bool:
    """Has glibc give large blocks back; call it before there are threads or workers. False where there is no glibc.

    By default glibc raises its threshold for a mapping to the largest block that was ever freed (up to 32 MB), and has
    8 arenas a core: the pictures of a few dozen threads then stay in as many heaps, 50 MB each.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # macOS, musl
    # Whatever is set explicitly is no longer adjusted.
    limits = {_ARENA_MAX: ARENAS, _MMAP_THRESHOLD: LARGE, _TRIM_THRESHOLD: LARGE}
    return all(mallopt(name, value) for name, value in limits.items())
