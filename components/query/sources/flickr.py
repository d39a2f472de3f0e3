"""source=flickr: a keyword per class, through Flickr's REST API (flickr.photos.search)."""

import os

import duckdb
import pyarrow

from components.query.pictures import create_pictures
from components.query.settings import QueryError, Settings, split_list
from components.query.state import today
from components.query.web import Api
from components.shared.errors import TransientError
from components.shared.progress import Progress

API_VARIABLE, KEY_VARIABLE = "FLICKR_API", "FLICKR_API_KEY"
API = "https://api.flickr.com/services/rest/"
# Flickr asks for at most 3,600 requests per hour; bursts are fine, and a search of 4,000 photos is 8 requests.
REQUESTS_PER_SECOND = 5
PER_PAGE = 500
# Of one search Flickr gives out the first 4,000 photos; further pages repeat the last.
MOST_PHOTOS = 4000
# Those that let anyone show and change an image. https://www.flickr.com/services/api/flickr.photos.licenses.getInfo
LICENSES = {
    "4": "CC BY 2.0",
    "5": "CC BY-SA 2.0",
    "7": "No known copyright restrictions",
    "8": "United States government work",
    "9": "CC0 1.0",
    "10": "Public Domain Mark 1.0",
    "11": "CC BY 4.0",
    "12": "CC BY-SA 4.0",
}
# Sizes, the best first: 1024, 800, 640, 500 pixels on the longest side; then larger ones (1600, 2048, the original,
# which can be huge) and smaller ones (400, 320, 240). Of many photos there are only some. The rest are cut or tiny.
SIZES = ("url_l", "url_c", "url_z", "url_m", "url_h", "url_k", "url_o", "url_w", "url_n", "url_s")
COLUMNS = (
    "object_id keyword title artist_display_name owner rights_and_reproduction license link_resource date_taken tags "
    "original_image_url"
).split()
SCHEMA = pyarrow.schema([(name, pyarrow.string()) for name in COLUMNS])
BUSY = (105, 106, 201)


def open_source(settings: Settings) -> "FlickrSource":
    """A search. Raises QueryError without a key in the environment."""
    keywords = list(dict.fromkeys(split_list(settings.keywords)))
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        raise QueryError(
            f"source=flickr needs an API key in {KEY_VARIABLE}; www.flickr.com/services/apps/create gives one"
        )
    return FlickrSource(keywords, key, settings)


class FlickrSource:
    """The most relevant photos under an open licence for each keyword."""

    label = "keyword"
    applies_where = False
    total = None
    pictures_are_complete = True

    def __init__(self, keywords: list[str], key: str, settings: Settings) -> None:
        self.keywords, self.key = keywords, key
        self.most = min(settings.max_images_per_class or MOST_PHOTOS, MOST_PHOTOS)
        self.api = Api(os.environ.get(API_VARIABLE, API), "Flickr", REQUESTS_PER_SECOND, settings.contact)

    def state(self) -> str:
        """The day: a search does not tell whether its result has changed."""
        return today()

    def load(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `raw`, a row per photo and keyword. Raises QueryError if a keyword finds nothing."""
        progress = Progress(len(self.keywords), "searches")
        database.execute(f"CREATE TABLE raw ({', '.join(f'{name} VARCHAR' for name in COLUMNS)})")
        for keyword in self.keywords:
            photos = self._search(keyword)
            if not any(map(_address, photos)):
                raise QueryError(
                    f"no picture is left for {keyword}: Flickr finds none under an open licence; try other words"
                )
            rows = [_row(photo, keyword) for photo in photos]
            database.register("found", pyarrow.Table.from_pylist(rows, schema=SCHEMA))
            database.execute("INSERT INTO raw SELECT * FROM found")
            progress.update(note=f"{len(photos)} photos of {keyword}")

    def load_pictures(self, database: duckdb.DuckDBPyConnection) -> None:
        """One image a photo."""
        create_pictures(database, "objects", base="")

    def describe_attributes(self, settings: Settings) -> None:
        """Described after the search."""

    def _search(self, keyword: str) -> list[dict]:
        """Photos of `keyword`, the most relevant first, each once; at most `self.most` that have an address."""
        photos: dict[str, dict] = {}
        shown = 0
        page = pages = 1
        while page <= min(pages, MOST_PHOTOS // PER_PAGE) and shown < self.most:
            answer = self._page(keyword, page)
            pages = int(answer["pages"])
            for photo in answer["photo"]:
                if str(photo["id"]) not in photos and shown < self.most:
                    # One without an address is kept as well: it is counted as an object without an image.
                    photos[str(photo["id"])] = photo
                    shown += bool(_address(photo))
            page += 1
        return list(photos.values())

    def _page(self, keyword: str, page: int) -> dict:
        answer = self.api.get(
            "/",
            method="flickr.photos.search",
            api_key=self.key,
            text=keyword,
            license=",".join(LICENSES),
            media="photos",
            content_types=0,
            safe_search=1,
            sort="relevance",
            extras=",".join(("license", "owner_name", "date_taken", "tags", *SIZES)),
            per_page=PER_PAGE,
            page=page,
            format="json",
            nojsoncallback=1,
        )
        if not answer or answer.get("stat") != "ok" or "photos" not in answer:
            answer = answer or {}
            text = f"Flickr refuses the search for {keyword}: {answer.get('message', 'no such address')}"
            raise (TransientError if answer.get("code") in BUSY else QueryError)(f"{text} (code {answer.get('code')})")
        return answer["photos"]


def _row(photo: dict, keyword: str) -> dict[str, str]:
    owner, number = str(photo.get("owner", "")), str(photo["id"])
    return {
        "object_id": number,
        "keyword": keyword,
        "title": str(photo.get("title", "")),
        "artist_display_name": str(photo.get("ownername") or owner),
        "owner": owner,
        "rights_and_reproduction": LICENSES.get(str(photo.get("license")), ""),
        "license": str(photo.get("license", "")),
        "link_resource": f"https://www.flickr.com/photos/{owner}/{number}",
        "date_taken": str(photo.get("datetaken", "")),
        "tags": str(photo.get("tags", "")),
        "original_image_url": _address(photo),
    }


def _address(photo: dict) -> str:
    """Of the best size that there is; empty where there is none."""
    return next((str(photo[size]) for size in SIZES if photo.get(size)), "")
