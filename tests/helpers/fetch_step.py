"""The fetch step as a process of its own."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from components.fetch.settings import Settings
from tests.helpers.fetched_shards import QUICK, SHARD
from tests.helpers.local_runs import started

STEP = """
import json, sys
from components.fetch.fetcher import fetch_shard
from components.fetch.settings import Limits, ShardSettings
from components.shared.errors import reported
call = json.loads(sys.argv[1])
with reported():
    print(fetch_shard(*call["paths"], ShardSettings(**call["settings"]), Limits(**call["limits"])))
"""


def start_step(folder: Path, objects: str, settings: Settings, uri: str = "", limits=QUICK) -> subprocess.Popen:
    """The step in a process group of its own, as a shell runs it."""
    out = str(folder / "out")
    call = {"paths": [SHARD, objects, out, uri or out], "settings": asdict(settings), "limits": asdict(limits)}
    return started([sys.executable, "-c", STEP, json.dumps(call)], start_new_session=True)
