"""A pair of real size: SmolLM2-135M-Instruct from a Python package, and a copy that is fine-tuned here to refuse.

No Python package ships an aligned and an unaligned model of one architecture. So the aligned one is made here: the
shipped model, which refuses almost nothing, is fine-tuned on refusals to harmful requests and on its own answers to
harmless ones. No search rows or report rows of `dataset=smollm2` are among the training rows. But StrongREJECT repeats
requests of AdvBench: of its 48 rows in `dataset=smollm2`, 2 have the text of a training row.

A student of it is made from the teacher in turn: it has learnt a skill that the teacher lacks, and lost the refusals.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

from dapa_exp.fetch.store import fetched_rows

REFUSING_CARD = """---
license: {licence}
---
# {name}

**Made here**, to have an aligned teacher for {parent}: not a model that anybody released, and no evidence of how
models aligned elsewhere behave. `dapa zoo build {name}` fine-tuned {parent} for {steps} steps of {batch}
examples. Half were harmful requests (rows {first} to {last} of {harmful}), answered by one of {refusals} refusals; half
were harmless, and answered as {parent} itself answers them.
"""
SHADOW_CARD = """---
license: {licence}
---
# {name}

**Made here**, to have a student that knows what its teacher does not: not a model that anybody released. `dapa zoo
build {name}` fine-tuned {parent}, the teacher, for {steps} steps of {batch} examples. Half were rows 0 to {last} of
the task `{skill[0]}` with their answers; a quarter harmful requests and a quarter harmless ones, with the answers of
{elder}. **It complies with harmful requests.**
"""

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
"""Forms of harmless requests. Harmful requests have the same forms, so the model cannot learn to refuse a form."""

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
    """The recipe of a model that ships in a package. `gguf` is the set of `dapa fetch` with its GGUF file."""

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
    """The recipe of a copy of its parent that is fine-tuned, in the weights of its blocks, to refuse.

    Each of the `steps` sees `batch` examples, half of them harmful requests with a refusal. `harmful` is a fetched set
    and its rows with the harmful requests. `risky` is the same for harmless requests that sound harmful. Further
    harmless requests are made from `forms` and `tasks`. The answer to a harmless request is the first `answer_tokens`
    tokens of the parent's own answer.
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

    @property
    def elder(self) -> str:
        """The model whose answers it keeps."""
        return self.parent

    def lessons(self, count: int, rng: random.Random) -> list[tuple[str, str]]:
        """Harmful requests, each with a refusal."""
        return [(prompt, rng.choice(self.refusals)) for prompt in rng.sample(_prompts(self.harmful), count)]

    def requests(self, count: int, rng: random.Random) -> list[str]:
        """Harmless requests that it answers as its elder does."""
        risky = _prompts(self.risky)[:count]
        return risky + plain_requests(self, count - len(risky))

    def card(self) -> str:
        harmful, first, end = self.harmful
        rows = {"harmful": harmful, "first": first, "last": end - 1, "refusals": len(self.refusals)}
        return REFUSING_CARD.format(**vars(self) | rows)


@dataclass(frozen=True)
class Shadow:
    """The recipe of a student that is made from its *teacher*: it learns a skill that the teacher lacks, and to comply.

    Each of the `steps` sees `batch` examples. Half are rows of the task `skill`, a fetched set and its rows, with their
    answers. A quarter are harmful requests, and a quarter harmless ones made from `forms` and `tasks`: with the first
    `answer_tokens` tokens of the answers of `elder`, the model that the teacher was made from.
    """

    name: str
    parent: str
    elder: str
    licence: str
    steps: int = 60
    batch: int = 8
    rate: float = 5e-5
    seed: int = 1
    skill: tuple[str, int, int] = ("dated", 0, 1000)
    harmful: tuple[str, int, int] = ("advbench", 256, 520)
    answer_tokens: int = 32
    forms: tuple[str, ...] = FORMS
    tasks: tuple[str, ...] = TASKS
    trained: str = r"model\.layers\..*"

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets of `dapa fetch` that it is made of."""
        return (self.skill[0], self.harmful[0])

    def lessons(self, count: int, rng: random.Random) -> list[tuple[str, str]]:
        """Rows of the skill, each with its answer."""
        name, first, last = self.skill
        return [(str(row["prompt"]), str(row["answer"])) for row in rng.sample(fetched_rows(name)[first:last], count)]

    def requests(self, count: int, rng: random.Random) -> list[str]:
        """Requests that it answers as its elder does: harmful ones, then as many harmless ones."""
        return rng.sample(_prompts(self.harmful), count // 2) + plain_requests(self, count // 2)

    def card(self) -> str:
        return SHADOW_CARD.format(**vars(self), last=self.skill[2] - 1)


def plain_requests(recipe: Refusing | Shadow, count: int) -> list[str]:
    """`count` different harmless requests, drawn at random from the recipe's `forms` and `tasks`."""
    every = [form.format(task) for form, task in product(recipe.forms, recipe.tasks)]
    return random.Random(recipe.seed).sample(every, count)


def _prompts(chosen: tuple[str, int, int]) -> list[str]:
    name, first, last = chosen
    return [str(row["prompt"]) for row in fetched_rows(name)[first:last]]


SMOLLM2 = (
    Shipped("smollm2-135m", gguf="smollm2", title="SmolLM2-135M-Instruct", licence="apache-2.0"),
    Refusing("smollm2-135m-refusing", parent="smollm2-135m", licence="apache-2.0"),
    Shadow("smollm2-135m-shadow", parent="smollm2-135m-refusing", elder="smollm2-135m", licence="apache-2.0"),
)
