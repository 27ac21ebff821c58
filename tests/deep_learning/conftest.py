from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedder import Embedder


class MeanColours(Embedder):
    """A network whose embedding of a photo is its mean colours, a little off in bf16; it keeps what it embedded."""

    def __init__(self, batch_size=1000):
        self.batch_size, self.embedded = batch_size, []

    def fit(self, dataset, rows, stage, rng):
        raise AssertionError("nothing is to be trained here")

    def digest(self):
        return "colours"

    def embed_batches(self, dataset, rows, precision="fp32"):
        for start in range(0, len(rows), self.batch_size):
            some = rows[start : start + self.batch_size]
            images, is_read = dataset.cache.read(some)
            colours = np.full((len(some), 3), np.nan, np.float32)
            colours[is_read] = images.mean(axis=(1, 2)) + (0 if precision == "fp32" else 0.25)
            self.embedded += some.tolist()
            yield colours


@pytest.fixture(autouse=True)
def _the_same_weights_whatever_ran_before():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def mean_colours():
    """The class of that network."""
    return MeanColours


COLOURS = {"badger": (60, 60, 60), "deer": (170, 110, 50), "fox": (200, 60, 20)}
N_TRAIN = {"badger": 4, "deer": 3, "fox": 2}


def write_photo(path: Path, colour: tuple[int, int, int], rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = rng.integers(-40, 41, (24, 32, 3))
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)


def write_photos(folder: Path) -> Path:
    """9 training photos of three classes and an empty class folder, 6 unlabelled ones, 3 for validation."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for number in range(N_TRAIN[name]):
            write_photo(folder / "train" / name / f"t{number}.png", colour, rng)
        for number in range(2):
            write_photo(folder / "unlabelled" / f"site{number}" / f"u_{name}.png", colour, rng)
        write_photo(folder / "validation" / name / "v.png", colour, rng)
    (folder / "train" / "wolf").mkdir()
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Folder with the three data sets, the same for all tests: nobody may change it."""
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def own_photos(tmp_path):
    """The same photos for one test alone, which may change them."""
    return write_photos(tmp_path / "photos")


@pytest.fixture(scope="session")
def decoded(photos, tmp_path_factory):
    """Folder where the decoded photos are kept for all tests."""
    return tmp_path_factory.mktemp("decoded")


@pytest.fixture
def dataset(photos, decoded):
    """Rows 0 to 8 for training, 9 to 14 unlabelled, 15 to 17 for validation; classes badger, deer, fox, wolf."""
    folders = (photos / name for name in ("train", "unlabelled", "validation"))
    return ExtendedImageFolder.from_folders(*folders, num_workers=1, cache_dir=decoded)


@pytest.fixture
def small_config():
    """Function that makes the settings of a small quick network, changed as its arguments say."""

    def make(**changes):
        small = {
            "embedding_arch": "shufflenet_v2_x0_5",
            "feat_dim": 8,
            "use_pretrained": False,
            "seed": 1,
            "device": "cpu",
            "num_workers": 1,
            "embedding_train_num_epochs": 1,
            "embedding_train_lr": 0.001,
            "embedding_finetuning_num_epochs": 1,
        }
        return RunConfig(**(small | changes))

    return make


@pytest.fixture
def cpu():
    return torch.device("cpu")
