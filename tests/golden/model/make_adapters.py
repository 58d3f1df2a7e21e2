"""Makes the golden adapters of this folder on its golden checkpoints: PEFT's own files, every weight away from
its trivial value, with the logits that PEFT computes from them.

    python make_adapters.py            (torch 2.15.0, transformers 5.24.0, peft 0.21.2)
"""
import json
import pathlib

import torch
import transformers
from peft import LoraConfig, get_peft_model

ADAPTERS = {
    "lora": dict(r=4, lora_alpha=6, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    "lora-rslora": dict(r=4, lora_alpha=6, use_rslora=True, target_modules="all-linear"),
    "lora-patterns": dict(
        r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"], rank_pattern={"layers.0.self_attn.q_proj": 2},
        alpha_pattern={"down_proj": 3}, modules_to_save=["lm_head"]),
    "lora-regex": dict(r=2, lora_alpha=2, target_modules=r".*\.1\.self_attn\.(q|v)_proj"),
    "lora-expressions": dict(
        r=4, lora_alpha=6, target_modules=["q_proj", "v_proj", "up_proj"], exclude_modules=["1.self_attn.v_proj"],
        rank_pattern={r"layers\.[1-9]\.self_attn\.q_proj": 2},
        alpha_pattern={"^model.layers.0.self_attn.q_proj": 24, "mlp.(up|down)_proj": 3}),
    "lora-tied-head": dict(r=2, lora_alpha=2, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "lora-tied-embedding": dict(r=2, lora_alpha=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
    "lora-tied-both": dict(
        r=2, lora_alpha=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True),
}

here = pathlib.Path(__file__).parent
torch.manual_seed(11)
torch.set_num_threads(1)
ids = json.loads((here / "llama/golden.json").read_text())["ids"]
for name, settings in ADAPTERS.items():
    family = "llama-tied-bias" if "-tied-" in name else "llama"
    base = transformers.AutoModelForCausalLM.from_pretrained(here / family, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.requires_grad:
                weight.copy_(0.3 * torch.randn_like(weight))
    folder = here / name
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = family
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids])).logits[0]
    golden = {"ids": ids, "logits": [[round(x, 7) for x in row] for row in logits.tolist()]}
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    print(name, len(list(model.named_parameters())))
