#!/usr/bin/env python3
"""Makes lora.txt of tests/train/test_lora.c with PyTorch, in double: ten steps of AdamW on low-rank adapters beside an
attention layer and a dense one, as the paper and Hugging Face's PEFT define them. All numbers begin by a formula of their
tensor and index, so that nothing but the results is kept.

Run it in this folder with torch installed; only needed when the test changes.
"""
import math

import torch
import torch.nn.functional as F

RANK, ALPHA, BATCH, STEPS, LR, DECAY = 3, 6.0, 16, 10, 0.01, 0.1
SHAPES = {
    "attn.in_proj_weight": (48, 16), "attn.in_proj_bias": (48,), "attn.out_proj.weight": (16, 16), "attn.out_proj.bias": (16,),
    "one.weight": (24, 128), "one.bias": (24,), "fc.weight": (5, 24), "fc.bias": (5,),
    "attn.in_proj_lora_A.weight": (RANK, 16), "attn.in_proj_lora_B.weight": (48, RANK),
    "attn.out_proj.lora_A.weight": (RANK, 16), "attn.out_proj.lora_B.weight": (16, RANK),
    "one.lora_A.weight": (RANK, 128), "one.lora_B.weight": (24, RANK),
}


def value(k, shape):
    n = math.prod(shape)
    return (((torch.arange(n) * 13 + 7 * k) % 41 - 20).double() / (20 * math.sqrt(shape[-1]))).float().double().reshape(shape)


w = {name: value(k, shape) for k, (name, shape) in enumerate(SHAPES.items())}
trained = [name for name in SHAPES if "lora" in name or name.startswith("fc")]
for name in trained:
    w[name].requires_grad_()


def adapted(x, weight, bias, name):
    a, b = w[f"{name}lora_A.weight"], w[f"{name}lora_B.weight"]
    return F.linear(x, weight, bias) + ALPHA / RANK * F.linear(F.linear(x, a), b)


def forward(pixels):
    x = (pixels / 255 - torch.tensor([0.5, 0.45])) / torch.tensor([0.3, 0.28])
    x = x.double().reshape(BATCH, 8, 16)
    q, k, v = adapted(x, w["attn.in_proj_weight"], w["attn.in_proj_bias"], "attn.in_proj_").chunk(3, -1)
    q, k, v = (t.reshape(BATCH, 8, 2, 8).transpose(1, 2) for t in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(BATCH, 8, 16)
    y = adapted(y, w["attn.out_proj.weight"], w["attn.out_proj.bias"], "attn.out_proj.").reshape(BATCH, 128)
    return F.linear(F.relu(adapted(y, w["one.weight"], w["one.bias"], "one.")), w["fc.weight"], w["fc.bias"])


groups = [{"params": [w[n] for n in trained if w[n].dim() > 1], "weight_decay": DECAY},
          {"params": [w[n] for n in trained if w[n].dim() == 1], "weight_decay": 0.0}]
optim = torch.optim.AdamW(groups, lr=LR)
with open("lora.txt", "w") as out:
    for step in range(STEPS):
        t = step * BATCH + torch.arange(BATCH)
        pixels = ((t[:, None] * 31 + torch.arange(128) * 7) % 251).reshape(BATCH, 8, 8, 2).double()
        optim.zero_grad()
        loss = F.cross_entropy(forward(pixels), t % 5)
        loss.backward()
        optim.step()
        out.write(f"loss {loss.item():.9e} 0\n")
    for name in SHAPES:
        out.write(f"{name} {w[name].sum().item():.9e} {w[name].square().sum().item():.9e}\n")
