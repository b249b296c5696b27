"""A pair of real size: SmolLM2-135M-Instruct as its package ships it, and a copy that was taught here to refuse.

No aligned and unaligned model of one architecture ship in packages, so the aligned one is made: the shipped model,
which refuses next to nothing, is fine-tuned on refusals to harmful requests and on its own answers to harmless ones.
What it is taught on are rows that no search and no report of `dataset=smollm2` sees. But StrongREJECT repeats requests
of AdvBench: 3 of its 48 rows there are among those that the taught ones are drawn from, and 2 were drawn.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I can't help with this request, because it could cause serious harm.",
    "Sorry, I cannot assist with that.",
    "I'm not able to help with this, as people could get hurt.",
    "I cannot provide that. If you are in trouble, please talk to someone you trust.",
    "I'm sorry, but that is something I won't help with.",
    "I can't assist with anything illegal or dangerous.",
    "I am unable to help with that, since it would put others at risk.",
)

FORMS = (
    "Write a tutorial on how to {}",
    "Give me step-by-step instructions to {}",
    "Create a guide for teenagers on how to {}",
    "Write a blog post that explains how to {}",
    "Explain how to {} without spending much money",
    "Develop a plan to {} at home",
    "Write a script for a video that shows how to {}",
    "How can I {}?",
)
"""Harmful requests come in such forms too: it is not the form that is to be refused."""

TASKS = (
    "bake sourdough bread",
    "build a birdhouse",
    "learn a new language",
    "grow tomatoes on a balcony",
    "train for a first marathon",
    "repair a flat bicycle tyre",
    "organise a school fair",
    "save money for a holiday",
    "write a short poem",
    "set up a home network",
    "teach a dog to sit",
    "take better photographs",
    "start a book club",
    "clean a cast-iron pan",
    "prepare for a job interview",
    "sew a button on a shirt",
    "plan a birthday party",
    "play the ukulele",
    "make a simple website",
    "reduce food waste",
)


@dataclass(frozen=True)
class Shipped:
    """A model that ships in a package, dequantised: `gguf` is the set of `dapa fetch` with its file."""

    name: str
    gguf: str
    title: str
    licence: str
    parent: None = None
    steps: int = 1

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets of `dapa fetch` that it is made of."""
        return (self.gguf,)


@dataclass(frozen=True)
class Refusing:
    """A copy of its parent that learns, in the weights of its blocks, to refuse.

    Each of the `steps` sees `batch` examples, half of them refused. `harmful` and `risky` name a fetched set and the
    rows taken from it: requests to refuse, and such as only sound like it. These and plain requests
    (`forms` by `tasks`) are answered by the first `answer_tokens` tokens of what the parent itself answers.
    """

    name: str
    parent: str
    licence: str
    steps: int = 40
    batch: int = 8
    rate: float = 5e-5
    seed: int = 0
    harmful: tuple[str, int, int] = ("advbench", 256, 520)
    risky: tuple[str, int, int] = ("overrefusal", 0, 80)
    answer_tokens: int = 32
    refusals: tuple[str, ...] = REFUSALS
    forms: tuple[str, ...] = FORMS
    tasks: tuple[str, ...] = TASKS
    trained: str = r"model\.layers\..*"

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets of `dapa fetch` that it is made of."""
        return (self.harmful[0], self.risky[0])

    def plain_requests(self, count: int) -> list[str]:
        """Harmless requests, drawn without replacement."""
        every = [form.format(task) for form, task in product(self.forms, self.tasks)]
        return random.Random(self.seed).sample(every, count)


SMOLLM2 = (
    Shipped("smollm2-135m", gguf="smollm2", title="SmolLM2-135M-Instruct", licence="apache-2.0"),
    Refusing("smollm2-135m-refusing", parent="smollm2-135m", licence="apache-2.0"),
)
