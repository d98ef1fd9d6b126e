"""The PTB tokenizer of the COCO caption evaluation, one process per corpus and no file written.

pycocoevalcap's own wrapper writes a temporary file beside its jar, which fails in a read-only environment, and lets a
line separator inside one caption shift all captions after it.
"""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pycocoevalcap.tokenizer import ptbtokenizer

from ..java import JavaError, java, last_words

JAR = Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
LINE_BREAKS = re.compile("[\r\n\v\f\u2028\u2029]")  # all that the tokenizer takes for the end of a line


def tokenize(captions: Sequence[str]) -> list[str]:
    """Lower-cased tokens without punctuation, joined by spaces; one string per caption, same order.

    Raises:
        JavaError: no Java runtime, or the tokenizer failed.
    """
    command = [java(), "-Dfile.encoding=UTF-8", "-cp", str(JAR)]
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    text = "".join(LINE_BREAKS.sub(" ", caption) + "\n" for caption in captions)
    # `run` feeds and drains all pipes at once, so a long corpus cannot block; stderr gets a line per odd character.
    done = subprocess.run(command, input=text.encode(errors="replace"), capture_output=True)
    lines = done.stdout.decode(errors="replace").split("\n")[:-1]
    if done.returncode or len(lines) != len(captions):
        raise JavaError(
            f"the PTB tokenizer returned {len(lines)} lines for {len(captions)} captions, exit status "
            f"{done.returncode}: {last_words(done.stderr)}"
        )
    return [" ".join(w for w in line.rstrip().split(" ") if w not in ptbtokenizer.PUNCTUATIONS) for line in lines]


def tokenize_corpus(items: list[dict]) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Tokenised references and predictions of items {"prediction", "references"}, keyed by position.

    Returns:
        references: i -> one string per reference; predictions: i -> list of one string; as pycocoevalcap's scorers
        take them.
    """
    tokens = iter(tokenize([text for item in items for text in (*item["references"], item["prediction"])]))
    references, predictions = {}, {}
    for i, item in enumerate(items):
        references[i] = [next(tokens) for _ in item["references"]]
        predictions[i] = [next(tokens)]
    return references, predictions
