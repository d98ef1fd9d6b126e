"""Checkpoints on the hub: cached, half downloaded, reachable, unreachable. The hub itself is a stand-in."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants
from safetensors import safe_open

from plphp_core.preflight.checkpoint import checkpoint_files, weights
from plphp_core.preflight.checks import CheckStatus
from tests.preflight import damage
from tests.preflight.conftest import CHECKPOINTS

NAME, COMMIT = "somebody/llava-onevision", "c0ffee" + "0" * 34
PASSED, FAILED = CheckStatus.PASSED, CheckStatus.FAILED


@pytest.fixture
def run(planned):
    return planned(f"model.checkpoint={NAME}")


@pytest.fixture
def source(tmp_path):
    """What the hub holds: the toy checkpoint in two shards."""
    folder = Path(shutil.copytree(CHECKPOINTS / "llava_onevision", tmp_path / "source"))
    damage.shard(folder)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache; nothing can be reached, as with HF_HUB_OFFLINE=1."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def fill(cache: Path, source: Path, leave_out=()) -> Path:
    """The layout of huggingface_hub: refs and a snapshot."""
    repository = cache / f"models--{NAME.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for file in source.iterdir():
        if file.name not in leave_out:
            shutil.copy(file, snapshot / file.name)
    return snapshot


def test_a_cached_checkpoint_is_whole_without_network(cache, source, run, examine):
    snapshot = fill(cache, source)
    (result,) = examine(checkpoint_files, run)
    assert result.status is PASSED and "hub, commit c0ffee00" in result.sentence
    assert run.checkpoint.folder == snapshot and run.checkpoint.commit == COMMIT and not run.checkpoint.to_download


@pytest.mark.parametrize("how, words", [("missing", f"missing: {damage.SECOND}"), ("torn", "is damaged")])
def test_a_download_that_was_cut_short_fails_without_network(how, words, cache, source, run, examine):
    snapshot = fill(cache, source)
    (damage.without if how == "missing" else damage.torn)(damage.SECOND)(snapshot)
    (result,) = examine(checkpoint_files, run)
    assert result.status is FAILED and words in result.sentence and f"hf download {NAME}" in result.sentence


def test_nothing_cached_and_no_network(cache, run, examine):
    (result,) = examine(checkpoint_files, run)
    assert result.status is FAILED and "not cached" in result.sentence
    assert f"hf download {NAME}" in result.sentence and "model.checkpoint=" in result.sentence


@pytest.fixture
def online(cache, source, monkeypatch):
    """A reachable hub that holds `source`, of which only the headers may be read."""

    def header(file: Path):
        with safe_open(file, "pt") as opened:
            shapes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
        size = file.stat().st_size
        return SimpleNamespace(
            tensors={name: SimpleNamespace(shape=shape, data_offsets=(0, size)) for name, shape in shapes.items()}
        )

    class Hub:
        def repo_info(self, name, **options):
            return SimpleNamespace(sha=COMMIT)

        def get_safetensors_metadata(self, name, **options):
            return SimpleNamespace(files_metadata={file.name: header(file) for file in source.glob("*.safetensors")})

    def download(name, revision, allow_patterns, local_files_only):
        assert revision == COMMIT and not any("safetensors" in pattern for pattern in allow_patterns)
        snapshot = cache / f"models--{NAME.replace('/', '--')}" / "snapshots" / COMMIT
        names = {file.name for file in source.glob("*.safetensors")}
        return str(snapshot if snapshot.exists() else fill(cache, source, leave_out=names))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


@pytest.mark.parametrize("here", [[], [damage.FIRST]])
def test_weights_on_the_hub_are_checked_from_their_headers_before_any_download(
    here, online, source, cache, run, examine
):
    if here:
        fill(cache, source, leave_out=[damage.SECOND])
    (result,) = examine(weights, run)
    sizes = {file.name: file.stat().st_size for file in source.glob("*.safetensors") if file.name not in here}
    assert result.status is PASSED and run.checkpoint.to_download == sizes and len(run.checkpoint.shapes) == 204


def test_a_checkpoint_on_the_hub_with_too_few_layers(online, source, run, examine):
    """Costs kilobytes to find, not sixteen gigabytes."""
    layers = {"text_config__num_hidden_layers": 9, "text_config__layer_types": ["full_attention"] * 9}
    damage.edited("config.json", **layers)(source)
    (result,) = examine(weights, run)
    assert result.status is FAILED and "layers.10." in result.sentence
