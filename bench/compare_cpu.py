"""Training step on the CPU: dtrain beside PyTorch, in alternation on the same cores, with the ratio.

usage: compare_cpu.py DTRAIN [--threads 2] [--rounds 3] [--nets resnet18:128,quickstart:128,mlp:128,gpt:16,lstm:64,vit:64,efficientnet:32]
                      [--processor-time] [--steps 5]

Run it on an idle machine with a python that has PyTorch (and torchvision, for efficientnet). A round runs dtrain once and PyTorch once
per memory format; PyTorch's better format counts. Prints medians over the rounds, ratio of the rates (above 1: dtrain is faster) and of
the peak memories. With --processor-time, for a machine that others use too, the time of all threads of a step counts instead of the
clock's: the difference between a long and a short run, of each the least of all rounds. --steps N: dtrain's short run measures five
times N steps, PyTorch's two times N.

The networks are those of torch_cpu_step.py: gpt, 6 layers of 384 with 6 heads on 256 tokens; lstm, 2 layers of 512 on 64; vit, 12 layers
of 192 with 3 heads on 32x32 pixels in patches of 4; mlp, 784-1024-1024-10; efficientnet, B0 on 64x64 pixels.
"""
import argparse, json, os, pathlib, resource, statistics, subprocess, sys, tempfile

CONFIG = """[run]
out_dir = "{out}/run"
threads = {threads}
device = "cpu"
[model]
{model}
[data]
train = "synthetic"
synthetic_samples = 1280
{data}
[train]
global_batch = {batch}
steps = 10
[optim]
{optim}
"""
SGD, ADAMW = 'kind = "nesterov"\nlr = 0.1', 'kind = "adamw"\nlr = 1e-3'


def layers(*rows):
    """[[model.layers]], a string each: "dense channels=10 name='a'"."""
    return "".join('[[model.layers]]\ntype = "%s"\n%s\n' % (row.split()[0], "\n".join(row.split()[1:])) for row in rows)


def blocks(n, width, heads, causal):
    """A transformer's, normalised in front, on the layer "x0"."""
    rows = []
    for i in range(n):
        rows += ["layernorm", f"attention heads={heads} causal={causal}", f'add with="x{2 * i}" name="x{2 * i + 1}"',
                 "layernorm", f"dense channels={4 * width}", "gelu", f"dense channels={width}",
                 f'add with="x{2 * i + 1}" name="x{2 * i + 2}"']
    return rows


def images(size, channels):
    return f"image_size = {size}\nsynthetic_channels = {channels}\nsynthetic_classes = 10"


def text(steps, words):
    return f'synthetic_fields = "tokens:i32[{steps}] label:i32[{steps}]"\nsynthetic_classes = {words}'


LAYERS, LANGUAGE = 'name = "layers"\n', 'name = "layers"\ntask = "language"\n'
NETS = {  # model, data, optimizer
    "resnet18": ('name = "resnet18"\nsmall_stem = true', images(32, 3), SGD),
    "quickstart": ('name = "quickstart"', images(28, 1), SGD),
    "efficientnet": ('name = "efficientnet_b0"', images(64, 3), SGD),
    "mlp": (LAYERS + "classes = 10\n" + layers("dense channels=1024", "relu", "dense channels=1024", "relu", "dense channels=10"),
            'synthetic_fields = "x:f32[784] label:i32"\nsynthetic_classes = 10', SGD),
    "gpt": (LANGUAGE + layers("embedding rows=1024 channels=384", 'position name="x0"', *blocks(6, 384, 6, "true"), "layernorm",
                              "dense channels=1024 bias=false"), text(256, 1024), ADAMW),
    "lstm": (LANGUAGE + layers("embedding rows=1024 channels=512", "lstm hidden=512 layers=2", "dense channels=1024"),
             text(64, 1024), ADAMW),
    "vit": (LAYERS + layers("conv channels=192 kernel=4 stride=4 pad=0 bias=true", "reshape shape=[64,192]", 'position name="x0"',
                            *blocks(12, 192, 3, "false"), "layernorm", "mean axis=1", "dense channels=10"), images(32, 3), ADAMW),
}
WINDOWS = 5  # of `dtrain bench step`


def run(command):
    """The last JSON line, and the processor time of the command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_WAIT_POLICY": "passive"}).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads([line for line in out.splitlines() if line.startswith("{")][-1])
    result["processor_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return result


class Side:
    """A command that takes `--steps N`, and then goes steps_of_one * N of them, for a batch."""

    def __init__(self, command, batch, steps, steps_of_one):
        self.command, self.batch, self.steps, self.steps_of_one, self.short, self.long = command, batch, steps, steps_of_one, [], []

    def run(self, processor_time):
        self.short.append(run(self.command + ["--steps", str(self.steps)]))
        if processor_time:
            self.long.append(run(self.command + ["--steps", str(3 * self.steps)]))

    def rate(self):
        """Samples a second: of the clock the median of all rounds; of the processor by the least time of each kind of run."""
        if not self.long:
            return statistics.median(r["samples_per_s"] for r in self.short)
        short, long = (min(r["processor_s"] for r in runs) for runs in (self.short, self.long))
        return 2 * self.steps * self.steps_of_one * self.batch / (long - short) if long > short else float("nan")

    def peak(self):
        return max(r["peak_rss_mib"] if "peak_rss_mib" in r else r["peak_rss_bytes"] / 2**20 for r in self.short)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dtrain")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nets", default="resnet18:128,quickstart:128,mlp:128,gpt:16,lstm:64,vit:64,efficientnet:32")
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    peer = pathlib.Path(__file__).with_name("torch_cpu_step.py")
    print(f"{'network':<13}{'batch':>6}{'dtrain/s':>11}{'torch/s':>11}{'ratio':>7}{'dtrain MiB':>12}{'torch MiB':>11}")
    with tempfile.TemporaryDirectory() as tmp:
        for net in args.nets.split(","):
            name, batch = net.split(":")
            model, data, optim = NETS[name]
            config = pathlib.Path(tmp) / f"{name}.toml"
            config.write_text(CONFIG.format(out=tmp, threads=args.threads, model=model, data=data, optim=optim, batch=batch))
            forms = ["contiguous", "channels_last"] if "image" in data and name != "vit" else ["contiguous"]
            ours = Side([args.dtrain, "bench", "step", str(config)], int(batch), args.steps, WINDOWS)
            theirs = [Side([sys.executable, str(peer), "--threads", str(args.threads), "--only", f"{name}:{batch}:{form}"],
                           int(batch), 2 * args.steps, 1) for form in forms]
            for _ in range(args.rounds):
                for side in [ours] + theirs:
                    side.run(args.processor_time)
            best = max(theirs, key=Side.rate)
            print(f"{name:<13}{batch:>6}{ours.rate():>11.1f}{best.rate():>11.1f}{ours.rate() / best.rate():>7.2f}"
                  f"{ours.peak():>12.0f}{best.peak():>11.0f}", flush=True)


main()
