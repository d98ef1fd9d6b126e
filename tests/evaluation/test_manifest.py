"""Manifests say what a run was and hold no secret."""

import json

import pytest

from plphp_core.records.errors import ReportError
from plphp_core.records.manifest import REDACTED, Manifest, ManifestFile, redact
from tests.evaluation.factories import settings


@pytest.mark.parametrize(
    "key",
    ["token", "hf_token", "HF_TOKEN", "apiKey", "api-key", "secret", "client_secret", "db_password", "aws.secret.key"],
)
def test_values_under_secret_names_are_redacted(key):
    assert redact({"a": [{key: "abc"}]}) == {"a": [{key: REDACTED}]}


@pytest.mark.parametrize("key", ["max_new_tokens", "prompt_tokens", "tokenizer", "monkey", "keyboard", "keys_seen"])
def test_values_under_harmless_names_stay(key):
    assert redact({key: 16}) == {key: 16}


@pytest.mark.parametrize(
    "text, hidden",
    [
        ("+model.token=abcdef", "abcdef"),
        ("pretrained=x,hf_token=abcdef,r=0.4", "abcdef"),
        ("hf_ABCdef0123456789", "ABCdef"),
        ("https://user:pass@example.org/repo", "user:pass"),
        ("sk-proj-0123456789abcdefXYZ", "0123456789"),
    ],
)
def test_secrets_inside_strings_are_redacted(text, hidden):
    assert hidden not in redact(text) and REDACTED in redact(text)


@pytest.mark.parametrize(
    "text", ["method.r=0.4", "tasks=[sd,mv]", "llava-hf/llava-onevision-qwen2-7b-ov-hf", "sha256:ab12"]
)
def test_ordinary_strings_stay(text):
    assert redact(text) == text


def test_manifest_is_complete_and_without_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret0123456789")
    run = settings(tmp_path)
    manifest = ManifestFile(run, {"model": {"token": "swordfish"}, "limit": 4}, ["run.py", "+model.token=swordfish"])
    manifest.write(revisions={"model": "sha256:1", "data": {"mini_a": "sha256:2"}})
    assert Manifest.load(run.results / manifest.name).status == "running"
    manifest.end("finished", 0)
    text = (run.results / manifest.name).read_text()
    assert "swordfish" not in text and "verysecret" not in text
    found = Manifest.load(run.results / manifest.name)
    assert found.status == "finished" and found.exit_code == 0 and found.started <= found.ended
    assert {"python", "torch", "transformers", "lmms-eval", "datasets"} <= set(found.versions)
    assert found.configuration["limit"] == 4 and found.seeds == {"seed": 0, "limit_seed": 0}
    assert found.hardware["cpu"] and found.hardware["cores"] and "driver" in found.hardware
    assert found.revisions["data"] == {"mini_a": "sha256:2"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 0}, "schema 0, this version reads schema 1"),
        ({"scored": None}, "scored is null, expected a list"),
        ({"commit": {"commit": "c"}}, "field commit dirty is missing"),
        ({"exit_code": "0"}, "exit_code is '0', expected a whole number"),
    ],
)
def test_a_damaged_or_unknown_one_is_refused_with_its_file_and_field(tmp_path, change, said):
    manifest = ManifestFile(settings(tmp_path), {}, ["run.py"])
    manifest.end("finished", 0)
    path = settings(tmp_path).results / manifest.name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ReportError) as caught:
        Manifest.load(path)
    assert str(caught.value).startswith(f"{path}: {said}")
