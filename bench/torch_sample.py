"""Sampling on the CPU in PyTorch: a GPT-like network of random weights with a key/value cache, greedy, one text at a time or a batch.

usage: torch_sample.py [--layers 6] [--width 384] [--heads 6] [--vocabulary 4096] [--context 256] [--batch 1] [--tokens 200] [--threads 1]

Prints one JSON line: tokens a second by the clock, and by the processor time of the loop.
"""
import argparse, json, time

import torch
import torch.nn.functional as F


class Block(torch.nn.Module):
    def __init__(self, width, heads, batch, context):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)
        self.k = torch.zeros(batch, heads, context, width // heads)
        self.v = torch.zeros_like(self.k)

    def forward(self, x, at):
        b, t, width = x.shape
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(width, dim=2))
        self.k[:, :, at:at + t], self.v[:, :, at:at + t] = k, v
        y = F.scaled_dot_product_attention(q, self.k[:, :, :at + t], self.v[:, :, :at + t], is_causal=t > 1)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Network(torch.nn.Module):
    def __init__(self, a):
        super().__init__()
        self.words, self.places = torch.nn.Embedding(a.vocabulary, a.width), torch.nn.Embedding(a.context, a.width)
        self.blocks = torch.nn.ModuleList(Block(a.width, a.heads, a.batch, a.context) for _ in range(a.layers))
        self.norm = torch.nn.LayerNorm(a.width)

    def forward(self, tokens, at):
        x = self.words(tokens) + self.places(torch.arange(at, at + tokens.shape[1]))
        for block in self.blocks:
            x = block(x, at)
        return F.linear(self.norm(x[:, -1]), self.words.weight)


def main():
    parser = argparse.ArgumentParser()
    for name, value in (("layers", 6), ("width", 384), ("heads", 6), ("vocabulary", 4096), ("context", 256), ("batch", 1), ("tokens", 200), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    with torch.inference_mode():
        net = Network(a).eval()
        token = net(torch.zeros(a.batch, 8, dtype=torch.long), 0).argmax(dim=1, keepdim=True)
        token = net(token, 8).argmax(dim=1, keepdim=True)
        wall, cpu = time.perf_counter(), time.process_time()
        for i in range(a.tokens):
            token = net(token, 9 + i).argmax(dim=1, keepdim=True)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"tokens_per_s": a.batch * a.tokens / wall, "tokens_per_cpu_s": a.batch * a.tokens / cpu}))


if __name__ == "__main__":
    main()
