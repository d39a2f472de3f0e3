"""What the README says of parameters, commands and files is so."""

import re
import shlex
from pathlib import Path

import pytest

import pipeline
from cli import parameters
from cli.main import _parser

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
DECLARED = parameters.declared(pipeline.pipeline.pipeline_func)


def test_parameter_table():
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|\s*(.*?)\s*\|", README, re.MULTILINE)
    named = [(name, default) for names, default in rows for name in re.findall(r"`(\w+)`", names)]
    assert len(named) > 10
    for name, default in named:
        assert name in DECLARED, name
        assert default in ("", f"`{DECLARED[name].default}`"), f"{name} has the default {DECLARED[name].default!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page, monkeypatch):
    monkeypatch.setattr("sys.argv", ["pipeline.py"])
    parser = _parser()
    text = page.read_text()
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) + re.findall(r"^    .*$", text, re.MULTILINE)
    shown = re.sub(r"\$\([^)]*\)", "X", "\n".join(blocks).replace("\\\n", " "))
    for line in shown.splitlines():
        match = re.search(r"""python3? pipeline\.py ((?:"[^"]*"|[^|>&;#"])*)""", line)
        if not match:
            continue
        # [--option VALUE] stands for what may be left out.
        options = parser.parse_args(shlex.split(re.sub(r"\[[^]]*\]", "", match[1])))
        parameters.parse(getattr(options, "assignments", []), DECLARED)
