#!/usr/bin/env python3
"""Trains networks of torchvision, timm and transformers further that PyTorch exported: bench/tune_imported.py [--only REGEX]

    --dtrain build/dtrain --data datasets/fashion-mnist --samples 60000 --threads 0 --work /tmp/tuned

Each network is exported to ONNX with drawn weights and a head of 1000 classes, trained on so many images of Fashion-MNIST,
each once, with a new head of 10, and exported again by checkpoint.export; ONNX Runtime must give the numbers that dtrain
computes from its checkpoint. A line of a table for each: losses, top-1 of ONNX Runtime on all images of the validation set,
the largest difference between its probabilities and `dtrain predict`'s. Fails where a loss does not fall, or one differs by
more than 1e-4.

With --text DATASET small language networks of transformers instead, once over that text (tokens; train and val): the columns
are losses, the loss of ONNX Runtime on the validation text, and how far it is from that of `dtrain eval`.
Needs torch, torchvision, timm, transformers, onnx, onnxscript, onnxruntime, h5py, numpy, pillow.
"""
import argparse
import glob
import json
import os
import re
import subprocess
import sys
import warnings

import h5py
import numpy as np
import onnx
import onnxruntime
import torch

# name: whence, the side of its images, what its maker is told
NETWORKS = {
    "resnet18": ("torchvision", 28, {}),
    "mobilenet_v2": ("torchvision", 28, {}),
    "mobilenet_v3_small": ("torchvision", 28, {}),
    "efficientnet_b0": ("torchvision", 28, {}),
    "shufflenet_v2_x0_5": ("torchvision", 28, {}),
    "mnasnet0_5": ("torchvision", 28, {}),
    "regnet_y_400mf": ("torchvision", 28, {}),
    "ghostnet_100": ("timm", 28, {}),
    "vit_tiny_patch16_224": ("timm", 28, {"img_size": 28, "patch_size": 7}),
    "regnetx_002": ("timm", 28, {}),
    "fbnetc_100": ("timm", 28, {}),
    "mobilenetv4_conv_small": ("timm", 28, {}),
}
BATCH = 64
CONTEXT = 128
TEXTS = {"gpt2": "GPT2", "llama": "Llama"}


class Text(torch.nn.Module):
    """A language network of tokens alone."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, input_ids):
        return self.net(input_ids=input_ids, use_cache=False, return_dict=False)[0]


def export_text(name, path, vocab):
    import transformers
    sizes = {
        "gpt2": dict(n_embd=64, n_layer=2, n_head=4, n_positions=CONTEXT, bos_token_id=None, eos_token_id=None),
        "llama": dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=192),
    }[name]
    torch.manual_seed(1)
    config = getattr(transformers, TEXTS[name] + "Config")(vocab_size=vocab, **sizes)
    net = getattr(transformers, TEXTS[name] + ("LMHeadModel" if name == "gpt2" else "ForCausalLM"))(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Text(net).eval(), (torch.zeros(2, CONTEXT, dtype=torch.int64),), path, dynamo=True, verbose=False,
                          input_names=["input_ids"], output_names=["logits"], external_data=False,
                          dynamic_shapes=({0: torch.export.Dim("n")},))


class Grey(torch.nn.Module):
    """A network of three channels reads one."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(torch.cat([x, x, x], 1))


def export(name, path, classes=1000):
    maker, side, options = NETWORKS[name]
    torch.manual_seed(1)
    if maker == "timm":
        import timm
        net = timm.create_model(name, num_classes=classes, **options)
    else:
        import torchvision
        net = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Grey(net).eval(), torch.randn(2, 1, side, side), path, opset_version=17, dynamo=False, input_names=["image"],
                          dynamic_axes={"image": {0: "n"}}, training=torch.onnx.TrainingMode.PRESERVE,
                          do_constant_folding=False)
    return side


def config(args, folder, side):
    return f"""[run]
out_dir = "{folder}/run"
device = "cpu"
threads = {args.threads}
log_every = 1
[model]
name = "file"
path = "{folder}/made.onnx"
init_head = "new"
[data]
train = "{args.data}/train"
val = "{args.data}/val"
image_size = {side}
channels = 1
[train]
global_batch = {BATCH}
steps = {args.samples // BATCH}
clip_norm = 1.0
eval_every_epochs = 0
[optim]
kind = "adamw"
lr = 1e-3
[schedule]
kind = "cosine"
warmup_steps = {args.samples // BATCH // 20}
[checkpoint]
export = "onnx"
"""


def text_config(args, folder, steps):
    return f"""[run]
out_dir = "{folder}/run"
device = "cpu"
threads = {args.threads}
log_every = 1
[model]
name = "file"
path = "{folder}/made.onnx"
task = "language"
[data]
train = "{args.text}/train"
val = "{args.text}/val"
context = {CONTEXT}
[train]
global_batch = {BATCH}
steps = {steps}
clip_norm = 1.0
eval_every_epochs = 0
[optim]
kind = "adamw"
lr = 3e-3
[schedule]
kind = "cosine"
warmup_steps = {steps // 20}
[checkpoint]
export = "onnx"
"""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])
    return done.stdout


def probabilities(session, notes, images):
    mean, stddev = (np.array([float(v) for v in re.findall(r"[-+.0-9e]+", notes[k])], np.float32)
                    for k in ("dtrain.mean", "dtrain.stddev"))
    x = ((images.astype(np.float32) / 255 - mean) / stddev).transpose(0, 3, 1, 2)
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: np.ascontiguousarray(x[i:i + 500])})[0] for i in range(0, len(x), 500)]
    logits = np.concatenate(parts).astype(np.float64)
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def predicted(args, folder, images):
    """What dtrain says of them, from its checkpoint."""
    from PIL import Image
    paths = []
    for i, image in enumerate(images):
        paths.append(f"{folder}/{i}.png")
        Image.fromarray(image[:, :, 0]).save(paths[-1])
    out = np.zeros((len(images), 10))
    told = run(args.dtrain, "predict", f"{folder}/net.toml", *paths, "--format", "jsonl", "--top", "10")
    for line in told.splitlines():
        row = json.loads(line)
        for c in row["classes"]:
            out[paths.index(row["input"]), c["index"]] = c["probability"]
    return out


def losses(folder, steps):
    """Of the first and the last eighth."""
    with open(f"{folder}/run/metrics.jsonl") as f:
        lines = [json.loads(line) for line in f]
    loss = [r["loss"] for r in lines if r["kind"] == "train"][-steps:]
    few = max(1, len(loss) // 8)
    return np.mean(loss[:few]), np.mean(loss[-few:])


def written(folder):
    path = max(glob.glob(f"{folder}/run/checkpoints/step-*/model.onnx"))
    onnx.checker.check_model(path, full_check=True)
    notes = {p.key: p.value for p in onnx.load(path).metadata_props}
    return notes, onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def tune(args, name):
    folder = os.path.join(args.work, name)
    os.makedirs(folder, exist_ok=True)
    side = export(name, f"{folder}/made.onnx")
    with open(f"{folder}/net.toml", "w") as f:
        f.write(config(args, folder, side))
    run(args.dtrain, f"{folder}/net.toml", "run.resume=never")
    notes, session = written(folder)
    with h5py.File(f"{args.data}/val/shard-00000-of-00001.h5") as f:
        images, labels = f["images"][:], f["labels"][:]
    p = probabilities(session, notes, images)
    error = float(np.abs(p[:32] - predicted(args, folder, images[:32])).max())
    return (*losses(folder, args.samples // BATCH), f"{100 * (p.argmax(1) == labels).mean():.1f} %", error)


def text_loss(args, session):
    """Of every token but the first; the last row is filled up, which what comes before it does not see."""
    with h5py.File(f"{args.text}/val/shard-00000-of-00001.h5") as f:
        tokens = f["tokens"][:].astype(np.int64)
    n, loss = len(tokens) - 1, 0.0
    rows = -(-n // CONTEXT)
    tokens = np.pad(tokens, (0, rows * CONTEXT + 1 - len(tokens)))
    for i in range(0, rows, 64):
        at = np.arange(i, min(i + 64, rows))[:, None] * CONTEXT + np.arange(CONTEXT)
        logits = session.run(None, {session.get_inputs()[0].name: tokens[at]})[0].astype(np.float64)
        z = logits - logits.max(2, keepdims=True)
        each = np.log(np.exp(z).sum(2)) - np.take_along_axis(z, tokens[at + 1][..., None], 2)[..., 0]
        loss += each[at < n].sum()
    return loss / n


def tune_text(args, name):
    folder = os.path.join(args.work, name)
    os.makedirs(folder, exist_ok=True)
    with open(f"{args.text}/train/index.json") as f:
        index = json.load(f)
    export_text(name, f"{folder}/made.onnx", index["vocabulary"])
    steps = (index["count"] - 1) // CONTEXT // BATCH
    with open(f"{folder}/net.toml", "w") as f:
        f.write(text_config(args, folder, steps))
    run(args.dtrain, f"{folder}/net.toml", "run.resume=never")
    session = written(folder)[1]
    theirs = text_loss(args, session)
    ours = float(re.search(r"loss ([0-9.]+)", run(args.dtrain, "eval", f"{folder}/net.toml")).group(1))
    return (*losses(folder, steps), f"{theirs:.4f}", abs(ours - theirs))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--dtrain", default="build/dtrain")
    parser.add_argument("--data", default="datasets/fashion-mnist")
    parser.add_argument("--text", default="")
    parser.add_argument("--samples", type=int, default=60000)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", default="/tmp/tuned")
    args = parser.parse_args()
    failed = 0
    last_column = "loss on other text" if args.text else "top-1"
    print(f"| network | of | loss, first eighth | last eighth | {last_column} | largest difference |\n|---|---|---:|---:|---:|---:|")
    for name in TEXTS if args.text else NETWORKS:
        if not re.search(args.only, name):
            continue
        maker = "transformers" if args.text else NETWORKS[name][0]
        try:
            first, last, good, error = (tune_text if args.text else tune)(args, name)
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as e:
            print(f"| {name} | {maker} | {e} |", flush=True)
            failed += 1
            continue
        failed += not (last < first and error < 1e-4)
        print(f"| {name} | {maker} | {first:.3f} | {last:.3f} | {good} | {error:.1e} |", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
