#!/usr/bin/env python3
"""Built-in networks as ONNX models, held against ONNX Runtime: check_export.py build/tests/test_onnx_export [--whole] [NETWORK...]

Each network is written with random weights, its inputs and the outputs that dtrain's CPU backend computes from them
(tests/model/test_onnx_export.c says at what sizes). Each file must pass onnx.checker with full_check, and ONNX Runtime must give the same
outputs: the error is the largest difference over the largest output. Prints a row of a table for each, and fails where
one is above 1e-5. The largest are written with few of their blocks; --whole: as they are, which takes 10 bytes of memory a
parameter. Needs: pip install onnx onnxruntime numpy
"""
import collections
import glob
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

TOLERANCE = 1e-5


def raw(path, value):
    kind = {1: np.float32, 7: np.int64}[value.type.tensor_type.elem_type]
    dims = [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim]
    return np.fromfile(path, kind).reshape(dims)


def check(tool, name, directory, options):
    said = subprocess.run([tool, directory, *options, name], check=True, capture_output=True, text=True).stdout.strip()
    path = os.path.join(directory, name + ".onnx")
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    feed = {v.name: raw(f"{directory}/{name}.in.{v.name}", v) for v in model.graph.input}
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, quiet, providers=["CPUExecutionProvider"])
    error = 0.0
    for value, got in zip(model.graph.output, session.run([v.name for v in model.graph.output], feed)):
        want = raw(f"{directory}/{name}.out.{value.name}", value)
        assert got.shape == want.shape, (name, got.shape, want.shape)
        error = max(error, float(np.abs(got - want).max() / np.abs(want).max()))
    shape = ", ".join("x".join(str(n) for n in v.shape) for v in feed.values())
    ops = collections.Counter(n.op_type for n in model.graph.node)
    print(f"| {said} | {shape} | {len(model.graph.node)} | {ops['Transpose']} | {error:.1e} |", flush=True)
    for used in glob.glob(f"{directory}/{name}.*"):
        os.remove(used)
    return error


def main():
    tool, names = sys.argv[1], sys.argv[2:]
    options = [n for n in names if n == "--whole"]
    names = [n for n in names if n not in options]
    if not names:
        names = [line.split()[0] for line in subprocess.run([os.path.dirname(tool) + "/../dtrain", "models"], check=True,
                                                            capture_output=True, text=True).stdout.splitlines()[1:]]
    print("| network | input | nodes | transposes | largest error |\n|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as directory:
        errors = [check(tool, name, directory, options) for name in names]
    print(f"\n{len(errors)} networks, largest error {max(errors):.1e}")
    sys.exit(max(errors) > TOLERANCE)


if __name__ == "__main__":
    main()
