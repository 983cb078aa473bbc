"""ArcFace in torch: against onnxruntime on networks with the layers of insightface's, and against its own analyzer."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from magicmirror.data.face_area import eyes_in_window
from magicmirror.errors import ConfigError, WeightsError
from magicmirror.faces.alignment import align_head
from magicmirror.faces.insightface_analyzer import MEAN_FACE, InsightFaceAnalyzer
from magicmirror.faces.insightface_packs import recogniser_file
from magicmirror.media import load_image
from magicmirror.models.arcface import CHIP_EYES_PX, CHIP_SIZE_PX, ArcFaceRecognizer
from magicmirror.models.onnx_network import OnnxNetwork
from tests.faces.insightface_pack import write_pack


class Graph:
    """Puts a network together layer by layer, with random weights."""

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights, self.last = [], {}, "input"

    def weight(self, *shape, around=0.0):
        name = f"w{len(self.weights)}"
        self.weights[name] = (around + 0.2 * self.random.normal(size=shape)).astype(np.float32)
        return name

    def add(self, operator, *inputs, **attributes):
        self.last = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [self.last], **attributes))
        return self.last

    def norm(self, values, channels):
        scale, shift, mean = self.weight(channels, around=1.0), self.weight(channels), self.weight(channels)
        variance = f"w{len(self.weights)}"
        self.weights[variance] = self.random.uniform(0.5, 2, channels).astype(np.float32)
        return self.add("BatchNormalization", values, scale, shift, mean, variance, epsilon=2e-5)

    def conv(self, values, into, out, size=3, stride=1, group=1, pads=None):
        half = size // 2
        weight, bias = self.weight(out, into // group, size, size), self.weight(out)
        pads = pads or [half, half, half, half]
        return self.add(
            "Conv", values, weight, bias, kernel_shape=[size] * 2, strides=[stride] * 2, pads=pads, group=group
        )

    def prelu(self, values, channels):
        return self.add("PRelu", values, self.weight(channels, 1, 1, around=0.25))

    def save(self, path, output=(1, 512), extra_outputs=()):
        outputs = [helper.make_tensor_value_info(self.last, TensorProto.FLOAT, output)]
        outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, output) for name in extra_outputs]
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 112, 112])],
            outputs,
            [numpy_helper.from_array(value, key) for key, value in self.weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())
        return path


def residual_network(path):
    """The layers of IResNet (w600k_r50): norm, convolution, PReLU, shortcut; flattened, a matrix, a last norm."""
    graph = Graph()
    values = graph.prelu(graph.conv("input", 3, 8, stride=2), 8)
    for _ in range(2):
        inner = graph.prelu(graph.conv(graph.norm(values, 8), 8, 16), 16)
        inner = graph.conv(inner, 16, 8, stride=2)
        values = graph.add("Add", inner, graph.conv(values, 8, 8, size=1, stride=2))
    flat = graph.add("Flatten", graph.norm(values, 8), axis=1)
    weights = graph.weight(512, 8 * 14 * 14), graph.weight(512)
    graph.norm(graph.add("Gemm", flat, *weights, alpha=0.5, beta=2.0, transB=1), 512)
    return graph.save(path)


def mobile_network(path):
    """The layers of MobileFaceNet (w600k_mbf), which scales bytes itself; and what else the table has."""
    graph = Graph(1)
    graph.weights["mean"], graph.weights["scale"] = np.float32(127.5), np.float32(1 / 127.5)
    values = graph.add("Mul", graph.add("Sub", "input", "mean"), "scale")
    values = graph.prelu(graph.conv(values, 3, 8, stride=2, pads=[0, 1, 2, 1]), 8)
    values = graph.conv(values, 8, 8, group=8)
    values = graph.add("AveragePool", values, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    values = graph.add("Relu", graph.add("Identity", graph.conv(values, 8, 32, stride=2)))
    graph.weights["shape"] = np.array([-1, 32], np.int64)
    flat = graph.add("Reshape", graph.add("GlobalAveragePool", values), "shape")
    graph.add("MatMul", flat, graph.weight(32, 512))
    return graph.save(path)


@pytest.mark.parametrize("make", [residual_network, mobile_network])
def test_layers_compute_what_onnxruntime_computes(make, tmp_path):
    path = make(tmp_path / "network.onnx")
    network = OnnxNetwork(path)
    pixels = np.random.default_rng(2).uniform(-1, 1, (3, 3, 112, 112)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input": pixels})
    found = network(torch.from_numpy(pixels)).numpy()
    assert expected.shape == (3, 512) and np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_network_that_scales_bytes_itself_gets_bytes(tmp_path):
    pixels = torch.rand(2, 3, CHIP_SIZE_PX, CHIP_SIZE_PX)
    plain = ArcFaceRecognizer.from_onnx_file(residual_network(tmp_path / "plain.onnx"))
    torch.testing.assert_close(plain(pixels), plain.network(pixels * 2 - 1))
    own = ArcFaceRecognizer.from_onnx_file(mobile_network(tmp_path / "own.onnx"))
    torch.testing.assert_close(own(pixels), own.network(pixels * 255))
    with pytest.raises(ConfigError, match=r"must be \(B, 3, 112, 112\), got \(1, 3, 64, 64\)"):
        plain(torch.zeros(1, 3, 64, 64))


def test_gradients_are_those_of_finite_differences(tmp_path):
    model = ArcFaceRecognizer.from_onnx_file(residual_network(tmp_path / "network.onnx")).double()
    frame = torch.rand(1, 3, 80, 120, dtype=torch.float64, requires_grad=True)
    eyes = torch.tensor([[0.5, 0.45, 0.9, 0.5]])
    weights, step = torch.randn(512, dtype=torch.float64), 1e-6 * torch.randn(1, 3, 80, 120, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((model.embed_faces(frame, eyes) * weights).sum(), frame)
    change = ((model.embed_faces(frame + step, eyes) - model.embed_faces(frame - step, eyes)) @ weights / 2).item()
    assert change != 0 and (gradient * step).sum().item() == pytest.approx(change, rel=1e-3)
    assert not any(value.requires_grad for value in model.state_dict().values())


@pytest.fixture(scope="module")
def pack_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("packs")
    write_pack(root / "models" / "buffalo_l")
    return root


@pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning")
def test_faces_are_embedded_as_insightface_embeds_aligned_heads(pack_root, examples, example_references):
    """From the head crop, and from the whole photo by the eyes: the same chip, but for resampling."""
    analyzer = InsightFaceAnalyzer(root=pack_root, device="cpu")
    model = ArcFaceRecognizer.from_onnx_file(recogniser_file(root=pack_root))
    np.testing.assert_array_equal(np.float32(CHIP_EYES_PX), MEAN_FACE[:2].flatten())
    for name in ("man_1", "woman_2"):
        photo, landmarks = load_image(examples / f"{name}.jpg"), example_references[name].landmarks
        crop = align_head(photo, landmarks, "dlib5", 128)
        (expected,) = analyzer.embed_aligned(crop[None])
        from_crop = model.embed_faces(as_tensor(crop))[0].numpy()
        height, width = photo.shape[:2]
        eyes = torch.tensor([eyes_in_window(landmarks, (0.0, 0.0, float(width), float(height)))])
        from_photo = model.embed_faces(as_tensor(photo), eyes)[0].numpy()
        elsewhere = model.embed_faces(as_tensor(photo), eyes + 0.1)[0].numpy()
        assert cosine(from_crop, expected) > 0.9999
        assert cosine(from_photo, expected) > 0.995 > cosine(elsewhere, expected)


def as_tensor(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def cosine(one, other):
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_what_is_no_recogniser_is_refused(tmp_path):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(residual_network(tmp_path / "whole.onnx").read_bytes()[:-200])
    graph = Graph()
    graph.add("Flatten", graph.add("Softplus", "input"))
    unknown = graph.save(tmp_path / "unknown.onnx", (1, 3 * 112 * 112))
    graph = Graph()
    first = graph.add("Flatten", "input")
    graph.add("Identity", first)
    several = graph.save(tmp_path / "several.onnx", (1, 3 * 112 * 112), extra_outputs=[first])
    graph = Graph()
    graph.add("Flatten", "input")
    other = graph.save(tmp_path / "other.onnx", (1, 3 * 112 * 112))
    for path, reason in (
        (tmp_path / "missing.onnx", "cannot be read"),
        (damaged, "cannot be read"),
        (unknown, "the layer Softplus is not known"),
        (several, "several inputs or outputs"),
        (other, "another network than ArcFace's"),
    ):
        with pytest.raises(WeightsError, match=reason):
            ArcFaceRecognizer.from_onnx_file(path)
