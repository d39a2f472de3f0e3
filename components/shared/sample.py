"""The embedded sample: a small museum of five invented cultures, drawn with Pillow, the same for the same seed.

Its faults are planted, so that every report has something to find: files that are no images, the same image under
two ids, and objects whose culture is not what the record says.
"""

import io
import random
from functools import lru_cache

from PIL import Image

from components.shared.errors import PipelineError
from components.shared.sample_drawing import FORMS, PALETTES, draw_object

OBJECTS_PER_CULTURE = 118
ARTISTS_PER_CULTURE = 24
SIGNED_SHARE = 0.5
MISLABELLED = 4
BROKEN = ("truncated", "web page", "empty", "half a PNG", "a PDF")
DUPLICATES = ("same", "same", "recompressed", "recompressed", "smaller", "other culture")

# In the order of sample_drawing.ORNAMENTS: waves, peaks, suns, branches, weave.
CULTURES = ("Maruvan", "Keldric", "Solari", "Verdane", "Tahari")
LANDS = (
    ("Maruva", "the Salt Coast", "Port Ondine", "Ondine River"),
    ("Keldra", "the High Passes", "Karsholm", "Skarn"),
    ("Solara", "the Noon Plain", "Heliope", "Amber River"),
    ("Verdania", "the Great Wood", "Fernhollow", "Mossel"),
    ("Tahar", "the Reed Lakes", "Zemira", "Tah"),
)
NAMES = (
    ("Mere", "Oriel", "Nalu", "Talise", "Ondo", "Caspar", "Isla", "Maro"),
    ("Brand", "Hild", "Torv", "Sigra", "Eskil", "Yrsa", "Gunn", "Alrik"),
    ("Aurel", "Lucia", "Zenon", "Marisol", "Elio", "Dara", "Heli", "Sorin"),
    ("Rowan", "Linnea", "Silvan", "Fern", "Aldo", "Hazel", "Bryony", "Oren"),
    ("Samir", "Leila", "Idris", "Nura", "Tariq", "Amina", "Jalal", "Safi"),
)
SURNAMES = (
    ("Halvane", "of the Quay", "Brine"),
    ("Stonehand", "the Elder", "Varg"),
    ("Daymark", "of Heliope", "Candela"),
    ("Underleaf", "Thorne", "of the Glade"),
    ("Reedweaver", "al-Zemir", "Knot"),
)
PERIODS = (("Early period", 1100, 1349), ("Classical period", 1350, 1649), ("Late period", 1650, 1899))
MATERIALS = {
    "Vases": ("Vase", "Glazed earthenware", "Ceramics"),
    "Bowls": ("Bowl", "Stoneware", "Ceramics"),
    "Plates": ("Plate", "Tin-glazed earthenware", "Ceramics"),
    "Tiles": ("Tile", "Painted terracotta", "Ceramics"),
    "Textiles": ("Hanging", "Wool and silk", "Textiles"),
    "Paintings": ("Panel", "Tempera on wood", "Paintings"),
}
SUBJECTS = (
    ("Tide", "Spring tide", "Nine waves", "The harbour at dusk", "Fish scales"),
    ("Mountains", "Three peaks", "The pass in winter", "Thunder", "The long road"),
    ("Noon", "Festival of lamps", "Twelve suns", "Midsummer", "The orchard at noon"),
    ("Ivy", "First leaves", "The willow", "A garden wall", "Laurel"),
    ("Reeds", "The basket maker", "Threshing floor", "Mat and cord", "The loom"),
)
# Of bigquery-public-data.the_met.objects, in its order.
COLUMNS = tuple(
    (
        "object_number is_highlight is_public_domain object_id department object_name title culture period "
        "dynasty reign portfolio artist_role artist_prefix artist_display_name artist_display_bio "
        "artist_suffix artist_alpha_sort artist_nationality artist_begin_date artist_end_date object_date "
        "object_begin_date object_end_date medium dimensions credit_line geography_type city state county "
        "country region subregion locale locus excavation river classification rights_and_reproduction "
        "link_resource metadata_date repository"
    ).split()
)
# Which museum a seed stands for. With this one, the default seed gives every culture a fair share of every split.
EDITION = 556


def rows(seed: int) -> list[dict]:
    """The records of the objects, in The Met's 43 columns and types, object_id from 1001.

    Cultures have equal shares; two fifths of the objects are unsigned, as in any museum; the others are by 24 artists
    a culture.
    """
    return [dict(record) for record, _ in _museum(seed).values()]


def picture(uri: str) -> bytes:
    """The file behind `sample:<seed>/<object_id>`: a JPEG or PNG, or what a broken one holds.

    Raises:
        PipelineError: there is no such object.
    """
    seed, _, object_id = uri.removeprefix("sample:").partition("/")
    if not (uri.startswith("sample:") and seed.removeprefix("-").isdigit() and object_id.isdigit()):
        raise PipelineError(f"{uri} is no picture of the sample; one is sample:1/1001")
    found = _museum(int(seed)).get(int(object_id))
    if found is None:
        raise PipelineError(f"{uri}: the sample has no object {object_id}")
    return _file(int(seed), found[1])


@lru_cache(maxsize=4)
def _museum(seed: int) -> dict[int, tuple[dict, dict]]:
    """object_id -> (record, how to draw it)."""
    rng = random.Random(f"{EDITION}/{seed}")
    artists = _artists(rng)
    plan = [(culture, number) for culture in range(len(CULTURES)) for number in range(OBJECTS_PER_CULTURE)]
    rng.shuffle(plan)
    objects = {}
    for object_id, (culture, _) in enumerate(plan, 1001):
        objects[object_id] = _object(object_id, culture, rng, artists[culture])
    _plant(objects, rng)
    return objects


def _artists(rng: random.Random) -> list[list[dict]]:
    """For each culture, artists with a palette and a form that they prefer."""
    artists = []
    for culture in range(len(CULTURES)):
        full_names = [f"{first} {last}" for first in NAMES[culture] for last in SURNAMES[culture]]
        chosen = []
        for name in rng.sample(full_names, ARTISTS_PER_CULTURE):
            period = rng.randrange(len(PERIODS))
            born = rng.randint(PERIODS[period][1], PERIODS[period][2] - 70)
            chosen.append(
                {
                    "name": name,
                    "period": period,
                    "born": born,
                    "died": born + rng.randint(38, 70),
                    "palette": rng.randrange(len(PALETTES)),
                    "form": rng.choice(list(FORMS)),
                }
            )
        artists.append(chosen)
    return artists


def _object(object_id: int, culture: int, rng: random.Random, artists: list[dict]) -> tuple[dict, dict]:
    artist = rng.choice(artists) if artists and rng.random() < SIGNED_SHARE else None
    if artist:
        period, palette = artist["period"], artist["palette"]
        form = artist["form"] if rng.random() < 0.6 else rng.choice(list(FORMS))
        year = rng.randint(artist["born"] + 20, artist["died"])
    else:
        period, palette, form = rng.randrange(len(PERIODS)), rng.randrange(len(PALETTES)), rng.choice(list(FORMS))
        year = rng.randint(*PERIODS[period][1:])
    drawing = {"ornament": culture, "form": form, "palette": palette, "age": period, "of": object_id}
    return _record(object_id, culture, drawing, artist, year, rng), drawing


def _record(object_id: int, culture: int, drawing: dict, artist: dict | None, year: int, rng: random.Random) -> dict:
    name, medium, department = MATERIALS[drawing["form"]]
    country, region, city, river = LANDS[culture]
    acquired = rng.randint(1892, 2019)
    subject = rng.choice(SUBJECTS[culture])
    record = {
        "object_number": f"{acquired}.{rng.randint(1, 99)}.{rng.randint(1, 40)}",
        "is_highlight": rng.random() < 0.05,
        "is_public_domain": True,
        "object_id": object_id,
        "department": department,
        "object_name": name,
        "title": f"{name} with {subject.lower()}" if department != "Paintings" else subject,
        "culture": CULTURES[culture],
        "period": PERIODS[drawing["age"]][0],
        "dynasty": f"House of {city}" if drawing["age"] == 1 else "",
        "reign": "",
        "portfolio": "",
        "object_date": f"ca. {year // 10 * 10}" if not artist else str(year),
        "object_begin_date": year // 10 * 10 if not artist else year,
        "object_end_date": year // 10 * 10 + 9 if not artist else year,
        "medium": medium,
        "dimensions": f"H. {rng.randint(12, 180)} cm",
        "credit_line": f"Gift of the Friends of the Sample Museum, {acquired}",
        "geography_type": "Made in",
        "city": city if rng.random() < 0.5 else "",
        "country": country,
        "region": region,
        "excavation": f"{city} excavations, {acquired}" if drawing["age"] == 0 and not artist else "",
        "river": river if rng.random() < 0.1 else "",
        "classification": drawing["form"],
        "rights_and_reproduction": "CC0: drawn by the pipeline",
        "link_resource": f"https://sample.example/objects/{object_id}",
        "metadata_date": "2024-01-01T00:00:00Z",
        "repository": "The Sample Museum",
    } | _artist_columns(culture, artist)
    return {column: record.get(column, "") for column in COLUMNS}


def _artist_columns(culture: int, artist: dict | None) -> dict[str, str]:
    if artist is None:
        return {}
    first, _, last = artist["name"].partition(" ")
    return {
        "artist_role": "Artist",
        "artist_display_name": artist["name"],
        "artist_display_bio": f"{CULTURES[culture]}, {artist['born']}–{artist['died']}",
        "artist_alpha_sort": f"{last}, {first}",
        "artist_nationality": CULTURES[culture],
        "artist_begin_date": str(artist["born"]),
        "artist_end_date": str(artist["died"]),
    }


def _plant(objects: dict[int, tuple[dict, dict]], rng: random.Random) -> None:
    """Spoils some records, and adds files that are broken or copies."""
    sound = rng.sample(sorted(objects), MISLABELLED + len(DUPLICATES))
    for object_id in sound[:MISLABELLED]:
        record, drawing = objects[object_id]
        record["culture"] = CULTURES[(drawing["ornament"] + rng.randint(1, 4)) % len(CULTURES)]
    for kind, original in zip(DUPLICATES, sound[MISLABELLED:]):
        drawing = objects[original][1]
        culture = (drawing["ornament"] + (kind == "other culture")) % len(CULTURES)
        object_id, year = max(objects) + 1, rng.randint(*PERIODS[drawing["age"]][1:])
        objects[object_id] = _record(object_id, culture, drawing, None, year, rng), drawing | {"fault": kind}
    for number, kind in enumerate(BROKEN):
        object_id = max(objects) + 1
        record, drawing = _object(object_id, number % len(CULTURES), rng, [])
        objects[object_id] = record, drawing | {"fault": kind}


def _file(seed: int, drawing: dict) -> bytes:
    """The bytes of an object's file, sound or with its fault."""
    fault = drawing.get("fault")
    if fault == "web page":
        return b"<!doctype html><title>404</title><p>This object is on loan. Please come back later.</p>\n"
    if fault == "empty":
        return b""
    if fault == "a PDF":
        return b"%PDF-1.4\n1 0 obj << /Type /Catalog >> endobj\n%%EOF\n"
    rng = random.Random(f"{EDITION}/{seed}/{drawing['of']}")
    as_png = rng.random() < 0.04
    image = draw_object(drawing["ornament"], drawing["form"], drawing["palette"], drawing["age"], rng)
    if fault == "smaller":
        image = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS)
    if fault == "half a PNG":
        data = _encoded(image, "PNG")
        return data[: len(data) // 2]
    data = _encoded(image, "PNG" if as_png else "JPEG", quality=60 if fault == "recompressed" else 88)
    return data[: len(data) // 3] if fault == "truncated" else data


def _encoded(image: Image.Image, kind: str, quality: int = 88) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": quality} if kind == "JPEG" else {"compress_level": 1}))
    return buffer.getvalue()
