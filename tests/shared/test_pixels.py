"""Every mode, bit depth, photometric interpretation and colour profile that Pillow opens, against known sRGB values,
and against ImageMagick where it is installed."""

import io
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from components.shared import imaging
from components.shared.imaging import ImageError
from tests.helpers import color_profiles as profiles
from tests.helpers.picture_files import bmp, png, tiff

# Columns from black to white, rows from opaque to clear; RGB has a ramp down each of its ways.
RAMP = np.linspace(0, 1, 8)
GREY = RAMP[None, :, None].repeat(8, 0)
RGB = np.stack([GREY[..., 0], GREY[..., 0].T, 1 - GREY[..., 0]], axis=-1)
ALPHA = GREY.transpose(1, 0, 2)
PALETTE = {bits: np.stack([np.linspace(0, 1, 2**bits), np.linspace(1, 0, 2**bits), np.full(2**bits, 0.4)], -1)
           for bits in (1, 2, 4, 8)}  # fmt: skip
IMAGEMAGICK = shutil.which("magick") or shutil.which("convert-im6.q16")


def joined(*parts):
    return np.concatenate(parts, axis=-1)


def coarse(samples, bits):
    """The nearest values that `bits` can hold."""
    return np.round(samples * (2**bits - 1)) / (2**bits - 1)


def power(samples, gamma):
    """sRGB of values that were written with the power law `gamma`."""
    light = samples**gamma
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def on_white(colours, alpha=ALPHA):
    return colours * alpha + 1 - alpha


def printed(inks):
    return (1 - inks[..., :3]) * (1 - inks[..., 3:])


def icc(profile):
    return {34675: (7, profile)}


def iccp(profile):
    return (b"iCCP", b"x\0\0" + zlib.compress(profile))


def gama(value):
    return (b"gAMA", struct.pack(">I", round(value * 100_000)))


def trns(*values):
    return (b"tRNS", struct.pack(f">{len(values)}H", *values))


def tiffs():
    """name: (file, sRGB from 0 to 1)."""
    for order in "<>":
        for bits in (1, 2, 4, 8, 16):
            levels = coarse(GREY, bits)
            for fill in (1,) if bits == 16 else (1, 2):
                yield f"grey{bits}{order}{fill}", tiff(GREY, bits, 1, order, fill=fill), levels
                if (bits, fill) != (8, 2) and (bits, order) != (16, ">"):
                    yield f"min-is-white{bits}{order}{fill}", tiff(GREY, bits, 0, order, fill=fill), 1 - levels
        yield f"signed16{order}", tiff(GREY, 16, 1, order, kind="signed"), GREY
        yield f"float32{order}", tiff(GREY, 32, 1, order, kind="float"), GREY
        yield f"grey-alpha8{order}", tiff(joined(GREY, ALPHA), 8, 1, order, extra=(2,)), on_white(GREY)
        yield f"grey-premultiplied8{order}", tiff(joined(GREY * ALPHA, ALPHA), 8, 1, order, extra=(1,)), on_white(GREY)
        for bits in (8, 16):
            yield f"rgb{bits}{order}", tiff(RGB, bits, 2, order), RGB
            yield f"rgba{bits}{order}", tiff(joined(RGB, ALPHA), bits, 2, order, extra=(2,)), on_white(RGB)
            premultiplied = tiff(joined(RGB * ALPHA, ALPHA), bits, 2, order, extra=(1,))
            yield f"premultiplied{bits}{order}", premultiplied, on_white(RGB)
            yield f"rgb-and-more{bits}{order}", tiff(joined(RGB, ALPHA), bits, 2, order, extra=(0,)), RGB
            yield f"cmyk{bits}{order}", tiff(joined(RGB, ALPHA), bits, 5, order), printed(joined(RGB, ALPHA))
        yield f"rgb-in-planes{order}", tiff(RGB, 8, 2, order, planar=2), RGB
        for bits in (1, 2, 4, 8):
            palette = PALETTE[bits]
            yield f"palette{bits}{order}", tiff(GREY, bits, 3, order, palette=palette), palette[indices(bits)]
    yield "grey12", tiff(GREY, 12, 1), GREY
    yield "grey32", tiff(GREY, 32, 1), GREY
    grey_lab = Image.fromarray(np.round(GREY[..., 0] * 255).astype(np.uint8)).convert("RGB")
    lab = ImageCms.profileToProfile(grey_lab, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
                                    outputMode="LAB")  # fmt: skip
    yield "lab8", tiff(np.asarray(lab) / 255, 8, 8), GREY


def indices(bits):
    return np.round(GREY[..., 0] * (2**bits - 1)).astype(int)


def pngs():
    for bits in (1, 2, 4, 8, 16):
        levels = coarse(GREY, bits)
        yield f"grey{bits}", png(GREY, bits, 0), levels
        yield f"grey{bits}-linear", png(GREY, bits, 0, (gama(1),)), power(levels, 1)
        key = round(RAMP[3] * (2**bits - 1))
        clear = np.round(levels * (2**bits - 1)) == key
        yield f"grey{bits}-clear", png(GREY, bits, 0, (trns(key),)), np.where(clear, 1, levels)
    for bits, palette in PALETTE.items():
        plte = (b"PLTE", np.round(palette * 255).astype(np.uint8).tobytes())
        colours = palette[indices(bits)]
        yield f"palette{bits}", png(GREY, bits, 3, (plte,)), colours
        yield f"palette{bits}-linear", png(GREY, bits, 3, (gama(1), plte)), power(colours, 1)
        first = (indices(bits) == 0)[..., None]
        yield f"palette{bits}-clear", png(GREY, bits, 3, (plte, (b"tRNS", b"\0"))), np.where(first, 1, colours)
    for bits in (8, 16):
        key = np.round(RGB[2, 3] * (2**bits - 1)).astype(int)
        spot = np.abs(RGB - RGB[2, 3]).max(axis=-1, keepdims=True) < 1e-6
        yield f"rgb{bits}", png(RGB, bits, 2), RGB
        yield f"rgb{bits}-clear", png(RGB, bits, 2, (trns(*key),)), np.where(spot, 1, RGB)
        yield f"rgb{bits}-linear", png(RGB, bits, 2, (gama(1),)), power(RGB, 1)
        yield f"rgb{bits}-gamma-of-srgb", png(RGB, bits, 2, (gama(0.45455),)), RGB
        yield f"rgb{bits}-srgb-after-all", png(RGB, bits, 2, (gama(1), (b"sRGB", b"\0"))), RGB
        yield f"grey-alpha{bits}", png(joined(GREY, ALPHA), bits, 4), on_white(GREY)
        yield f"rgba{bits}", png(joined(RGB, ALPHA), bits, 6), on_white(RGB)
        yield f"rgba{bits}-linear", png(joined(RGB, ALPHA), bits, 6, (gama(1),)), on_white(power(RGB, 1))


def bmps():
    eight = np.round(RGB * 255).astype(np.int64)
    packed = eight[..., 0] << 16 | eight[..., 1] << 8 | eight[..., 2]
    alpha = np.round(ALPHA[..., 0] * 255).astype(np.int64)
    for bits in (1, 4, 8):
        yield f"palette{bits}", bmp(indices(bits), bits, palette=PALETTE[bits]), PALETTE[bits][indices(bits)]
    yield "24", bmp(packed, 24), RGB
    yield "32", bmp(packed, 32), RGB
    # The fourth byte is reserved, unless a mask says that it is alpha.
    yield "32-reserved", bmp(packed | alpha << 24, 32), RGB
    yield "32-masks", bmp(packed, 32, (0xFF0000, 0xFF00, 0xFF)), RGB
    yield "32-alpha", bmp(packed | alpha << 24, 32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)), on_white(RGB)
    five, six = (np.round(RGB * top).astype(np.int64) for top in (31, 63))
    yield "555", bmp(five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2], 16), coarse(RGB, 5)
    mixed = five[..., 0] << 11 | six[..., 1] << 5 | five[..., 2]
    yield (
        "565",
        bmp(mixed, 16, (0xF800, 0x7E0, 0x1F)),
        np.stack([coarse(RGB, bits)[..., k] for k, bits in enumerate((5, 6, 5))], axis=-1),
    )


def profiled():
    named_srgb, swapped = profiles.rgb(1.0, "sRGB linear"), RGB[..., ::-1]
    for name, profile, expected in (
        ("linear-called-srgb", named_srgb, power(RGB, 1)),
        ("gamma18", profiles.rgb(1.8), power(RGB, 1.8)),
        ("swapped", profiles.rgb(2.2, swapped=True), power(swapped, 2.2)),
        ("srgb", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), RGB),
    ):
        for bits in (8, 16):
            yield f"tiff-rgb{bits}-{name}", tiff(RGB, bits, 2, tags=icc(profile)), expected
            yield f"png-rgb{bits}-{name}", png(RGB, bits, 2, (iccp(profile),)), expected
            data = tiff(joined(RGB, ALPHA), bits, 2, extra=(2,), tags=icc(profile))
            yield f"tiff-rgba{bits}-{name}", data, on_white(expected)
            yield f"png-rgba{bits}-{name}", png(joined(RGB, ALPHA), bits, 6, (iccp(profile),)), on_white(expected)
    for gamma in (1.0, 1.8):
        profile = profiles.grey(gamma)
        for bits in (1, 4, 8, 16):
            expected = power(coarse(GREY, bits), gamma)
            yield f"tiff-grey{bits}-gamma{gamma}", tiff(GREY, bits, 1, tags=icc(profile)), expected
            yield f"png-grey{bits}-gamma{gamma}", png(GREY, bits, 0, (iccp(profile),)), expected
        yield f"tiff-min-is-white16-{gamma}", tiff(GREY, 16, 0, tags=icc(profile)), power(1 - GREY, gamma)
        for bits in (8, 16):
            data = png(joined(GREY, ALPHA), bits, 4, (iccp(profile),))
            yield f"png-grey-alpha{bits}-gamma{gamma}", data, on_white(power(GREY, gamma))
    yield "grey-with-a-profile-for-rgb", tiff(GREY, 8, 1, tags=icc(named_srgb)), power(GREY, 1)
    for other in (profiles.grey(1.0), profiles.press()):
        yield f"rgb-with-a-profile-for-{other[16:20].decode()}", tiff(RGB, 8, 2, tags=icc(other)), RGB


CASES = {
    f"{kind.__name__}-{name}": (data, expected)
    for kind in (tiffs, pngs, bmps, profiled) for name, data, expected in kind()
}  # fmt: skip
# ImageMagick 6 differs: it does not turn these round (libtiff and the specification do), takes what is unspecified for
# alpha, and PNG's gAMA before its sRGB chunk.
NOT_AS_IMAGEMAGICK = ("min-is-white2", "min-is-white4", "rgb-and-more", "bmps-32-reserved", "srgb-after-all",
                      "a-profile-for-")  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values(name):
    data, expected = CASES[name]
    assert_close(imaging.decode(data), np.round(np.broadcast_to(expected, (8, 8, 3)) * 255))


@pytest.mark.skipif(not IMAGEMAGICK, reason="ImageMagick is not installed")
@pytest.mark.parametrize("with_profile", [False, True])
def test_as_imagemagick(with_profile, tmp_path):
    (tmp_path / "srgb.icc").write_bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    names = [name for name in CASES if name.startswith("profiled") == with_profile]
    names = [name for name in names if not any(part in name for part in NOT_AS_IMAGEMAGICK)]
    for number, name in enumerate(names):
        (tmp_path / f"{number:03d}").write_bytes(CASES[name][0])
    to_srgb = ["-profile", tmp_path / "srgb.icc"] if with_profile else ["-colorspace", "sRGB"]
    command = [IMAGEMAGICK, "-quiet", *sorted(tmp_path.glob("[0-9]*")), *to_srgb, "-background", "white"]
    done = subprocess.run([*command, "-alpha", "remove", "-depth", "8", "rgb:-"], capture_output=True, check=True)
    theirs = np.frombuffer(done.stdout, np.uint8).reshape(len(names), 8, 8, 3).astype(int)
    ours = np.stack([imaging.decode(CASES[name][0]) for name in names])
    differences = np.abs(theirs - ours).max(axis=(1, 2, 3))
    assert not {name: difference for name, difference in zip(names, differences) if difference > 3}


def assert_close(pixels, expected, tolerance=2):
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance, (pixels[2, 3], expected[2, 3])


def cmyk_jpeg(inverted, marked):
    """Pillow writes them inverted, as Adobe does, and with Adobe's marker."""
    inks = np.round(joined(RGB, GREY * 0.3) * 255).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    buffer = io.BytesIO()
    Image.fromarray(inks if inverted else 255 - inks, "CMYK").save(buffer, "JPEG", quality=98, subsampling=0)
    data = buffer.getvalue()
    at = data.index(b"\xff\xee")
    assert data[at + 4 : at + 9] == b"Adobe"
    return data if marked else data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


@pytest.mark.parametrize("inverted, marked", [(True, True), (True, False), (False, False)])
def test_cmyk_jpeg(inverted, marked):
    expected = np.round(printed(joined(RGB, GREY * 0.3)) * 255)
    assert_close(imaging.decode(cmyk_jpeg(inverted, marked))[8::16, 8::16], expected, 6)


def test_cmyk_with_the_profile_of_a_press():
    """Only the corners are known: between them is what the two points of its table give."""
    inks = joined(np.round(RGB), np.round(ALPHA))
    pixels = imaging.decode(tiff(inks, 8, 5, tags=icc(profiles.press())))
    assert_close(pixels, printed(inks) * 255, 4)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_deep_jpeg_2000_would_come_out_black(mode):
    """Pillow rounds 65,535 up to 256, which it stores as 0; of grey it keeps 16 bits."""
    data = bytearray(_jpeg_2000(mode))
    data[data.index(b"\xff\x4f\xff\x51") + 42] = 15
    with pytest.raises(ImageError, match="JPEG 2000 picture of 16 bits") as caught:
        imaging.decode(bytes(data))
    assert caught.value.reason == "unsupported"


def test_deep_grey_jpeg_2000():
    levels = np.round(GREY[..., 0] * 65535).astype(np.uint16).repeat(8, 0).repeat(8, 1)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "JPEG2000")
    assert_close(imaging.decode(buffer.getvalue())[4::8, 4::8], np.round(GREY * 255))


def _jpeg_2000(mode):
    buffer = io.BytesIO()
    Image.new(mode, (32, 32), "white").save(buffer, "JPEG2000")
    return buffer.getvalue()


REDUCED = {
    "PNG": ("1", "L", "P", "RGB", "RGBA", "I;16", "LA"),
    "TIFF": ("1", "L", "P", "RGB", "RGBA", "I;16", "LA", "CMYK", "F"),
    "JPEG2000": ("L", "RGB", "RGBA", "LA"),
}


@pytest.mark.parametrize("format", REDUCED)
def test_large_pictures_of_every_mode_are_reduced(format, monkeypatch):
    """What is averaged before it is converted means the same as what is not."""
    monkeypatch.setattr(imaging, "LARGE_PIXELS", 1000)
    picture = Image.fromarray(np.round(RGB * 255).astype(np.uint8)).resize((240, 240), Image.Resampling.BICUBIC)
    for mode in REDUCED[format]:
        buffer = io.BytesIO()
        _in_mode(picture, mode).save(buffer, format)
        whole, reduced = (imaging.resize(imaging.decode(buffer.getvalue(), side), 8, 8, "box") for side in (None, 16))
        assert np.abs(whole.astype(int) - reduced).mean() < 6, mode


def _in_mode(picture, mode):
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.float32) / 255)
    return picture.quantize(64) if mode == "P" else picture.convert(mode)
