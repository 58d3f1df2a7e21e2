"""Makes tokenizer.json of the bundled tiny family (run once; needs `pip install tokenizers`).

    sipf task export arith --which solution --skip 200000 --limit 6000 --out a.jsonl
    sipf task export pyfunc --which solution --limit 1500 --out p.jsonl
    python make_tokenizer.py a.jsonl p.jsonl tokenizer.json

The second file was written before pyfunc got more words (version 0.1.0, CHANGELOG.md); the tokenizer is kept as it is, since all
published weights and figures were made with it.

Byte-level BPE: every text can be written. A line break is always a token of its own and digits form groups, so that
0 to 99 are one token each.
"""
import json
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

*rows, out = sys.argv[1:]
texts = []
for path in rows:
    with open(path, encoding="utf-8") as lines:
        texts += [row["prompt"] + row["completion"] for row in map(json.loads, lines)]
numbers = ["<<%d+%d=%d>>%d" % ((n,) * 4) for n in range(100)] * 600

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split("\n", "isolated"),
    pre_tokenizers.Digits(individual_digits=False),
    pre_tokenizers.ByteLevel(add_prefix_space=False),
])
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train_from_iterator(texts + numbers, trainers.BpeTrainer(
    vocab_size=640,
    special_tokens=["<pad>", "<s>", "</s>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
))
tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
tokenizer.save(out, pretty=False)
