"""What a run would do and cost, without doing it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.network_problems import find_network_problems
from camera_trap_al.export.problems import find_export_problems
from camera_trap_al.labelling.dialogue import say
from camera_trap_al.logs import run_logging
from camera_trap_al.main_scripts import run_active_learning
from camera_trap_al.photos.folders import RUN_DATABASE
from camera_trap_al.run_store import writer
from camera_trap_al.run_store.rebuild import open_run
from camera_trap_al.run_store.run_folder import faults_told
from camera_trap_al.start_screen import start_screen

__all__ = ["show_costs"]

LINKED = ("embedding", "classifier", "cache")


def show_costs(**settings: Any) -> None:
    """Say what `run_active_learning` would do with these settings, and what that would cost; then stop.

    Nothing is left behind, and a run that is there stays as it is: a copy of it is started.

    Raises
    ------
    CameraTrapALError
        What the start of the run raises.
    """
    given = signature(run_active_learning).bind(**settings)
    given.apply_defaults()
    arguments = given.arguments
    config = RunConfig.from_arguments(
        arguments, also=[*find_network_problems(arguments), *find_export_problems(arguments)]
    )
    with run_logging(), _with_folder(config) as prepared, faults_told(prepared.run_dir), open_run(prepared) as store:
        env = ActiveLearningEnvironment.start(store)
        with closing(env.dataset.cache):
            screen = start_screen(env, store.folder)
    say(screen.replace(str(prepared.run_dir), str(config.run_dir)))


@contextmanager
def _with_folder(config: RunConfig) -> Iterator[RunConfig]:
    """Give the run a folder for now, on the disk where its own is or would be."""
    beside = next(folder for folder in config.run_dir.parents if folder.is_dir())
    with tempfile.TemporaryDirectory(prefix="camera_trap_al_", dir=beside) as folder:
        if config.use_checkpoints and (config.run_dir / RUN_DATABASE).exists():
            writer.check_free(config.run_dir)
            _copy(config.run_dir, Path(folder))
        yield replace(config, output_dir=Path(folder), rebuild=False)


def _copy(run: Path, folder: Path) -> None:
    """Copy what a start reads; large files, to which a run adds or in whose place it puts others, are linked."""
    files = [run / RUN_DATABASE, *(file for part in LINKED for file in (run / part).rglob("*") if file.is_file())]
    for file in files:
        target = folder / file.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            (shutil.copy2 if file.name == RUN_DATABASE.name else os.link)(file, target)
        except OSError:  # a drive that cannot link
            shutil.copy2(file, target)
