"""Estimates the queries, memory and disk of a run from its config and its models' shapes. Does not import torch.

The estimates leave out what is unknown before the run, such as the true lengths of answers and the allocator's
overhead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from dapa_exp.base.errors import DapaError
from dapa_exp.config.dataset import ConversationRows, Rows
from dapa_exp.config.models import Model
from dapa_exp.config.registries import ALGORITHMS, METRICS, ModelSizes, Queries
from dapa_exp.config.schema import Config
from dapa_exp.models.architecture import count_units
from dapa_exp.preflight.facts import DTYPE_BYTES, Shape
from dapa_exp.prompts.conversations import load_conversations
from dapa_exp.prompts.rows import is_here, load_rows

ShapeOf = Callable[[Model], Shape | None]
"""Looks up a model's shape; None if unknown. It is facts.shape_of, or Findings.shape_of after asking the hub."""
PROMPT_TOKENS = 128
"""Assumed tokens of a request with its chat template, where the rows are not on this machine: a high value."""
TEXT_TOKENS = 512
"""Assumed tokens of a row of `dataset.text`, where the rows are not on this machine."""
TASK_TOKENS = 256
"""Assumed tokens of a document of a task: four choices, each after its question. Tasks that generate take more."""
TEMPLATE_TOKENS = 8
"""What a chat template of Llama 2, Mistral or Gemma adds to a request."""
TURNS = 6
"""Assumed turns of a conversation, where the rows are not on this machine: MHJ has 5.4 on average."""
CHARACTERS_A_TOKEN = 4
PROCESS_BYTES = 600_000_000
"""Memory of a process with torch and transformers before it loads weights. On a GPU the driver takes about the same."""
ANSWER_BYTES_A_TOKEN = 5
ANSWER_BYTES_BESIDE = 150
"""Bytes in a line of generations/*.jsonl beside the answer: the prompt's id and the names of transplanted units."""

ID_BYTES = 4
"""Bytes of a token's number, beside its text, where answers are shared."""
SHARED_ANSWER_BYTES_BESIDE = 45


@dataclass(frozen=True)
class RunNeeds:
    """The estimated needs of one run. A field is None if the shapes of the run's models are unknown."""

    units: int | None
    queries: Queries | None
    memory: int | None
    """Peak memory in bytes, on the models' device."""
    files: int | None
    """The most bytes that the run's folder holds at any time."""
    shared: int
    """The most bytes that the sweep's folder holds for all runs that evaluate the same teacher and student."""
    assumed: bool
    """True if a model's shape was not looked up but assumed."""


def needs(config: Config, shape_of: ShapeOf) -> RunNeeds:
    """The needs of a run, with its models' shapes from `shape_of`."""
    teacher, student = (shape_of(model) for model in (config.family.teacher, config.pair.student))
    if student is None:
        return RunNeeds(None, None, None, None, 0, False)
    units = _units(config, student)
    asked = queries(config, units)
    shapes = [shape for shape in (teacher, student) if shape]
    sizes = _sizes(config, max(shapes, key=lambda shape: shape.vocab_size))
    peaks = [memory(config, shape) for shape in shapes]  # the models are loaded one after the other
    peaks[-1] += _others(config, student)
    return RunNeeds(
        units=units,
        queries=asked,
        memory=max(peaks),
        files=files(config, sizes, asked.count) if asked else None,
        shared=shared(config, sizes),
        assumed=any(shape.assumed for shape in shapes),
    )


def queries(config: Config, units: int) -> Queries | None:
    """The number of queries of a search among `units` units. None if it was not measured, and no budget limits it."""
    found, students = _sets(config, units), len(config.pair.students)
    return found if found is None or students == 1 else Queries(found.count * students, "at most")


def _sets(config: Config, units: int) -> Queries | None:
    """The number of sets of a search: each of them is a query to each student that the search is to serve, at most."""
    search = config.search
    return _within_budget(ALGORITHMS.get(search.algorithm).queries(search, units), search.max_queries)


def _within_budget(found: Queries | None, most: int | None) -> Queries | None:
    if most is None or (found is not None and found.count <= most + 1):
        return found
    return Queries(most + 1, "at most")


def memory(config: Config, shape: Shape) -> int:
    """Peak memory in bytes while a run uses one model.

    weights + process + the largest of
      generating:  batch · ((prompt + answer) · layers · 2 · keys · width + prompt · 3 · intermediate) · width
                   + batch · vocabulary · (width + 4), and what the fast engine keeps of prompts
      metrics:     what each of them needs
      transplant:  on a CPU the largest tensor twice, as it is read and in the model's dtype
    `keys` is the size of one token's keys in a layer, `width` the bytes of one number in runtime.dtype. Logits are
    computed in runtime.dtype and converted to float32. Judges and benchmark tasks are not counted. With vLLM, its
    weights and its cache are there all the time, and transformers generates nothing.
    """
    width, vllm = DTYPE_BYTES[config.runtime.dtype], config.runtime.engine == "vllm"
    batch = config.runtime.batch_size
    prompt = _prompt_tokens(config)
    sizes = _sizes(config, shape)
    answer = max(config.search.max_new_tokens, config.evaluate.max_new_tokens)
    tokens = (prompt + answer) * sizes.cache_bytes + prompt * 3 * shape.intermediate_size * width
    generating = batch * (tokens + shape.vocab_size * (width + 4)) + _kept(config, shape, prompt)
    measuring = [METRICS.get(name).working_bytes(config, sizes) for name in config.evaluate.metrics]
    reading = 2 * shape.largest_tensor * width if config.runtime.device == "cpu" else 0
    needed = shape.parameters * width + PROCESS_BYTES + max(0 if vllm else generating, reading, *measuring)
    return needed + (_vllm(config, shape) if vllm else 0)


def _vllm(config: Config, shape: Shape) -> int:
    """Bytes that vLLM holds beside transformers' model, on each device: its own weights, and its cache."""
    runtime = config.runtime
    weights = shape.parameters * DTYPE_BYTES[runtime.dtype] // runtime.tensor_parallel
    return weights + round(runtime.cache_memory * 1e9)


def _others(config: Config, student: Shape) -> int:
    """Bytes of the further students that one set is to serve: during the search all of them are in memory.

    They are of the student's shape, else they would not fit the teacher.
    """
    weights = student.parameters * DTYPE_BYTES[config.runtime.dtype]
    return len(config.pair.also) * (weights + _kept(config, student, _prompt_tokens(config)))


def _sizes(config: Config, shape: Shape) -> ModelSizes:
    width, prompt = DTYPE_BYTES[config.runtime.dtype], _prompt_tokens(config)
    return ModelSizes(
        vocab_size=shape.vocab_size,
        context=shape.max_position_embeddings,
        cache_bytes=shape.num_hidden_layers * 2 * shape.key_value_size * width,
        state_bytes=4 * shape.num_hidden_layers * (shape.hidden_size + shape.num_attention_heads * prompt),
        dtype_bytes=width,
        text_tokens=None if config.dataset.text_joined else _tokens(config.dataset.text) or TEXT_TOKENS,
    )


def _units(config: Config, shape: Shape) -> int:
    return count_units(shape.num_hidden_layers, config.granularity.modules)


def _kept(config: Config, shape: Shape, prompt: int) -> int:
    """Bytes that the fast engine keeps: of each query's prompts what half of the layers made, at most its budget."""
    if config.runtime.engine != "fast":
        return 0
    most = round(config.runtime.reuse_memory * 1e9)
    asked = _sets(config, _units(config, shape))
    if asked is None:
        return most
    layer = (shape.hidden_size + 2 * shape.key_value_size) * DTYPE_BYTES[config.runtime.dtype]
    query = config.dataset.search.count * prompt * shape.num_hidden_layers * layer
    return min(most, query * (asked.count + 1) // 2)


def _prompt_tokens(config: Config) -> int:
    """Tokens of the longest request of the search, its template included: about what its characters make."""
    request = _tokens(config.dataset.search)
    said = len(config.dataset.system_prompt or "") // CHARACTERS_A_TOKEN
    return PROMPT_TOKENS + said if request is None else request + said + TEMPLATE_TOKENS


def _tokens(rows: Rows | None) -> int | None:
    """About how many tokens the longest of some rows has; None where they are not on this machine, or damaged."""
    lengths = _lengths(rows)
    return max(lengths) // CHARACTERS_A_TOKEN if lengths else None


def _lengths(rows: Rows | None) -> Sequence[int]:
    """The characters of each row; none where they are not on this machine, or damaged."""
    if rows is None or not is_here(rows):
        return ()
    fixed = rows.source.startswith("zoo:") or rows.fetched_name  # a file of one's own may be edited
    return _lengths_of_fixed(type(rows), rows.model_dump_json()) if fixed else _read_lengths(rows)


@cache
def _lengths_of_fixed(kind: type[Rows], rows: str) -> Sequence[int]:
    """The same of rows that are given as JSON, read once for all runs of a sweep."""
    return _read_lengths(kind.model_validate_json(rows))


def _read_lengths(rows: Rows) -> Sequence[int]:
    try:
        if isinstance(rows, ConversationRows):  # a request is read again at each later turn
            read = load_conversations(rows)
            return [length for conversation in read for length in accumulate(map(len, conversation.turns))]
        return [len(row.text) for row in load_rows(rows, may_be_blank=True)]
    except DapaError:
        return ()


def measured_tokens(config: Config) -> int:
    """About how many tokens the report reads and generates with each model."""
    tokens = len(config.evaluate.tasks.names) * (config.evaluate.tasks.limit or 0) * TASK_TOKENS
    for use, rows in config.dataset.sets().items():
        if use != "search" and use.split(".")[0] != "attacks":
            assumed = TEXT_TOKENS if use == "text" else PROMPT_TOKENS
            tokens += sum(_lengths(rows)) // CHARACTERS_A_TOKEN or _count(rows) * assumed
            tokens += 0 if use == "text" else _count(rows) * (TEMPLATE_TOKENS + config.evaluate.max_new_tokens)
    for attack in config.dataset.attacks.values():
        around = [len(attack.template)] if attack.template else _lengths(attack.templates)
        each = PROMPT_TOKENS + sum(around) // max(1, len(around)) // CHARACTERS_A_TOKEN + TEMPLATE_TOKENS
        tokens += config.dataset.report.count * (each + config.evaluate.max_new_tokens)
    return tokens


def random_tokens(config: Config) -> int:
    """About how many tokens the random control reads and generates, if no answer ends early."""
    rows = config.dataset.report
    read = sum(_lengths(rows)) // CHARACTERS_A_TOKEN or rows.count * PROMPT_TOKENS
    return config.evaluate.random_repeats * (read + rows.count * (TEMPLATE_TOKENS + config.search.max_new_tokens))


def files(config: Config, sizes: ModelSizes, asked: int) -> int:
    """Bytes that a run writes: all answers, and what its metrics keep until the run is done.

    `asked` is the number of queries.
    """
    evaluate, dataset = config.evaluate, config.dataset
    report = dataset.report.count + sum(rows.count for rows in dataset.more_report.values())
    searched = (asked + 1) * dataset.search.count  # + 1: the teacher's answers
    measured = 3 * _evaluated(config) + evaluate.random_repeats * report
    texts = searched * _answer(config.search.max_new_tokens) + measured * _answer(evaluate.max_new_tokens)
    return texts + _kept_by_metrics(config, sizes)


def shared(config: Config, sizes: ModelSizes) -> int:
    """Bytes that runs share: the answers of teacher and student, and what metrics keep until the sweep is done."""
    if not config.record.share:
        return 0
    answers = 2 * _evaluated(config) * _shared_answer(config.evaluate.max_new_tokens)
    searched = config.dataset.search.count * _shared_answer(config.search.max_new_tokens)
    return answers + searched + _kept_by_metrics(config, sizes)


def _evaluated(config: Config) -> int:
    """How many answers of each model are evaluated."""
    dataset = config.dataset
    more = (*dataset.more_report.values(), *dataset.more_harmless.values(), *[dataset.report] * len(dataset.attacks))
    sets = (dataset.report, dataset.harmless, dataset.questions, dataset.skill, *more)
    return sum(_count(rows) for rows in (*sets, dataset.conversations) if rows)


def _count(rows: Rows) -> int:
    """How many answers a set asks for: one a row, or one a turn."""
    return len(_lengths(rows)) or rows.count * TURNS if isinstance(rows, ConversationRows) else rows.count


def _kept_by_metrics(config: Config, sizes: ModelSizes) -> int:
    return sum(METRICS.get(name).kept_bytes(config, sizes) for name in config.evaluate.metrics)


def _shared_answer(tokens: int) -> int:
    return tokens * (ANSWER_BYTES_A_TOKEN + ID_BYTES) + SHARED_ANSWER_BYTES_BESIDE


def _answer(tokens: int) -> int:
    return tokens * ANSWER_BYTES_A_TOKEN + ANSWER_BYTES_BESIDE
