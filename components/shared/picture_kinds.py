"""Names what no decoder here reads, so that an HEIC file and a server's error page get different reasons.

A table of our own and no library: those that know file formats know neither error pages nor pointers of Git LFS, nor
what sets one TIFF apart from another.
"""

import io
import re
import struct
import warnings

from PIL import Image, TiffImagePlugin

from components.shared import jpegs

# Images, by what they begin with.
_PICTURES = (
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"II\xbc\x01", "a JPEG XR picture"),
    (b"8BPS", "a Photoshop document"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"BPG\xfb", "a BPG picture"),
    (b"qoif", "a QOI picture"),
    (b"gimp xcf", "a GIMP document"),
    (b"DDS ", "a DDS texture"),
    (b"AT&TFORM", "a DjVu document"),
    (b"FUJIFILMCCD-RAW", "a raw picture of a Fujifilm camera"),
    (b"IIRO", "a raw picture of an Olympus camera"),
    (b"IIU\0", "a raw picture of a Panasonic camera"),
    (b"\0\0\x01\0", "a Windows icon"),
    (b"P5\n", "a PGM picture"),
    (b"P6\n", "a PPM picture"),
    (b"icns", "a macOS icon"),
    (b"\x8aMNG", "an MNG animation"),
    (b"FLIF", "a FLIF picture"),
    (b"SIMPLE  =", "a FITS picture"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
)
# What is no image.
_OTHERS = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, the picture itself was never checked out "
                                                  "(git lfs pull)"),
    (b"/annex/objects/", "a git-annex pointer (git annex get)"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"BZh", "bzip2-compressed data"),
    (b"\xfd7zXZ", "xz-compressed data"),
    (b"\x28\xb5\x2f\xfd", "Zstandard-compressed data"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\0\x05\x16\x07", "a macOS resource file (._ name), not the picture beside it"),
    (b"\xd0\xcf\x11\xe0", "an Office document or Thumbs.db"),
    (b"PAR1", "a Parquet table"),
    (b"ID3", "an MP3 recording"),
    (b"OggS", "an Ogg recording"),
    (b"fLaC", "a FLAC recording"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"glTF", "a glTF model"),
)  # fmt: skip
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "a HEIC picture"),
    b"crx ": "a raw picture of a Canon camera",
    b"jxl ": "a JPEG XL picture",
}
_MARKUP = (
    (re.compile(rb"<svg[\s>/]", re.I), "an SVG drawing"),
    (re.compile(rb"<!doctype html|<html|<head|<body|<title|<script|<meta", re.I), "an HTML page"),
    (re.compile(rb"<Error>.{0,200}<Code>AccessDenied</Code>", re.S), "a store's refusal (AccessDenied)"),
    (re.compile(rb"<Error>.{0,200}<Code>", re.S), "a store's error message"),
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PHOTOMETRIC = {0: "min-is-white", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*",
                9: "ICC L*a*b*", 10: "ITU L*a*b*", 32803: "camera raw", 32844: "LogL", 32845: "LogLuv",
                34892: "linear camera raw"}  # fmt: skip
_TIFF_WEBP = 50001
_KINDS = {1: "unsigned", 2: "signed", 3: "float", 4: "untyped", 5: "complex integer", 6: "complex float"}
_BASELINE = (b"\x89PNG\r\n\x1a\n", b"GIF8", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")


def unsupported(data: bytes) -> str:
    """What image `data` is, if it is one of a kind that is not read here: "a HEIC picture"; else empty."""
    if data[:2] == b"\xff\xd8":
        kind = jpegs.unusual(data)
        return f"a {kind} JPEG" if kind and kind != "LS" else "a JPEG LS picture" if kind else ""
    if data[:4] in _TIFF:
        return _tiff(data)
    if data[4:8] == b"ftyp":
        return "" if is_known(data) else _brand(data)
    return next((name for begin, name in _PICTURES if data.startswith(begin)), "")


def misread(picture: Image.Image, data: bytes) -> str:
    """What `data` is, if Pillow opened it and would load other values than are in it; else empty."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        in_planes = picture.tag_v2.get(284) == 2 and set(picture.tag_v2.get(258, (1,))) != {8}
        return _tiff(data) if in_planes or picture.tag_v2.get(259) == _TIFF_WEBP else ""
    if picture.format == "JPEG2000" and picture.mode not in ("L", "I;16"):
        size = data.find(b"\xff\x4f\xff\x51")
        bits = (data[size + 42] & 127) + 1 if 0 <= size < len(data) - 42 else 8
        # Pillow rounds them up to 256, which becomes 0: white is black.
        return f"a JPEG 2000 picture of {bits} bits a channel" if bits > 8 else ""
    return ""


def is_known(data: bytes) -> bool:
    """Whether `data` begins as an image does that can be read here, if it is whole and nothing unusual."""
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    avif = data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis")
    return webp or avif or data[:2] == b"\xff\xd8" or data[:4] in _TIFF or any(map(data.startswith, _BASELINE))


def described(data: bytes) -> str:
    """What `data` is that is no image: "an HTML page", or else how it begins."""
    text = data[:4096].removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").lstrip(b"\xff\xfe \t\r\n")
    if not data:
        return "no bytes at all"
    if not data.strip(b"\0"):
        return "nothing but zero bytes"
    if data[4:8] == b"ftyp":
        return "a video or recording (MP4)"
    for begin, name in _OTHERS:
        if data.startswith(begin) or text.startswith(begin):
            return name
    if text.startswith(b"<"):
        return next((name for pattern, name in _MARKUP if pattern.search(text)), "an XML document")
    if text[:1] in (b"{", b"["):
        return f"a JSON document that begins {_quoted(text)}"
    return f"no picture: begins with {_quoted(text) if _is_text(text) else repr(data[:16])}"


def _brand(data: bytes) -> str:
    """Of an ISO base media file (MP4's family): the first brand that is an image's."""
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[8:12], *(data[k : k + 4] for k in range(16, size, 4))]
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), "")


def _tiff(data: bytes) -> str:
    """What a TIFF holds, by its first directory."""
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if data[2] == 43 or data[3] == 43 else data[:8])
        file = io.BytesIO(data)
        file.seek(directory.next)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            directory.load(file)
        if 262 not in directory or 257 not in directory:
            return ""
        bits = directory.get(258, (1,))
        kinds = directory.get(339, (1,))
        colours = _PHOTOMETRIC.get(directory[262], f"photometric interpretation {directory[262]}")
        planes = ", in separate planes" if directory.get(284) == 2 else ""
        return (
            f"a TIFF of {len(bits)} x {bits[0]}-bit {_KINDS.get(kinds[0], 'unknown')} samples ({colours}{planes}, "
            f"compression {directory.get(259, 1)})"
        )
    except (SyntaxError, KeyError, TypeError, ValueError, IndexError, OSError, struct.error):
        return ""


def _is_text(text: bytes) -> bool:
    return bool(text) and all(byte >= 32 or byte in b"\t\r\n" for byte in text[:64])


def _quoted(text: bytes) -> str:
    return repr(text[:60].decode("utf-8", "replace"))
