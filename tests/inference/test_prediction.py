import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from camera_trap_al import predict
from camera_trap_al.exceptions import CheckpointError, ConfigError, DataError
from camera_trap_al.inference import prediction
from camera_trap_al.model_description import DESCRIPTION_FILE, MODEL_FILE

COLUMNS = ["File", "RelativePath", "Species", "confidence", "second_species", "margin", "decision"]


def names(frame):
    """Path of each photo of a frame, as it is below the folder."""
    folders = frame["RelativePath"].str.replace("\\", "/")
    return [f"{folder}/{file}".lstrip("/") for folder, file in zip(folders, frame["File"], strict=True)]


def unreadable(folder):
    """Paths of the photos that are listed as unreadable."""
    with (folder / "unreadable_images.csv").open(newline="", encoding="utf-8") as file:
        return [line["path"] for line in csv.DictReader(file)]


def looked_at(monkeypatch):
    """The photos that are decoded from now on."""
    seen = []
    really = prediction.Classification._decode

    def decode(self, photo):
        seen.append(photo.name)
        return really(self, photo)

    monkeypatch.setattr(prediction.Classification, "_decode", decode)
    return seen


def test_every_photo_at_any_depth_is_named_by_what_the_model_says_of_its_pixels(export, photos, colours, expected):
    frame = predict(export, photos)
    assert list(frame.columns) == COLUMNS
    assert names(frame) == sorted(colours)
    for name, line in zip(names(frame), frame.itertuples(), strict=True):
        probabilities = expected(colours[name])
        first, second = np.argsort(-probabilities)[:2]
        classes = ("blue", "green", "none", "red")
        assert (line.Species, line.second_species) == (classes[first], classes[second])
        assert line.confidence == pytest.approx(probabilities[first], abs=1e-5)
        assert line.margin == pytest.approx(probabilities[first] - probabilities[second], abs=1e-5)


def test_a_list_keeps_its_order_and_names_photos_as_they_were_given(export, photos, monkeypatch):
    monkeypatch.chdir(photos)
    frame = predict(export, ["south/IMG_1.png", photos / "north/IMG_7.png", "./IMG_1.png"])
    assert names(frame) == ["south/IMG_1.png", str(photos / "north/IMG_7.png").lstrip("/"), "IMG_1.png"]
    assert frame["Species"].tolist() == ["red", "blue", "red"]


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_an_answer_does_not_depend_on_the_other_photos(export, photos, colours, batch_size):
    together = predict(export, photos).set_index(["RelativePath", "File"])
    alone = {name: predict(export, [photos / name], batch_size=batch_size) for name in colours}
    in_a_folder = predict(export, photos / "north", batch_size=batch_size)
    for name, frame in alone.items():
        folder, _, file = name.rpartition("/")
        line = together.loc[(folder.replace("/", "\\"), file)]
        assert frame.loc[0, "Species"] == line["Species"]
        assert frame.loc[0, "confidence"] == pytest.approx(line["confidence"], abs=1e-6)
    north = together.iloc[[at for at, name in enumerate(sorted(colours)) if name.startswith("north")]]
    assert in_a_folder["Species"].tolist() == north["Species"].tolist()
    np.testing.assert_allclose(in_a_folder["confidence"], north["confidence"], atol=1e-6)


def test_files_say_the_same_as_the_frame(export, photos, tmp_path):
    frame = predict(export, photos, output_dir=tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == COLUMNS
    for line, (_, row) in zip(lines, frame.iterrows(), strict=True):
        assert line == {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in row.items()}


def test_nothing_is_written_without_a_folder_for_it(export, photos, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    predict(export, photos)
    assert sorted(tmp_path.rglob("*")) == before


def test_unreadable_photos_are_left_out_and_listed_with_the_reason(export, photos, tmp_path, caplog):
    (photos / "north" / "broken.jpg").write_bytes(b"no photo")
    (photos / "empty.png").touch()
    frame = predict(export, photos, output_dir=tmp_path / "out")
    assert len(frame) == 6
    with (tmp_path / "out" / "unreadable_images.csv").open(newline="", encoding="utf-8") as file:
        listed = {line["path"]: line["reason"] for line in csv.DictReader(file)}
    assert set(listed) == {"empty.png", "north/broken.jpg"}
    assert "empty" in listed["empty.png"]
    assert "2 of 8 photos cannot be read" in caplog.text


def test_a_photo_of_a_list_that_is_not_there_is_listed(export, photos, tmp_path):
    frame = predict(export, [photos / "IMG_1.png", photos / "gone.png"], output_dir=tmp_path / "out")
    assert len(frame) == 1
    assert "gone.png" in (tmp_path / "out" / "unreadable_images.csv").read_text("utf-8")


def test_a_second_call_looks_only_at_photos_that_are_new_changed_or_were_unreadable(
    export, photos, tmp_path, monkeypatch, write_photo
):
    (photos / "broken.png").write_bytes(b"no photo")
    first = predict(export, photos, output_dir=tmp_path / "out")
    seen = looked_at(monkeypatch)
    assert predict(export, photos, output_dir=tmp_path / "out").equals(first)
    assert seen == ["broken.png"]
    seen.clear()
    write_photo(photos / "broken.png", (0, 255, 0))
    write_photo(photos / "new.png", (0, 255, 0))
    write_photo(photos / "IMG_1.png", (0, 255, 0), size=(99, 99))
    (photos / "south" / "IMG_1.png").unlink()
    frame = predict(export, photos, output_dir=tmp_path / "out").set_index("File")
    assert set(seen) == {"broken.png", "new.png", "IMG_1.png"}
    assert (frame.loc[["broken.png", "new.png"], "Species"] == "green").all()
    assert frame.loc["IMG_1.png", "Species"].tolist() == ["green", "green"]  # in the top folder, and in north/a


@pytest.mark.parametrize("away", [["IMG_1.png"], ["IMG_1.png", "north/IMG_7.png"]], ids=["some", "all"])
def test_answers_outlive_a_drive_that_is_away(export, photos, tmp_path, monkeypatch, away):
    paths = [photos / "IMG_1.png", photos / "north/IMG_7.png"]
    first = predict(export, paths, output_dir=tmp_path / "out")
    for name in away:
        (photos / name).rename(photos / f"{name}.away")
    if len(away) == 2:
        with pytest.raises(DataError, match="None of 2 photos can be read"):
            predict(export, paths, output_dir=tmp_path / "out")
    else:
        assert names(predict(export, paths, output_dir=tmp_path / "out")) == [paths[1].as_posix().lstrip("/")]
    assert unreadable(tmp_path / "out") == [(photos / name).as_posix() for name in away]
    for name in away:
        (photos / f"{name}.away").rename(photos / name)
    seen = looked_at(monkeypatch)
    assert predict(export, paths, output_dir=tmp_path / "out").equals(first)
    assert seen == [] and unreadable(tmp_path / "out") == []


def test_a_photo_that_became_unreadable_keeps_no_answer(export, photos, tmp_path, monkeypatch):
    """Unlike one that is not there, it was looked at, and is another one now."""
    predict(export, photos, output_dir=tmp_path / "out")
    (photos / "IMG_1.png").write_bytes(b"no photo")
    assert len(predict(export, photos, output_dir=tmp_path / "out")) == 5
    (photos / "IMG_1.png").unlink()
    with pytest.raises(DataError, match="None of 1 photos"):
        predict(export, [photos / "IMG_1.png"], output_dir=tmp_path / "out")


def test_another_model_begins_anew_and_takes_nothing_from_the_first(export, photos, tmp_path, write_model, monkeypatch):
    predict(export, photos, output_dir=tmp_path / "out")
    turned = write_model(tmp_path / "other", weights=np.eye(3, 4, dtype=np.float32) * 9)
    seen = looked_at(monkeypatch)
    frame = predict(turned, photos, output_dir=tmp_path / "out")
    assert len(seen) == 6
    assert frame.loc[frame["RelativePath"] == "south", "Species"].tolist() == ["blue"]  # what was red to the first
    seen.clear()
    assert predict(export, photos, output_dir=tmp_path / "out")["Species"].tolist()[-2:] == ["red", "blue"]
    third = write_model(tmp_path / "third", weights=np.eye(3, 4, dtype=np.float32))
    with pytest.raises(ConfigError, match="device"):
        predict(third, photos, output_dir=tmp_path / "out", device="tpu")
    predict(export, photos, output_dir=tmp_path / "out")
    assert seen == []


def test_classes_that_were_written_over_are_told_also_if_nothing_is_left_to_do(export, photos, tmp_path):
    predict(export, photos, output_dir=tmp_path / "out")
    text = (export / DESCRIPTION_FILE).read_text()
    swapped = text.replace('"red"', '"x"').replace('"blue"', '"red"').replace('"x"', '"blue"')
    (export / DESCRIPTION_FILE).write_text(swapped)
    with pytest.raises(CheckpointError, match="its classes are not those"):
        predict(export, photos, output_dir=tmp_path / "out")


def test_a_model_whose_answers_are_no_numbers_is_told_and_writes_no_table(export, photos, tmp_path, write_model):
    diverged = write_model(tmp_path / "diverged", weights=np.full((3, 4), np.nan, np.float32))
    with pytest.raises(CheckpointError, match="its probabilities are no numbers") as error:
        predict(diverged, photos, output_dir=tmp_path / "out")
    assert error.value.path == diverged
    assert not (tmp_path / "out" / "predictions.csv").exists()


def test_a_photo_that_is_replaced_while_it_is_looked_at_is_looked_at_again(
    export, photos, tmp_path, monkeypatch, write_photo
):
    really = prediction.Classification._decode

    def decode_and_replace(self, photo):
        pixels = really(self, photo)
        write_photo(photo.path, (0, 0, 255), size=(77, 55))
        return pixels

    with monkeypatch.context() as patch:
        patch.setattr(prediction.Classification, "_decode", decode_and_replace)
        first = predict(export, photos / "south", output_dir=tmp_path / "out")
    second = predict(export, photos / "south", output_dir=tmp_path / "out")
    assert first["Species"].tolist() == ["red", "blue"] and second["Species"].tolist() == ["blue", "blue"]


def test_damaged_results_are_made_again(export, photos, tmp_path, caplog):
    first = predict(export, photos, output_dir=tmp_path / "out")
    (tmp_path / "out" / "predictions.sqlite").write_bytes(b"nothing that SQLite knows" * 100)
    assert predict(export, photos, output_dir=tmp_path / "out").equals(first)
    assert "damaged" in caplog.text


def test_parts_are_disjoint_and_together_everything(export, photos, tmp_path):
    whole = predict(export, photos)
    parts = [predict(export, photos, shard=(number, 4), output_dir=tmp_path / "out") for number in (1, 2, 3, 4)]
    assert [name for part in parts for name in names(part)] == names(whole)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"shard_{i}_of_4" for i in (1, 2, 3, 4)]
    written = [(tmp_path / "out" / f"shard_{i}_of_4" / "predictions.csv").read_text("utf-8") for i in (1, 2, 3, 4)]
    assert sum(len(text.splitlines()) - 1 for text in written) == 6


def test_a_part_without_photos_is_empty(export, photos, tmp_path):
    frame = predict(export, [photos / "IMG_1.png"], shard=(1, 2), output_dir=tmp_path / "out")
    assert len(frame) == 0 and list(frame.columns) == COLUMNS
    assert (tmp_path / "out" / "shard_1_of_2" / "predictions.csv").exists()


def test_a_part_whose_photos_are_all_broken_has_empty_tables_and_says_why(export, photos, tmp_path, caplog):
    """Jobs of a cluster are put together afterwards: each part needs its tables."""
    (photos / "A_first.png").write_bytes(b"no photo")
    frame = predict(export, photos, shard=(1, 7), output_dir=tmp_path / "out")
    assert len(frame) == 0 and list(frame.columns) == COLUMNS
    part = tmp_path / "out" / "shard_1_of_7"
    assert unreadable(part) == ["A_first.png"]
    assert (part / "predictions.csv").read_text("utf-8").strip() == ",".join(COLUMNS)
    assert [image["file"] for image in json.loads((part / "recognitions.json").read_text())["images"]] == [
        "A_first.png"
    ]
    assert "1 of 1 photos cannot be read and are left out" in caplog.text


@pytest.mark.parametrize("order", [signal.SIGINT, signal.SIGKILL])
def test_a_call_that_is_stopped_goes_on_where_it_was(export, photos, tmp_path, order, write_photo):
    for number in range(300):
        write_photo(photos / "many" / f"{number:03}.png", (number % 256, 0, 0))
    program = textwrap.dedent(
        """
        import sys, time
        from camera_trap_al import predict
        from camera_trap_al.inference import classification
        really = classification.read_photo
        def slowly(*arguments):
            print("photo", flush=True)
            time.sleep(0.02)
            return really(*arguments)
        classification.read_photo = slowly
        predict(sys.argv[1], sys.argv[2], output_dir=sys.argv[3], batch_size=8, num_workers=1)
        """
    )
    command = [sys.executable, "-c", program, export, photos, tmp_path / "out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(100):
            process.stdout.readline()
        process.send_signal(order)
        process.communicate()
    assert process.returncode != 0
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    n_again = again.stdout.count("photo")
    assert 100 < n_again < 306 - 50, "what was kept before is not looked at again"
    assert (tmp_path / "out" / "predictions.csv").read_text("utf-8").count("\n") == 307


def test_torch_and_scikit_learn_are_not_needed(export, photos, tmp_path):
    program = textwrap.dedent(
        """
        import sys
        class NotInstalled:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("torch", "torchvision", "sklearn", "skl2onnx", "matplotlib", "ray"):
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, NotInstalled())
        from camera_trap_al import predict
        print(len(predict(sys.argv[1], sys.argv[2], output_dir=sys.argv[3])))
        """
    )
    command = [sys.executable, "-c", program, export, photos, tmp_path / "out"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "6\n"


@pytest.mark.parametrize("missing", [MODEL_FILE, DESCRIPTION_FILE])
def test_an_export_without_a_file_is_told(export, photos, missing):
    (export / missing).unlink()
    with pytest.raises(CheckpointError, match=missing):
        predict(export, photos)


def test_a_folder_without_photos_is_told_with_what_a_photo_is(export, tmp_path):
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no photo in this folder.*1 file.*\.jpg") as error:
        predict(export, tmp_path / "empty")
    assert error.value.path == tmp_path / "empty"


def test_a_folder_that_is_not_there_is_told(export, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        predict(export, tmp_path / "nowhere")


def test_if_no_photo_can_be_read_earlier_results_stay(export, photos, tmp_path):
    predict(export, photos, output_dir=tmp_path / "out")
    before = (tmp_path / "out" / "predictions.csv").read_bytes()
    with pytest.raises(DataError, match=r"None of 2 photos can be read\. The first is gone\.jpg: .*No such file"):
        predict(export, ["gone.jpg", "other.jpg"], output_dir=tmp_path / "out")
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == before
    assert unreadable(tmp_path / "out") == ["gone.jpg", "other.jpg"]


def test_other_photos_in_the_same_folder_of_results_are_told(export, photos, tmp_path, caplog):
    predict(export, photos, output_dir=tmp_path / "out")
    assert "were classified before" not in caplog.text
    predict(export, photos / "south", output_dir=tmp_path / "out")
    # Of the six, IMG_1.png has the name of one in the folder south.
    assert f"5 photos that were classified before are not in {photos / 'south'}" in caplog.text


@pytest.mark.parametrize(("file", "owner"), [("model.json", "an exported model"), ("data/run.sqlite", "a run")])
def test_results_do_not_go_into_a_folder_of_other_files(export, photos, tmp_path, file, owner):
    (tmp_path / "own" / file).parent.mkdir(parents=True)
    (tmp_path / "own" / file).touch()
    with pytest.raises(ConfigError, match=f"output_dir must be another folder than that of {owner}"):
        predict(export, photos, output_dir=tmp_path / "own")


@pytest.mark.parametrize("name", ["recognitions.json", "predictions.csv", "predictions.parquet"])
def test_a_file_of_another_program_that_is_called_as_one_of_ours_is_not_replaced(export, photos, tmp_path, name):
    """Programs of MegaDetector call their detections recognitions.json too."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("of others")
    with pytest.raises(ConfigError, match=rf"output_dir must be a folder without {name}.*another folder") as error:
        predict(export, photos, output_dir=tmp_path / "out", batch_size=0)
    assert "batch_size" in str(error.value)
    assert (tmp_path / "out" / name).read_text() == "of others"
    predict(export, photos, output_dir=tmp_path / "out", shard=(1, 2))  # which has a folder of its own
    (tmp_path / "out" / name).unlink()
    predict(export, photos, output_dir=tmp_path / "out")
    (tmp_path / "out" / name).write_text("of an earlier call")
    predict(export, photos, output_dir=tmp_path / "out")


def test_tables_that_a_call_does_not_write_do_not_stay_of_an_earlier_one(export, photos, tmp_path):
    content = {
        "info": {"format_version": "1.4"},
        "detection_categories": {"1": "animal"},
        "images": [{"file": "IMG_1.png", "detections": [{"category": "1", "conf": 9, "bbox": [0, 0, 1, 1]}]}],
    }
    (photos / "md.json").write_text(json.dumps(content))
    out = tmp_path / "out"
    predict(export, photos, output_dir=out, detections=photos / "md.json")
    (out / "predictions.parquet").write_bytes(b"of a call with the engine ray")
    assert "confidence" in (out / "skipped_detections.csv").read_text("utf-8")
    predict(export, photos, output_dir=out)
    expected = {"predictions.csv", "predictions.sqlite", "recognitions.json", "unreadable_images.csv"}
    assert {path.name for path in out.iterdir()} == expected


def test_files_of_other_kinds_are_told(export, photos, caplog):
    caplog.set_level("INFO")
    for name in ("film.mp4", "phone.heic", "north/film.mp4", "notes"):
        (photos / name).touch()
    predict(export, photos)
    assert "are passed over: 1 without a suffix, 1 .heic, 2 .mp4" in caplog.text


def test_that_nothing_can_be_accepted_is_told(export, photos, caplog):
    caplog.set_level("INFO")
    predict(export, photos)
    assert "there are no validation photos" in caplog.text


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], "list is empty"),
        (["a.jpg", "b.jpg", "./a.jpg"], r"a\.jpg' 2 times"),
        (["a.jpg", str(Path("a.jpg").absolute())], r"a\.jpg' 2 times"),
        (["a.jpg", "."], r"'\.' in the list is a folder"),
        (["caf\udce9.jpg"], "it is no text"),
        ([3], "must be a folder, or a list of paths"),
        (None, "must be a folder, or a list of paths"),
    ],
)
def test_lists_that_make_no_sense_are_told(export, images, said):
    with pytest.raises((ConfigError, DataError), match=said):
        predict(export, images)


def test_a_single_file_is_told_with_the_way_out(export, photos):
    with pytest.raises(ConfigError, match="give a list"):
        predict(export, photos / "IMG_1.png")


def test_all_bad_settings_are_told_at_once(photos, tmp_path):
    with pytest.raises(ConfigError) as error:
        predict(
            tmp_path / "nowhere", photos, batch_size=0, num_workers=-1, engine="tensorflow", shard=(3, 2), padding=-1
        )
    told = " ".join(error.value.problems)
    assert all(name in told for name in ("export_dir", "batch_size", "num_workers", "engine", "shard", "padding"))
    assert len(error.value.problems) == 6


@pytest.mark.parametrize("device", ["cuda", "tpu", 0])
def test_a_device_that_is_not_there_is_told(export, photos, device):
    with pytest.raises(ConfigError, match="device"):
        predict(export, photos, device=device)


def test_results_that_another_program_writes_are_told(export, photos, tmp_path):
    program = (
        "import sqlite3, sys, time\n"
        "db = sqlite3.connect(sys.argv[1]); db.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); time.sleep(60)"
    )
    predict(export, photos, output_dir=tmp_path / "out")
    command = [sys.executable, "-c", program, tmp_path / "out" / "predictions.sqlite"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        try:
            with pytest.raises(DataError, match="another program"):
                predict(export, photos, output_dir=tmp_path / "out")
        finally:
            other.kill()


def test_a_second_program_on_the_same_results_is_refused_and_does_the_first_no_harm(export, photos, tmp_path):
    program = (
        "import os, sys; from camera_trap_al import predict; from camera_trap_al.inference import prediction\n"
        "really = prediction.Classification._decode\n"
        "def slowly(*args):  # in two threads, of which print would mix the lines\n"
        "    os.write(1, b'begun\\n'); sys.stdin.readline(); return really(*args)\n"
        "prediction.Classification._decode = slowly\n"
        "print(len(predict(sys.argv[1], sys.argv[2], output_dir=sys.argv[3])), flush=True)"
    )
    predict(export, photos / "south", output_dir=tmp_path / "out")  # so that the model is known there
    command = [sys.executable, "-c", program, export, photos, tmp_path / "out"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == "begun\n"
        with pytest.raises(DataError, match="another program"):
            predict(export, photos, output_dir=tmp_path / "out")
        said, _ = other.communicate("\n" * 20)
    assert other.returncode == 0 and said.splitlines()[-1] == "6"


def test_a_csv_that_may_not_be_written_is_told_and_nothing_is_lost(export, photos, tmp_path, monkeypatch):
    really = os.replace if os.name == "nt" else type(tmp_path).replace

    def held_open(self, target):
        if str(target).endswith("predictions.csv"):
            raise PermissionError(13, "Permission denied")
        return really(self, target)

    monkeypatch.setattr(type(tmp_path), "replace", held_open)
    with pytest.raises(DataError, match="Excel"):
        predict(export, photos, output_dir=tmp_path / "out")
    monkeypatch.undo()
    seen = looked_at(monkeypatch)
    predict(export, photos, output_dir=tmp_path / "out")
    assert seen == []
