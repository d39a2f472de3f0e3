"""labels.txt: a line per class, whatever else of Unicode parts lines."""

from pathlib import Path

import pytest

from components.artifacts import objects
from components.shared.errors import PipelineError


def test_labels_are_parted_at_line_feeds_only(tmp_path: Path) -> None:
    labels = ["a\u0085b", "c\u2028d", "e\x1cf", "g"]
    objects.write_labels(tmp_path / "labels.txt", labels)
    assert objects.read_labels(tmp_path / "labels.txt") == labels
    with pytest.raises(ValueError, match="has a line end in its name"):
        objects.write_labels(tmp_path / "labels.txt", ["a\nb"])


def test_labels_that_a_person_saved_are_read(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "labels.txt").write_bytes("Café\r\nTee\r\n".encode(encoding))
        assert objects.read_labels(tmp_path / "labels.txt") == ["Café", "Tee"]
    (tmp_path / "labels.txt").write_bytes("Tee\nCafé\n".encode("latin-1"))
    with pytest.raises(PipelineError, match="line 2: the file is not in UTF-8"):
        objects.read_labels(tmp_path / "labels.txt")
