"""On a real Ray, in a process of its own: Ray stays in the process that started it, and has warnings of its own."""

import re
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

from camera_trap_al import predict
from camera_trap_al.exceptions import ConfigError

N_PHOTOS = 2600  # in eleven partitions, with the one that is broken

PROGRAM = """
    import logging, os, sys, threading, time
    import psutil, ray
    from pathlib import Path
    from camera_trap_al import predict

    export, photos, output, what = sys.argv[1:]
    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)

    def workers():
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                if "PartitionWorker" in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                pass
        return found

    def kill_one():
        while len(list(Path(output).glob("parts_*/*.parquet"))) < 3:  # two may be half written
            time.sleep(0.01)
        if what == "driver":  # and all that it started, as when the power goes
            for process in [*psutil.Process().children(recursive=True), psutil.Process()]:
                process.kill()
        workers()[0].kill()
        print("killed with", len(list(Path(output).glob("parts_*/*.parquet"))), "of 11 partitions done", flush=True)

    logging.getLogger("camera_trap_al").setLevel(logging.INFO)
    if what != "nobody":
        threading.Thread(target=kill_one, daemon=True).start()
    frame = predict(export, photos, output_dir=output, engine="ray")
    print("photos", len(frame), flush=True)
"""


@pytest.fixture(scope="module")
def many_photos(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for number in range(N_PHOTOS):
        path = folder / f"site_{number % 3}" / f"IMG_{number:04}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).save(path)
    (folder / "site_1" / "broken.jpg").write_bytes(b"no photo")
    return folder


def run(export, photos, output, what):
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), export, photos, output, what]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_rows_are_those_of_the_plain_engine_also_as_parquet(export, many_photos, tmp_path):
    plain = predict(export, many_photos, output_dir=tmp_path / "plain")
    ended = run(export, many_photos, tmp_path / "ray", "nobody")
    assert f"photos {N_PHOTOS}" in ended.stdout.splitlines(), ended.stderr
    for name in ("predictions.csv", "unreadable_images.csv"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "ray" / "predictions.parquet"), plain)
    assert not list((tmp_path / "ray").glob("parts_*"))


def test_a_worker_that_dies_loses_nothing(export, many_photos, tmp_path):
    ended = run(export, many_photos, tmp_path / "ray", "worker")
    assert re.search(r"killed with ([1-9]|10) of 11 partitions done", ended.stdout), ended.stdout
    assert f"photos {N_PHOTOS}" in ended.stdout.splitlines(), ended.stderr
    predict(export, many_photos, output_dir=tmp_path / "plain")
    same = "predictions.csv"
    assert (tmp_path / "ray" / same).read_bytes() == (tmp_path / "plain" / same).read_bytes()


def test_what_was_done_when_the_call_died_is_not_done_again(export, many_photos, tmp_path, caplog):
    assert run(export, many_photos, tmp_path / "out", "driver").returncode == -9
    assert list((tmp_path / "out").glob("parts_*/*.parquet"))
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    again = run(export, many_photos, tmp_path / "out", "nobody")
    assert f"photos {N_PHOTOS}" in again.stdout.splitlines(), again.stderr
    n_left = int(re.search(rf"Classifying (\d+) of {N_PHOTOS + 1} photos", again.stderr)[1])
    assert n_left in range(1, N_PHOTOS + 1 - 255)
    caplog.set_level("INFO")
    predict(export, many_photos, output_dir=tmp_path / "copy")  # another engine takes it as well
    assert f"Classifying {n_left} of {N_PHOTOS + 1} photos" in caplog.text
    assert not list((tmp_path / "copy").glob("parts_*"))


def test_a_folder_is_needed(export, photos):
    with pytest.raises(ConfigError, match="output_dir must be given"):
        predict(export, photos, engine="ray")


def test_ray_that_is_not_installed_is_told(export, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r'pip install "camera_trap_al\[ray\]"'):
        predict(export, photos, output_dir=tmp_path / "out", engine="ray")
