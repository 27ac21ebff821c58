"""From photo to embedding: how fast each part is beside a plain implementation of the same.

    python benchmarks/pipeline.py DATA                        # the whole table: about an hour on two cores
    python benchmarks/pipeline.py DATA --only decoding losses # some parts
    python benchmarks/pipeline.py DATA --device cuda          # loading and embedding on a GPU
    python benchmarks/pipeline.py DATA --quick                # small numbers, to see that it runs

DATA holds `camera_trap_fullsize`. What is compared runs in turn, several times; a figure is the median, a ratio the
median of the ratios of one turn, since the speed of a computer varies. The plain implementations are below. The losses
are also compared with pytorch-metric-learning where it is installed.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import permutations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import PIL
import simplejpeg
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_jpeg

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.batches import training_batches
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.losses import TripletLoss
from camera_trap_al.deep_learning.transforms import Normalisation, squeeze
from camera_trap_al.photos.images import read_photo

SIZE = (256, 256)
ONE_RUN = Path(__file__).with_name("pipeline_runs.py")
HEADER = "| what | measured | against | ratio | must be | holds |\n|---|---|---|---|---|---|"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything."""

    turns: int
    decoded: int
    embedded: int
    batch: int
    batches: int
    loss_turns: int
    pool: int
    registered: int


FULL = Sizes(
    turns=5, decoded=600, embedded=2000, batch=128, batches=2, loss_turns=20, pool=400_000, registered=1_000_000
)
QUICK = Sizes(turns=1, decoded=30, embedded=8, batch=4, batches=1, loss_turns=1, pool=60, registered=60)


def main() -> None:
    """Measure what the command line asks for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    sizes, device = (QUICK if chosen.quick else FULL), torch.device(chosen.device)
    print(_machine(device))
    photos = sorted((chosen.data / "camera_trap_fullsize").glob("*.jpg"))
    for name in chosen.only:
        print(f"\n{name}\n")
        for line in PARTS[name](photos, sizes, device):
            print(line, flush=True)


def _machine(device: torch.device) -> str:
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, "
        f"{torch.backends.cpu.get_cpu_capability()}{gpu}; Python {platform.python_version()}, "
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, Pillow {PIL.__version__}, "
        f"simplejpeg {version('simplejpeg')}"
    )


def seconds(do: Callable[[], Any]) -> float:
    """Time one call, with all that it leaves for a GPU to do."""
    start = time.perf_counter()
    do()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turn(turns: int, *ways: Callable[[], Any]) -> list[list[float]]:
    """Time several ways to do a thing in turn; give the seconds of each way, turn by turn."""
    taken = [[seconds(way) for way in ways] for _ in range(turns)]
    return [list(each) for each in zip(*taken, strict=True)]


def ratio(some: list[float], others: list[float]) -> float:
    """Give the median over turns of one way's seconds by another's."""
    return median(one / other for one, other in zip(some, others, strict=True))


def line(what: str, measured: str, against: str, value: float, must: float, *, at_most: bool = False) -> str:
    """Write a line of the table."""
    holds = value <= must if at_most else value >= must
    bound = f"{'<=' if at_most else '>='} {must:g}"
    return f"| {what} | {measured} | {against} | {value:.3g} | {bound} | {'yes' if holds else 'NO'} |"


# Decoding


def plain_decode(path: Path) -> np.ndarray:
    """Open, convert and resize, as everybody does at first."""
    with Image.open(path) as photo:
        return np.asarray(photo.convert("RGB").resize(SIZE, Image.Resampling.BILINEAR))


def _draft(path: Path, at_least: int) -> np.ndarray:
    with Image.open(path) as photo:
        photo.draft("RGB", (at_least, at_least))
        return np.asarray(photo.convert("RGB").resize(SIZE, Image.Resampling.BILINEAR))


def _simplejpeg(path: Path, at_least: int) -> np.ndarray:
    image = simplejpeg.decode_jpeg(path.read_bytes(), min_height=at_least, min_width=at_least, min_factor=1)
    return np.asarray(Image.fromarray(image).resize(SIZE, Image.Resampling.BILINEAR))


def _torchvision(path: Path) -> np.ndarray:
    image = decode_jpeg(torch.from_numpy(np.fromfile(path, np.uint8)), mode=ImageReadMode.RGB)
    return squeeze(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))


DECODERS: dict[str, Callable[[Path], np.ndarray]] = {
    "Pillow, full decode": plain_decode,
    "Pillow, draft of at least 256": lambda path: _draft(path, 256),
    "Pillow, draft of at least 512": lambda path: _draft(path, 512),
    "simplejpeg, at least 256": lambda path: _simplejpeg(path, 256),
    "simplejpeg, at least 384": lambda path: _simplejpeg(path, 384),
    "simplejpeg, at least 512": lambda path: _simplejpeg(path, 512),
    "torchvision.io, full decode, torch resize": _torchvision,
    "ours with Pillow's resize": read_photo,
    "ours: simplejpeg at 1/1 to 1/8, torch resize": lambda path: read_photo(path, squeeze),
}


def decoders(photos: list[Path], sizes: Sizes, device: torch.device) -> Iterator[str]:
    """Compare decoders on one thread: time, and difference from the full decode in levels of 255."""
    yield "| decoder, one thread | ms a photo | mean difference | largest | within 1.0 and 1.5 |\n|---|---|---|---|---|"
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    full = [plain_decode(path).astype(float) for path in photos]
    ways = [lambda decode=decode: [decode(path) for path in photos] for decode in DECODERS.values()]
    for (name, decode), taken in zip(DECODERS.items(), in_turn(sizes.turns, *ways), strict=True):
        differences = [np.abs(decode(path) - exact).mean() for path, exact in zip(photos, full, strict=True)]
        mean, largest = np.mean(differences), max(differences)
        within = "yes" if mean < 1 and largest < 1.5 else "NO"
        yield f"| {name} | {median(taken) / len(photos) * 1e3:.1f} | {mean:.2f} | {largest:.2f} | {within} |"
    torch.set_num_threads(torch_threads)


def _repeated(photos: list[Path], n: int, folder: Path) -> ExtendedImageFolder:
    """Make a data set of n links to the photos, decoded into a new cache file."""
    for number in range(n):
        link = folder / "photos" / f"class{number % 20}" / f"IMG_{number:06d}.jpg"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(photos[number % len(photos)].resolve())
    return ExtendedImageFolder.from_folders(folder / "photos", cache_dir=tempfile.mkdtemp(dir=folder))


def decoding(photos: list[Path], sizes: Sizes, device: torch.device) -> Iterator[str]:
    """Time the first pass over many photos, cache file and all."""
    yield HEADER
    with tempfile.TemporaryDirectory() as folder:
        n, taken = sizes.decoded, ([], [])
        for _ in range(sizes.turns):
            dataset = _repeated(photos, n, Path(folder))
            rows, paths = np.arange(n), [dataset.catalogue.path(row) for row in range(n)]
            taken[0].append(seconds(lambda paths=paths: [plain_decode(path) for path in paths]))
            taken[1].append(seconds(lambda dataset=dataset, rows=rows: dataset.cache.fill(rows)))
        yield line(
            f"first pass over {n} photos, {dataset.cache.threads} threads",
            f"{median(taken[1]):.1f} s",
            f"Pillow open, convert, resize, one thread: {median(taken[0]):.1f} s",
            ratio(*taken),
            5,
        )


# Loading and embedding


def _trainer(device: torch.device, batch: int) -> EmbeddingTrainer:
    config = RunConfig(use_pretrained=False, seed=1, device=str(device), extract_embedding_batch_size=batch)
    trainer = EmbeddingTrainer(config, 20, device)
    trainer.pixel_mean, trainer.pixel_std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return trainer


def _plain_net(device: torch.device) -> nn.Module:
    net = torchvision.models.resnet18(weights=None)
    net.fc = nn.Linear(512, 256)
    return net.to(device)


def loading(photos: list[Path], sizes: Sizes, device: torch.device) -> Iterator[str]:
    """Time an epoch's batches alone beside bare training steps."""
    yield HEADER
    batch, n_batches = sizes.batch, sizes.batches * (20 if device.type == "cuda" else 1)
    net = _plain_net(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(net.parameters())
    images = torch.randn(batch, 3, 224, 224, device=device).contiguous(memory_format=torch.channels_last)
    targets = torch.arange(batch, device=device) % 20
    loss, generator = TripletLoss("random", 1.0), torch.Generator(device).manual_seed(1)
    normalise = Normalisation(np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), device)

    def step(images: Tensor) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            embeddings = net(images)
        optimizer.zero_grad()
        loss(embeddings.float(), targets, generator).loss.backward()
        optimizer.step()

    def bare() -> None:
        for _ in range(n_batches):
            step(images)

    with tempfile.TemporaryDirectory() as folder:
        dataset = _repeated(photos, batch * n_batches, Path(folder))
        rows = np.arange(batch * n_batches)
        dataset.cache.fill(rows)

        def batches() -> Iterator[Tensor]:
            rng = np.random.default_rng(1)
            rows_of_batches = (rng.permutation(rows)[:batch].tolist() for _ in range(n_batches))
            for each in training_batches(dataset, rows_of_batches, rng, device):
                yield each.augmentation.apply(each.images.to(device, non_blocking=True), normalise)

        def load() -> None:
            for _ in batches():
                pass

        def whole() -> None:
            for loaded in batches():
                step(loaded)

        in_turn(1, bare, load)  # to warm up
        taken = in_turn(sizes.turns, bare, load, whole)
    per_batch = [median(each) / n_batches * 1e3 for each in taken]
    must = 0.10 if device.type == "cuda" else 0.05
    against = f"bare training step of resnet18: {per_batch[0]:.0f} ms"
    if device.type == "cpu":
        yield line(f"a batch of {batch}, augmented", f"{per_batch[1]:.0f} ms", against, ratio(taken[1], taken[0]), must,
                   at_most=True)  # fmt: skip
    yield line(
        f"what loading adds to a step, batch {batch}",
        f"{per_batch[2]:.0f} ms a step",
        against,
        ratio(taken[2], taken[0]) - 1,
        must,
        at_most=True,
    )


def embedding(photos: list[Path], sizes: Sizes, device: torch.device) -> Iterator[str]:
    """Time embedding cached photos beside bare forwards on random tensors."""
    yield HEADER
    n, batch = sizes.embedded * (5 if device.type == "cuda" else 1), 256
    trainer, net = _trainer(device, batch), _plain_net(device).eval()
    last = torch.channels_last

    def bare(dtype: torch.dtype, memory_format: torch.memory_format) -> Callable[[], None]:
        def forward() -> None:
            net.to(memory_format=memory_format)
            images = torch.randn(batch, 3, 224, 224, device=device).contiguous(memory_format=memory_format)
            with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                for start in range(0, n, batch):
                    net(images[: n - start])

        return forward

    with tempfile.TemporaryDirectory() as folder:
        dataset = _repeated(photos, n, Path(folder))
        rows = np.arange(n)
        dataset.cache.fill(rows)
        fp32, bf16 = (lambda: trainer.embed(dataset, rows)), (lambda: trainer.embed(dataset, rows, "bf16"))
        ways = {
            "ours": fp32,
            "bare": bare(torch.float32, last),
            "ours bf16": bf16,
            "bare bf16": bare(torch.bfloat16, last),
            "eager": bare(torch.float32, torch.contiguous_format),
        }
        torch.backends.cudnn.allow_tf32 = False  # as ours, which must agree with a CPU to four digits
        if device.type == "cuda":
            in_turn(1, *ways.values())  # to warm up
        taken = dict(zip(ways, in_turn(min(3, sizes.turns), *ways.values()), strict=True))
    told = {name: f"{median(each):.1f} s" for name, each in taken.items()}
    what, alone = f"embedding {n} cached photos, resnet18", "bare forward on random tensors, channels last"
    yield line(f"{what}, fp32", told["ours"], f"{alone}: {told['bare']}", ratio(taken["bare"], taken["ours"]), 0.93)
    yield line(
        f"{what}, bf16", told["ours bf16"], f"{alone}, bf16: {told['bare bf16']}",
        ratio(taken["bare bf16"], taken["ours bf16"]), 0.93,
    )  # fmt: skip
    if device.type == "cpu":
        eager = f"eager fp32 NCHW forward: {told['eager']}"
        yield line(f'{what}, "auto" on a CPU', told["ours"], eager, ratio(taken["eager"], taken["ours"]), 1.2)
        yield line(f'{what}, "bf16" on a CPU', told["ours bf16"], eager, ratio(taken["eager"], taken["ours bf16"]), 2)


# Losses


def triplet_loss_in_a_loop(
    embeddings: Tensor, targets: Tensor, margin: float, strategy: str, generator: torch.Generator
) -> Tensor:
    """Look at one anchor and positive after the other: the plain way to mine negatives."""
    distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    known, triplets = distances.detach(), []
    for class_id in targets.unique():
        negatives = (targets != class_id).nonzero().flatten()
        for anchor, positive in permutations((targets == class_id).nonzero().flatten().tolist(), 2):
            losses = known[anchor, positive] - known[anchor, negatives] + margin
            is_eligible = (losses > 0) & (losses < margin) if strategy == "semi_hard" else losses > 0
            eligible = is_eligible.nonzero().flatten()
            if len(eligible):
                drawn = torch.randint(len(eligible), (), generator=generator, device=generator.device)
                chosen = losses.argmax() if strategy == "hardest" else eligible[drawn]
                triplets.append((anchor, positive, int(negatives[chosen])))
    return _loss_of(distances, triplets, margin)


def triplet_loss_in_a_numpy_loop(
    embeddings: Tensor, targets: Tensor, margin: float, strategy: str, rng: np.random.Generator
) -> Tensor:
    """Do the same in numpy, whose small operations take less time than torch's; on a CPU only."""
    distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    known, classes, triplets = distances.detach().cpu().numpy(), targets.cpu().numpy(), []
    for class_id in np.unique(classes):
        negatives = np.flatnonzero(classes != class_id)
        for anchor, positive in permutations(np.flatnonzero(classes == class_id), 2):
            losses = known[anchor, positive] - known[anchor, negatives] + margin
            eligible = np.flatnonzero((losses > 0) & (losses < margin) if strategy == "semi_hard" else losses > 0)
            if len(eligible):
                chosen = losses.argmax() if strategy == "hardest" else rng.choice(eligible)
                triplets.append((anchor, positive, negatives[chosen]))
    return _loss_of(distances, triplets, margin)


def _loss_of(distances: Tensor, triplets: list[tuple[int, int, int]], margin: float) -> Tensor:
    anchors, positives, negatives = torch.tensor(np.array(triplets), device=distances.device).T
    return F.relu(distances[anchors, positives] - distances[anchors, negatives] + margin).mean()


def _peer(strategy: str) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Give the miner and loss of pytorch-metric-learning that look at the same triplets, or all of their kind."""
    try:
        from pytorch_metric_learning import losses, miners, reducers
    except ModuleNotFoundError:
        return None
    all_positives = {"pos_strategy": miners.BatchEasyHardMiner.ALL, "neg_strategy": miners.BatchEasyHardMiner.HARD}
    miner: Any = {
        "hardest": lambda: miners.BatchEasyHardMiner(**all_positives),
        "random": lambda: miners.TripletMarginMiner(margin=1.0, type_of_triplets="all"),
        "semi_hard": lambda: miners.TripletMarginMiner(margin=1.0, type_of_triplets="semihard"),
    }[strategy]()
    loss = losses.TripletMarginLoss(margin=1.0, reducer=reducers.AvgNonZeroReducer())
    return lambda embeddings, targets: loss(embeddings, targets, miner(embeddings, targets))


def triplet_losses(photos: list[Path], sizes: Sizes, device: torch.device) -> Iterator[str]:
    """Time forward and backward of the triplet loss: batch 200, 20 classes, 256 features."""
    yield HEADER
    generator = torch.Generator().manual_seed(1)
    targets = (torch.arange(200) % 20).to(device)
    centres = 0.1 * torch.randn(20, 256, generator=generator)
    values = (centres[targets.cpu()] + 0.1 * torch.randn(200, 256, generator=generator)).to(device)
    draws, rng = torch.Generator(device).manual_seed(1), np.random.default_rng(1)
    for strategy, must in (("hardest", 20), ("random", 8), ("semi_hard", 8)):
        ours, peer = TripletLoss(strategy, 1.0), _peer(strategy)
        losses: dict[str, Callable[[Tensor], Tensor]] = {
            "ours": lambda x, ours=ours: ours(x, targets, draws).loss,
            "loop": lambda x, strategy=strategy: triplet_loss_in_a_loop(x, targets, 1.0, strategy, draws),
            "numpy": lambda x, strategy=strategy: triplet_loss_in_a_numpy_loop(x, targets, 1.0, strategy, rng),
        }
        if peer:
            losses["peer"] = lambda x, peer=peer: peer(x, targets)
        ways = {name: _forward_and_backward(loss, values) for name, loss in losses.items()}
        results = {name: way() for name, way in ways.items()}
        if abs(results["ours"] - results["loop"]) > (1e-4 if strategy == "hardest" else 0.05):
            raise SystemExit(f"{strategy}: the losses are {results}, not the same")
        taken = dict(zip(ways, in_turn(sizes.loss_turns, *ways.values()), strict=True))
        told = {name: f"{median(each) * 1e3:.2f} ms" for name, each in taken.items()}
        what = f"triplet loss, {strategy}, forward and backward"
        yield line(
            what,
            told["ours"],
            f"loop over anchor-positive pairs: {told['loop']}",
            ratio(taken["loop"], taken["ours"]),
            must,
        )
        in_numpy = ratio(taken["numpy"], taken["ours"])
        yield f"| {what} | {told['ours']} | the same loop in numpy: {told['numpy']} | {in_numpy:.3g} | - | - |"
        if peer:
            name = f"pytorch-metric-learning {version('pytorch-metric-learning')}: {told['peer']}"
            yield line(what, told["ours"], name, ratio(taken["ours"], taken["peer"]), 1.2, at_most=True)


def _forward_and_backward(loss_of: Callable[[Tensor], Tensor], values: Tensor) -> Callable[[], float]:
    def step() -> float:
        embeddings = values.clone().requires_grad_()
        loss = loss_of(embeddings)
        loss.backward()
        return float(loss.detach())

    return step


# Whole runs, each in a process of its own


def _run_alone(*arguments: object) -> dict[str, float]:
    command = [sys.executable, str(ONE_RUN), *map(str, arguments)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures = (part.split("=") for part in answer.stdout.splitlines()[-1].split())
    return {name: float(value) for name, value in figures}


def first_question(photos: list[Path], sizes: Sizes, device: torch.device) -> Iterator[str]:
    """Time a run from its start to its first question, with a large pool of full-size photos."""
    yield HEADER
    with tempfile.TemporaryDirectory() as folder:
        found = _run_alone("question", photos[0].parent, folder, sizes.pool, device)
    what = f"first question on {sizes.pool:,} photos, resnet18 (peak {found['peak_gb']:.1f} GB)"
    yield line(what, f"{found['seconds'] / 60:.1f} min", "20 min", found["seconds"] / 1200, 1, at_most=True)


def start(photos: list[Path], sizes: Sizes, device: torch.device) -> Iterator[str]:
    """Time the start of a run whose photos are registered, up to the first decoding."""
    yield HEADER
    with tempfile.TemporaryDirectory() as folder:
        _run_alone("start", photos[0].parent, folder, sizes.registered, device)  # makes the photos, registers them
        taken = [_run_alone("start", photos[0].parent, folder, sizes.registered, device) for _ in range(3)]
    spent, peak = (median(each[name] for each in taken) for name in ("seconds", "peak_gb"))
    what = f"starting a run on {sizes.registered:,} registered photos"
    yield line(what, f"{spent:.1f} s", "20 s", spent / 20, 1, at_most=True)
    yield line(f"{what}: peak memory", f"{peak:.2f} GB", "2 GB", peak / 2, 1, at_most=True)


PARTS: dict[str, Callable[[list[Path], Sizes, torch.device], Iterator[str]]] = {
    "decoders": decoders,
    "decoding": decoding,
    "loading": loading,
    "embedding": embedding,
    "losses": triplet_losses,
    "first-question": first_question,
    "start": start,
}


if __name__ == "__main__":
    main()
