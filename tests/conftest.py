"""Small photo folders made on the spot, and the shared photos where a machine has them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

DATA_VARIABLE = "CAMERA_TRAP_AL_DATA"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs the shared photos, a GPU, a C compiler on Linux, or to mount drives, on a machine without."""
    there = {
        "data": bool(os.environ.get(DATA_VARIABLE)),
        "gpu": torch.cuda.is_available(),
        "cc": sys.platform == "linux" and shutil.which("cc") is not None,
        "mount": sys.platform == "linux" and _may_mount(),
    }
    missing = [name for name, is_there in there.items() if not is_there]
    without = [item for item in items if any(item.get_closest_marker(name) for name in missing)]
    config.hook.pytest_deselected(items=without)
    items[:] = [item for item in items if item not in without]


def _may_mount() -> bool:
    with TemporaryDirectory() as folder:
        words = (["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", folder], ["umount", folder])
        return all(shutil.which(call[0]) and not subprocess.run(call, capture_output=True).returncode for call in words)


@pytest.fixture
def data() -> Path:
    """The shared photos; for tests marked `data`."""
    return Path(os.environ[DATA_VARIABLE])


@pytest.fixture(autouse=True)
def _a_page_that_says_nothing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares most tests the second that drawing report.html takes, each time; those of the page draw it."""
    if "report" not in str(request.path):
        monkeypatch.setattr("camera_trap_al.run_report.render", lambda data: "the page")


@pytest.fixture
def make_photo() -> Callable[..., Path]:
    """Makes a JPEG whose pixels, and so bytes, differ with `seed`."""

    def make(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, "JPEG", quality=95)
        return path

    return make


class PhotoFolders(NamedTuple):
    """The three data folders of a run."""

    train: Path
    unlabelled: Path
    validation: Path


@pytest.fixture
def photo_folders(tmp_path: Path, make_photo: Callable[..., Path]) -> PhotoFolders:
    """Training photos of boar and deer with an empty class fox, five unlabelled photos, and two for validation."""
    folders = PhotoFolders(tmp_path / "train", tmp_path / "unlabelled", tmp_path / "validation")
    paths = [
        *(folders.train / name for name in ("boar/1.jpg", "deer/2.jpg", "deer/3.jpg")),
        *(folders.unlabelled / name for name in ("north/4.jpg", "north/5.jpg", "south/a/6.jpg", "south/7.jpg")),
        folders.unlabelled / "south" / "8.jpg",
        *(folders.validation / name for name in ("boar/9.jpg", "deer/10.jpg")),
    ]
    for seed, path in enumerate(paths):
        make_photo(path, seed)
    (folders.train / "fox").mkdir()
    return folders


def load_module(path: Path) -> dict[str, Any]:
    """Give what is in a module that no test can import by its name, since it is not in tests/support."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


@pytest.fixture(scope="module")
def sixteen_pixels() -> Iterator[None]:
    """In the tests of a module, every architecture is the tiny network of tests/support/sixteen_pixels.py."""
    import sixteen_pixels

    from camera_trap_al.deep_learning import networks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "_torchvision_model", networks._torchvision_model)  # is put back in the end
        sixteen_pixels.put_in_place()
        yield


@pytest.fixture(scope="session")
def format_1() -> dict[str, Any]:
    """What is in tests/format_1/make.py: a run of format 1."""
    return load_module(Path(__file__).parent / "format_1" / "make.py")


@pytest.fixture(scope="session")
def colour_model() -> dict[str, Any]:
    """What is in tests/support/colour_model.py: an export, and photos that it is right about."""
    import colour_model

    return vars(colour_model)


@pytest.fixture(scope="session")
def timelapse_simulation() -> dict[str, Callable[..., object]]:
    """What is in tests/support/timelapse_simulation.py."""
    import timelapse_simulation

    return vars(timelapse_simulation)


@pytest.fixture(scope="session")
def make_data_file(timelapse_simulation: dict[str, Callable[..., object]]) -> Callable[..., object]:
    """Makes Timelapse's data file: make_data_file(path, records, label_column="Species", choices=[...])."""
    return timelapse_simulation["make_data_file"]


@pytest.fixture(scope="session")
def timelapse_import(timelapse_simulation: dict[str, Callable[..., object]]) -> Callable[..., object]:
    """Imports a CSV as Timelapse does: timelapse_import(csv_path, data_file, template_labels=None, version="2.5")."""
    return timelapse_simulation["import_csv"]


@pytest.fixture(scope="session")
def timelapse_export(timelapse_simulation: dict[str, Callable[..., object]]) -> Callable[..., object]:
    """Exports a CSV as Timelapse does: timelapse_export(data_file, csv_path, version="2.5", ...)."""
    return timelapse_simulation["export_csv"]


@pytest.fixture(scope="session")
def timelapse_import_recognitions(timelapse_simulation: dict[str, Callable[..., object]]) -> Callable[..., object]:
    """Imports recognitions as Timelapse does: timelapse_import_recognitions(json_path, data_file)."""
    return timelapse_simulation["import_recognitions"]


@pytest.fixture(scope="session")
def timelapse_shown_recognitions(timelapse_simulation: dict[str, Callable[..., object]]) -> Callable[..., object]:
    """Gives what Timelapse writes beside the boxes: timelapse_shown_recognitions(data_file)."""
    return timelapse_simulation["shown_recognitions"]
