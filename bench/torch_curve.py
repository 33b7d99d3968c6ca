"""Continues a dtrain run in PyTorch and compares the loss of every step.

usage: torch_curve.py RUN_DIR DATA_DIR MODEL [--small-stem] [--precision fp32,tf32,fp16,bf16] [--seeds K] [--device cuda|cpu]
                      [--plot FILE]

RUN_DIR must hold a checkpoint of step 1 and the metrics of step 1 and those after it, from a run without augmentation whose
global batch is the whole data set (one shard): then every step sees the same samples, and their order does not matter.
Weights, momentum and running statistics come from the checkpoint, the learning rates from metrics.jsonl, the rest of the
recipe from config.toml. "{precision}" in RUN_DIR and FILE stands for each of the precisions. Such a run, in two parts, so
that the checkpoint of step 1 is kept:

    dtrain CONFIG run.out_dir=RUN_DIR ... train.steps=1; dtrain CONFIG run.out_dir=RUN_DIR ... train.steps=100

What a difference means is measured too: the same PyTorch run once more (its own run-to-run difference), and with --seeds K
runs of PyTorch from weights of its own (the spread between seeds). Prints one JSON line per precision; --plot writes the
curves for curves_svg.py.
"""
import argparse, functools, json, pathlib, statistics, tomllib
import h5py, numpy as np, torch, torchvision
from torch import nn

AMP = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Peer:
    """Data, recipe and checkpoint of one dtrain run."""

    def __init__(self, run, data, a, precision):
        self.device, self.precision, self.model, self.small_stem = a.device, precision, a.model, a.small_stem
        self.cfg = tomllib.loads((run / "config.toml").read_text())
        self.checkpoint = run / "checkpoints" / "step-00000001" / "state.h5"
        records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        self.records = {r["step"]: r for r in records if r["kind"] == "train"}
        self.steps = sorted(s for s in self.records if s > 1)
        self.check()
        index = json.loads((data / "index.json").read_text())
        with h5py.File(data / index["shards"][0]["file"]) as f:
            images, labels = f["images"][:], f["labels"][:]
        if self.cfg["train"]["global_batch"] != len(images):
            raise SystemExit(f"{run}: a global batch of {self.cfg['train']['global_batch']} is not the data set of {len(images)}")
        mean = torch.tensor(self.cfg["augment"].get("mean") or index["mean"], device=self.device)
        std = torch.tensor(self.cfg["augment"].get("std") or index["std"], device=self.device)
        self.x = ((torch.from_numpy(images).to(self.device).float() / 255 - mean) / std).permute(0, 3, 1, 2)
        self.y = torch.from_numpy(labels.astype(np.int64)).to(self.device)
        self.classes = self.cfg["model"]["classes"] or index["classes"]

    def check(self):
        """What would make the two runs differ by more than rounding."""
        c, odd = self.cfg, [s for s, r in self.records.items() if r["skipped"] or r["loss"] is None]
        for bad, what in ((c["optim"]["kind"] == "adamw", "optim.kind"), (c["train"]["clip_norm"] > 0, "train.clip_norm"),
                          (c["train"]["micro_batch"] not in (0, c["train"]["global_batch"]), "train.micro_batch"),
                          (c["augment"]["crop"] != "none" or c["augment"]["flip"], "[augment]"),
                          (c["train"]["loss_scale_growth"] > 0, "train.loss_scale_growth"), (c["train"]["precision"] != self.precision
                          and c["run"]["device"] != "cpu", "train.precision"), (odd, f"skipped steps {odd}"),
                          (1 not in self.records, "a first step without record")):
            if bad:
                raise SystemExit(f"torch_curve.py: no comparison with this run's {what}")

    def net(self, seed):
        """torchvision's network with its own initial weights, which are drawn from the distributions that dtrain uses."""
        m = self.cfg["model"]
        torch.manual_seed(seed)
        norm = functools.partial(nn.BatchNorm2d, eps=m["bn_eps"], momentum=m["bn_momentum"])
        net = getattr(torchvision.models, self.model)(num_classes=self.classes, zero_init_residual=m["zero_init_residual"], norm_layer=norm)
        if self.small_stem:
            net.conv1, net.maxpool = nn.Conv2d(self.x.shape[1], 64, 3, 1, 1, bias=False), nn.Identity()
            nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        return net.to(self.device, memory_format=torch.channels_last).train()

    def optimizer(self, net):
        o = self.cfg["optim"]
        decays = lambda p: p.ndim > 1 or o["decay_bn_and_bias"]
        groups = [{"params": [p for p in net.parameters() if decays(p)], "weight_decay": o["weight_decay"]},
                  {"params": [p for p in net.parameters() if not decays(p)], "weight_decay": 0.0}]
        return torch.optim.SGD([g for g in groups if g["params"]], lr=0.1, momentum=0.0 if o["kind"] == "sgd" else o["momentum"],
                               nesterov=o["kind"] == "nesterov")

    @torch.no_grad()
    def load(self, net, opt):
        def value(f, key):
            v = torch.from_numpy(f[key][...])
            return v.permute(0, 3, 1, 2) if v.ndim == 4 else v
        with h5py.File(self.checkpoint) as f:
            for name, p in net.named_parameters():
                p.copy_(value(f, "param/" + name))
                if self.cfg["optim"]["kind"] != "sgd":
                    opt.state[p]["momentum_buffer"] = torch.empty_like(p).copy_(value(f, "mom1/" + name))
            for name, b in net.named_buffers():
                if not name.endswith("num_batches_tracked"):
                    b.copy_(value(f, "state/" + name))

    def train(self, seed=None):
        """Losses of self.steps: from the checkpoint, or from step 1 on with the weights of a seed."""
        net = self.net(seed or 0)
        opt = self.optimizer(net)
        if seed is None:
            self.load(net, opt)
        amp = AMP.get(self.precision)
        # dtrain's own default: a fixed 1024 in fp16. A power of two changes no bit in the wider formats.
        scale = self.cfg["train"]["loss_scale"] or (1024.0 if amp is torch.float16 else 1.0)
        params = list(net.parameters())
        losses = []
        for step in self.steps if seed is None else [1] + self.steps:
            for g in opt.param_groups:
                g["lr"] = self.records[step]["lr"]
            with torch.autocast(self.device, amp or torch.bfloat16, enabled=amp is not None):
                logits = net(self.x)
            loss = nn.functional.cross_entropy(logits.float(), self.y, label_smoothing=self.cfg["train"]["label_smoothing"])
            opt.zero_grad(set_to_none=True)
            (loss * scale).backward()
            if scale != 1:
                torch._foreach_div_([p.grad for p in params], scale)
            opt.step()
            losses.append(loss.detach())
        return torch.stack(losses).tolist()[-len(self.steps):]


def relative(u, v):
    return [abs(a - b) / abs(b) for a, b in zip(u, v)]


def compare(peer, n_seeds):
    ours, theirs, again = [peer.records[s]["loss"] for s in peer.steps], peer.train(), peer.train()
    rel, own = relative(ours, theirs), relative(again, theirs)
    out = dict(model=peer.model, precision=peer.precision, device=peer.device, torch=torch.__version__, steps=len(rel), rel_first=rel[0],
               rel_median=statistics.median(rel), rel_max=max(rel), repeat_rel_median=statistics.median(own), repeat_rel_max=max(own),
               ours_last=ours[-1], torch_last=theirs[-1])
    seeds = [peer.train(seed) for seed in range(1, n_seeds + 1)]
    if n_seeds > 1:
        spread = [max(at) - min(at) for at in zip(*seeds)]
        out["seeds"] = n_seeds
        out["seed_spread_median"] = statistics.median(s / statistics.mean(at) for s, at in zip(spread, zip(*seeds)))
        out["within_seed_spread"] = statistics.mean(float(abs(u - v) <= s) for u, v, s in zip(ours, theirs, spread))
    return out, dict(model=peer.model, precision=peer.precision, step=peer.steps, ours=ours, torch=theirs, repeat=again, seeds=seeds)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("run")
    ap.add_argument("data", type=pathlib.Path)
    ap.add_argument("model")
    ap.add_argument("--small-stem", action="store_true")
    ap.add_argument("--precision", default="fp32", help="one or several, separated by commas")
    ap.add_argument("--seeds", type=int, default=0)
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    ap.add_argument("--plot", default="")
    a = ap.parse_args()
    torch.backends.cudnn.benchmark = True
    for precision in a.precision.split(","):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        peer = Peer(pathlib.Path(a.run.replace("{precision}", precision)), a.data, a, precision)
        result, curves = compare(peer, a.seeds)
        print(json.dumps(result), flush=True)
        if a.plot:
            pathlib.Path(a.plot.replace("{precision}", precision)).write_text(json.dumps(curves))


if __name__ == "__main__":
    main()
