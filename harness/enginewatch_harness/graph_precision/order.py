"""Order of nodes in a graph. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node behind those whose outputs it reads, as ONNX demands; else the order stays.

    Only the outermost graph is sorted: converters insert nodes there, and what a sub-graph reads from outside counts
    for the node that holds it.
    """
    nodes = list(graph.node)
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    done: set[int] = set()
    ordered: list[onnx.NodeProto] = []
    for first in range(len(nodes)):
        stack = [first]
        while stack:
            index = stack[-1]
            if index in done:
                stack.pop()
                continue
            waits = {maker[name] for name in _reads(nodes[index]) if name in maker} - done - {index}
            if waits & set(stack):
                return  # a cycle: the checker says it better
            if waits:
                stack.extend(sorted(waits, reverse=True))
                continue
            done.add(index)
            ordered.append(nodes[index])
            stack.pop()
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for inner in attribute.g.node:
                yield from _reads(inner)
            yield from (item.name for item in attribute.g.output)
