"""How the authors of LLaVA-NeXT-Interleave score an answer (protocol=llava): on normalised text.

https://github.com/LLaVA-VL/LLaVA-NeXT/blob/main/llava/eval/evaluate_interleave.py. The normalisation, lower case and no
punctuation, is the one that lmms-eval kept for multiple choice.
"""

from . import lmms_eval_scores
from .lmms_eval_scores import plain

LETTERS = "abcdefgh"


def rouge_l(answer: str, prediction: str) -> float:
    """Summary-level ROUGE-L F1 in [0, 1] of the normalised texts."""
    return lmms_eval_scores.rouge_l(plain(answer), plain(prediction))


def multiple_choice(answer: str, prediction: str) -> float:
    """1 if the normalised texts are equal, else 0; of "answer: b" the lone letter counts."""
    chosen = plain(prediction)
    letters = [part.strip() for part in chosen.split(":")] if ":" in chosen else []
    letters = [part for part in letters if len(part) == 1 and part in LETTERS]
    return float((letters[-1] if letters else chosen) == plain(answer))
