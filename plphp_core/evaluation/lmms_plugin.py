"""Entry point for lmms-eval: one model id per method and family, for example `plphp_llava_onevision`.

lmms-eval turns any exception here into a warning that hides every plug-in, so this module imports next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plphp_core.families import family_names
from plphp_core.pruning.method import method_names

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest

WRAPPER = "plphp_core.evaluation.lmms_model"


def model_ids() -> dict[str, tuple[str, str]]:
    """Model id → (method, family), for every method and every family there is."""
    return {f"{method}_{family}": (method, family) for method in method_names() for family in family_names()}


def manifests() -> list[ModelManifest]:
    """What the entry-point group `lmms_eval.models` asks for. The class is built when its id is first used."""
    # Here, since lmms_eval.models calls this function while it is imported: it must find this module whole.
    from lmms_eval.models.registry_v2 import ModelManifest

    return [ModelManifest(model_id=name, simple_class_path=f"{WRAPPER}.{name}") for name in model_ids()]
