"""Cores by affinity and by a container's limit, read from files as the kernel writes them."""

import os

import pytest

from components.shared import cores

HERE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "files, expected",
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, min(2, HERE)),
        ({"cpu.max": "6400000 100000\n"}, HERE),
        ({"cpu.max": "max 100000\n"}, HERE),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, HERE),
        ({"cpu.max": "what is this"}, HERE),
        ({}, HERE),
    ],
)
def test_cores_of_a_container(tmp_path, monkeypatch, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cores, "CGROUP", tmp_path)
    assert cores.available_cores() == expected


def test_affinity_counts_too(tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("6400000 100000\n")
    monkeypatch.setattr(cores, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    assert cores.available_cores() == 64
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    assert cores.available_cores() == 2, "a node of 64 cores, of which the container may use two"
