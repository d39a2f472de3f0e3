"""The sizes of images, for those that need no image library."""


def input_size(stored_size: int) -> int:
    """Side of the model's input for images stored at `stored_size`: 128 -> 112, 256 -> 224."""
    return max(16, stored_size * 7 // 8 // 16 * 16)
