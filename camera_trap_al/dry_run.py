"""What a run would do and cost, without doing it."""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.settings import find_problems
from camera_trap_al.export_problems import find_export_problems
from camera_trap_al.labelling.dialogue import say
from camera_trap_al.logs import run_logging
from camera_trap_al.main_scripts import run_active_learning
from camera_trap_al.run_folder import faults_told, has_results
from camera_trap_al.run_rebuild import open_run
from camera_trap_al.start_screen import start_screen

__all__ = ["show_costs"]


def show_costs(**settings: Any) -> None:
    """Say what `run_active_learning` would do with these settings, and what that would cost; then stop.

    A new run leaves nothing behind. One that is there is started as usual, without a question: photos that were added
    to its folders are taken in.

    Raises
    ------
    CameraTrapALError
        What the start of the run raises.
    """
    given = signature(run_active_learning).bind(**settings)
    given.apply_defaults()
    arguments = given.arguments
    config = RunConfig.from_arguments(arguments, also=[*find_problems(arguments), *find_export_problems(arguments)])
    with run_logging(), _with_folder(config) as prepared, faults_told(prepared.run_dir), open_run(prepared) as store:
        env = ActiveLearningEnvironment.start(store)
        with closing(env.dataset.cache):
            screen = start_screen(env, store.folder)
    say(screen.replace(str(prepared.run_dir), str(config.run_dir)))


@contextmanager
def _with_folder(config: RunConfig) -> Iterator[RunConfig]:
    """Give a new run a folder for now, on the disk where its own would be."""
    if config.use_checkpoints and has_results(config.run_dir):
        yield config
        return
    beside = next(folder for folder in config.run_dir.parents if folder.is_dir())
    with tempfile.TemporaryDirectory(prefix="camera_trap_al_", dir=beside) as folder:
        yield replace(config, output_dir=Path(folder))
