"""The bill of materials: what is added to what cyclonedx-py reads out of a lock file."""

import re

from containers import arm64, bill, lock


def test_a_bill_names_its_image_and_the_licences():
    line = "requirements line 1: numpy==2.3.5     --hash=sha256:08cec --hash=sha256:1f15     # via keras"
    made = {"metadata": {}, "components": [{"name": "numpy", "description": line}, {"name": "no-such-thing"}]}
    found = bill.completed(made, "serve")
    subject = found["metadata"]["component"]
    assert (subject["type"], subject["name"]) == ("container", "museum-classifier-serve")
    numpy, absent = found["components"]
    assert numpy["description"] == "requirements line 1: numpy==2.3.5"
    assert "BSD" in numpy["licenses"][0]["license"]["name"] and "licenses" not in absent


def test_every_package_has_a_line_with_its_images():
    lines = bill.table({"numpy": {"train", "data"}, "no-such-thing": {"serve"}}).splitlines()
    assert lines[2] == "| no-such-thing | not installed here | serve |" and lines[3].endswith("| data, train |")
    assert [bill.image_of(name) for name in ("data/requirements.lock", "train/requirements-gpu.lock")] == [
        "data", "train-gpu",
    ]  # fmt: skip


def test_locks_hold_both_machines_packages():
    """TensorFlow has a package for x86-64 alone; each machine takes one of the two, of the same version."""
    text = (lock.ROOT / "containers/train/requirements-cpu.lock").read_text()
    arm = arm64.pins(text)
    assert "tensorflow" in arm and "tensorflow-cpu" not in arm and "cykooz-resizer" not in arm
    assert f'tensorflow-cpu=={arm["tensorflow"]} ; platform_machine == "x86_64" \\' in text
    for name in lock.LOCKS:
        before = (lock.ROOT / "containers" / name).read_text()
        assert not re.search(rf"^({'|'.join(lock.X86_ONLY)})==[^;\n]+$", before, re.MULTILINE), f"{name}: make lock"
