"""What a model answers and computes, by plain transformers: one row at a time, no engine of ours, no batches."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from tests.recompute.weights import hybrid_tensors

disable_progress_bar()


class Measured:
    """A student that holds some of its teacher's tensors, built by hand; no units: the student itself."""

    def __init__(self, units: list[str], student: Path, teacher: Path, template: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(student)
        self.tokenizer.chat_template = AutoTokenizer.from_pretrained(template).chat_template
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            student, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        unplaced = self.model.load_state_dict(hybrid_tensors(units, student, teacher), strict=False).unexpected_keys
        assert not unplaced, unplaced

    @torch.inference_mode()
    def answer(self, text: str, length: int, ends: list[int] | None) -> str:
        """The greedy answer to a request. `ends` are the tokens that end it; None: those of the model."""
        ids = self._ids(text)
        stop = {"eos_token_id": ends, "pad_token_id": ends[0]} if ends else {}
        made = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, do_sample=False, **stop
        )
        return str(self.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)).strip()

    @torch.inference_mode()
    def losses(self, texts: Iterable[str]) -> tuple[list[float], list[int]]:
        """The summed negative log-likelihood of each text but its first token, and the number of tokens scored."""
        sums, counts = [], []
        for text in texts:
            ids = self.tokenizer(text, return_tensors="pt")["input_ids"]
            logs = self.model(ids).logits[0, :-1].double().log_softmax(-1)
            sums.append(-float(logs.gather(1, ids[0, 1:, None]).sum()))
            counts.append(ids.shape[1] - 1)
        return sums, counts

    @torch.inference_mode()
    def along(self, text: str, answer: list[int]) -> torch.Tensor:
        """The logits at each token of an answer and after it, in float64."""
        ids = torch.cat([self._ids(text), torch.tensor([answer], dtype=torch.long)], dim=1)
        return torch.as_tensor(self.model(ids).logits[0, -len(answer) - 1 :]).double()

    @torch.inference_mode()
    def states(self, text: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """At a request's last token: hidden states after each layer, and each layer's attention by head."""
        output = self.model(self._ids(text), output_hidden_states=True, output_attentions=True)
        hidden = [states[0, -1].double() for states in output.hidden_states[1:]]
        return hidden, [attention[0, :, -1].double() for attention in output.attentions]

    def tokens(self, answer: str, most: int) -> list[int]:
        return list(self.tokenizer(answer, add_special_tokens=False)["input_ids"][:most])

    @torch.inference_mode()
    def beginnings(self, texts: list[str], length: int) -> list[str]:
        """The first tokens of the greedy answers to several requests at once."""
        self.tokenizer.padding_side = "left"
        rendered = [self._rendered(text) for text in texts]
        inputs = self.tokenizer(rendered, return_tensors="pt", padding=True, add_special_tokens=False)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        made = self.model.generate(ids, attention_mask=mask, max_new_tokens=length, do_sample=False)
        return [str(text) for text in self.tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)]

    def _ids(self, text: str) -> torch.Tensor:
        found = self.tokenizer(self._rendered(text), return_tensors="pt", add_special_tokens=False)
        return torch.as_tensor(found["input_ids"])

    def _rendered(self, text: str) -> str:
        turns = [{"role": "user", "content": text}]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
