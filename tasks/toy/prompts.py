"""What the evaluation's tasks ask of a toy sample (a test compares the two)."""

from __future__ import annotations

import json

from tasks.toy.samples import Sample


def context(sample: Sample) -> str:
    """The task's text for a sample: the question, or the conversation as JSON."""
    if sample.turns:
        return json.dumps([{"from": who, "value": text} for who, text in sample.turns])
    return sample.question
