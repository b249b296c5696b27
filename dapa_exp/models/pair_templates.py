"""The chat templates of a pair: whether they take the prompts of a run, asked before any weight is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dapa_exp.base.errors import DapaError
from dapa_exp.base.today import TODAY
from dapa_exp.config.schema import Config
from dapa_exp.models.pair import Pair
from dapa_exp.models.templates import StoredTemplate, template_in


def check_templates(config: Config, pair: Pair) -> None:
    """Raises DapaError where a chat template that the run uses does not take its prompts."""
    if problems := list(template_problems(config, templates_of(config, pair))):
        raise DapaError("\n".join(problems))


def template_problems(config: Config, used: Mapping[str, StoredTemplate]) -> Iterator[str]:
    """What is wrong with the chat templates that a run uses, by the id of their model; in sentences."""
    thinking, system = config.pair.thinking, config.dataset.system_prompt
    turns = [] if system is None else [{"role": "system", "content": system}]
    turns.append({"role": "user", "content": "How are you?"})
    if config.dataset.conversations:
        turns += [{"role": "assistant", "content": "Well."}, {"role": "user", "content": "And now?"}]
    switched = []
    for name, template in used.items():
        try:
            template.check(turns, thinking)
            switched.append(template.has_thinking)
        except DapaError as error:
            yield f"{name}: {error}"
    if thinking is not None and len(switched) == len(used) and not any(switched):
        yield (
            f"pair.thinking={str(thinking).lower()}: no chat template of the pair {config.pair.name} can switch"
            " thinking (by enable_thinking); null leaves it alone"
        )


def templates_of(config: Config, pair: Pair) -> dict[str, StoredTemplate]:
    """The chat templates that a run uses, by the id of their model."""
    folders = {config.family.teacher.id: pair.teacher_folder}
    if pair.chat_template == "own":
        folders[config.pair.student.id] = pair.student_folder
    return {name: found for name, folder in folders.items() if (found := template_in(folder))}


def template_date(config: Config, pair: Pair) -> str | None:
    """The day that the run's chat templates were told is today; None where none of them asks."""
    return TODAY.date().isoformat() if any(t.has_date for t in templates_of(config, pair).values()) else None
