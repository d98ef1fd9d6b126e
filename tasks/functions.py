"""Everything that a task file (YAML) may name, as `!function ../functions.<name>`.

lmms-eval runs this file by its path, outside any package and from any working directory. So the folder is first made
importable under a name of its own: a plain `import tasks` would find whatever `tasks` lies first on the path.
"""

import importlib.util
import sys
from pathlib import Path

PACKAGE = "plphp_tasks"

if PACKAGE not in sys.modules:
    _init = Path(__file__).resolve().parent / "__init__.py"
    _spec = importlib.util.spec_from_file_location(PACKAGE, _init, submodule_search_locations=[str(_init.parent)])
    sys.modules[PACKAGE] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[PACKAGE])

# ruff: noqa: E402, F401
from plphp_tasks import hub
from plphp_tasks.captions.documents import (
    coco2017_results,
    coco2017_text,
    detailcaps_results,
    detailcaps_target,
    detailcaps_text,
    detailcaps_visual,
    flickr30k_results,
    flickr30k_text,
    image_visual,
)
from plphp_tasks.captions.scores import cider, meteor
from plphp_tasks.interleave.documents import (
    all_images,
    conversation,
    first_images,
    only_ie,
    only_mv,
    only_sd,
    only_vst,
    question,
)
from plphp_tasks.interleave.results import (
    group_mean,
    overall_results,
    overall_results_llava,
    rouge_l_results,
    rouge_l_results_llava,
    sample_mean,
    subset_mean,
)
from plphp_tasks.looking.documents import finding_results, long_results, long_target, long_text, reading_results


def __getattr__(name: str) -> str:
    """`hub_<data set>`: the data set's repository id, looked up when a task file asks for it and not before."""
    if name.removeprefix("hub_") in hub.DATA_SETS:
        return hub.repository(name.removeprefix("hub_"))
    known = [f"hub_{data_set}" for data_set in hub.DATA_SETS]
    raise AttributeError(f"tasks/functions.py has no {name!r}; data sets on the hub: {known}")
