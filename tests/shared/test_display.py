"""Names that are commands somewhere: to a terminal, to matplotlib, to a template, to the order of a line."""

import warnings

import pytest
from matplotlib.figure import Figure

from components.shared.display import no_placeholder, one_line, plot_text, spelt
from components.shared.report import Report, bars, plot, table

HOSTILE = [
    "$x^{$", "$100 $200", r"\frac $ \$", "a\tb\r\nc", "\x1b[31mred\x1b[0m", "nul\x00", "\u202eevil", "\u2028line",
    "كتاب", "ספר", "東洲斎写楽", "हिन्दी", "x" * 500, "{{$.inputs}}", "<script>", "_hidden", "%s %d {0}", "👩‍🎨",
]  # fmt: skip


def test_commands_are_spelt_and_joiners_stay():
    assert one_line(" a \u2028 b\x85c\n") == "a b c"
    assert one_line("\x1b[31mred\u202e") == r"\x1b[31mred\u202e"
    assert spelt("zero\u200dwidth\nline\u00a0end") == "zero\u200dwidth\nline\u00a0end"


@pytest.mark.parametrize("text", ["{{$.x}}", "{{{{", "{{{"])
def test_no_placeholder(text):
    assert "{{" not in no_placeholder(text) and no_placeholder(text).replace(" ", "") == text


def test_whatever_is_drawn_is_drawn_as_it_is():
    """Dollars, controls, scripts that the font lacks, and very long names: no formula, no warning, no broken XML."""
    import xml.etree.ElementTree as ElementTree

    for name in HOSTILE:
        figure = Figure(layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], label=plot_text(name))
        axes.set_xticks([0, 1], [plot_text(name), "other"], rotation=45)
        legend = figure.legend()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            markup = str(plot(figure, name))
        assert not plot_text(name) or len(legend.get_texts()) == 1
        ElementTree.fromstring(markup[markup.index("<svg") : markup.index("</svg>") + 6])
    figure = Figure()
    figure.text(0, 0, plot_text("写楽"))
    assert "写楽" in str(plot(figure, "")), "the browser draws what matplotlib's font has not"
    assert plot_text("$a$") == r"\$a\$" and len(plot_text("x" * 99)) == 24


def test_whatever_is_put_into_a_page_has_no_commands(tmp_path):
    report = Report("x", "lead", {name or "-": name for name in HOSTILE})
    report.section("names", table(["name"], [[name] for name in HOSTILE]), bars([(name, 1, name) for name in HOSTILE]))
    report.save(str(tmp_path / "x.html"))
    html = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert not set("\x00\x1b\u202e") & set(html) and "<td><script>" not in html and "東洲斎写楽" in html
