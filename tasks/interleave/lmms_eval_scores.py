"""How lmms-eval scores an answer: ROUGE-L for open questions, the letter for multiple choice.

Equal to oe_rogue and mcq_acc in lmms_eval/tasks/llava_interleave_bench/utils.py (0.7.3), except that a text without a
sentence scores 0 where upstream raises and loses the run.
"""

import functools
import re

from rouge import Rouge

MAX_CHARACTERS = 512  # of a prediction; the rest is not scored
PUNCTUATION = ';/[]"{}()=+\\_->@<`,?!'


@functools.cache
def _rouge() -> Rouge:
    return Rouge(metrics=["rouge-l"], stats=["f"])


def rouge_l(answer: str, prediction: str) -> float:
    """Summary-level ROUGE-L F1 in [0, 1] of package `rouge` (not `rouge_score`, which differs).

    The package cuts sentences at "." and raises if none is left, as of a prediction of dots only: that scores 0.
    """
    prediction = prediction[:MAX_CHARACTERS]
    if not prediction.strip(".") or not answer.strip("."):
        return 0.0
    return _rouge().get_scores(prediction, answer)[0]["rouge-l"]["f"]


def strip_punctuation(text: str) -> str:
    """Punctuation as the VQA evaluation treats it: removed if the text has it next to a space, else made a space."""
    thousands = re.search(r"\d,\d", text) is not None
    found = text
    for mark in PUNCTUATION:
        apart = f"{mark} " in text or f" {mark}" in text or thousands
        found = found.replace(mark, "" if apart else " ")
    # At most 32 dots: upstream passes the flag re.UNICODE, whose value is 32, where the count belongs.
    return re.sub(r"\.(?!\d)", "", found, count=32)


def plain(text: str) -> str:
    """Lower case, one line, no punctuation, no quotes or brackets around it."""
    text = strip_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    return text.strip("'").strip('"').strip(")").strip("(").strip().lower()


def choice(text: str) -> str:
    """The letter chosen, upper case: of "B. a dog", else the first lone letter A–E; without any, the plain text."""
    if named := re.match(r"([A-E])\.\s*(.+)$", text.strip(), re.IGNORECASE):
        return named[1].upper()
    text = plain(text)
    letter = re.search(r"\b[A-E]\b", text, re.IGNORECASE)
    return letter[0].upper() if letter else text


def multiple_choice(answer: str, prediction: str) -> float:
    """1 if both choose the same, else 0."""
    return float(choice(prediction) == choice(answer))
