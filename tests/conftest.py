"""Offline, few threads, same seed: for every test."""

import os

for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ[name] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")

import pytest  # noqa: E402
import torch  # noqa: E402

from tests.examples import load  # noqa: E402


def pytest_configure(config):
    load(quick="not slow" in config.option.markexpr)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
