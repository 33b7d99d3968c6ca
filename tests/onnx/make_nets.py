#!/usr/bin/env python3
"""Writes small networks as PyTorch exports them, with its outputs, for onnx_node_tests: make_nets.py OUT_DIR. Of an LSTM that
ONNX Runtime quantises (DynamicQuantizeLSTM) the outputs are ONNX Runtime's."""
import os
import sys
import warnings

import onnx
import torch
from onnx import numpy_helper
from torch import nn

warnings.filterwarnings("ignore")


class Squeeze(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.down, self.up = nn.Conv2d(c, 4, 1), nn.Conv2d(4, c, 1)

    def forward(self, x):
        return x * nn.functional.hardsigmoid(self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True)))))


class Images(nn.Module):
    """Depthwise and grouped convolutions, a residual sum, a shuffle of channels, pools."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.b = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.SiLU(), Squeeze(8))
        self.c = nn.Conv2d(8, 16, 3, 1, 2, dilation=2, groups=2)
        self.f = nn.Linear(16 * 4, 5)

    def forward(self, x):
        x = self.a(x)
        x = x + self.b(x)
        x = nn.functional.avg_pool2d(nn.functional.max_pool2d(self.c(x), 3, 2, 1), 3, 2, 1, count_include_pad=False)
        n, c, h, w = x.shape
        x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        a, b = x.chunk(2, 1)
        x = nn.functional.interpolate(torch.cat([b, a], 1), scale_factor=2, mode="nearest")
        return self.f(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


class Patches(nn.Module):
    """A vision transformer."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 16, 4, 4)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu", norm_first=True)
        self.t, self.f = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(16, 5)

    def forward(self, x):
        x = self.c(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        return self.f(self.t(x)[:, 0])


class Words(nn.Module):
    """Recurrences in both directions, and one that sees what went before alone."""

    def __init__(self):
        super().__init__()
        self.e, self.l = nn.Embedding(20, 8), nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)
        self.g, self.r, self.f = nn.GRU(12, 7, batch_first=True), nn.RNN(7, 5, batch_first=True), nn.Linear(5, 20)
        self.mask = torch.full((9, 9), float("-inf")).triu(1)

    def forward(self, x):
        x, _ = self.l(self.e(x))
        x, _ = self.g(x)
        x, h = self.r(x)
        scores = x @ x.transpose(1, 2) / 2 + self.mask[: x.shape[1], : x.shape[1]]
        return self.f(nn.functional.layer_norm(torch.softmax(scores, -1) @ x + h.transpose(0, 1), (5,)))


def write(out, name, net, x):
    torch.manual_seed(3)
    for p in net.parameters():
        nn.init.normal_(p, std=0.3)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(), m.running_var.uniform_(0.5, 2)
    folder = os.path.join(out, name)
    os.makedirs(os.path.join(folder, "test_data_set_0"), exist_ok=True)
    net.eval()
    with torch.no_grad():
        y = net(x)
    torch.onnx.export(net, (x,), os.path.join(folder, "model.onnx"), opset_version=17, input_names=["x"],
                      output_names=["y"], dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}}, dynamo=False)
    model = onnx.load(os.path.join(folder, "model.onnx"))
    model.producer_version = ""
    for node in model.graph.node:
        node.doc_string = ""
    onnx.save(model, os.path.join(folder, "model.onnx"))
    for kind, t in ("input", x), ("output", y):
        with open(os.path.join(folder, "test_data_set_0", f"{kind}_0.pb"), "wb") as f:
            f.write(numpy_helper.from_array(t.numpy()).SerializeToString())
    with open(os.path.join(folder, "tolerance"), "w") as f:
        f.write("1e-4 1e-5\n")


def write_quantised(out):
    import onnxruntime
    from onnxruntime.quantization import quantize_dynamic
    folder = os.path.join(out, "quantised")
    os.makedirs(os.path.join(folder, "test_data_set_0"), exist_ok=True)
    path = os.path.join(folder, "model.onnx")
    net, x = nn.LSTM(6, 5, 2, bidirectional=True).eval(), torch.randn(4, 1, 6)
    torch.onnx.export(net, (x,), path, opset_version=17, input_names=["x"], output_names=["y"], dynamo=False)
    quantize_dynamic(path, path, per_channel=True)
    model = onnx.load(path)
    model.producer_version = ""
    del model.metadata_props[:], model.graph.value_info[:]
    onnx.save(model, path)
    y = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
    for name, t in ("input_0", x.numpy()), *((f"output_{i}", t) for i, t in enumerate(y)):
        with open(os.path.join(folder, "test_data_set_0", f"{name}.pb"), "wb") as f:
            f.write(numpy_helper.from_array(t).SerializeToString())
    with open(os.path.join(folder, "tolerance"), "w") as f:
        f.write("1e-5 1e-6\n")


def main():
    out = sys.argv[1]
    torch.manual_seed(1)
    write(out, "images", Images(), torch.randn(2, 3, 17, 19))
    write(out, "patches", Patches(), torch.randn(2, 3, 16, 16))
    write(out, "words", Words(), torch.randint(0, 20, (3, 9)))
    write_quantised(out)


main()
