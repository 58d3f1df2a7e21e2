"""Tokens a second of transformers.generate, on the checkpoints that `sipf bench generate` runs.

    python tests/peers/generate_transformers.py --make ckpt/1m --size 1m     # a random Llama checkpoint
    sipf bench generate --model ckpt/1m --threads 1 --json
    OMP_NUM_THREADS=1 python tests/peers/generate_transformers.py --model ckpt/1m

Prompts are random ids of one length, no token ends a sequence, sampling at T=1 without filters: what `sipf bench
generate` does. The first run of each batch is not counted. tokens_per_cpu_second is the figure to
compare on a machine that others use too.
Written for torch 2.15 and transformers 5.24.
"""

import argparse
import json
import math
import os
import statistics
import time

SIZES = {
    "1m": dict(vocab_size=512, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
               intermediate_size=352),
    "10m": dict(vocab_size=2048, hidden_size=320, num_hidden_layers=8, num_attention_heads=5, num_key_value_heads=5,
                intermediate_size=864),
    "30m": dict(vocab_size=8192, hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4,
                intermediate_size=1376),
}


def make(folder, size):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(max_position_embeddings=512, tie_word_embeddings=False, **SIZES[size])
    LlamaForCausalLM(config).save_pretrained(folder)


def measure(args):
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, GenerationConfig

    torch.set_num_threads(args.threads)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    batches = []
    for batch in args.batch:
        config = GenerationConfig(
            do_sample=args.temperature > 0, temperature=args.temperature or None, top_k=0, top_p=1.0,
            min_new_tokens=args.new_tokens, max_new_tokens=args.new_tokens, eos_token_id=None, pad_token_id=0)

        def once(rounds):
            wall, processor = time.perf_counter(), time.process_time()
            for _ in range(rounds):
                ids = torch.randint(0, model.config.vocab_size, (batch, args.prompt_tokens))
                with torch.inference_mode():
                    out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
                assert out.shape == (batch, args.prompt_tokens + args.new_tokens)
            return time.perf_counter() - wall, time.process_time() - processor

        torch.manual_seed(0)
        once(1)
        rounds = max(1, math.ceil(args.at_least / once(1)[0]))
        costs = [once(rounds) for _ in range(args.repeats)]
        tokens = rounds * batch * args.new_tokens
        batches.append({
            "batch": batch,
            "tokens_per_second": statistics.median(tokens / wall for wall, _ in costs),
            "measured": [tokens / wall for wall, _ in costs],
            "tokens_per_cpu_second": statistics.median(tokens / processor for _, processor in costs)})
    print(json.dumps({
        "bench": "generate", "peer": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "subject": {"model": args.model, "parameters": model.num_parameters(), "threads": args.threads},
        "prompt_tokens": args.prompt_tokens, "new_tokens": args.new_tokens, "temperature": args.temperature,
        "batches": batches}, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint to measure")
    parser.add_argument("--make", metavar="DIR", help="write a random checkpoint and stop")
    parser.add_argument("--size", choices=SIZES, default="1m")
    parser.add_argument("--batch", type=lambda text: [int(n) for n in text.split(",")], default=[1, 16, 64])
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--at-least", type=float, default=1.0, help="seconds of each measurement")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "1")))
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.make, arguments.size)
    elif arguments.model:
        measure(arguments)
    else:
        parser.error("give --model or --make")
