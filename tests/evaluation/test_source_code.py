"""Hashes of code: what it does counts, how it looks does not; what it imports from its own package counts too."""

import importlib
import sys

import pytest

from baselines import FastV
from plphp_core import PLPHP
from plphp_core.config.run_settings import Benchmark, MethodSettings, ModelSettings
from plphp_core.evaluation.cell_spec import CellSpec
from plphp_core.evaluation.lmms_tasks import TaskFacts
from plphp_core.records import cache_keys as keys
from plphp_core.records import source_code
from plphp_core.records.source_code import hashes, hashes_of_functions, own_package
from tests.evaluation.factories import settings

CODE = '''
"""A module."""
import math
from .other import factor

def score(x, y=(1, 2)):
    """What it does."""
    # a comment
    return factor * math.sqrt(x)
'''
SAME = """import math
from .other import factor
def score( x,
           y=(1,
              2,) ):
    return (factor * math.sqrt(x))  # another comment
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package's files; gives the hashes of its module `mine` as a process that starts now would see them."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hashed").mkdir()

    def go(**files: str) -> dict[str, str]:
        for name, text in {"__init__": "", "other": "factor = 2", "apart": "x = 1", **files}.items():
            (tmp_path / "hashed" / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        source_code._read.cache_clear()
        for name in [name for name in sys.modules if name.startswith("hashed")]:
            del sys.modules[name]
        return hashes(["hashed.mine"], own_package(["hashed"]))

    return go


def test_comments_docstrings_and_formatting_do_not_count(package):
    before = package(mine=CODE)
    assert sorted(before) == ["hashed/mine.py", "hashed/other.py"] and package(mine=SAME) == before


@pytest.mark.parametrize("change", [("sqrt(x)", "sqrt(y)"), ("(1, 2)", "(1, 3)"), ("factor *", "factor +")])
def test_what_it_does_counts(package, change):
    before, after = package(mine=CODE), package(mine=CODE.replace(*change))
    assert [name for name in before if before[name] != after[name]] == ["hashed/mine.py"]


@pytest.mark.parametrize(
    "statement",
    ["from .other import factor", "from . import other", "import hashed.other", "from hashed.other import *",
     "from hashed import other as o", "def f():\n    from hashed import other"],
)  # fmt: skip
def test_every_kind_of_import_is_followed(package, statement):
    before, after = package(mine=statement), package(mine=statement, other="factor = 3")
    assert "hashed/apart.py" not in before
    assert [name for name in before if before[name] != after[name]] == ["hashed/other.py"]


def test_imports_are_followed_in_circles_and_however_deep(package):
    files = {"mine": "from . import a", "a": "from . import b", "b": "from . import mine, c\n", "c": "x = 1"}
    before, after = package(**files), package(**files | {"c": "x = 2"})
    assert [name for name in before if before[name] != after[name]] == ["hashed/c.py"]


def test_a_module_that_python_cannot_read_is_hashed_all_the_same(package):
    assert package(mine="from .other import f\ndef (") != package(mine="from .other import f\ndef ((")


def test_the_code_of_a_method_is_its_own(tmp_path):
    """FastV's file makes no other method's answers stale, and nothing of the harness around answering counts."""
    model = ModelSettings("tiny", "llava_onevision", "/x", None, "float32", "sdpa", "cpu")

    def identity(name: str, **params) -> dict:
        run_settings = settings(tmp_path, model=model)
        facts = TaskFacts(Benchmark("T", "t"), "t", 1, {}, "d")
        return CellSpec.of(run_settings, MethodSettings(name, params), facts, "sha256:0").identity

    assert identity("none")["method_code"] == {}
    assert list(identity("fastv", K=2)["method_code"]) == ["baselines/fastv.py"]
    assert list(identity("plphp")["method_code"]) == ["plphp_core/pruning/plphp.py"]
    answering = identity("none")["answering_code"]
    assert {"plphp_core/pruning/prefill.py", "plphp_core/families/llava_onevision.py"} < set(answering)
    assert {"plphp_core/evaluation/generation.py", "plphp_core/evaluation/options.py"} < set(answering)
    unrelated = ("baselines", "plphp_core/reporting", "plphp_core/evaluation/runner", "plphp_core/families/mantis")
    assert not [name for name in answering if name.startswith((*unrelated, "plphp_core/plphp", "plphp_core/__init__"))]


def test_a_subclass_rests_on_its_base_and_a_method_from_elsewhere_on_its_version(monkeypatch):
    class Mine(FastV):
        pass

    known = {name: ["kv-extra"] for name in ("tests",)}
    monkeypatch.setattr(keys, "packages_distributions", lambda: known | {"baselines": ["plphp"]})
    monkeypatch.setattr(keys, "installed", lambda name: "1.2")
    keys.method_code.cache_clear()
    found = keys.method_code(Mine)
    keys.method_code.cache_clear()
    assert found["kv-extra"] == "1.2" and {"baselines/fastv.py", "tests/evaluation/test_source_code.py"} < set(found)
    assert "plphp" not in found and "kv-extra" not in keys.method_code(PLPHP)


def test_a_tasks_questions_and_scores_are_apart(tmp_path):
    """As lmms-eval loads them: functions of files that are no modules."""
    functions = {}
    for name in ("ask", "score"):
        (tmp_path / f"{name}.py").write_text(f"def {name}(doc):\n    return 1\n")
        exec(compile((tmp_path / f"{name}.py").read_text(), str(tmp_path / f"{name}.py"), "exec"), functions)
    config = {"doc_to_text": functions["ask"], "test_split": "test", "dataset_path": "/somewhere",
              "metric_list": [{"metric": "m", "aggregation": functions["score"]}]}  # fmt: skip

    def code(scoring, **changes):
        source_code._read.cache_clear()
        return keys.task_code(config | changes, tmp_path, scoring)

    asked, scored = code(False), code(True)
    assert sorted(asked) == ["ask.py", "task file"] and sorted(scored) == ["score.py", "task file"]
    assert code(False, dataset_path="/elsewhere") == asked and code(False, test_split="val") != asked
    assert code(True, test_split="val") == scored
    (tmp_path / "score.py").write_text("def score(doc):\n    return 2\n")
    assert code(False) == asked and code(True)["score.py"] != scored["score.py"]


def test_lmms_evals_own_functions_are_not_read_and_partials_and_wrappers_are():
    import functools

    from lmms_eval.api.metrics import mean

    assert hashes_of_functions([mean, len], source_code.Path("/")) == {}
    partial = functools.partial(own_package, ["x"])
    assert list(hashes_of_functions([partial], source_code.Path("/"))) == ["plphp_core/records/source_code.py"]
