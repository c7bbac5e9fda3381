"""Train a small GPT on bytes of English and commit every tenth step.

Run it, kill it, and run it again: it continues from the last commit, bit for bit. The text comes
from Python's own `help()`, so there is nothing to download.
"""

import argparse
import hashlib
import math
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn import functional as F

from gradient import GradientEngine

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=120, help="where to stop")
parser.add_argument("--seed", type=int, default=1337)
args = parser.parse_args()

n_layer, n_head, n_embd, context, batch_size = 3, 4, 96, 64, 16
dropout, lr, schedule = 0.1, 1e-3, 400
torch.set_num_threads(1)
torch.manual_seed(args.seed)

text = "\n".join(topics[name] for name in sorted(topics))
data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()


class Block(nn.Module):
    """Causal attention, then a feed-forward layer, each added to the stream."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.qkv = nn.Linear(n_embd, 3 * n_embd)
        self.out = nn.Linear(n_embd, n_embd)
        self.up, self.down = nn.Linear(n_embd, 4 * n_embd), nn.Linear(4 * n_embd, n_embd)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        """Map (batch, time, n_embd) to the same shape."""
        b, t, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, n_head, -1).permute(2, 0, 3, 1, 4)
        rate = dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
        x = x + self.drop(self.out(y.transpose(1, 2).reshape(b, t, n_embd)))
        return x + self.drop(self.down(F.gelu(self.up(self.norm2(x)))))


class GPT(nn.Module):
    """A decoder over bytes, its input and output embeddings tied."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(256, n_embd)
        self.positions = nn.Embedding(context, n_embd)
        self.blocks = nn.Sequential(*(Block() for _ in range(n_layer)))
        self.norm = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, 256, bias=False)
        self.apply(self.initialise)
        self.head.weight = self.tokens.weight

    def initialise(self, module):
        """Start small, as GPT-2 does."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens):
        """Map (batch, time) bytes to (batch, time, 256) logits."""
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def get_batch():
    """Draw random windows: the input, and the same shifted by one."""
    starts = torch.randint(len(data) - context - 1, (batch_size,))
    window = torch.stack([data[i : i + context + 1] for i in starts.tolist()])
    return window[:, :-1], window[:, 1:]


model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.1)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=schedule)

engine = GradientEngine.attach(
    model,
    optimizer,
    scheduler,
    workspace="./runs",
    repo="gpt",
    resume="auto",  # the latest commit, or a fresh start if there is none
    hparams={"lr": lr, "batch_size": batch_size, "seed": args.seed},
)
engine.autocommit(every=10)
print(f"on branch {engine.branch}, after step {engine.current_step}", flush=True)

for step in engine.steps(args.steps):
    inputs, targets = get_batch()
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    engine.log(loss=loss.detach(), bits_per_byte=loss.item() / math.log(2))
    if step % 10 == 0:
        rate = optimizer.param_groups[0]["lr"]
        print(f"step {step:4d}  loss {loss.item():.4f}  lr {rate:.2e}", flush=True)
    engine.maybe_commit(step)

weights = hashlib.sha256()
for tensor in model.state_dict().values():
    weights.update(tensor.numpy().tobytes())
print(f"weights after step {engine.current_step}: sha256 {weights.hexdigest()}")
engine.close()
