"""The HTML that the stages show: one offline file a report, one look for all of them.

Blocks (`table`, `bars`, `pictures`, `plot`, `notice`, `beside`, `card` ...) return Markup; a Report puts them into
sections. All text is escaped unless it is Markup.
"""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping, Sequence

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)


@dataclass(frozen=True)
class Picture:
    """A picture in a grid: JPEG or PNG bytes, a caption below it, a note in small print, a link, an alarm colour."""

    data: bytes
    caption: str = ""
    note: str = ""
    link: str = ""
    kind: str = ""  # "", "ok", "warn" or "fail": the colour of its frame


class Report:
    """A page: a `banner` of pictures, `title`, a `lead` sentence, `facts` (name -> value, shown as tiles), sections in
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

    def section(self, heading: str, *blocks: Markup, intro: str = "") -> None:
        """Adds a section; `intro` is a sentence that says how to read it."""
        self._sections.append((heading, intro, blocks))

    def html(self) -> str:
        """The page as one string that needs nothing else."""
        return _TEMPLATES.get_template("report.html").render(
            title=self.title,
            lead=self.lead,
            facts=self.facts,
            banner=self._banner,
            footer=self.footer,
            sections=self._sections,
        )

    def save(self, path: str) -> None:
        """Writes the page to `path`."""
        Path(path).write_text(self.html(), encoding="utf-8")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], sortable: bool = True) -> Markup:
    """A table; numbers are aligned right, and a click on a heading sorts."""
    return _block("table", columns=columns, rows=[list(row) for row in rows], sortable=sortable)


def bars(rows: Sequence[tuple[str, float, str]]) -> Markup:
    """Horizontal bars: (label, value, text shown beside the bar)."""
    return _block("bars", rows=rows, largest=max((value for _, value, _ in rows), default=0) or 1)


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
    """A grid of pictures, each fitted into `size` pixels."""
    encoded = [(_data_uri(item.data), item) for item in items]
    return _block("pictures", items=encoded, size=size)


def strip(items: Iterable[Picture], size: int = 112) -> Markup:
    """Pictures in one row, `size` pixels high; the caption shows on hovering."""
    return _block("strip", items=[(_data_uri(item.data), item) for item in items], size=size)


def pairs(items: Iterable[tuple[Picture, Picture, str]], size: int = 150) -> Markup:
    """Two pictures side by side and a line about them."""
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


def plot(figure, alt: str) -> Markup:
    """A matplotlib figure as inline SVG; `alt` says what it shows, for those who cannot see it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True)
    svg = buffer.getvalue()
    return _block("plot", svg=Markup(svg[svg.index("<svg") :]), alt=alt)


def _block(name: str, **values: object) -> Markup:
    return Markup(getattr(_TEMPLATES.get_template("blocks.html").module, name)(**values))


def _data_uri(data: bytes) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "webp" if data.startswith(b"RIFF") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
