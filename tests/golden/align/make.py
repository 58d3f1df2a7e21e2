"""Reference numbers for the alignment losses: TRL's own trainers on a small Llama with the bundled tokenizer.

    python make.py          needs torch, transformers, trl, datasets, safetensors; versions are kept in golden.json

Losses and gradients of one batch (ORPO with every nll scope, DPO, RPO, SFT), token ids and split of every row, and the
losses of 20 optimizer steps (AdamW, warm-up, decay, clipping, accumulation) of ORPO and SFT.
"""
import json
import os
import pathlib
import tempfile

import datasets
import torch
import torch.nn.functional as F
import transformers
import trl
from safetensors.torch import save_file
from torch.utils.data import SequentialSampler
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

here = pathlib.Path(__file__).parent
assets = here.parents[2] / "core" / "assets" / "tiny"
torch.set_num_threads(1)
BETA, MAX_LENGTH = 0.25, 44

PAIRS = [
    dict(prompt="Q: Tom has 3 apples and buys 4.\nA:\n", chosen="Tom has <<3+4=7>>7 apples.\n#### 7",
         rejected="Tom has <<3*4=12>>12.\n#### 12"),
    dict(prompt="What is 2 + 2?", chosen=" It is 4.", rejected=" It may be 5, or 22, who knows."),
    # Tokens merge across the boundary of prompt and completion, on one side only.
    dict(prompt="Mia ha", chosen="s 9 coins", rejected=" no coins"),
    # The chosen half is cut to MAX_LENGTH tokens.
    dict(prompt="Q: Leo has 40 coins and gives 10 away, then finds 3.\nA:\n",
         chosen="Leo has <<40-10=30>>30 coins.\nThen <<30+3=33>>33 coins.\n#### 33", rejected="#### 43"),
    dict(prompt="", chosen="An answer without a question.", rejected="No"),
    dict(prompt="Q: 7 boxes of 5 pens?\nA:\n", chosen="<<7*5=35>>35 pens.\n#### 35", rejected="<<7+5=12>>12 pens.\n#### 12"),
]


def model(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=640, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=32, max_position_embeddings=128, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )
    made = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            weight.uniform_(0.5, 1.5) if "norm" in name else weight.normal_(0, 0.3)
    return made


def tokenizer():
    return AutoTokenizer.from_pretrained(assets)


def dataset(rows):
    return datasets.Dataset.from_list(rows)


def common(folder, **more):
    return dict(output_dir=folder, use_cpu=True, report_to=[], bf16=False, gradient_checkpointing=False,
                max_length=MAX_LENGTH, per_device_train_batch_size=len(PAIRS), disable_tqdm=True, save_strategy="no", **more)


def first_batch(trainer):
    trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
    return next(iter(trainer.get_train_dataloader()))


def keep(name, net, loss, **more):
    net.zero_grad()
    loss.backward()
    save_file({k: p.grad.clone() for k, p in net.named_parameters()}, here / f"{name}.safetensors")
    golden[name] = dict(loss=loss.item(), **more)


golden = dict(
    versions=dict(torch=torch.__version__, transformers=transformers.__version__, trl=trl.__version__),
    beta=BETA, max_length=MAX_LENGTH, rows=PAIRS,
)
scratch = tempfile.mkdtemp()
base = model(5)
base.save_pretrained(here / "model")
for name in ("tokenizer.json", "tokenizer_config.json"):
    (here / "model" / name).write_bytes((assets / name).read_bytes())
reference = model(6)
reference.save_pretrained(here / "reference")

# ORPO, from TRL's own tokenisation and loss.
trainer = ORPOTrainer(model=model(5), args=ORPOConfig(beta=BETA, **common(scratch)), train_dataset=dataset(PAIRS),
                      processing_class=tokenizer())
batch = first_batch(trainer)
net = trainer.model
loss, metrics = trainer.get_batch_loss_metrics(net, batch)
keep("orpo-sequence", net, loss, metrics={k: v for k, v in metrics.items() if not k.startswith("logits/")})
golden["orpo-tokens"] = [
    {side: dict(ids=row[f"{side}_input_ids"], completion=sum(label == -100 for label in row[f"{side}_labels"]))
     for side in ("chosen", "rejected")}
    for row in trainer.train_dataset
]


def halves():
    """Token log-probabilities and masks of the chosen half: all tokens but the first, and those of the completion."""
    ids, mask, labels = batch["chosen_input_ids"], batch["chosen_attention_mask"], batch["chosen_labels"]
    logits = net(ids, attention_mask=mask).logits[:, :-1]
    logprobs = F.log_softmax(logits, -1).gather(2, ids[:, 1:, None]).squeeze(2)
    return logprobs, mask[:, 1:].float(), (labels[:, 1:] != -100).float()


for scope in ("completion", "sequence-mean", "completion-mean"):
    loss, metrics = trainer.get_batch_loss_metrics(net, batch)
    logprobs, everything, completion = halves()
    mask = everything if scope.startswith("sequence") else completion
    by_row = (logprobs * mask).sum(1) / mask.sum(1)
    nll = -by_row.mean() if scope.endswith("mean") else -(logprobs * mask).sum() / mask.sum()
    # TRL's loss with its likelihood taken out and the other one put in.
    whole = -(logprobs * everything).sum() / everything.sum()
    assert abs(whole.item() - metrics["nll_loss"]) < 1e-5
    keep(f"orpo-{scope}", net, loss - whole + nll, nll=nll.item())

# DPO and RPO against another model.
for name, types in (("dpo", ["sigmoid"]), ("rpo", ["sigmoid", "sft"])):
    args = DPOConfig(beta=BETA, loss_type=types, loss_weights=[1.0] * len(types), **common(scratch))
    trainer = DPOTrainer(model=model(5), ref_model=model(6), args=args, train_dataset=dataset(PAIRS),
                         processing_class=tokenizer())
    batch = first_batch(trainer)
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    seen = {k: v[-1] for k, v in trainer._metrics["train"].items()}
    keep(name, trainer.model, loss, metrics={k: seen[k] for k in seen if k.split("/")[0] in ("rewards", "logps", "logits")})
    golden["dpo-tokens"] = [
        {side: dict(ids=(row["prompt_ids"] + row[f"{side}_ids"])[:MAX_LENGTH], completion=len(row["prompt_ids"]))
         for side in ("chosen", "rejected")}
        for row in trainer.train_dataset
    ]

# SFT on prompt and completion.
CHOSEN = [dict(prompt=row["prompt"], completion=row["chosen"]) for row in PAIRS]


def sft(**more):
    return SFTTrainer(model=model(5), args=SFTConfig(packing=False, **common(scratch, **more)), train_dataset=dataset(CHOSEN),
                      processing_class=tokenizer())


trainer = sft()
batch = first_batch(trainer)
trainer.model.train()
loss = trainer.compute_loss(trainer.model, batch)
seen = {k: v[-1] for k, v in trainer._metrics["train"].items()}
keep("sft", trainer.model, loss, metrics={k: seen[k] for k in ("entropy", "mean_token_accuracy")})

# 20 steps of both, two micro-batches of two rows each.
STEPS = dict(max_steps=20, gradient_accumulation_steps=2, learning_rate=3e-3, weight_decay=0.1, warmup_steps=3,
             lr_scheduler_type="linear", max_grad_norm=0.5, logging_steps=1, adam_beta2=0.95)


def steps(trainer):
    trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
    losses, plain = [], trainer.compute_loss

    def noted(net, inputs, *args, **kwargs):
        loss = plain(net, inputs, *args, **kwargs)
        losses.append(loss.item())
        return loss

    trainer.compute_loss = noted
    trainer.train()
    return losses, [line["grad_norm"] for line in trainer.state.log_history if "grad_norm" in line]


def shorter(args):
    args["per_device_train_batch_size"] = 2
    return args


ROWS = PAIRS[:4]
trainer = ORPOTrainer(model=model(5), args=ORPOConfig(beta=BETA, **shorter(common(scratch, **STEPS))), train_dataset=dataset(ROWS),
                      processing_class=tokenizer())
losses, norms = steps(trainer)
golden["orpo-steps"] = dict(losses=[(a + b) / 2 for a, b in zip(losses[::2], losses[1::2])], grad_norm=norms)
args = SFTConfig(packing=False, **shorter(common(scratch, **STEPS)))
trainer = SFTTrainer(model=model(5), args=args, train_dataset=dataset(CHOSEN[:4]), processing_class=tokenizer())
losses, norms = steps(trainer)
# The trainer gives each micro-batch the token count of the whole step.
golden["sft-steps"] = dict(losses=[a + b for a, b in zip(losses[::2], losses[1::2])], grad_norm=norms)
golden["steps"] = dict(STEPS, batch_size=2, rows=4)

(here / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
print({name: value["loss"] for name, value in golden.items() if isinstance(value, dict) and "loss" in value})
print(golden["orpo-steps"], golden["sft-steps"])
