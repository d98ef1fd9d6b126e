"""Rows in the schemas of OCRBench, GQA and DetailCaps. What counts is the toy's slot accuracy, ROUGE-L comes along."""

from ..interleave.lmms_eval_scores import rouge_l

DESCRIBE = "Describe every place of the picture."


def _item(reference: str, results: list[str], sub_task: str) -> dict[str, dict]:
    return {"rouge_l": {"score": rouge_l(reference, results[0]), "sub_task": sub_task}}


def reading_results(document: dict, results: list[str]) -> dict[str, dict]:
    return _item(document["answer"][0], results, document["question_type"])


def finding_results(document: dict, results: list[str]) -> dict[str, dict]:
    return _item(document["answer"], results, document["types"]["structural"])


def long_text(document: dict) -> str:
    return DESCRIBE


def long_target(document: dict) -> str:
    return document["GT_Caption_GPT4O"]


def long_results(document: dict, results: list[str]) -> dict[str, dict]:
    return _item(long_target(document), results, "long")
