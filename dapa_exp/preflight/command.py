"""`dapa check`: can every run of a sweep start, and will it fit?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from rich.table import Table

from dapa_exp.config.compose import jobs
from dapa_exp.config.schema import Config, Judge, Model, Rows
from dapa_exp.models.hub import named
from dapa_exp.models.pair import misfits
from dapa_exp.preflight.estimate import needs
from dapa_exp.preflight.facts import Shape, shape_from, shape_of
from dapa_exp.preflight.reach import Found, Hub, on_the_hub
from dapa_exp.preflight.totals import cells, models_of, shortages, shown, summary, totals
from dapa_exp.progress import Progress, Report, console, display

WORKERS = 8
"""Questions to the hub at a time."""
UNKNOWN = "unknown"
Thing = TypeVar("Thing")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Findings:
    """What is known of everything that a sweep reads. Each thing was asked for once."""

    models: dict[Model, Found]
    sets: dict[str, tuple[str | None, bool]]
    """What is wrong with each prompt set, if anything, and whether it could be asked for."""
    unreached: str | None
    """Why the hub could not be asked."""

    def shape_of(self, model: Model) -> Shape | None:
        """A model's shape, by its own config where that is known, else by our facts."""
        config = self.models[model].config
        return (shape_from(config) if config else None) or shape_of(model)


def check_command(words: list[str]) -> int:
    """Print what stands in the way of each run that `dapa run` would start; 0 where nothing does."""
    configs = [job.config for job in jobs(words)]
    with display() as report:
        findings = look(configs, report)
    wanted = [needs(config, findings.shape_of) for config in configs]
    table = Table(
        *("run", "teacher", "student", "data", "fit", "template", "units", "queries", "memory", "disk"), box=None
    )
    for column in table.columns[6:]:
        column.justify = "right"
    for config, need in zip(configs, wanted, strict=True):
        table.add_row(config.pair.name, *_states(config, findings), *cells(config, need, findings.shape_of))
    console().print(table)
    together = totals(configs, wanted, findings.shape_of)
    print("\n".join(summary(together)))
    problems = [*find_problems(configs, findings), *shortages(together)]
    if configs[0].runtime.device != "cpu":
        problems += _gpu_problems(configs[0].runtime.device, together.memory)
    print("\n".join(f"problem: {problem}" for problem in dict.fromkeys(problems)) or "nothing stands in the way")
    return 1 if problems else 0


def look(configs: Sequence[Config], report: Report) -> Findings:
    """Ask for every model and prompt set that runs of these configs read."""
    hub = Hub()
    models = {model: model for config in configs for model in _models_read(config)}
    sets = {_key(rows): rows for config in configs for rows in config.dataset.sets().values()}
    unreached = hub.unreached  # asked first, so that no thread waits for it twice
    return Findings(
        _ask("check: models", models, hub.model, report), _ask("check: prompt sets", sets, hub.rows, report), unreached
    )


def find_problems(configs: Sequence[Config], findings: Findings) -> Iterator[str]:
    """What stands in the way of the runs, in sentences."""
    not_asked = [model.id for model, found in findings.models.items() if not found.asked]
    not_asked += [key for key, (_, asked) in findings.sets.items() if not asked]
    if not_asked:
        yield f"{findings.unreached}, so these could not be asked for: {', '.join(not_asked)}"
    yield from filter(None, (found.problem for found in findings.models.values()))
    yield from filter(None, (problem for problem, _ in findings.sets.values()))
    for config in configs:
        yield from _pair_problems(config, findings)
        yield from _judge_problems(config)


def _pair_problems(config: Config, findings: Findings) -> Iterator[str]:
    for misfit in _misfits(config, findings) or []:
        yield f"{config.pair.name}: teacher and student do not fit: {misfit}"
    needed = {config.family.teacher, _template_of(config)}
    for model in (model for model in needed if findings.models[model].template is False):
        hint = "" if model == config.family.teacher else "; pair.chat_template=teacher uses the teacher's"
        yield f"{model.id}: the tokenizer has no chat template{hint}"


def _judge_problems(config: Config) -> Iterator[str]:
    for judge in _judges(config):
        key = getattr(judge, "key", None)
        if key and not os.environ.get(key):
            yield f"judge {judge.name}: the environment variable {key}, which is to hold the key, is not set"


def _gpu_problems(device: str, needed: int) -> list[str]:
    if not torch.cuda.is_available():
        return [f"runtime.device={device}: there is no GPU here; runtime=cpu computes without one"]
    free = sum(torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count()))
    return [f"memory: about {shown(needed)} are needed, and the GPU has {shown(free)} free"] if needed > free else []


def _states(config: Config, findings: Findings) -> tuple[str, str, str, str, str]:
    """Teacher, student, data, fit and template of a run, as the table shows them."""
    teacher, student = (_state(findings.models[m]) for m in (config.family.teacher, config.pair.student))
    sets = [findings.sets[_key(rows)] for rows in config.dataset.sets().values()]
    data = "missing" if any(problem for problem, _ in sets) else "ok" if all(asked for _, asked in sets) else UNKNOWN
    template = {True: "yes", False: "missing", None: UNKNOWN}[findings.models[_template_of(config)].template]
    return teacher, student, data, _fit(config, findings), template


def _fit(config: Config, findings: Findings) -> str:
    pair = config.family.teacher, config.pair.student
    wrong = _misfits(config, findings)
    if wrong is None:
        return UNKNOWN
    by_config = all(findings.models[model].config for model in pair)
    return "no" if wrong else "yes" if by_config else "by facts"


def _state(found: Found) -> str:
    return UNKNOWN if not found.asked else "problem" if found.problem else "ok"


def _misfits(config: Config, findings: Findings) -> list[str] | None:
    """Every way in which teacher and student do not fit; None where one of them is not known, or only assumed."""
    pair = config.family.teacher, config.pair.student
    teacher, student = (findings.models[model].config for model in pair)
    if teacher is None or student is None:
        shapes = [shape for model in pair if (shape := findings.shape_of(model)) and not shape.assumed]
        if len(shapes) < len(pair):
            return None
        teacher, student = map(asdict, shapes)
    wrong = misfits(teacher, student)
    if not wrong and student["model_type"] != config.family.model_type:
        wrong = [f"model_type: the family says {config.family.model_type}, the checkpoints {student['model_type']}"]
    return wrong


def _template_of(config: Config) -> Model:
    """The model whose chat template the student's prompts go through."""
    return config.family.teacher if config.pair.chat_template == "teacher" else config.pair.student


def _models_read(config: Config) -> list[Model]:
    """Every model of a run, those of its judges among them."""
    asked = [getattr(judge, "model", None) for judge in _judges(config)]
    return [*models_of(config), *(model for model in asked if isinstance(model, Model))]


def _judges(config: Config) -> list[Judge]:
    return [config.judge, *config.judges.values()]


def _key(rows: Rows) -> str:
    """What a prompt set is asked for by: the hub by its id alone, others by rows and columns too."""
    return named(rows.source, rows.revision) if on_the_hub(rows) else rows.model_dump_json()


def _ask(task: str, things: dict[Any, Thing], ask: Callable[[Thing], Answer], report: Report) -> dict[Any, Answer]:
    """Ask for all things, some at a time, and show how far it is."""
    answers = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for done, (key, answer) in enumerate(zip(things, pool.map(ask, things.values()), strict=True), start=1):
            answers[key] = answer
            report(Progress(task, done, len(things)))
    return answers
