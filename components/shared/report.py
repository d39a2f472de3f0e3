"""The HTML that the stages show: one offline file a report, one look for all of them.

Blocks (`table`, `bars`, `pictures`, `plot`, `notice`, `beside`, `card`) return Markup; a Report puts them into sections. All text is
escaped unless it is Markup.
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
    """A page: `title`, a `lead` sentence, `facts` (name -> value, shown as tiles), then sections in order of addition."""

    def __init__(self, title: str, lead: str = "", facts: Mapping[str, object] | None = None) -> None:
        self.title, self.lead, self.facts = title, lead, dict(facts or {})
        self._sections: list[tuple[str, str, tuple[Markup, ...]]] = []

    def section(self, heading: str, *blocks: Markup, intro: str = "") -> None:
        """Adds a section; `intro` is a sentence that says how to read it."""
        self._sections.append((heading, intro, blocks))

    def html(self) -> str:
        """The page as one string that needs nothing else."""
        return _TEMPLATES.get_template("report.html").render(
            title=self.title, lead=self.lead, facts=self.facts, sections=self._sections
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


def pictures(items: Iterable[Picture], size: int = 112) -> Markup:
    """A grid of pictures, each fitted into `size` pixels."""
    encoded = [(_data_uri(item.data), item) for item in items]
    return _block("pictures", items=encoded, size=size)


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
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
