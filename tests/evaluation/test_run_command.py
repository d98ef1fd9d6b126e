"""The command line: every configured row can be built; what cannot be served: `tests/cli`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plphp_core.cli import entry_point
from plphp_core.config.hydra_app import compose_and_call, composed, listed
from plphp_core.pruning.method import method_names
from tests.configured import ROOT, configured


@pytest.mark.parametrize("profile", ["paper", "toy"])
def test_table_1_has_the_papers_rows_and_benchmarks(profile):
    found = configured("table=table1", f"profile={profile}")
    rows = [f"{row.name} {row.setting}".strip() for row in found.methods]
    layers = {"paper": (2, 3, 3, 10, 14, 20), "toy": (2, 2, 2, 4, 6, 9)}[profile]
    assert rows == [
        "none",
        *(f"fastv K={k}, R={r}" for k, r in zip(layers[:3], (0.75, 0.5, 0.25), strict=True)),
        *(f"vtw K={k}" for k in layers[3:]),
        *(f"plphp r={r}, Δr=0.3" for r in (0.3, 0.4, 0.5)),
        *(f"{control} r=0.4, Δr=0.3" for control in ("random", "uniform", "shared_heads")),
    ]
    labels = [benchmark.label for benchmark in found.benchmarks]
    assert labels == ["SD", "IE", "VST", "MV", "Flickr30k", "COCO2017", "DetailCaps"]
    assert found.table == "table1" and found.results == Path.cwd() / "results" / profile


def test_paper_profile_is_the_papers_setting():
    found = configured("profile=paper")
    assert (found.model.device, found.model.dtype, found.model.attn_implementation) == ("cuda", "bfloat16", "sdpa")
    assert found.batch_size == 1 and found.data_root is None
    assert found.model.checkpoint == "llava-hf/llava-onevision-qwen2-7b-ov-hf"
    assert found.methods[0].params == {
        "r": 0.4,
        "delta_r": 0.3,
        "alpha": 0.25,
        "beta": 0.1,
        "gqa": "mean",
        "head_budget": "equal",
    }


def test_every_method_has_its_configuration():
    for name in method_names():
        (row,) = configured("profile=toy", f"method={name}").methods
        assert row.name == name and "{" not in row.setting


def test_a_profile_brings_alpha_and_beta_and_the_command_line_beats_it():
    toy = ("profile=toy", "++profile.methods.llava_onevision.plphp={alpha:0.6,beta:0.4}")
    assert configured(*toy).methods[0].params["alpha"] == 0.6
    assert configured(*toy, "method.alpha=0.7").methods[0].params["alpha"] == 0.7
    assert {row.params["beta"] for row in configured(*toy, "table=table1").methods if row.name == "plphp"} == {0.4}


def test_tasks_are_chosen_by_group_or_list():
    assert [b.task for b in configured("profile=toy", "tasks=[sd,mv]").benchmarks] == ["toy_sd", "toy_mv"]
    assert [b.task for b in configured("profile=paper", "tasks=detailcaps").benchmarks] == ["plphp_detailcaps"]


@pytest.mark.slow
def test_the_script_works_from_another_folder_and_leaves_nothing_there(tmp_path):
    """No outputs/ of Hydra's, no change of directory."""
    command = [sys.executable, str(ROOT / "scripts" / "run.py"), "profile=toy", "method.q=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.returncode == 2 and "known keys of method" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_toy_profile_is_offline_before_any_library_can_ask():
    """A clean environment, and a socket that no one may open: the scripts force the libraries offline themselves."""
    code = (
        "from plphp_core.cli.entry_point import force_offline; force_offline(['profile=toy'])\n"
        "import huggingface_hub.constants as hub, datasets.config as data\n"
        "print(hub.HF_HUB_OFFLINE, data.HF_HUB_OFFLINE)"
    )
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_a_models_options_reach_the_settings_and_the_key():
    assert configured("model=idefics2", "profile=toy").model.options == (("image_splitting", False),)
    split = configured("model=idefics2", "profile=toy", "model.options.image_splitting=true")
    assert split.model.options == (("image_splitting", True),)


@pytest.mark.parametrize("short, full", [("bf16", "bfloat16"), ("fp16", "float16"), ("half", "float16"),
    ("fp32", "float32"), ("float", "float32"), ("torch.bfloat16", "bfloat16")])  # fmt: skip
def test_short_dtypes_are_the_same_cells(short, full):
    assert configured("profile=toy", f"dtype={short}").model == configured("profile=toy", f"dtype={full}").model
    assert configured("profile=toy", f"dtype={short}").model.dtype == full


def test_the_toys_vtw_withdraws_where_its_tables_do():
    for model in ("llava_onevision", "qwen2_vl", "idefics2", "mantis"):
        (row,) = configured("profile=toy", "method=vtw", f"model={model}").methods
        assert (row.params, row.setting) == ({"K": 6}, "K=6")
        table = configured("profile=toy", "table=table4", f"model={model}", "tasks=[sd]").methods
        assert row in table
    assert configured("profile=paper", "method=vtw").methods[0].params == {"K": 14}


def test_commas_are_a_list_where_one_is_wanted_and_a_sweep_after_m():
    found = []
    for arguments in (["tasks=sd,mv"], ["tasks=[sd,mv]"], ["-m", "tasks=sd,mv"]):
        jobs = []
        compose_and_call(["profile=toy", *arguments], lambda config, jobs=jobs: jobs.append(list(config.tasks)))
        found.append(jobs)
    assert found == [[["sd", "mv"]], [["sd", "mv"]], [["sd"], ["mv"]]]
    kept = ["method=a,b", "tasks='a,b'", "tasks=choice(a,b)"]
    assert listed(kept) == kept
    assert list(composed(["bench.batch=1,8"], "bench", ("bench.batch",)).bench.batch) == [1, 8]


def test_configs_of_the_working_directory_come_first(tmp_path, monkeypatch):
    (tmp_path / "configs" / "table").mkdir(parents=True)
    (tmp_path / "configs" / "table" / "mine.yaml").write_text("name: mine\nrows: {toy: [{method: vtw, K: [3, 4]}]}")
    (tmp_path / "configs" / "table" / "table1.yaml").write_text("name: table1\nrows: {toy: [{method: none}]}")
    monkeypatch.chdir(tmp_path)
    assert [row.setting for row in configured("profile=toy", "table=mine").methods] == ["K=3", "K=4"]
    found = configured("profile=toy", "table=table1")
    assert [row.name for row in found.methods] == ["none"] and found.results == tmp_path / "results" / "toy"
    assert Path(found.model.checkpoint) == ROOT / "tasks" / "toy" / "checkpoints" / "llava_onevision"


def test_help_shows_the_keys_of_the_command_with_their_comments(capsys):
    assert entry_point.command("report", ["--help"]) == 0
    said = capsys.readouterr().out
    assert "rank: compressed     # rows that compete for bold" in said and "limit: null" in said
    assert "table=all | claims | compare | engines" in said and "weights" not in said.split() and "dry: " not in said
    for name in entry_point.COMMANDS:
        assert entry_point.command(name, ["--help"]) == 0
        assert capsys.readouterr().out.count("\n") > 10
