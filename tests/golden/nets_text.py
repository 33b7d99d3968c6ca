"""The networks of text among nets.py's: references of transformers, of PyTorch's example word_language_model, and of
torch.nn. Needs transformers."""
from functools import partial

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from transformers import (BertConfig, BertForMaskedLM, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel,
                          LlamaConfig, LlamaForCausalLM)
from transformers.pytorch_utils import Conv1D


def as_linear(net):
    """Conv1D keeps a matrix as [in, out]: here as [out, in], under the same name."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, Conv1D):
                setattr(module, name, nn.Linear(child.weight.shape[0], child.weight.shape[1]))
    return net


def gpt2(layers, width, positions=1024, vocab=50257):
    return lambda: as_linear(GPT2LMHeadModel(GPT2Config(
        n_layer=layers, n_embd=width, n_head=width // 64, n_positions=positions, vocab_size=vocab, embd_pdrop=0,
        attn_pdrop=0, resid_pdrop=0, attn_implementation="eager")))


def llama(layers, width, heads, kv_heads, hidden, vocab, tied=True):
    return lambda: LlamaForCausalLM(LlamaConfig(
        num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, num_key_value_heads=kv_heads,
        intermediate_size=hidden, vocab_size=vocab, tie_word_embeddings=tied, rms_norm_eps=1e-5,
        attn_implementation="eager"))


def bert(layers, width, positions=512, vocab=30522, heads=None, hidden=None, classes=0):
    def make():
        config = BertConfig(
            num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads or width // 64,
            intermediate_size=hidden or 4 * width, max_position_embeddings=positions, vocab_size=vocab,
            hidden_dropout_prob=0, attention_probs_dropout_prob=0, num_labels=classes or 2, attn_implementation="eager",
            pad_token_id=None)  # every token is learnt
        return BertForSequenceClassification(config) if classes else BertForMaskedLM(config)
    return make


class WordModel(nn.Module):
    """word_language_model's RNNModel, with states of 0."""

    def __init__(self, kind, vocab, width, hidden, layers, tied=False):
        super().__init__()
        self.encoder = nn.Embedding(vocab, width)
        self.rnn = getattr(nn, kind)(width, hidden, layers, batch_first=True)
        self.decoder = nn.Linear(hidden, vocab)
        if tied:
            self.decoder.weight = self.encoder.weight

    def forward(self, tokens):
        return self.decoder(self.rnn(self.encoder(tokens))[0])


class Classifier(nn.Module):
    def __init__(self, vocab, width, hidden, layers, classes):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.lstm = nn.LSTM(width, hidden, layers, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, classes)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        last = self.lstm(packed)[1][0][-2:]
        return self.fc(torch.cat([last[0], last[1]], 1))


COUNTS = {
    "gpt2": gpt2(12, 768),
    "gpt2_medium": gpt2(24, 1024),
    "gpt2_large": gpt2(36, 1280),
    "gpt2_xl": gpt2(48, 1600),
    "llama_15m": llama(6, 288, 6, 6, 768, 32000),
    "llama_42m": llama(8, 512, 8, 8, 1376, 32000),
    "llama_110m": llama(12, 768, 12, 12, 2048, 32000),
    "smollm_135m": llama(30, 576, 9, 3, 1536, 49152),
    "smollm_360m": llama(32, 960, 15, 5, 2560, 49152),
    "tinyllama_1b": llama(22, 2048, 32, 4, 5632, 32000, False),
    "bert_tiny": bert(2, 128),
    "bert_mini": bert(4, 256),
    "bert_small": bert(4, 512),
    "bert_base": bert(12, 768),
    "bert_large": bert(24, 1024),
    "lstm_lm": lambda: WordModel("LSTM", 33278, 200, 200, 2),
    "gru_lm": lambda: WordModel("GRU", 33278, 200, 200, 2),
    "lstm_classifier": lambda: Classifier(10000, 128, 128, 1, 2),
}


def words(steps, vocab):
    return {"tokens": ((steps,), vocab), "label": ((steps,), vocab)}


def text(steps, vocab, classes, lengths=False):
    more = {"lengths": ((), steps)} if lengths else {}
    return {"tokens": ((steps,), vocab), "label": ((), classes), **more}


def of_tokens(net, x):
    y = net(x["tokens"])
    return y.logits if hasattr(y, "logits") else y


def of_lengths(net, x):
    """A row must not be empty: the case's seed is chosen so."""
    if isinstance(net, Classifier):
        return net(x["tokens"], x["lengths"])
    steps = torch.arange(x["tokens"].shape[1])
    return net(x["tokens"], attention_mask=(steps < x["lengths"][:, None]).long()).logits


def cases(case):
    case = partial(case, lr=0.01)
    language = dict(task="language", forward=of_tokens)
    return [
        case("gpt2", gpt2(12, 768, 24), fields=words(24, 50257), lr=0.02, **language),
        case("llama_15m", llama(6, 288, 6, 6, 768, 500), fields=words(32, 500), **language),
        case("smollm_135m", llama(2, 576, 9, 3, 1536, 300), fields=words(20, 300), keys=(("blocks", 2),), **language),
        case("tinyllama_1b", llama(2, 128, 2, 1, 256, 200, False), fields=words(20, 200), **language,
             keys=(("blocks", 2), ("channels", 128), ("heads", 2), ("kv_heads", 1), ("hidden", 256))),
        case("bert_base", bert(4, 768, 24, 500), fields=words(24, 500), task="masked_language", forward=of_tokens,
             keys=(("blocks", 4),), file="bert_blocks"),
        # with weights of the formula places become alike with depth, and attention has no gradient left that fp32 could tell
        case("bert_base", bert(12, 768, 8, 200), fields=words(8, 200), task="masked_language", forward=of_tokens,
             exact=True, lr=0.001),
        case("bert_tiny", bert(2, 128, 20, 300, classes=5), fields=text(20, 300, 5, True), outputs=5, batch=4,
             forward=of_lengths, file="bert_classes", seeds=(1,)),
        case("lstm_lm", lambda: WordModel("LSTM", 300, 200, 200, 2), fields=words(20, 300), batch=4, **language),
        case("lstm_lm", lambda: WordModel("LSTM", 300, 96, 96, 3, True), fields=words(20, 300), batch=4, file="lstm_tied",
             keys=(("tied", "true"), ("channels", 96), ("blocks", 3)), **language),
        case("gru_lm", lambda: WordModel("GRU", 300, 200, 160, 2), fields=words(20, 300), batch=4,
             keys=(("hidden", 160),), **language),
        case("lstm_classifier", lambda: Classifier(300, 128, 128, 1, 5), fields=text(20, 300, 5, True), outputs=5, batch=4,
             forward=of_lengths, seeds=(1,)),
    ]
