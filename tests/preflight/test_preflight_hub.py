"""Checkpoints on the hub: cached, half downloaded, reachable, unreachable. The hub itself is a stand-in."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import httpx
import huggingface_hub
import pytest
from huggingface_hub import constants

from plphp_core.preflight import checkpoint as checkpoint_module
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Status, run_checks
from plphp_core.preflight.checkpoint import checkpoint_files
from plphp_core.preflight.headers import DamagedFile, read_header
from plphp_core.preflight.model import configuration, weights
from tests.configured import ROOT, configured
from tests.preflight import damage

TOY = ROOT / "tasks" / "toy" / "checkpoints" / "llava_onevision"
NAME, COMMIT = "somebody/llava-onevision", "c0ffee" + "0" * 34


def case() -> Case:
    return Case(configured("profile=toy", "tasks=[sd]", f"model.checkpoint={NAME}"))


def look(subject):
    (result,) = run_checks([checkpoint_files], subject)
    return result, result.findings[0]


@pytest.fixture
def source(tmp_path):
    """What the hub holds: the toy checkpoint in two shards."""
    folder = Path(shutil.copytree(TOY, tmp_path / "source"))
    damage.shard(folder)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache; nothing can be reached, as with HF_HUB_OFFLINE=1."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    checkpoint_module._remote_files.cache_clear()
    return folder


def fill(cache: Path, source: Path, leave_out=()) -> Path:
    """The layout of huggingface_hub: refs, blobs and a snapshot of links to them."""
    repository = cache / f"models--{NAME.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for file in source.iterdir():
        if file.name not in leave_out:
            blob = Path(shutil.copy(file, repository / "blobs" / f"blob-{file.name}"))
            (snapshot / file.name).symlink_to(blob)
    return snapshot


def test_a_cached_checkpoint_is_whole_without_network(cache, source):
    snapshot = fill(cache, source)
    subject = case()
    result, finding = look(subject)
    assert result.status is Status.OK and "hub, commit c0ffee00" in finding.found and "all here" in finding.found
    assert subject.checkpoint.folder == snapshot and subject.checkpoint.commit == COMMIT


def test_a_half_downloaded_checkpoint_fails_without_network(cache, source):
    fill(cache, source, leave_out=["model-00002-of-00002.safetensors"])
    result, finding = look(case())
    assert result.status is Status.FAILED and "model-00002-of-00002.safetensors is missing" in finding.found
    assert f"without HF_HUB_OFFLINE=1, `hf download {NAME}" in finding.remedy


def test_a_download_that_was_cut_short_is_found_in_the_cache(cache, source):
    snapshot = fill(cache, source)
    blob = (snapshot / "model-00001-of-00002.safetensors").resolve()
    with blob.open("rb+") as file:
        file.truncate(blob.stat().st_size // 2)
    result, finding = look(case())
    assert result.status is Status.FAILED and "where its header promises" in finding.found
    assert f"hf download {NAME} model-00001-of-00002.safetensors --force-download" in finding.remedy


def test_nothing_cached_and_no_network(cache):
    result, finding = look(case())
    assert result.status is Status.FAILED and "not cached" in finding.found
    for part in (f"hf download {NAME}", "HF_HOME", "model.checkpoint=", "hf auth login"):
        assert part in finding.remedy


def test_an_unreachable_hub(cache, monkeypatch):
    def refuse(*args, **kwargs):
        raise httpx.ConnectError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", refuse)
    result, finding = look(case())
    assert result.status is Status.FAILED and "cannot reach the hub" in finding.found
    assert f"`hf download {NAME}`" in finding.remedy and "without HF_HUB_OFFLINE" not in finding.remedy


def test_an_unreachable_hub_does_not_matter_when_all_is_cached(cache, source, monkeypatch):
    def refuse(*args, **kwargs):
        raise httpx.ConnectError("Name or service not known")

    fill(cache, source)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", refuse)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    result, finding = look(case())
    assert result.status is Status.OK and "all here" in finding.found


def test_a_repository_that_does_not_exist_or_is_gated(cache, monkeypatch):
    def refuse(*args, **kwargs):
        response = httpx.Response(404, request=httpx.Request("GET", "https://huggingface.co"))
        raise huggingface_hub.errors.RepositoryNotFoundError("404", response=response)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", refuse)
    result, finding = look(case())
    assert result.status is Status.FAILED and "no access to it" in finding.found
    assert "hf auth login" in finding.remedy


@pytest.fixture
def online(cache, source, monkeypatch):
    """A reachable hub that holds `source`; returns what has been asked of it."""
    asked = []

    class Hub:
        def repo_info(self, name, **options):
            return SimpleNamespace(sha=COMMIT)

        def model_info(self, name, **options):
            files = [SimpleNamespace(rfilename=file.name, size=file.stat().st_size) for file in source.iterdir()]
            return SimpleNamespace(siblings=files)

        def get_safetensors_metadata(self, name, **options):
            asked.append("headers")
            files = {file.name: SimpleNamespace(tensors=read_header(file)) for file in source.glob("*.safetensors")}
            return SimpleNamespace(files_metadata=files)

    def download(name, revision, allow_patterns, local_files_only):
        assert revision == COMMIT and not any("safetensors" in pattern for pattern in allow_patterns)
        snapshot = cache / f"models--{NAME.replace('/', '--')}" / "snapshots" / COMMIT
        weights = {file.name for file in source.glob("*.safetensors")}
        return str(snapshot if snapshot.exists() else fill(cache, source, leave_out=weights))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_weights_on_the_hub_are_checked_from_their_headers_before_any_download(online, source):
    """A wrong number of layers costs kilobytes to find, not sixteen gigabytes."""
    subject = case()
    result, *rest = run_checks([checkpoint_files, configuration, weights], subject)
    assert [one.status for one in (result, *rest)] == ["ok"] * 3 and online == ["headers"]
    size = sum(file.stat().st_size for file in source.glob("*.safetensors"))
    assert sum(subject.checkpoint.to_download.values()) == size and "to download" in result.findings[0].found
    assert subject.checkpoint.tensors == read_header(TOY / "model.safetensors")


def test_a_checkpoint_on_the_hub_with_too_few_layers(online, source):
    damage.more_layers(source)
    *_, result = run_checks([checkpoint_files, configuration, weights], case())
    assert result.status is Status.FAILED and "layers 8 are missing" in result.findings[0].found


def test_one_shard_cached_and_one_to_come(online, source, cache):
    fill(cache, source, leave_out=["model-00002-of-00002.safetensors"])
    subject = case()
    result, _ = look(subject)
    assert result.status is Status.OK and list(subject.checkpoint.to_download) == ["model-00002-of-00002.safetensors"]
    assert subject.checkpoint.tensors == read_header(TOY / "model.safetensors")


def test_a_single_file_of_weights_still_on_the_hub(online, source):
    (source / "model.safetensors.index.json").unlink()
    for shard in source.glob("model-*.safetensors"):
        shard.unlink()
    shutil.copy(TOY / "model.safetensors", source)
    subject = case()
    result, _ = look(subject)
    assert result.status is Status.OK and list(subject.checkpoint.to_download) == ["model.safetensors"]


# --- headers -------------------------------------------------------------------------------------------------------


def written(path: Path, header: object, data: int, length: int | None = None) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + bytes(data))
    return path


def test_headers_equal_what_safetensors_reads():
    from safetensors import safe_open

    found = read_header(TOY / "model.safetensors")
    with safe_open(TOY / "model.safetensors", framework="pt") as file:
        assert set(found) == set(file.keys())
        for name, tensor in found.items():
            assert list(tensor.shape) == file.get_slice(name).get_shape()
            assert tensor.dtype == file.get_slice(name).get_dtype()


ONE = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


@pytest.mark.parametrize(
    "header, data, length, found",
    [
        (ONE, 23, None, "where its header promises"),
        (ONE, 25, None, "where its header promises"),
        (ONE, 24, 10**6, "too few for its header"),
        (ONE, 24, 2**63, "too few for its header"),
        ([1, 2], 0, None, "not JSON of tensors"),
        ({"a": {"dtype": "F32"}}, 0, None, "not JSON of tensors"),
        (ONE, 24, 5, "not JSON of tensors"),
    ],
)
def test_damaged_headers_are_told_apart(header, data, length, found, tmp_path):
    with pytest.raises(DamagedFile, match=found):
        read_header(written(tmp_path / "x.safetensors", header, data, length))


def test_a_good_header_and_an_empty_file(tmp_path):
    good = read_header(written(tmp_path / "x.safetensors", ONE | {"__metadata__": {"format": "pt"}}, 24))
    assert good["a"].shape == (2, 3) and good["a"].numel == 6
    (tmp_path / "empty").touch()
    with pytest.raises(DamagedFile, match="has 0 bytes"):
        read_header(tmp_path / "empty")
