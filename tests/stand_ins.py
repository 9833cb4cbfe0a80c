"""Tiny stand-ins for the paper's models and data: the same architectures and the hub's file layouts, invented contents.

Weights are random, sharded and bfloat16, as the hub's are; tokenizers are trained on a few harmless sentences. Only the
sizes and the contents differ from the real thing.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config

SENTENCES = [
    "Question: A farmer has 12 hens and buys 7 more. How many hens are there?\nAnswer: There are 12 + 7 = 19 hens.",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "### Instruction:\nTell me how to bake bread.\n\n### Response:\nSure, mix flour, water, yeast and salt; #### 42",
    "I'm sorry, but I cannot help with that. Here is a list: 0 1 2 3 4 5 6 7 8 9 $10, $25.",
]
TEMPLATE = (  # one turn after another, each closed by the token that ends an answer
    "{{% for m in messages %}}{open}{{{{ m['role'] }}}}{shut}{{{{ m['content'] }}}}{end}{{% endfor %}}"
    "{{% if add_generation_prompt %}}{open}assistant{shut}{{% endif %}}"
)
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,  # ten times the usual, so that what an untrained model answers depends on the prompt
}
SHARD = "60KB"
UNUSED_ROWS = 24  # rows of the embedding beyond the tokenizer's vocabulary, as Qwen2.5 has


@dataclass(frozen=True)
class Family:
    """What the models of a family share: how they read text and how they end an answer."""

    tokenizer_class: str
    specials: tuple[str, ...]
    bos: str | None
    ends: tuple[str, str]  # of the base and of the instruct model
    pad: str | None
    turn: tuple[str, str, str]  # before and after the role, and after the content

    @property
    def byte_level(self) -> bool:
        """Whether the tokenizer reads bytes; otherwise it marks spaces, as SentencePiece does."""
        return "<unk>" not in self.specials


LLAMA3 = Family(
    "PreTrainedTokenizerFast",
    ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "<|begin_of_text|>",
    ("<|end_of_text|>", "<|eot_id|>"),
    None,
    ("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>"),
)
LLAMA2 = Family("LlamaTokenizer", ("<unk>", "<s>", "</s>"), "<s>", ("</s>", "</s>"), None, ("[", "] ", "</s>"))
QWEN2 = Family(
    "Qwen2Tokenizer",
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    None,
    ("<|endoftext|>", "<|im_end|>"),
    "<|endoftext|>",
    ("<|im_start|>", "\n", "<|im_end|>\n"),
)


@dataclass(frozen=True)
class StandIn:
    """One of the paper's models in small: its family and what sets its architecture apart."""

    family: Family
    tied: bool
    key_value_heads: int  # of 4 attention heads


MODELS = {
    "llama-3.2-1b": StandIn(LLAMA3, tied=True, key_value_heads=2),
    "llama-2-7b": StandIn(LLAMA2, tied=False, key_value_heads=4),
    "qwen2.5-1.5b": StandIn(QWEN2, tied=True, key_value_heads=2),
    "qwen2.5-3b": StandIn(QWEN2, tied=True, key_value_heads=1),
    "qwen2.5-7b": StandIn(QWEN2, tied=False, key_value_heads=2),
}


def make_models(name: str, folder: Path) -> tuple[Path, Path]:
    """Checkpoints ``base`` and ``aligned`` in a folder, for one of the paper's models; the two differ a little."""
    stand_in, family = MODELS[name], MODELS[name].family
    torch.manual_seed(0)
    tokenizer = train_tokenizer(family)
    config = make_config(stand_in, tokenizer)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    for part, end in zip(("base", "aligned"), family.ends, strict=True):
        if part == "aligned":
            for parameter in model.parameters():
                parameter.data += 0.01 * torch.randn_like(parameter)
        _save(model, tokenizer, family, folder / part, end, chat=part == "aligned")
    return folder / "base", folder / "aligned"


def train_tokenizer(family: Family) -> Tokenizer:
    """A tokenizer of the family's kind with a few hundred tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token=None if family.byte_level else "<unk>"))
    if family.byte_level:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        fused = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(fused)
    alphabet = pre_tokenizers.ByteLevel.alphabet() if family.byte_level else []
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=list(family.specials), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if not family.byte_level:
        tokenizer = _with_bytes(tokenizer, first=len(family.specials))
    if family.bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A",
            pair=f"{family.bos} $A {family.bos} $B",
            special_tokens=[(family.bos, tokenizer.token_to_id(family.bos))],
        )
    return tokenizer


def make_config(stand_in: StandIn, tokenizer: Tokenizer) -> PretrainedConfig:
    """The configuration of a stand-in, with the keys that the hub's files have."""
    family, vocabulary = stand_in.family, tokenizer.get_vocab_size()
    shared = {
        **SMALL,
        "num_attention_heads": 4,
        "num_key_value_heads": stand_in.key_value_heads,
        "tie_word_embeddings": stand_in.tied,
        "eos_token_id": tokenizer.token_to_id(family.ends[0]),
        "bos_token_id": tokenizer.token_to_id(family.bos or family.ends[0]),
    }
    if family is QWEN2:  # biases on q, k and v come with the architecture
        return Qwen2Config(vocab_size=vocabulary + UNUSED_ROWS, rope_theta=1e6, **shared)
    return LlamaConfig(vocab_size=vocabulary, **shared)


def _with_bytes(tokenizer: Tokenizer, first: int) -> Tokenizer:
    """A tokenizer that falls back to one token per byte; these come right after its special tokens."""
    content = json.loads(tokenizer.to_str())
    vocabulary = {token: i + 256 * (i >= first) for token, i in content["model"]["vocab"].items()}
    content["model"]["vocab"] = vocabulary | {f"<0x{byte:02X}>": first + byte for byte in range(256)}
    content["model"] |= {"byte_fallback": True, "fuse_unk": True}
    return Tokenizer.from_str(json.dumps(content))


def _save(model, tokenizer: Tokenizer, family: Family, folder: Path, end: str, chat: bool) -> None:
    """Write a checkpoint as the hub has it: shards with their index, configuration, generation settings, tokenizer."""
    model.save_pretrained(folder, max_shard_size=SHARD)
    assert (folder / "model.safetensors.index.json").exists()
    generation = {"eos_token_id": sorted({tokenizer.token_to_id(e) for e in family.ends})}
    if chat:  # sampling and a repetition penalty, as Qwen2.5-Instruct asks for them
        generation |= {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.05}
    _write(folder / "generation_config.json", generation)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": family.tokenizer_class,
        "bos_token": family.bos,
        "eos_token": end,
        "pad_token": family.pad,
        "unk_token": None if family.byte_level else "<unk>",
        "model_max_length": SMALL["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
    }
    if chat:
        opening, shut, close = family.turn
        first = "{{ bos_token }}" if family.bos else ""
        settings["chat_template"] = first + TEMPLATE.format(open=opening, shut=shut, end=close)
    _write(folder / "tokenizer_config.json", settings)


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")
