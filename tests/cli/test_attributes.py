"""`python pipeline.py attributes` as a person types it: what could be learned, or one line that says why not."""

import csv

import pytest
from PIL import Image

from tests.helpers.local_runs import command


def first_words(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def test_the_sample():
    done = command("attributes")
    assert done.returncode == 0, done.stderr
    assert {"culture", "period", "artist_display_name"} <= set(first_words(done.stdout))


def test_a_table(tmp_path):
    with open(tmp_path / "objects.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["object_id", "genre", "original_image_url"])
        rows.writerows([n, ("Portrait", "Landscape", "Still Life")[n % 3], f"{n}.jpg"] for n in range(60))
    done = command("attributes", "source=table", f"table={tmp_path}/objects.csv", "where=object_id < 30")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.split()[:1] == ["genre"]]
    assert line.split()[1:7] == ["3", "30", "100", "%", "3", "30"]  # values, objects, share, classes, pictures in them
    assert all(f"{value} (10)" in line for value in ("Portrait", "Landscape", "Still Life"))


def test_a_folder(tmp_path):
    for number in range(24):
        folder = tmp_path / "pictures" / ("cats", "dogs")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (number * 10, 90, 90)).save(folder / f"{number}.jpg")
    done = command("attributes", "source=folder", f"table={tmp_path}/pictures")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.split()[:1] == ["folder"]]
    assert "cats (12)" in line and "dogs (12)" in line


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["source=table", "table=absent.csv"], "absent.csv"),
        (["source=sample", "where=cultur = 'x'"], "culture"),
        (["source=museum"], "sample, table, bigquery"),
        (["min_images_per_class=many"], "a whole number"),
    ],
)
def test_a_mistake_is_one_line(arguments, words):
    done = command("attributes", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and words in done.stderr
