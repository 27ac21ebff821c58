"""What may import what: the chain of layers that the package is built in."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "camera_trap_al"

# A module may import from any group before its own. Within a group only what is listed in WITHIN.
LAYERS = [
    {"exceptions", "logs"},
    {"query", "files", "pools", "parallel"},
    {"interchange", "model_description"},
    {"photos"},
    {"active_learning_methods", "estimator_arrays", "estimators"},
    {"rules"},
    {"config"},
    {"run_store"},
    {"statistics"},
    {"labelling", "evaluation", "classifier", "predictions", "progress", "run_result"},
    {"preparation"},
    {"deep_learning"},
    {"export", "report", "start_screen"},
    {"inference", "publishing", "round_figures", "run_report"},
    {"main_scripts"},
    {"demo", "doctor", "dry_run", "simulation"},
    {"cli", "utils"},
    {"__main__"},
]
WITHIN = {
    ("evaluation", "predictions"),
    ("publishing", "round_figures"),
    ("publishing", "run_report"),
}
# By the name of a part, or of one module in it.
HEAVY = {
    "torch": {"deep_learning", "doctor"},
    "torchvision": {"deep_learning"},
    "matplotlib": {"evaluation", "report", "simulation/result"},
    "onnx": {"deep_learning/network_graph", "export/model_graph", "export/problems", "inference"},
    "skl2onnx": {"export/model_graph"},
    "onnxruntime": {"inference"},
    "pandas": {"inference", "simulation"},
}
ONLY_INSIDE_FUNCTIONS = {"matplotlib", "onnx", "skl2onnx", "onnxruntime"}

MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}


def layer_of(part: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if part in layer)


def part_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").as_posix()


def imports(module: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """Absolute names of all imported modules, whether imported at the top or inside a function."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert all(alias.name != "*" for alias in node.names), f"{module}: import *"
            objects = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from {name if name in NAMES else str(node.module) for name in objects}


def own_imports(module: Path) -> Iterator[str]:
    for name in imports(module):
        if name.startswith("camera_trap_al."):
            yield name.split(".")[1]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_layers_before_its_own(module: Path) -> None:
    part = part_of(module)
    if part == "__init__":
        return  # names its public objects for type checkers and looks them up when they are used
    for imported in set(own_imports(module)) - {part}:
        allowed = layer_of(imported) < layer_of(part) or (part, imported) in WITHIN
        assert allowed, f"{part} may not import {imported}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_stay_where_they_belong(module: Path) -> None:
    for name in imports(module):
        library = name.split(".")[0]
        allowed = HEAVY.get(library)
        assert allowed is None or {part_of(module), name_of(module)} & allowed, f"{library} does not belong in {module}"
    for name in imports(module, top_level_only=True):
        assert name.split(".")[0] not in ONLY_INSIDE_FUNCTIONS, f"{name} must be imported where it is used"


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in MODULES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    graph = {name: {found for found in imports(path) if found in names} for name, path in names.items()}
    graph["camera_trap_al"] = set()  # lazy
    done: set[str] = set()
    while ready := {name for name, needed in graph.items() if name not in done and needed <= done}:
        done |= ready
    assert done == set(graph), f"these import each other: {sorted(set(graph) - done)}"


def test_every_module_has_a_place_in_the_chain() -> None:
    placed = set().union(*LAYERS) | {"__init__"}
    assert {part_of(module) for module in MODULES} == placed


def test_print_and_input_are_used_only_by_the_label_dialogue() -> None:
    for module in MODULES:
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"print", "input"} or module.name == "dialogue.py", module


LONG_SIGNATURE = {"run_active_learning"}  # has a line for each of its settings


def length(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring, and without its signature where that is long."""
    documented = ast.get_docstring(function) is not None
    first = function.body[1] if documented and len(function.body) > 1 else function.body[0]
    last = function.end_lineno or 0
    signature = 0 if function.name in LONG_SIGNATURE else function.body[0].lineno - function.lineno
    return last - first.lineno + 1 + signature


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_function_is_longer_than_60_lines(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert length(node) <= 60, f"{module}: {node.name} has {length(node)} lines"


def test_setup_py_has_three_lines_and_design_limits_hold() -> None:
    assert len((PACKAGE.parent / "setup.py").read_text(encoding="utf-8").splitlines()) == 3
    for module in MODULES:
        lines = module.read_text(encoding="utf-8").count("\n")
        assert lines <= 400, f"{module} has {lines} lines"
