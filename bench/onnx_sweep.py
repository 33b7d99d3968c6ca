#!/usr/bin/env python3
"""Exports networks of torchvision, timm, transformers and torch.nn with both of PyTorch's exporters, evaluates each file with
build/bench/onnx_eval and compares with what PyTorch computes.

    bench/onnx_sweep.py [--only REGEX] [--exporter torchscript|dynamo] [--eval build/bench/onnx_eval] [--work /tmp/sweep]

A line for each file: largest difference over the largest number, seconds, nodes, or the reason. Weights are drawn from a
seed. Needs torch, torchvision, timm, transformers, onnx, onnxscript, numpy.
"""
import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import torch

TYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "int32": "I32", "uint8": "U8", "int8": "I8", "bool": "BOOL"}
NAMES = {v: k for k, v in TYPES.items()}

TORCHVISION = {
    "alexnet": 224, "vgg11_bn": 64, "resnet18": 64, "resnet50": 64, "resnext50_32x4d": 64, "wide_resnet50_2": 64,
    "densenet121": 64, "googlenet": 96, "inception_v3": 128, "squeezenet1_1": 64, "mobilenet_v2": 64,
    "mobilenet_v3_small": 64, "shufflenet_v2_x1_0": 64, "mnasnet1_0": 64, "efficientnet_b0": 64, "efficientnet_v2_s": 64,
    "regnet_y_400mf": 64, "convnext_tiny": 64, "vit_b_16": 224, "swin_t": 64, "swin_v2_t": 64, "maxvit_t": 224,
}
SEGMENTATION = {"fcn_resnet50": 64, "lraspp_mobilenet_v3_large": 96}
DETECTION = {"ssdlite320_mobilenet_v3_large": 320, "fasterrcnn_mobilenet_v3_large_320_fpn": 128}
VIDEO = {"r3d_18": 64}
TIMM = {
    "vit_tiny_patch16_224": 224, "deit_tiny_patch16_224": 224, "eva02_tiny_patch14_224": 224, "beit_base_patch16_224": 224,
    "swin_tiny_patch4_window7_224": 224, "convnext_atto": 64, "convnextv2_atto": 64, "coatnet_nano_rw_224": 224,
    "maxvit_rmlp_pico_rw_256": 256, "mobilenetv2_050": 64, "mobilenetv3_small_050": 64, "mobilenetv4_conv_small": 64,
    "ghostnet_100": 64, "hrnet_w18_small": 64, "eca_nfnet_l0": 64, "xcit_nano_12_p16_224": 224, "resnest14d": 64,
    "res2net50_26w_4s": 64, "skresnet18": 64, "seresnet50": 64, "cspdarknet53": 64, "dla34": 64, "dpn68": 64,
    "efficientnet_lite0": 64, "fbnetc_100": 64, "levit_128s": 224, "mixer_s32_224": 224, "gmlp_ti16_224": 224,
    "resmlp_12_224": 224, "pit_ti_224": 224, "cait_xxs24_224": 224, "crossvit_tiny_240": 240, "edgenext_xx_small": 64,
    "mobilevit_xxs": 64, "mobilevitv2_050": 64, "poolformer_s12": 64, "pvt_v2_b0": 64, "regnetx_002": 64, "repvgg_a0": 64,
    "volo_d1_224": 224,
}


class Picked(torch.nn.Module):
    """One tensor, or a tuple of them, of whatever a network gives."""

    def __init__(self, net, pick):
        super().__init__()
        self.net, self.pick = net, pick

    def forward(self, *x):
        return self.pick(self.net(*x))


class Text(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, ids):
        return self.net(input_ids=ids, use_cache=False, return_dict=False)[0] if "GPT" in type(self.net).__name__ or "Llama" in type(
            self.net).__name__ else self.net(input_ids=ids, return_dict=False)[0]


def decided(net):
    """Heads whose scores differ: of equal ones anybody keeps others."""
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "head" in name or "rpn" in name:
                p.normal_(0, 0.1)
    return net


def image(n, frames=None):
    return (torch.rand(*([1, 3] + ([frames] if frames else []) + [n, n])),)


def texts():
    import transformers as t
    small = dict(vocab_size=500, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)
    pairs = {
        "bert": (t.BertModel, t.BertConfig(**small)), "roberta": (t.RobertaModel, t.RobertaConfig(**small)),
        "electra": (t.ElectraModel, t.ElectraConfig(embedding_size=32, **small)),
        "albert": (t.AlbertModel, t.AlbertConfig(embedding_size=32, **small)),
        "deberta-v2": (t.DebertaV2Model, t.DebertaV2Config(relative_attention=True, pos_att_type="p2c|c2p", position_buckets=16, **small)),
        "distilbert": (t.DistilBertModel, t.DistilBertConfig(vocab_size=500, dim=64, n_layers=2, n_heads=4, hidden_dim=128)),
        "modernbert": (t.ModernBertModel, t.ModernBertConfig(pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1,
                                                             sep_token_id=2, **small)),
        "gpt2": (t.GPT2LMHeadModel, t.GPT2Config(vocab_size=500, n_embd=64, n_layer=2, n_head=4)),
        "llama": (t.LlamaForCausalLM, t.LlamaConfig(num_key_value_heads=2, **small)),
        "t5-encoder": (t.T5EncoderModel, t.T5Config(vocab_size=500, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4)),
    }
    for name, (kind, config) in pairs.items():
        config._attn_implementation = "eager" if name in ("deberta-v2", "t5-encoder") else "sdpa"
        yield "transformers/" + name, lambda kind=kind, config=config: Text(kind(config)), lambda: (torch.randint(3, 400, (2, 12)),)


def networks():
    import timm
    import torchvision.models as v
    for name, n in TORCHVISION.items():
        more = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        yield "torchvision/" + name, lambda name=name, more=more: getattr(v, name)(weights=None, **more), lambda n=n: image(n)
    for name, n in SEGMENTATION.items():
        yield "torchvision/" + name, lambda name=name: Picked(getattr(v.segmentation, name)(weights=None, weights_backbone=None), lambda y: y["out"]), lambda n=n: image(n)
    for name, n in VIDEO.items():
        yield "torchvision/" + name, lambda name=name: getattr(v.video, name)(weights=None), lambda n=n: image(n, 8)
    for name, n in DETECTION.items():
        yield "torchvision/" + name, lambda name=name: Picked(decided(getattr(v.detection, name)(weights=None, weights_backbone=None)), lambda y: tuple(
            y[0].values())), lambda n=n: ([image(n)[0][0]],)
    for name, n in TIMM.items():
        yield "timm/" + name, lambda name=name: timm.create_model(name), lambda n=n: image(n)
    yield from texts()
    first = lambda y: y[0]
    yield "nn/LSTM", lambda: Picked(torch.nn.LSTM(10, 16, 2, bidirectional=True), lambda y: (y[0], y[1][0], y[1][1])), lambda: (torch.rand(5, 2, 10),)
    yield "nn/GRU", lambda: Picked(torch.nn.GRU(10, 16, 2, bidirectional=True, batch_first=True), first), lambda: (torch.rand(2, 5, 10),)
    yield "nn/RNN", lambda: Picked(torch.nn.RNN(10, 16, 1), first), lambda: (torch.rand(5, 2, 10),)
    yield "nn/TransformerEncoder", lambda: torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2), lambda: (torch.rand(2, 7, 32),)
    yield "nn/Transformer", lambda: torch.nn.Transformer(32, 4, 1, 1, 64, batch_first=True), lambda: (torch.rand(2, 7, 32), torch.rand(2, 5, 32))


def flat(x):
    return [x] if isinstance(x, torch.Tensor) else [t for part in x for t in flat(part)]


def put(path, a):
    with open(path, "wb") as f:
        f.write((" ".join([TYPES[str(a.dtype)]] + [str(d) for d in a.shape]) + "\n").encode())
        f.write(np.ascontiguousarray(a).tobytes())


def get(path):
    raw = open(path, "rb").read()
    end = raw.index(b"\n")
    head = raw[:end].decode().split()
    return np.frombuffer(raw[end + 1:], NAMES[head[0]]).reshape([int(d) for d in head[1:]])


@contextlib.contextmanager
def silent():
    """Without what the exporters print, from C++ too."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


def export(net, x, path, exporter):
    with warnings.catch_warnings(), torch.no_grad(), silent():
        warnings.simplefilter("ignore")
        if exporter == "torchscript":
            torch.onnx.export(net, x, path, dynamo=False, opset_version=17)
        else:
            torch.onnx.export(net, x, path, dynamo=True, verbose=False)


def judge(args, net, x, expected, path, folder):
    import onnx
    model = onnx.load(path, load_external_data=False)
    names = [i.name for i in model.graph.input]
    if len(names) > len(x):
        return "the file has %d inputs" % len(names)
    for k, t in enumerate(x[:len(names)]):
        put(os.path.join(folder, "in_%d" % k), t.numpy())
    run = subprocess.run([args.eval], input="%s %s\n" % (path, folder), capture_output=True, text=True, timeout=600)
    if not run.stdout.startswith("ok"):
        return run.stdout.strip() or "it ended with %d" % run.returncode
    worst = 0
    for k, e in enumerate(expected):
        y, e = get(os.path.join(folder, "out_%d" % k)), e.numpy()
        if y.shape != e.shape:
            return "output %d is %s for %s" % (k, y.shape, e.shape)
        if e.size:
            y, e = y.astype("f8"), e.astype("f8")
            if not np.isfinite(y).all() or not np.isfinite(e).all():
                return "output %d is not finite" % k
            worst = max(worst, np.max(np.abs(y - e)) / max(np.max(np.abs(e)), 1e-30))
    good = worst <= 1e-4
    return "%s %.1e %ss %d nodes" % ("ok" if good else "DIFFERS", worst, run.stdout.split()[1], len(model.graph.node))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--only", default=".")
    p.add_argument("--exporter", choices=["torchscript", "dynamo"])
    p.add_argument("--eval", default="build/bench/onnx_eval")
    p.add_argument("--work", default="/tmp/sweep")
    args = p.parse_args()
    exported = right = total = 0
    for name, build, inputs in networks():
        if not re.search(args.only, name):
            continue
        torch.manual_seed(7)
        try:
            net, x = build().eval(), inputs()
            with torch.no_grad():
                expected = flat(net(*x))
        except Exception as e:  # not in this version of the package
            print(name, "cannot be built:", str(e).splitlines()[0][:160], flush=True)
            continue
        for exporter in [args.exporter] if args.exporter else ["torchscript", "dynamo"]:
            folder = os.path.join(args.work, name.replace("/", "-") + "-" + exporter)
            os.makedirs(folder, exist_ok=True)
            path = os.path.join(folder, "model.onnx")
            total += 1
            try:
                export(net, x, path, exporter)
            except Exception as e:  # the exporter's own limits
                text = (str(e).strip().splitlines() or ["?"])
                print(name, exporter, "not exported:", text[0][:120], flush=True)
            else:
                exported += 1
                try:
                    text = judge(args, net, flat(x), expected, path, folder)
                except Exception as e:
                    text = repr(e)[:200]
                right += text.startswith("ok")
                print(name, exporter, text, flush=True)
            shutil.rmtree(folder)
    print("%d of %d exported files give PyTorch's numbers; %d were asked for" % (right, exported, total))
    return 0 if right == exported else 1


if __name__ == "__main__":
    sys.exit(main())
