"""What tasks there are, and those that cannot be run: refused in a sentence, before data or weights are touched."""

import os
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import errors

from plphp_core.config.run_settings import Benchmark
from plphp_core.evaluation import data_sets
from plphp_core.evaluation.data_sets import DataSets
from plphp_core.evaluation.lmms_tasks import _reason
from plphp_core.evaluation.task_index import TaskIndex, TaskRefused
from plphp_core.records.errors import UserError
from plphp_core.records.revisions import hub_commit
from tests.configured import configured
from tests.evaluation.factories import never, run

TASKS = Path(__file__).parents[2] / "tasks"
UPSTREAM = """
task: {name}
dataset_path: lmms-lab/nothing
test_split: test
doc_to_visual: !function functions.images
doc_to_text: !function functions.question
doc_to_target: answer
process_results: !function functions.process_results
metric_list: [{{metric: overlap, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture(scope="module")
def index() -> TaskIndex:
    return TaskIndex([TASKS], "llava_onevision")


def benchmark(name: str) -> Benchmark:
    return Benchmark(name, f"plphp_{name}", name)


@pytest.mark.parametrize(
    "name, said",
    [
        ("popee", "unknown task 'popee'; near: pope, "),
        ("arc_easy", "asks for log-likelihoods of given answers .output_type multiple_choice."),
        ("ovo_forward", "several rounds"),
        ("videomme", "shows videos"),
        ("longvideobench_val_i", "needs the Python module decord, which is not installed; `pip install`"),
        ("mmvet", r"judged over a network \(OpenAIError"),
        ("mmbench_en_dev", "judged over a network; choose mmbench_en_dev_static"),
        ("llava_in_the_wild", "judged over a network; choose a task that is scored by rule"),
        ("hrbench4k", "judged over a network"),
        ("docvqa_test", "has no references: it only writes its answers for a server"),
        ("gsm8k", "shows 5 worked examples, but does not say which"),
        ("mindcube_full", "has prompts for .*, but neither for llava_onevision nor as default"),
    ],
)
def test_what_cannot_be_run_is_refused_with_reason_and_remedy(index, name, said):
    with pytest.raises(TaskRefused, match=said):
        index.tasks_of(benchmark(name))


def test_ours_win_by_their_prefix_and_groups_expand(index):
    assert index.tasks_of(benchmark("flickr30k")) == ([Benchmark("flickr30k", "plphp_flickr30k")], {})
    assert index.tasks_of(benchmark("pope")) == ([Benchmark("pope", "pope")], {})
    found, left_out = index.tasks_of(benchmark("textvqa"))
    assert found == [Benchmark("TextVQA", "textvqa_val")] and list(left_out) == ["textvqa_test"]
    found, _ = index.tasks_of(benchmark("blink"))  # a group of a tag
    assert Benchmark("BLINK Counting", "blink_counting") in found and len(found) == 14
    with pytest.raises(TaskRefused, match=r"no task of the group mmbench can be run: .*mmbench_en_dev_static"):
        index.tasks_of(benchmark("mmbench"))


def test_a_run_refuses_all_of_them_at_once_and_loads_nothing(tmp_path, display):
    settings = configured("profile=toy", "tasks=[sd,popee,arc_easy]", f"results={tmp_path}")
    with pytest.raises(UserError, match=r"unknown task 'popee'.*; task arc_easy asks for log-likelihoods"):
        run(settings, {}, never, display)


def test_sys_exit_of_a_task_is_a_sentence(tmp_path, index, monkeypatch):
    """Tasks of videos end the process where a file is not there."""
    (tmp_path / "functions.py").write_text("raise SystemExit('no videos here')\n")
    (tmp_path / "gone.yaml").write_text(UPSTREAM.format(name="gone"))
    from lmms_eval.tasks import TaskManager

    bad = TaskManager("ERROR", include_path=str(tmp_path), include_defaults=False)
    monkeypatch.setattr("plphp_core.evaluation.task_index._upstream", lambda model: bad)
    with pytest.raises(TaskRefused, match=r"task gone cannot be read here \(SystemExit: no videos here"):
        TaskIndex([TASKS], "llava_onevision").tasks_of(benchmark("gone"))


@pytest.mark.parametrize("name", ["pope", "gqa"])
def test_data_that_are_nowhere_are_said_with_every_place_that_was_tried(name, tmp_path, display):
    settings = configured("profile=toy", f"tasks=[{name}]", f"results={tmp_path}", f"profile.data_root={tmp_path}")
    said = f"cannot reach the hub for dataset 'lmms-lab-encoder/{name.upper()}'.*nor under lmms-lab, .*{tmp_path}"
    with pytest.raises(UserError, match=said):
        run(settings, {}, never, display)
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("owner", ["lmms-lab", "lmms-lab-encoder"])
def test_data_that_have_moved_are_found_and_loaded_where_they_are(owner, monkeypatch):
    def commit(name, *_):
        if not name.startswith("lmms-lab-encoder/"):
            raise UserError(f"no dataset {name!r}")
        return "c0ffee"

    monkeypatch.setattr(data_sets, "hub_commit", commit)
    monkeypatch.setattr(data_sets, "FROM_HUB", lambda path, name, **options: (path, name, options))
    data = DataSets(None, None)
    assert data.revision({"dataset_path": f"{owner}/GQA"}) == "c0ffee"
    with data.in_place():
        found = datasets.load_dataset(f"{owner}/GQA", "images", split="testdev", token=True)
    assert found == ("lmms-lab-encoder/GQA", "images", {"split": "testdev"})
    with pytest.raises(UserError, match=r"no dataset 'somebody/GQA'$"):
        data.repository("somebody/GQA")


def test_a_gated_data_set_asks_for_a_login():
    gated = DatasetNotFoundError("Dataset 'owner/name' is a gated dataset on the Hub. You must be authenticated.")
    assert "`hf auth login` says who you are" in _reason(gated)
    assert "`hf auth login`" not in _reason(DatasetNotFoundError("Dataset 'owner/name' does not exist"))


def test_an_unknown_gated_repository_asks_for_a_login(monkeypatch):
    def unknown(*_, **__):
        raise errors.RepositoryNotFoundError("401 Client Error", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", unknown)
    with pytest.raises(UserError, match="or no access to it; a gated one needs `hf auth login`"):
        hub_commit("owner/name", None, "dataset")
