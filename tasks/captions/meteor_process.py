"""METEOR 1.5 as a child process: the jar of pycocoevalcap, spoken to line by line.

Starting it costs seconds and half a gigabyte (a paraphrase table is read), so it stays for the next corpus; it is
closed after two minutes without one, and at exit. pycocoevalcap's own wrapper needs `java` on PATH, never reads its
error pipe, and blocks for ever in its destructor after an exception.
"""

import atexit
import contextlib
import subprocess
import tempfile
import threading
from pathlib import Path

from pycocoevalcap.meteor import meteor as pycocoevalcap_meteor

from ..java import JavaError, java, last_words

FOLDER = Path(pycocoevalcap_meteor.__file__).parent
IDLE_SECONDS = 120.0


class MeteorProcess:
    """One running METEOR. Raises JavaError if it cannot start or dies."""

    def __init__(self):
        # SerialGC: half the memory, and METEOR is single-threaded.
        command = [java(), "-Xmx2G", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8"]
        command += ["-jar", pycocoevalcap_meteor.METEOR_JAR, "-", "-", "-stdio", "-l", "en", "-norm"]
        # Not a pipe: one that nobody reads could fill up and block it.
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        self._process = subprocess.Popen(
            command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints
        )

    def score(self, references: dict[int, list[str]], predictions: dict[int, list[str]]) -> tuple[float, list[float]]:
        """Score of the corpus and of each sample, in [0, 1]. Texts are tokenised: no line breaks, no `|||`."""
        statistics = []
        for i, (prediction,) in predictions.items():
            prediction = prediction.replace("|||", "").replace("  ", " ")
            self._write(" ||| ".join(("SCORE", *references[i], prediction)))
            statistics.append(self._read())
        # METEOR reads the whole line before it answers, and answers one number per sample and one for the corpus.
        self._write(" ||| ".join(("EVAL", *statistics)))
        samples = [float(self._read()) for _ in statistics]
        return float(self._read()), samples

    def close(self) -> None:
        """End the process and free its pipes. May be called twice."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._complaints):
            with contextlib.suppress(BrokenPipeError):  # closing flushes what a dead process never took
                stream.close()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def _write(self, line: str) -> None:
        try:
            self._process.stdin.write(f"{line}\n".encode(errors="replace"))
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._death() from error

    def _read(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise self._death()
        return line.decode().strip()

    def _death(self) -> JavaError:
        status = self._process.wait()
        self._complaints.seek(0)
        return JavaError(f"METEOR ended with status {status}: {last_words(self._complaints.read())}")


_lock = threading.Lock()
_process: MeteorProcess | None = None
_timer: threading.Timer | None = None


def score(references: dict[int, list[str]], predictions: dict[int, list[str]]) -> tuple[float, list[float]]:
    """`MeteorProcess.score` on the process that is open, or on a new one."""
    global _process, _timer
    with _lock:
        if _process is None or not _process.alive:
            _close()
            _process = MeteorProcess()
        try:
            found = _process.score(references, predictions)
        except BaseException:  # its answers no longer match our questions
            _close()
            raise
        if _timer is not None:
            _timer.cancel()
        _timer = threading.Timer(IDLE_SECONDS, close)
        _timer.daemon = True
        _timer.start()
        return found


def close() -> None:
    """End METEOR if it runs; the next `score` starts it again."""
    with _lock:
        _close()


def _close() -> None:
    global _process
    if _process is not None:
        _process.close()
        _process = None


atexit.register(close)
