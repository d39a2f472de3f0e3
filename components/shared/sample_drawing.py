"""How the sample museum's objects look: an ornament, by which their culture is told, on one of six forms.

The five ornaments share palettes, scales and angles, and any of them appears on any form: so neither colour nor
outline nor position gives the culture away, only what is drawn.
"""

import math
import random
from collections.abc import Callable, Sequence

from PIL import Image, ImageChops, ImageDraw

Color = tuple[int, int, int]
Point = tuple[float, float]

# Ground, then inks; every culture, period and artist uses all of them.
PALETTES: tuple[tuple[Color, ...], ...] = (
    ((236, 222, 196), (158, 58, 40), (46, 52, 84), (201, 146, 58)),
    ((43, 58, 89), (229, 214, 178), (206, 110, 62), (126, 166, 160)),
    ((122, 46, 40), (238, 214, 170), (34, 40, 52), (214, 152, 70)),
    ((214, 205, 182), (44, 86, 82), (182, 90, 60), (86, 66, 96)),
    ((52, 84, 74), (232, 220, 186), (218, 160, 74), (160, 62, 52)),
    ((226, 176, 104), (88, 38, 36), (36, 70, 92), (246, 230, 200)),
    ((96, 88, 124), (240, 226, 206), (224, 150, 110), (48, 44, 66)),
    ((240, 232, 216), (52, 96, 140), (176, 74, 78), (110, 134, 74)),
    ((60, 52, 48), (226, 190, 140), (190, 84, 52), (148, 166, 150)),
    ((176, 200, 196), (40, 62, 88), (200, 86, 66), (244, 234, 210)),
)
WALLS: tuple[Color, ...] = (
    (226, 221, 212),
    (206, 212, 214),
    (214, 200, 184),
    (190, 196, 186),
    (120, 122, 132),
    (88, 78, 76),
    (164, 146, 140),
)


class _Field:
    """An area to ornament: a grid that is turned by `angle`, with cells of `cell` pixels, over a drawing."""

    def __init__(self, size: tuple[int, int], palette: Sequence[Color], rng: random.Random) -> None:
        self.image = Image.new("RGB", size, palette[0])
        self.draw = ImageDraw.Draw(self.image)
        self.ground, self.inks = palette[0], list(palette[1:])
        self.rng = rng
        self.cell = min(size) * rng.uniform(0.12, 0.16)
        self.center = (size[0] / 2 + rng.uniform(0, self.cell), size[1] / 2 + rng.uniform(0, self.cell))
        self.steps = math.ceil(math.hypot(*size) / 2 / self.cell) + 1
        angle = rng.uniform(-0.5, 0.5) + rng.choice((0, math.pi / 2, math.pi, -math.pi / 2))
        self._cos, self._sin = math.cos(angle), math.sin(angle)

    def at(self, u: float, v: float) -> Point:
        """Pixel of the grid's point (u, v), in cells from the centre."""
        x, y = u * self.cell, v * self.cell
        return self.center[0] + x * self._cos - y * self._sin, self.center[1] + x * self._sin + y * self._cos

    def disc(self, point: Point, radius: float, color: Color) -> None:
        """A filled circle; `radius` in cells."""
        x, y, r = *point, radius * self.cell
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=color)

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """A filled polygon through grid points."""
        self.draw.polygon([self.at(u, v) for u, v in points], fill=color)

    def line(self, points: Sequence[Point], width: float, color: Color) -> None:
        """A line through grid points; `width` in cells."""
        self.draw.line(
            [self.at(u, v) for u, v in points], fill=color, width=max(2, round(width * self.cell)), joint="curve"
        )

    def sees(self, u: float, v: float) -> bool:
        """Whether a cell around (u, v) can be seen."""
        x, y = self.at(u, v)
        return (
            -1.5 * self.cell < x < self.image.width + 1.5 * self.cell
            and -1.5 * self.cell < y < self.image.height + 1.5 * self.cell
        )


def waves(field: _Field) -> None:
    """Scales of concentric arcs, row over row."""
    ground, inks = field.ground, field.inks
    radius = field.rng.uniform(1.15, 1.3)
    for row in range(-field.steps, field.steps + 1):
        for column in range(-field.steps // 2 - 1, field.steps // 2 + 2):
            u, v = 2 * column + row % 2, row * 0.75
            if field.sees(u, v):
                point = field.at(u, v)
                for share, color in ((1, inks[0]), (0.82, ground), (0.6, inks[row % 2]), (0.4, ground), (0.2, inks[0])):
                    field.disc(point, radius * share, color)


def peaks(field: _Field) -> None:
    """Rows of triangles and a zigzag between them."""
    for row in range(-field.steps, field.steps + 1, 2):
        ink = field.inks[row // 2 % 2]
        for column in range(-field.steps, field.steps + 1):
            if field.sees(column, row):
                field.polygon(((column - 0.5, row + 0.5), (column + 0.5, row + 0.5), (column, row - 0.6)), ink)
        zigzag = [
            (column / 2, row + (1.0 if column % 2 else 1.55)) for column in range(-2 * field.steps, 2 * field.steps + 1)
        ]
        field.line(zigzag, 0.16, field.inks[2])


def suns(field: _Field) -> None:
    """Discs with rays, set apart, with dots between them."""
    rays = field.rng.choice((10, 12, 14))
    for row in range(-field.steps, field.steps + 1):
        for column in range(-field.steps, field.steps + 1):
            u, v = 2.5 * column + 1.25 * (row % 2), 2.15 * row
            if not field.sees(u, v):
                continue
            turn = field.rng.uniform(0, 1)
            for ray in range(rays):
                angle = 2 * math.pi * (ray + turn) / rays
                cos, sin = math.cos(angle), math.sin(angle)
                field.line(((u + 0.66 * cos, v + 0.66 * sin), (u + 1.02 * cos, v + 1.02 * sin)), 0.13, field.inks[0])
            point = field.at(u, v)
            field.disc(point, 0.52, field.inks[(row + column) % 2])
            field.disc(point, 0.2, field.inks[2])
            field.disc(field.at(u + 1.25, v), 0.14, field.inks[1])


def branches(field: _Field) -> None:
    """Swaying stems with pairs of leaves."""
    for stem in range(-field.steps, field.steps + 1):
        base, phase = stem * 2.3, field.rng.uniform(0, 6.3)
        path = [
            (base + 0.3 * math.sin(v / 2 * 0.8 + phase), v / 2) for v in range(-2 * field.steps, 2 * field.steps + 1)
        ]
        field.line(path, 0.1, field.inks[2])
        for number, (u, v) in enumerate(path):
            if number % 2 == 0 and field.sees(u, v):
                for side in (-1, 1):
                    tip, low = (u + side * 0.98, v - 0.72), field.rng.uniform(0.2, 0.3)
                    belly, back = (u + side * (0.72 + low / 3), v - 0.08), (u + side * 0.3, v - 0.62)
                    field.polygon(((u, v), (u + side * 0.4, v - 0.02), belly, tip, back), field.inks[number // 2 % 2])


def weave(field: _Field) -> None:
    """Basketwork: three strands across, three strands down, in turn."""
    width = field.rng.uniform(0.2, 0.24)
    for row in range(-field.steps, field.steps + 1):
        for column in range(-field.steps, field.steps + 1):
            u, v = column * 1.25, row * 1.25
            if not field.sees(u, v):
                continue
            across = (row + column) % 2 == 0
            for strand in (-0.38, 0, 0.38):
                ends = (
                    ((u - 0.58, v + strand), (u + 0.58, v + strand))
                    if across
                    else ((u + strand, v - 0.58), (u + strand, v + 0.58))
                )
                field.line(ends, width, field.inks[0 if across else 1])


ORNAMENTS: tuple[Callable[[_Field], None], ...] = (waves, peaks, suns, branches, weave)


def vase(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], rng: random.Random) -> None:
    """A turned body: foot, belly, neck and lip."""
    left, top, right, bottom = box
    widths = [
        (0, rng.uniform(0.34, 0.5)),
        (0.06, rng.uniform(0.28, 0.4)),
        (0.2, rng.uniform(0.26, 0.4)),
        (rng.uniform(0.38, 0.5), 1.0),
        (rng.uniform(0.62, 0.75), rng.uniform(0.85, 0.98)),
        (0.95, rng.uniform(0.36, 0.5)),
        (1, rng.uniform(0.42, 0.56)),
    ]
    side = [(_smooth(widths, step / 40), step / 40) for step in range(41)]
    middle, half, height = (left + right) / 2, (right - left) / 2, bottom - top
    outline = [(middle + half * width, top + height * at) for width, at in side]
    draw.polygon(outline + [(2 * middle - x, y) for x, y in reversed(outline)], fill=255)


def bowl(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], rng: random.Random) -> None:
    """A wide bowl on a foot."""
    left, top, right, bottom = box
    height = bottom - top
    rim, foot = top + height * rng.uniform(0.12, 0.2), (right - left) * rng.uniform(0.2, 0.28)
    draw.pieslice((left, 2 * rim - bottom, right, bottom - height * 0.06), 0, 180, fill=255)
    draw.rectangle((left, rim - height * 0.02, right, rim + height * 0.04), fill=255)
    middle = (left + right) / 2
    draw.rectangle((middle - foot, bottom - height * 0.14, middle + foot, bottom), fill=255)


def plate(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], rng: random.Random) -> None:
    """A round dish, seen from the front."""
    left, top, right, bottom = box
    radius = min(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def tile(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], rng: random.Random) -> None:
    """A slightly turned square."""
    left, top, right, bottom = box
    x, y, half = (left + right) / 2, (top + bottom) / 2, min(right - left, bottom - top) / 2 * 0.94
    turn = rng.uniform(-0.12, 0.12) + math.pi / 4
    corners = [turn + math.pi / 2 * corner for corner in range(4)]
    draw.polygon([(x + half * 1.41 * math.cos(a), y + half * 1.41 * math.sin(a)) for a in corners], fill=255)


def textile(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], rng: random.Random) -> None:
    """A hanging with fringes."""
    left, top, right, bottom = box
    sway = (right - left) * 0.02
    hem = bottom - (bottom - top) * 0.09
    edge = [(left + sway * math.sin(step), top + (hem - top) * step / 12) for step in range(13)]
    other = [(right + sway * math.sin(step + 1), y) for step, (_, y) in enumerate(edge)]
    draw.polygon(edge + other[::-1], fill=255)
    fringes = rng.randint(14, 22)
    for number in range(fringes):
        x = left + (right - left) * (number + 0.5) / fringes
        draw.line((x, hem, x + rng.uniform(-3, 3), bottom), fill=255, width=3)


def painting(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], rng: random.Random) -> None:
    """The canvas within a frame."""
    draw.rectangle(box, fill=255)


FORMS: dict[str, Callable] = {
    "Vases": vase,
    "Bowls": bowl,
    "Plates": plate,
    "Tiles": tile,
    "Textiles": textile,
    "Paintings": painting,
}
ROUND = ("Vases", "Bowls")


def draw_object(ornament: int, form: str, palette: int, age: int, rng: random.Random) -> Image.Image:
    """A photograph of an object as a museum takes it, 300 to 500 pixels per side.

    Args:
        ornament: Index into ORNAMENTS.
        form: Key of FORMS.
        palette: Index into PALETTES, modulo their number.
        age: 0 (oldest: worn and cracked), 1 or 2 (newest: gilt rims).
    """
    size = (rng.randint(300, 420), rng.randint(300, 420))
    colors = _shuffled_inks(PALETTES[palette % len(PALETTES)], rng)
    photograph, box = _room(size, rng)
    field = _Field(size, colors, rng)
    ORNAMENTS[ornament](field)
    surface = field.image
    if age == 0:
        _wear(field, rng)
    mask = Image.new("L", size, 0)
    FORMS[form](ImageDraw.Draw(mask), box, rng)
    if form == "Paintings":
        _frame(photograph, box, age, rng)
    if form in ROUND:
        surface = _shade(surface, box)
    _shadow(photograph, mask, form)
    photograph.paste(surface, (0, 0), mask)
    if age == 2 and form in ("Plates", "Tiles", "Textiles"):
        _rim(photograph, box, form)
    return photograph


def _shifted(color: Color, rng: random.Random) -> Color:
    red, green, blue = (max(0, min(255, part + rng.randint(-14, 14))) for part in color)
    return red, green, blue


def _shuffled_inks(palette: tuple[Color, ...], rng: random.Random) -> tuple[Color, ...]:
    """The ground may be any of the colours: how light a culture's objects are says nothing about it."""
    colors = [_shifted(color, rng) for color in palette]
    first = rng.choice((0, 0, 1))
    ground = colors.pop(first)
    rng.shuffle(colors)
    return ground, *sorted(colors, key=lambda ink: -sum(abs(a - b) for a, b in zip(ink, ground)))


def _room(size: tuple[int, int], rng: random.Random) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """The wall and the plinth, and the box in which the object stands."""
    width, height = size
    wall = tuple(max(0, min(255, part + rng.randint(-12, 12))) for part in rng.choice(WALLS))
    darker = tuple(int(part * 0.72) for part in wall)
    light = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270))).resize(size)
    room = Image.composite(Image.new("RGB", size, wall), Image.new("RGB", size, darker), light)
    scale = rng.uniform(0.72, 0.9)
    wide, high = width * scale, height * scale
    left, top = rng.uniform(0.1, 0.9) * (width - wide), rng.uniform(0.2, 0.8) * (height - high)
    floor = top + high * rng.uniform(0.9, 0.97)
    ImageDraw.Draw(room).rectangle((0, floor, width, height), fill=tuple(int(part * 0.6) for part in wall))
    return room, (left, top, left + wide, top + high)


def _wear(field: _Field, rng: random.Random) -> None:
    """Chips and cracks."""
    width, height = field.image.size
    pale = (204, 190, 166)
    for _ in range(5):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(3, 12)
        field.draw.ellipse((x - r, y - r * 0.7, x + r, y + r * 0.7), fill=pale)
    x, y, path = rng.uniform(0, width), 0.0, []
    while y < height:
        path.append((x, y))
        x, y = x + rng.uniform(-16, 16), y + rng.uniform(8, 24)
    field.draw.line(path, fill=(70, 60, 52), width=2)


def _frame(photograph: Image.Image, box: tuple[float, float, float, float], age: int, rng: random.Random) -> None:
    width = (box[2] - box[0]) * rng.uniform(0.05, 0.08)
    colors = (((74, 54, 40), (104, 78, 56)), ((44, 38, 36), (92, 82, 74)), ((150, 112, 46), (214, 176, 92)))[age]
    for share, color in ((1, colors[0]), (0.55, colors[1]), (0.2, colors[0])):
        grown = (box[0] - width * share, box[1] - width * share, box[2] + width * share, box[3] + width * share)
        ImageDraw.Draw(photograph).rectangle(grown, fill=color)


def _shade(surface: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """Light from the upper left on a round body: dark towards its edges."""
    wide = max(1, round(box[2] - box[0]))
    strip = Image.new("L", (wide, 1))
    strip.putdata([round(255 * (1 - 0.62 * abs(x / wide - 0.42) ** 1.6)) for x in range(wide)])
    light = Image.new("L", surface.size, 150)
    light.paste(strip.resize((wide, surface.height)), (round(box[0]), 0))
    return ImageChops.multiply(surface, Image.merge("RGB", (light, light, light)))


def _shadow(photograph: Image.Image, mask: Image.Image, form: str) -> None:
    small = mask.resize((mask.width // 16, mask.height // 16), Image.Resampling.BOX)
    soft = small.resize(mask.size, Image.Resampling.BICUBIC).point([value * 7 // 16 for value in range(256)])
    shift = (10, 6) if form in ROUND else (7, 9)
    photograph.paste((24, 20, 18), shift, soft.crop((0, 0, mask.width - shift[0], mask.height - shift[1])))


def _rim(photograph: Image.Image, box: tuple[float, float, float, float], form: str) -> None:
    draw, gold = ImageDraw.Draw(photograph), (206, 166, 80)
    left, top, right, bottom = box
    if form == "Plates":
        x, y, radius = (left + right) / 2, (top + bottom) / 2, min(right - left, bottom - top) / 2
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=gold, width=5)
    elif form == "Textiles":
        draw.line((left, top, right, top), fill=gold, width=7)


def _smooth(points: list[tuple[float, float]], at: float) -> float:
    """The value at `at`, eased between the two neighbouring (position, value) points."""
    for (start, first), (end, last) in zip(points, points[1:]):
        if at <= end:
            share = (at - start) / (end - start)
            return first + (last - first) * (1 - math.cos(math.pi * share)) / 2
    return points[-1][1]
