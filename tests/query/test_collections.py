"""Collections by name: each file of the project against a server that answers as the real one does; files of users."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from components.query import attributes, collections, web
from components.query.selection import Settings, select
from components.query.settings import QueryError
from components.shared.errors import PipelineError
from components.shared.parameters import ParameterError
from tests.fakes.museums import WebApi, serve
from tests.helpers.tables import run, write_csv

NUMBER = 40
KINDS = ("Painting", "Print")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the pauses that the real hosts ask for."""
    monkeypatch.setattr(web.Api, "_take_turn", lambda self: None)


def aic(path: str, parameters: dict[str, str]) -> tuple[int, dict, object]:
    """Three pages, each with the address of the next one; every fourth work is not in the public domain."""
    page, size = int(parameters.get("page", 1)), 15
    data = [
        {
            "id": n, "title": f"T{n}", "artist_title": f"A{n}", "artwork_type_title": KINDS[n % 2],
            "image_id": f"uuid-{n}",
            "is_public_domain": n % 4 > 0, "credit_line": f"Gift of {n}",
        }
        for n in range(1 + size * (page - 1), min(NUMBER, size * page) + 1)
    ]  # fmt: skip
    following = f"https://api.artic.edu/api/v1/artworks?page={page + 1}&limit=100" if page < 3 else None
    return 200, {}, {"pagination": {"total": NUMBER, "next_url": following}, "data": data}


def smk(path: str, parameters: dict[str, str]) -> tuple[int, dict, object]:
    """Offsets; fewer records than asked for end it."""
    start, rows = int(parameters.get("offset", 0)), int(parameters["rows"])
    items = [
        {
            "object_number": f"KMS{n}", "titles": [{"title": f"T{n}", "language": "dansk"}], "artist": [f"A{n}"],
            "object_names": [{"name": KINDS[n % 2]}, {"name": "x"}], "public_domain": n % 4 > 0,
            "image_iiif_id": f"https://iip.smk.dk/iiif/jp2/{n}.tif.jp2",
        }
        for n in range(1 + start, min(NUMBER, start + rows) + 1)
    ]  # fmt: skip
    return 200, {}, {"offset": start, "rows": rows, "found": NUMBER, "items": items}


def harvard(path: str, parameters: dict[str, str]) -> tuple[int, dict, object]:
    """Pages with the key in the next one's address, as it came in."""
    if parameters.get("apikey") != "good":
        return 401, {}, {"error": "Unauthorized"}
    page = int(parameters.get("page", 1))
    records = [
        {
            "id": n, "title": f"T{n}", "people": [{"name": f"A{n}"}], "classification": KINDS[n % 2], "url": f"https://h/{n}",
            "imagepermissionlevel": int(n % 4 == 0), "images": [{"iiifbaseuri": f"https://ids.lib.harvard.edu/ids/iiif/{n}"}],
        }
        for n in range(1 + 20 * (page - 1), 20 * page + 1)
    ]  # fmt: skip
    info = {"page": page, "pages": 2}
    if page < 2:
        info["next"] = "https://api.harvardartmuseums.org/object?apikey=good&page=2&size=100"
    return 200, {}, {"info": info, "records": records}


def europeana(path: str, parameters: dict[str, str]) -> tuple[int, dict, object]:
    """A cursor that is `*` at first, and not there after the last page."""
    if parameters.get("wskey") != "good":
        return 401, {}, {"success": False, "error": "Invalid API key"}
    page = 0 if parameters["cursor"] == "*" else int(parameters["cursor"].removeprefix("c+"))
    rights = "http://creativecommons.org/publicdomain/mark/1.0/", "http://rightsstatements.org/vocab/InC/1.0/"
    items = [
        {
            "id": f"/9/{n}", "title": [f"T{n}"], "dcCreator": [f"A{n}", "x"], "dataProvider": [KINDS[n % 2]],
            "rights": [rights[n % 4 == 0]], "edmIsShownBy": [f"https://museum.test/{n}.jpg"], "guid": f"https://e/{n}",
        }
        for n in range(1 + 20 * page, 20 * page + 21)
    ]  # fmt: skip
    answer = {"success": True, "itemsCount": len(items), "totalResults": NUMBER, "items": items}
    return 200, {}, answer | ({"nextCursor": f"c+{page + 1}"} if page < 1 else {})


def rijksmuseum(path: str, parameters: dict[str, str]) -> tuple[int, dict, object]:
    """EDM by OAI-PMH: terms and people by reference, a deleted record, a resumption token that is empty at the end."""
    page = int(parameters.get("resumptionToken", "t0").removeprefix("t"))
    rights = "http://creativecommons.org/publicdomain/mark/1.0/", "http://rightsstatements.org/vocab/InC/1.0/"

    def record(n: int) -> str:
        about = f"https://id.rijksmuseum.nl/{n}"
        return f"""<record><header><identifier>{about}</identifier></header><metadata><rdf:RDF>
        <ore:Aggregation rdf:about="{about}#a"><edm:isShownBy rdf:resource="https://iiif.micr.io/x{n}/full/max/0/default.jpg"/>
        <edm:isShownAt rdf:resource="https://www.rijksmuseum.nl/{n}"/><edm:rights rdf:resource="{rights[n % 4 == 0]}"/>
        <edm:aggregatedCHO rdf:resource="{about}"/></ore:Aggregation>
        <edm:ProvidedCHO rdf:about="{about}"><dc:title xml:lang="nl">{escape(f"T & {n}")}</dc:title>
        <dc:creator rdf:resource="p{n % 7}"/><dc:type rdf:resource="k{n % 2}"/></edm:ProvidedCHO>
        <skos:Concept rdf:about="k{n % 2}"><skos:prefLabel xml:lang="nl">x</skos:prefLabel>
        <skos:prefLabel xml:lang="en">{KINDS[n % 2]}</skos:prefLabel></skos:Concept>
        <edm:Agent rdf:about="p{n % 7}"><skos:prefLabel>A{n % 7}</skos:prefLabel></edm:Agent>
        </rdf:RDF></metadata></record>"""

    records = "".join(record(n) for n in range(1 + 20 * page, 20 * page + 21))
    deleted = '<record><header status="deleted"><identifier>gone</identifier></header></record>'
    token = f'<resumptionToken completeListSize="40">{"t1" if page < 1 else ""}</resumptionToken>'
    names = (
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:ore="http://www.openarchives.org/ore/terms/" '
    )
    names += 'xmlns:edm="http://www.europeana.eu/schemas/edm/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    names += 'xmlns:skos="http://www.w3.org/2004/02/skos/core#" xmlns="http://www.openarchives.org/OAI/2.0/"'
    return 200, {}, f"<OAI-PMH {names}><ListRecords>{records}{deleted}{token}</ListRecords></OAI-PMH>"


def commons(path: str, parameters: dict[str, str]) -> tuple[int, dict, object]:
    """Results of SPARQL in JSON."""
    assert "wdt:P18" in parameters["query"] and parameters["format"] == "json"
    rows = [
        {
            "item": f"http://www.wikidata.org/entity/Q{n}", "genre": KINDS[n % 2],
            "picture": f"http://commons.wikimedia.org/wiki/Special:FilePath/Work%20{n}.jpg",
            "copyright": f"http://www.wikidata.org/entity/{'Q50423863' if n % 4 == 0 else 'Q19652'}",
        }
        for n in range(1, NUMBER + 1)
    ]  # fmt: skip
    bindings = [{name: {"type": "literal", "value": value} for name, value in row.items()} for row in rows]
    return 200, {}, {"head": {"vars": list(rows[0])}, "results": {"bindings": bindings}}


def lines(records: list[dict]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def cleveland() -> str:
    """data.json, with the fields that its objects have."""
    return json.dumps(
        [
            {
                "id": n, "title": f"T{n}", "department": KINDS[n % 2], "culture": ["France"] * (n % 3),
                "creditline": f"Gift {n}",
                "share_license_status": "Copyrighted" if n % 4 == 0 else "CC0", "url": f"https://clevelandart.org/art/{n}",
                "creators": [{"description": f"A{n}", "role": "artist"}] * (n % 3),
                "images": {"web": {"url": f"https://cdn.test/{n}_web.jpg", "width": "893"}} if n % 4 else {},
            }
            for n in range(1, NUMBER + 1)
        ]
    )  # fmt: skip


def smithsonian() -> str:
    """Lines of the bucket's files."""
    return lines(
        [
            {
                "id": f"edanmdm-saam_{n}", "title": f"T{n}",
                "content": {
                    "descriptiveNonRepeating": {
                        "record_link": f"https://n2t.net/{n}",
                        "online_media": {"media": [{
                            "type": "Images", "content": f"https://ids.si.edu/ids/deliveryService?id=SAAM-{n}",
                            "usage": {"access": "CC0" if n % 4 else "Not determined"},
                        }] * 2},
                    },
                    "indexedStructured": {"object_type": [KINDS[n % 2], "x"], "name": [f"A{n}"]},
                },
            }
            for n in range(1, NUMBER + 1)
        ]
    )  # fmt: skip


APIS = {
    "aic": aic,
    "smk": smk,
    "harvard": harvard,
    "europeana": europeana,
    "rijksmuseum": rijksmuseum,
    "commons": commons,
}
EXPECTED = {
    "aic": "https://www.artic.edu/iiif/2/uuid-1/full/400,/0/default.jpg",
    "smk": "https://iip.smk.dk/iiif/jp2/1.tif.jp2/full/!400,400/0/default.jpg",
    "harvard": "https://ids.lib.harvard.edu/ids/iiif/1/full/!400,400/0/default.jpg",
    "europeana": "https://museum.test/1.jpg",
    "rijksmuseum": "https://iiif.micr.io/x1/full/!400,400/0/default.jpg",
    "commons": "http://commons.wikimedia.org/wiki/Special:FilePath/Work%201.jpg?width=330",
    "cleveland": "https://cdn.test/1_web.jpg",
    "smithsonian": "https://ids.si.edu/ids/deliveryService?id=SAAM-1&max=400",
}


@pytest.fixture
def named(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str, WebApi]]:
    """A collection's name, the address of what plays its host, and what that was asked."""
    name = request.param
    for key in ("HARVARD_API_KEY", "EUROPEANA_API_KEY"):
        monkeypatch.setenv(key, "good")
    files = {"cleveland": cleveland, "smithsonian": smithsonian}
    respond = APIS[name] if name in APIS else (lambda *_: (200, {}, files[name]()))
    with serve(respond) as (api, host):
        yield (
            name,
            f"{host}/{'data.json' if name == 'cleveland' else 'data.txt' if name == 'smithsonian' else 'api'}",
            api,
        )


@pytest.mark.parametrize("named", EXPECTED, indirect=True)
def test_each_collection_gives_its_open_images_in_the_size_that_is_needed(named, tmp_path: Path) -> None:
    name, host, _ = named
    settings = {"source": name, "table": host, "label": "", "image_size": 200}
    selection, rows = run(tmp_path, **settings)
    assert selection.labels == ["Painting", "Print"] and len(rows) == 30, str(selection)
    assert "10 objects have no open image (rights=any takes them)" in str(selection)
    first = next(row["image_uri"] for row in rows if re.search(r"(\D|%20)1(\D|$)", row["image_uri"]))
    assert first == EXPECTED[name]
    assert all(row["rights"] and row["credit"] for row in rows)
    assert name == "smk" or all(row["link"] for row in rows)
    page = (tmp_path / "profile").read_text()
    assert "are not (rights=any takes them)" in page
    if name != "cleveland":  # there, what is not open has no image
        assert len(run(tmp_path, **settings, rights="any")[1]) == 40
    described = attributes.describe(Settings(source=name, table=host, min_images_per_class=2))
    assert described.objects == 30 and any(item.classes == 2 for item in described.items)


@pytest.mark.parametrize("named", ["aic", "rijksmuseum", "europeana"], indirect=True)
def test_what_was_answered_is_not_asked_again(named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, host, api = named
    monkeypatch.setattr(web, "BACKOFF_SECONDS", 0.001)
    settings = Settings(source=name, table=host, min_images_per_class=1)
    paths = [str(tmp_path / each) for each in ("objects", "labels", "profile", "objects")]
    respond = api.respond
    api.respond = lambda path, asked: respond(path, asked) if len(api.requests) < 2 else (500, {}, "")
    with pytest.raises(PipelineError, match="answers 500 after 6 tries"):
        select(settings, *paths)
    api.respond, first = respond, [asked for _, asked, _ in api.requests[:1]]
    api.requests.clear()
    assert sum(select(settings, *paths).per_split.values()) == 30
    assert not [asked for _, asked, _ in api.requests if asked in first], "the first page was there"
    api.requests.clear()
    select(settings, *paths)
    assert not api.requests
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"good" in path.read_bytes()], (
        "no key is kept"
    )


def test_a_table_with_its_images_by_name(tmp_path: Path) -> None:
    """National Gallery of Art: what is open says the table of images; an object without one has no image."""
    works = [
        {"objectid": n, "title": f"T{n}", "attribution": f"A{n}", "creditline": "", "classification": KINDS[n % 2]}
        for n in range(1, 21)
    ]
    images = [
        {"uuid": n, "iiifurl": f"https://api.nga.gov/iiif/{n}", "viewtype": "primary", "openaccess": int(n % 4 > 0),
         "depictstmsobjectid": n} for n in range(1, 21)
    ]  # fmt: skip
    settings = {"table": write_csv(tmp_path / "o.csv", works), "images_table": write_csv(tmp_path / "i.csv", images)}
    selection, rows = run(tmp_path, source="nga", label="", **settings, image_size=100)
    assert len(rows) == 15 and "5 of 20 images do not match images_where" in str(selection)
    assert {row["object_id"]: row["image_uri"] for row in rows}[
        "1"
    ] == "https://api.nga.gov/iiif/1/full/!200,200/0/default.jpg"
    assert rows[0]["credit"] == "Courtesy National Gallery of Art, Washington" and rows[0]["rights"] == "CC0 1.0"
    assert rows[0]["link"] == f"https://www.nga.gov/artworks/{rows[0]['object_id']}"
    assert len(run(tmp_path, source="nga", label="", **settings, rights="any", where="object_id > 10")[1]) == 10


def test_every_file_of_the_project_is_complete() -> None:
    for name in collections.names():
        found = collections.load(name)
        assert (
            found.checked.startswith("2026-") and found.terms.startswith("https://") and found.works and found.labels
        ), name
        assert found.license or found.forbids, name
        if found.kind != "met" and not found.forbids:
            collections.resolve(Settings(source=name))


def test_what_a_museum_forbids_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        QueryError, match="source=moma: its data are CC0, its images are not.*rights=any is for those who"
    ):
        run(tmp_path, source="moma", label="")


OWN = 'title = "Mine"\nkind = "table"\nchecked = "2026-11-29: all"\ntable = "x.csv"\n'


@pytest.mark.parametrize(
    "text, message",
    [
        (OWN + 'licence = "CC0"\n', "there is no entry licence .did you mean license"),
        (OWN + "rate = true\n", "the entry rate is True"),
        (OWN + "label = 3\n", "the entry label is 3"),
        (OWN.replace('"table"', '"tables"'), "kind = 'tables'; use one of table, pages, oai, sparql"),
        (OWN.replace('checked = "2026-11-29: all"\n', ""), "the entry checked is missing"),
        (OWN.replace('"table"', '"pages"'), "the entry records is missing"),
        (OWN + "not toml", "is no TOML file"),
    ],
)
def test_a_users_file_that_cannot_be_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(QueryError, match=message) as caught:
        run(tmp_path, source=str(tmp_path / "mine.toml"), label="")
    assert "\n" not in str(caught.value)


def test_a_users_own_file(tmp_path: Path) -> None:
    rows = [{"id": n, "kind": KINDS[n % 2], "free": n % 4 > 0, "file": f"{n}.jpg"} for n in range(1, 13)]
    table = write_csv(tmp_path / "mine.csv", rows)
    entries = {
        "table": table,
        "columns": "object_id=id,original_image_url=file",
        "label": "kind",
        "open": "free = true",
    }
    text = OWN.replace('table = "x.csv"\n', "") + "".join(
        f"{name} = {json.dumps(value)}\n" for name, value in entries.items()
    )
    (tmp_path / "mine.toml").write_text(text)
    assert len(run(tmp_path, source=str(tmp_path / "mine.toml"), label="")[1]) == 9
    with pytest.raises(PipelineError, match="no such file|not found|nowhere.toml"):
        run(tmp_path, source=str(tmp_path / "nowhere.toml"), label="")


def test_keys_and_rights_that_are_missing_or_refused_are_one_line(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("HARVARD_API_KEY", raising=False)
    with pytest.raises(
        QueryError, match="Harvard Art Museums needs an API key in HARVARD_API_KEY; harvardartmuseums.org"
    ):
        run(tmp_path, source="harvard", label="")
    monkeypatch.setenv("HARVARD_API_KEY", "bad-key")
    with serve(harvard) as (_, host), pytest.raises(QueryError, match="Harvard Art Museums refuses .*401") as caught:
        run(tmp_path, source="harvard", label="", table=f"{host}/object")
    assert "bad-key" not in str(caught.value)
    with pytest.raises(ParameterError, match="rights=open.*source=table does not say which images are open"):
        run(tmp_path, table="x.csv", rights="open")
    with pytest.raises(ParameterError, match="source=ngaa is not allowed .did you mean nga"):
        run(tmp_path, source="ngaa")
