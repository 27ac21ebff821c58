"""What a run would cost, said without a run."""

import argparse
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from expert_by_name import tiny_run, tiny_settings
from PIL import Image

from camera_trap_al import cli
from camera_trap_al.cli import run as cli_run
from camera_trap_al.dry_run import show_costs
from camera_trap_al.exceptions import CheckpointError, ConfigError

pytestmark = pytest.mark.usefixtures("sixteen_pixels")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(12):
        for shade, folder in enumerate(("train/deer", "train/fox", "unlabelled/site")):
            path = tmp_path / "photos" / folder / f"{number} {('deer', 'fox')[number % 2]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (20 * number, 50 * shade, 9 * number)).save(path)
    return tmp_path / "photos"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_it_says_what_a_run_says_first_and_leaves_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(tmp_path)
    show_costs(**tiny_settings(photos, tmp_path / "new" / "run"))
    said = capsys.readouterr().out
    assert f"Run folder   {tmp_path / 'new' / 'run'}\n" in said and "camera_trap_al_" not in said
    assert "Unlabelled   12 photos" in said and "Disk" in said and "first question" in said
    assert everything(tmp_path) == before and not (tmp_path / "new").exists()


def test_of_a_run_that_is_there_it_says_what_is_left_and_asks_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_run(photos, tmp_path / "run", stop_after=2)
    models = {path: content for path, content in everything(tmp_path / "run").items() if "export" in path}
    capsys.readouterr()
    show_costs(**tiny_settings(photos, tmp_path / "run"))
    assert "6 answers so far, 6 photos to go" in capsys.readouterr().out
    assert {path: content for path, content in everything(tmp_path / "run").items() if "export" in path} == models
    with closing(sqlite3.connect(tmp_path / "run" / "data" / "run.sqlite")) as db:
        assert db.execute("SELECT COUNT(*) FROM queries WHERE answered_at IS NOT NULL").fetchone() == (2,)


def test_a_run_that_is_there_stays_as_it_is(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_run(photos, tmp_path / "run", stop_after=1)
    Image.new("RGB", (20, 20), (7, 8, 9)).save(photos / "unlabelled" / "site" / "new fox.png")
    before = everything(tmp_path)
    show_costs(**tiny_settings(photos, tmp_path / "run"))
    assert "Unlabelled   13 photos" in capsys.readouterr().out
    assert everything(tmp_path) == before


def test_a_run_that_another_program_works_on_is_left_alone(photos: Path, tmp_path: Path) -> None:
    tiny_run(photos, tmp_path / "run", stop_after=1)
    program = (
        "import sys; from camera_trap_al.config import RunConfig; from camera_trap_al.run_store.store import RunStore\n"
        "with RunStore.open(RunConfig(output_dir=sys.argv[1])): print('open', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        with pytest.raises(CheckpointError, match="works on this run"):
            show_costs(**tiny_settings(photos, tmp_path / "run"))


def test_a_run_that_would_begin_anew_stays_where_it_is(photos: Path, tmp_path: Path) -> None:
    tiny_run(photos, tmp_path / "run", stop_after=1)
    before = everything(tmp_path)
    show_costs(**tiny_settings(photos, tmp_path / "run", use_checkpoints=False))
    assert everything(tmp_path) == before


def test_settings_are_checked_as_a_run_does(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="active_batch"):
        show_costs(**tiny_settings(photos, tmp_path / "run", active_batch=0))


def test_the_command_takes_its_settings_from_a_file_and_those_that_are_typed_count_more(
    photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "settings.toml").write_text(
        "train_data = 'photos/train'\nunlabelled_data = 'photos/unlabelled'\noutput_dir = 'run'\n"
        "use_pretrained = false\nembedding_arch = 'squeezenet1_1'\nfeat_dim = 8\nseed = 1\n",
        encoding="utf-8",
    )
    program = "from camera_trap_al.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", program, "run", "--settings", "settings.toml", "--dry-run"]
    ended = subprocess.run(
        [*command, "--output-dir", "elsewhere"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert ended.returncode == 0, ended.stderr
    assert "Unlabelled   12 photos" in ended.stdout and f"Run folder   {tmp_path / 'elsewhere'}" in ended.stdout
    assert not (tmp_path / "run").exists() and not (tmp_path / "elsewhere").exists()


def test_classes_that_are_typed_stand_in_the_place_of_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        "unlabelled_data = '.'\nclasses = ['Deer', 'Fox']\nclass_aliases = { roe = 'Deer' }\n", encoding="utf-8"
    )
    words = ["--settings", str(tmp_path / "settings.toml"), "--classes", "Wolf", "--class-aliases", "roe=Wolf"]
    parser = argparse.ArgumentParser()
    cli_run.add_options(parser, words)
    chosen = parser.parse_args(words)
    assert (chosen.classes, chosen.class_aliases) == (["Wolf"], {"roe": "Wolf"})
    chosen = parser.parse_args(words[:2])
    assert (chosen.classes, chosen.class_aliases) == (["Deer", "Fox"], {"roe": "Deer"})


def test_a_fault_of_the_file_ends_the_command_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "settings.toml").write_text("activ_batch = 5", encoding="utf-8")
    assert cli.main(["run", "--settings", str(tmp_path / "settings.toml")]) == 1
    assert "Is 'active_batch' meant?" in capsys.readouterr().err
