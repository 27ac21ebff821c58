import argparse
import csv
import inspect
import json
import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest

import camera_trap_al
from camera_trap_al import RunResult, cli, demo
from camera_trap_al.cli import run as cli_run
from camera_trap_al.config import RunConfig
from camera_trap_al.exceptions import CheckpointError, ConfigError, DataError
from camera_trap_al.labelling import LabelsNeeded
from camera_trap_al.labelling.dialogue import told_at_interrupt

COMMANDS = ["demo", "run", "predict", "simulate", "doctor"]


@pytest.fixture(autouse=True)
def what_is_logged_elsewhere():
    """The command shows more of the log, for as long as its process lives; other tests are in the same one."""
    logger = logging.getLogger("camera_trap_al")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def demo_that(monkeypatch):
    """Function that puts another function in the place of the demo, which takes a minute."""

    def replace(run_demo):
        monkeypatch.setattr(demo, "run_demo", run_demo)

    return replace


def failing_with(error):
    def run_demo(folder, *, seed):
        raise error

    return run_demo


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(command in said for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: camera-trap-al {command}")
    assert "default:" in said  # the options say what they do and are if left out


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"camera_trap_al {camera_trap_al.__version__}\n"


def test_it_runs_as_a_module_where_the_terminal_does_not_know_the_command():
    command = [sys.executable, "-m", "camera_trap_al", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == f"camera_trap_al {camera_trap_al.__version__}\n"


@pytest.mark.parametrize("arguments", [["dmeo"], ["demo", "--seed", "one"], ["demo", "--sed", "1"]])
def test_wrong_usage_exits_with_2_and_says_how_it_is_used(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: camera-trap-al")


def test_demo_gets_the_folder_and_the_seed(demo_that, monkeypatch, tmp_path):
    called_with = []
    demo_that(lambda folder, *, seed: called_with.append((folder, seed)))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["demo", "--folder", "here", "--seed", "7"]) == 0
    assert cli.main(["demo"]) == 0
    assert called_with == [(tmp_path / "here", 7), (tmp_path / "camera-trap-al-demo", 1)]


def test_arguments_are_those_of_the_command_line_if_none_are_given(demo_that, monkeypatch, tmp_path):
    called_with = []
    demo_that(lambda folder, *, seed: called_with.append(folder))
    monkeypatch.setattr(sys, "argv", ["camera-trap-al", "demo", "--folder", str(tmp_path)])
    assert cli.main() == 0
    assert called_with == [tmp_path]


@pytest.mark.parametrize("error", [DataError("no photo in it"), OSError(28, "No space left on device")])
def test_error_exits_with_1_and_a_message(demo_that, capsys, error):
    demo_that(failing_with(error))
    assert cli.main(["demo"]) == 1
    assert capsys.readouterr() == ("", f"camera-trap-al: {error}\n")


def test_fault_in_the_program_is_not_hidden(demo_that):
    demo_that(failing_with(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["demo"])


def test_ctrl_c_exits_with_130_and_says_that_the_run_can_go_on(demo_that, capsys):
    demo_that(failing_with(KeyboardInterrupt()))
    assert cli.main(["demo"]) == 130
    assert "goes on where it stopped" in capsys.readouterr().err


def test_installed_command_explains_an_error_without_a_traceback(tmp_path):
    """The real command in a process of its own, on a folder that cannot be one."""
    (tmp_path / "file").write_text("not a folder")
    program = Path(sys.executable).with_name("camera-trap-al")
    command = [program, "demo", "--folder", tmp_path / "file" / "demo"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("camera-trap-al: ") and str(tmp_path / "file") in ended.stderr
    assert "Traceback" not in ended.stderr


def test_template_has_help(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["template", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: camera-trap-al template")
    assert all(option in said for option in ("UNLABELLED_FOLDER", "--train-data", "--classes", "--add", "--column"))


def choices_in(template: Path, column: str = "Species") -> list[str]:
    with closing(sqlite3.connect(template)) as db:
        ((text,),) = db.execute("SELECT List FROM TemplateTable WHERE DataLabel = ?", (column,)).fetchall()
    return json.loads(text)["ChoiceListNonEmpty"]


def test_template_takes_its_classes_from_the_training_folder(capsys, tmp_path, monkeypatch):
    for name in ("fox", "deer", "Backups", ".hidden"):
        (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "train" / "note.txt").touch()
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["template", "photos", "--train-data", "train", "--column", "Art"]) == 0
    made = tmp_path / "photos" / "TimelapseTemplate.tdb"
    # The folders that the run takes as classes, sorted: neither those of Timelapse nor hidden ones.
    assert choices_in(made, "Art") == ["deer", "fox", "skip", "unusable"]
    said = capsys.readouterr().out
    assert str(made) in said and "Load template" in said


def test_template_adds_named_classes_and_says_where_the_old_file_is(capsys, tmp_path):
    assert cli.main(["template", str(tmp_path), "--classes", "wolf", "roe deer"]) == 0
    capsys.readouterr()
    assert cli.main(["template", str(tmp_path), "--classes", "lynx", "wolf", "--add"]) == 0
    said = capsys.readouterr().out
    assert choices_in(tmp_path / "TimelapseTemplate.tdb") == ["wolf", "roe deer", "lynx", "skip", "unusable"]
    (backup,) = (tmp_path / "Backups").iterdir()
    assert "lynx" in said and str(backup) in said


def test_template_explains_why_it_leaves_a_template_alone(capsys, tmp_path):
    (tmp_path / "Mine.tdb").touch()
    assert cli.main(["template", str(tmp_path), "--classes", "wolf"]) == 1
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith(f"camera-trap-al: {tmp_path / 'Mine.tdb'}: ") and "--add" in said.err


@pytest.mark.parametrize("arguments", [[], ["--classes"], ["--classes", "fox", "--train-data", "train"]])
def test_template_needs_classes_from_one_place(capsys, tmp_path, arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["template", str(tmp_path), *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: camera-trap-al template")
    assert not [*tmp_path.iterdir()]


PROGRAM = "import sys; from camera_trap_al.cli import main; sys.exit(main())"
SMALL_RUN = [
    *("--no-use-pretrained", "--embedding-arch", "shufflenet_v2_x0_5", "--feat-dim", "8"),
    *("--embedding-train-num-epochs", "0", "--active-batch", "1", "--max-labels", "1", "--seed", "1"),
]
PROMPT = "Press enter when you have placed the labels in the labels bin"


@pytest.fixture
def run_that(monkeypatch):
    """Function that puts another function in the place of `run_active_learning`."""
    return lambda function: monkeypatch.setattr(cli_run, "run_active_learning", function)


@pytest.fixture
def settings_of(run_that):
    """Function that gives the settings that the run is called with."""

    def settings_of(*words):
        called_with = []
        run_that(lambda **settings: called_with.append(settings) or RunResult(0, 0, (), Path("export"), "test"))
        assert cli.main(["run", "--unlabelled-data", "photos", *words]) == 0
        (settings,) = called_with
        return settings

    return settings_of


def raising(error):
    def run_active_learning(**settings):
        raise error

    return run_active_learning


def start(*words, **pipes):
    """The command in a process of its own, from the package that is tested here."""
    environment = os.environ | {"PYTHONPATH": str(Path(camera_trap_al.__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, words)], text=True, env=environment, **pipes)


def run_to_its_end(*words):
    """Exit status, what was said, and what was logged."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(*words, **pipes) as process:
        said, logged = process.communicate()
    return process.returncode, said, logged


def words_for(photo_folders, output_dir):
    return [
        *("run", "--train-data", photo_folders.train, "--unlabelled-data", photo_folders.unlabelled),
        *("--output-dir", output_dir, *SMALL_RUN),
    ]


def write_labels(path, photos):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("File", "RelativePath", "Species"))
        writer.writerows((photo.name, photo.parent, "deer") for photo in photos)


def photos_asked_about(run_dir):
    with (run_dir / "timelapse_selector.csv").open(newline="", encoding="utf-8") as file:
        return [Path(row["RelativePath"], row["File"]) for row in csv.DictReader(file) if row["Selected"] == "true"]


def options_of_run():
    """The options that settings have, by the name of the setting."""
    parser = argparse.ArgumentParser(add_help=False)
    cli_run.add_options(parser)
    return {option.dest: option for option in parser._actions if option.dest not in ("dry_run", "settings")}


NOT_TYPED = {"stop_when"}  # a function


def test_every_setting_has_an_option_of_its_name():
    options = options_of_run()
    assert options.keys() == {field.name for field in fields(RunConfig)} - NOT_TYPED
    for name, option in options.items():
        typed = "--" + name.replace("_", "-")
        is_yes_or_no = isinstance(getattr(RunConfig(), name), bool)
        assert option.option_strings == ([typed, typed.replace("--", "--no-", 1)] if is_yes_or_no else [typed])


def test_a_setting_that_is_not_typed_has_its_default(settings_of):
    defaults = {field.name: field.default for field in fields(RunConfig) if field.name not in NOT_TYPED}
    assert settings_of() == defaults | {"unlabelled_data": "photos"}


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--train-data", "known photos"], "train_data", "known photos"),
        (["--train-data", "none"], "train_data", None),
        (["--output-dir", "~/run"], "output_dir", "~/run"),
        (["--active-batch", "7"], "active_batch", 7),
        (["--max-labels", "7"], "max_labels", 7),
        (["--candidate-pool", "none"], "candidate_pool", None),
        (["--candidate-pool", "None"], "candidate_pool", None),
        (["--embedding-train-lr", "1e-3"], "embedding_train_lr", 0.001),
        (["--image-cache-gb", "2"], "image_cache_gb", 2.0),
        (["--no-validate-model"], "validate_model", False),
        (["--validate-model"], "validate_model", True),
        (["--active-learning-strategy", "entropy"], "active_learning_strategy", "entropy"),
        (["--device", "cuda:0"], "device", "cuda:0"),
        (["--label-source", "watch"], "label_source", "watch"),
        (["--classifier", "mlp_fast"], "classifier", "mlp_fast"),
        (["--audit-fraction", "0.1"], "audit_fraction", 0.1),
        (["--target-accuracy", "0.9"], "target_accuracy", 0.9),
        (["--target-accuracy", "none"], "target_accuracy", None),
        (["--class-weight", "balanced"], "class_weight", "balanced"),
        (["--class-weight", "none"], "class_weight", None),
        (["--label-source", "none"], "label_source", None),
        (["--freeze-batchnorm", "true"], "freeze_batchnorm", True),
        (["--freeze-batchnorm", "False"], "freeze_batchnorm", False),
        (["--freeze-batchnorm", "auto"], "freeze_batchnorm", "auto"),
        (["--classes", "none", "roe deer"], "classes", ["none", "roe deer"]),
        (["--classes", "fox", "--classes", "deer", "boar"], "classes", ["fox", "deer", "boar"]),
        (["--class-aliases", "Reh=roe deer", " F = fox "], "class_aliases", {"Reh": "roe deer", "F": "fox"}),
        (["--class-aliases", "a=fox", "--class-aliases", "b=fox"], "class_aliases", {"a": "fox", "b": "fox"}),
        (["--classifier-params", '{"alpha": 0.1}'], "classifier_params", {"alpha": 0.1}),
    ],
)
def test_a_setting_arrives_as_it_was_typed_and_no_other_changes(settings_of, words, name, value):
    settings = settings_of(*words)
    assert settings[name] == value and type(settings[name]) is type(value)
    assert settings == settings_of() | {name: value}


@pytest.mark.parametrize(
    ("words", "explained"),
    [
        (["--active-batch", "ten"], "--active-batch: must be a whole number such as 100; got 'ten'"),
        (["--active-batch", "none"], "--active-batch: must be a whole number such as 100; got 'none'"),
        (["--candidate-pool", "20,000"], "--candidate-pool: must be a whole number such as 100, or none; got '20,000'"),
        (["--embedding-train-lr", "0,1"], "--embedding-train-lr: must be a number such as 0.001; got '0,1'"),
        (["--class-aliases", "fox"], "--class-aliases: must be WORD=CLASS such as \"Roe deer=Roe_Deer\"; got 'fox'"),
        (["--class-aliases", "=fox"], "got '=fox'"),
        (["--class-aliases", "F=fox", "F=fish"], "'F' can mean one class, not 'fox' and 'fish'"),
        (["--classifier-params", "alpha"], '--classifier-params: must be JSON such as {"alpha": 0.1}, or none'),
        (["--classifier-params", "[1]"], "got '[1]'"),
        (["--active-bach", "5"], "--active-bach"),
        (["--active-bat", "5"], "--active-bat"),  # an abbreviation today may mean two settings tomorrow
        (["--classes"], "--classes"),
    ],
)
def test_what_cannot_be_read_is_wrong_usage(run_that, capsys, words, explained):
    run_that(raising(AssertionError("nothing runs")))
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--unlabelled-data", "photos", *words])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: camera-trap-al") and len(said.splitlines()) == 2
    assert explained in said


def test_photos_to_choose_from_are_needed(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--train-data", "photos"])
    assert ended.value.code == 2
    assert "--unlabelled-data" in capsys.readouterr().err.splitlines()[-1]


def test_every_option_is_described_for_a_command_line():
    for name, option in options_of_run().items():
        described, _, default = option.help.rpartition(" (")
        assert described and default.startswith("must be given" if name == "unlabelled_data" else "default: ")
        assert "`" not in option.help and "object" not in option.help and "function" not in option.help
    helps = {name: option.help for name, option in options_of_run().items()}
    assert helps["unlabelled_data"].startswith("Folder of the photos to choose from")
    assert helps["train_data"].endswith("May be None with --initial-labels. (default: none)")
    assert helps["embedding_train_lr"].endswith("(default: 0.00001)")
    assert helps["finetuning_gate"].endswith("(default: yes)")
    assert '"Roe deer=Roe_Deer"' in helps["class_aliases"]


def test_help_of_run_shows_every_option(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    said = capsys.readouterr().out
    assert all(f"\n  {option.option_strings[0]}" in said for option in options_of_run().values())
    assert " ".join(said.split()).count("(default: ") == len(options_of_run()) - 1


def test_options_need_no_docstrings(monkeypatch):
    monkeypatch.setattr(cli_run.run_active_learning, "__doc__", None)  # as python -OO has it
    assert options_of_run()["active_batch"].help == "(default: 100)"


def test_a_setting_of_a_later_version_has_an_option_by_itself(monkeypatch):
    def later(refit: str | None = None, rebuild: bool = False, share: float | None = 50.0):
        """Do what a later version does."""

    monkeypatch.setattr(cli_run, "SETTINGS", inspect.signature(later).parameters)
    parser = argparse.ArgumentParser()
    cli_run.add_options(parser)
    besides = {"dry_run": False, "settings": None}
    assert vars(parser.parse_args([])) == {"refit": None, "rebuild": False, "share": 50.0} | besides
    typed = parser.parse_args(["--refit", "all", "--rebuild", "--share", "none"])
    assert vars(typed) == {"refit": "all", "rebuild": True, "share": None} | besides


def test_no_other_command_imports_torch():
    for words in (["--help"], ["demo", "--help"], ["predict", "--help"], ["template", "--help"]):
        program = f"""
import sys
from camera_trap_al.cli import main
try:
    main({words})
except SystemExit:
    print("torch" in sys.modules)
"""
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert said.splitlines()[-1] == "False"


def test_every_bad_setting_is_told_by_the_name_that_was_typed(capsys, tmp_path):
    bad = ["--active-batch", "0", "--seed", "-1", "--embedding-loss-data-strategy", "hard_pair"]
    assert cli.main(["run", "--unlabelled-data", str(tmp_path / "max_labels is"), *bad]) == 1
    first, *problems = capsys.readouterr().err.splitlines()
    assert first == "camera-trap-al: 5 settings cannot be used:"
    assert problems[0].startswith("  - --train-data must be the path of a folder that exists; got None.")
    assert problems[0].endswith("give --initial-labels.")
    assert problems[1].startswith("  - --unlabelled-data must be") and "max_labels is'." in problems[1]
    assert problems[2].startswith("  - --active-batch must be a whole number of at least 1; got 0.")
    assert problems[3].startswith("  - --seed must be a whole number of at least 0")
    assert "--embedding-loss-type 'siamese'" in problems[4]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("classes must be a list", "--classes must be a list"),
        ("device='x' cannot be used here", "--device 'x' cannot be used here"),
        ("Name it in classes=[...] too", "Name it in --classes [...] too"),
        ("The classes differ. Give the seed.", "The classes differ. Give the seed."),
        ("use_checkpoints=False or another output_dir.", "--no-use-checkpoints or another --output-dir."),
        ("Set use_pretrained=True", "Set --use-pretrained"),
        ("max_labels_given is no setting", "max_labels_given is no setting"),
        ("the run's output_dir and '/a max_labels b'", "the run's --output-dir and '/a max_labels b'"),
        ("/photos/train_data: no photo in /train_data/a", "/photos/train_data: no photo in /train_data/a"),
        ("classes.csv cannot answer", "classes.csv cannot answer"),
        (r"D:\train_data\a: no photo", r"D:\train_data\a: no photo"),
    ],
)
def test_settings_are_named_as_they_are_typed_and_paths_stay(message, said):
    assert cli_run._options().named_as_typed(message) == said


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("max_labels must be more"),
        DataError("max_labels must be more"),
        CheckpointError("max_labels must be more", Path("run")),
    ],
)
def test_error_of_a_run_exits_with_1(run_that, capsys, error):
    run_that(raising(error))
    assert cli.main(["run", "--unlabelled-data", "photos"]) == 1
    assert capsys.readouterr() == ("", "camera-trap-al: --max-labels must be more\n")


def test_full_disk_during_a_run_exits_with_1(run_that, capsys):
    run_that(raising(OSError(28, "No space left on device")))
    assert cli.main(["run", "--unlabelled-data", "photos"]) == 1
    assert capsys.readouterr().err == "camera-trap-al: [Errno 28] No space left on device\n"


def test_ctrl_c_in_a_run_exits_with_130(run_that, capsys):
    run_that(raising(KeyboardInterrupt()))
    assert cli.main(["run", "--unlabelled-data", "photos"]) == 130
    assert "The same command goes on where it stopped" in capsys.readouterr().err


def test_ctrl_c_that_a_run_has_told_about_is_not_told_twice(run_that, capsys):
    def interrupted(**settings):
        with told_at_interrupt("Interrupted."):
            raise KeyboardInterrupt

    run_that(interrupted)
    assert cli.main(["run", "--unlabelled-data", "photos"]) == 130
    assert "nterrupted" in (said := capsys.readouterr()).out and not said.err


def test_the_name_alone_shows_what_there_is(capsys):
    assert cli.main([]) == 2
    said = capsys.readouterr().err
    assert all(f"    {command} " in said for command in COMMANDS)


def test_python_knows_the_command_where_the_terminal_does_not():
    words = [sys.executable, "-m", "camera_trap_al", "--version"]
    assert camera_trap_al.__version__ in subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_ctrl_c_while_torch_is_imported_leaves_no_traceback(monkeypatch, capsys):
    def interrupted(parser, words):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_run, "add_options", interrupted)
    assert cli.main(["run"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_needed_labels_get_through_with_their_exit_status(run_that):
    run_that(raising(LabelsNeeded()))
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--unlabelled-data", "photos"])
    assert ended.value.code == 3


def test_the_end_is_told_without_a_curve_where_nothing_was_validated(run_that, capsys):
    run_that(lambda **settings: RunResult(12, 3, (), Path("here", "export"), "the expert stopped"))
    assert cli.main(["run", "--unlabelled-data", "photos"]) == 0
    report, ended = capsys.readouterr().out.splitlines()
    assert str(Path("here", "report.html")) in report
    assert ended == f"Labels given: 12. The trained model: {Path('here', 'export')}"


def test_run_with_known_labels_shows_its_stages_and_the_learning_curve(photo_folders, tmp_path):
    """The command in a process of its own, from photos to the model."""
    truth = tmp_path / "truth.csv"
    photos = [path.relative_to(photo_folders.unlabelled) for path in photo_folders.unlabelled.rglob("*.jpg")]
    write_labels(truth, photos)
    also = ["--label-source", truth, "--validation-data", photo_folders.validation]
    status, said, logged = run_to_its_end(*words_for(photo_folders, tmp_path / "run"), *also)
    assert status == 0
    *_, header, untrained, trained, _, _, end = said.splitlines()
    assert header.split() == ["labels", "accuracy", "macro", "F1"]
    assert untrained.split()[0] == "3" and trained.split()[0] == "4"
    assert end == f"Labels given: 1. The trained model: {tmp_path / 'run' / 'export'}"
    assert (tmp_path / "run" / "export" / "classifier.onnx").exists()
    assert " INFO Validation with 4 labels: " in logged


def test_run_asks_at_the_prompt(photo_folders, tmp_path):
    run_dir = tmp_path / "run"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with start(*words_for(photo_folders, run_dir), **pipes) as process:
        assert any(PROMPT in line for line in process.stdout)
        write_labels(run_dir / "new_labels_bin" / "mine.csv", photos_asked_about(run_dir))
        said, _ = process.communicate("\n")
    assert process.returncode == 0
    assert "Labels were loaded successfully" in said
    assert said.splitlines()[-1].startswith("Labels given: 1.")


def test_run_leaves_with_status_3_until_the_labels_are_there(photo_folders, tmp_path):
    run_dir = tmp_path / "run"
    command = [*words_for(photo_folders, run_dir), "--label-source", "exit"]
    status, said, logged = run_to_its_end(*command)
    assert status == 3
    assert "Labels are needed" in said and "Traceback" not in logged
    write_labels(run_dir / "new_labels_bin" / "mine.csv", photos_asked_about(run_dir))
    status, said, _ = run_to_its_end(*command)
    assert status == 0
    assert said.splitlines()[-1].startswith("Labels given: 1.")
