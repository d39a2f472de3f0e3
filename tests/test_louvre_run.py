"""Real paintings over real HTTP, the whole way: the run by which the pipeline's accuracy is judged."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.helpers.local_runs import command, summary_of
from tests.helpers.louvre import FOLDER, needs_louvre

DATA = "../shared/data"


@needs_louvre
@pytest.mark.slow
def test_paintings_of_the_louvre(tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(FOLDER)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = command(
            *("run", "--root", tmp_path, "--name", "louvre", "source=table", f"table={DATA}/louvre/objects.csv"),
            *(f"images_table={DATA}/louvre/images.csv", f"image_base=http://127.0.0.1:{server.server_port}/"),
            *("label=classification", "model=mobilenet"),
            f"weights={DATA}/weights/mobilenet_v1_0.25_224_imagenet_no_top.weights.h5",
        )
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stdout
    summary = summary_of(tmp_path / "louvre")
    assert summary["status"] == "succeeded" and summary["metrics"]["test_accuracy"] >= 0.86, summary["metrics"]
