"""Figure 8: the same chats answered under each method, side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure, SubFigure

from plphp_core.analysis.results import Results
from plphp_core.reporting import score_columns
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.qualitative_examples import ExampleAnswer, QualitativeExample
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow, number, percent

WIDTH = 2 * drawing.COLUMN
LINE = 0.115  # inches of a line of text
LONGEST = 640  # characters of an answer that are drawn
MOST_IMAGES = 4  # drawn of one sample
SMALL = {"fontsize": 6, "va": "top"}


def draw(cases: Sequence[QualitativeExample], results: Results, profile: str) -> dict[str, bytes]:
    """The figure as "pdf" and "png": a block per sample, images and question above, a column per method below."""
    with drawing.style():
        wrapped = [_Block(case, results) for case in cases]
        figure = Figure(figsize=(WIDTH, 0.3 + sum(block.height for block in wrapped)))
        blocks = figure.subfigures(
            len(cases) + 1, 1, height_ratios=[0.3, *(block.height for block in wrapped)], squeeze=False
        )[:, 0]
        title = f"Figure 8{score_columns.where(profile)}: {results.title}"
        blocks[0].text(0.5, 0.5, title, ha="center", va="center", fontsize=8)
        for block, place in zip(wrapped, blocks[1:], strict=True):
            block.draw(place)
        return drawing.files(figure)


class _Block:
    """One sample, its texts broken into lines so that its height is known."""

    TOP = 1.15  # inches of images

    def __init__(self, case: QualitativeExample, results: Results):
        self.case = case
        self.columns = max(len(case.replies), 1)
        across = int(30 * 4 / self.columns)  # characters of a column
        self.heads = [results.label(reply.row) for reply in case.replies]
        self.colours = [drawing.colour(results.rows[reply.row].method) for reply in case.replies]
        self.answers = [_wrap(_shorten(reply.text, LONGEST), across) for reply in case.replies]
        self.costs = [_costs(reply) for reply in case.replies]
        shown = case.question or f"(not at hand: {case.missing})"
        hidden = f", {MOST_IMAGES} of {len(case.images)} images" if len(case.images) > MOST_IMAGES else ""
        told = [f"{case.benchmark}, sample {case.doc_id}{hidden}", *_wrap("Q: " + _shorten(shown, 420), 58)]
        for reference in case.references[:2]:
            told += _wrap("Reference: " + _shorten(reference, 240), 58)
        self.told = told
        self.top = max(self.TOP, LINE * (len(told) + 1))
        self.height = self.top + LINE * (max(map(len, self.answers), default=0) + 6)

    def draw(self, place: SubFigure) -> None:
        top = 1 - (self.top - 0.05) / self.height
        images = self.case.images[:MOST_IMAGES]
        for at, image in enumerate(images):
            width = 0.5 / max(len(images), 2)
            axes = place.add_axes((0.01 + at * width, top, 0.95 * width, (self.top - 0.1) / self.height))
            axes.imshow(image)
            axes.axis("off")
        place.text(0.53, 1 - 0.05 / self.height, "\n".join(self.told), linespacing=1.25, **SMALL)
        for at in range(len(self.answers)):
            x, y = 0.01 + at / self.columns, top - 0.05 / self.height
            place.text(x, y, self.heads[at], color=self.colours[at], fontweight="bold", **SMALL)
            place.text(x, y - 1.3 * LINE / self.height, self.costs[at], color="#555555", linespacing=1.25, **SMALL)
            body = "\n".join(self.answers[at]) or "(empty)"
            place.text(x, y - 3.9 * LINE / self.height, body, linespacing=1.25, **SMALL)


def sheets(
    cases: Sequence[QualitativeExample], results: Results, profile: str, png: str, seed: int, asked: bool
) -> list[Table]:
    """One sheet per sample, with whole answers."""
    columns = (
        TableColumn("Method", text=True),
        TableColumn("Setting", text=True),
        TableColumn("Answer", text=True),
        TableColumn("New tokens"),
        TableColumn("kept", "Vision"),
        TableColumn("saved", "KV"),
        TableColumn("Prefill ms"),
        TableColumn("Decode ms"),
    )
    found = []
    for case in cases:
        rows = [
            TableRow(
                (
                    TableCell(results.rows[reply.row].label), TableCell(results.setting(reply.row)),
                    TableCell(reply.text or "(empty)"),
                    TableCell(str(reply.new_tokens)), TableCell(percent(reply.retention, 1, False)),
                    TableCell(percent(1 - reply.kv_bytes / reply.kv_bytes_full, 1, False)),
                    TableCell(number(reply.prefill_ms, 1)), TableCell(number(reply.decode_ms, 1)),
                )
            )
            for reply in case.replies
        ]  # fmt: skip
        notes = [f"Question: {case.question}", *(f"Reference: {one}" for one in case.references)]
        notes = notes if not case.missing else [f"Question, references and images are not at hand: {case.missing}."]
        title = f"Figure 8{score_columns.where(profile)}, {results.title}: {case.benchmark}, sample {case.doc_id}"
        found.append(Table(title, columns, tuple(rows), tuple(notes)))
    batch = max((reply.batch_size for case in cases for reply in case.replies), default=1)
    chosen = "as asked for" if asked else f"at random (seed {seed}) among those that every method answered"
    last = found[-1]
    shared = (
        f"The figure: {png} and the .pdf beside it; answers longer than {LONGEST} characters are cut there, not here.",
        f"Samples chosen {chosen}; cases=… and docs=<benchmark>:<sample>,… choose others. Which chats the paper shows "
        "is not known here.",
        f"Times are a sample's share of its batch (of at most {batch}); a single time says little, see Table 4.",
        *([] if profile == "paper" else [f"Profile {profile}: a small trained model, drawn data."]),
    )
    texts = [text for case in cases for text in (case.question, *case.references, *(one.text for one in case.replies))]
    if any(map(drawing.cannot_draw, texts)):
        shared += (f"{drawing.NO_GLYPH} in the figure: a character that it cannot draw.",)
    found[-1] = Table(last.title, last.columns, last.rows, (*last.notes, *shared))
    return found


def table(cases: Sequence[QualitativeExample], results: Results) -> pd.DataFrame:
    """One line per sample and method."""
    return pd.DataFrame(
        {
            "benchmark": case.benchmark, "doc_id": case.doc_id, "method": results.rows[reply.row].method,
            "setting": results.setting(reply.row), "answer": reply.text, "new_tokens": reply.new_tokens,
            "retention": reply.retention, "kv_bytes": reply.kv_bytes, "kv_bytes_full": reply.kv_bytes_full,
            "prefill_ms": reply.prefill_ms, "decode_ms": reply.decode_ms, "batch_size": reply.batch_size,
        }
        for case in cases
        for reply in case.replies
    )  # fmt: skip


def _costs(reply: ExampleAnswer) -> str:
    time = (reply.prefill_ms + reply.decode_ms) / 1e3
    kept = f"{percent(reply.retention, 0, False)} of vision kept"
    share = f" (1/{reply.batch_size} of a batch)" if reply.batch_size > 1 else ""
    return f"{reply.new_tokens} tokens, {time:.2f} s{share}\n{kept}, {reply.kv_bytes / 2**20:.1f} MiB"


def _wrap(text: str, width: int) -> list[str]:
    return [line for part in text.splitlines() or [""] for line in textwrap.wrap(part, width) or [""]]


def _shorten(text: str, width: int) -> str:
    return textwrap.shorten(text, width, placeholder=" …")
