"""Rows of the caption data sets: image, prompt, references, and the item that the metrics take.

Same prompts and references as lmms_eval.tasks.{flickr30k,coco_cap,detailcaps} (0.7.3).
"""

import io

from PIL import Image

ONE_SENTENCE = "Provide a one-sentence caption for the provided image."
IN_DETAIL = "Describe this image in detail."


def _items(prediction: str, references: list[str], id) -> dict[str, dict]:
    item = {"prediction": prediction, "references": list(references), "id": id}
    return {"cider": item, "meteor": item}


def image_visual(document: dict) -> list[Image.Image]:
    """Flickr30k and COCO2017."""
    return [document["image"]]


def flickr30k_text(document: dict) -> str:
    return ONE_SENTENCE


def flickr30k_results(document: dict, results: list[str]) -> dict[str, dict]:
    return _items(results[0], document["caption"], document["img_id"])


def coco2017_text(document: dict) -> str:
    return ONE_SENTENCE


def coco2017_results(document: dict, results: list[str]) -> dict[str, dict]:
    return _items(results[0], document["answer"], document["id"])


def detailcaps_visual(document: dict) -> list[Image.Image]:
    """The image lies in the row as an encoded file."""
    return [Image.open(io.BytesIO(document["binary"]))]


def detailcaps_text(document: dict) -> str:
    return IN_DETAIL


def detailcaps_target(document: dict) -> list[str]:
    """The three reference captions, written by three models."""
    return [document["GT_Caption_GPT4O"], document["GT_Caption_GPT4V"], document["GT_Caption_Gemini15Pro"]]


def detailcaps_results(document: dict, results: list[str]) -> dict[str, dict]:
    return _items(results[0], detailcaps_target(document), document["image"])
