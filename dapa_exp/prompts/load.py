"""Loads prompt sets as lists of `Prompt`, from the zoo's invented world, a fetched package, a file or the hub."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace

from dapa_exp.base.errors import DapaError
from dapa_exp.config.dataset import SINGLE_SETS, Attack, ConversationRows, Dataset, Rows
from dapa_exp.prompts.conversations import Conversation, load_conversations, turn_set
from dapa_exp.prompts.overlap import distinct, unlike, unseen
from dapa_exp.prompts.prompt import Message, Prompt, prompt
from dapa_exp.prompts.rows import load_rows

OPTIONAL = ("skill", "conversations")
"""Sets that came later: they are left out of the digests of runs without them."""
REQUEST = "{request}"
"""Where a template has the request."""
PUBLISHED_REQUEST = "[INSERT PROMPT HERE]"
"""The same in files of jailbreaks that people share, such as GPTFuzz's."""


@dataclass(frozen=True)
class RowCounts:
    """How many rows of a prompt set were used, and why the others were left out."""

    named: int
    """All rows that the config names."""
    repeated: int = 0
    """Rows left out because an earlier row of the set has the same prompt."""
    searched: int = 0
    """Rows left out because a search row has the same prompt."""
    similar: int = 0
    """Other rows that resemble a search row. They are left out if `dataset.drop_similar` is true."""
    used: int = 0

    def sentence(self, threshold: float) -> str | None:
        """These counts in words, for a reader of the results. None if all rows are used and none is similar.

        `threshold` is the Jaccard index from which rows count as similar.
        """
        similar = f"{self.similar} resemble a search row (Jaccard {threshold:g} or more)"
        causes = {
            f"{self.repeated} repeat an earlier row": self.repeated,
            f"{self.searched} are search rows too": self.searched,
            similar: self.named - self.repeated - self.searched - self.used,
        }
        said = []
        if dropped := sum(causes.values()):
            why = "; ".join(cause for cause, count in causes.items() if count)
            said.append(f"{dropped} of {self.named} rows are dropped ({why})")
        if self.similar and not causes[similar]:
            said.append(f"{similar} and are kept")
        return f"{'; '.join(said)}; {self.used} are used" if said else None


@dataclass(frozen=True)
class PromptSets:
    """All rows of a run, by use. No report set shares a prompt with `search`. No set repeats a prompt."""

    search: list[Prompt]
    report: list[Prompt]
    more_report: dict[str, list[Prompt]]
    harmless: list[Prompt]
    more_harmless: dict[str, list[Prompt]]
    text: list[Prompt]
    questions: list[Prompt]
    skill: list[Prompt]
    kept: dict[str, RowCounts]
    """For every use but `text` and `search`: how many rows were left out, and why."""
    attacked: dict[str, list[Prompt]] = field(default_factory=dict)
    """The report rows with a published jailbreak around each, by the attack's name."""
    conversations: list[Conversation] = field(default_factory=list)

    @property
    def harmful(self) -> dict[str, list[Prompt]]:
        """All sets whose answers count as defences or not, by name; `report` is the first."""
        return {"report": self.report, **self.more_report, **self.attacked}

    def named(self, prompt_set: str) -> list[Prompt]:
        """The rows of a set by its name: `search`, `report`, `harmless`, …, or a further set by its own."""
        more = {**self.harmful, **self.more_harmless}
        found: list[Prompt] = more[prompt_set] if prompt_set in more else getattr(self, prompt_set)
        return found

    @property
    def turns(self) -> list[str]:
        """The names of the sets of the turns that are judged."""
        longest = max((len(conversation.turns) for conversation in self.conversations), default=0)
        return [
            turn_set(n)
            for n in range(1, longest + 1)
            if any(conversation.judges(n) for conversation in self.conversations)
        ]

    @property
    def dropped(self) -> int:
        """How many report rows were left out because a search row has the same prompt."""
        return sum(kept.searched for kept in self.kept.values())

    def digests(self) -> dict[str, str]:
        """SHA-256 over the rows, by use."""
        found = {use: getattr(self, use) for use in SINGLE_SETS if use not in OPTIONAL or getattr(self, use)}
        for use in ("more_report", "more_harmless"):
            found |= {f"{use}.{name}": rows for name, rows in getattr(self, use).items()}
        found |= {f"attacks.{name}": rows for name, rows in self.attacked.items()}
        return {use: digest(rows) for use, rows in found.items()}


def load_prompts(dataset: Dataset) -> PromptSets:
    """Read every prompt set of a run. Raises DapaError, which names the missing set, column or rows."""
    search = search_prompts(dataset)
    found: dict[str, list[Prompt]] = {}
    kept: dict[str, RowCounts] = {}
    conversations: list[Conversation] = []
    for use, rows in dataset.sets().items():
        if use == "text":
            found[use] = load_rows(rows, may_be_blank=dataset.text_joined)
        elif isinstance(rows, ConversationRows):
            conversations, kept[use] = _fresh_conversations(dataset, rows, search)
        elif use.split(".")[0] != "attacks":
            against = search if use.split(".")[0] in ("report", "more_report") else []
            found[use], kept[use] = _fresh(dataset, use, rows, against)
    return PromptSets(
        search=search,
        report=found["report"],
        more_report={name: found[f"more_report.{name}"] for name in dataset.more_report},
        harmless=found.get("harmless", []),
        more_harmless={name: found[f"more_harmless.{name}"] for name in dataset.more_harmless},
        text=found.get("text", []),
        questions=found.get("questions", []),
        skill=found.get("skill", []),
        kept=kept,
        attacked={name: attacked(attack, found["report"]) for name, attack in dataset.attacks.items()},
        conversations=conversations,
    )


def attacked(attack: Attack, rows: Sequence[Prompt]) -> list[Prompt]:
    """The rows with a published jailbreak around each request. Of several templates, each row takes the next one."""
    templates = [row.text for row in load_rows(attack.templates)] if attack.templates else [attack.template or REQUEST]

    def text(place: int, request: str) -> str:
        template = templates[place % len(templates)].replace(PUBLISHED_REQUEST, REQUEST)
        return (template if REQUEST in template else f"{template}\n\n{REQUEST}").replace(REQUEST, request)

    return [
        replace(row, messages=(*row.messages[:-1], Message("user", text(place, row.text))), request=row.text)
        for place, row in enumerate(rows)
    ]


def search_prompts(dataset: Dataset) -> list[Prompt]:
    """The rows of the search: each prompt once, with the data set's system prompt."""
    return _fresh(dataset, "search", dataset.search, [])[0]


def digest(prompts: Iterable[Prompt | Conversation]) -> str:
    """SHA-256, in hex, over ids, messages, categories and answers of these rows, and over requests under attack."""
    known = [{key: value for key, value in asdict(row).items() if key != "request" or value} for row in prompts]
    text = json.dumps(known, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _fresh(dataset: Dataset, use: str, rows: Rows, search: Sequence[Prompt]) -> tuple[list[Prompt], RowCounts]:
    """The rows of a set without duplicates and without search prompts, and the counts of rows left out.

    Raises DapaError if no row is left.
    """
    read = [_with_system(dataset, rows, prompt) for prompt in load_rows(rows)]
    once = distinct(read)
    new = unseen(once, search)
    if not new:
        raise DapaError(f"{dataset.name}: every {use} prompt is also a search prompt; nothing is left to report on")
    apart = unlike(new, search, dataset.similar_at)
    used = apart if dataset.drop_similar else new
    if not used:
        raise DapaError(
            f"{dataset.name}: every {use} prompt resembles a search prompt (Jaccard {dataset.similar_at:g} or more);"
            " dataset.drop_similar=false keeps such prompts, and counts them"
        )
    return used, RowCounts(len(read), len(read) - len(once), len(once) - len(new), len(new) - len(apart), len(used))


def _fresh_conversations(
    dataset: Dataset, rows: ConversationRows, search: Sequence[Prompt]
) -> tuple[list[Conversation], RowCounts]:
    """The same for conversations. One is left out if one of its turns asks what a search row asks."""
    read = load_conversations(rows)
    if dataset.system_prompt and (own := next((one for one in read if one.system), None)):
        raise _two_systems(rows, own.id)
    by_id = {one.id: replace(one, system=one.system or dataset.system_prompt) for one in read}
    whole = [Prompt(one.id, tuple(Message("user", turn) for turn in one.turns)) for one in by_id.values()]
    once = [by_id[prompt.id] for prompt in distinct(whole)]
    requests = [prompt(one.id, turn) for one in once for turn in one.turns]
    new = unseen(requests, search)
    unasked = _whole_in(new, once)
    unlike_search = _whole_in(unlike(new, search, dataset.similar_at), unasked)
    used = unlike_search if dataset.drop_similar else unasked
    if not used:
        raise DapaError(f"{rows.source}: every conversation has a turn that is, or resembles, a search row")
    counts = (len(read), len(read) - len(once), len(once) - len(unasked), len(unasked) - len(unlike_search), len(used))
    return used, RowCounts(*counts)


def _whole_in(requests: Sequence[Prompt], conversations: Sequence[Conversation]) -> list[Conversation]:
    """Those conversations of which every turn is among the requests."""
    count = Counter(request.id for request in requests)
    return [one for one in conversations if count[one.id] == len(one.turns)]


def _two_systems(rows: Rows, name: str) -> DapaError:
    return DapaError(
        f"{rows.source}: the conversation {name} has a system prompt of its own, and dataset.system_prompt"
        " would be a second one: set it to null"
    )


def _with_system(dataset: Dataset, rows: Rows, prompt: Prompt) -> Prompt:
    """The prompt with the data set's system prompt before it. Raises DapaError if it already has a system prompt."""
    if dataset.system_prompt is None:
        return prompt
    if any(turn.role == "system" for turn in prompt.messages):
        raise _two_systems(rows, prompt.id)
    return replace(prompt, messages=(Message("system", dataset.system_prompt), *prompt.messages))
