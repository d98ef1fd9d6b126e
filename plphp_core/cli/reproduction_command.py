"""`plphp reproduce table=table1`: run or read what a table or figure needs, then report it from what is there.

plphp reproduce table=table1 profile=toy limit=8
plphp reproduce table=figure3 profile=toy model=qwen2_vl tasks=[sd] attention.doc=7
plphp reproduce table=token_maps profile=toy tasks=[sd] 'table.methods=[fastv,visionzip]'
plphp reproduce table=all profile=toy dry=true
"""

from __future__ import annotations

from collections.abc import Sequence

from plphp_core.cli import run_command
from plphp_core.cli.report_command import write_reports
from plphp_core.config.hydra_app import composed, key
from plphp_core.config.report_settings import report_from_config
from plphp_core.config.table_configs import ALL, COMPARE, MAPS, RUN
from plphp_core.evaluation.attention import attend_app

OK, FAILED, INTERRUPTED = 0, 1, 128
SHARED = ("profile", "protocol", "prompts", "results", "limit", "limit_seed", "seed", "device", "dtype",
          "attn_implementation", "batch_size", "dry")  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Returns 0; 1 where samples, cells or models failed and the report is written all the same; the first exit code
    above 1 of a step that cannot be carried out; else the report's. Raises UserError.
    """
    config = composed(arguments)
    asked = report_from_config(config, arguments)  # refuses what a report would refuse, before hours of answers
    kind = config.table.get("kind", RUN)
    run = [one for one in arguments if key(one).partition(".")[0] not in ("report", "attention")]
    also: tuple[str, ...]
    if config.table.name == ALL:
        steps = [(run_command, run), *_attention(arguments, ALL), *_attention(arguments, "look")]
        steps += _attention([one for one in arguments if key(one) not in ("table", "tasks")], MAPS)
        also = ("protocol", "engine", "limit")
    elif kind in ("attention", "look", MAPS):
        steps, also = _attention(arguments, kind), ("protocol",)
    elif kind == "engines":
        run = [one for one in run if key(one) not in ("table", "engine")]
        steps = [(run_command, [*run, "table=table1", f"engine={engine}"]) for engine in ("generate", "fast")]
        also = ("protocol", "limit")
    else:
        steps, also = [(run_command, run)] if kind in (RUN, COMPARE) else [], ("protocol", "engine", "limit")
    codes = [OK]
    for command, overrides in steps:
        code = command.main(overrides)
        if code > 1 and (code >= INTERRUPTED or command is run_command):
            return code
        codes.append(min(code, FAILED))
    if config.dry:
        return max(codes)
    if kind in ("look", MAPS) and FAILED in codes:
        return FAILED
    return write_reports(report_from_config(config, arguments, also) if steps else asked) or max(codes)


def _attention(arguments: Sequence[str], kind: str) -> list[tuple]:
    """The step that reads attention: over benchmarks, of one sample in full (`look`), or what methods keep (MAPS)."""
    whole = kind == ALL
    taken = [one for one in arguments if key(one) in (*SHARED, "model") or key(one).startswith("attention.")]
    taken += [one for one in arguments if not whole and (key(one) == "tasks" or key(one).startswith("model."))]
    named = set(map(key, taken))
    if kind == MAPS:
        own = [one for one in arguments if key(one).partition(".")[0] == "table"]
        taken += own or ["table=token_maps"]
    elif kind == "look":
        taken = [one for one in taken if key(one) not in ("limit", "attention.samples")] + ["attention.look=true"]
        taken += ["model=llava_onevision"] * ("model" not in named) + ["tasks=[detailcaps]"] * ("tasks" not in named)
    else:
        taken += ["tasks=table1"] * ("tasks" not in named)
    return [(attend_app, taken)]
