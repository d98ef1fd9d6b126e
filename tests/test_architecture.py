"""The layers of docs/architecture.md, read from the imports: arrows go one way, and one name means one thing."""

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("plphp_core", "baselines")
    for path in sorted((ROOT / package).rglob("*.py"))
}
# Lowest first: a package imports from its own row and the rows above it.
LAYERS = (
    ("pruning", "decoding", "vision", "families"),
    ("config", "records"),
    ("evaluation", "analysis"),
    ("preflight", "reporting", "claims"),
    ("bench", "demo", "cli"),
)
ROW = {package: row for row, packages in enumerate(LAYERS) for package in packages}


def imports(path, everywhere):
    """Dotted names of ours that a file imports; `everywhere`: also inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            found = name if name in MODULES else name.rpartition(".")[0]
            if found in MODULES:
                yield found


def package_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "plphp_core" else None


@pytest.mark.parametrize("package", ROW)
def test_a_package_imports_from_its_own_layer_and_those_below(package):
    wrong = {
        f"{module} imports {other}"
        for module, path in MODULES.items()
        if package_of(module) == package
        for other in imports(path, everywhere=True)
        if ROW.get(package_of(other), 0) > ROW[package]
    }
    assert not wrong


def test_every_package_has_its_layer():
    packages = {package_of(module) for module, path in MODULES.items() if path.parent != ROOT / "plphp_core"}
    assert packages <= {None, *ROW}


def test_the_core_knows_no_rival():
    core = [path for module, path in MODULES.items() if ROW.get(package_of(module)) == 0]
    assert not [other for path in core for other in imports(path, everywhere=True) if other.startswith("baselines")]


def test_no_modules_import_each_other():
    graph = {module: set(imports(path, everywhere=False)) - {module} for module, path in MODULES.items()}
    # a package's __init__ gathers names from its own modules; importing a module does not wait for that
    graph = {module: {one for one in found if MODULES[one].name != "__init__.py"} for module, found in graph.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' → '.join(error.args[1])}")


def test_class_names_and_file_names_are_used_once():
    classes = Counter(
        node.name
        for path in MODULES.values()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    )
    files = Counter(path.name for path in MODULES.values() if path.name != "__init__.py")
    assert not [name for name, count in classes.items() if count > 1]
    assert not [name for name, count in files.items() if count > 1]
