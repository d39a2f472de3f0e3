"""Every kind of picture a museum serves, through the one geometry."""

import concurrent.futures
import struct
import time

import numpy as np
import pytest
from PIL import Image, ImageCms

from components.shared import imaging
from components.shared.imaging import ImageError
from tests.helpers.scenes import EXPECTED, assert_scene, saved, scene


@pytest.mark.parametrize(
    "format, options",
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 95}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("AVIF", {"quality": 90}),
        ("JPEG2000", {}),
    ],
)
def test_formats(format, options):
    pixels = imaging.decode(saved(scene(), format, **options))
    assert pixels.shape == (240, 320, 3)
    assert_scene(pixels)


def test_palette_and_first_frame_of_a_gif():
    other = Image.new("RGB", (320, 240), "black")
    data = saved(scene().quantize(16), "GIF", save_all=True, append_images=[other.quantize(2)])
    assert_scene(imaging.decode(data))


def test_png_palette_with_transparency_is_laid_on_white():
    palette = scene().quantize(8)
    data = saved(palette, "PNG", transparency=palette.getpixel((10, 10)))
    pixels = imaging.decode(data)
    assert pixels[60, 80].tolist() == [255, 255, 255]
    assert np.abs(pixels[60, 240].astype(int) - EXPECTED[1]).max() <= 8


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_on_white(format):
    image = scene().convert("RGBA")
    alpha = np.full((240, 320), 255, np.uint8)
    alpha[:, :160] = 0
    image.putalpha(Image.fromarray(alpha))
    pixels = imaging.decode(saved(image, format, **({"lossless": True} if format == "WEBP" else {})))
    assert pixels[:, :160].min() >= 254
    assert np.abs(pixels[60, 240].astype(int) - EXPECTED[1]).max() <= 8


def test_grey_with_alpha():
    image = Image.merge("LA", [Image.new("L", (64, 64), 100), Image.new("L", (64, 64), 255)])
    assert imaging.decode(saved(image, "PNG"))[5, 5].tolist() == [100, 100, 100]


def test_one_bit():
    pixels = imaging.decode(saved(Image.new("1", (40, 40), 1), "PNG"))
    assert pixels.min() == 255 and pixels.shape == (40, 40, 3)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_brightness(format):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(64, 0)
    pixels = imaging.decode(saved(Image.fromarray(ramp), format))
    assert np.abs(pixels[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_dark_sixteen_bits_stay_dark():
    assert imaging.decode(saved(Image.fromarray(np.full((32, 32), 200, np.uint16)), "PNG")).max() == 0


def test_float_tiff():
    data = saved(Image.fromarray(np.full((32, 32), 0.5, np.float32)), "TIFF")
    assert abs(int(imaging.decode(data)[0, 0, 0]) - 128) <= 1


def test_cmyk_jpeg():
    assert_scene(imaging.decode(saved(scene().convert("CMYK"), "JPEG", quality=95)), tolerance=12)


def test_grey_jpeg_has_three_channels():
    pixels = imaging.decode(saved(Image.new("L", (64, 48), 77), "JPEG"))
    assert pixels.shape == (48, 64, 3) and abs(int(pixels[5, 5, 1]) - 77) <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(orientation, format):
    """The picture is stored turned as a camera would, with the tag that says so: it comes out upright."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = scene().transpose(undo[orientation]) if orientation > 1 else scene()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(stored, format, exif=exif.tobytes(), **({"quality": 95} if format in ("JPEG", "WEBP") else {}))
    pixels = imaging.decode(data)
    assert pixels.shape == (240, 320, 3)
    assert_scene(pixels, tolerance=14)
    decoded = imaging.EncodedImage(data).decode(64)
    assert (decoded.width, decoded.height) == (320, 240)


def test_damaged_exif_does_not_lose_the_picture():
    data = saved(scene(), "JPEG", quality=95, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert_scene(imaging.decode(data))


def _swapped_profile():
    """A profile whose red and blue primaries are exchanged: ignoring it gives visibly wrong colours."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    for index in range(count):
        at = 132 + 12 * index
        name = bytes(profile[at : at + 4])
        if name in (b"rXYZ", b"bXYZ"):
            profile[at : at + 4] = b"bXYZ" if name == b"rXYZ" else b"rXYZ"
        if name == b"desc":
            offset, length = struct.unpack(">II", profile[at + 4 : at + 12])
            profile[offset : offset + length] = profile[offset : offset + length].replace(b"R\0G\0B", b"X\0X\0X")
    return bytes(profile)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_icc_profile_is_converted_to_srgb(format):
    options = {"quality": 95, "subsampling": 0} if format == "JPEG" else {"quality": 95} if format == "WEBP" else {}
    data = saved(Image.new("RGB", (64, 64), (220, 20, 40)), format, icc_profile=_swapped_profile(), **options)
    red, _, blue = imaging.decode(data)[32, 32].tolist()
    assert blue > 200 and red < 80


def test_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain, tagged = saved(scene(), "PNG"), saved(scene(), "PNG", icc_profile=profile)
    assert np.array_equal(imaging.decode(plain), imaging.decode(tagged))


def test_damaged_profile_is_ignored():
    assert_scene(imaging.decode(saved(scene(), "PNG", icc_profile=b"no profile" * 20)))


@pytest.mark.parametrize("size", [(1050, 700), (700, 1050), (257, 300), (128, 400), (90, 60), (4000, 3000)])
@pytest.mark.parametrize("progressive", [False, True])
def test_shrink_on_load_keeps_the_geometry(size, progressive):
    data = saved(scene(*size), "JPEG", quality=95, progressive=progressive)
    decoded = imaging.decode(data, 128)
    assert min(decoded.shape[:2]) >= min(min(size), 160), "never below 1.25 times the wanted size"
    stored = imaging.resize_short_side(decoded, 128)
    assert min(stored.shape[:2]) == 128
    assert stored.shape[1] / stored.shape[0] == pytest.approx(size[0] / size[1], rel=0.01)
    whole = imaging.resize_short_side(imaging.decode(data), 128)
    assert np.abs(stored.astype(int) - whole.astype(int)).mean() < 2
    assert_scene(stored, tolerance=10)


@pytest.mark.parametrize("size", [(400, 600), (601, 257), (33, 500), (2000, 1500), (60, 90)])
def test_the_fast_resizer_and_pillow_agree(size, monkeypatch):
    """Where the one has no wheel the other takes over: not more than one level of 255 may change."""
    assert imaging.cykooz_resizer, "setup.cfg installs it on this platform"
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    fast = imaging.resize_short_side(pixels, 128)
    monkeypatch.setattr(imaging, "cykooz_resizer", None)
    assert np.abs(fast.astype(int) - imaging.resize_short_side(pixels, 128)).max() <= 1


def test_a_resizer_is_not_shared_between_threads():
    pixels = [np.random.default_rng(i).integers(0, 256, (300 + i, 400, 3)).astype(np.uint8) for i in range(40)]
    alone = [imaging.resize_short_side(picture, 64) for picture in pixels]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda picture: imaging.resize_short_side(picture, 64), pixels * 5))
    assert all(np.array_equal(a, b) for a, b in zip(alone * 5, together))


def test_repeated_scans_after_a_whole_one_are_not_decoded():
    data = saved(scene(2000, 1500), "JPEG")
    start = data.rindex(b"\xff\xda")
    began = time.process_time()
    with pytest.raises(ImageError):
        imaging.decode(data[:start] + data[start:-2] * 2000 + data[-2:], 128)
    assert time.process_time() - began < 2, "each of the 2,000 scans would take milliseconds"


def test_large_jpeg_is_decoded_small():
    """12 megapixels for a 128 pixel picture: a quarter of the side is decoded at most."""
    assert imaging.decode(saved(scene(4000, 3000), "JPEG"), 128).shape[0] <= 3000 // 4


@pytest.mark.parametrize("stored, expected", [(128, 112), (256, 224), (64, 48), (16, 16), (10, 16), (299, 256)])
def test_input_size(stored, expected):
    assert imaging.input_size(stored) == expected


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (100, 90), (128, 128)])
def test_model_input_is_the_central_square(size):
    pixels = imaging.model_input(saved(scene(*size), "JPEG", quality=95), 128)
    assert pixels.shape == (112, 112, 3)
    assert_scene(pixels, tolerance=14)


def test_stored_pictures_give_the_same_model_input():
    """Serving gets originals, training gets stored pictures: after the geometry they agree but for JPEG noise."""
    data = saved(scene(900, 700), "JPEG", quality=95)
    stored = imaging.encode_jpeg(imaging.resize_short_side(imaging.decode(data, 128), 128), 95)
    difference = imaging.model_input(data, 128).astype(int) - imaging.model_input(stored, 128).astype(int)
    assert np.abs(difference).mean() < 2


def test_encoded_jpeg_is_read_back():
    assert_scene(imaging.decode(imaging.encode_jpeg(np.asarray(scene()), 95)))


def test_encode_takes_views():
    turned = np.asarray(scene())[::-1, ::-1]
    assert imaging.decode(imaging.encode_jpeg(turned, 90)).shape == (240, 320, 3)
