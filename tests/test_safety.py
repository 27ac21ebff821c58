"""Nothing that lies in a run folder or a label file can run code, or lead to photos outside of the data folders."""

import ast
import hashlib
import pickle
import shutil
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from camera_trap_al import run_active_learning
from camera_trap_al.config import RunConfig
from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.photos.folders import scan_data_folders
from camera_trap_al.pools import Role
from camera_trap_al.run_store import RunStore

PACKAGE = Path(__file__).parents[1] / "camera_trap_al"
MODULES = sorted(PACKAGE.rglob("*.py"))

# --- what the code of the package may do

UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}  # modules
RUN_CODE = {
    *("eval", "exec", "compile", "__import__"),
    *("builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "torch.hub.load"),
}
RUN_CODE_WHATEVER_THEY_BELONG_TO = {"read_pickle"}
STATE_DICT_ONLY, NO_OTHER_FILES = ("weights_only", True), ("load_external_data", False)
SAFE_ONLY_WITH = {
    "torch.load": STATE_DICT_ONLY,
    "torch.serialization.load": STATE_DICT_ONLY,
    "torch.hub.load_state_dict_from_url": STATE_DICT_ONLY,
    "onnx.load": NO_OTHER_FILES,
    "onnx.load_model": NO_OTHER_FILES,
}
METHODS_SAFE_ONLY_WITH = {"get_state_dict": STATE_DICT_ONLY}  # of torchvision's weights
MUST_BE_FALSE = {"allow_pickle", "shell"}  # where they are given
ALLOW_PICKLE_IS_ARGUMENT = {"numpy.load": 2, "numpy.lib.format.read_array": 1}  # counted from 0
TAKE_AN_EXPRESSION = {"query", "eval"}  # methods of a DataFrame; those of a torch module take no argument
# A session loads any file that an ONNX model names, so each module that makes one has to be looked at by a person.
MAY_MAKE_ONNX_SESSIONS = {"inference/networks.py"}  # which refuses models that name other files


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Give what each name of a module stands for that it imports anywhere."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names |= {alias.asname: alias.name} if alias.asname else {top: top}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def full_name(node: ast.AST, imported: dict[str, str]) -> str:
    """Give the name of an expression such as ``np.load`` in full; "?" stands for what has no name."""
    if isinstance(node, ast.Name):
        return imported.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{full_name(node.value, imported)}.{node.attr}"
    return "?"


def is_literally(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def call_dangers(call: ast.Call, name: str) -> Iterator[str]:
    """Say what is wrong with the arguments of a call."""
    last = name.rpartition(".")[2]
    given = {keyword.arg: keyword.value for keyword in call.keywords}  # None: two stars and a dict
    yield from (f"{name}({word}=...)" for word in MUST_BE_FALSE & given.keys() if not is_literally(given[word], False))
    if name in ALLOW_PICKLE_IS_ARGUMENT and (len(call.args) > ALLOW_PICKLE_IS_ARGUMENT[name] or None in given):
        yield f"{name} with arguments that may allow pickle"
    if isinstance(call.func, ast.Attribute):
        if last in METHODS_SAFE_ONLY_WITH:
            word, value = METHODS_SAFE_ONLY_WITH[last]
            if not is_literally(given.get(word), value):
                yield f"{last} without {word}={value}"
        if last in TAKE_AN_EXPRESSION and (call.args or call.keywords):
            yield f"{last} of an expression"
    if name == "importlib.import_module" and call.args and isinstance(call.args[0], ast.Constant):
        if str(call.args[0].value).partition(".")[0] in UNPICKLERS:
            yield f"import of {call.args[0].value}"


def is_safe_call(call: ast.Call, name: str) -> bool:
    """Say whether a call of what is safe with one argument only has that argument."""
    word, value = SAFE_ONLY_WITH.get(name, (None, None))
    return any(keyword.arg == word and is_literally(keyword.value, bool(value)) for keyword in call.keywords)


def dangers(source: str, *, may_make_sessions: bool = False) -> list[str]:
    """List what in the source of a module could run code that somebody put into a file."""
    tree = ast.parse(source)
    imported = imported_names(tree)
    found, safely_called = [], set()
    for node in ast.walk(tree):  # a call comes before what it calls
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [f"import of {name}" for name in modules if str(name).partition(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.Call):
            name = full_name(node.func, imported)
            found += call_dangers(node, name)
            if is_safe_call(node, name):
                safely_called.add(node.func)
        elif isinstance(node, ast.Name | ast.Attribute):
            # Wherever it is used, not only where it is called: it may be called under another name.
            name = full_name(node, imported)
            last = name.rpartition(".")[2]
            if name in RUN_CODE or last in RUN_CODE_WHATEVER_THEY_BELONG_TO:
                found.append(name)
            elif name in SAFE_ONLY_WITH and node not in safely_called:
                found.append(f"{name} without {SAFE_ONLY_WITH[name]}")
            elif last == "InferenceSession" and not may_make_sessions:
                found.append(name)
            elif isinstance(node, ast.Attribute) and node.attr in UNPICKLERS:  # as another module has imported it
                found.append(name)
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_could_run_code_from_a_file(module: Path) -> None:
    may_make_sessions = module.relative_to(PACKAGE).as_posix() in MAY_MAKE_ONNX_SESSIONS
    assert dangers(module.read_text("utf-8"), may_make_sessions=may_make_sessions) == []


@pytest.mark.parametrize(
    "source",
    [
        *(f"import {name}" for name in sorted(UNPICKLERS)),
        "import json, pickle as json2",
        "from pickle import loads",
        "from joblib.numpy_pickle import load",
        "def inside():\n    import dill",
        "from importlib import import_module\nimport_module('yaml')",
        "import torch\ntorch.serialization.pickle.loads(content)",
        "eval(text)",
        "exec(text)",
        "compile(text, 'name', 'exec')",
        "__import__(name)",
        "import builtins\nbuiltins.exec(text)",
        "run = eval\n",
        "import os\nos.system(command)",
        "from os import popen as ask\nask(command)",
        "import subprocess\nsubprocess.run(command, shell=True)",
        "from subprocess import Popen\nPopen(command, shell=wanted)",
        "import subprocess\nsubprocess.getoutput(command)",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=safely)",
        "import torch\ntorch.load(path, **options)",
        "import torch as t\nt.load(path)",
        "from torch import load\nload(path, map_location='cpu')",
        "import torch\nfrom functools import partial\npartial(torch.load, weights_only=True)",
        "from torch.hub import load_state_dict_from_url as fetch\nfetch(url)",
        "weights.get_state_dict(progress=True)",
        "import torch\ntorch.hub.load(repository, model)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy\nnumpy.load(path, allow_pickle=trusted)",
        "import numpy as np\nnp.load(path, None, True)",
        "import numpy as np\nnp.load(path, **options)",
        "from numpy import load as read\nread(path, allow_pickle=1)",
        "import numpy as np\nnp.lib.format.read_array(file, True)",
        "import onnx\nonnx.load(path)",
        "import onnx\nonnx.load(path, load_external_data=True)",
        "from onnx import load_model\nload_model(path)",
        "import onnxruntime\nonnxruntime.InferenceSession(path)",
        "from onnxruntime import InferenceSession as Session\nSession(path)",
        "import pandas as pd\npd.read_pickle(path)",
        "table.query(text)",
        "table.eval('a = b')",
        "table.eval(expr=text)",
    ],
)
def test_dangerous_code_is_found(source: str) -> None:
    assert len(dangers(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import json\njson.loads(text)",
        "import re\nre.compile(text)",
        "from re import compile\ncompile(text)",
        "import ast\nast.literal_eval(text)",
        "import subprocess\nsubprocess.run([program, '-L'], capture_output=True)",
        "import subprocess\nsubprocess.run([program], shell=False)",
        "import torch\ntorch.load(path, map_location='cpu', weights_only=True)",
        "from torch import load as read\nread(path, weights_only=True)",
        "weights.get_state_dict(weights_only=True)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import numpy as np\nnp.load(path, 'r')",
        "import onnx\nonnx.load(path, load_external_data=False)",
        "net.eval()",
        "store.load(path)",
        "query = open_query()\nquery.round",
        "'import pickle'  # pickle.load",
    ],
)
def test_harmless_code_is_not_found(source: str) -> None:
    assert dangers(source) == []


def test_a_module_that_may_make_a_session_may_do_nothing_else_that_is_dangerous() -> None:
    source = "import onnxruntime\nonnxruntime.InferenceSession(path)\n"
    assert dangers(source, may_make_sessions=True) == []
    assert dangers(source + "eval(text)", may_make_sessions=True) == ["eval"]


# --- planted files


class Plant:
    """An object that makes a file when it is unpickled.

    Parameters
    ----------
    marker
        The file.
    """

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.marker,)


def plant_pickle(file: Path, plant: Plant) -> None:
    file.write_bytes(pickle.dumps(plant))


def plant_array(file: Path, plant: Plant) -> None:
    with file.open("wb") as opened:
        np.save(opened, np.array([plant], object))


def plant_archive(file: Path, plant: Plant) -> None:
    """Plant an archive with the names that the old one has, if it was one."""
    names = ["array.npy"]
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as old:
            names = old.namelist()
    arrays: dict[str, Any] = {name.removesuffix(".npy"): np.array([plant], object) for name in names}
    with file.open("wb") as opened:
        np.savez(opened, **arrays)


def plant_network(file: Path, plant: Plant) -> None:
    torch.save({"embedding_model_state_dict": {"module.inner_model.conv.weight": plant}}, file)


def unpickle(file: Path) -> None:
    pickle.loads(file.read_bytes())


def unpickle_array(file: Path) -> None:
    np.load(file, allow_pickle=True)


def unpickle_archive(file: Path) -> None:
    with np.load(file, allow_pickle=True) as saved:
        _ = saved["array"]


def unpickle_network(file: Path) -> None:
    torch.load(file, weights_only=False)


PLANTERS = (plant_pickle, plant_array, plant_archive, plant_network)
PARTS, INDEX = "embedding/parts/part_000000.npz", "cache/images.index"
ARTEFACTS = {  # with what is most like them
    "embedding/embedding.npy": plant_array,
    "embedding/photos.npz": plant_archive,
    "embedding/embedding_model_weights.pt": plant_network,
    "embedding/network_graph.onnx": plant_pickle,
    "classifier/classifier.npz": plant_archive,
}


@pytest.mark.parametrize(
    ("planter", "reader"),
    list(zip(PLANTERS, (unpickle, unpickle_array, unpickle_archive, unpickle_network), strict=True)),
)
def test_what_is_planted_would_run_code_if_it_were_unpickled(
    planter: Callable[[Path, Plant], None], reader: Callable[[Path], None], tmp_path: Path
) -> None:
    planter(tmp_path / "file", Plant(tmp_path / "marker"))
    assert not (tmp_path / "marker").exists()
    reader(tmp_path / "file")
    assert (tmp_path / "marker").exists()


def run_arguments(format_1: dict[str, Any], photos: Path, run: Path) -> dict[str, Any]:
    """Arguments of a run that does not finetune its network, so that what was embedded stays of use."""
    made: dict[str, Any] = format_1["arguments"](photos, run)
    quick = {"embedding_finetuning_period": 1000, "validate_model": False}
    return made | quick | {"label_source": format_1["Expert"]()}


@pytest.fixture(scope="module")
def finished_run(format_1: dict[str, Any], sixteen_pixels: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with photos and a run that ended after three labels; nobody may change it."""
    folder = tmp_path_factory.mktemp("finished")
    format_1["write_photos"](folder / "photos")
    run_active_learning(**run_arguments(format_1, folder / "photos", folder / "run"), max_labels=3)
    return folder


def resume_with(
    file: str,
    planter: Callable[[Path, Plant], None],
    is_checksum_changed: bool,
    finished_run: Path,
    format_1: dict[str, Any],
    folder: Path,
) -> None:
    """Go on with a copy of the finished run and one more photo, after `file` of it was replaced by a planted one."""
    shutil.copytree(finished_run, folder, dirs_exist_ok=True)  # with the times of the photos
    shutil.copy(folder / "photos/unlabelled/site 0/fox_0.ppm", folder / "photos/unlabelled/site 0/fox_9.ppm")
    marker, replaced = folder / "marker", folder / "run" / file
    assert replaced.exists(), "or this would test nothing"
    planter(replaced, Plant(marker))
    planted = replaced.read_bytes()
    if is_checksum_changed:
        with closing(sqlite3.connect(folder / "run" / "data" / "run.sqlite")) as db, db:
            change = "UPDATE artefacts SET sha256 = ? WHERE file = ?"
            assert db.execute(change, (hashlib.sha256(planted).hexdigest(), file)).rowcount == 1
    result = run_active_learning(**run_arguments(format_1, folder / "photos", folder / "run"), max_labels=5)
    assert not marker.exists(), "code from a file was run"
    assert (result.labels_given, result.ended_because) == (5, "max_labels is reached")
    assert replaced.read_bytes() != planted, "it is made again"


@pytest.mark.parametrize(("file", "planter"), ARTEFACTS.items())
def test_a_file_that_is_not_the_saved_one_is_not_even_opened(
    file: str,
    planter: Callable[[Path, Plant], None],
    finished_run: Path,
    format_1: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    resume_with(file, planter, False, finished_run, format_1, tmp_path)
    assert f"{tmp_path / 'run' / file} is missing or not the file that was saved; it is made again." in caplog.messages


@pytest.mark.parametrize("planter", PLANTERS)
@pytest.mark.parametrize("file", ARTEFACTS)
def test_a_planted_file_whose_checksum_fits_runs_nothing_and_is_made_again(
    file: str,
    planter: Callable[[Path, Plant], None],
    finished_run: Path,
    format_1: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    resume_with(file, planter, True, finished_run, format_1, tmp_path)
    assert f"{tmp_path / 'run' / file} is missing or not the file that was saved; it is made again." in caplog.messages


@pytest.mark.parametrize("planter", PLANTERS)
@pytest.mark.parametrize("file", [PARTS, INDEX])
def test_planted_parts_and_a_planted_record_of_decoded_photos_run_nothing_and_are_made_again(
    file: str,
    planter: Callable[[Path, Plant], None],
    finished_run: Path,
    format_1: dict[str, Any],
    tmp_path: Path,
) -> None:
    """The database knows no checksum of these."""
    resume_with(file, planter, False, finished_run, format_1, tmp_path)


# --- paths in the database


@pytest.fixture
def open_with_path(photo_folders: Any, tmp_path: Path) -> Callable[[str], Any]:
    """Opens a run in whose database somebody entered a photo with this path, as its start does."""

    def opened(path: str) -> Any:
        store, scans = RunStore.open(RunConfig(output_dir=tmp_path / "run", seed=1)), scan_data_folders(*photo_folders)
        n_photos = len(store.register(scans))
        with closing(sqlite3.connect(store.database)) as db, db:
            entry = "INSERT INTO photos (photo_row, role, path) VALUES (?, ?, ?)"
            db.execute(entry, (n_photos, Role.UNLABELLED, path))
        return store.register(scans)

    return opened


@pytest.mark.parametrize(
    "path",
    [
        *("../../secret.jpg", "/etc/passwd", "a/../../b.jpg", "..", "a/.."),
        *("C:\\x.jpg", "a\\..\\..\\x.jpg", "\\\\server\\share\\x.jpg"),  # on Windows
        *("a/x\0.jpg", ""),
    ],
)
def test_a_path_that_leaves_its_data_folder_is_refused(open_with_path: Callable[[str], Any], path: str) -> None:
    with pytest.raises(CheckpointError, match="leaves its folder"):
        open_with_path(path)


@pytest.mark.parametrize("path", ["a/..b/c.jpg", "site 1/x..jpg", "a/.../c.jpg", "a../b.jpg", "São João/x y.jpg"])
def test_a_path_with_dots_that_stays_in_its_data_folder_is_taken(
    open_with_path: Callable[[str], Any], path: str
) -> None:
    assert open_with_path(path).paths[-1] == path
