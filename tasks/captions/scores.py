"""CIDEr and METEOR of a set of captions, equal to lmms-eval's coco_cider, coco_meteor and their Flickr30k kin."""

from pycocoevalcap.cider.cider import Cider

from ..detail import Detail, aggregation
from . import meteor_process
from .tokens import tokenize_corpus


def _corpus(scorer, items: list[dict]) -> Detail:
    value, samples = scorer(*tokenize_corpus(items)) if items else (float("nan"), [])
    return Detail(value=float(value), kind="corpus", samples=[float(s) for s in samples], groups=None, subsets={})


@aggregation
def cider(items: list[dict]) -> Detail:
    """CIDEr-D as the COCO evaluation has it (1.0 = the tables' 100): mean of per-sample scores whose word weights come
    from the references of the whole set, so a subset has other weights than the set."""
    return _corpus(Cider().compute_score, items)


@aggregation
def meteor(items: list[dict]) -> Detail:
    """METEOR 1.5: computed from the statistics of all samples together; the samples are its per-sample scores."""
    return _corpus(meteor_process.score, items)
