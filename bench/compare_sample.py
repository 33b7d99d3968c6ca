"""Sampling on the CPU: dtrain with its cache and without beside PyTorch with a cache, in alternation on the same cores.

usage: compare_sample.py DTRAIN [--threads 1] [--rounds 3] [--tokens 200] [--batch 1] [--layers 6] [--width 384] [--heads 6]

Run it with a python that has PyTorch. Tokens a second by the clock, and by processor time (that of the whole command less that of one
token), which other work on the machine disturbs less; medians over the rounds.
"""
import argparse, json, pathlib, re, resource, statistics, subprocess, sys, tempfile

HEAD = """[run]
out_dir = "{out}/run"
threads = {threads}
device = "cpu"
[data]
train = "{out}/text"
context = 256
[train]
global_batch = 1
steps = 1
[optim]
lr = 1e-3
[model]
name = "layers"
task = "language"
[[model.layers]]
type = "embedding"
name = "words"
rows = 4096
channels = {width}
std = 0.02
[[model.layers]]
type = "position"
name = "x0"
"""
BLOCK = """[[model.layers]]
type = "layernorm"
[[model.layers]]
type = "attention"
heads = {heads}
causal = true
[[model.layers]]
type = "add"
with = "x{i}"
name = "y{i}"
[[model.layers]]
type = "layernorm"
[[model.layers]]
type = "dense"
channels = {wide}
[[model.layers]]
type = "gelu"
[[model.layers]]
type = "dense"
channels = {width}
[[model.layers]]
type = "add"
with = "y{i}"
name = "x{next}"
"""
TAIL = """[[model.layers]]
type = "layernorm"
[[model.layers]]
type = "tied"
to = "words"
"""


def cpu_of(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr.decode(errors="replace")


def sample(args, run, tokens, *more):
    command = [args.dtrain, "sample", str(run), "--temperature", "0", "--no-stop", "--tokens", str(tokens), "--samples", str(args.batch),
               "--batch", str(args.batch), "--prompt", "8 bytes.", "--json", *more]
    cpu, notes = cpu_of(command)
    seconds = re.search(r"tokens? in ([0-9.]+) s", notes)
    return cpu, float(seconds.group(1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dtrain")
    for name, value in (("threads", 1), ("rounds", 3), ("tokens", 200), ("batch", 1), ("layers", 6), ("width", 384), ("heads", 6)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    peer = pathlib.Path(__file__).with_name("torch_sample.py")
    sides = {"dtrain": [], "dtrain, no cache": [], "PyTorch": []}
    with tempfile.TemporaryDirectory() as tmp:
        out = pathlib.Path(tmp)
        (out / "text.txt").write_text("a text of no matter. " * 400)
        subprocess.run([args.dtrain, "data", "import", "text", str(out / "text.txt"), "--tokenizer", "byte", "--out", str(out / "text")],
                       check=True, capture_output=True)
        config = HEAD.format(out=tmp, threads=args.threads, width=args.width)
        for i in range(args.layers):
            config += BLOCK.format(i=i, next=i + 1, heads=args.heads, width=args.width, wide=4 * args.width)
        (out / "net.toml").write_text(config + TAIL)
        subprocess.run([args.dtrain, str(out / "net.toml")], check=True, capture_output=True)
        for _ in range(args.rounds):
            base, _ = sample(args, out / "run", 1)
            for name, more in (("dtrain", []), ("dtrain, no cache", ["--no-cache"])):
                cpu, wall = sample(args, out / "run", args.tokens, *more)
                n = args.batch * args.tokens
                sides[name].append((n / wall, n / max(cpu - base, 1e-9)))
            shape = [f"--{k}={getattr(args, k)}" for k in ("threads", "tokens", "batch", "layers", "width", "heads")]
            line = subprocess.run([sys.executable, str(peer), *shape], check=True, capture_output=True, text=True).stdout
            theirs = json.loads(line)
            sides["PyTorch"].append((theirs["tokens_per_s"], theirs["tokens_per_cpu_s"]))
    for name, rows in sides.items():
        print(f"{name:<18}{statistics.median(r[0] for r in rows):>10.0f} tokens/s{statistics.median(r[1] for r in rows):>10.0f} tokens a second of processor time")


if __name__ == "__main__":
    main()
