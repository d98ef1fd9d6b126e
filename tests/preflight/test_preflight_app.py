"""The command as a whole: its exit codes, what it prints, and that it leaves nothing behind."""

import io

import pytest
from rich.console import Console

from plphp_core.cli import entry_point
from plphp_core.preflight.checks import CheckResult, CheckStatus
from plphp_core.preflight.preflight_app import line
from tasks.toy.generate import build
from tests.preflight import damage


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory):
    """Two samples of one data set with one image, and of one with several."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("interleave_in_domain", "flickr30k"):
        build(name, 2).save_to_disk(folder / name)
    return folder


def command(*arguments: str) -> int:
    return entry_point.command("preflight", ["model=llava_onevision", "profile=toy", *arguments])


@pytest.mark.slow
def test_the_toy_passes_and_nothing_is_left_behind(toy_data, tmp_path, capfd):
    arguments = ["tasks=[sd,flickr30k]", f"profile.data_root={toy_data}", f"results={tmp_path / 'results'}"]
    code, said = command(*arguments), capfd.readouterr().out
    assert code == 0 and "A run would work" in said and "failed" not in said, said
    for part in ("SD: ", "Flickr30k: ", "meteor 1.00", "SD sample: ", "Flickr30k sample: ", "off is off bit for bit"):
        assert part in " ".join(said.split()), part
    assert not (tmp_path / "results").exists()


def test_a_damaged_checkpoint_ends_with_1_and_everything_else_is_looked_at(toy_data, tmp_path, copied, capfd):
    folder, _ = copied()
    damage.torn(damage.WEIGHTS)(folder)
    arguments = [f"model.checkpoint={folder}", "tasks=[sd]", f"profile.data_root={tmp_path}", "weights=false"]
    assert command(*arguments) == 1
    said = " ".join(capfd.readouterr().out.split())
    assert "A run would break: Checkpoint, Data" in said and "python -m tasks.toy.generate" in said
    assert 'needs "Checkpoint"' in said and "passed Disk" in said


def test_a_table_over_several_models_checks_each_of_them_without_weights(toy_data, capfd):
    arguments = ["table=table3", "tasks=[sd]", f"profile.data_root={toy_data}", "weights=false"]
    code, said = entry_point.command("preflight", ["profile=toy", *arguments]), capfd.readouterr().out
    models = [line.split()[1].rstrip(",") for line in said.splitlines() if line.startswith("Preflight: ")]
    assert code == 0 and models == ["qwen2_vl", "idefics2", "mantis"], said
    assert said.count("A run would work") == said.count("weights=false") == 3


def test_an_unknown_task_is_a_failed_check(capfd):
    assert command("tasks=[sd,other]") == 1
    said = " ".join(capfd.readouterr().out.split())
    assert "unknown task 'other'; near:" in said and "Traceback" not in said


def test_no_line_is_wider_than_the_terminal_and_brackets_survive():
    result = CheckResult("A check", CheckStatus.FAILED, "a [bold] name " + "x" * 200 + "; use tasks=[sd,mv]")
    screen = io.StringIO()
    Console(file=screen, width=80).print(line(result))
    assert max(map(len, screen.getvalue().splitlines())) <= 80
    assert "[bold] name" in screen.getvalue() and "use tasks=[sd,mv]" in " ".join(screen.getvalue().split())
