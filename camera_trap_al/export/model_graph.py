"""ONNX graphs: of the classifier alone, and of everything from the photo to the probabilities."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camera_trap_al import __version__
from camera_trap_al.classifier import EmbeddingClassifier, EmbeddingScaler
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.deep_learning.network_graph import IR_VERSION, OPSET
from camera_trap_al.pools import IndexArray

__all__ = ["CLASSIFIER_OPSET", "classifier_model", "head_model", "whole_model"]

CLASSIFIER_OPSET = 15  # of a classifier alone, which other programs may read with an older onnxruntime
HEADER = f'<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>'
SCALER = """{
    scaler_shifted = Sub (scaler_in, scaler_minimum)
    scaler_out = Div (scaler_shifted, scaler_span)
}"""
# The likeliest class becomes 1 before the power, or a low temperature would leave nothing but zeros of the others.
CALIBRATION = """
    answer_largest = ReduceMax <keepdims = 1> (answer_plain, answer_columns)
    answer_relative = Div (answer_plain, answer_largest)
    answer_power = Pow (answer_relative, answer_exponent)
    answer_total = ReduceSum <keepdims = 1> (answer_power, answer_columns)
    answer_calibrated = Div (answer_power, answer_total)
"""


def classifier_model(classifier: EmbeddingClassifier, n_features: int, opset: int) -> Any:
    """Convert a fitted classifier.

    Parameters
    ----------
    classifier
        What to convert.
    n_features
        Length of an embedding.
    opset
        ONNX operator set to write it in.

    Returns
    -------
    An ONNX model. Input ``embeddings``, float32 (n, n_features), scaled; outputs int64 (n,) class index, and (n, number
    of labelled classes) probabilities.
    """
    if classifier.estimator_ is None:
        return _constant_model(int(classifier.labelled_classes[0]), n_features, opset)
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    return to_onnx(
        classifier.estimator_,
        initial_types=[("embeddings", FloatTensorType([None, n_features]))],
        options={id(classifier.estimator_): {"zipmap": False}},
        target_opset=opset,
    )


def _constant_model(class_id: int, n_features: int, opset: int) -> Any:
    """Answer `class_id` with probability 1 for every row: all that is known while one class has labels."""
    from onnx import TensorProto, checker, helper

    def filled(name: str, shape: str, value: Any) -> Any:
        return helper.make_node("ConstantOfShape", [shape], [name], value=value)

    nodes = [
        helper.make_node("Shape", ["embeddings"], ["n"], start=0, end=1),
        helper.make_node("Constant", [], ["one"], value_ints=[1]),
        helper.make_node("Concat", ["n", "one"], ["n_by_one"], axis=0),
        filled("label", "n", helper.make_tensor("class_id", TensorProto.INT64, [1], [class_id])),
        filled("probabilities", "n_by_one", helper.make_tensor("certain", TensorProto.FLOAT, [1], [1.0])),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [None, n_features])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    checker.check_model(model)
    return model


def head_model(fitted: FittedClassifier, temperature: float) -> Any:
    """Build what follows on the network: scaler, classifier, temperature, and a column for each class.

    Parameters
    ----------
    fitted
        The scaler and the classifier.
    temperature
        Probabilities are taken to the power of 1 / `temperature`, and made to sum to 1 again.

    Returns
    -------
    An ONNX model. Input ``scaler_in``, float32 (n, n_features) embeddings; output ``probabilities``, float32 (n, number
    of classes).
    """
    from onnx import compose

    classifier = classifier_model(fitted.classifier, len(fitted.scaler.minimum), OPSET)
    classifier.ir_version = IR_VERSION
    probabilities = f"classifier/{classifier.graph.output[1].name}"
    answer = _answer_model(fitted.classifier.labelled_classes, fitted.classifier.n_classes, temperature)
    head = compose.merge_models(
        _scaler_model(fitted.scaler),
        classifier,
        [("scaler_out", "embeddings")],
        prefix2="classifier/",
        outputs=[probabilities],  # what leads to class indices alone goes, which would refuse an empty batch too
    )
    head = compose.merge_models(head, answer, [(probabilities, "answer_in")])
    return head


def _scaler_model(scaler: EmbeddingScaler) -> Any:
    n_features = len(scaler.minimum)
    signature = f"scaler (float[n, {n_features}] scaler_in) => (float[n, {n_features}] scaler_out)"
    return _parsed(signature + SCALER, scaler_minimum=scaler.minimum, scaler_span=scaler.span)


def _answer_model(labelled: IndexArray, n_classes: int, temperature: float) -> Any:
    """Bring the columns of the labelled classes to their places among all classes, calibrated."""
    places = np.zeros((len(labelled), n_classes), np.float32)
    places[np.arange(len(labelled)), labelled] = 1
    low, high = np.array(0, np.float32), np.array(1, np.float32)
    constants: dict[str, NDArray[Any]] = {"answer_places": places, "answer_low": low, "answer_high": high}
    calibration, last = "", "answer_plain"
    if temperature != 1:
        calibration, last = CALIBRATION, "answer_calibrated"
        constants |= {"answer_columns": np.array([1]), "answer_exponent": np.array(1 / temperature, np.float32)}
    return _parsed(
        f"answer (float[n, {len(labelled)}] answer_in) => (float[n, {n_classes}] probabilities) {{"
        f"    answer_float = Cast <to = 1> (answer_in)"  # which most classifiers give already
        # Sums of trees end a little below 0 or above 1 in onnxruntime, and a power of less than 0 is NaN.
        f"    answer_plain = Clip (answer_float, answer_low, answer_high)"
        f"    {calibration}"
        f"    probabilities = MatMul ({last}, answer_places)"
        "}",
        **constants,
    )


def _parsed(text: str, **constants: NDArray[Any]) -> Any:
    from onnx import numpy_helper, parser

    model = parser.parse_model(HEADER + text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return model


def whole_model(network: bytes, weights: Mapping[str, NDArray[Any]], head: Any, classes: Sequence[str]) -> Any:
    """Join a network's graph, its weights, and what follows on it.

    Parameters
    ----------
    network
        What `network_graph` gave.
    weights
        What the graph leaves open, by name; it need not use all of them.
    head
        What `head_model` gave.
    classes
        Names of the columns, to be kept in the model.

    Returns
    -------
    An ONNX model. Input ``images``, uint8 (n, 256, 256, 3); output ``probabilities``, float32 (n, n_classes).
    """
    from onnx import ModelProto, compose, helper

    model = compose.merge_models(
        ModelProto.FromString(network),
        head,
        [("embeddings", "scaler_in")],
        name="camera_trap_al",
        doc_string="",
        producer_name="camera_trap_al",
        producer_version=__version__,
    )
    helper.set_model_props(model, {"classes": json.dumps(list(classes), ensure_ascii=False)})
    graph = model.graph  # weights come last: whatever is done to a model copies all of it
    open_inputs = [each for each in graph.input if each.name in weights]
    for each in open_inputs:
        graph.input.remove(each)
        _add_weights(graph, each.name, weights[each.name])
    return model


def _add_weights(graph: Any, name: str, array: NDArray[Any]) -> None:
    """Add an initializer as `numpy_helper.from_array` makes it, which would copy half a gigabyte twice more."""
    from onnx import helper

    little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    graph.initializer.add(name=name, dims=array.shape, data_type=kind, raw_data=little_endian.tobytes())
