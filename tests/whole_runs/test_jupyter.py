"""A run in a notebook: a real kernel, which asks for input over its own channel."""

import csv
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

PROMPT = "Press enter when you have placed the labels in the labels bin"
CELL = """
from camera_trap_al import run_active_learning
result = run_active_learning(
    {train!r}, {unlabelled!r}, output_dir={run!r}, active_batch=2, max_labels=4, use_pretrained=False, seed=1,
    embedding_arch="squeezenet1_1", embedding_train_num_epochs=1, feat_dim=8, classifier_params={{"max_iter": 50}},
)
print("ENDED", result.labels_given, result.ended_because)
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[BlockingKernelClient]:
    manager, client = start_new_kernel(cwd=str(tmp_path))
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def answer_selected(run: Path) -> None:
    """Call every selected photo a deer, as a spreadsheet would."""
    with (run / "timelapse_selector.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["Selected"] == "true"]
    with (run / "new_labels_bin" / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("File", "RelativePath", "Species"))
        writer.writerows((row["File"], row["RelativePath"], "deer") for row in rows)


def run_cell(client: BlockingKernelClient, code: str, answers: list[Any]) -> str:
    """Run a cell to its end; at each input request do what comes next and press Enter. Return what it printed."""
    request, printed = client.execute(code, allow_stdin=True), ""
    while True:
        try:
            question = client.get_stdin_msg(timeout=0.1)
            printed += question["content"]["prompt"]
            answers.pop(0)()
            client.input("")
        except Empty:
            pass
        try:
            message = client.get_iopub_msg(timeout=0.1)
        except Empty:
            continue
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] == "stream":
            printed += message["content"]["text"]
        assert message["msg_type"] != "error", message["content"]
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return printed


@pytest.mark.filterwarnings("ignore")  # those of the kernel's client
def test_a_run_asks_in_a_notebook_and_goes_on_with_what_is_entered(kernel, photo_folders, tmp_path):
    run = tmp_path / "run"
    code = CELL.format(train=str(photo_folders.train), unlabelled=str(photo_folders.unlabelled), run=str(run))
    answers = [lambda: None, lambda: answer_selected(run), lambda: answer_selected(run)]
    printed = run_cell(kernel, code, answers)
    assert printed.count(PROMPT) == 3, "once too early, then once for each round"
    assert "There is no CSV file in the labels bin." in printed
    assert printed.count("Labels were loaded successfully") == 2
    assert "ENDED 4 max_labels is reached" in printed
