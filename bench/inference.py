"""Times ONNX Runtime and `dtrain run` on the same ONNX file, on random inputs and the same number of threads.

Rounds alternate, so that both see the same load of the machine, and the ratio is the median of the rounds' ratios: more than
1 is dtrain's. One JSON line per batch. Usage: inference.py DTRAIN FILE.onnx [--batch 1 8] [--length 128] [--threads 2]
[--rounds 5] [--times 10]"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime as ort


def arrays(session, batch, length):
    """An array for each input: its first open dimension is the batch, further ones the length."""
    rng = np.random.default_rng(1)
    made = {}
    for x in session.get_inputs():
        shape = [d if isinstance(d, int) else batch if i == 0 else length for i, d in enumerate(x.shape)]
        if "int64" in x.type or "int32" in x.type:
            kind = np.int64 if "int64" in x.type else np.int32
            made[x.name] = rng.integers(0, 2, shape).astype(kind)
        elif x.type == "tensor(float)":
            made[x.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            sys.exit(f"input '{x.name}' is {x.type}, which this does not make")
    return made


def ort_ms(session, feed, times):
    session.run(None, feed)
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        session.run(None, feed)
        took.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(took)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("dtrain")
    p.add_argument("file")
    p.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    p.add_argument("--length", type=int, default=128)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--times", type=int, default=10)
    a = p.parse_args()
    options = ort.SessionOptions()
    options.intra_op_num_threads = a.threads
    session = ort.InferenceSession(a.file, options, providers=["CPUExecutionProvider"])
    for batch in a.batch:
        feed = arrays(session, batch, a.length)
        with tempfile.TemporaryDirectory() as folder:
            command = [a.dtrain, "run", a.file, "--times", str(a.times), "--input"]
            for i, (name, x) in enumerate(feed.items()):
                np.save(f"{folder}/{i}.npy", x)
                command.append(f"{name}={folder}/{i}.npy")
            command += ["run.device=cpu", f"run.threads={a.threads}"]
            ours, theirs = [], []
            for _ in range(a.rounds):
                theirs.append(ort_ms(session, feed, a.times))
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode != 0:
                    sys.exit(done.stderr)
                found = re.search(r"median ([0-9.]+) ms", done.stdout + done.stderr)
                if not found:
                    sys.exit("no time in what dtrain says:\n" + done.stdout + done.stderr)
                ours.append(float(found.group(1)))
        ratio = [t / o for o, t in zip(ours, theirs)]
        print(json.dumps({"file": os.path.basename(a.file), "batch": batch, "threads": a.threads,
                          "dtrain_ms": round(statistics.median(ours), 3), "ort_ms": round(statistics.median(theirs), 3),
                          "ratio": round(statistics.median(ratio), 3), "ratios": [round(r, 3) for r in ratio]}), flush=True)


if __name__ == "__main__":
    main()
