import base64
import io

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image


@pytest.fixture
def notebook(examples):
    return nbformat.read(examples / "labelling_loop.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_stored_notebook_has_no_outputs(notebook):
    nbformat.validate(notebook)
    assert len(code_cells(notebook)) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(notebook))


@pytest.mark.filterwarnings("ignore")  # those of the kernel's client
def test_the_notebook_runs_to_its_end_and_shows_how_the_model_learns(notebook, tmp_path):
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()

    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert all(f"Round {number}: asked about 20 photos" in said for number in (1, 2, 3))
    shown = [output.data for output in outputs if output.output_type == "execute_result"]
    assert any(data.get("text/plain") == "'max_labels is reached'" for data in shown)
    pictures = [data["image/png"] for data in shown if "image/png" in data]
    assert len(pictures) == 4
    assert all(min(Image.open(io.BytesIO(base64.b64decode(picture))).size) > 200 for picture in pictures)

    run = tmp_path / "labelling-loop-demo" / "run"
    assert all((run / name).exists() for name in ("report.html", "export/model.onnx", "predictions.csv"))
    assert {path.name for path in tmp_path.iterdir()} == {"labelling-loop-demo"}
