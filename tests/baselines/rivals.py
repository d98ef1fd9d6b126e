"""The rivals and controls that several tests go over, and the prompts that they share."""

from baselines import (
    H2O,
    TOVA,
    AdaKV,
    KeyDiff,
    MixKV,
    PyramidKV,
    RandomTokens,
    Recency,
    SharedHeads,
    SnapKV,
    Uniform,
    VLCache,
)

BUDGETED = (SnapKV, PyramidKV, AdaKV, H2O, VLCache, MixKV, KeyDiff, TOVA, Recency)
CONTROLS = (RandomTokens, Uniform, SharedHeads)
ONE_IMAGE = [[4, (20, 28, 1), 5], [6, (16, 16, 2), 8]]
