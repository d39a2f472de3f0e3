import re
import time

import numpy as np
import pytest

from components.evaluate import gate, metrics, page
from components.evaluate.gallery import Gallery
from tests.helpers.findings import analysis, findings

NOTHING = Gallery([], [], [], [])


def html(found, tmp_path, gallery: Gallery = NOTHING) -> str:
    page.write(found, gallery, str(tmp_path / "report.html"))
    return (tmp_path / "report.html").read_text()


def test_500_classes_stay_readable(tmp_path):
    """No matrix of 250,000 cells: 30 rows with most mistakes, the list of confusions, every class in the table."""
    text = html(findings(analysis(n=5000, classes=500, skill=6.0)), tmp_path)
    assert "(471 other classes)" in text
    assert text.count("<td>class ") >= 500
    assert "8 classes with the lowest average precision" in text
    assert len(text) < 2_000_000


@pytest.mark.parametrize("classes", [2, 5, 30])
def test_few_classes_are_all_in_the_matrix(tmp_path, classes):
    text = html(findings(analysis(classes=classes)), tmp_path)
    assert "other classes" not in text
    assert ("among the first five" in text) == (classes > 5)


def test_classes_are_sorted_weakest_first_and_absent_ones_last(tmp_path):
    probabilities = np.eye(4)[[0, 0, 0, 1, 1, 0, 2, 2]] * 0.9 + 0.025
    found = metrics.analyse(probabilities, np.array([0, 0, 0, 1, 1, 1, 2, 2]), ["half", "worst", "best", "absent"])
    text = html(findings(found), tmp_path)
    table = text[text.index("most often taken for</th>") :]
    names = re.findall(r"<tr><td>(\w+)</td>", table[: table.index("</table>")])
    assert names == ["worst", "half", "best", "absent"]


def test_labels_are_text_and_never_markup(tmp_path):
    probabilities = np.array([[0.9, 0.1]] * 10)
    found = metrics.analyse(probabilities, np.array([0, 1] * 5), ["<b>bold</b>", "a & b"])
    text = html(findings(found), tmp_path)
    assert "<b>bold</b>" not in text and "&lt;b&gt;bold" in text


def test_the_comparison_shows_what_got_worse_and_what_got_better(tmp_path):
    found = analysis(n=2000, classes=60, skill=4.0)
    before = np.random.default_rng(1).permutation(found.predictions)
    comparison = gate.compare("s3://models/a", found.targets, found.predictions, before, found.labels)
    complete = findings(found)
    text = html(type(complete)(**vars(complete) | {"comparison": comparison}), tmp_path)
    assert "Champion: s3://models/a" in text
    assert f"On {comparison.gained + comparison.lost} of them just one of the two is right" in text
    assert comparison.classes[0].label in text and comparison.classes[-1].label in text


def test_a_column_of_a_thousand_values_shows_the_large_and_the_odd_ones():
    values = [f"artist {i // 10}" for i in range(500)]
    found = analysis(n=500, skill=1.5)
    shown = page.shown_slices(findings(found, columns={"artist": values}))
    assert len(shown) == 12 + sum(part.standing != "" for part in shown[12:])


def test_500_classes_and_20_000_pictures_take_seconds(tmp_path):
    """CPU time, which other work on the machine does not change: 2 s when this was written."""
    before = time.process_time()
    html(findings(analysis(n=20_000, classes=500, skill=6.0)), tmp_path)
    assert time.process_time() - before < 20


def test_of_up_to_five_classes_no_top_five_is_shown(tmp_path):
    assert "Top-5 accuracy" not in html(findings(analysis(classes=5)), tmp_path)
    assert "Top-5 accuracy" in html(findings(analysis(classes=6)), tmp_path)


def test_numbers_stay_with_their_per_cent_sign(tmp_path):
    lead = html(findings(analysis()), tmp_path).partition("test pictures are classified correctly")[0]
    assert re.search(r"\d\xa0% of 400 $", lead)
