"""`dapa check`: whether every run of a sweep can start, and fits into memory and on the disk."""

from __future__ import annotations

import torch
from rich.table import Table

from dapa_exp.base.progress import console, display
from dapa_exp.cli.compose import jobs, note_unmeasurable
from dapa_exp.config.schema import Config
from dapa_exp.preflight.estimate import needs
from dapa_exp.preflight.findings import (
    Findings,
    find_problems,
    look,
    pair_misfits,
    pair_notes,
    row_notes,
    set_key,
    template_of,
)
from dapa_exp.preflight.reach import Found
from dapa_exp.preflight.settings import is_here
from dapa_exp.preflight.totals import cells, format_bytes, shortages, summary, totals

OK, PROBLEM, UNKNOWN = "ok", "problem", "unknown"


def check_command(words: list[str]) -> int:
    """Print the problems of the runs that `dapa run` would start with the same words. The exit code is 0 if none."""
    planned = jobs(words)
    note_unmeasurable(planned)
    configs = [job.config for job in planned]
    with display() as report:
        findings = look(configs, report)
    wanted = [needs(config, findings.shape_of) for config in configs]
    table = Table(
        *("pair", "teacher", "student", "data", "fit", "template", "units", "queries", "memory", "disk"), box=None
    )
    for column in table.columns[6:]:
        column.justify = "right"
    rows = [
        (config.pair.name, *_states(config, findings), *cells(config, need, findings.shape_of))
        for config, need in zip(configs, wanted, strict=True)
    ]
    for row in dict.fromkeys(rows):  # several runs of a pair have the same row
        table.add_row(*row)
    console().print(table)
    together = totals(configs, wanted, findings.shape_of)
    print("\n".join(summary(together)))
    notes, of_sets = row_notes(configs, findings)
    print("".join(f"note: {note}\n" for note in (*pair_notes(configs, findings), *notes)), end="")
    problems = [*find_problems(configs, findings), *of_sets, *shortages(together)]
    problems += _gpu_shortages(configs[0].runtime.device, together.memory)
    print("\n".join(f"problem: {problem}" for problem in dict.fromkeys(problems)) or "no problem found")
    return 1 if problems else 0


def _gpu_shortages(device: str, needed: int) -> list[str]:
    """A sentence if the GPU has too little memory; for the device `auto`, if all GPUs together have."""
    named = [device] if device.startswith("cuda") and is_here(device) else []
    devices = range(torch.cuda.device_count()) if device == "auto" else named
    free = sum(torch.cuda.mem_get_info(one)[0] for one in devices)
    short = f"memory: about {format_bytes(needed)} are needed, and {format_bytes(free)} are free on {device}"
    return [short] if devices and needed > free else []


def _states(config: Config, findings: Findings) -> tuple[str, str, str, str, str]:
    """The table cells of a run: state of teacher, student and data, fit of the pair, chat template."""
    teacher, student = (_state(findings.models[m]) for m in (config.family.teacher, config.pair.student))
    sets = [_state(findings.sets[set_key(rows)]) for rows in config.dataset.sets().values()]
    data = next((state for state in (PROBLEM, UNKNOWN) if state in sets), OK)
    template = findings.models[template_of(config, findings)].template
    prompted = UNKNOWN if template is None else "yes" if template else "missing"
    return teacher, student, data, _fit(config, findings), prompted


def _fit(config: Config, findings: Findings) -> str:
    pair = config.family.teacher, config.pair.student
    wrong = pair_misfits(config, findings)
    if wrong is None:
        return UNKNOWN
    by_config = all(findings.models[model].config for model in pair)
    return "no" if wrong else "yes" if by_config else "by facts"


def _state(found: Found) -> str:
    return UNKNOWN if not found.asked else PROBLEM if found.problem else OK
