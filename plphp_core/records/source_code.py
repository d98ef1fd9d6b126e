"""Hashes of source code, for what it does: comments, docstrings, formatting and line numbers do not count.

A hash is of the code as this process first met it: who edits a file under a running process gets the answers of the
code that was imported.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LIBRARIES = {"builtins", "functools", "lmms_eval"}
DIGITS = 12  # of a hash that is kept: enough to tell versions of one file apart


def hashes(modules: Iterable[str], follow: Callable[[str], bool]) -> dict[str, str]:
    """File → hash, of modules and of everything they import, however deep, that `follow` says yes to.

    Modules without source (compiled ones) are hashed as files; what cannot be found is left out.
    """
    found: dict[str, str] = {}
    todo, seen = list(modules), set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if (spec := _spec(name)) is None or not spec.origin or not Path(spec.origin).is_file():
            continue
        is_package = spec.submodule_search_locations is not None
        found[_label(name, spec.origin, is_package)] = _read(spec.origin)[0]
        package = name if is_package else name.rpartition(".")[0]
        todo += [other for other in _imported(spec.origin, package) if other not in seen and follow(other)]
    return dict(sorted(found.items()))


def hashes_of_functions(functions: Iterable[Callable[..., object]], folder: Path) -> dict[str, str]:
    """File → hash, of the files that define functions and of what those import from their own packages.

    Libraries that have their version in the key are not read. A function whose file is no module, as lmms-eval runs
    those that a task file names, stands for this file, named relative to `folder` where it lies in it.
    """
    found: dict[str, str] = {}
    for function in functions:
        function = inspect.unwrap(function)
        if isinstance(function, functools.partial):
            function = function.func
        module: str = getattr(function, "__module__", None) or ""
        file = getattr(getattr(function, "__code__", None), "co_filename", None)
        spec = _spec(module)
        if spec is not None and spec.origin and (file is None or Path(spec.origin).resolve() == Path(file).resolve()):
            if (top := module.partition(".")[0]) not in LIBRARIES:
                found |= hashes([module], own_package([top]))
        elif file is not None and Path(file).is_file():
            path = Path(file).resolve()
            inside = path.is_relative_to(folder.resolve())
            found[path.relative_to(folder.resolve()).as_posix() if inside else path.name] = _read(str(path))[0]
    return dict(sorted(found.items()))


def own_package(tops: Iterable[str]) -> Callable[[str], bool]:
    """Says yes to modules of these top-level packages."""
    tops = set(tops)
    return lambda name: name.partition(".")[0] in tops


def short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]


@functools.cache
def _read(path: str) -> tuple[str, tuple[tuple[int, str, tuple[str, ...]], ...]]:
    """Hash of a file, and its import statements as (dots, module, names)."""
    content = Path(path).read_bytes()
    if not path.endswith(".py"):
        return short_hash(content), ()
    try:
        tree = ast.parse(content)
    except SyntaxError:  # nothing that was imported; it will complain by itself
        return short_hash(content), ()
    imports: list[tuple[int, str, tuple[str, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
        elif isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    # Not `ast.dump`, whose text changes from one Python to the next.
    return short_hash(ast.unparse(tree).encode("utf-8", "surrogatepass")), tuple(imports)


def _imported(path: str, package: str) -> Iterator[str]:
    """Names of all that a file may import: a module, and what it takes from it, which may be modules too."""
    for dots, module, names in _read(path)[1]:
        if dots:
            parents = package.split(".")
            module = ".".join([*parents[: len(parents) - dots + 1], *([module] if module else [])])
        yield module
        yield from (f"{module}.{name}" for name in names)


def _spec(name: str) -> ModuleSpec | None:
    """Where a module comes from; None if there is none of the name."""
    if name in sys.modules:
        spec: ModuleSpec | None = getattr(sys.modules[name], "__spec__", None)
        return spec
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):  # a function, not a module; its package cannot be imported
        return None


def _label(name: str, file: str, is_package: bool) -> str:
    """A module's file as people know it: from its top-level package on, whose folder may have another name."""
    parts, path = name.split("."), Path(file)
    depth = len(parts) - (not is_package)
    return "/".join(path.parts[-(depth + 1) :]) if depth else path.name
