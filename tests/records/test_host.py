"""What this machine is: memory within a container's limit, and the NVIDIA driver where there is one."""

import os

import psutil
import pytest

from plphp_core.records import host


@pytest.mark.parametrize("limit, expected", [("3000", 2000), ("max", None), (None, None)])
def test_a_containers_limit_bounds_the_available_memory(limit, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "CONTROL_GROUP", tmp_path)
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text("1000\n")
    if expected is None:
        assert 0 < host.available_ram() <= psutil.virtual_memory().total
    else:
        assert host.available_ram() == expected


def test_nvidia_smi_is_asked_for_named_fields(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$1" = --query-gpu=driver_version,clocks.sm ] && echo "570.1, 1980 MHz"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert host.nvidia_smi(["driver_version", "clocks.sm"]) == {"driver_version": "570.1", "clocks.sm": "1980 MHz"}
    assert host.driver_version() is None  # the program refuses every other question


def test_without_a_driver_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.nvidia_smi(["driver_version"]) == {} and host.driver_version() is None
