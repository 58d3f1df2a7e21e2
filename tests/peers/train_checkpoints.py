"""Logits and scores that transformers and PEFT give for checkpoints written by sipf; run by tests/training/peers.rs.

    python tests/peers/train_checkpoints.py causal FOLDER 1,2,3
    python tests/peers/train_checkpoints.py adapter BASE ADAPTER 1,2,3
    python tests/peers/train_checkpoints.py classifier FOLDER ROWS.jsonl

Prints one JSON object: {"logits": [[..], ..]}, or {"scores": [[..], ..]} of every row's steps.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer


def logits(model, ids):
    ids = torch.tensor([[int(part) for part in ids.split(",")]])
    with torch.inference_mode():
        return {"logits": model.eval()(ids).logits[0].tolist()}


def scores(folder, rows):
    """Steps as TRL tokenises them: each apart, the separator behind it, read at its last token."""
    model, tokenizer = AutoModelForTokenClassification.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    out = []
    for line in open(rows, encoding="utf-8"):
        row = json.loads(line)
        ids, reads = [tokenizer.bos_token_id] + encode(row["prompt"]), []
        for step in row["completions"]:
            ids += encode(step) + encode("\n")
            reads.append(len(ids) - 1)
        with torch.inference_mode():
            out.append(model(torch.tensor([ids])).logits[0, reads].softmax(-1)[:, 1].tolist())
    return {"scores": out}


kind, *rest = sys.argv[1:]
if kind == "causal":
    result = logits(AutoModelForCausalLM.from_pretrained(rest[0]), rest[1])
elif kind == "adapter":
    from peft import PeftModel

    result = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(rest[0]), rest[1]), rest[2])
else:
    result = scores(rest[0], rest[1])
print(json.dumps(result))
