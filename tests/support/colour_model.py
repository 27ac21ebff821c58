"""An export whose model is known through and through: it says of which colour a photo is."""

import json

import numpy as np
import onnx
from onnx import numpy_helper
from PIL import Image

from camera_trap_al.files import sha256_of
from camera_trap_al.model_description import MODEL_FILE, ModelDescription
from camera_trap_al.statistics.thresholds import Thresholds

CLASSES = ("blue", "green", "none", "red")
# How strongly each colour (red, green, blue, of 0..1) speaks for each class; nothing has a label for "none".
WEIGHTS = np.array([[0, 0, 0, 8], [0, 8, 0, 0], [8, 0, 0, 0]], np.float32)
HAS_LABELS = np.array([1, 1, 0, 1], np.float32)


def write_model(folder, *, classes=CLASSES, weights=WEIGHTS, thresholds=None):
    """Write an export that says of which colour a photo is."""
    folder.mkdir(exist_ok=True)
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18]>
        colours (uint8[n, 256, 256, 3] images) => (float[n, {len(classes)}] probabilities)
        {{
            pixels = Cast<to = 1>(images)
            axes = Constant<value_ints = [1, 2]>()
            mean = ReduceMean<keepdims = 0>(pixels, axes)
            white = Constant<value = float {{255.0}}>()
            colour = Div(mean, white)
            logits = MatMul(colour, weights)
            of_all = Softmax<axis = 1>(logits)
            of_labelled = Mul(of_all, has_labels)
            one = Constant<value_ints = [1]>()
            total = ReduceSum<keepdims = 1>(of_labelled, one)
            probabilities = Div(of_labelled, total)
        }}"""
    )
    model.graph.initializer.extend(
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(HAS_LABELS[: len(classes)], "has_labels")]
    )
    onnx.helper.set_model_props(model, {"classes": json.dumps(classes)})
    onnx.checker.check_model(model)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString())
    describe(folder, classes=classes, thresholds=thresholds or no_thresholds(classes))
    return folder


def no_thresholds(classes):
    why = "there are no validation photos"
    return Thresholds(classes=classes, wanted_error=0.05, source="nothing", n_photos=0, why_none=why).to_dict()


def describe(folder, *, classes=CLASSES, thresholds):
    ModelDescription(
        classes=classes,
        labelled_classes=tuple(name for name in classes if name != "none"),
        model={"sha256": sha256_of(folder / MODEL_FILE), "opset": 18},
        network={"architecture": "none", "feat_dim": 3, "loss": "triplet", "sha256": "0" * 64},
        parts={},
        training={"labels": 3, "labels_per_class": {}, "validation": None},
        calibration={"temperature": 1.0, "source": "nothing", "n_photos": 0, "note": ""},
        thresholds=thresholds,
        made_with={"camera_trap_al": "1"},
    ).write(folder)


def expected_probabilities(colour):
    """What the model says of an even photo of this colour (red, green, blue, 0..255)."""
    odds = np.exp((np.array(colour, np.float64) / 255) @ WEIGHTS) * HAS_LABELS
    return odds / odds.sum()


def write_photo(path, colour, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


COLOURS = {
    "IMG_1.png": (250, 10, 10),
    "north/a/IMG_1.png": (10, 240, 30),
    "north/a/IMG_2.png": (0, 0, 255),
    "north/IMG_7.png": (90, 80, 100),
    "south/IMG_1.png": (255, 0, 0),
    "south/deep/er/IMG_9.png": (20, 20, 200),
}


def write_photos(folder):
    """Write a photo of one colour for each of `COLOURS`."""
    for name, colour in COLOURS.items():
        write_photo(folder / name, colour)
    return folder
