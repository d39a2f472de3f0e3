"""A worker that plays a part: `python -m components.train.worker` in this folder, told by $PLAY what to do.

It is what the launcher starts where a test is about the launcher, and TensorFlow would only take time.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
for name in ("settings", "dataset", "output", "checkpoints"):
    parser.add_argument(f"--{name}")
arguments = parser.parse_args()
config = json.loads(os.environ.get("TF_CONFIG", "{}"))
index = config.get("task", {}).get("index", 0)
folder = Path(arguments.checkpoints)
folder.mkdir(parents=True, exist_ok=True)
with open(folder / f"starts-{index}", "a") as starts:
    starts.write(json.dumps({"pid": os.getpid(), "TF_CONFIG": config, "arguments": vars(arguments)}) + "\n")
attempt = len((folder / f"starts-{index}").read_text().splitlines()) - 1
print(f"worker {index}, attempt {attempt}", flush=True)


def preempted(number, frame):
    (folder / f"preempted-{index}").touch()
    print("checkpoint written", flush=True)
    sys.exit(os.EX_TEMPFAIL)


def hang():
    signal.signal(signal.SIGTERM, preempted)
    (folder / f"hanging-{index}-{attempt}").touch()
    time.sleep(600)


def talk():
    for number in range(int(os.environ["LINES"])):
        print(f"line {number}", flush=True)
        while number == 2 and not (folder / "go-on").exists():
            time.sleep(0.01)


def crash():
    if index == 1:
        while not (folder / f"hanging-0-{attempt}").exists():
            time.sleep(0.01)
        print("about to crash", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    hang()


def is_alive(other):
    starts = folder / f"starts-{other}"
    try:
        os.kill(json.loads(starts.read_text())["pid"], 0)
    except FileNotFoundError:
        return True  # not yet started
    except ProcessLookupError:
        return False
    return True


def user_error():
    if index == 1:
        print("error: the labels do not match", file=sys.stderr, flush=True)
        sys.exit(1)
    while is_alive(1):
        time.sleep(0.01)
    print("Traceback: a peer is gone", flush=True)
    sys.exit(1)


def export():
    """What training would leave: $ACCURACIES says how good each model is; one that is not listed cannot be trained."""
    model = Path(arguments.output).parent.name
    accuracies = json.loads(os.environ["ACCURACIES"])
    if model not in accuracies:
        print("error: out of memory", flush=True)
        sys.exit(1)
    accuracy = accuracies[model]
    losses = {"loss": 1, "validation_loss": 1}
    entry = {"epoch": 1, "phase": "all", **losses, "accuracy": 0.5, "validation_accuracy": accuracy}
    metrics = {"validation_accuracy": accuracy, "best_epoch": 1}
    result = {"model": model, "metrics": metrics, "history": [entry], "seconds": 2.0, "images_per_second": 100.0}
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "model.tflite").write_bytes(Path(os.environ["TFLITE"]).read_bytes())
    (output / "result.json").write_text(json.dumps(result))


plays = {"crash": crash, "export": export, "hang": hang, "talk": talk, "user_error": user_error}
# crash,hang: what the first and the second attempt do; those after it just succeed.
script = [name for name in os.environ.get("PLAY", "").split(",") if name]
if attempt < len(script):
    plays[script[attempt]]()
print("done", flush=True)
