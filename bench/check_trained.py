#!/usr/bin/env python3
"""A trained run in ONNX Runtime: check_trained.py DTRAIN RUN [IMAGES.gz LABELS.gz]

Converts RUN's newest checkpoint, evaluates its data.val with ONNX Runtime - images from the IDX files that the set was
imported from, text from its shards - and with dtrain, and prints both losses and accuracies: they must be the same to
what dtrain prints. Needs: pip install onnx onnxruntime numpy h5py
"""
import glob
import gzip
import os
import re
import subprocess
import sys
import tempfile
import tomllib

import numpy as np
import onnx
import onnxruntime


def images(model, session, names):
    pixels = np.frombuffer(gzip.open(names[0]).read(), np.uint8, offset=16)
    labels = np.frombuffer(gzip.open(names[1]).read(), np.uint8, offset=8).astype(np.int64)
    note = {p.key: p.value for p in model.metadata_props}
    c, h, w = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    mean, std = ([float(x) for x in note[f"dtrain.{k}"].split()] for k in ("mean", "stddev"))
    x = pixels.reshape(len(labels), c, h, w).astype(np.float32) / 255
    x = (x - np.reshape(mean, (1, c, 1, 1)).astype(np.float32)) / np.reshape(std, (1, c, 1, 1)).astype(np.float32)
    for i in range(0, len(labels), 250):
        yield session.run(None, {"image": x[i:i + 250]})[0], labels[i:i + 250]


def text(config, session):
    import h5py
    shards = sorted(glob.glob(os.path.join(config["data"]["val"], "*.h5")))
    tokens = np.concatenate([h5py.File(s)["tokens"][()] for s in shards]).astype(np.int64)
    n = config["data"]["context"]
    rows = (len(tokens) - 1) // n
    for i in range(0, rows, 16):
        at = np.arange(i, min(i + 16, rows))[:, None] * n + np.arange(n)
        yield session.run(None, {"tokens": tokens[at]})[0].reshape(at.size, -1), tokens[at + 1].reshape(-1)


def main():
    tool, run, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    config = tomllib.load(open(os.path.join(run, "config.toml"), "rb"))
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "model.onnx")
        subprocess.run([tool, "convert", run, path], check=True, stdout=subprocess.DEVNULL)
        onnx.checker.check_model(path, full_check=True)
        model = onnx.load(path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        loss, right, count = 0.0, 0, 0
        for logits, label in images(model, session, names) if names else text(config, session):
            z = logits.astype(np.float64) - logits.max(1, keepdims=True)
            loss += float((np.log(np.exp(z).sum(1)) - z[np.arange(len(label)), label]).sum())
            right += int((logits.argmax(1) == label).sum())
            count += len(label)
    print(f"{config['model']['name']}: ONNX Runtime loss {loss / count:.4f}, accuracy {100 * right / count:.2f} % of {count}", flush=True)
    said = subprocess.run([tool, "eval", os.path.join(run, "config.toml"), "train.precision=fp32"], check=True,
                          capture_output=True, text=True).stdout
    print(re.search(r"^.*loss [0-9.]+.*$", said, re.M).group(0))


if __name__ == "__main__":
    main()
