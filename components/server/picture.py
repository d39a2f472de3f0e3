"""What of an image is looked at before it is decoded."""

import io
import warnings

from PIL import Image

from components.shared.imaging import ImageError

# JPEGs are shrunk while they are decoded, and imaging.decode limits them; other formats are held whole, and several
# workers decode at a time.
MAX_PIXELS = 20_000_000


def check(data: bytes) -> None:
    """Reads the header of `data`, and no more: a decoder would need the memory that this is to save.

    What cannot be read is let through: the decoder says what is wrong with it.

    Raises:
        ImageError: it says that it has more than MAX_PIXELS pixels, and is no JPEG.
    """
    if data[:2] == b"\xff\xd8":
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as picture:
                width, height = picture.size
    except Image.DecompressionBombError as error:
        raise ImageError("too_many_pixels", str(error)) from error
    except Exception:  # Pillow's parsers raise nearly anything on damaged headers
        return
    if width * height > MAX_PIXELS:
        raise ImageError("too_many_pixels", f"{width} x {height} pixels, more than {MAX_PIXELS // 10**6} million")
