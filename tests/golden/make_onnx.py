#!/usr/bin/env python3
"""Small .onnx files written by the format's own library (pip install onnx==1.16.2): make_onnx.py DIRECTORY

types.onnx: an initializer of each type, typed and raw, element i being the formula below.
calls.onnx: functions that call functions, attributes by reference, a body that reads outer names.
old.onnx: IR 3, initializers among the inputs, weights in a Constant node, nodes in no order.
outside.onnx: data in outside.data, two tensors at offsets of their own.
"""
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto as T, helper as h, numpy_helper

N = 5


def formula(i):
    return i % 7 - 3


def save(directory, name, graph, **more):
    model = h.make_model(graph, producer_name="make_onnx", producer_version="1", **more)
    onnx.checker.check_model(model)
    onnx.save(model, os.path.join(directory, name))


def vector(name, shape, kind=T.FLOAT):
    return h.make_tensor_value_info(name, kind, shape)


def types(directory):
    kinds = [T.FLOAT, T.UINT8, T.INT8, T.UINT16, T.INT16, T.INT32, T.INT64, T.BOOL, T.FLOAT16, T.DOUBLE, T.UINT32,
             T.UINT64, T.BFLOAT16, T.UINT4, T.INT4]
    constants = []
    for kind in kinds:
        name = T.DataType.Name(kind)
        values = [formula(i) for i in range(N)]
        if name.startswith("U"):
            values = [v + 3 for v in values]
        if kind == T.BOOL:
            values = [v & 1 for v in values]
        typed = h.make_tensor(name + ".typed", kind, [N], values)
        constants.append(typed)
        if kind == T.BFLOAT16:
            raw = (np.array(values, np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        elif kind in (T.UINT4, T.INT4):
            nibbles = [v & 15 for v in values] + [0]
            raw = bytes(nibbles[i] | nibbles[i + 1] << 4 for i in range(0, N, 2))
        else:
            raw = np.array(values, h.tensor_dtype_to_np_dtype(kind)).tobytes()
        constants.append(h.make_tensor(name + ".raw", kind, [N], raw, raw=True))
    constants.append(h.make_tensor("scalar", T.FLOAT, [], [0.25]))
    constants.append(h.make_tensor("empty", T.FLOAT, [0, 3], []))
    unpacked = T(name="unpacked", data_type=T.INT64, dims=[3])
    data = unpacked.SerializeToString() + b"".join(bytes([7 << 3, v]) for v in (4, 5, 6))
    constants.append(T.FromString(data))
    nodes = [h.make_node("Add", ["x", "scalar"], ["y"], name="sum")]
    graph = h.make_graph(nodes, "types", [vector("x", ["N", 3, None])], [vector("y", ["N", 3, None])], constants)
    save(directory, "types.onnx", graph, opset_imports=[h.make_opsetid("", 21)], ir_version=10)


def calls(directory):
    inner = h.make_function(
        "my", "scale", ["a"], ["b"],
        [h.make_node("Constant", [], ["k"], value_float=2.0), h.make_node("Mul", ["a", "k"], ["t"]),
         h.make_node("LeakyRelu", ["t"], ["b"])], [h.make_opsetid("", 17)], attributes=["slope"])
    inner.node[2].attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=1))
    outer = h.make_function(
        "my", "twice", ["a", "absent"], ["b", "same", "unused"],
        [h.make_node("scale", ["a"], ["t"], domain="my", slope=0.5),
         h.make_node("scale", ["t"], ["b"], domain="my"), h.make_node("Identity", ["b"], ["unused"])],
        [h.make_opsetid("", 17), h.make_opsetid("my", 1)])
    outer.node[1].attribute.append(onnx.AttributeProto(name="slope", ref_attr_name="s", type=1))
    outer.attribute_proto.append(h.make_attribute("s", 0.125))
    outer.output[1] = "a"
    branch = [h.make_graph([h.make_node(op, ["y"], [op])], op, [], [vector(op, None)]) for op in ("Neg", "Abs")]
    nodes = [
        h.make_node("twice", ["x"], ["y", "x2"], domain="my", name="call"),
        h.make_node("If", ["flag"], ["z"], then_branch=branch[0], else_branch=branch[1]),
        h.make_node("twice", ["z"], ["w"], domain="my", s=0.75),
        h.make_node("Add", ["w", "x2"], ["out"]),
    ]
    graph = h.make_graph(nodes, "calls", [vector("x", ["N"]), vector("flag", [], T.BOOL)], [vector("out", ["N"])])
    model = h.make_model(graph, functions=[inner, outer], ir_version=8,
                         opset_imports=[h.make_opsetid("", 17), h.make_opsetid("my", 1)])
    onnx.save(model, os.path.join(directory, "calls.onnx"))


def old(directory):
    weight = numpy_helper.from_array(np.array([[formula(3 * i + k) for k in range(3)] for i in range(2)], np.float32))
    nodes = [
        h.make_node("Relu", ["b"], ["y"], name="last"),
        h.make_node("Add", ["a", "bias"], ["b"], name="second"),
        h.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        h.make_node("Constant", [], ["w"], value=weight),
    ]
    bias = h.make_tensor("bias", T.FLOAT, [3], [formula(i) for i in range(3)])
    graph = h.make_graph(nodes, "old", [vector("x", [-1, 2]), vector("bias", [3])], [vector("y", [-1, 3])], [bias])
    model = h.make_model(graph, ir_version=3, opset_imports=[h.make_opsetid("ai.onnx", 7)])
    h.set_model_props(model, {"author": "make_onnx"})
    onnx.save(model, os.path.join(directory, "old.onnx"))


def outside(directory):
    data = np.arange(40, dtype=np.float32)
    data.tofile(os.path.join(directory, "outside.data"))

    def constant(name, offset, length, dims):
        t = T(name=name, data_type=T.FLOAT, dims=dims, data_location=T.EXTERNAL)
        for key, value in (("location", "outside.data"), ("offset", offset), ("length", length), ("checksum", "0")):
            if value is not None:
                t.external_data.add(key=key, value=str(value))
        return t

    nodes = [h.make_node("MatMul", ["x", "a"], ["t"]), h.make_node("Add", ["t", "b"], ["y"])]
    graph = h.make_graph(nodes, "outside", [vector("x", ["N", 3])], [vector("y", ["N", 4])],
                         [constant("a", None, 48, [3, 4]), constant("b", 64, None, [4])])
    with open(os.path.join(directory, "outside.onnx"), "wb") as f:
        f.write(h.make_model(graph, ir_version=8, opset_imports=[h.make_opsetid("", 17)]).SerializeToString())


if __name__ == "__main__":
    for make in (types, calls, old, outside):
        make(sys.argv[1])
