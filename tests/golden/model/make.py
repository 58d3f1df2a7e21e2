"""Makes the golden checkpoints of this folder: one small random model a family, every weight away from its trivial
value, with the reference implementation's logits, gradients and greedy tokens.

    python make.py            (torch 2.15.0, transformers 5.24.0, safetensors 0.8)

Loss: cross-entropy of ids[1:] given ids[:-1], mean over positions.
"""
import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from transformers import (
    Gemma2Config, GemmaConfig, LlamaConfig, MistralConfig, PhiConfig, Qwen2Config, Qwen3Config,
)

SMALL = dict(
    vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=None, pad_token_id=0,
)
FAMILIES = {
    "llama": LlamaConfig(**SMALL, tie_word_embeddings=False),
    "llama-tied-bias": LlamaConfig(**SMALL, tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
    "llama-linear": LlamaConfig(**SMALL, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}),
    "llama-llama3": LlamaConfig(**SMALL, rope_parameters={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16, "rope_theta": 5e5}),
    "mistral": MistralConfig(**SMALL, sliding_window=6),
    "qwen2": Qwen2Config(**SMALL, tie_word_embeddings=True, use_sliding_window=True, sliding_window=6, max_window_layers=1),
    "qwen3": Qwen3Config(**SMALL, head_dim=8),
    "gemma": GemmaConfig(**{**SMALL, "num_key_value_heads": 1}, head_dim=8),
    "gemma2": Gemma2Config(**SMALL, head_dim=8, query_pre_attn_scalar=12, sliding_window=6,
                           attn_logit_softcapping=3.0, final_logit_softcapping=5.0),
    "phi": PhiConfig(**{**SMALL, "num_key_value_heads": 4, "hidden_size": 32}, partial_rotary_factor=0.5),
}
# As transformers 4 spelt the same settings.
OLD_SPELLING = {"llama-linear": {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}}}

here = pathlib.Path(__file__).parent
torch.manual_seed(7)
torch.set_num_threads(1)
for name, config in FAMILIES.items():
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            noise = torch.randn_like(weight)
            weight.copy_(1 + 0.2 * noise if "norm" in key and "bias" not in key else 0.3 * noise)
            if name.startswith("gemma") and "norm" in key:
                weight.copy_(0.2 * noise)
    folder = here / name
    folder.mkdir(exist_ok=True)
    model.save_pretrained(folder)
    for extra in ("generation_config.json",):
        (folder / extra).unlink(missing_ok=True)
    ids = torch.randint(3, 48, (1, 20))
    logits = model(ids).logits
    loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:])
    loss.backward()
    save_file({k: p.grad.contiguous() for k, p in model.named_parameters()}, folder / "gradients.safetensors")
    prompt = ids[:, :6]
    with torch.no_grad():
        tokens = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=10, eos_token_id=None)
    golden = {
        "ids": ids[0].tolist(), "loss": loss.item(), "logits": [[round(x, 7) for x in row] for row in logits[0].tolist()],
        "prompt": prompt[0].tolist(), "greedy": tokens[0, prompt.shape[1]:].tolist(),
    }
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    if name in OLD_SPELLING:
        old = json.loads((folder / "config.json").read_text())
        old.pop("rope_parameters", None)
        old["torch_dtype"] = old.pop("dtype", "float32")
        old.update(OLD_SPELLING[name])
        (folder / "config_transformers4.json").write_text(json.dumps(old, indent=2) + "\n")
    print(name, loss.item())
