"""The models of a run, asked again: answers, losses of texts, divergences, and changes by layer."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from tests.recompute.models import Measured
from tests.recompute.run import Run, folders
from tests.recompute.statistics import mean
from tests.recompute.tally import Near, Tally

ANSWERS, TEXTS = 4, 8
"""How many answers of each set and how many texts are made again."""
LOSS_BY = 1e-4
KL_BY = 2e-5
STATES_BY = 2e-5
"""What float32 on batches may differ from one row at a time."""


def check_models(run: Run, tally: Tally) -> None:
    """Compare what the run kept of its models' work with what they do here. Nothing where they are not here."""
    if not (places := folders(run)):
        return
    student, teacher = places
    template = teacher if run.config["pair"]["chat_template"] == "teacher" else student
    models = {
        "student": Measured([], student, teacher, template),
        "hybrid": Measured(run.record["search"]["units_found"], student, teacher, template),
        "teacher": Measured([], teacher, teacher, teacher),
    }
    for subject, model in models.items():
        _check_answers(run, tally, subject, model)
        _check_losses(run, tally, subject, model)
        for name, use in (("student", "harmless"), ("teacher", "report")):
            if run.has_metric(f"{subject}-kl_to_{name}"):
                file = f"{run.folder.name}/metrics/{subject}-kl_to_{name}.json"
                ours = _divergence(run, use, name, models[name], model)
                tally.compare(file, run.metric(f"{subject}-kl_to_{name}"), ours)
    if run.has_metric("hybrid-change_by_layer"):
        file = f"{run.folder.name}/metrics/hybrid-change_by_layer.json"
        kept = run.metric("hybrid-change_by_layer")
        change = partial(_change_by_layer, run, models["student"], models["hybrid"])
        tally.compare(file, kept, {side: change("report" if side == "harmful" else side) for side in kept})


def _check_answers(run: Run, tally: Tally, subject: str, model: Measured) -> None:
    ends = None if subject == "teacher" else run.record["pair"]["end_tokens"]
    length = run.config["evaluate"]["max_new_tokens"]
    for use in (*run.harmful, *run.harmless, *run.questions):
        rows, answers = run.rows(use), run.answers(subject, use)
        for place in range(0, len(rows), -(-len(rows) // ANSWERS)):
            file = f"{run.folder.name}/generations/{subject}-{use}.jsonl"
            tally.equal(file, rows[place].id, answers[place], model.answer(rows[place].text, length, ends))


def _check_losses(run: Run, tally: Tally, subject: str, model: Measured) -> None:
    """Only of texts that fit one window each."""
    if not run.has_metric(f"{subject}-windows") or len(run.metric(f"{subject}-windows")[0]) != len(run.rows("text")):
        return
    kept = [column[:TEXTS] for column in run.metric(f"{subject}-windows")]
    sums, counts = model.losses(row.text for row in run.rows("text")[:TEXTS])
    file = f"{run.folder.name}/metrics/{subject}-windows.json"
    tally.compare(file, kept, [[Near(value, LOSS_BY * value) for value in sums], counts])


def _divergence(run: Run, use: str, name: str, other: Measured, model: Measured) -> dict[str, Any]:
    """KL of a model's next tokens along another's own answers, by temperature: mean over tokens, then answers."""
    wanted = run.config["evaluate"]
    rows = run.rows(use)[: wanted["divergence_rows"]]
    values: dict[str, list[float]] = {f"{t:g}": [] for t in wanted["divergence_temperatures"]}
    for row, answer in zip(rows, run.answers(name, use)[: len(rows)], strict=True):
        tokens = other.tokens(answer, wanted["divergence_tokens"])
        theirs, ours = other.along(row.text, tokens), model.along(row.text, tokens)
        for temperature in wanted["divergence_temperatures"]:
            p, q = ((logits / temperature).log_softmax(-1) for logits in (theirs, ours))
            values[f"{temperature:g}"].append(float(torch.nn.functional.kl_div(q, p, reduction="sum", log_target=True)))
            values[f"{temperature:g}"][-1] /= len(tokens) + 1
    return {temperature: _near(found, KL_BY) for temperature, found in values.items()}


def _change_by_layer(run: Run, student: Measured, hybrid: Measured, use: str) -> list[dict[str, Any]]:
    """1 − cosine of hidden states, and total variation distance of attention, layer by layer."""
    hidden: dict[int, list[float]] = {}
    attention: dict[int, list[float]] = {}
    for row in run.rows(use)[: run.config["evaluate"]["divergence_rows"]]:
        before, after = student.states(row.text), hybrid.states(row.text)
        for layer, (a, b) in enumerate(zip(before[0], after[0], strict=True)):
            cosine = float(a @ b / a.norm() / b.norm())
            hidden.setdefault(layer, []).append(1 - cosine)
        for layer, (a, b) in enumerate(zip(before[1], after[1], strict=True)):
            attention.setdefault(layer, []).append(float((a - b).abs().sum(-1).mean()) / 2)
    return [
        {"layer": layer, "hidden": _near(hidden[layer], STATES_BY), "attention": _near(attention[layer], STATES_BY)}
        for layer in hidden
    ]


def _near(values: list[float], by: float) -> dict[str, Any]:
    """A mean with its interval, to within rounding; an interval of values that hardly differ is not compared."""
    found = mean(values)
    if np.ptp(values) < by:
        return {"value": Near(found["value"], by), "n": found["n"]}
    return {name: value if name == "n" else Near(value, by) for name, value in found.items()}
