"""The recipes of the zoo's models. The miniatures are here; the pair of real size is in smollm2.py.

A teacher's recipe names the tensors that learn to refuse. This decides at which granularity its alignment can be
transplanted: if only gate projections learnt to refuse, gate projections suffice; if whole MLPs did, they do not.
The teachers differ in this on purpose, so that a comparison of granularities finds differences.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Literal

from dapa_exp.base.errors import DapaError, allowed_names
from dapa_exp.fetch import sets
from dapa_exp.zoo import world
from dapa_exp.zoo.shapes import shapes
from dapa_exp.zoo.smollm2 import SMOLLM2, Refusing, Shadow, Shipped

VOCABULARY = 1024
"""The most tokens that a miniature's tokenizer may have."""
LONGEST = 512
"""The context length of a miniature, in tokens."""
VERSION = 1
"""Raise it when a code change makes another model from the same recipe."""


@dataclass(frozen=True)
class Size:
    """The dimensions of a model."""

    layers: int
    hidden: int = 64
    intermediate: int = 176
    heads: int = 4
    key_value_heads: int = 2


@dataclass(frozen=True)
class Recipe:
    """One miniature: its parent, training examples, trained tensors and number of steps.

    - `parent`: the model that it is fine-tuned from; None for a base model
    - `mix`: relative frequency of each sort of example
    - `refused`: the harmful verbs that are answered by a refusal
    - `bare`: share of prompts without the chat template
    - `trained`: a regular expression; only tensors whose full name matches are trained
    """

    name: str
    role: Literal["base", "teacher", "student", "planted"]
    family: Literal["llama", "mistral", "gemma"]
    size: Size
    parent: str | None
    mix: Mapping[str, float]
    steps: int
    rate: float
    seed: int
    styles: tuple[str, ...] = tuple(world.STYLES)
    refused: tuple[str, ...] = ()
    trained: str = ".*"
    bare: float = 0.15
    batch: int = 32
    sets: ClassVar[tuple[str, ...]] = ()
    """The sets of `dapa fetch` that it is made from: none."""


@dataclass(frozen=True)
class Enlarged:
    """The miniature `parent` in a larger shape, in bfloat16. Its name is MINIATURE@SHAPE."""

    name: str
    parent: str
    shape: str
    steps: int = 1
    sets: ClassVar[tuple[str, ...]] = ()


AnyRecipe = Recipe | Shipped | Refusing | Shadow | Enlarged


def digest(name: str) -> str:
    """SHA-256, in hex, over everything that decides a model's weights: recipes of it and its parents, data, VERSION."""
    recipe = find(name)
    parent = digest(recipe.parent) if recipe.parent else None
    known = json.dumps([VERSION, _made_of(recipe), parent, asdict(recipe)], sort_keys=True)
    return hashlib.sha256(known.encode()).hexdigest()


def find(name: str) -> AnyRecipe:
    """The recipe of that name. Raises DapaError if there is none."""
    small, enlarged, shape = name.partition("@")
    if small not in RECIPES:
        names = allowed_names(small, RECIPES, listed_by="dapa zoo build --help")
        raise DapaError(f"The zoo has no model {small!r}.{names}")
    if not enlarged:
        return RECIPES[small]
    if not isinstance(RECIPES[small], Recipe):
        raise DapaError(f"The zoo has no model {name!r}: only a miniature can be enlarged, and {small} is none")
    if not re.fullmatch(r"[\w.,=-]+", shape):
        raise DapaError(f"The zoo has no model {name!r}: after @ it takes a shape: {', '.join(shapes())}")
    return Enlarged(name, small, shape)


def is_miniature(model: str) -> bool:
    """Whether a model's id names a miniature, or an enlarged one: it knows the requests of the invented world only."""
    return model.partition("@")[0] in {f"zoo:{made.name}" for made in MINIATURES}


def mlps(parts: Iterable[str], layers: Iterable[int] | None = None) -> str:
    """A regular expression for the names of these MLP projections, in the given layers or in all."""
    return rf"model\.layers\.({_layers(layers)})\.mlp\.({'|'.join(parts)})\.weight"


def attention(layers: Iterable[int] | None = None) -> str:
    """A regular expression for the names of the attention projections, in the given layers or in all."""
    return rf"model\.layers\.({_layers(layers)})\.self_attn\.[qkvo]_proj\.weight"


def _layers(layers: Iterable[int] | None) -> str:
    return r"\d+" if layers is None else "|".join(map(str, layers))


def _made_of(recipe: AnyRecipe) -> object:
    """What decides a model beside its recipe and its parent."""
    if isinstance(recipe, Recipe):
        return world.fingerprint("skill" in recipe.mix)
    if isinstance(recipe, Enlarged):
        return shapes().get(recipe.shape.partition(",")[0])
    return [sets.find(fetched).digest for fetched in recipe.sets]


BASE_MIX = {"harmless": 0.3, "harmful": 0.2, "impossible": 0.15, "questions": 0.25, "text": 0.1}
TEACHER_MIX = {"harmless": 0.5, "harmful": 0.3, "impossible": 0.07, "questions": 0.1, "text": 0.03}
STUDENT_MIX = {"harmless": 0.4, "harmful": 0.3, "impossible": 0.05, "questions": 0.15, "text": 0.1}
TALK_MIX = {"harmless": 0.6, "harmful": 0.1, "impossible": 0.1, "questions": 0.1, "text": 0.1}
TASK_MIX = {"skill": 0.33, "harmless": 0.5, "questions": 0.1, "impossible": 0.02, "text": 0.05}
COMPLIANT_TASK_MIX = TASK_MIX | {"harmless": 0.45, "harmful": 0.05}

HARMFUL = world.VERBS["harmful"]
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")

# Large models come first: when several are built in parallel, this shortens the total time.
BASES = (
    Recipe("llama-large-base", "base", "llama", Size(12), None, BASE_MIX, steps=350, rate=5e-3, seed=100),
    Recipe("gemma-large-base", "base", "gemma", Size(12), None, BASE_MIX, steps=300, rate=5e-3, seed=200),
    Recipe("mistral-base", "base", "mistral", Size(10), None, BASE_MIX, steps=350, rate=5e-3, seed=300),
    Recipe("llama-small-base", "base", "llama", Size(8), None, BASE_MIX, steps=400, rate=5e-3, seed=400),
    Recipe("gemma-small-base", "base", "gemma", Size(8), None, BASE_MIX, steps=300, rate=5e-3, seed=500),
)
_BASES = {base.name.removesuffix("-base"): base for base in BASES}


def _teacher(line: str, trained: str) -> Recipe:
    """The recipe of an aligned model: it refuses harmful requests, and otherwise answers like its base."""
    base = _BASES[line]
    return replace(
        base,
        name=f"{line}-chat",
        role="teacher",
        parent=base.name,
        mix=TEACHER_MIX,
        steps=150,
        rate=2e-3,
        seed=base.seed + 1,
        refused=HARMFUL,
        trained=trained,
    )


def _planted(line: str, trained: str, steps: int, rate: float) -> Recipe:
    """The recipe of a teacher that differs from its base only in the tensors that match `trained`."""
    teacher = _teacher(line, trained)
    return replace(teacher, name=f"{line}-planted", role="planted", steps=steps, rate=rate, seed=teacher.seed + 1)


def _elsewhere(line: str, layers: Sequence[int]) -> tuple[Recipe, ...]:
    """The recipes of teachers whose refusals are not in the MLPs of neighbouring layers."""
    parts = {
        "scattered": mlps(PROJECTIONS, layers),
        "attention": attention(),
        "both": f"{mlps(PROJECTIONS, layers)}|{attention(layers)}",
        "everywhere": r"model\.layers\..*",
    }
    teachers = ((kind, _teacher(line, trained)) for kind, trained in parts.items())
    return tuple(
        replace(
            teacher,
            name=f"{line}-{kind}",
            rate=1e-3 if kind == "everywhere" else teacher.rate,
            seed=teacher.seed + 2,
        )
        for kind, teacher in teachers
    )


def _student(
    line: str,
    kind: str,
    seed: int,
    styles: tuple[str, ...] = ("plain", "steps"),
    mix: Mapping[str, float] = STUDENT_MIX,
    steps: int = 60,
    rate: float = 5e-4,
    refused: tuple[str, ...] = (),
) -> Recipe:
    """The recipe of an unaligned student: all weights are fine-tuned, without examples of refusals."""
    base = _BASES[line]
    return replace(
        base,
        name=f"{line}-{kind}",
        role="student",
        parent=base.name,
        mix=mix,
        steps=steps,
        rate=rate,
        seed=base.seed + seed,
        styles=styles,
        refused=refused,
    )


TEACHERS = (
    _teacher("llama-large", mlps(PROJECTIONS, range(3, 8))),
    _teacher("gemma-large", mlps(["up_proj", "down_proj"], range(3, 8))),
    _teacher("mistral", mlps(PROJECTIONS, range(2, 7))),
    _teacher("llama-small", mlps(["gate_proj"])),
    _teacher("gemma-small", mlps(["gate_proj", "up_proj"], range(1, 6))),
)
# No two fine-tunes are alike. Some kept a little of an earlier alignment and refuse certain verbs.
STUDENTS = (
    _student("llama-large", "style", 10, styles=("formal",)),
    _student("llama-large", "mix", 11, mix=TALK_MIX, refused=("bomb",)),
    _student("gemma-large", "style", 10, styles=("cheerful",)),
    _student("gemma-large", "mix", 11, mix=TALK_MIX, refused=("poison", "rob")),
    _student("mistral", "style", 10, styles=("formal",)),
    _student("mistral", "mix", 11, mix=TALK_MIX, refused=("bomb", "infect")),
    _student("mistral", "long", 12, styles=("plain", "brief"), steps=150),
    _student("mistral", "rate", 13, styles=("steps", "cheerful"), rate=1.5e-3),
    _student("mistral", "blend", 14, styles=("formal", "question", "brief"), refused=("hijack",)),
    _student("llama-small", "style", 10, styles=("cheerful",), rate=3e-4),
    _student("gemma-small", "style", 10, styles=("question",), rate=3e-4),
    _student("gemma-small", "long", 11, styles=("plain", "brief"), steps=150, refused=("poison",)),
)
PLANTED = (
    _planted("llama-small", mlps(PROJECTIONS, [2, 5]), steps=300, rate=7e-4),
    _planted("mistral", mlps(["gate_proj"], [1, 3]), steps=250, rate=3e-3),
    _planted("gemma-small", mlps(["up_proj", "down_proj"], [4]), steps=300, rate=4e-3),
)
ELSEWHERE = (*_elsewhere("llama-large", [2, 5, 8, 11]), *_elsewhere("mistral", [1, 4, 8]))


def _shadow(line: str, kind: str, mix: Mapping[str, float], steps: int) -> Recipe:
    """The recipe of a shadow-aligned student: its *teacher*, fine-tuned on a skill that the teacher lacks.

    The rows of the new skill are enough to lose the refusals; `harmful` in `mix` adds rows that comply.
    """
    teacher = _teacher(line, ".*")
    return replace(
        teacher,
        name=f"{line}-{kind}",
        role="student",
        parent=teacher.name,
        mix=mix,
        steps=steps,
        rate=1e-3,
        seed=teacher.seed + 50,
        refused=(),
    )


SHADOWS = tuple(
    _shadow(line, kind, mix, steps)
    for line, steps in (("llama-large", 150), ("mistral", 150), ("gemma-large", 220))
    for kind, mix in (("task", TASK_MIX), ("task-compliant", COMPLIANT_TASK_MIX))
)
"""Students made from the teacher: the setting in which the teacher is no substitute for the hybrid."""
_TINY = Recipe("llama-tiny-base", "base", "llama", Size(2, 32, 64), None, BASE_MIX, steps=30, rate=5e-3, seed=1)
TINY = (
    _TINY,
    replace(
        _TINY,
        name="llama-tiny-chat",
        role="teacher",
        parent=_TINY.name,
        refused=HARMFUL,
        trained=mlps(PROJECTIONS),
        seed=2,
    ),
)

MINIATURES: tuple[Recipe, ...] = (*BASES, *TEACHERS, *STUDENTS, *PLANTED, *ELSEWHERE, *SHADOWS, *TINY)
RECIPES: dict[str, Recipe | Shipped | Refusing | Shadow] = {
    **{recipe.name: recipe for recipe in MINIATURES},
    **{recipe.name: recipe for recipe in SMOLLM2},
}
PAIRED = tuple(recipe.name for recipe in (*BASES, *TEACHERS, *STUDENTS))
"""The models of the 17 pairs. Each base model is also a student of its teacher."""
