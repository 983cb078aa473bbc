"""A model pack as insightface expects it, small enough to compute by hand, and pictures that it finds faces in.

The *detector* has the nine outputs of ``det_10g`` (scores, box distances and landmark offsets for the strides 8, 16
and 32, two anchors each) and sees markers: a square as large as one cell of a stride and on its grid, red above and
blue below. Where one is (after insightface has fitted the picture into the searched square), the first anchor of that
cell scores ``MARKER_SCORE``, and box and landmarks lie at ``BOX`` and ``POINTS`` cells from the cell's corner. Turned
markers are not seen, nor markers whose neighbour to the side is a marker too, which makes large ones invisible at the
size where they cover several cells.

The *recogniser* has the form of ``w600k_r50``: it averages blocks of 16 x 16 px of its (1, 3, 112, 112) input and maps
the 147 means to 512 numbers by one fixed random matrix.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
BOX = (0.5, 0.75, 1.5, 1.75)
"""Left, top, right, bottom distances from the corner of the cell, in cells."""
POINTS = ((0.2, 0.3), (0.8, 0.3), (0.5, 0.6), (0.3, 0.9), (0.7, 0.9))
"""Eye on the picture's left, eye on its right, nose, mouth corners; offsets from the corner of the cell, in cells."""
STEEPNESS = 20.0
THRESHOLD = 0.6
MARKER_SCORE = 1 / (1 + math.exp(-STEEPNESS * (255 / 256 - THRESHOLD)))
RED, BLUE = (255, 0, 0), (0, 0, 255)

POOL_PX = 16
MATRIX = np.random.default_rng(20250103).normal(size=(147, 512)).astype(np.float32)


def write_pack(
    folder: Path, recogniser_size: int = 512, landmarks: bool = True, fixed_input: int | None = None
) -> Path:
    """Write the pack's two models, and one that must not be loaded, under the names of ``buffalo_l``.

    Args:
        folder: Where; made if absent.
        recogniser_size: Length of an embedding.
        landmarks: Whether the detector has landmark outputs.
        fixed_input: Side of the detector's input; ``None`` takes any.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _save(_detector(landmarks, fixed_input), folder / "det_10g.onnx")
    _save(_recogniser(recogniser_size), folder / "w600k_r50.onnx")
    _save(_gender_and_age(), folder / "genderage.onnx")
    return folder


def marker_picture(height: int, width: int, *markers: tuple[int, int, int]) -> np.ndarray:
    """Return a mid-grey (H, W, 3) uint8 RGB picture with markers, each given as left, top and side in px."""
    picture = np.full((height, width, 3), 128, np.uint8)
    for left, top, side in markers:
        picture[top : top + side // 2, left : left + side] = RED
        picture[top + side // 2 : top + side, left : left + side] = BLUE
    return picture


def expected_box(left: int, top: int, side: int) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the face of a marker."""
    return (left - BOX[0] * side, top - BOX[1] * side, left + BOX[2] * side, top + BOX[3] * side)


def expected_points(left: int, top: int, side: int) -> np.ndarray:
    """Return the (5, 2) landmarks of the face of a marker."""
    return np.array([left, top]) + side * np.array(POINTS)


def embedding_by_hand(crop_rgb: np.ndarray) -> np.ndarray:
    """Return what the recogniser makes of a (112, 112, 3) uint8 RGB crop: (512,) float64."""
    values = (crop_rgb.astype(np.float64) - 127.5) / 127.5
    cells = values.reshape(7, POOL_PX, 7, POOL_PX, 3).mean(axis=(1, 3))
    return cells.transpose(2, 0, 1).reshape(147) @ MATRIX.astype(np.float64)


def _detector(landmarks: bool, fixed_input: int | None) -> onnx.ModelProto:
    """Build the detector; outputs are grouped by kind, then by stride, as in ``det_10g``."""
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {
        # The two neighbours to the side take away what they have themselves.
        "alone": np.array([-1, 1, -1], np.float32).reshape(1, 1, 1, 3),
        "steepness": np.array(STEEPNESS, np.float32),
        "threshold": np.array(THRESHOLD, np.float32),
        "nothing": np.array(0, np.float32),
    }
    kinds = {"score": 1, "bbox": 4, "kps": 10}
    constants = {"bbox": np.array(BOX), "kps": np.array(POINTS).reshape(-1)}
    if not landmarks:
        del kinds["kps"]
    for stride in STRIDES:
        cell = f"cell{stride}"
        weights[f"marker{stride}"] = _marker_filter(stride)
        nodes += [
            helper.make_node("Conv", ["input", f"marker{stride}"], [f"{cell}_raw"], strides=[stride, stride]),
            helper.make_node("Relu", [f"{cell}_raw"], [f"{cell}_upright"]),
            helper.make_node("Conv", [f"{cell}_upright", "alone"], [f"{cell}_alone"], pads=[0, 1, 0, 1]),
            helper.make_node("Sub", [f"{cell}_alone", "threshold"], [f"{cell}_over"]),
            helper.make_node("Mul", [f"{cell}_over", "steepness"], [f"{cell}_logit"]),
            helper.make_node("Sigmoid", [f"{cell}_logit"], [f"{cell}_first"]),
            helper.make_node("Mul", [f"{cell}_first", "nothing"], [f"{cell}_second"]),
            helper.make_node("Concat", [f"{cell}_first", f"{cell}_second"], [f"{cell}_score"], axis=1),
        ]
        for kind, values in constants.items():
            if kind in kinds:
                weights[f"{kind}_zero{stride}"] = np.zeros((2 * len(values), 1, 1, 1), np.float32)
                weights[f"{kind}_bias{stride}"] = np.tile(values, 2).astype(np.float32)
                inputs = [f"{cell}_first", f"{kind}_zero{stride}", f"{kind}_bias{stride}"]
                nodes.append(helper.make_node("Conv", inputs, [f"{cell}_{kind}"]))
        for kind, size in kinds.items():
            weights[f"{kind}_shape"] = np.array([-1, size], np.int64)
            nodes += [
                helper.make_node("Transpose", [f"{cell}_{kind}"], [f"{cell}_{kind}_last"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{cell}_{kind}_last", f"{kind}_shape"], [f"{kind}_{stride}"]),
            ]
    outputs = [
        helper.make_tensor_value_info(f"{kind}_{stride}", TensorProto.FLOAT, [f"anchors{stride}", size])
        for kind, size in kinds.items()
        for stride in STRIDES
    ]
    side = fixed_input if fixed_input is not None else "?"
    return _model("detector", nodes, weights, [1, 3, side, side], outputs)


def _marker_filter(stride: int) -> np.ndarray:
    """Return the (1, 3, stride, stride) filter that gives 255 / 256 for a marker: red above, blue below."""
    signs = np.ones((stride, stride), np.float32)
    signs[stride // 2 :] = -1
    # insightface maps a channel to (v - 127.5) / 128, so red less blue is 255 / 128 at the most.
    return (np.stack([signs, 0 * signs, -signs]) / (2 * stride * stride))[None].astype(np.float32)


def _recogniser(size: int) -> onnx.ModelProto:
    """Build the recogniser."""
    nodes = [
        helper.make_node(
            "AveragePool", ["input"], ["cells"], kernel_shape=[POOL_PX, POOL_PX], strides=[POOL_PX, POOL_PX]
        ),
        helper.make_node("Flatten", ["cells"], ["means"], axis=1),
        helper.make_node("MatMul", ["means", "matrix"], ["embedding"]),
    ]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, size])]
    return _model("recogniser", nodes, {"matrix": np.ascontiguousarray(MATRIX[:, :size])}, [1, 3, 112, 112], outputs)


def _gender_and_age() -> onnx.ModelProto:
    """Build a model of another task, as every ``buffalo`` pack has some."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["means"]),
        helper.make_node("Flatten", ["means"], ["age"], axis=1),
    ]
    outputs = [helper.make_tensor_value_info("age", TensorProto.FLOAT, [1, 3])]
    return _model("gender_and_age", nodes, {}, [1, 3, 96, 96], outputs)


def _model(name: str, nodes: list, weights: dict, shape: list, outputs: list) -> onnx.ModelProto:
    """Wrap nodes to a model with one float input of a shape."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        outputs,
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model


def _save(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString())
