"""Every kind of broken picture, and what is none: named as what it is."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from components.shared import imaging
from components.shared.imaging import ImageError
from tests.helpers.picture_files import png, tiff
from tests.helpers.scenes import assert_scene, saved, scene


def reason(data, short_side=128):
    with pytest.raises(ImageError) as caught:
        imaging.decode(data, short_side)
    assert caught.value.reason in ImageError.REASONS
    assert str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html><title>Sign in</title>",
        b'{"error": 1}',
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7 ",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"GIF",
        b"\x89PNG",
    ],
)
def test_not_an_image(data):
    assert reason(data) == "not_an_image"


def reason_and_text(data):
    with pytest.raises(ImageError) as caught:
        imaging.decode(data, 128)
    return caught.value.reason, str(caught.value)


def jpeg_of_process(start_of_frame, bits=8):
    data = saved(scene(), "JPEG")
    at = data.index(b"\xff\xc0")
    return data[: at + 1] + bytes([start_of_frame]) + data[at + 2 : at + 4] + bytes([bits]) + data[at + 5 :]


def media(brand, *compatible):
    body = brand + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + bytes(100)


FLAT = np.full((64, 64, 3), 0.5)


@pytest.mark.parametrize(
    "data, name",
    [
        (jpeg_of_process(0xC1, 12), "12-bit JPEG"),
        (jpeg_of_process(0xC3), "lossless JPEG"),
        (jpeg_of_process(0xF7), "JPEG LS"),
        (tiff(FLAT, 32, 2, kind="float"), "TIFF of 3 x 32-bit float samples"),
        (tiff(FLAT[..., :1], 16, 1, kind="float"), "TIFF of 1 x 16-bit float samples"),
        (tiff(FLAT, 16, 2, planar=2), "16-bit unsigned samples (RGB, in separate planes"),
        (tiff(FLAT[..., :1], 16, 32803, ">"), "camera raw"),
        (media(b"heic", b"mif1", b"heic"), "HEIC"),
        (media(b"mif1", b"mif1", b"heic"), "HEIC"),
        (media(b"crx "), "Canon"),
        (b"\xff\x0a" + bytes(100), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100), "JPEG XL"),
        (b"II\xbc\x01" + bytes(100), "JPEG XR"),
        (b"8BPS\0\x01" + bytes(100), "Photoshop"),
        (b"\x76\x2f\x31\x01" + bytes(100), "OpenEXR"),
    ],
)
def test_pictures_that_cannot_be_read_are_named(data, name):
    reason, text = reason_and_text(data)
    assert reason == "unsupported" and name in text and "convert it" in text


@pytest.mark.parametrize(
    "data, name",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS pointer"),
        (b"\n <!DOCTYPE html><title>Sign in</title>", "HTML page"),
        (b"\xef\xbb\xbf<html>", "HTML page"),
        ("\ufeff<html><body>".encode("utf-16-le"), "HTML page"),
        (b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN'><svg/>", "SVG drawing"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "AccessDenied"),
        (b"%PDF-1.7 ", "PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b'{"error": 1}', "JSON"),
        (b"PK\x03\x04", "ZIP archive"),
        (b"\0\x05\x16\x07" + bytes(40), "macOS resource file"),
        (media(b"mp42", b"isom"), "video"),
        (b"", "no bytes at all"),
        (bytes(1000), "nothing but zero bytes"),
        (b"Not found", "begins with 'Not found'"),
    ],
)
def test_what_is_no_picture_is_named(data, name):
    reason, text = reason_and_text(data)
    assert reason == "not_an_image" and name in text


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_only_its_end_marker_is_taken(mode, progressive):
    data = saved(scene().convert(mode), "JPEG", quality=90, progressive=progressive)
    whole = imaging.decode(data, 64)
    for cut in (1, 2):
        assert np.array_equal(imaging.decode(data[:-cut], 64), whole)
    for cut in (3, 5, 40, len(data) // 2, len(data) - data.rindex(b"\xff\xda") if progressive else 100):
        assert reason(data[:-cut]) == "truncated", cut


def test_a_jpeg_of_which_a_colour_is_missing_is_truncated():
    """Its components in scans of their own: cut off between two of them it looks complete."""
    data = saved(scene().convert("L"), "JPEG")
    frame = data.index(b"\xff\xc0")
    two_more = b"\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00"
    data = data[: frame + 2] + struct.pack(">H", 17) + data[frame + 4 : frame + 9] + two_more + data[frame + 13 :]
    assert reason(data[:-2]) == "truncated"


def noise(size):
    return np.random.default_rng(1).integers(32, 126, size).astype(np.uint8).tobytes()


_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    "name, body, after",
    [
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x>" + noise(3 << 20), False),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x>" + noise(3 << 20), True),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x>" + noise(20 << 20), 1), False),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x>" + noise(20 << 20), 1), True),
        (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(70 << 20), 1), False),
        (b"iCCP", b"x\0\0" + zlib.compress(_SRGB + noise(3 << 20), 1), False),
    ],
    ids=["xmp", "xmp at the end", "compressed xmp", "compressed xmp at the end", "comment", "profile"],
)
def test_png_with_large_metadata(name, body, after):
    data = png(np.asarray(scene()) / 255, 8, 2, ((name, body),), after=after)
    assert_scene(imaging.decode(data, 64))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_cut_off(format, kept):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (200, 300, 3), np.uint8))
    data = saved(noise, format)
    assert reason(data[: int(len(data) * kept)]) in ("truncated", "corrupt", "not_an_image")


def test_cut_off_jpeg_is_told_from_other_damage():
    data = saved(scene(), "JPEG", progressive=True)
    assert reason(data[: len(data) * 2 // 3]) == "truncated"
    data = saved(scene(), "JPEG")
    assert reason(data[: len(data) * 2 // 3]) == "truncated"


def test_jpeg_with_bytes_after_the_end_is_accepted():
    assert_scene(imaging.decode(saved(scene(), "JPEG", quality=95) + b"\0" * 100))


def test_jpeg_with_stray_bytes_between_segments_is_accepted():
    data = saved(scene(), "JPEG", quality=95)
    at = data.index(b"\xff\xdb")
    assert_scene(imaging.decode(data[:at] + b"\0\0\0" + data[at:]))


def test_png_with_wrong_checksum():
    data = bytearray(saved(scene(), "PNG"))
    at = data.index(b"IDAT")
    data[at + 30] ^= 255
    assert reason(bytes(data)) in ("corrupt", "truncated")


def bomb(width, height):
    """A valid PNG header of that size; the pixels behind it are never looked at."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(8000, 6300), (20000, 20000), (60000, 60000)])
def test_too_many_pixels(size):
    assert reason(bomb(*size)) == "too_many_pixels"


def test_too_thin():
    assert reason(saved(Image.new("RGB", (3000, 2)), "PNG")) == "too_thin"


def test_progressive_jpeg_counts_in_full():
    """Its coefficients are held in memory whole, so shrinking does not help: a small file can claim gigabytes."""
    data = bytearray(saved(scene(), "JPEG", progressive=True))
    at = data.index(b"\xff\xc2")
    data[at + 5 : at + 9] = struct.pack(">HH", 9000, 9000)
    assert reason(bytes(data)) == "too_many_pixels"


@pytest.mark.parametrize("options", [{"progressive": True}, {}])
def test_a_jpeg_of_endless_scans_is_refused(options):
    data = saved(scene(), "JPEG", **options)
    start = data.rindex(b"\xff\xda")
    if not options:  # sequential, its components in scans of their own: so says the first scan's header
        data = data[: start + 2] + b"\x00\x08\x01\x01\x00\x00\x3f\x00" + data[start + 14 :]
    assert reason(data[:start] + data[start:-2] * 200 + data[-2:]) == "corrupt"
