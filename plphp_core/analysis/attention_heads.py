"""What the heads of one layer look at and keep, of one sample."""

from __future__ import annotations

import numpy as np
import pandas as pd


def head_frame(rows: np.ndarray, kept: np.ndarray) -> pd.DataFrame:
    """One line per KV head: its query heads (first, last; from 0), and over all images of the sample

    - gamma: attention of its query heads to vision, their mean;
    - kept: share of the vision tokens that it keeps;
    - covered: share of its attention to vision that goes to these;
    - overlap: of the tokens that it or another head keeps, the share that both keep; mean over the other heads;
    - strongest: of its query heads the one with most attention to vision.

    Args:
        rows: attention of the last prompt token on each vision token, `(query_heads, tokens)`.
        kept: `(kv_heads, tokens)` bool.
    """
    group = len(rows) // len(kept)
    lines = []
    for head, own in enumerate(kept):
        first = head * group
        of_head = rows[first : first + group]
        attention = of_head.mean(axis=0)
        total = attention.sum()
        lines.append(
            {
                "first": first,
                "last": first + group - 1,
                "gamma": float(total),
                "kept": float(own.mean()),
                "covered": float(attention[own].sum() / total) if total > 0 else np.nan,
                "overlap": overlap(kept, head),
                "strongest": first + int(np.argmax(of_head.sum(axis=-1))),
            }
        )
    return pd.DataFrame(lines)


def overlap(kept: np.ndarray, head: int) -> float:
    """Mean over the other heads of |both keep| / |either keeps|; nan for a single head."""
    others = np.delete(kept, head, axis=0)
    either = (others | kept[head]).sum(axis=1)
    shared = (others & kept[head]).sum(axis=1)
    return float(np.mean(shared / np.maximum(either, 1))) if len(others) else np.nan
