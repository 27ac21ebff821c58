import logging
import re
import subprocess
import sys

import pytest

from camera_trap_al.logs import only_warnings_of, run_logging, stage

RECIPE = """
import logging
{configure}
from camera_trap_al.logs import only_warnings_of, run_logging, stage
with run_logging():
    with stage(logging.getLogger("camera_trap_al.some.module"), "Reading 3 photos"):
        pass
with stage(logging.getLogger("camera_trap_al.some.module"), "after the run"):
    pass
"""


def shown_by(configure: str) -> str:
    """What a fresh Python writes: pytest's own handlers would hide what an unconfigured program shows."""
    command = [sys.executable, "-W", "error", "-c", RECIPE.format(configure=configure)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout == ""
    return finished.stderr


def test_the_recipe_of_the_specification_alone_shows_a_stage_and_its_seconds_during_a_run():
    lines = shown_by("logging.getLogger().setLevel(logging.INFO)").splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO Reading 3 photos \.\.\.", lines[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO Reading 3 photos: done in \d+\.\d s", lines[1])


def test_without_the_recipe_no_info_line_is_shown():
    assert shown_by("") == ""


def test_a_program_that_configures_logging_gets_each_line_once_in_its_own_form():
    shown = shown_by("logging.basicConfig(level=logging.INFO, format='mine %(message)s')")
    assert shown.count("mine ") == len(shown.splitlines()) == 4


def test_a_stage_that_fails_is_not_reported_as_done(caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(KeyError), stage(logging.getLogger("camera_trap_al.x"), "Trying"):
        raise KeyError
    assert caplog.messages == ["Trying ..."]


def test_the_handler_goes_when_the_run_fails(monkeypatch):
    package = logging.getLogger("camera_trap_al")
    monkeypatch.setattr(package, "propagate", False)  # else pytest's handlers count as the program's
    with pytest.raises(KeyError), run_logging():
        assert len(package.handlers) == 1
        raise KeyError
    assert package.handlers == []


def test_a_library_that_tells_each_step_is_heard_only_when_it_warns(caplog):
    library, part = logging.getLogger("talkative"), logging.getLogger("talkative.part")
    library.setLevel(logging.INFO)
    caplog.set_level(logging.INFO)
    with only_warnings_of("talkative"):
        part.info("I begin")
        part.warning("this may be wrong")
    part.info("again as before")
    assert caplog.messages == ["this may be wrong", "again as before"]


def test_a_library_that_was_to_be_quieter_still_stays_so(caplog):
    logging.getLogger("quiet").setLevel(logging.ERROR)
    with only_warnings_of("quiet"), pytest.raises(KeyError), only_warnings_of("quiet"):
        logging.getLogger("quiet").warning("nobody wants to know")
        raise KeyError
    assert caplog.messages == [] and logging.getLogger("quiet").level == logging.ERROR
