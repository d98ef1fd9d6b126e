"""Every command that a document prints is one that exists and takes these arguments.

A line of a bash block is composed and checked as the command would do it, up to the first sample; what it would then do
is tested elsewhere. `NOT_HERE` lists the lines that no test carries out, with the reason.
"""

import os
import re
import shlex
import subprocess
import tomllib
from functools import cache

import lmms_eval.models  # noqa: F401  # first: it reads the plug-in's manifests while it is imported itself
import pytest
import torch
import yaml
from omegaconf import OmegaConf

import plphp_core.families as families
import plphp_core.pruning.method as methods
from baselines import FastV, SnapKV, VisPruner
from plphp_core import prune
from plphp_core.bench.bench_app import LISTS
from plphp_core.bench.bench_settings import bench_from_config
from plphp_core.bench.gpu_check.gpu_check_app import _parser
from plphp_core.cli.entry_point import COMMANDS
from plphp_core.cli.leaderboard_command import leaderboard_asked
from plphp_core.cli.run_command import Scheduler
from plphp_core.config.hydra_app import compose_and_call, composed, key
from plphp_core.config.report_settings import report_from_config, report_settings
from plphp_core.config.run_settings import settings_from_config
from plphp_core.demo.demo_settings import DemoSettings
from plphp_core.evaluation.lmms_plugin import model_ids
from tests.docs.pages import PAGES, ROOT, blocks
from tests.factories import prompt_batch, tiny_llava_onevision

NOT_HERE = {  # how a line begins → why nothing but its form is checked
    "git clone": "needs a network",
    "pip install": "needs a network; the extras are checked",
    "uv build": "makes a release",
}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
AT_ONCE = ("README.md", "quickstart.md")  # whose commands are checked in `make test` too
PRINTED = [
    (page.name, re.sub(r"\s+", " ", line.replace("\\\n", " ")).strip())
    for page in PAGES
    for block in blocks(page, "bash")
    for line in re.findall(r"(?:.*\\\n)*.*\n", block)
    if line.strip() and not line.strip().startswith("#")
]


@cache
def make_targets() -> set[str]:
    """Every target of the Makefile, patterns and variables filled in."""
    said = subprocess.run(["make", "-pqrR"], cwd=ROOT, capture_output=True, text=True).stdout
    return set(re.search(r"^\.PHONY: (.*)", said, re.M)[1].split())


def documented_method(name="MySnapKV"):
    """A class that docs/add-a-method.md prints."""
    (code,) = (one for one in blocks(ROOT / "docs/add-a-method.md", "python") if f"class {name}(Method)" in one)
    scope = {}
    exec(code, scope)
    return scope[name]


@pytest.mark.parametrize(
    "name, options, full",
    [
        ("MySnapKV", {"window_size": 2}, SnapKV(window_size=2)),
        ("MyFasterVLM", {"ratio": 0.3}, VisPruner(ratio=0.3, important=1.0)),
        ("MyLeftovers", {"K": 5, "ratio": 0.5}, FastV(K=5, R=0.5)),
    ],
)
def test_the_documented_methods_keep_what_the_full_ones_do_where_their_edges_do_not_matter(name, options, full):
    model = tiny_llava_onevision()
    batch = prompt_batch(model, [[4, (20, 28, 1), 5]])
    kept = []
    for method in (documented_method(name)(**options), full):
        with torch.no_grad(), prune(model, method) as trace:
            model(**batch)
        kept.append([layer.tokens.tolist() for layer in trace.layers])
    assert kept[0] == kept[1] and trace.retention.min() < 1


@pytest.fixture
def as_the_documents_say(tmp_path, monkeypatch):
    """A working folder with the files that the documents tell one to write, and the classes that they print."""
    monkeypatch.chdir(tmp_path)
    for option, page in (("table/mine", "add-a-table"), ("method/my_snapkv", "add-a-method"),
                         ("model/llava_interleave", "add-a-family"), ("tasks/nocaps", "add-a-task"),
                         ("tasks/my_photos", "own-data")):  # fmt: skip
        written = blocks(ROOT / f"docs/{page}.md", "yaml")
        file = tmp_path / "configs" / f"{option}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        name = option.partition("/")[2]
        wanted = rf"^(name: {name}|{name}:)"
        file.write_text(next(one for one in written if re.search(wanted, one, re.M)), encoding="utf-8")
    known, broken = methods._registry()
    monkeypatch.setattr(methods, "_registry", lambda: ({**known, "my_snapkv": documented_method()}, broken))
    (code,) = (one for one in blocks(ROOT / "docs/add-a-family.md", "python") if "(Family)" in one)
    scope = {}
    exec(code, scope)
    monkeypatch.setitem(families._families(), "llava_interleave", scope["LlavaInterleave"])


def test_there_are_commands():
    assert len(PRINTED) > 60


@pytest.mark.parametrize(
    "page, line",
    [
        pytest.param(page, line, id=f"{page}-{line[:60]}", marks=[] if page in AT_ONCE else [pytest.mark.slow])
        for page, line in PRINTED
    ],
)
def test_a_printed_command_is_one(page, line, as_the_documents_say):
    words = shlex.split(line.removesuffix(" &"), comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)  # a variable of the environment
    check_command(words)


def check_command(words):
    start, *rest = words
    if start == "make":
        return check_make(rest)
    if start in ("plphp", ".venv/bin/plphp"):
        return check_plphp(*rest)
    if start == ".venv/bin/torchrun":
        assert rest[0] == "--nproc-per-node" and rest[1].isdigit() and rest[2] == "scripts/run.py", rest
        return check_plphp("run", *rest[3:])
    if start.endswith("python") and rest[0] == "scripts/gpu_check.py":
        return _parser().parse_args(rest[1:])
    if (start.endswith("python") and rest[:2] == ["-m", "lmms_eval"]) or start == "lmms-eval":
        return check_lmms_eval(rest[2:] if rest[0] == "-m" else rest)
    assert any(" ".join(words).startswith(one) for one in NOT_HERE), f"no test knows `{' '.join(words)}`"
    for extra in re.findall(r"plphp\[(\w+)\]", " ".join(words)):
        assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def check_make(words):
    """The targets exist, the variables mean something, and the command that make would start takes its arguments."""
    targets = [word for word in words if "=" not in word]
    assert set(targets) <= make_targets(), words
    for word in set(words) - set(targets):
        assert re.search(rf"\b{word.partition('=')[0]}\b", MAKEFILE), f"the Makefile knows no {word}"
    outer = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "ARGS")  # of the make that runs the tests
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    said = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert said.returncode == 0, said.stderr
    for started in said.stdout.splitlines():
        parts = shlex.split(started)
        if parts[1:2] == ["-m"] and parts[2].startswith("scripts."):
            name, arguments = parts[2].removeprefix("scripts."), parts[3:]
            if name.replace("_", "-") in COMMANDS:
                check_plphp(name.replace("_", "-"), *arguments)
        elif parts[1:2] == ["scripts/gpu_check.py"]:
            _parser().parse_args(parts[2:])


def check_plphp(name, *arguments):
    assert name in COMMANDS
    if {"-h", "--help"} & set(arguments):
        return
    if name == "run":
        return check_run(arguments)
    if name == "bench":
        config = composed(arguments, "bench", LISTS)
        config.bench.device = "cpu"  # a GPU is looked for when the settings are checked
        return bench_from_config(OmegaConf.to_container(config, resolve=True))
    if name == "demo":
        return DemoSettings(arguments)
    if name == "leaderboard":
        return leaderboard_asked(arguments)
    config = composed(arguments)
    if name == "report":
        return report_settings(arguments)
    if name == "reproduce":
        return report_from_config(config, arguments)
    return settings_from_config(config)


def check_run(arguments):
    """As a run would be composed here; what a launcher does with it is tested in tests/evaluation."""
    elsewhere = [one for one in arguments if "launcher" in key(one)]
    for one in elsewhere:
        if key(one) == "launcher":
            option = yaml.safe_load((ROOT / f"configs/launcher/{one.partition('=')[2]}.yaml").read_text())
        else:
            assert key(one).partition(".")[2] in option["launcher"], one
    arguments = [one for one in arguments if one not in elsewhere]
    scheduler = Scheduler()
    compose_and_call([*(["-m"] if elsewhere else []), *arguments], scheduler.add)
    assert scheduler.runs and not scheduler.errors, scheduler.errors


def check_lmms_eval(words):
    values = dict(zip(words[::2], words[1::2], strict=True))
    assert values["--model"] in model_ids()
    known = {path.stem for path in (ROOT / "tasks").rglob("*.yaml")} | {"plphp_nocaps"}
    assert set(values["--tasks"].split(",")) <= known


def test_commands_named_in_a_sentence_exist():
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
        for code in re.findall(r"`([^`\n]+)`", prose):
            if found := re.match(r"make ([a-z][a-z0-9-]*)", code):
                assert found[1] in make_targets(), f"{page.name}: {code}"
            if found := re.match(r"(?:\.venv/bin/)?plphp ([a-z][a-z-]*)", code):
                assert found[1] in COMMANDS, f"{page.name}: {code}"


def test_there_is_one_way_to_call_things():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"python (-m )?scripts[./](?!gpu_check|train_toy)", text), page.name
