import io

import numpy as np
import pytest
from PIL import Image

from components.artifacts import classifier
from components.evaluate import gallery, metrics, testset
from components.shared import imaging, occlusion
from tests.helpers.colour_model import picture
from tests.helpers.evaluation_data import LABELS


@pytest.fixture(scope="module")
def model(colours_model):
    return classifier.load(colours_model)


@pytest.fixture(scope="module")
def test(colours_dataset):
    return testset.load(colours_dataset)


@pytest.fixture(scope="module")
def analysis(model, test):
    pictures = [picture for batch in test.batches(16) for picture in batch]
    return metrics.analyse(model.predict(pictures), test.targets, list(test.labels))


def test_mistakes_come_with_their_pictures_titles_and_links(analysis, test, model):
    built = gallery.build(analysis, test, model)
    assert len(built.worst) == 3 and built.uncertain == []
    captions = {item.picture.caption for item in built.worst}
    assert captions == {"red, taken for green", "green, taken for blue"}
    first = built.worst[0].picture
    assert first.kind == "fail" and first.link.startswith("https://museum.example/4")
    pixels = imaging.decode(first.data).mean(axis=(0, 1))
    assert LABELS[pixels.argmax()] == first.caption.rpartition(" ")[2]  # the colour that it shows


def test_a_confusion_is_shown_beside_its_most_alike_correct_picture(analysis, test, model):
    pairs = gallery.build(analysis, test, model).pairs
    assert [pair.caption for pair in pairs] == ["2 of 17 red taken for green", "1 of 16 green taken for blue"]
    assert (pairs[0].left.kind, pairs[0].right.kind) == ("fail", "ok")
    mistake, alike = gallery.confusion_pairs(analysis)[0]
    right = np.flatnonzero(analysis.correct & (analysis.targets == LABELS.index("green")))
    distances = np.abs(analysis.probabilities[right] - analysis.probabilities[mistake]).sum(axis=1)
    assert alike == right[distances.argmin()]


def test_the_uncertain_mistakes_are_other_ones_than_the_worst(test, model):
    """Of 48 pictures a model that knows nothing mistakes about 32: the surest and the least sure twelve are shown."""
    random = np.random.default_rng(0)
    found = metrics.analyse(random.dirichlet([1, 1, 1], len(test)), test.targets, LABELS)
    wrong = np.sort(found.confidences[~found.correct])
    assert len(wrong) > 2 * gallery.MISTAKES
    built = gallery.build(found, test, model)
    shown = [[item.note for item in part] for part in ([item.picture for item in built.worst], built.uncertain)]
    assert len(shown[0]) == len(shown[1]) == gallery.MISTAKES and not set(shown[0]) & set(shown[1])
    for notes, expected in zip(shown, (wrong[::-1], wrong)):
        beginnings = [gallery.percent(confidence) for confidence in expected[: gallery.MISTAKES]]
        assert [note.startswith(first) for note, first in zip(notes, beginnings)] == [True] * gallery.MISTAKES


def test_few_mistakes_are_not_shown_twice(test, model):
    """Fifteen mistakes: twelve are the worst, the three others the most uncertain."""
    probabilities = np.eye(3)[test.targets] * 0.9 + 0.03
    probabilities[:15] = np.roll(probabilities[:15], 1, axis=1) * np.linspace(1, 2, 15)[:, None] + 0.1
    found = metrics.analyse(probabilities, test.targets, LABELS)
    assert (~found.correct).sum() == 15
    built = gallery.build(found, test, model)
    assert (len(built.worst), len(built.uncertain)) == (12, 3)


def test_only_web_addresses_become_links(test):
    row = dict(test.rows[0], link="javascript:alert(1)")
    hostile = testset.TestSet(test.path, test.info, test.object_ids[:1], test.targets[:1], [row])
    assert gallery.link(hostile, 0) == "" and gallery.link(test, 0) == "https://museum.example/0"


def test_occlusion_finds_what_the_answer_hangs_on(model):
    """A grey picture with one blue corner: covering that corner is what takes blue away."""
    pixels = np.full((48, 48, 3), 90, np.uint8)
    pixels[4:16, 32:44] = (10, 20, 250)
    found = occlusion.explain(model.predict_pixels(occlusion.covered(pixels)), LABELS.index("blue"), 48)
    row, column = np.unravel_index(found.heat.argmax(), found.heat.shape)
    assert 0 <= row < 20 and 28 <= column < 48
    assert found.lowest < found.whole
    drawn = Image.open(io.BytesIO(occlusion.overlay(pixels, found.heat)))
    assert drawn.size == (48, 48)


def test_what_the_model_is_asked_about_is_what_it_sees(model):
    """The patches are drawn on the model's own input, so without one it gives the picture's own answer."""
    data = picture("green", 90, 64, seed=5)
    pixels = occlusion.covered(model.view(data))
    expected = model.predict([data])[0]
    assert (model.predict_pixels(pixels[:1])[0] == expected).all()
    found = occlusion.explain(model.predict_pixels(pixels), LABELS.index("green"), pixels.shape[1])
    assert found.whole == expected[LABELS.index("green")]


def test_a_saved_model_is_shown_the_same_pixels(colours_model):
    model = classifier.load(colours_model, "savedmodel")
    pixels = model.view(picture("green", 90, 64, seed=5))
    lite = classifier.load(colours_model).predict_pixels(pixels[None])
    assert np.abs(model.predict_pixels(pixels[None]) - lite).max() < 1e-4


def test_a_model_that_hangs_on_nothing_is_drawn_without_division_by_zero():
    assert occlusion.overlay(np.full((32, 32, 3), 100, np.uint8), np.zeros((32, 32)))


@pytest.mark.parametrize("probability, text", [(0.5, "50 %"), (0.996, "99.6 %"), (0.004, "0.4 %"), (1.0, "100.0 %")])
def test_percent(probability, text):
    assert gallery.percent(probability) == text
