"""Which organisation of the hub holds a data set: the one lmms-eval's data moved to in July 2026, or the one before.

lmms-eval knows one `dataset_path` per task. A machine with a filled cache or a mirror may only know the other name, so
task files ask here.
"""

import functools
import logging

from datasets import load_dataset_builder

ORGANISATIONS = ("lmms-lab-encoder", "lmms-lab")  # now, before

# What task files call it -> (repository, configuration).
DATA_SETS = {
    "in_domain": ("LLaVA-NeXT-Interleave-Bench", "in_domain"),
    "multi_view": ("LLaVA-NeXT-Interleave-Bench", "multi_view_in_domain"),
    "flickr30k": ("flickr30k", None),
    "coco2017": ("COCO-Caption2017", None),
}


@functools.cache
def repository(data_set: str) -> str:
    """`organisation/name` of a data set: the first organisation that can serve it, from the hub or the local cache.

    If none can, today's name, so that loading it afterwards reports the true reason.

    Args:
        data_set: a key of `DATA_SETS`.
    """
    name, configuration = DATA_SETS[data_set]
    for organisation in ORGANISATIONS:
        path = f"{organisation}/{name}"
        try:
            load_dataset_builder(path, configuration)
        except (OSError, ValueError) as error:  # not found, no network and not cached (OSError); not this configuration
            logging.getLogger(__name__).info("%s cannot be had: %s", path, error)
        else:
            return path
    return f"{ORGANISATIONS[0]}/{name}"
