"""Templates of image addresses: what they may be, and which size stands for `{size}`."""

import pytest

from components.query import pictures
from components.query.database import open_database
from components.shared.parameters import ParameterError
from components.shared.templates import allowed_sizes, check_template, larger_side, sized

WIKIMEDIA = (20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840)


@pytest.mark.parametrize(
    "image_size, allowed, expected",
    [(256, (), 512), (224, (), 448), (256, WIKIMEDIA, 500), (100, WIKIMEDIA, 120), (342, WIKIMEDIA, 500),
     (600, WIKIMEDIA, 960), (64, (250, 500), 250), (2000, (250, 500), 500), (150, WIKIMEDIA, 250)],
)  # fmt: skip
def test_size_is_what_the_longer_side_needs(image_size, allowed, expected):
    assert larger_side(image_size, allowed) == expected
    assert sized("{}/full/!{size},{size}/0/default.jpg", image_size, allowed) == (
        f"{{}}/full/!{expected},{expected}/0/default.jpg"
    )


@pytest.mark.parametrize(
    "template", ["", "https://h/pictures/", "{}", "{}?width={size}", "https://h/2/{}/full/{size},/0/default.jpg"]
)
def test_templates(template):
    check_template("image_base", template)


@pytest.mark.parametrize(
    "template, why",
    [
        ("https://h/full/!{size},{size}/0/default.jpg", r"write \{\} where"),
        ("https://h/iiif/2/full/!512,512/0/default.jpg", r"write \{\} where"),
        ("https://h/{id}/x.jpg", r"\{id\} means nothing"),
        ("https://h/{}/{sizes}.jpg", r"\{sizes\} means nothing"),
        ("https://h/{/x.jpg", r"\{ means nothing"),
    ],
)
def test_what_is_no_template_is_refused(template, why):
    with pytest.raises(ParameterError, match=f"image_base=.*{why}"):
        check_template("image_base", template)


@pytest.mark.parametrize(
    "address, template, expected",
    [
        ("https://h/iiif/1/", "{}/full/!512,512/0/default.jpg", "https://h/iiif/1/full/!512,512/0/default.jpg"),
        ("https://h/iiif/1/info.json", "{}/full/9,/0/native.png", "https://h/iiif/1/full/9,/0/native.png"),
        ("https://h/1.jpg", "{}?width=512", "https://h/1.jpg?width=512"),
        ("1.jpg", "{}?width=512", "https://table.test/data/1.jpg?width=512"),
        (
            "a/b é.tif",
            "https://h/2/{}/full/843,/0/default.jpg",
            "https://h/2/a%2Fb%20%C3%A9.tif/full/843,/0/default.jpg",
        ),
        ("a%2Fb", "https://h/2/{}/full/max/0/default.jpg", "https://h/2/a%2Fb/full/max/0/default.jpg"),
        ("https://h/x.jpg", "https://h/2/{}/full/max/0/default.jpg", "https://h/x.jpg"),
        ("A & B.jpg", "https://h/get?file={}&w=300", "https://h/get?file=A %26 B.jpg&w=300"),
        ("2020/1", "https://h/{}.jpg", "https://h/2020/1.jpg"),
        ("7", "/pictures/{}/{}.png", "/pictures/7/7.png"),
    ],
)
def test_addresses_are_filled_in(address, template, expected):
    with open_database() as database:
        database.execute("CREATE TABLE raw (object_id VARCHAR, image_uri VARCHAR)")
        database.execute("INSERT INTO raw VALUES ('1', ?)", [address])
        pictures.create_pictures(database, "raw", template, "https://table.test/data")
        assert database.execute("SELECT image_uri FROM pictures").fetchall() == [(expected,)]


def test_sizes_are_numbers():
    assert allowed_sizes("image_sizes", " 500, 250,500") == (250, 500)
    assert allowed_sizes("image_sizes", "") == ()
    for text in ("250;500", "0", "-1", "1e3", "big"):
        with pytest.raises(ParameterError, match="sizes in pixels"):
            allowed_sizes("image_sizes", text)
