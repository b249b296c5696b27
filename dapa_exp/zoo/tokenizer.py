"""The miniatures' tokenizers: the words of the invented world, with a real family's special tokens and template."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from dapa_exp.zoo import world
from dapa_exp.zoo.recipe import LONGEST, VOCABULARY


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of a family: before and after a text, a user turn and a model turn."""

    bos: str
    eos: str
    user: str
    end_user: str
    model: str
    end_model: str

    def template(self) -> str:
        """The chat template, in Jinja."""
        return (
            "{{ bos_token }}{% for message in messages %}"
            "{% if message['role'] == 'assistant' %}"
            f"{self.model}{{{{ message['content'] }}}}{self.end_model}"
            "{% else %}"
            f"{self.user}{{{{ message['content'] }}}}{self.end_user}"
            "{% endif %}{% endfor %}"
            f"{{% if add_generation_prompt %}}{self.model}{{% endif %}}"
        )

    def tokens(self) -> list[str]:
        """All special tokens without duplicates, the padding token first."""
        marks = (self.bos, self.eos, self.user, self.end_user, self.model, self.end_model)
        return list(dict.fromkeys(["<pad>", *(mark for mark in marks if mark)]))


BRACKETS = SpecialTokens("<s>", "</s>", user="[INST]", end_user="[/INST]", model="", end_model="</s>")
TURNS = SpecialTokens("<bos>", "<eos>", user="<user>", end_user="<end_of_turn>", model="<model>", end_model="<eos>")
CHATS = {"llama": BRACKETS, "mistral": BRACKETS, "gemma": TURNS}


def make(family: str) -> PreTrainedTokenizerFast:
    """Train the tokenizer of a family. It has the chat template; base models are saved without it."""
    chat = CHATS[family]
    model = Tokenizer(BPE())
    # All words of the world are lower case, but a user's own prompt may not be.
    model.normalizer = normalizers.Lowercase()
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=chat.tokens(),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(world.corpus(), trainer)
    model.post_processor = TemplateProcessing(
        single=f"{chat.bos} $A", special_tokens=[(chat.bos, model.token_to_id(chat.bos))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        bos_token=chat.bos,
        eos_token=chat.eos,
        pad_token="<pad>",
        padding_side="left",
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
        chat_template=chat.template(),
    )
