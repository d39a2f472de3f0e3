"""Whether a training wrote the vectors of its images."""

import numpy as np

from components.artifacts import classifier, embeddings, objects
from components.artifacts import dataset as datasets


def assert_vectors_are_those_of_the_model(folder: str, dataset: str) -> None:
    """Every image of the data set, excluded or not, has a row, with what its object says and the model's vector."""
    found, model = embeddings.read(folder), classifier.load(folder)
    stored = {
        example.object_id: (example, split)
        for split, part in datasets.load(dataset).splits.items()
        for file in part.files
        for _, example in datasets.read_file(file.uri)
    }
    assert found.model == model.digest and set(objects.SPLITS) >= set(found.works["split"].to_pylist())
    assert found.works["object_id"].to_pylist() == sorted(stored)
    some = list(range(0, len(stored), 9))
    rows = found.works.take(some).to_pylist()
    for row in rows:
        example, split = stored[row["object_id"]]
        assert (row["label"], row["split"]) == (example.label, split)
        assert row["link"] == f"https://museum.example/{row['object_id']}"
    vectors = embeddings.unit(model.look([stored[row["object_id"]][0].encoded for row in rows])[1])
    cosines = (found.vectors[some].astype(np.float32) * vectors).sum(axis=1)
    assert cosines.min() > 0.999
