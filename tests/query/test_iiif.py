"""source=iiif: manifests and collections of both versions, and documents that are neither."""

import json
from pathlib import Path

import pytest

from components.query import web
from components.query.settings import QueryError
from components.shared.parameters import ParameterError
from tests.fakes.museums import serve
from tests.helpers.tables import run

LICENSE = "http://creativecommons.org/publicdomain/mark/1.0/"


def version_3(host: str, n: int) -> dict:
    """A manifest of Presentation 3 with an image service, a choice of images, and a canvas without one."""
    image = {
        "id": f"{host}/i{n}.jpg",
        "type": "Image",
        "service": [{"id": f"{host}/iiif/{n}", "type": "ImageService3"}],
    }
    choice = {"type": "Choice", "items": [{"id": f"{host}/i{n}b.jpg", "type": "Image"}, image]}
    canvases = [[image], [choice], [{"type": "Sound", "id": f"{host}/s.mp3"}]]
    return {
        "@context": "http://iiif.io/api/presentation/3/context.json", "id": f"{host}/m{n}", "type": "Manifest",
        "label": {"nl": [f"Werk {n}"], "en": [f"Work {n}"]}, "rights": LICENSE,
        "metadata": [{"label": {"en": ["Technique"]}, "value": {"none": [("oil", "ink")[n % 2]]}}],
        "requiredStatement": {"label": {"en": ["Credit"]}, "value": {"en": ["The museum"]}},
        "items": [{"type": "Canvas", "items": [{"type": "AnnotationPage", "items": [
            {"type": "Annotation", "body": body} for body in bodies]}]} for bodies in canvases],
    }  # fmt: skip


def version_2(host: str, n: int) -> dict:
    """One of Presentation 2."""
    service = {"@id": f"{host}/iiif/{n}/", "profile": "http://iiif.io/api/image/2/level2.json"}
    resource = {"@id": f"{host}/i{n}.jpg", "@type": "dctypes:Image", "service": service}
    canvas = {"@type": "sc:Canvas", "images": [{"@type": "oa:Annotation", "resource": resource}]}
    return {
        "@context": "http://iiif.io/api/presentation/2/context.json", "@id": f"{host}/m{n}", "@type": "sc:Manifest",
        "label": [{"@value": f"Werk {n}", "@language": "nl"}, {"@value": f"Work {n}", "@language": "en"}],
        "license": LICENSE, "attribution": "The museum",
        "metadata": [{"label": "Technique", "value": ("oil", "ink")[n % 2]}],
        "sequences": [{"canvases": [canvas]}],
    }  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.Api, "_take_turn", lambda self: None)


@pytest.mark.parametrize("version", [2, 3])
def test_a_collection_of_collections(tmp_path: Path, version: int) -> None:
    documents: dict[str, object] = {}
    with serve(lambda path, _: (200, {}, documents[path]) if path in documents else (404, {}, "")) as (api, host):
        make = version_2 if version == 2 else version_3
        documents |= {f"/m{n}": make(host, n) for n in range(1, 9)}
        listed = [{"@id" if version == 2 else "id": f"{host}/m{n}"} for n in range(1, 9)]
        kind, items = ("@type", "manifests") if version == 2 else ("type", "items")
        name = "sc:Collection" if version == 2 else "Collection"
        top = {"@id" if version == 2 else "id": f"{host}/top", kind: name, "label": "All"}
        inner = [{"@id" if version == 2 else "id": f"{host}/{part}"} for part in ("a", "b", "top")]
        documents["/top"] = top | {"collections" if version == 2 else "items": inner}
        documents["/a"], documents["/b"] = ({kind: name, "label": part, items: half} for part, half in (
            ("A", listed[:4]), ("B", listed[4:])))  # fmt: skip
        selection, rows = run(tmp_path, source="iiif", table=f"{host}/top", label="", image_size=100)
        assert selection.labels == ["A", "B"] and len(api.requests) == 11, "each once"
        first = [row for row in rows if row["title"] == "Work 1"]
        service = f"{host}/iiif/1/full/!200,200/0/default.jpg"
        assert sorted(row["image_uri"] for row in first) == sorted([service] + [f"{host}/i1b.jpg"] * (version == 3))
        assert (first[0]["rights"], first[0]["credit"], first[0]["link"]) == (LICENSE, "The museum", f"{host}/m1")
        assert run(tmp_path, source="iiif", table=f"{host}/top", label="technique")[0].labels == ["ink", "oil"]
        with pytest.raises(QueryError, match="there is no manifest .*/nothing"):
            run(tmp_path, source="iiif", table=f"{host}/nothing")


@pytest.mark.parametrize(
    "text, message",
    [
        ("<html>", "is no IIIF manifest: it is not JSON"),
        ('{"type": "Canvas"}', "is no IIIF Presentation manifest or collection"),
        ("[]", "is no IIIF Presentation manifest or collection"),
        ('{"type": "Collection", "items": []}', "the collection lists no manifest"),
    ],
)
def test_what_is_no_manifest_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(QueryError, match=message) as caught:
        run(tmp_path, source="iiif", table=str(tmp_path / "x.json"))
    assert "\n" not in str(caught.value)


def test_a_manifest_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="it needs table="):
        run(tmp_path, source="iiif")
    (tmp_path / "m.json").write_text(json.dumps(version_3("https://h", 1)))
    with pytest.raises(QueryError, match="it takes two"):
        run(tmp_path, source="iiif", table=str(tmp_path / "m.json"), label="technique")
