"""The Flask application's type, and the one that answers the current request."""

import io
from typing import cast

import flask
from flask.json.provider import DefaultJSONProvider

from components.server.engine import Engine
from components.server.monitor import Monitor
from components.server.settings import ServerSettings


class PictureRequest(flask.Request):
    """A request whose uploads stay in memory: nothing that was sent is written to a disk, under any name."""

    max_form_parts = 16

    def _get_file_stream(self, *arguments, **names) -> io.BytesIO:
        return io.BytesIO()


class Application(flask.Flask):
    """Flask with what the views need."""

    request_class = PictureRequest

    def __init__(self, settings: ServerSettings, engine: Engine, monitor: Monitor) -> None:
        super().__init__(__name__)
        self.settings, self.engine, self.monitor = settings, engine, monitor
        self.json = flask.json.provider.DefaultJSONProvider(self)
        provider = DefaultJSONProvider(self)
        provider.sort_keys = False
        self.json = provider
        self.config["MAX_CONTENT_LENGTH"] = settings.max_upload


# Flask's own knows nothing of the attributes above.
current_app = cast(Application, flask.current_app)
