#!/usr/bin/env python3
"""Writes the node tests of the installed onnx, which makes them in memory, as folders that onnx_node_tests reads.

    python3 write_node_tests.py FOLDER
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx.backend.test.loader import load_model_tests


def tensor(value, name, kind):
    if isinstance(value, onnx.TensorProto):
        return value
    t = onnx.numpy_helper.from_array(np.asarray(value), name)
    if kind.HasField("tensor_type") and kind.tensor_type.elem_type != t.data_type:
        raise TypeError(f"{name} is of type {t.data_type}, not {kind.tensor_type.elem_type}")
    return t


def main():
    root = pathlib.Path(sys.argv[1])
    written = left_out = 0
    for case in load_model_tests(kind="node"):
        folder = root / case.name
        folder.mkdir(parents=True, exist_ok=True)
        model = case.model if case.model is not None else onnx.load(pathlib.Path(case.model_dir) / "model.onnx")
        onnx.save(model, folder / "model.onnx")
        (folder / "tolerance").write_text(f"{case.rtol} {case.atol}\n")
        try:
            for k, (inputs, outputs) in enumerate(case.data_sets):
                data = folder / f"test_data_set_{k}"
                data.mkdir(exist_ok=True)
                for kind, infos, values in (("input", model.graph.input, inputs), ("output", model.graph.output, outputs)):
                    for i, (info, value) in enumerate(zip(infos, values)):
                        (data / f"{kind}_{i}.pb").write_bytes(tensor(value, info.name, info.type).SerializeToString())
            written += 1
        except Exception as e:  # sequences, text: such tests are without data, and refused
            left_out += 1
            print(f"{case.name}: {type(e).__name__}: {e}", file=sys.stderr)
    print(f"{written} tests written, {left_out} without data")


main()
