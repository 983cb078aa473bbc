"""A network of an ONNX file in torch, so that it has gradients: the layers that face recognisers are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from magicmirror.errors import ConfigError, WeightsError

Values = Sequence[Tensor]
Attributes = dict[str, Any]


@dataclass(frozen=True)
class _Node:
    """One layer: which values it reads, and the name of the one that it gives."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: Attributes


class OnnxNetwork(nn.Module):
    """Runs the graph of an ONNX file with one input and one output, layer by layer; frozen.

    Args:
        path: Of the file.

    Attributes:
        operators: Of the layers, in order.
        input_shape: As the file states it; 0 where a size is open.

    Raises:
        ConfigError: When the package ``onnx`` is not installed.
        WeightsError: When the file cannot be read, or has a layer that is not known here.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = _read_graph(path)
        self._buffer_of: dict[str, str] = {}
        self._nodes = _nodes_of(graph)
        unknown = sorted({node.operator for node in self._nodes} - OPERATORS.keys())
        weights = _weights_of(graph)
        inputs = [value for value in graph.input if value.name not in weights]
        if unknown or len(inputs) != 1 or len(graph.output) != 1:
            problem = f"the layer {unknown[0]} is not known here" if unknown else "it has several inputs or outputs"
            raise WeightsError(f'The network "{path}" cannot be run with gradients: {problem}.')
        for number, (name, value) in enumerate(weights.items()):
            self._buffer_of[name] = f"weight{number}"
            self.register_buffer(f"weight{number}", value, persistent=False)
        self._input, self._output = inputs[0].name, graph.output[0].name
        self.input_shape = tuple(size.dim_value for size in inputs[0].type.tensor_type.shape.dim)
        self.operators = [node.operator for node in self._nodes]
        self.eval()

    def forward(self, values: Tensor) -> Tensor:
        """Run the graph.

        Args:
            values: As the file's input wants them.

        Returns:
            Its output.
        """
        known = {name: getattr(self, buffer) for name, buffer in self._buffer_of.items()} | {self._input: values}
        for node in self._nodes:
            given = [known[name] for name in node.inputs if name]
            known[node.output] = OPERATORS[node.operator](given, node.attributes)
        output: Tensor = known[self._output]
        return output


def _read_graph(path: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ConfigError(f"onnx cannot be imported: {error}", "Run: pip install onnx") from error
    try:
        return onnx.load(str(path)).graph
    except Exception as error:  # protobuf's errors share no base with others
        raise WeightsError(f'The network "{path}" cannot be read: it is damaged or only half there.') from error


def _nodes_of(graph: Any) -> list[_Node]:
    from onnx.helper import get_attribute_value

    return [
        _Node(
            node.op_type,
            tuple(node.input),
            node.output[0],
            {attribute.name: get_attribute_value(attribute) for attribute in node.attribute},
        )
        for node in graph.node
    ]


def _weights_of(graph: Any) -> dict[str, Tensor]:
    from onnx.numpy_helper import to_array

    return {value.name: torch.from_numpy(np.array(to_array(value))) for value in graph.initializer}


def _convolution(given: Values, attributes: Attributes) -> Tensor:
    values, weight = given[:2]
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    return functional.conv2d(
        functional.pad(values, (left, right, top, bottom)),
        weight,
        given[2] if len(given) > 2 else None,
        stride=tuple(attributes.get("strides", (1, 1))),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=attributes.get("group", 1),
    )


def _batch_norm(given: Values, attributes: Attributes) -> Tensor:
    values, scale, bias, mean, variance = given
    return functional.batch_norm(values, mean, variance, scale, bias, eps=attributes.get("epsilon", 1e-5))


def _gemm(given: Values, attributes: Attributes) -> Tensor:
    left, right, *added = given
    left = left.T if attributes.get("transA", 0) else left
    right = right.T if attributes.get("transB", 0) else right
    product: Tensor = attributes.get("alpha", 1.0) * (left @ right)
    return product + attributes.get("beta", 1.0) * added[0] if added else product


def _average_pool(given: Values, attributes: Attributes) -> Tensor:
    top, left, *rest = attributes.get("pads", [0, 0, 0, 0])
    if [top, left] != rest:
        raise WeightsError("A pooling layer pads its sides unequally, which is not known here.")
    return functional.avg_pool2d(
        given[0],
        tuple(attributes["kernel_shape"]),
        tuple(attributes.get("strides", (1, 1))),
        (top, left),
        count_include_pad=bool(attributes.get("count_include_pad", 0)),
    )


def _prelu(given: Values, _: Attributes) -> Tensor:
    values, slope = given
    return torch.where(values > 0, values, values * slope)


OPERATORS: dict[str, Callable[[Values, Attributes], Tensor]] = {
    "Add": lambda given, _: given[0] + given[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _convolution,
    "Flatten": lambda given, attributes: given[0].flatten(attributes.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda given, _: given[0].mean((2, 3), keepdim=True),
    "Identity": lambda given, _: given[0],
    "MatMul": lambda given, _: given[0] @ given[1],
    "Mul": lambda given, _: given[0] * given[1],
    "PRelu": _prelu,
    "Relu": lambda given, _: functional.relu(given[0]),
    "Reshape": lambda given, _: given[0].reshape(given[1].tolist()),
    "Sub": lambda given, _: given[0] - given[1],
}
"""ONNX operator -> what it computes. IResNet (w600k_r50, glintr100) and MobileFaceNet (w600k_mbf) have these."""
