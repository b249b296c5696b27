"""Looks up every model and prompt set of a sweep once, and lists the problems that would stop its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, Report
from dapa_exp.config.dataset import Rows
from dapa_exp.config.models import Model
from dapa_exp.config.schema import Config
from dapa_exp.models.hub import beside, named
from dapa_exp.models.kinship import alignment_share, stored_differences
from dapa_exp.models.pair import MAY_DIFFER, chosen_template, differing, misfits
from dapa_exp.models.pair_templates import template_problems
from dapa_exp.models.source import source_of
from dapa_exp.models.templates import StoredTemplate
from dapa_exp.models.tensors import TensorReader
from dapa_exp.preflight.facts import Shape, shape_from, shape_of
from dapa_exp.preflight.reach import Found, Hub, is_cached, is_read_here, on_the_hub
from dapa_exp.preflight.settings import judges_of, setting_problems
from dapa_exp.preflight.totals import models_of
from dapa_exp.prompts.load import load_prompts
from dapa_exp.transplant.make_method import misused

WORKERS = 8
"""Parallel requests to the hub."""
Thing = TypeVar("Thing")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Findings:
    """The result of looking up every model and prompt set of a sweep."""

    models: dict[Model, Found]
    judges: dict[Model, Found]
    """The models that judges load, from this machine or the hub. Models behind an endpoint are not among them."""
    sets: dict[str, Found]
    """Prompt sets, by `set_key`."""
    unreached: str | None
    """Why the hub cannot be reached; None if it can, or if nothing is on the hub."""

    def shape_of(self, model: Model) -> Shape | None:
        """A model's shape, from its own config if that was found, else from the shipped table."""
        config = self.models[model].config
        return (shape_from(config) if config else None) or shape_of(model)


def look(configs: Sequence[Config], report: Report) -> Findings:
    """Look up every model and prompt set of these configs, on this machine and on the hub."""
    hub = Hub()
    models = {model: model for config in configs for model in models_of(config)}
    judges = {model: model for config in configs for model in _judge_models(config)}
    sets = {
        set_key(rows): (rows, use == "text" and config.dataset.text_joined)
        for config in configs
        for use, rows in config.dataset.sets().items()
    }
    far = any(map(on_the_hub, [*models, *judges])) or any(on_the_hub(rows) for rows, _ in sets.values())
    return Findings(
        unreached=hub.unreached if far else None,  # before the threads start: they would all wait for it
        models=_ask("check: models", models, hub.model, report),
        judges=_ask("check: judges", judges, hub.judge, report),
        sets=_ask("check: prompt sets", sets, lambda asked: hub.rows(*asked), report),
    )


def hub_problems(configs: Sequence[Config]) -> Iterator[str]:
    """If the hub is out of reach: the models and prompt sets that runs need from it and that this machine lacks.

    Sends one request to the hub. If the hub answers, there is no problem and nothing else is looked up.
    """
    hub = Hub()
    models = {model for config in configs for model in (*models_of(config), *_judge_models(config))}
    far = [model for model in models if on_the_hub(model)]
    rows = {set_key(rows): rows for config in configs for rows in config.dataset.sets().values() if on_the_hub(rows)}
    if not (far or rows) or not hub.unreached:
        return
    missing = [named(model.id, model.revision) for model in far if source_of(model).file("config.json") is None]
    missing += [key for key, found in rows.items() if not is_cached(found)]
    if missing:
        yield f"{hub.unreached}, and this machine does not hold: {', '.join(sorted(missing))}"


def find_problems(configs: Sequence[Config], findings: Findings) -> Iterator[str]:
    """Every problem that would stop a run, one sentence each."""
    models = [(model.id, found) for of in (findings.models, findings.judges) for model, found in of.items()]
    known = [*models, *findings.sets.items()]
    if not_asked := [name for name, found in known if not found.asked]:
        yield f"{findings.unreached}, so these could not be asked for: {', '.join(not_asked)}"
        yield from (f"{name}: not asked for{found}" for name in not_asked if (found := beside(name)))
    yield from (found.problem for _, found in known if found.problem)
    for config in configs:
        for each in config.by_student():
            yield from _pair_problems(each, findings)
        yield from _template_problems(config, findings)
        yield from _method_problems(config, findings)
        yield from setting_problems(config)
        yield from _head_problems(config, findings)


def pair_notes(configs: Sequence[Config], findings: Findings) -> Iterator[str]:
    """Notes on each pair, one sentence each: harmless differences, and signs that the models have no common base."""
    every = (each for config in configs for each in config.by_student())
    for name, *models in dict.fromkeys((c.pair.name, c.family.teacher, c.pair.student) for c in every):
        teacher, student = (findings.models[model] for model in models)
        if teacher.config and student.config:
            yield from (f"{name}: {found}" for found in differing(teacher.config, student.config, MAY_DIFFER))
        if teacher.folder and student.folder:
            tensors = (TensorReader(folder) for folder in (teacher.folder, student.folder))
            yield from (f"{name}: {found}" for found in stored_differences((teacher.folder, student.folder), *tensors))


def row_notes(configs: Sequence[Config], findings: Findings) -> tuple[list[str], list[str]]:
    """Two lists of sentences on the data sets that can be read now: how many rows are left out, and problems."""
    notes, problems = [], []
    for dataset in {config.dataset.model_dump_json(): config.dataset for config in configs}.values():
        every = dataset.sets().values()
        if any(findings.sets[set_key(rows)].problem or not is_read_here(rows) for rows in every):
            continue
        try:
            kept = load_prompts(dataset).kept
        except DapaError as error:
            problems.append(str(error))
            continue
        said = {use: of_set.sentence(dataset.similar_at) for use, of_set in kept.items()}
        notes += [f"{dataset.name}: {use}: {sentence}" for use, sentence in said.items() if sentence]
    return notes, problems


def _pair_problems(config: Config, findings: Findings) -> Iterator[str]:
    if misfits := pair_misfits(config, findings):
        yield f"{config.pair.name}: teacher and student do not fit: {'; '.join(misfits)}"
    needed = dict.fromkeys((config.family.teacher, template_of(config, findings)))
    for model in (model for model in needed if findings.models[model].template is False):
        hint = "" if model == config.family.teacher else "; pair.chat_template=teacher uses the teacher's"
        yield f"{model.id}: the tokenizer has no chat template{hint}"
    templates = {model.id: findings.models[model].template for model in needed}
    known = {name: template for name, template in templates.items() if isinstance(template, StoredTemplate)}
    yield from template_problems(config, known)


def _template_problems(config: Config, findings: Findings) -> Iterator[str]:
    for judge in judges_of(config):
        needs = judge.needs()
        template = findings.judges[needs.model].template if needs.model and needs.chat_template else None
        if needs.model and isinstance(template, StoredTemplate):
            try:
                template.check([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}])
            except DapaError as error:
                yield f"judge {judge.name}: {needs.model.id}: {error}"


def _method_problems(config: Config, findings: Findings) -> Iterator[str]:
    """A sentence if the transplant method is not made for the student; none if a model is not on this machine."""
    folders = [findings.models[model].folder for model in models_of(config)]
    if config.transplant.of_teacher and all(folders):
        share = alignment_share(*(TensorReader(folder) for folder in folders if folder))
        if problem := misused(config.transplant, share):
            yield f"{config.pair.name}: {problem}"


def _head_problems(config: Config, findings: Findings) -> Iterator[str]:
    """A sentence if vLLM, where it is chosen and here, does not take the size of the student's heads."""
    shape = findings.shape_of(config.pair.student)
    if config.runtime.engine == "vllm" and find_spec("vllm") and shape:
        from dapa_exp.engine.vllm import head_sizes

        taken = head_sizes()
        if taken and shape.head_dim not in taken:
            yield (
                f"{config.pair.student.id}: its attention heads have the size {shape.head_dim}; on a CPU vLLM takes"
                f" {', '.join(map(str, taken))}. A miniature has larger ones as zoo:NAME@head_dim=64"
            )


def pair_misfits(config: Config, findings: Findings) -> list[str] | None:
    """All reasons why the teacher's tensors do not fit the student's; None if a model's config was not found."""
    pair = config.family.teacher, config.pair.student
    teacher, student = (findings.models[model].config for model in pair)
    if teacher is None or student is None:
        shapes = [shape for model in pair if (shape := findings.shape_of(model)) and not shape.assumed]
        if len(shapes) < len(pair):
            return None
        teacher, student = map(asdict, shapes)
    try:
        wrong = misfits(teacher, student)
    except DapaError as error:  # the architecture is not known
        return [str(error)]
    if not wrong and config.family.model_type not in (None, student["model_type"]):
        wrong = [f"model_type: the family says {config.family.model_type}, the checkpoints {student['model_type']}"]
    return wrong


def template_of(config: Config, findings: Findings) -> Model:
    """The model whose chat template is used for the student's prompts."""
    chosen = chosen_template(config, findings.models[config.pair.student].template is not False)
    return config.family.teacher if chosen == "teacher" else config.pair.student


def _judge_models(config: Config) -> list[Model]:
    return [model for judge in judges_of(config) if (model := judge.needs().model)]


def set_key(rows: Rows) -> str:
    """The key under which a prompt set is looked up: for a hub set its id, for others also its rows and columns."""
    return named(rows.source, rows.revision) if on_the_hub(rows) else rows.model_dump_json()


def _ask(task: str, things: dict[Any, Thing], ask: Callable[[Thing], Answer], report: Report) -> dict[Any, Answer]:
    """Call `ask` for all things, in WORKERS threads, and report progress. Returns the answers by thing."""
    answers = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for done, (key, answer) in enumerate(zip(things, pool.map(ask, things.values()), strict=True), start=1):
            answers[key] = answer
            report(Progress(task, done, len(things)))
    return answers
