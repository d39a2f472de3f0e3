"""Progress lines: how many, and when."""

import pytest

from components.shared.progress import INTERVAL_VARIABLE, Progress


@pytest.fixture
def lines(capsys):
    return lambda: capsys.readouterr().out.splitlines()


def test_one_line_at_the_end_also_if_there_is_more_than_was_announced(lines):
    progress = Progress(2, "objects")
    for _ in range(6):
        progress.update()
    assert [line.partition(",")[0] for line in lines()] == ["progress: 2/2 objects"]


def test_nothing_done_is_said_when_it_is_due(monkeypatch, lines):
    monkeypatch.setenv(INTERVAL_VARIABLE, "0")
    Progress(2, "objects").update(0, "waiting")
    assert lines() == ["progress: 0/2 objects, 0/s, waiting"]


def test_not_every_update_is_said(lines):
    progress = Progress(1000, "objects")
    for _ in range(999):
        progress.update()
    assert lines() == []
