"""Makes llama.gguf: a random Llama as llama.cpp's converter writes it (query and key rows interleaved, norms in F32, the
rest in Q8_0 and F16, a SentencePiece vocabulary), with the logits that transformers computes from the file.

    python make_gguf.py            (torch 2.15.0, transformers 5.24.0, gguf 0.19.0)
"""
import json
import pathlib

import gguf
import numpy as np
import torch
import transformers

here = pathlib.Path(__file__).parent / "gguf"
here.mkdir(exist_ok=True)
path = here / "llama.gguf"
HIDDEN, LAYERS, HEADS, KV, WIDTH, VOCAB, CONTEXT = 32, 2, 4, 2, 64, 300, 64
torch.manual_seed(5)
torch.set_num_threads(1)

pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
pieces += ["\u2581"] + list("abcdefghijklmnopqrstuvwxyz") + ["th", "the", "\u2581the", "in", "ing", "\u2581a", "er", "on"]
pieces += ["he", "an", "\u2581an", "and", "\u2581and", "."]
assert len(pieces) == VOCAB, len(pieces)
kinds = [2, 3, 3] + [6] * 256 + [1] * (VOCAB - 259)
scores = [0.0] * 259 + [-float(i) for i in range(VOCAB - 259)]

writer = gguf.GGUFWriter(path, "llama")
writer.add_context_length(CONTEXT)
writer.add_embedding_length(HIDDEN)
writer.add_block_count(LAYERS)
writer.add_feed_forward_length(WIDTH)
writer.add_head_count(HEADS)
writer.add_head_count_kv(KV)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_freq_base(5000.0)
writer.add_rope_dimension_count(HIDDEN // HEADS)
writer.add_vocab_size(VOCAB)
writer.add_tokenizer_model("llama")
writer.add_token_list(pieces)
writer.add_token_scores(scores)
writer.add_token_types(kinds)
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)
writer.add_unk_token_id(0)
writer.add_add_bos_token(True)


def interleaved(weight, heads):
    """Halves of a head to neighbouring pairs: LlamaModel.permute of convert_hf_to_gguf.py."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def add(name, weight, kind):
    weight = weight.numpy().astype(np.float32)
    if kind == gguf.GGMLQuantizationType.F32:
        writer.add_tensor(name, weight)
    else:
        writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)


F32, F16, Q8 = (getattr(gguf.GGMLQuantizationType, kind) for kind in ("F32", "F16", "Q8_0"))
normal = lambda *shape: torch.randn(*shape) * shape[-1] ** -0.5
add("token_embd.weight", torch.randn(VOCAB, HIDDEN), F16)
add("output_norm.weight", 1 + 0.3 * torch.randn(HIDDEN), F32)
add("output.weight", normal(VOCAB, HIDDEN), Q8)
head = HIDDEN // HEADS
for layer in range(LAYERS):
    block = f"blk.{layer}"
    add(f"{block}.attn_norm.weight", 1 + 0.3 * torch.randn(HIDDEN), F32)
    add(f"{block}.attn_q.weight", interleaved(normal(HIDDEN, HIDDEN), HEADS), Q8)
    add(f"{block}.attn_k.weight", interleaved(normal(KV * head, HIDDEN), KV), Q8)
    add(f"{block}.attn_v.weight", normal(KV * head, HIDDEN), Q8)
    add(f"{block}.attn_output.weight", normal(HIDDEN, HIDDEN), Q8)
    add(f"{block}.ffn_norm.weight", 1 + 0.3 * torch.randn(HIDDEN), F32)
    add(f"{block}.ffn_gate.weight", normal(WIDTH, HIDDEN), Q8)
    add(f"{block}.ffn_up.weight", normal(WIDTH, HIDDEN), Q8)
    add(f"{block}.ffn_down.weight", normal(HIDDEN, WIDTH), Q8)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

model = transformers.AutoModelForCausalLM.from_pretrained(here, gguf_file="llama.gguf", dtype=torch.float32).eval()
tokenizer = transformers.AutoTokenizer.from_pretrained(here, gguf_file="llama.gguf")
text = "the other and an ending."
ids = tokenizer(text)["input_ids"]
with torch.no_grad():
    logits = model(torch.tensor([ids])).logits[0]
golden = {"text": text, "ids": ids, "logits": [[round(x, 6) for x in row] for row in logits.tolist()]}
(here / "golden.json").write_text(json.dumps(golden) + "\n")
print(ids, path.stat().st_size)
