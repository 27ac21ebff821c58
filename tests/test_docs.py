"""The pages of the documentation hold together, and say what is so."""

import ast
import json
import re
import runpy
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camera_trap_al.evaluation import evaluate
from camera_trap_al.interchange.timelapse import SELECTOR_COLUMNS
from camera_trap_al.predictions import COLUMNS
from camera_trap_al.query import Answer, Query, check_answer
from camera_trap_al.run_store.label_archive import LABEL_COLUMNS
from camera_trap_al.run_store.schema import FORMAT, SCHEMA
from camera_trap_al.statistics.audit import judge_audit
from camera_trap_al.statistics.sequence_predictions import SEQUENCE_COLUMNS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")

of_each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    return FENCED.sub("", text_of(page))


def anchors_of(page: Path) -> set[str]:
    """Anchors as GitHub makes them: lower case, spaces become hyphens, all signs but these and _ go."""
    headings = [line.lstrip("#").strip() for line in prose_of(page).splitlines() if re.match(r"#+ ", line)]
    assert len(set(headings)) == len(headings), f"{page} has a heading twice"
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def between(page: Path, name: str) -> Iterator[str]:
    """What stands between comments of this name and its end."""
    found = re.findall(rf"<!-- {name} -->\s*(.*?)\s*<!-- /{name} -->", text_of(page), re.DOTALL)
    assert found, f"{page} has nothing marked as {name}"
    yield from found


def first_cells(table: str) -> list[str]:
    return [line.strip("| ").partition(" | ")[0] for line in table.splitlines()[2:]]


@of_each_page
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    for link in LINK.findall(prose_of(page)):
        if re.match(r"\w+:", link):
            continue  # of the web
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors_of(target), f"{page.name}: {link}"


def test_every_page_is_in_the_navigation_once() -> None:
    navigation = text_of(ROOT / "mkdocs.yml").partition("\nnav:\n")[2]
    listed = re.findall(r"[\w/]+\.md", navigation)
    assert sorted(listed) == sorted(["readme.md", *(page.relative_to(DOCS).as_posix() for page in PAGES[1:])])


@of_each_page
def test_python_in_it_parses_and_what_it_imports_of_ours_is_there(page: Path) -> None:
    for indent, language, code in FENCED.findall(text_of(page)):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(re.sub(rf"(?m)^{indent}", "", code))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("camera_trap_al"):
                module = import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{page.name}: {node.module} has no {alias.name}"


@of_each_page
def test_a_list_begins_behind_an_empty_line(page: Path) -> None:
    """GitHub needs none, but the site would run the list into the paragraph before it."""
    lines = prose_of(page).splitlines()
    item = re.compile(r" *([-*]|\d+\.) ")
    for before, line in pairwise(lines):
        if item.match(line) and before.strip() and not before.startswith(" "):
            assert item.match(before), f"{page.name}: {line}"


@of_each_page
def test_what_the_reference_names_is_there(page: Path) -> None:
    for name in re.findall(r"^::: ([\w.]+)$", text_of(page), re.MULTILINE):
        assert _is_there(name), name


def _is_there(name: str) -> bool:
    try:
        import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return hasattr(import_module(module), attribute)
    return True


def texts_of_the_package() -> Iterator[str]:
    """Every text in the code, with ... where something is filled in."""
    for module in (ROOT / "camera_trap_al").rglob("*.py"):
        for node in ast.walk(ast.parse(text_of(module))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.mark.parametrize(("page", "n_messages"), [("docs/guide.md", 37), ("README.md", 10)])
def test_the_messages_that_are_explained_are_those_of_the_code(page: str, n_messages: int) -> None:
    texts = list(texts_of_the_package())
    messages = [cell.strip("`") for table in between(ROOT / page, "messages") for cell in first_cells(table)]
    assert len(messages) == n_messages
    for message in messages:
        wanted = re.compile(".*".join(map(re.escape, message.split("..."))), re.DOTALL)
        assert any(map(wanted.search, texts)), f"no message of the code says: {message}"


def test_every_table_and_column_of_the_database_is_described() -> None:
    page = text_of(DOCS / "file_formats.md").partition("\n## data/run.sqlite\n")[2]
    lines = [set(re.findall(r"`(\w+)`", line)) for line in page.splitlines() if line.startswith("|")]
    described = set().union(*lines)
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(SCHEMA)
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE sql IS NOT NULL"):
            columns = {column for (column,) in database.execute("SELECT name FROM pragma_table_info(?)", (table,))}
            if table == "photos":
                assert columns <= described, columns - described
            else:
                assert any(columns | {table} <= line for line in lines), f"{table}: {columns}"
    assert list(between(DOCS / "file_formats.md", "format")) == [str(FORMAT)]


def names_in(heading: str) -> set[str]:
    """What is set as code in a section of the page about file formats."""
    section = text_of(DOCS / "file_formats.md").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"`([\w.]+)`", section))


def test_the_columns_and_fields_of_files_are_described(tmp_path: Path) -> None:
    assert set(SELECTOR_COLUMNS) <= names_in("timelapse_selector.csv")
    assert set(LABEL_COLUMNS) <= names_in("data/labels.csv") & names_in("data/label_archive")
    assert {*COLUMNS, *SEQUENCE_COLUMNS} <= names_in("predictions.csv")
    report = evaluate(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], np.float32), ("fox", "owl"))
    report.save(tmp_path, ["site1/a.jpg", "site1/b.jpg", "site2/c.jpg"])
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    header = (tmp_path / "misclassified.csv").read_text(encoding="utf-8").splitlines()[0]
    audit = judge_audit(np.array([0, 1]), np.array([0, 0]), np.array([0, 1]), ("fox", "owl"))
    assert audit is not None
    fields = {*metrics, *metrics["per_class"][0], *metrics["most_confused"][0], *header.split(",")}
    fields |= {*audit.to_dict(), *audit.to_dict()["prevalence"][0], *(path.name for path in tmp_path.iterdir())}
    assert fields <= names_in("test_results"), fields - names_in("test_results")


def test_the_examples_of_the_design_keep_their_promises() -> None:
    examples = [code for _, language, code in FENCED.findall(text_of(DOCS / "design.md")) if language == "python"]
    names: dict[str, Any] = {}
    for code in examples:
        exec(code, names)  # one of them calls check_strategy
    assert any("\ncheck_strategy(" in code for code in examples)
    query, stored = Query(1, np.array([7, 3]), ("a.jpg", "b.jpg"), ("fox", "owl")), list[Answer]()
    names["AlwaysTheFirstClass"]().request_labels(query, stored.append)
    (answer,) = stored
    check_answer(query, answer)


def test_the_layers_in_the_design_are_those_of_the_code() -> None:
    layers = runpy.run_path(str(ROOT / "tests" / "test_architecture.py"))["LAYERS"]
    depth = {part: number for number, layer in enumerate(layers) for part in layer}
    (table,) = between(DOCS / "design.md", "layers")
    rows = [re.findall(r"`(\w+)`", cell) for cell in first_cells(table)]
    assert {part for row in rows for part in row} == depth.keys()
    for above, below in pairwise(rows):
        assert max(depth[part] for part in above) < min(depth[part] for part in below), (above, below)
