"""Reader of dlib's serialised networks, as far as its face recognition network needs it.

dlib's C++ stream, as found in ``dlib_face_recognition_resnet_model_v1.dat``:

* integer: one control byte (low four bits: number of bytes that follow; top bit: negative), then the magnitude,
  little-endian;
* float: two integers, mantissa and binary exponent;
* string: length as integer, then bytes; truth value: one character, ``0`` or ``1``;
* tensor: version 2, four sizes, then raw little-endian float32; a *view* of a tensor: version 1 and four sizes;
* network: a version number for each nested layer, outermost first, then what each layer holds, innermost (the input)
  first: its name with its version, its own fields, three truth values and three cached tensors. The layer on top of
  the input adds how many samples the input makes of one picture.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from magicmirror.errors import WeightsError
from magicmirror.types import Float32Array

WEIGHTS_PACKAGE = "face_recognition_models"
RECOGNISER_FILE = "dlib_face_recognition_resnet_model_v1.dat"

_TENSOR_VERSION = 2
_VIEW_VERSION = 1
_REMEDY = f"Reinstall the package {WEIGHTS_PACKAGE}."


@dataclass(frozen=True, eq=False)
class DlibLayer:
    """One layer of a serialised network.

    Args:
        kind: ``input``, ``con``, ``affine``, ``relu``, ``max_pool``, ``avg_pool``, ``add_prev`` or ``fc``.
        weight: (O, I, kh, kw) filters of ``con``, (C,) scale of ``affine``, (I, O) matrix of ``fc``, (3,) mean colour
            of ``input`` in [0, 255]; empty for others.
        bias: (O,) of ``con``, (C,) shift of ``affine``; empty for others.
        window: Height and width of the filter or pooling window; (0, 0) means the whole map.
        stride: Vertical and horizontal step.
        padding: Vertical and horizontal zero padding.
    """

    kind: str
    weight: Float32Array
    bias: Float32Array
    window: tuple[int, int] = (0, 0)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


class DlibStream:
    """Cursor over the bytes of a dlib file.

    Args:
        data: The whole file.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    @property
    def at_end(self) -> bool:
        """Whether everything has been read."""
        return self.position == len(self._data)

    def take(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
            WeightsError: When the file is too short.
        """
        chunk = self._data[self.position : self.position + count]
        if len(chunk) != count:
            raise WeightsError(f"The dlib file ends at byte {len(self._data)}, in the middle of a value.", _REMEDY)
        self.position += count
        return chunk

    def integer(self) -> int:
        """Return a signed integer of variable length."""
        control = self.take(1)[0]
        size = control & 0x0F
        if size > 8 or control & 0x70:
            raise WeightsError(f"Byte {self.position - 1} ({control:#04x}) starts no dlib integer.", _REMEDY)
        magnitude = int.from_bytes(self.take(size), "little")
        return -magnitude if control & 0x80 else magnitude

    def integers(self, count: int) -> tuple[int, ...]:
        """Return several integers."""
        return tuple(self.integer() for _ in range(count))

    def pair(self) -> tuple[int, int]:
        """Return two integers: a vertical and a horizontal value."""
        return self.integer(), self.integer()

    def real(self) -> float:
        """Return a float stored as mantissa and exponent."""
        mantissa, exponent = self.pair()
        return float(mantissa) * 2.0**exponent

    def text(self) -> str:
        """Return a string of ASCII characters."""
        start = self.position
        try:
            return self.take(self.integer()).decode("ascii")
        except UnicodeDecodeError as error:
            raise WeightsError(f"Byte {start} starts no name of a dlib layer.", _REMEDY) from error

    def expect(self, value: int, what: str) -> None:
        """Read an integer that must have one value.

        Raises:
            WeightsError: When it has another.
        """
        start = self.position
        found = self.integer()
        if found != value:
            raise WeightsError(f"Byte {start}: {what} is {found}, this reader knows {value}.", _REMEDY)

    def tensor(self) -> Float32Array:
        """Return a tensor (n, k, rows, columns) float32."""
        self.expect(_TENSOR_VERSION, "the version of a tensor")
        shape = self.integers(4)
        values = np.frombuffer(self.take(4 * int(np.prod(shape))), dtype="<f4")
        return values.reshape(shape).astype(np.float32)

    def view(self) -> tuple[int, ...]:
        """Return the sizes of a view."""
        self.expect(_VIEW_VERSION, "the version of a view")
        return self.integers(4)

    def layer_end(self) -> None:
        """Skip what every layer ends with: three truth values and three tensors, empty in a cleaned network."""
        self.take(3)
        for _ in range(3):
            self.tensor()


def read_layers(path: Path) -> tuple[DlibLayer, ...]:
    """Read a network that was trained with dlib's metric loss.

    Args:
        path: The file.

    Returns:
        All layers in the order in which a picture passes them, input first.

    Raises:
        WeightsError: When the file is missing, damaged or holds layers of another kind or version.
    """
    if not path.is_file():
        raise WeightsError(f"{path.name} does not exist.", _REMEDY)
    stream = DlibStream(path.read_bytes())
    stream.expect(1, "the version of the network")
    name = stream.text()
    if name != "loss_metric_2":
        raise WeightsError(f'{path.name} holds a "{name}" network, expected "loss_metric_2".', _REMEDY)
    stream.real(), stream.real()  # margin and threshold of the loss
    return (_read_input(stream), *_read_body(stream))


def _read_input(stream: DlibStream) -> DlibLayer:
    """Skip the version numbers of the nested layers (each 1 or 2) and read the input layer (version 3)."""
    while (version := stream.integer()) in (1, 2):
        continue
    name = stream.text()
    if version != 3 or name != "input_rgb_image_sized":
        raise WeightsError(f'Expected an input of 150 x 150 px, got "{name}" version {version}.', _REMEDY)
    mean = np.array([stream.real() for _ in range(3)], dtype=np.float32)
    return DlibLayer("input", mean, _nothing(), window=stream.pair())


def _read_body(stream: DlibStream) -> Iterator[DlibLayer]:
    """Yield the layers after the input."""
    first = True
    while not stream.at_end:
        name = stream.text()
        if name == "con_4":
            yield _read_convolution(stream)
        elif name == "affine_":
            yield _read_affine(stream)
        elif name in ("max_pool_2", "avg_pool_2"):
            window, stride, padding = stream.pair(), stream.pair(), stream.pair()
            yield DlibLayer(name[:-2], _nothing(), _nothing(), window, stride, padding)
        elif name in ("relu_", "add_prev_"):
            yield DlibLayer(name[:-1], _nothing(), _nothing())
        elif name == "fc_2":
            yield _read_projection(stream)
        else:
            raise WeightsError(f'The network has a layer "{name}", which this reader does not know.', _REMEDY)
        stream.layer_end()
        if first:
            stream.expect(1, "the number of samples of a picture")
            first = False


def _read_convolution(stream: DlibStream) -> DlibLayer:
    """Read filters and biases, which dlib keeps one after the other in one tensor."""
    values = stream.tensor().ravel()
    outputs = stream.integer()
    window, stride, padding = stream.pair(), stream.pair(), stream.pair()
    shape, _ = stream.view(), stream.view()
    _skip_multipliers(stream)
    count = int(np.prod(shape))
    if shape[0] != outputs or values.size != count + outputs:
        raise WeightsError(f"A convolution of shape {shape} has {values.size} numbers.", _REMEDY)
    return DlibLayer("con", values[:count].reshape(shape), values[count:], window, stride, padding)


def _read_affine(stream: DlibStream) -> DlibLayer:
    """Read scale and shift per channel."""
    values = stream.tensor().ravel()
    stream.view(), stream.view()
    stream.expect(0, "the mode of an affine layer")
    half = values.size // 2
    return DlibLayer("affine", values[:half], values[half:])


def _read_projection(stream: DlibStream) -> DlibLayer:
    """Read a matrix without biases."""
    outputs, inputs = stream.pair()
    matrix = stream.tensor()
    stream.view(), stream.view()
    stream.expect(1, "the bias mode of the last layer")
    _skip_multipliers(stream)
    if matrix.size != inputs * outputs:
        raise WeightsError(f"The last layer has {matrix.size} numbers, expected {inputs} x {outputs}.", _REMEDY)
    return DlibLayer("fc", matrix.reshape(inputs, outputs), _nothing())


def _skip_multipliers(stream: DlibStream) -> None:
    """Skip the factors for learning rate and weight decay, of weights and biases."""
    for _ in range(4):
        stream.real()


def _nothing() -> Float32Array:
    """Return the tensor of a layer that has none."""
    return np.zeros(0, dtype=np.float32)


def package_file(name: str = RECOGNISER_FILE) -> Path:
    """Locate a weight file in the installed package, which is not imported: its start needs ``pkg_resources``.

    Raises:
        WeightsError: When the package is not installed.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"The package {WEIGHTS_PACKAGE} is not installed.", f"Run: pip install {WEIGHTS_PACKAGE}")
    return Path(spec.submodule_search_locations[0]) / "models" / name
