"""Claims that others than the paper's authors have published, judged by our cells at equal bytes: a ledger of its own.

The data are `third_parties.yaml` beside claims.yaml, with the rows that they published as csv files; verdicts and
evidence are those of the paper's ledger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import yaml

from plphp_core.analysis.bootstrap import average
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import NothingToShow
from plphp_core.claims.claim_finding import ORDER, PERCENT, ClaimFinding, ClaimPart, counts, written, written_interval
from plphp_core.claims.claim_rules import GAIN, ClaimRule
from plphp_core.claims.claims_ledger import NO_VERDICT, claim_table
from plphp_core.claims.judgement import judged
from plphp_core.claims.order_measure import BUDGETS, METHODS, order
from plphp_core.claims.verdict import Verdict
from plphp_core.config.checked_values import one_of
from plphp_core.config.equal_cost import NONE
from plphp_core.config.hydra_app import options
from plphp_core.config.table_configs import COMPARE
from plphp_core.records.errors import ReportError, UserError, unknown
from plphp_core.reporting.published import Claim
from plphp_core.reporting.request import THIRD_PARTIES, Report, ReportRequest, asked_suffix
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, number
from plphp_core.reporting.table_spec import where

FILE = "third_parties.yaml"
WORDS = {Verdict.REPRODUCED: "holds", Verdict.CONTRADICTED: "does not hold", Verdict.INCONCLUSIVE: "undecided"}
HEAD = ("Claim", "What they say", "Verdict", "theirs", "ours", "mean change", "n", "hardware", "Source")
PARTS = ("Claim", "Part", "change", "95 % interval", "By the rule")
STATISTIC = {BUDGETS: "per model and budget", METHODS: "per method, mean over models and budgets"}
DIFFERS = "‡"
READING = (
    "Not the paper's claims, and no part of whether PLPHP reproduces. Judged by the cells of table=compare, where all "
    "methods hold the same measured KV bytes: change from the method said to be lower to the other one, paired by "
    "sample, mean over the score columns of the benchmarks on which both reach the budget.",
    "Holds: the 95 % intervals of the parts needed lie above 0, on our benchmarks and prompts, not theirs. Does not "
    "hold, undecided, not measured: as in the ledger of the paper's claims (docs/claims.md). Ours: in how many parts "
    "the rule finds the order.",
    "Theirs: the smallest and the largest gap between the two in their own rows, in points of the average relative to "
    "uncompressed; n/a where the rows are not known here.",
)


@dataclass(frozen=True)
class ThirdParty:
    """Who published claims.

    setting: how they measured, and what that means for us.
    differs: method → why theirs is not ours.
    rows: what they published, one line per model, share removed and method; None where it is not known here.
    """

    name: str
    where: str
    setting: str
    differs: Mapping[str, str]
    rows: pd.DataFrame | None

    def gaps(self, better: str, worse: Sequence[str]) -> list[float]:
        """Their average of `better` less that of each of `worse`, wherever they have both; points."""
        if self.rows is None:
            return []
        places = self.rows.groupby(["model", "removed"], sort=False)
        scores = [dict(zip(own.method, map(float, own.average), strict=True)) for _, own in places]
        return [own[better] - own[one] for own in scores for one in worse if {better, one} <= own.keys()]


@dataclass(frozen=True)
class ThirdPartyClaim:
    """That one method scores above others; `rule.methods` names it first."""

    claim: Claim
    source: ThirdParty
    rule: ClaimRule

    @property
    def theirs(self) -> str:
        """The ends of the gaps in their own rows."""
        better, *worse = self.rule.methods
        gaps = self.source.gaps(better, worse)
        ends = dict.fromkeys(number(end, 1, signed=True) for end in (min(gaps), max(gaps))) if gaps else [NA]
        return " … ".join(ends)

    @property
    def differs(self) -> bool:
        return not self.source.differs.keys().isdisjoint(self.rule.methods)


def load_third_parties(folder: Path) -> list[ThirdPartyClaim]:
    """The claims in `folder`/FILE, in order.

    Raises:
        NothingToShow: there is no such file.
        ReportError: it is damaged, or names what there is not.
    """
    path = folder / FILE
    if not path.exists():
        raise NothingToShow(f"{path} is not there")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        sources = {name: _source(folder, name, **own) for name, own in content["sources"].items()}
        return [_claim(sources, **own) for own in content["claims"]]
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, UserError, OSError) as error:
        raise ReportError(f"{path}: not the sources and claims that its first lines describe ({error})") from error


def _source(folder: Path, name: str, where: str, setting: str, differs: dict[str, str], rows: str | None) -> ThirdParty:
    lines = None if rows is None else pd.read_csv(folder / rows, dtype=str, keep_default_na=False)
    return ThirdParty(name, where, setting, differs, lines)


def _claim(sources: Mapping[str, ThirdParty], *, id: str, source: str, where: str, text: str, better: str,
           worse: list[str], models: list[str], parts: str, needed: int | None) -> ThirdPartyClaim:  # fmt: skip
    for model in models:
        if model not in options("model"):
            raise unknown(f"model of {id}", model, options("model"))
    one_of(f"parts of {id}", parts, list(STATISTIC))
    measure = partial(order, better=better, worse=worse, models=models, parts=parts)
    rule = ClaimRule(measure, STATISTIC[parts], (COMPARE,), GAIN, needed=needed, models=tuple(models),
                     methods=(better, *worse))  # fmt: skip
    return ThirdPartyClaim(Claim(id, text, None, ORDER, where), sources[source], rule)


def third_parties_report(asked: ReportRequest) -> Report:
    """What each claims and what was found, the parts, and their own rows. Raises as `load_third_parties` does."""
    claims = load_third_parties(asked.options.published)
    found = list(zip(claims, judged(((one.claim, one.rule) for one in claims), asked), strict=True))
    sources = {one.source.name: one.source for one in claims}.values()
    sheets = [_main(found, asked.profile), _parts(found), *(_rows(one) for one in sources if one.rows is not None)]
    lines = pd.DataFrame([line for one, finding in found for line in _lines(one, finding)])
    return Report(THIRD_PARTIES, asked_suffix(asked), sheets, (), {"": lines}, planned=False)


def _word(verdict: Verdict) -> str:
    return WORDS.get(verdict, str(verdict))


def _main(found: Sequence[tuple[ThirdPartyClaim, ClaimFinding]], profile: str) -> Table:
    several = counts([finding for _, finding in found])
    tally = ", ".join(f"{count} {_word(verdict)}" for verdict, count in several.items() if count)
    sources = {one.source.name: one.source for one, _ in found}.values()
    notes = [NO_VERDICT.format(profile)] * (profile != "paper") + [*READING]
    notes += [f"{one.name} ({one.where}): {one.setting}" for one in sources]
    notes += [f"{DIFFERS} {method_style(name).label} of {one.name}: {why}" for one in sources
              for name, why in one.differs.items()]  # fmt: skip
    lines = [_line(one, finding) for one, finding in found]
    return claim_table(f"Claims of third parties{where(profile)}: {tally}", HEAD, lines, notes)


def _line(one: ThirdPartyClaim, finding: ClaimFinding) -> list[TableCell]:
    parts = _measured(finding)
    mean = average([part.estimate for part in parts])
    known = "" if math.isnan(mean.value) else written_interval(mean, PERCENT)
    outcome = f"{finding.label}: {finding.outcome}" if finding.outcome else finding.label
    return [
        TableCell(finding.claim.id, mark=DIFFERS * one.differs),
        TableCell(f"{finding.claim.text} ({', '.join(one.rule.models)})"),
        TableCell(_word(finding.verdict), outcome if finding.label else ""),
        TableCell(one.theirs),
        TableCell(finding.ours_text if parts else NA),
        TableCell(written(mean.value, PERCENT), known),
        TableCell(f"{finding.total:,}" if finding.evidence.n else NA),
        TableCell(", ".join(finding.evidence.hardware) or NA),
        TableCell(f"{one.source.name}, {finding.claim.where}"),
    ]


def _measured(finding: ClaimFinding) -> Sequence[ClaimPart]:
    """Its parts, if any of them has a number."""
    return () if finding.verdict is Verdict.NOT_MEASURED else finding.parts


def _parts(found: Sequence[tuple[ThirdPartyClaim, ClaimFinding]]) -> Table:
    """The parts that were measured; the notes say of every claim why its verdict is what it is, and its command."""
    lines, notes = [], []
    for one, finding in found:
        for part in _measured(finding):
            cells = (finding.claim.id, part.name, part.text, part.interval, part.outcome or NA)
            lines.append(list(map(TableCell, cells)))
        said = f"{finding.claim.id}: {_word(finding.verdict)}. {finding.why} Holds if the change is {finding.statement}"
        run = [f"Measure it: {finding.run}"] * bool(finding.run)
        notes.append(" ".join([f"{said} ({one.rule.statistic}).", *finding.remarks, *run]))
    notes.append(
        "A command with a method that is not here, or that cannot be brought to a budget, is refused: its claim stays "
        "not measured."
    )
    return claim_table("Claims of third parties, one by one: change at the same bytes", PARTS, lines, notes)


def _rows(source: ThirdParty) -> Table:
    """What they published, as they print it."""
    assert source.rows is not None
    columns = [TableColumn(name, text=name in ("table", "model", "method")) for name in source.rows.columns]
    lines = []
    for at, line in enumerate(source.rows.to_dict("records")):
        cells = (TableCell(method_style(text).label if name == "method" else text) for name, text in line.items())
        lines.append(TableRow(tuple(cells), rule=at > 0 and line["method"] == NONE))
    said = (
        f"{source.where}; table: theirs; scores ×100; removed: percent of the image tokens; average: mean of the "
        "ratios to uncompressed, percent. n/a: not known here."
    )
    return Table(f"Rows of {source.name}, as published", tuple(columns), tuple(lines), (said,))


def _lines(one: ThirdPartyClaim, finding: ClaimFinding) -> list[dict[str, object]]:
    """The csv: a line per part, at least one per claim; changes in percent."""
    front = {"claim": finding.claim.id, "text": finding.claim.text, "source": one.source.name,
             "where": f"{one.source.where}, {finding.claim.where}", "theirs": one.theirs,
             "verdict": _word(finding.verdict), "label": finding.label, "outcome": finding.outcome,
             "n": finding.total, "hardware": "; ".join(finding.evidence.hardware), "run": finding.run}  # fmt: skip
    names, numbers = ("part", "change", "low", "high", "by_the_rule"), list[tuple]()
    for part in _measured(finding):
        change = part.estimate
        numbers.append((part.name, change.value, change.low, change.high, part.outcome))
    return [front | dict(zip(names, own, strict=True)) for own in numbers or [(None,) * len(names)]]
