"""Training step on the CPU: dtrain beside PyTorch, in alternation on the same cores, with the ratio.

usage: compare_cpu.py DTRAIN [--threads 2] [--rounds 3] [--nets resnet18:128,quickstart:128]

Run it on an idle machine with a python that has PyTorch. A round runs dtrain once and PyTorch once per memory format; PyTorch's better
format counts. Prints medians over the rounds, ratio of the rates (above 1: dtrain is faster) and of the peak memories.
"""
import argparse, json, pathlib, statistics, subprocess, sys, tempfile

CONFIG = """[run]
out_dir = "{out}/run"
threads = {threads}
device = "cpu"
[model]
name = "{model}"
small_stem = true
[data]
train = "synthetic"
image_size = {size}
synthetic_samples = 1280
synthetic_channels = {channels}
synthetic_classes = 10
[train]
global_batch = {batch}
steps = 10
[optim]
kind = "nesterov"
lr = 0.1
"""
SHAPES = {"resnet18": (32, 3), "quickstart": (28, 1)}


def last_json(command):
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads([line for line in out.splitlines() if line.startswith("{")][-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dtrain")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nets", default="resnet18:128,quickstart:128")
    args = parser.parse_args()
    peer = pathlib.Path(__file__).with_name("torch_cpu_step.py")
    print(f"{'network':<12}{'batch':>6}{'dtrain/s':>11}{'torch/s':>11}{'ratio':>7}{'dtrain MiB':>12}{'torch MiB':>11}")
    with tempfile.TemporaryDirectory() as tmp:
        for net in args.nets.split(","):
            name, batch = net.split(":")
            size, channels = SHAPES[name]
            config = pathlib.Path(tmp) / f"{name}.toml"
            config.write_text(CONFIG.format(out=tmp, threads=args.threads, model=name, size=size, channels=channels, batch=batch))
            ours, theirs = [], []
            for _ in range(args.rounds):
                ours.append(last_json([args.dtrain, "bench", "step", str(config), "--steps", "5"]))
                runs = [last_json([sys.executable, str(peer), "--threads", str(args.threads), "--only", f"{name}:{batch}:{form}"])
                        for form in ("contiguous", "channels_last")]
                theirs.append(max(runs, key=lambda r: r["samples_per_s"]))
            rate, peer_rate = (statistics.median(r["samples_per_s"] for r in side) for side in (ours, theirs))
            rss = max(r["peak_rss_mib"] for r in ours)
            peer_rss = max(r["peak_rss_bytes"] for r in theirs) / 2**20
            print(f"{name:<12}{batch:>6}{rate:>11.1f}{peer_rate:>11.1f}{rate / peer_rate:>7.2f}{rss:>12.0f}{peer_rss:>11.0f}", flush=True)


main()
