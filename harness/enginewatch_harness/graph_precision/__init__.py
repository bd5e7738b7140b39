"""Precision put into an ONNX graph, for tools that build what the graph says (strongly typed TensorRT).

TensorRT 11 and TensorRT-RTX know no other way, TensorRT 10 can do so too. Graphs are kept by the hash of all that
they depend on.
"""

from enginewatch_harness.graph_precision.calibration import Calibration, parse_calibration
from enginewatch_harness.graph_precision.prepare import GraphModel, GraphTool, graph_identity, graph_tool, prepare_graph

__all__ = [
    "Calibration",
    "GraphModel",
    "GraphTool",
    "graph_identity",
    "graph_tool",
    "parse_calibration",
    "prepare_graph",
]
