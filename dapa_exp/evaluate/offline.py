"""Tasks of lm-evaluation-harness on sets that `dapa fetch` keeps: its own prompts and metrics, without a hub.

Each is the harness's task with another source of rows, under its name with `fetched_` before it. The
packages hold fewer splits than the hub: ARC and WinoGrande are asked on their validation rows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from dapa_exp.base.digests import cache_root
from dapa_exp.base.files import write_atomically

PREFIX = "fetched_"
MMLU = "mmlu"
TASKS = {
    "arc_challenge": "arc/arc_challenge.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
}
"""The harness's file of each task but MMLU's, by the name of the fetched set."""


def offline_sets(tasks: Iterable[str]) -> list[str]:
    """The sets that must be fetched for the offline tasks among these."""
    names = (task.removeprefix(PREFIX) for task in tasks if task.startswith(PREFIX))
    return [MMLU if name.startswith(MMLU) else name for name in names if name in TASKS or name.startswith(MMLU)]


def offline_folder() -> Path:
    """A folder of all the offline tasks, for `lm_eval run --include_path` too. They point at the installed harness."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise ImportError("No module named 'lm_eval'")
    harness = Path(spec.origin).parent / "tasks"
    folder = cache_root() / "tasks"
    for name, text in _files(harness):
        file = folder / f"{PREFIX}{name}.yaml"
        if not file.is_file() or file.read_text() != text:
            write_atomically(file, text)
    return folder


def _files(harness: Path) -> Iterator[tuple[str, str]]:
    for name, file in TASKS.items():
        yield name, _task(name, harness / file, {"test_split": None, "dataset_kwargs": {"name": name}})
    subjects = sorted(file.stem.removeprefix("mmlu_") for file in (harness / "mmlu" / "default").glob("mmlu_*.yaml"))
    for subject in subjects:
        kwargs = {"name": MMLU, "subject": subject}
        yield (
            f"mmlu_{subject}",
            _task(f"mmlu_{subject}", harness / "mmlu" / "default" / f"mmlu_{subject}.yaml", {"dataset_kwargs": kwargs}),
        )
    group = {
        "group": f"{PREFIX}mmlu",
        "task": [f"{PREFIX}mmlu_{subject}" for subject in subjects],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
    }
    yield MMLU, yaml.safe_dump(group, sort_keys=False)


def _task(name: str, file: Path, other: dict[str, object]) -> str:
    settings = {"include": str(file), "task": f"{PREFIX}{name}", "tag": [], "training_split": None, **other}
    return (
        yaml.safe_dump(settings, sort_keys=False) + "custom_dataset: !function dapa_exp.evaluate.tasks.rows.fetched\n"
    )
