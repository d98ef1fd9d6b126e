"""Figure 8: the same chats answered under each method, side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure, SubFigure

from plphp_core.analysis.marked_words import marked_words
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import Results
from plphp_core.reporting import dataset_access, notes, qualitative_examples
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.figure_spec import FigureSpec, Page, Shown
from plphp_core.reporting.qualitative_examples import QualitativeExample
from plphp_core.reporting.request import ReportRequest, on_benchmarks
from plphp_core.reporting.table_model import Table, TableColumn, TableRow, number, percent

WIDTH = 2 * drawing.COLUMN
LINE = 0.115  # inches of a line of text
TOP = 1.15  # inches of images
TITLE = 0.3  # inches of the figure's title
LONGEST = 640  # characters of an answer that are drawn
MOST_IMAGES = 4  # drawn of one sample
CUT = "…"  # stands for the rest of a text
WRONG = "#B2182B"  # words that differ; underlined, too
LETTERS: dict[str, Any] = {"fontsize": 6, "family": "monospace"}
SMALL: dict[str, Any] = {"fontsize": 6, "va": "top", "linespacing": 1.25}
COLUMNS = (
    TableColumn("Method", text=True),
    TableColumn("Setting", text=True),
    TableColumn("Answer", text=True),
    TableColumn("New tokens"),
    TableColumn("kept", "Vision"),
    TableColumn("saved", "KV"),
    TableColumn("Prefill ms"),
    TableColumn("Decode ms"),
)


@dataclass(frozen=True, eq=False)
class SideBySide:
    """What the figure shows. how: in which way its samples were chosen; differ: how many were answered differently."""

    examples: Sequence[QualitativeExample]
    results: Results
    how: str = "as asked for"
    differ: str = ""


def gather(asked: ReportRequest) -> Shown[SideBySide]:
    """The samples that were asked for, or some of each benchmark by the seed."""
    options = asked.options
    results, benchmarks, variant = on_benchmarks("figure8", asked)
    read = qualitative_examples.read_answers(results, asked.folder, benchmarks)
    chosen = qualitative_examples.choose(results, read, options.cases, options.choices.seed, options.docs)
    how = f"at random (seed {options.choices.seed}) among those that every method answered, and not all of them alike"
    counts = {name: qualitative_examples.answered(results, name) for name in benchmarks}
    differ = ", ".join(
        f"{name} {len(qualitative_examples.differing(read, name, docs))} of {len(docs)}"
        for name, docs in counts.items()
    )
    if options.docs:
        how = "as asked for"
        variant += f".docs={options.docs.strip('[]').replace(',', '+').replace(':', '-')}"
    elif options.cases != 1:
        variant += f".cases={options.cases}"
    datasets = dataset_access.DatasetAccess(asked.profile, asked.folder / "fingerprints.json")
    found = qualitative_examples.examples(results, read, datasets, chosen)
    return Shown(SideBySide(found, results, how, differ), variant, [results])


def draw(content: SideBySide, page: Page) -> Figure:
    """A block per sample: images and question above, a column per method below."""
    blocks = [_Block(one, content.results) for one in content.examples]
    heights = [TITLE, *(block.height for block in blocks)]
    figure = Figure(figsize=(WIDTH, sum(heights)))
    title, *places = figure.subfigures(len(heights), 1, height_ratios=heights)
    title.text(0.5, 0.5, f"{page.title}: {content.results.title}", ha="center", va="center", fontsize=8)
    for block, place in zip(blocks, places, strict=True):
        block.draw(place)
    return figure


class _Block:
    """One sample, its texts broken into lines so that its height in inches is known."""

    def __init__(self, example: QualitativeExample, results: Results):
        self.images = example.images[:MOST_IMAGES]
        answers = list(example.answers.itertuples())
        across = int(120 / max(len(answers), 1))  # characters of a column
        heads = [_wrap(results.label(one.Index), across) for one in answers]
        self.styles = [method_style(one.method) for one in answers]
        self.heads = ["\n".join(head) for head in heads]
        self.costs = [_costs(one) for one in answers]
        said = [drawing.drawable(one.answer).replace(CUT, "...") for one in answers]
        texts = [_wrap(_shortened(one, LONGEST), across) for one in said]
        self.texts = [text if any(text) else ["(empty)"] for text in texts]
        self.marks = [
            _marks(text, marked_words(one, others))
            for text, one, others in zip(self.texts, said, _compared(example, answers), strict=True)
        ]
        hidden = f", {MOST_IMAGES} of {len(example.images)} images" if len(example.images) > MOST_IMAGES else ""
        question = example.question or f"(not at hand: {example.missing})"
        above = [f"{example.benchmark}, sample {example.doc_id}{hidden}", f"Q: {_shortened(question, 420)}"]
        above += [f"Reference: {_shortened(one, 240)}" for one in example.references[:2]]
        lines = [line for one in above for line in _wrap(one, 58)]
        self.question = "\n".join(lines)
        self.head_lines = max(map(len, heads), default=1)
        self.top = max(TOP, LINE * (len(lines) + 1))
        self.height = self.top + LINE * (max(map(len, texts), default=0) + self.head_lines + 5)

    def draw(self, place: SubFigure) -> None:
        """Draw it into its part of the figure, whose height is `height`."""

        def down(inches: float) -> float:
            return 1 - inches / self.height

        for at, image in enumerate(self.images):
            width = 0.5 / max(len(self.images), 2)
            bottom, height = down(self.top - 0.05), (self.top - 0.1) / self.height
            axes = place.add_axes((0.01 + at * width, bottom, 0.95 * width, height))
            axes.imshow(image)
            axes.axis("off")
        place.text(0.53, down(0.05), self.question, **SMALL)
        parts = zip(self.styles, self.heads, self.costs, self.texts, self.marks, strict=True)
        for at, (style, head, cost, text, marks) in enumerate(parts):
            left = 0.01 + at / len(self.styles)
            place.text(left, down(self.top), head, **SMALL, color=style.colour, fontweight="bold")
            place.text(left, down(self.top + LINE * (self.head_lines + 0.3)), cost, **SMALL, color="#555555")
            top = self.top + LINE * (self.head_lines + 3.6)
            for at_line, (line, marked) in enumerate(zip(text, marks, strict=True)):
                # one letter is as wide as another: what is marked lies over the gaps of what is not
                where = {"x": left, "y": down(top + LINE * at_line), "va": "baseline"} | LETTERS
                place.text(s=_only(line, marked, False), **where)
                if any(marked):
                    place.text(s=_only(line, marked, True), **where, color=WRONG, fontweight="bold")
                    under = "".join("_" if mark else " " for mark in marked)
                    place.text(s=under, **where, color=WRONG)


def tables(content: SideBySide, page: Page) -> list[Table]:
    """One table per sample, with whole answers."""
    found = [_table(one, content.results, page) for one in content.examples]
    batch = max((int(one.answers.batch_size.max()) for one in content.examples if len(one.answers)), default=1)
    said = (
        page.files,
        f"Samples chosen {content.how}; cases=… and docs=<benchmark>:<sample>,… choose others. Which chats the paper "
        "shows is not known here.",
        *([f"Not answered alike under all methods of the figure: {content.differ}."] if content.differ else []),
        "Red and underlined: words that the closest reference does not have there (a synonym is marked, too); without "
        "references, words that Uncompressed does not have there.",
        f"Times are a sample's share of its batch (of at most {batch}); a single time says little, see Table 4.",
        notes.profile(page.profile, several=False),
    )
    return [*found[:-1], replace(found[-1], notes=(*found[-1].notes, *said))]


def _table(example: QualitativeExample, results: Results, page: Page) -> Table:
    rows = []
    for one in example.answers.itertuples():
        texts = (
            results.rows[one.Index].label,
            one.setting,
            one.answer or "(empty)",
            str(one.new_tokens),
            percent(one.retention, 1, signed=False),
            percent(1 - one.kv_bytes / one.kv_bytes_full, 1, signed=False),
            number(one.prefill_ms, 1),
            number(one.decode_ms, 1),
        )
        rows.append(TableRow.of(*texts))
    said = [f"Question: {example.question}", *(f"Reference: {one}" for one in example.references)]
    if example.missing:
        said = [f"Question, references and images are not at hand: {example.missing}."]
    title = f"{page.title}, {results.title}: {example.benchmark}, sample {example.doc_id}"
    return Table(title, COLUMNS, tuple(rows), tuple(said))


def _costs(answer) -> str:
    time = (answer.prefill_ms + answer.decode_ms) / 1e3
    share = f" (1/{answer.batch_size} of a batch)" if answer.batch_size > 1 else ""
    kept = f"{percent(answer.retention, 0, signed=False)} of vision kept"
    return f"{answer.new_tokens} tokens, {time:.2f} s{share}\n{kept}, {answer.kv_bytes / 2**20:.1f} MiB"


def _compared(example: QualitativeExample, answers: Sequence) -> list[Sequence[str]]:
    """What each answer is compared with: the references; without any, the uncompressed answer."""
    plain = [one.answer for one in answers if one.method == "none"]
    return [example.references or ([] if one.method == "none" else plain) for one in answers]


def _marks(lines: Sequence[str], words: Sequence[tuple[str, bool]]) -> list[list[bool]]:
    """Of each character of a text broken into lines, whether its word is marked; words are the same, spaces are not."""
    flags = iter([flag for word, flag in words for _ in word])
    return [[not one.isspace() and one != CUT and next(flags, False) for one in line] for line in lines]


def _only(line: str, marks: Sequence[bool], flag: bool) -> str:
    """The characters with this mark, spaces for the others."""
    return "".join(one if mark is flag else " " for one, mark in zip(line, marks, strict=True))


def _wrap(text: str, width: int) -> list[str]:
    return [line for part in text.splitlines() or [""] for line in textwrap.wrap(part, width) or [""]]


def _shortened(text: str, width: int) -> str:
    return textwrap.shorten(text, width, placeholder=f" {CUT}")


FIGURE8 = FigureSpec(
    "figure8",
    gather,
    tables,
    {"": draw},
    f"answers longer than {LONGEST} characters are cut there, not here",
    "What to look for: where the methods part, whether the words in red and underlined, which are not the reference's, "
    "are wrong, and what the answer cost.",
    {"": lambda content: pd.concat([one.answers for one in content.examples])},
    latex=False,
)
