"""Logits of a model with an adapter that sipf wrote, as PEFT computes them.

    python tests/peers/adapter_peft.py BASE ADAPTER 1,2,3

Prints {"logits": [[...], ...]}; tests/model.rs compares them with `sipf model logits`.
Written for torch 2.15, transformers 5.24 and peft 0.21.
"""

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

base, adapter, ids = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, adapter).eval()
assert any("lora_A" in name for name, _ in model.named_parameters())
with torch.no_grad():
    logits = model(torch.tensor([[int(number) for number in ids.split(",")]])).logits[0]
print(json.dumps({"logits": logits.tolist()}))
