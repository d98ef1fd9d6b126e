"""A case set against `none` of its own regime, round by round: whatever the machine did, it did to both."""

from __future__ import annotations

from collections.abc import Sequence

from plphp_core.bench.interleaved_decoding import Decoded
from plphp_core.bench.interleaved_rounds import Times, times_of

SPEEDS = ("nominal", "measured")
LEAST_GAP = (
    0.05  # of the floor of none: where less can be gained, a share would be the noise divided by next to nothing
)


def relate(rows: Sequence[dict], measured: Sequence[Decoded | None], prefill_batch: int) -> None:
    """Fill in, in place, the columns that need the row of `none` of the same regime, model, batch and length.

    Where `none` was measured apart, since the two did not fit into memory together, speed-up and share come from the
    medians, and the speed-up has no quartiles. `added_decode_tokens` divides what a prefill of `prefill_batch` prompts
    costs more by the time of one token of `none` at that batch. Where the floors differ by less than LEAST_GAP there is
    no share.

    Args:
        measured: what each row came from; None: nothing was measured.
    """
    same = ("model", "regime", "batch", "vision_tokens")
    plain = {tuple(row[name] for name in same): row for row in rows if row["method"] == "none"}
    for row, one in zip(rows, measured, strict=True):
        none = plain.get(tuple(row[name] for name in same))
        alone = plain.get((row["model"], row["regime"], prefill_batch, row["vision_tokens"]))
        if alone is not None and alone["ms_per_token"] and row["added_prefill_ms"] is not None:
            row["added_decode_tokens"] = row["added_prefill_ms"] / alone["ms_per_token"]
        if one is None or none is None or not none["ms_per_token"]:
            continue
        row["ideal_speed_up"] = none["floor_ms_measured"] / row["floor_ms_measured"]
        if one.none:
            gain = speed_up(one)
            row |= {"speed_up": gain.median, "speed_up_q1": gain.q1, "speed_up_q3": gain.q3}
            saved = times_of([other.median - own.median for own, other in _pairs(one)]).median
        else:
            row["speed_up"] = none["ms_per_token"] / row["ms_per_token"]
            saved = none["ms_per_token"] - row["ms_per_token"]
        for speed in SPEEDS:
            whole, least = none[f"floor_ms_{speed}"], row[f"floor_ms_{speed}"]
            if whole and least and whole - least >= LEAST_GAP * whole:
                row[f"share_of_ideal_{speed}"] = saved / (whole - least)


def speed_up(one: Decoded) -> Times:
    """How many times faster than `none` in the same round, over all rounds."""
    return times_of([other.median / own.median for own, other in _pairs(one)])


def _pairs(one: Decoded):
    return zip(one.rounds, one.none, strict=True)
