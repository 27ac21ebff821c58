"""What it costs to find bursts: grouping a million photos, and reading times against decoding.

    python benchmarks/sequences.py DATA

DATA holds `camera_trap_fullsize`. Reading the times is to take at most a tenth of decoding.
"""

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from camera_trap_al.parallel import mapped_ahead
from camera_trap_al.photos.images import read_photo
from camera_trap_al.photos.sequences import group_sequences, site_of
from camera_trap_al.photos.times import read_times

N_PHOTOS = 1_000_000
N_SITES = 500
LENGTH = 5  # photos of a burst
THREADS = 2
REPEATS = 5


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--photos", type=int, default=N_PHOTOS, help="how many are grouped")
    chosen = parser.parse_args()
    group(chosen.photos)
    read(sorted((chosen.data / "camera_trap_fullsize").glob("*.jpg")))


def group(n_photos: int) -> None:
    """Group made photos by time, and by name."""
    rng = np.random.default_rng(0)
    site_numbers = np.sort(rng.integers(N_SITES, size=n_photos))
    paths = [f"site {site:03}/100EK113/SEQ{row // LENGTH:07}_IMG{row:07}.jpg" for row, site in enumerate(site_numbers)]
    burst, place_in_burst = np.divmod(np.arange(n_photos), LENGTH)
    taken_at = 5 * 60_000.0 * burst + 2_000 * place_in_burst  # ms
    for name, pattern in (("by time", None), ("by name", "SEQ[0-9]+")):
        start = perf_counter()
        sites = [site_of(path) for path in paths]
        numbers = group_sequences(paths, sites, taken_at, pattern=pattern)
        print(f"grouping {n_photos:,} photos {name}: {perf_counter() - start:.1f} s, {numbers.max() + 1:,} bursts")


def read(photos: list[Path]) -> None:
    """Read the times of photos, and decode them, in turns."""
    seconds: dict[str, list[float]] = {"times": [], "decoding": []}
    for _ in range(REPEATS):
        start = perf_counter()
        list(read_times(photos, threads=THREADS))
        seconds["times"].append(perf_counter() - start)
        start = perf_counter()
        for _ in mapped_ahead(read_photo, photos, threads=THREADS, ahead=2 * THREADS):
            pass
        seconds["decoding"].append(perf_counter() - start)
    times, decoding = (median(seconds[name]) for name in ("times", "decoding"))
    told = f"{1000 * times / len(photos):.2f} ms against {1000 * decoding / len(photos):.1f} ms a photo"
    print(f"reading the times of {len(photos)} photos: {told}, {times / decoding:.3f} of decoding")


if __name__ == "__main__":
    main()
