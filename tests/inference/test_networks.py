from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.files import sha256_of
from camera_trap_al.inference.networks import onnxruntime_network, onnxruntime_session
from camera_trap_al.model_description import MODEL_FILE, ModelDescription


def even_images(*colours):
    return np.stack([np.full((256, 256, 3), colour, np.uint8) for colour in colours])


def of_file(description, path):
    """The description, as if it were of this model."""
    return replace(description, model={**description.model, "sha256": sha256_of(path)})


def description_of(other, export):
    """What one export says of itself, as if it were of the model of another."""
    return of_file(ModelDescription.read(export), other / MODEL_FILE)


def test_probabilities_of_each_class_by_image(export, expected):
    network = onnxruntime_network(export, ModelDescription.read(export), None)
    colours = [(1, 2, 3), (200, 100, 50), (0, 255, 0)]
    np.testing.assert_allclose(network(even_images(*colours)), list(map(expected, colours)), atol=1e-6)


def test_classes_in_another_order_are_told(export, write_model, tmp_path):
    other = write_model(tmp_path / "other", classes=("red", "none", "green", "blue"))
    with pytest.raises(CheckpointError, match=r"its classes are not those that model\.json names, or in another order"):
        onnxruntime_network(other, description_of(other, export), None)


def test_classes_that_are_not_those_of_the_description_are_told(export, write_model, tmp_path):
    other = write_model(tmp_path / "other", classes=("blue", "green"), weights=np.zeros((3, 2), np.float32))
    description = description_of(other, export)
    with pytest.raises(CheckpointError, match=r"2 classes apart, and model\.json names 4") as error:
        onnxruntime_network(other, description, None)
    assert error.value.path == other / MODEL_FILE


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"no model at all", b"\x08\x08"], ids=repr)
def test_a_file_that_is_no_model_is_told(export, content):
    description = ModelDescription.read(export)
    (export / MODEL_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{MODEL_FILE}: the file cannot be loaded"):
        onnxruntime_network(export, of_file(description, export / MODEL_FILE), None)


def test_a_model_that_a_run_wrote_anew_after_its_description_was_read_is_told(export, write_model):
    description = ModelDescription.read(export)
    write_model(export, weights=np.eye(3, 4, dtype=np.float32))  # with a model.json that is of it
    with pytest.raises(CheckpointError, match=r"a run has written the export anew in the meantime \(then do the same"):
        onnxruntime_network(export, description, None)


def test_a_model_of_something_else_is_told(export, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["text"], ["said"])],
        "other",
        [helper.make_tensor_value_info("text", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("said", TensorProto.FLOAT, [None, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    description = ModelDescription.read(export)
    (export / MODEL_FILE).write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="no model that turns images into probabilities"):
        onnxruntime_network(export, of_file(description, export / MODEL_FILE), None)


def elsewhere(values, name, location):
    """A tensor whose numbers lie in another file."""
    tensor = numpy_helper.from_array(values, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def of_the_graph(model, tensor):
    model.graph.initializer[0].CopyFrom(tensor)


def of_a_node(model, tensor):
    model.graph.node.insert(0, helper.make_node("Constant", [], ["secret"], value=tensor))


def of_a_graph_within_a_node(model, tensor):
    inner = helper.make_graph([], "inner", [], [], initializer=[tensor])
    model.graph.node.insert(0, helper.make_node("If", ["condition"], [], then_branch=inner, else_branch=inner))


def of_a_function(model, tensor):
    constant = helper.make_node("Constant", [], ["said"], value=tensor)
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("own", "hidden", [], ["said"], [constant], opsets))


@pytest.mark.parametrize("hide", [of_the_graph, of_a_node, of_a_graph_within_a_node, of_a_function])
def test_a_model_that_has_other_files_read_is_refused_unread(export, tmp_path, monkeypatch, hide):
    """A location may lead anywhere; without the check, onnxruntime reads it relative to the working directory."""
    weights = np.ones((3, 4), np.float32)
    (tmp_path / "secret").write_bytes(weights.tobytes())
    monkeypatch.chdir(tmp_path)
    model = onnx.load(export / MODEL_FILE, load_external_data=False)
    hide(model, elsewhere(weights, "weights", "secret"))
    with pytest.raises(CheckpointError, match="other files"):
        onnxruntime_session(model.SerializeToString(), export / MODEL_FILE, None)
