"""The vectors of a data set's images, as they are written and read again."""

import numpy as np
import pyarrow as pa
import pytest

from components.artifacts import embeddings
from components.shared.errors import PipelineError


def test_what_is_written_is_read_sorted_and_of_unit_length(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "ROWS", 2)  # several row groups
    vectors = np.random.default_rng(1).normal(size=(5, 12)).astype(np.float16) * 9
    works = pa.table(
        {"object_id": list("edcba"), "label": list("xyxyx"), "split": ["test"] * 5, "title": [None, "Hay", "", "", ""]}
    )
    embeddings.write(str(tmp_path), "f" * 64, works, vectors)
    found = embeddings.read(str(tmp_path))
    assert found.model == "f" * 64 and found.works["object_id"].to_pylist() == list("abcde")
    assert found.works["title"].to_pylist() == ["", "", "", "Hay", ""] and found.works["link"][0].as_py() == ""
    assert found.vectors.dtype == np.float16 and found.vectors.shape == (5, 12)
    assert np.abs(found.vectors[::-1].astype(np.float32) - embeddings.unit(vectors)).max() < 1e-3


def test_a_model_without_or_with_damaged_embeddings_is_one_line(tmp_path):
    with pytest.raises(PipelineError, match="has no embeddings.parquet: train the model again"):
        embeddings.read(str(tmp_path))
    (tmp_path / embeddings.FILE_NAME).write_bytes(b"PAR1 and no more")
    with pytest.raises(PipelineError, match="is damaged"):
        embeddings.read(str(tmp_path))
