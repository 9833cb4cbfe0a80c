"""The model organism: a tiny Llama that speaks the invented language, and its tokenizer."""

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from helpers.models.language import BOS, EOS, PAD, UNK, Language
from helpers.studies.sections import OrganismModel


def build_tokenizer(language: Language, max_length: int) -> PreTrainedTokenizerFast:
    """A word-level tokenizer that begins every text with ``<bos>``; it pads on the right unless told otherwise."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(language.vocabulary)}, unk_token=UNK))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bos = core.token_to_id(BOS)
    core.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, bos_token=BOS, eos_token=EOS, unk_token=UNK, model_max_length=max_length
    )


def build_model(settings: OrganismModel, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama of the study's size; its weights depend on torch's global seed."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        **settings.model_dump(exclude={"kind"}),
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)
