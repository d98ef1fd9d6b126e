"""What cannot be served is refused in one sentence before anything is loaded or written; `refusals.txt` has them."""

import re
from pathlib import Path

import pytest

from plphp_core.cli import entry_point
from plphp_core.evaluation import cost_matching, loading

KNOWN = re.findall(r"^\$ (\S+) (.*)\n(.*)$", Path(__file__).with_name("refusals.txt").read_text("utf-8"), re.M)
CASES = [(verb, *one[1:]) for one in KNOWN for verb in one[0].split(",")]


@pytest.mark.parametrize("verb, arguments, sentence", CASES, ids=[" ".join(one[:2]) for one in CASES])
def test_a_refusal_is_one_sentence_and_exit_code_2(verb, arguments, sentence, tmp_path, monkeypatch, capfd):
    """`…` stands for anything, such as the names of all methods."""
    for place, name in ((loading.LoadOnce, "__call__"), (cost_matching, "CostMatcher")):
        monkeypatch.setattr(place, name, lambda *_, **__: pytest.fail("loaded"))
    words = arguments.split()
    own = [] if verb == "bench" else ["profile=toy"]
    own += [] if any(one.startswith("results=") for one in words) else [f"results={tmp_path}"]
    assert entry_point.command(verb, [*own, *words]) == 2
    out, said = capfd.readouterr()
    assert re.fullmatch(".*".join(map(re.escape, sentence.split("…"))) + "\n", said) and not out, said
    assert not {"cells", "journal"} & {path.name for path in tmp_path.rglob("*")}
