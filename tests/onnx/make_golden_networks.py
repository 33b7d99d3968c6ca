#!/usr/bin/env python3
"""As make_golden.py does, opset_networks_<n>.onnx: convolutions, products, pooling, norms, recurrences, resampling, bodies.

Where onnx.reference, computing in f64, agrees with it, its numbers are taken, rounded: they are right in all digits.

    python3 make_golden_networks.py FOLDER
"""
import sys

import numpy as np
from onnx import TensorProto, helper

import make_golden
from make_golden import bf16, case, f16, f32, f64, i8, i32, i64, ints, some, u8, whole

make_golden.cases.clear()
make_golden.rng = np.random.default_rng(17)


in_f32 = make_golden.run


def run(opset, op, inputs, attributes, n_out):
    values, by_runtime = in_f32(opset, op, inputs, attributes, n_out)
    wide = [x.astype(f64) if x is not None and x.dtype == f32 else x for x in inputs]
    try:
        exact = make_golden.by_reference(opset, op, wide, attributes, n_out)
        far = [np.max(np.abs(e - v.astype(f64)), initial=0) / np.max(np.abs(e), initial=1e-30) for e, v in zip(exact, map(np.asarray, values))]
        if len(exact) == len(values) and max(far) < 1e-4:
            return [np.asarray(e, np.asarray(v).dtype).reshape(np.shape(v)) for e, v in zip(exact, values)], by_runtime
        print(f"{op} {attributes}: onnx.reference is {max(far):.1e} away")
    except Exception as e:
        print(f"{op} {attributes}: onnx.reference: {str(e)[:90]}")
    return values, by_runtime


make_golden.run = run


def scalar(x, dtype=f32):
    return np.array(x, dtype)


# convolutions: dimensions, groups, strides, dilations, pads
case(17, "Conv", some(2, 3, 9), some(4, 3, 3), some(4), strides=[2], pads=[1, 0])
case(17, "Conv", some(2, 4, 7, 6), some(6, 2, 3, 2), some(6), group=2, dilations=[2, 1], pads=[0, 1, 2, 1])
case(17, "Conv", some(1, 4, 8, 8), some(4, 1, 3, 3), group=4, auto_pad="SAME_LOWER", strides=[2, 2])
case(17, "Conv", some(1, 2, 5, 5), some(3, 2, 4, 4), auto_pad="SAME_UPPER")
case(17, "Conv", some(1, 2, 4, 5, 6), some(3, 2, 2, 3, 2), some(3), strides=[1, 2, 1], pads=[1, 0, 0, 0, 1, 1])
case(17, "Conv", some(1, 200, 12, 12), some(9, 200, 3, 3), pads=[1, 1, 1, 1])  # several blocks
case(17, "Conv", some(1, 2, 5, 5, dtype=f64), some(3, 2, 2, 2, dtype=f64))
case(17, "ConvTranspose", some(2, 3, 5), some(3, 4, 3), some(4), strides=[2], output_padding=[1])
case(17, "ConvTranspose", some(1, 4, 3, 4, low=0.1), some(4, 2, 3, 3, low=0.1), group=2, strides=[3, 2], pads=[1, 0, 0, 1], dilations=[1, 2])
case(17, "ConvTranspose", some(1, 2, 3, 3, low=0.1), some(2, 2, 3, 3, low=0.1), strides=[2, 2], output_shape=[6, 5])
case(17, "ConvTranspose", some(1, 2, 3, 3), some(2, 2, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER")
case(17, "ConvInteger", whole(1, 2, 5, 5, dtype=u8, low=0, high=255), whole(3, 2, 2, 2, dtype=u8, low=0, high=255), scalar(3, u8), scalar(7, u8))
case(17, "QLinearConv", whole(1, 2, 5, 5, dtype=u8, low=0, high=255), scalar(0.02), scalar(120, u8), whole(3, 2, 3, 3, dtype=i8, low=-99, high=99),
     np.array([0.01, 0.02, 0.005], f32), np.array([0, 0, 0], i8), scalar(0.09), scalar(100, u8), whole(3, dtype=i32, low=-500, high=500),
     pads=[1, 1, 1, 1])
case(19, "DeformConv", some(1, 2, 5, 5, low=0.1), some(3, 2, 2, 2, low=0.1), some(1, 8, 4, 4, low=-1, high=1), some(3, low=0.1), some(1, 4, 4, 4, low=0.1))

# products
case(17, "MatMul", some(2, 1, 3, 5), some(4, 5, 2))
case(17, "MatMul", some(5), some(3, 5, 2))
case(17, "MatMul", some(2, 3, 5), some(5))
case(17, "MatMul", some(70, 300), some(300, 140))  # more than a block each way
case(17, "MatMul", whole(3, 4, dtype=i32), whole(4, 2, dtype=i32))
case(17, "MatMul", some(3, 4, dtype=f16), some(4, 2, dtype=f16))
case(17, "Gemm", some(4, 3), some(4, 5), some(1, 5), transA=1, alpha=0.5, beta=2.0)
case(17, "Gemm", some(3, 4), some(5, 4), some(3, 1), transB=1)
case(9, "Gemm", some(3, 4), some(4, 5), some(5))
case(17, "MatMulInteger", whole(3, 4, dtype=u8, low=0, high=255), whole(4, 2, dtype=i8), scalar(9, u8), np.array([1, -2], i8))
case(17, "QLinearMatMul", whole(2, 3, 4, dtype=u8, low=0, high=255), scalar(0.01), scalar(128, u8), whole(2, 4, 2, dtype=u8, low=0, high=255), scalar(0.02),
     scalar(99, u8), scalar(0.05), scalar(120, u8))

# what is normalised
case(17, "BatchNormalization", some(2, 3, 4), some(3), some(3), some(3), some(3, low=0.1))
case(17, "BatchNormalization", some(4, 3, 2, 2), some(3), some(3), some(3), some(3, low=0.1), out=3, training_mode=1, momentum=0.7)
case(17, "InstanceNormalization", some(2, 3, 4, 4), some(3), some(3), epsilon=0.01)
case(17, "LayerNormalization", some(2, 3, 4), some(3, 4), some(3, 4), axis=1, out=3)
case(17, "LayerNormalization", some(2, 3, 4), some(4))
case(23, "RMSNormalization", some(2, 3, 4), some(4))
case(18, "GroupNormalization", some(2, 6, 3), some(3), some(3), num_groups=3)
case(21, "GroupNormalization", some(2, 6, 3), some(6), some(6), num_groups=3)
case(17, "LpNormalization", some(2, 3, 4), axis=1, p=1)
case(17, "MeanVarianceNormalization", some(2, 3, 4, 2))
case(17, "LRN", some(1, 7, 2, 2), size=3, alpha=0.3, beta=0.6, bias=2.0)
for op in ("Softmax", "LogSoftmax"):
    case(11, op, some(2, 3, 4), axis=1)
    case(17, op, some(2, 3, 4), axis=1)
    case(17, op, some(2, 3) * f32(100))
case(17, "NegativeLogLikelihoodLoss", some(2, 3, 4), np.array([[0, 1, 2, 1], [2, 2, 0, 1]], i64), some(3, low=0.1), ignore_index=1)
case(17, "SoftmaxCrossEntropyLoss", some(4, 3), np.array([0, 2, 1, 1], i64), out=2, reduction="none")

# pooling
case(17, "MaxPool", some(1, 2, 7, 6), out=2, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], ceil_mode=1)
case(17, "MaxPool", some(1, 2, 7, 6), kernel_shape=[2, 3], dilations=[2, 1], auto_pad="NOTSET")
case(17, "MaxPool", some(2, 1, 5), kernel_shape=[2], auto_pad="SAME_UPPER")
case(17, "MaxPool", whole(1, 1, 4, 4, dtype=i8), kernel_shape=[2, 2])
case(17, "AveragePool", some(1, 2, 7, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
case(17, "AveragePool", some(1, 2, 7, 6), kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
case(17, "AveragePool", some(1, 1, 4, 4, 4), kernel_shape=[2, 2, 2])
case(17, "LpPool", some(1, 2, 6, 6), kernel_shape=[2, 2], strides=[2, 2], p=3)
for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
    case(17, op, some(2, 3, 4, 5))
case(17, "MaxUnpool", some(1, 1, 2, 2), np.array([[[[5, 7], [13, 15]]]], i64), kernel_shape=[2, 2], strides=[2, 2])
case(17, "MaxRoiPool", some(2, 3, 8, 8), np.array([[0, 1, 1, 6, 5], [1, 0, 2, 7, 7]], f32), pooled_shape=[2, 3])
case(17, "RoiAlign", some(2, 3, 8, 8), np.array([[1, 1, 6, 5], [0, 2, 7, 7]], f32), np.array([0, 1], i64), output_height=2, output_width=3,
     sampling_ratio=2, spatial_scale=0.5)
case(17, "RoiAlign", some(2, 3, 8, 8), np.array([[1, 1, 6, 5]], f32), np.array([1], i64), output_height=2, output_width=2, mode="max",
     coordinate_transformation_mode="output_half_pixel")

# resampling
image = some(1, 2, 5, 6, low=0.5)
none = np.array([], f32)
for mode in ("nearest", "linear", "cubic"):
    for transform in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        sizes = (none, none, ints(1, 2, 7, 4)) if transform == "align_corners" else (none, np.array([1, 1, 1.5, 0.75], f32))
        case(17, "Resize", image, *sizes, mode=mode, coordinate_transformation_mode=transform)
    case(18, "Resize", image, None, None, ints(1, 2, 3, 4), mode=mode, antialias=int(mode != "nearest"))
for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
    case(17, "Resize", image, none, none, ints(1, 2, 8, 9), nearest_mode=nearest)
case(18, "Resize", image, None, None, ints(9, 9), axes=[3, 2], keep_aspect_ratio_policy="not_larger", mode="linear")
case(17, "Resize", image, np.array([0, 0, 0.2, 0.3, 1, 1, 0.9, 1.2], f32), none, ints(1, 2, 4, 5), mode="linear",
     coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=9.0)
case(10, "Resize", image, np.array([1, 1, 2, 2], f32))
case(9, "Upsample", image, np.array([1, 1, 2, 3], f32), mode="linear")
for padding in ("zeros", "border", "reflection"):
    for mode in ("bilinear", "nearest", "bicubic"):
        case(16, "GridSample", some(1, 2, 4, 5, low=0.5), np.round(some(1, 3, 3, 2, low=-1.4, high=1.4) * f32(16)) / f32(16), mode=mode, padding_mode=padding)
case(20, "GridSample", some(1, 2, 3, 4, 5), some(1, 2, 2, 2, 3, low=-1, high=1), mode="linear", align_corners=1)
case(20, "AffineGrid", some(2, 2, 3), ints(2, 3, 4, 5), align_corners=1)
case(18, "Col2Im", some(2, 12, 6), ints(3, 5), ints(2, 2), strides=[1, 2], pads=[0, 0, 0, 1])
case(18, "CenterCropPad", some(3, 6, 4), ints(5, 3), axes=[0, 1])
case(17, "NonMaxSuppression", np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, -0.1, 1, 0.9], [0, 10, 1, 11], [0, 10.1, 1, 11.1]]], f32),
     np.array([[[0.9, 0.75, 0.6, 0.95, 0.5]]], f32), ints(3), np.array([0.5], f32), np.array([0.0], f32))

# signals
case(17, "DFT", some(1, 8, 1), onesided=1)
case(17, "DFT", some(1, 10, 2, 2), axis=1, inverse=1)
case(20, "DFT", some(2, 6, 2), scalar(9, i64), scalar(-2, i64))
case(17, "STFT", some(1, 20, 1), scalar(4, i64), some(8), scalar(8, i64))
for op in ("HannWindow", "HammingWindow", "BlackmanWindow"):
    case(17, op, scalar(9, i64), periodic=0)
case(17, "MelWeightMatrix", scalar(4, i64), scalar(32, i64), scalar(8000, i64), scalar(100.0), scalar(3000.0))

# recurrences: gates, both ways, lengths, states
def gate(*shape):
    return some(*shape, low=-0.2, high=0.6)


for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
    n_out = 3 if op == "LSTM" else 2
    state = [gate(2, 3, 5)] + ([gate(2, 3, 5), gate(2, 15)] if op == "LSTM" else [])
    case(17, op, gate(4, 3, 2), gate(2, gates * 5, 2), gate(2, gates * 5, 5), gate(2, gates * 10), np.array([4, 2, 3], i32), *state,
         out=n_out, hidden_size=5, direction="bidirectional")
    case(17, op, gate(4, 3, 2), gate(1, gates * 5, 2), gate(1, gates * 5, 5), out=n_out, hidden_size=5, direction="reverse", clip=0.8)
case(17, "GRU", gate(4, 3, 2), gate(1, 15, 2), gate(1, 15, 5), gate(1, 30), out=2, hidden_size=5, linear_before_reset=1)
case(17, "RNN", gate(4, 3, 2), gate(1, 5, 2), gate(1, 5, 5), out=2, hidden_size=5, activations=["LeakyRelu"], activation_alpha=[0.3])
case(17, "LSTM", gate(4, 3, 2), gate(1, 20, 2), gate(1, 20, 5), out=3, hidden_size=5, activations=["HardSigmoid", "Softsign", "Relu"],
     activation_alpha=[0.3], activation_beta=[0.4])

# quantised
case(17, "QuantizeLinear", some(2, 3, 4), np.array([0.1, 0.02, 0.3], f32), np.array([1, 128, 9], u8))
case(17, "QuantizeLinear", np.array([0.5, 1.5, 2.5, -0.5, 300], f32), scalar(1.0), scalar(0, i8))
case(17, "DequantizeLinear", whole(2, 3, dtype=i8), scalar(0.3), scalar(4, i8))
case(17, "DequantizeLinear", whole(2, 3, dtype=i32), np.array([0.3, 0.1], f32), axis=0)
case(21, "QuantizeLinear", some(2, 6), some(2, 2, low=0.1), whole(2, 2, dtype=i8), block_size=3)
case(21, "DequantizeLinear", whole(6, 2, dtype=u8, low=0), some(3, 2), whole(3, 2, dtype=u8, low=0), axis=0, block_size=2)
case(17, "DynamicQuantizeLinear", some(3, 4), out=3)

# attention
case(23, "Attention", some(2, 3, 4, 8), some(2, 3, 6, 8), some(2, 3, 6, 5), some(4, 6), softcap=2.0)
case(23, "Attention", some(2, 4, 24), some(2, 6, 8), some(2, 6, 10), q_num_heads=6, kv_num_heads=2, scale=0.3)
case(23, "Attention", some(2, 3, 4, 8), some(2, 3, 4, 8), some(2, 3, 4, 5), None, some(2, 3, 2, 8), some(2, 3, 2, 5), out=3, is_causal=1)
case(23, "RotaryEmbedding", some(2, 3, 4, 8), some(10, 3), some(10, 3), whole(2, 4, low=0), rotary_embedding_dim=6)
case(23, "RotaryEmbedding", some(2, 4, 12), some(2, 4, 3), some(2, 4, 3), num_heads=2, interleaved=1)
case(17, "Det", some(2, 4, 4))
case(17, "Dropout", some(2, 3), out=2)


# of ONNX Runtime
def runtime(op, *inputs, **more):
    case(17, op, *inputs, domain="com.microsoft", **more)


byte, many = dict(dtype=u8, low=0, high=255), dict(dtype=i32, low=-500, high=500)
for op in ("QLinearAdd", "QLinearMul"):
    runtime(op, whole(2, 3, **byte), scalar(0.02), scalar(120, u8), whole(3, **byte), scalar(0.03), scalar(99, u8), scalar(0.05), scalar(130, u8))
runtime("QLinearGlobalAveragePool", whole(2, 3, 4, 5, **byte), scalar(0.02), scalar(120, u8), scalar(0.01), scalar(128, u8), channels_last=0)
runtime("QGemm", whole(3, 6, **byte), scalar(0.02), scalar(120, u8), whole(5, 6, dtype=i8), np.array([0.1, 0.2, 0.05, 0.3, 0.01], f32), np.zeros(5, i8),
        whole(5, **many), scalar(0.4), scalar(100, u8), transB=1)
runtime("QGemm", whole(3, 6, **byte), scalar(0.02), scalar(120, u8), whole(6, 5, dtype=i8), scalar(0.1), scalar(2, i8), alpha=0.5)
runtime("MatMulIntegerToFloat", whole(2, 3, 6, **byte), whole(6, 4, dtype=i8), scalar(0.1), np.array([0.1, 0.2, 0.05, 0.3], f32), scalar(99, u8), None, some(4))
runtime("DynamicQuantizeMatMul", some(2, 3, 6), whole(6, 4, **byte), scalar(0.1), scalar(128, u8), some(4))
runtime("MatMulNBits", some(2, 3, 40, low=0.1), whole(5, 3, 8, **byte), some(15, low=0.1), whole(10, dtype=u8, low=0, high=7), K=40, N=5, bits=4, block_size=16)
runtime("FusedMatMul", some(2, 4, 3), some(2, 5, 4), transA=1, transB=1, alpha=0.5)
runtime("FusedConv", some(1, 2, 5, 5), some(3, 2, 3, 3), some(3), some(1, 3, 3, 3), activation="Relu")
runtime("FusedConv", some(1, 2, 5, 5), some(3, 2, 3, 3), activation="LeakyRelu", activation_params=[0.3])
runtime("SkipLayerNormalization", some(2, 3, 8), some(2, 3, 8), some(8), some(8), some(8), epsilon=1e-5)
runtime("SkipSimplifiedLayerNormalization", some(2, 3, 8), some(2, 3, 8), some(8), epsilon=1e-5)
runtime("Gelu", some(2, 9))
runtime("BiasGelu", some(2, 9), some(9))
runtime("FastGelu", some(2, 9, low=-1), some(9, low=0))
runtime("QuickGelu", some(2, 9), alpha=1.5)
runtime("QuantizeLinear", some(2, 3), np.array([0.1, 0.2, 0.3], f32), np.array([1, 2, 3], u8), axis=1)
case(17, "SimplifiedLayerNormalization", some(2, 3, 8), some(8), axis=-1, epsilon=1e-5, stash_type=1)


# bodies
def info(name, kind=TensorProto.FLOAT, shape=()):
    return helper.make_tensor_value_info(name, kind, shape)


def branch(op):
    return helper.make_graph([helper.make_node("Constant", [], ["v"], value_floats=[1.0, 4.0]), helper.make_node(op, ["v"], ["r"])], op, [], [info("r", shape=(2,))])


for is_true in (True, False):
    case(17, "If", np.array([is_true]), then_branch=branch("Sqrt"), else_branch=branch("Neg"))
turn = helper.make_graph([helper.make_node("Add", ["s", "s"], ["s2"]), helper.make_node("Cast", ["i"], ["f"], to=1), helper.make_node("Identity", ["c"], ["c2"])],
                         "turn", [info("i", TensorProto.INT64), info("c", TensorProto.BOOL), info("s", shape=(2,))],
                         [info("c2", TensorProto.BOOL), info("s2", shape=(2,)), info("f")])
case(17, "Loop", scalar(5, i64), np.array(True), some(2), out=2, body=turn)
step = helper.make_graph([helper.make_node("Add", ["s", "x"], ["s2"]), helper.make_node("Mul", ["s2", "x"], ["y"])], "step",
                         [info("s", shape=(3,)), info("x", shape=(3,))], [info("s2", shape=(3,)), info("y", shape=(3,))])
case(17, "Scan", some(3), some(3, 4), out=2, body=step, num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1], scan_input_directions=[1],
     scan_output_directions=[1])

if __name__ == "__main__":
    make_golden.write(sys.argv[1], "opset_networks")
