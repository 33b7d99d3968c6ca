#!/usr/bin/env python3
"""Writes tests/golden/onnx/opset_<n>.onnx: one-node cases with numbers of our own, side by side in a graph for each opset.
Inputs are initializers; what ONNX Runtime (where it lacks the op or type, onnx.reference) makes of them is an initializer
want.<name of the output>. Node tests read them: onnx_node_tests opset_17.onnx.

    python3 make_golden.py FOLDER
"""
import pathlib
import sys

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

rng = np.random.default_rng(16)
f32, f64, f16, bf16 = np.float32, np.float64, np.float16, ml_dtypes.bfloat16
i8, i16, i32, i64 = np.int8, np.int16, np.int32, np.int64
u8, u16, u32, u64 = np.uint8, np.uint16, np.uint32, np.uint64
cases = {}  # opset: [(op, inputs, attributes, outputs)]


def case(opset, op, *inputs, out=1, **attributes):
    cases.setdefault(opset, []).append((op, inputs, attributes, out))


def some(*shape, dtype=f32, low=-3.0, high=3.0):
    return rng.uniform(low, high, shape).astype(dtype)


def whole(*shape, dtype=i64, low=-9, high=9):
    return rng.integers(low, high + 1, shape).astype(dtype)


def ints(*values):
    return np.array(values, i64)


nan, inf = f32("nan"), f32("inf")
odd = np.array([nan, inf, -inf, 0.0, -0.0, 1e-40, 3e38, -1.5, 2.5, 0.5], f32)

# functions of one number
for op in ("Abs Ceil Exp Floor Neg Reciprocal Relu Round Sigmoid Sign Softplus Softsign Sqrt Tanh Erf Elu Selu LeakyRelu "
           "ThresholdedRelu HardSigmoid HardSwish Sin Cos Tan Sinh Cosh Asinh Atan Celu Shrink").split():
    case(17, op, some(3, 5))
    if op not in ("Sinh", "Cosh", "Exp", "Tan", "Sin", "Cos", "Shrink"):
        case(17, op, odd)
for op in ("Acos", "Asin", "Atanh"):
    case(17, op, some(7, low=-0.99, high=0.99, dtype=f64 if op == "Acos" else f32))
case(17, "Acosh", some(7, low=1.01))
case(17, "Log", some(7, low=0.01))
for op in ("Mish", "BitwiseNot"):
    case(18, op, some(9) if op == "Mish" else whole(9, dtype=i16))
case(20, "Gelu", some(9))
case(20, "Gelu", some(9), approximate="tanh")
case(17, "Elu", some(9, dtype=f32), alpha=0.3)
case(17, "HardSigmoid", some(9), alpha=0.4, beta=0.2)
case(17, "Shrink", some(9), bias=0.5, lambd=1.2)
case(17, "Abs", np.array([-128, -1, 127], i8))
case(17, "Neg", np.array([-128, 5, 0], i8))
case(17, "Sign", whole(6, dtype=u8, low=0))
case(17, "Not", np.array([True, False]))
case(17, "IsNaN", odd)
case(17, "IsInf", odd)
case(17, "IsInf", odd, detect_negative=0)
for op in ("Sigmoid", "Tanh", "Exp", "Sqrt"):
    case(17, op, np.abs(some(6)).astype(f16))

# of two, broadcast
for op in ("Add", "Sub", "Mul", "Div"):
    case(17, op, some(2, 1, 4), some(3, 1))
    case(17, op, some(4, dtype=f64), some(1, dtype=f64))
    case(17, op, whole(5, dtype=i32), np.array([2, -2, 3, -5, 7], i32))
    case(17, op, np.array([120, -120, 100], i8), np.array([100, 99, -3], i8))
    case(17, op, np.array([200, 3, 2**64 - 5], u64), np.array([7, 5, 3], u64))
    case(17, op, some(6, dtype=f16), some(6, dtype=f16, low=0.5))
case(17, "Div", some(3), np.array([0.0, -0.0, 2.0], f32))
for fmod in (0, 1):
    case(17, "Mod", np.array([-4, 7, 5, 4, -7, 8], i64), np.array([2, -3, 8, -2, 3, 5], i64), fmod=fmod)
    case(17, "Mod", np.array([250, 7, 5], u8), np.array([7, 3, 8], u8), fmod=fmod)
case(17, "Mod", some(6), some(6), fmod=1)
case(17, "Pow", some(2, 3, low=0.1), some(3))
case(17, "Pow", np.array([1, 2, 3], i32), np.array([4, 5, 6], f32))
case(17, "Pow", np.array([1.0, 2.0, 3.0], f32), np.array([4, 5, 2], i64))
case(17, "Pow", np.array([-2, 3, 2], i64), np.array([3, 4, 62], i64))
case(17, "PRelu", some(2, 3, 4), some(3, 1))
for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
    case(17, op, whole(4, 1, low=0, high=2), whole(3, low=0, high=2))
    case(17, op, odd, odd[::-1].copy())
    case(17, op, np.array([2**64 - 1, 5], u64), np.array([5, 5], u64))
case(17, "Equal", np.array([True, False, True]), np.array([True, True, False]))
for op in ("And", "Or", "Xor"):
    case(17, op, np.array([[True], [False]]), np.array([True, False]))
for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
    case(18, op, whole(6, dtype=i32, low=-99, high=99), whole(6, dtype=i32, low=-99, high=99))
for way in ("LEFT", "RIGHT"):
    case(17, "BitShift", np.array([16, 255, 1], u8), np.array([1, 2, 7], u8), direction=way)
for op in ("Max", "Min", "Sum", "Mean"):
    case(17, op, some(2, 3), some(3), some(2, 1))
    case(17, op, some(4, dtype=f64))
case(17, "Max", odd, odd[::-1].copy())
case(17, "Min", odd, odd[::-1].copy())
case(17, "Max", whole(3, dtype=i8), whole(3, dtype=i8))
case(17, "Min", np.array([2**64 - 1, 1], u64), np.array([3, 2], u64))
case(10, "Clip", some(8), min=-1.0, max=1.5)
case(17, "Clip", some(8), np.array(-1, f32), np.array(1.5, f32))
case(17, "Clip", whole(8, dtype=i8), np.array(-3, i8))
case(17, "Clip", some(8), None, np.array(0.5, f32))
case(17, "Clip", odd, np.array(2, f32), np.array(1, f32))
case(17, "Where", np.array([[True], [False]]), some(2, 3), some(3))
case(17, "Where", np.array([True, False, True]), whole(2, 3, dtype=i8), whole(1, dtype=i8))

# from one type to another
TYPES = {n: helper.np_dtype_to_tensor_dtype(np.dtype(n)) for n in (f32, f64, f16, i8, i16, i32, i64, u8, u16, u32, u64, np.bool_)}
for to in TYPES.values():
    case(17, "Cast", np.array([-2.7, 2.7, 0.0, 1.5, 100.9][0 if to in (1, 10, 11, 3, 5, 6, 7, 9) else 1:], f32), to=to)
    case(17, "Cast", np.array([-1, 300, 70000, 0], i64), to=to)
case(17, "Cast", np.array([2**64 - 1, 3], u64), to=1)
case(17, "Cast", np.array([1.0009765, 1.0015, 65519.9, 65520.0, 6e-8, 3e-8, 2.98e-8], f64), to=10)
case(17, "Cast", np.array([1.00390625, 1.01171875, -3.3], f32), to=16)
case(17, "CastLike", np.array([1.5, -2.5], f32), np.array(0, i64))

# shapes
case(17, "Shape", some(2, 3, 4))
case(17, "Shape", some(2, 3, 4), start=-2)
case(17, "Shape", some(2, 3, 4), start=1, end=-1)
case(17, "Shape", some(2, 3, 4), start=5, end=-9)
case(17, "Size", some(2, 3, 4))
case(17, "Reshape", some(2, 3, 4), ints(0, -1))
case(17, "Reshape", some(2, 3, 4), ints(4, 1, -1, 2))
case(17, "Reshape", some(0, 3), ints(3, 0, 2), allowzero=1)
for axis in (0, 1, 2, -1, 3):
    case(17, "Flatten", some(2, 3, 4), axis=axis)
case(12, "Squeeze", some(1, 3, 1, 2), axes=[0])
case(12, "Unsqueeze", some(3, 2), axes=[0, 2])
case(17, "Squeeze", some(1, 3, 1, 2))
case(17, "Squeeze", some(1, 3, 1, 2), ints(-2))
case(17, "Unsqueeze", some(3, 2), ints(-1, 0))
case(17, "ConstantOfShape", ints(2, 3), value=numpy_helper.from_array(np.array([7], i32)))
case(17, "ConstantOfShape", ints())
case(17, "Identity", odd)
case(17, "EyeLike", whole(3, 4, dtype=i32), k=1)
case(17, "EyeLike", some(3, 2), k=-1, dtype=11)
case(17, "Range", np.array(5, i64), np.array(-4, i64), np.array(-3, i64))
case(17, "Range", np.array(0.5, f32), np.array(2.6, f32), np.array(0.3, f32))
case(17, "Transpose", some(2, 3, 4))
case(17, "Transpose", whole(2, 3, 4, 5, dtype=u8, low=0), perm=[2, 0, 3, 1])
for mode in ("DCR", "CRD"):
    case(17, "DepthToSpace", some(1, 8, 2, 3), blocksize=2, mode=mode)
case(17, "SpaceToDepth", some(1, 2, 4, 6), blocksize=2)
case(17, "Slice", some(4, 5), ints(1, -1), ints(2**62, -(2**62)), ints(0, 1), ints(2, -2))
case(17, "Slice", some(4, 5), ints(-3), ints(-1))
case(17, "Slice", whole(6, dtype=u8, low=0), np.array([4], i32), np.array([1], i32), np.array([0], i32), np.array([1], i32))
case(9, "Slice", some(4, 5), starts=[1], ends=[-1], axes=[-1])
case(12, "Split", some(2, 6), out=2, axis=1, split=[2, 4])
case(17, "Split", some(2, 6), ints(1, 0, 5), out=3, axis=-1)
case(17, "Split", some(6), out=3)
case(18, "Split", some(7), out=3, num_outputs=3)
case(17, "Concat", some(2, 1, 3), some(2, 2, 3), some(2, 0, 3), axis=1)
case(17, "Concat", whole(2, 3, dtype=i8), whole(2, 1, dtype=i8), axis=-1)
case(17, "Expand", some(3, 1), ints(2, 1, 4))
case(17, "Tile", some(2, 3), ints(2, 2))
case(17, "Tile", some(2, 3), ints(0, 1))
case(10, "Pad", some(2, 3), pads=[1, 0, 0, 2], value=2.5)
case(17, "Pad", some(2, 3), ints(1, -1, 0, 2), np.array(1.5, f32))
for mode in ("reflect", "edge"):
    case(17, "Pad", some(3, 4), ints(2, 1, 1, 3), mode=mode)
case(19, "Pad", some(3, 4), ints(2, 3), None, ints(-1), mode="wrap")

# by index
case(17, "Gather", some(4, 3), whole(2, 2, low=-4, high=3))
case(17, "Gather", some(2, 4, 3), np.array(-1, i32), axis=1)
case(17, "GatherElements", some(3, 4), whole(3, 2, low=-4, high=3), axis=1)
case(17, "GatherND", some(2, 3, 4), whole(2, 2, low=-2, high=1))
case(17, "GatherND", some(2, 3, 4), whole(2, 2, 1, low=-3, high=2), batch_dims=1)
case(17, "Compress", some(3, 4), np.array([False, True, True]), axis=1)
case(17, "Compress", some(3, 4), np.array([True, False, False, True, True]))
case(17, "NonZero", whole(3, 4, low=-1, high=1))
case(17, "OneHot", ints(0, -1, 3, 7), np.array(4, i64), np.array([0.5, 2.0], f32))
case(17, "OneHot", whole(2, 3, low=-2, high=2), np.array(3, i64), np.array([0, 1], i32), axis=1)
case(17, "ReverseSequence", some(4, 3), ints(2, 4, 1), time_axis=0, batch_axis=1)
case(17, "ScatterElements", some(3, 4), whole(2, 4, low=-3, high=2), some(2, 4), axis=0)
for reduction in ("add", "mul", "max", "min"):
    case(18, "ScatterElements", some(4), ints(1, 1, -1), some(3), reduction=reduction)
    case(18, "ScatterND", whole(4, 2, low=-9), ints(1, 1, 3).reshape(3, 1), whole(3, 2), reduction=reduction)
case(17, "ScatterND", some(3, 2), ints(2, 0).reshape(2, 1), some(2, 2))
for upper in (0, 1):
    case(17, "Trilu", some(2, 3, 4), np.array(-1, i64), upper=upper)
case(17, "Trilu", some(3, 3), np.array(2**62, i64))

# by order
ties = np.array([[1, 3, 3, 0], [2, 2, -1, 2]], f32)
for op in ("ArgMax", "ArgMin"):
    case(17, op, ties, axis=1)
    case(17, op, ties, axis=-1, keepdims=0, select_last_index=1)
    case(17, op, whole(3, 2, dtype=i32))
case(17, "TopK", ties, ints(3), out=2)
case(17, "TopK", whole(3, 4), ints(2), out=2, axis=0, largest=0)
case(9, "TopK", some(2, 5), out=2, k=2)
case(17, "Unique", np.array([2.0, 1.0, 1.0, 3.0, 2.0], f32), out=4)
case(17, "Unique", np.array([[1, 0], [1, 0], [0, 3]], i64), out=4, axis=0, sorted=0)
case(17, "CumSum", some(2, 3), np.array(1, i32))
case(17, "CumSum", whole(4), np.array(0, i32), exclusive=1, reverse=1)
case(12, "Hardmax", some(2, 3, 2), axis=1)
case(17, "Hardmax", ties)

# reductions
for op in "Sum Mean Prod Max Min L1 L2 LogSum LogSumExp SumSquare".split():
    x = np.abs(some(2, 3, 4)) if op == "LogSum" else some(2, 3, 4)
    case(12, "Reduce" + op, x, axes=[1, -1], keepdims=0)
    case(18, "Reduce" + op, x, ints(0))
    case(18, "Reduce" + op, x)
    case(18, "Reduce" + op, x.astype(f64), ints(-1), keepdims=0)
for op in ("Sum", "Prod", "Max", "Min", "Mean"):
    case(18, "Reduce" + op, whole(3, 4, dtype=i32), ints(1))
case(17, "ReduceSum", some(2, 3), ints(), noop_with_empty_axes=1)
case(20, "ReduceMax", np.array([[True, False], [False, False]]), ints(1))
case(17, "Einsum", some(2, 3), some(3, 4), equation="ij,jk->ik")
case(17, "Einsum", some(2, 3, 4), some(2, 4, 5), equation="...ij,...jk->...ik")
case(17, "Einsum", some(3, 3), equation="ii->i")
case(17, "Einsum", some(2, 3), some(2, 3), equation="ij,ij")


def imports(opset, nodes):
    return [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in sorted({n.domain for n in nodes} - {""})]


def model_of(opset, op, inputs, attributes, n_out):
    names = ["" if x is None else f"i{k}" for k, x in enumerate(inputs)]
    outs = [f"o{k}" for k in range(n_out)]
    node = helper.make_node(op, names, outs, **attributes)
    feeds = {n: x for n, x in zip(names, inputs) if x is not None}
    ins = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in feeds.items()]
    graph = helper.make_graph([node], "case", ins, [onnx.ValueInfoProto(name=n) for n in outs])
    return helper.make_model(graph, opset_imports=imports(opset, [node]), ir_version=8), feeds


def by_reference(*case_):
    model, feeds = model_of(*case_)
    return ReferenceEvaluator(model).run(None, feeds)


def run(*case_):
    model, feeds = model_of(*case_)
    try:
        onnxruntime.set_default_logger_severity(4)
        inferred = onnx.shape_inference.infer_shapes(model)
        return onnxruntime.InferenceSession(inferred.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds), True
    except Exception:
        return by_reference(*case_), False


def write(folder, prefix="opset"):
    for opset, list_ in sorted(cases.items()):
        nodes, constants, outputs, referenced = [], [], [], []
        for at, (op, inputs, attributes, n_out) in enumerate(list_):
            values, by_runtime = run(opset, op, inputs, attributes, n_out)
            if not by_runtime:
                referenced.append(op)
            name = f"{op}_{at}"
            ins = ["" if x is None else f"{name}.in{k}" for k, x in enumerate(inputs)]
            outs = [f"{name}.{k}" for k in range(n_out)]
            nodes.append(helper.make_node(op, ins, outs, name=name, **attributes))
            constants += [numpy_helper.from_array(x, n) for n, x in zip(ins, inputs) if x is not None]
            for n, v in zip(outs, values):
                constants.append(numpy_helper.from_array(np.asarray(v), "want." + n))
                kind = helper.np_dtype_to_tensor_dtype(np.asarray(v).dtype)
                outputs.append(helper.make_tensor_value_info(n, kind, np.asarray(v).shape))
        graph = helper.make_graph(nodes, f"opset {opset}", [], outputs, constants)
        model = helper.make_model(graph, opset_imports=imports(opset, nodes), ir_version=8)
        onnx.save(model, pathlib.Path(folder) / f"{prefix}_{opset}.onnx")
        print(f"opset {opset}: {len(list_)} cases; by onnx.reference: {' '.join(referenced)}")


if __name__ == "__main__":
    write(sys.argv[1])
