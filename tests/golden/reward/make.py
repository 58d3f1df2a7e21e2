"""Reference numbers for reward models: transformers' token classifier, labels placed as TRL 1.13's PRMTrainer places them
(later TRL has no PRMTrainer, so its tokenisation is written out here).

    python make.py          needs torch, transformers, safetensors
"""
import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForTokenClassification

here = pathlib.Path(__file__).parent
assets = here.parents[2] / "core" / "assets" / "tiny"
torch.manual_seed(5)
torch.set_num_threads(1)
tokenizer = Tokenizer.from_file(str(assets / "tokenizer.json"))
BOS = 1
MAX_LENGTH = 40

rows = [
    dict(prompt="Q: Tom has 3 apples.\nA:\n", completions=["Tom has <<3+4=7>>7 apples.", "<<7*2=14>>14 for Tom."],
         labels=[True, False], soft=[0.875, 0.125]),
    dict(prompt="What is 2 + 2?", completions=["2 + 2 = 4", "", "ends in a line break\n"], labels=[True, True, False],
         soft=[1.0, 0.5, 0.0]),
    # The last step lies beyond MAX_LENGTH and loses its label.
    dict(prompt="Q: Mia has 9 coins and gives 2 to Leo.\nA:\n",
         completions=["Now Mia has <<9-2=7>>7 coins.", "So Mia is at <<7+1=8>>8 coins."], labels=[False, True],
         soft=[0.25, 0.75]),
]


def layout(row):
    """Prompt and steps apart, without special tokens; BOS in front; the label on the separator's last token."""
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    separator = encode("\n")
    ids, reads = [BOS] + encode(row["prompt"]), []
    for step in row["completions"]:
        ids += encode(step) + separator
        reads.append(len(ids) - 1)
    return ids[:MAX_LENGTH], [read for read in reads if read < MAX_LENGTH]


config = LlamaConfig(
    vocab_size=640, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=64, max_position_embeddings=128, num_labels=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)
model = LlamaForTokenClassification(config).eval()
with torch.no_grad():
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.uniform_(0.5, 1.5)
        else:
            weight.normal_(0, 0.3)
model.save_pretrained(here / "classifier")
for name in ("tokenizer.json", "tokenizer_config.json"):
    (here / "classifier" / name).write_bytes((assets / name).read_bytes())


def logits(squash):
    """[n, 2] at the read positions of every row, in order."""
    out = []
    for row in rows:
        ids, reads = layout(row)
        hidden = model.model(input_ids=torch.tensor([ids])).last_hidden_state[0, reads]
        out.append(model.score(torch.sigmoid(hidden) if squash else hidden))
    return torch.cat(out)


def labels(key):
    return torch.tensor([float(label) for row in rows for label in row[key][: len(layout(row)[1])]])


golden = dict(max_length=MAX_LENGTH, rows=rows, layouts=[dict(ids=i, reads=r) for i, r in map(layout, rows)])
for name, squash, key in (("plain", False, "labels"), ("soft", False, "soft"), ("squashed", True, "labels")):
    model.zero_grad()
    z, y = logits(squash), labels(key)
    target = torch.stack([1 - y, y], 1)
    loss = -(target * F.log_softmax(z, 1)).sum(1).mean()
    loss.backward()
    golden[name] = dict(loss=loss.item(), scores=F.softmax(z, 1)[:, 1].tolist(),
                        accuracy=((z[:, 1] > z[:, 0]) == (y > 0.5)).float().mean().item())
    save_file({k: p.grad.clone() for k, p in model.named_parameters()}, here / f"{name}.safetensors")
# The hard labels once more through the model's own loss, padded and masked with -100 as its collator does.
ids = torch.zeros(len(rows), max(len(layout(row)[0]) for row in rows), dtype=torch.long)
mask, marks = torch.zeros_like(ids), torch.full_like(ids, -100)
for i, row in enumerate(rows):
    tokens, reads = layout(row)
    ids[i, : len(tokens)], mask[i, : len(tokens)] = torch.tensor(tokens), 1
    for read, label in zip(reads, row["labels"]):
        marks[i, read] = int(label)
with torch.no_grad():
    own = model(input_ids=ids, attention_mask=mask, labels=marks).loss.item()
assert abs(own - golden["plain"]["loss"]) < 1e-5, (own, golden["plain"]["loss"])
(here / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
print({name: golden[name]["loss"] for name in ("plain", "soft", "squashed")}, own)
