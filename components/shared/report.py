"""The HTML that the stages show: one offline file per report, one look for all of them.

Blocks (`table`, `bars`, `pictures`, `plot`, `notice`, `beside`, `card` ...) return Markup; a Report puts them into
sections. All text is escaped unless it is Markup.
"""

import base64
import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from components.artifacts import corrections
from components.shared.display import spelt

# Of the plots, on the page's paper; the series differ in lightness, too, for those who see fewer colours.
INK, SOFT = "#22201c", "#6f6a61"
SERIES = ("#7a3b2e", "#4a6c8c", "#c9963f", "#3f7d4e", "#a8577e", "#5fa8a0", "#d9744f", "#4b4570")
# Fewer tiles than this stand in one row.
_TILES_IN_A_ROW = 7
# Longer tables scroll in a frame of their own, and have a field to find rows by their text.
_LONG_TABLE = 40
# Wider plots than this, in inches, would be too small to read on a phone: there they are scrolled.
_PHONE = 7
_NUMBER = re.compile(r"[-+−]\d[\d.,]*(\s?%)?|[\d.,]+(\s?%|\s(MB|ms|s))")


def _shown(value: object) -> object:
    return spelt(value) if type(value) is str else value


_LOADER = FileSystemLoader(Path(__file__).parent / "templates")
_TEMPLATES = Environment(loader=_LOADER, autoescape=True, finalize=_shown)


@dataclass(frozen=True)
class Picture:
    """An image in a grid: JPEG or PNG bytes, a caption below it, a note in small print, a link, an alarm colour, and
    whom it is owed to (two lines; all of it on hovering)."""

    data: bytes
    caption: str = ""
    note: str = ""
    link: str = ""
    kind: str = ""  # "", "ok", "warn" or "fail": the colour of its frame
    credit: str = ""


@dataclass(frozen=True)
class ReviewItem:
    """An image that a person is asked about: what it is labelled as (empty: nothing), and what is suggested."""

    picture: Picture
    object_id: str
    label: str
    suggested: str


class Report:
    """A page: a `banner` of images, `title`, a `lead` sentence, `facts` (name -> value, shown as tiles), sections in
    order of addition (with links to them where there are many), a `footer` in small print."""

    def __init__(
        self,
        title: str,
        lead: str = "",
        facts: Mapping[str, object] | None = None,
        banner: Iterable[bytes] = (),
        footer: str = "",
    ) -> None:
        self.title, self.lead, self.facts, self.footer = title, lead, dict(facts or {}), footer
        self._banner = [_data_uri(data) for data in banner]
        self._sections: list[tuple[str, str, tuple[Markup, ...]]] = []
        self._classes: list[str] = []

    def section(self, heading: str, *blocks: Markup, intro: str = "") -> None:
        """Adds a section; `intro` is a sentence that says how to read it."""
        self._sections.append((heading, intro, blocks))

    def review(
        self, heading: str, items: Sequence[ReviewItem], labels: Sequence[str], intro: str = "", size: int = 150
    ) -> None:
        """Adds a section of images that a person accepts, corrects or rejects, and saves as corrections.csv.

        `labels` are the classes that one may be corrected to. The page asks no server (see templates/review.js).
        """
        shown = [(_data_uri(item.picture.data), item) for item in items]
        source = f"{self.title}: {heading}"
        self.section(heading, _block("items", "review.html", items=shown, size=size, source=source), intro=intro)
        self._classes = list(dict.fromkeys([*self._classes, *labels]))

    def html(self) -> str:
        """The page as one string that needs nothing else."""
        return _TEMPLATES.get_template("report.html").render(
            title=self.title,
            lead=self.lead,
            facts=self.facts,
            columns=_even_columns(len(self.facts)),
            banner=self._banner,
            footer=self.footer,
            sections=self._sections,
            review=self._review(),
        )

    def _review(self) -> Markup:
        """What a page with images to review needs once."""
        if not self._classes:
            return Markup()
        formula = re.escape(corrections.FORMULA)
        once = _block(
            "once",
            "review.html",
            labels=self._classes,
            file=corrections.FILE_NAME,
            columns=corrections.COLUMNS,
            formula=formula,
        )
        script = Path(__file__).parent.joinpath("templates", "review.js").read_text(encoding="utf-8")
        return once + Markup(f"<script>\n{script}</script>\n")

    def save(self, path: str) -> None:
        """Writes the page to `path`."""
        Path(path).write_text(self.html(), encoding="utf-8")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], sortable: bool = True) -> Markup:
    """A table; numbers, also those with a sign, per cent or unit, are aligned right, and a click on a heading sorts."""
    cells = [list(row) for row in rows]
    numeric = [_is_numeric(column) for column in zip(*cells)] or [False] * len(columns)
    is_long = len(cells) > _LONG_TABLE
    return _block("table", columns=columns, rows=cells, numeric=numeric, sortable=sortable, is_long=is_long)


def parameters(values: Mapping[str, object]) -> Markup:
    """Those that are set, in two columns; the names of the others."""
    unset = [name for name, value in values.items() if value in (None, "")]
    shown = [(name, _on_one_line(value)) for name, value in values.items() if name not in unset]
    half = (len(shown) + 1) // 2
    columns = [table(["parameter", "value"], rows, sortable=False) for rows in (shown[:half], shown[half:]) if rows]
    return beside(*columns) + (_block("aside", text=f"Not set: {', '.join(unset)}") if unset else Markup())


def _on_one_line(value: object) -> str:
    """A value on one line; what belongs together in it parted by semicolons, without what is not set."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {inner}" for name, inner in value.items() if inner)
    return str(value)


def bars(rows: Sequence[tuple[str, float, str]], whole: float = 0) -> Markup:
    """Horizontal bars: (label, value, text shown beside the bar); `whole` fills one, without it the largest does."""
    return _block("bars", rows=rows, largest=whole or max((value for _, value, _ in rows), default=0) or 1)


def stages(rows: Sequence[tuple[str, int, Sequence[tuple[str, int]]]]) -> Markup:
    """A funnel: (what is left, how many, [(why some went, how many)]), from the whole to the rest."""
    return _block("stages", rows=rows, whole=max((count for _, count, _ in rows), default=0) or 1)


def stacked(names: Sequence[str], rows: Sequence[tuple[str, Sequence[int]]]) -> Markup:
    """Horizontal bars of up to three parts: (label, values in the order of `names`), and a legend."""
    return _block("stacked", names=names, rows=rows, largest=max((sum(values) for _, values in rows), default=0) or 1)


def histogram(rows: Sequence[tuple[str, int, str]], unit: str = "") -> Markup:
    """Columns: (label below, count, kind: empty or warn)."""
    return _block("histogram", rows=rows, largest=max((count for _, count, _ in rows), default=0) or 1, unit=unit)


def pictures(items: Iterable[Picture], size: int = 112) -> Markup:
    """A grid of images, each fitted into `size` pixels."""
    encoded = [(_data_uri(item.data), item) for item in items]
    return _block("pictures", items=encoded, size=size)


def strip(items: Iterable[Picture], size: int = 112) -> Markup:
    """Images in one row, `size` pixels high; the caption shows on hovering."""
    return _block("strip", items=[(_data_uri(item.data), item) for item in items], size=size)


def pairs(items: Iterable[tuple[Picture, Picture, str]], size: int = 150) -> Markup:
    """Two images side by side and a line about them."""
    return _block("pairs", items=[(pictures([one, other], size), text) for one, other, text in items], size=size)


def findable(items: Sequence[tuple[str, str, Sequence[Markup]]], placeholder: str) -> Markup:
    """(name, note, blocks) one below the other, with a field to find some by name where there are many."""
    return _block("findable", items=items, placeholder=placeholder)


def folded(summary: str, *blocks: Markup) -> Markup:
    """Blocks that unfold on a click."""
    return _block("folded", summary=summary, blocks=blocks)


def beside(*blocks: Markup, width: int = 26) -> Markup:
    """Blocks side by side, as many as fit with at least `width` rem each."""
    return _block("beside", blocks=blocks, width=width)


def card(heading: str, *blocks: Markup) -> Markup:
    """Blocks under a small heading, to stand `beside` others."""
    return _block("card", heading=heading, blocks=blocks)


def notice(text: str, kind: str = "ok") -> Markup:
    """A coloured line; `kind` is ok, warn or fail."""
    return _block("notice", text=text, kind=kind)


def plot(figure, alt: str, fill: bool = False) -> Markup:
    """A matplotlib figure as inline SVG; `alt` says what it shows, for those who cannot see it.

    With `fill` it becomes as wide as its place, else it is only made smaller where it does not fit. A plot with a
    script that matplotlib's font lacks, or that is not written letter by letter from the left, leaves its letters to
    the browser, which has the fonts and knows how.
    """
    import matplotlib

    buffer = io.StringIO()
    # A figure with a layout of its own has no margins, and cut to its content it would miss its width.
    box = None if figure.get_layout_engine() else "tight"
    drawn_by = "none" if _needs_a_browser(figure) else "path"
    with matplotlib.rc_context({"svg.fonttype": drawn_by}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format="svg", bbox_inches=box, transparent=True)
    svg = buffer.getvalue()
    is_wide = figure.get_figwidth() > _PHONE
    return _block("plot", svg=Markup(svg[svg.index("<svg") :]), alt=alt, fill=fill, is_wide=is_wide)


def _needs_a_browser(figure) -> bool:
    from matplotlib.text import Text

    letters = {letter for text in figure.findobj(Text) for letter in text.get_text()}
    # Latin, Greek and Cyrillic are what its font has whole; of these none is joined or written from the right.
    return any(ord(letter) > 0x52F and not 0x2000 <= ord(letter) <= 0x206F for letter in letters)


def percent(share: float, digits: int = 1) -> str:
    """`0.934` as `93.4 %`, which no line end parts."""
    return f"{100 * share:.{digits}f}\u00a0%"


def _even_columns(tiles: int) -> int:
    """Of how many columns the rows of tiles are about equally long: 8 as 4 + 4, not 7 + 1."""
    rows = -(-tiles // _TILES_IN_A_ROW)
    return -(-tiles // max(rows, 1))


def _is_numeric(cells: Sequence[object]) -> bool:
    """Whether a column has numbers, and nothing else but gaps."""
    given = [cell for cell in cells if cell not in ("", "–", None)]
    return bool(given) and all(
        not isinstance(cell, bool) if isinstance(cell, (int, float)) else bool(_NUMBER.fullmatch(str(cell)))
        for cell in given
    )


def _block(name: str, template: str = "blocks.html", **values: object) -> Markup:
    return Markup(getattr(_TEMPLATES.get_template(template).module, name)(**values))


def _data_uri(data: bytes) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "webp" if data.startswith(b"RIFF") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
