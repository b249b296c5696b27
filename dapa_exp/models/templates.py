"""Chat templates: found among a checkpoint's files, and filled with a conversation, all of which must come out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from dapa_exp.base.errors import DapaError
from dapa_exp.base.today import TODAY

TEMPLATE_FILE = "chat_template.jinja"
NAMED_TEMPLATES = "additional_chat_templates"
TOKENIZER_CONFIG = "tokenizer_config.json"
THINKING = "enable_thinking"

Turn = Mapping[str, str]
_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
"""What stands for special tokens where only the template is tried."""
_TODAY = re.compile(r"strftime_now\(\s*(?P<quote>['\"])(?P<format>.*?)(?P=quote)\s*\)")


@dataclass(frozen=True)
class StoredTemplate:
    """A checkpoint's chat template as its files hold it: one, or several by name."""

    content: str | Mapping[str, str]

    @property
    def text(self) -> str:
        """The one that prompts go through. Raises DapaError where there are several, and none is the default."""
        if isinstance(self.content, str):
            return self.content
        if "default" not in self.content:
            raise DapaError(
                f"the tokenizer has several chat templates ({', '.join(sorted(self.content))}) and none called"
                f" default: save the one to use as {TEMPLATE_FILE} beside the tokenizer"
            )
        return self.content["default"]

    @property
    def has_date(self) -> bool:
        """Whether it says what day it is."""
        return "strftime_now" in self.text

    @property
    def has_thinking(self) -> bool:
        """Whether thinking can be switched in it."""
        return THINKING in self.text

    def settled(self, thinking: bool | None = None) -> str:
        """The template with a fixed date, and thinking on or off where it can be switched.

        Raises DapaError where there are several without a default, the date cannot be fixed, or it draws at random.
        """
        text = _TODAY.sub(lambda call: json.dumps(TODAY.strftime(call["format"])), self.text)
        if re.search(r"strftime_now\s*\(", text):
            raise DapaError("the chat template computes today's date in a way that cannot be fixed to one day")
        if re.search(r"\|\s*random\b", text):
            raise DapaError(
                "the chat template draws at random (its filter `random`), so no prompt is asked twice alike"
            )
        if thinking is not None and self.has_thinking:
            text = f"{{% set {THINKING} = {str(thinking).lower()} %}}\n{text}"  # the line break goes with the tag
        return text

    def check(self, turns: Sequence[Turn], thinking: bool | None = None) -> None:
        """Raises DapaError where the template does not take such turns."""
        _fill(self.settled(thinking), _TOKENS, turns)


def stored_template(names: Collection[str], text_of: Callable[[str], str]) -> StoredTemplate | None:
    """The chat template among a checkpoint's files, which have these names, as transformers finds it.

    Raises ValueError where the tokenizer's config is damaged.
    """
    files = {Path(name).stem: name for name in names if re.fullmatch(rf"{NAMED_TEMPLATES}/[^/]+\.jinja", name)}
    if TEMPLATE_FILE in names:
        files["default"] = TEMPLATE_FILE
    if files:
        return _stored({name: text_of(file) for name, file in sorted(files.items())})
    if TOKENIZER_CONFIG not in names:
        return None
    try:
        found = json.loads(text_of(TOKENIZER_CONFIG)).get("chat_template")
        return _stored({named["name"]: named["template"] for named in found} if isinstance(found, list) else found)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{TOKENIZER_CONFIG} is not one of a tokenizer") from error


def _stored(content: str | dict[str, str] | None) -> StoredTemplate | None:
    if isinstance(content, dict) and set(content) == {"default"}:
        content = content["default"]
    return StoredTemplate(content) if content else None


def template_in(folder: Path) -> StoredTemplate | None:
    """The chat template of a checkpoint's folder. Raises DapaError where it cannot be read."""
    names = [file.relative_to(folder).as_posix() for pattern in ("*", "*/*.jinja") for file in folder.glob(pattern)]
    try:
        return stored_template(names, lambda name: (folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DapaError(f"{folder}: its chat template cannot be read: {error}") from error


def give_template(source: Path, target: Path) -> None:
    """Make the chat template of one checkpoint's folder another's, in place of its own."""
    template = template_in(source)
    if template is None:
        return
    for file in [target / TEMPLATE_FILE, *target.glob(f"{NAMED_TEMPLATES}/*.jinja")]:
        file.unlink(missing_ok=True)
    content = template.content
    for name, text in ({"default": content} if isinstance(content, str) else content).items():
        file = target / (TEMPLATE_FILE if name == "default" else f"{NAMED_TEMPLATES}/{name}.jinja")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")


def render(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn]) -> str:
    """A conversation as its model reads it: all its turns, and the start of an answer.

    Raises DapaError where the chat template does not take such turns, as some take no system prompt, or where what
    comes out does not hold the text of each.
    """
    content: Any = tokenizer.chat_template
    return _fill(StoredTemplate(content).settled(), dict(tokenizer.special_tokens_map), turns)


def takes_plain_text(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template renders a question that is given as a plain text, not as a list of parts.

    Raises DapaError where it renders neither.
    """
    text = StoredTemplate(tokenizer.chat_template).settled()
    return not _takes_parts(text, json.dumps(dict(tokenizer.special_tokens_map)), ("user",))


def before_answer(tokenizer: PreTrainedTokenizerBase) -> str:
    """What a tokenizer's chat template puts between a question and its answer; nothing where it takes no question."""
    question = "Qz0Xv"
    with suppress(DapaError):
        return render(tokenizer, [{"role": "user", "content": question}]).rpartition(question)[2]
    return ""


def after_answer(tokenizer: PreTrainedTokenizerBase) -> str:
    """What a tokenizer's chat template puts after an answer; nothing where it takes no answers."""
    mark = "Qz1Xv"
    turns = [{"role": "user", "content": "Qz0Xv"}, {"role": "assistant", "content": mark}]
    tokens = dict(tokenizer.special_tokens_map)
    text = StoredTemplate(tokenizer.chat_template).settled()
    for in_parts in (False, True):
        with suppress(DapaError):
            _, found, tail = _render(text, tokens, turns, in_parts, for_answer=False).rpartition(mark)
            if found:
                return tail
    return ""


def _fill(text: str, tokens: Mapping[str, Any], turns: Sequence[Turn]) -> str:
    in_parts = _takes_parts(text, json.dumps(tokens), tuple(turn["role"] for turn in turns))
    said = _render(text, tokens, turns, in_parts)
    spaced = " ".join(said.split())
    for turn in turns:
        # What an earlier answer says before it ends to think, templates that know of thinking leave out.
        asked = turn["content"].rpartition("</think>")[2] if turn["role"] == "assistant" else turn["content"]
        if " ".join(asked.split()) not in spaced:
            raise DapaError(f"the chat template does not render the text of the {turn['role']}'s turn as it is")
    return said


@lru_cache(maxsize=256)
def _takes_parts(text: str, tokens: str, roles: tuple[str, ...]) -> bool:
    """Whether a template wants the content of turns as a list of parts: found out by words that no template has.

    One that loops over parts renders nothing of a plain text.
    """
    turns = [{"role": role, "content": f"Qz{place}Xv"} for place, role in enumerate(roles)]
    problem = None
    for in_parts in (False, True):
        try:
            said = _render(text, json.loads(tokens), turns, in_parts)
        except DapaError as error:
            problem = problem or error
            continue
        lost = [turn["role"] for turn in turns if turn["content"] not in said]
        places = [said.find(turn["content"]) for turn in turns if turn["role"] != "system"]  # that one may stand later
        if not lost and places == sorted(places):
            return in_parts
        if not lost:
            raise DapaError("the chat template renders the turns in another order")
        problem = problem or DapaError(f"the chat template leaves out what the {lost[0]}'s turn says")
    raise problem or DapaError("the chat template takes no turns")


def _render(
    text: str, tokens: Mapping[str, Any], turns: Sequence[Turn], in_parts: bool, for_answer: bool = True
) -> str:
    messages = [
        {"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}] if in_parts else turn["content"]}
        for turn in turns
    ]
    try:
        rendered: Any = render_jinja_template(
            conversations=[messages], chat_template=text, add_generation_prompt=for_answer, **tokens
        )
    except Exception as error:  # what runs is the template's own code: it raises whatever comes up
        raise DapaError(f"the chat template does not take its turns: {error}") from error
    return str(rendered[0][0])
