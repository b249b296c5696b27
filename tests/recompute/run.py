"""One finished run: every number of its record, from the run's other files, its rows and its checkpoints."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, permutations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.recompute import statistics as st, weights
from tests.recompute.rows import Row, Sets, is_known, load, refuses
from tests.recompute.tally import Tally

SUBJECTS = ("student", "hybrid", "teacher")
DEFENDED = ("refused", "harmless")
OUTCOMES = ("refused", "retracted", "harmless", "harmful", "degenerate", "failed")
ROUNDING = 1e-9
PHRASES = "phrases"
"""The judge whose verdicts on the miniatures' answers a rule of ours checks."""


@dataclass
class Run:
    """A folder with a record."""

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "record.json").read_text()))

    @cached_property
    def config(self) -> dict[str, Any]:
        return dict(yaml.safe_load((self.folder / "config.yaml").read_text()))

    @cached_property
    def sets(self) -> Sets:
        return load(self.config)

    @cached_property
    def queries(self) -> list[dict[str, Any]]:
        return _lines(self.folder / "search.jsonl")

    @cached_property
    def by_student(self) -> list[list[dict[str, Any]]]:
        """The queries to each student that the set is to serve, the pair's own first."""
        also = self.config["pair"].get("also", [])
        return [self.queries, *(_lines(self.folder / f"search-{place}.jsonl") for place in range(2, 2 + len(also)))]

    @property
    def judges(self) -> list[str]:
        return [self.config["judge"]["name"], *self.config["judges"]]

    @property
    def harmful(self) -> list[str]:
        return ["report", *self.config["dataset"]["more_report"]]

    @property
    def harmless(self) -> list[str]:
        if "over_refusal" not in self.config["evaluate"]["metrics"] or not self.config["dataset"]["harmless"]:
            return []
        return ["harmless", *self.config["dataset"]["more_harmless"]]

    @property
    def questions(self) -> list[str]:
        asked = "reasoning" in self.config["evaluate"]["metrics"] and self.config["dataset"]["questions"]
        return ["questions"] if asked else []

    def rows(self, use: str) -> list[Row]:
        names = (use, f"more_report.{use}", f"more_harmless.{use}")
        return next(self.sets.rows[name] for name in names if name in self.sets.rows)

    def metric(self, name: str) -> Any:
        return json.loads((self.folder / "metrics" / f"{name}.json").read_text())

    def has_metric(self, name: str) -> bool:
        return (self.folder / "metrics" / f"{name}.json").is_file()

    def verdicts(self, subject: str, use: str, judge: str) -> list[str]:
        return list(self.metric(f"{subject}-{use}-{judge}")["verdicts"])

    def generated(self, name: str) -> list[dict[str, Any]]:
        return _lines(self.folder / "generations" / f"{name}.jsonl")

    def answers(self, subject: str, use: str) -> list[str]:
        """The answers to a set in the order of its rows."""
        by_prompt = {line["prompt"]: line["completion"] for line in self.generated(f"{subject}-{use}")}
        return [by_prompt[row.id] for row in self.rows(use)]

    @property
    def label(self) -> str:
        return f"{self.folder.name}/record.json"


def check_run(run: Run, tally: Tally) -> None:
    """Compare a run's files with each other, its rows and its checkpoints."""
    if not is_known(run.config):
        raise SystemExit(f"{run.folder}: only runs on the miniature world's whole sets can be recomputed")
    _check_search_lines(run, tally)
    _check_verdicts(run, tally)
    _check_transplant_files(run, tally)
    tally.compare(run.label, run.record, expected(run))


def expected(run: Run) -> dict[str, Any]:
    """The record's numbers as they must be, nested as in the record."""
    search = _search(run)
    return {
        "identity": json.loads((run.folder / "identity.json").read_text())["identity"],
        "pair": _pair(run),
        "search": search,
        "transplant": _transplant(run),
        "evaluate": _evaluate(run, search["threshold_dsr"]),
        "cost": _cost(run),
        "provenance": {
            "prompt_sets": run.sets.digests,
            "rows": run.sets.counts,
            "dropped_report_rows": sum(counts["searched"] for counts in run.sets.counts.values()),
            "similar_at": run.config["dataset"]["similar_at"],
            "seed": run.config["search"]["seed"],
        },
    }


Lines = list[dict[str, Any]]


def witnesses(run: Run) -> list[dict[str, Any]]:
    """For each unit found, the query without it that the first of the students failed, where there was one."""
    found = run.record["search"]["units_found"]
    proof = []
    for unit in found:
        without = frozenset(found) - {unit}
        for place, lines in enumerate(run.by_student):
            line = next((line for line in lines if frozenset(line["units"]) == without), None)
            if line is not None and line["at_most"] < _bar(run, lines) - ROUNDING:
                student = {"student": run.config["pair"]["also"][place - 1]["id"]} if place else {}
                numbers = {"query": line["index"], "prompts": line["prompts"], "dsr": line["at_most"]}
                proof.append({"without": unit, **numbers, **student})
                break
    return proof


def _bar(run: Run, lines: Lines) -> float:
    student, everything = (_share(line["verdicts"].values()) for line in _baselines(lines))
    return student + float(run.config["search"]["threshold"]) * (everything - student)


def _baselines(lines: Lines) -> tuple[dict[str, Any], dict[str, Any]]:
    return next(line for line in lines if not line["units"]), max(lines, key=lambda line: len(line["units"]))


def _search(run: Run) -> dict[str, Any]:
    theirs = run.record["search"]
    found, everything = theirs["units_found"], _baselines(run.queries)[1]
    each = [_served(run, lines, found) for lines in run.by_student]
    passes = all(one["found_dsr"] >= one["threshold_dsr"] - ROUNDING for one in each)
    proof = witnesses(run) if passes and theirs["status"] == "certified" else []
    return {
        "algorithm": run.config["search"]["algorithm"],
        "seed": run.config["search"]["seed"],
        "granularity": run.config["granularity"]["name"],
        "units_total": len(everything["units"]),
        "units_found": {"length": len(set(found) & set(everything["units"]))},
        "status": theirs["status"] if len(proof) == len(found) or theirs["status"] != "certified" else "not certified",
        "passed": passes,
        "threshold": run.config["search"]["threshold"],
        **{name: value for name, value in each[0].items() if name != "ledger"},
        "teacher_dsr": _teacher_dsr(run),
        "certificate": proof,
        "non_monotone": _non_monotone(run),
        "ledger": _ledger([line for lines in run.by_student for line in lines]),
        "students": each if len(each) > 1 else [],
    }


def _served(run: Run, lines: Lines, found: list[str]) -> dict[str, Any]:
    """The numbers of one student: its bar, its DSRs, and the cost of the queries to it."""
    student, everything = (_share(line["verdicts"].values()) for line in _baselines(lines))
    return {
        "threshold_dsr": _bar(run, lines),
        "student_dsr": student,
        "found_dsr": next(line["at_most"] for line in lines if set(line["units"]) == set(found)),
        "everything_dsr": everything,
        "ledger": _ledger(lines),
    }


def _ledger(lines: Lines) -> dict[str, Any]:
    return {
        "queries": len(lines),
        **{name: sum(line[name] for line in lines) for name in ("prompts", "tokens", "seconds")},
        "work": {name: sum(line["work"][name] for line in lines) for name in lines[0]["work"]},
    }


def _teacher_dsr(run: Run) -> float:
    """Of the phrase judge by our rule; of any other, as the run kept it."""
    if run.judges[0] == PHRASES:
        return float(np.mean([refuses(answer) for answer in run.answers("teacher", "search")]))
    return float(run.metric("teacher-search")["dsr"])


def _non_monotone(run: Run) -> int:
    passed: dict[frozenset[str], bool] = {}
    for lines in run.by_student:
        bar = _bar(run, lines)
        for line in lines:
            units = frozenset(line["units"])
            passed[units] = passed.get(units, True) and line["at_most"] >= bar - ROUNDING
    return sum(small < large and ok and not fine for (small, ok), (large, fine) in permutations(passed.items(), 2))


def _check_search_lines(run: Run, tally: Tally) -> None:
    """Each query's counts and scores from its verdicts, and the verdicts of the phrase judge from the answers."""
    for student, lines in enumerate(run.by_student, start=1):
        _check_lines(run, tally, lines, "search" if student == 1 else f"search-{student}")


def _check_lines(run: Run, tally: Tally, lines: Lines, name: str) -> None:
    total, file = len(run.rows("search")), f"{run.folder.name}/{name}.jsonl"
    answers = {(line["weights"], line["prompt"]): line["completion"] for line in run.generated(name)}
    for place, line in enumerate(lines):
        verdicts = line["verdicts"]
        counts = Counter(verdicts.values())
        judged = len(verdicts) - counts["failed"]
        defended = sum(counts[name] for name in DEFENDED)
        missing = total - len(verdicts)
        ours = {
            "index": place,
            "prompts": len(verdicts),
            "score": defended / judged if judged else 0.0,
            "at_most": (defended + missing) / (judged + missing) if judged + missing else 0.0,
            **{name: counts[name] for name in OUTCOMES if name in line or counts[name]},
        }
        tally.compare(file, {place: {name: line.get(name) for name in ours}}, {place: ours})
        if run.judges[0] == PHRASES:
            for prompt, verdict in verdicts.items():
                answer = answers["+".join(sorted(line["units"])), prompt]
                tally.equal(file, f"{place}.{prompt}", verdict == "refused", refuses(answer))


def _check_verdicts(run: Run, tally: Tally) -> None:
    """Verdicts are one a row; the phrase judge's are those of our own rule."""
    for subject in SUBJECTS:
        for use in (*run.harmful, *run.harmless):
            for judge in run.judges:
                file = f"{run.folder.name}/metrics/{subject}-{use}-{judge}.json"
                verdicts = run.verdicts(subject, use, judge)
                tally.equal(file, "verdicts", len(verdicts), len(run.rows(use)))
                if judge == PHRASES:
                    for row, verdict, answer in zip(run.rows(use), verdicts, run.answers(subject, use), strict=False):
                        tally.equal(file, row.id, verdict == "refused", refuses(answer))


def _pair(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for side in ("teacher", "student"):
        if folder := weights.folder_of(run.record["pair"][side]["id"]):
            found[side] = {"digest": weights.checkpoint_digest(folder)}
            found["num_layers"] = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    return found


def folders(run: Run) -> tuple[Path, Path] | None:
    """Where student and teacher lie; None where one is not on this machine, or the method does not copy."""
    found = [weights.folder_of(run.record["pair"][side]["id"]) for side in ("student", "teacher")]
    copies = run.config["transplant"]["method"] == "copy"
    return (found[0], found[1]) if found[0] and found[1] and copies else None


def _transplant(run: Run) -> dict[str, Any]:
    places = folders(run)
    return weights.transplant_numbers(run.record["search"]["units_found"], *places) if places else {}


def _check_transplant_files(run: Run, tally: Tally) -> None:
    """The plan and the proof of the transplant, tensor by tensor."""
    if not (places := folders(run)):
        return
    units, student = run.record["search"]["units_found"], weights.tensors_of(places[0])
    digests = weights.tensor_digests(units, *places)
    proof = {"transplanted": digests, "untouched": len(student) - len(digests)}
    tally.compare(f"{run.folder.name}/transplant.json", json.loads((run.folder / "transplant.json").read_text()), proof)
    plan = json.loads((run.folder / "plan.json").read_text())
    numbers = _transplant(run)
    ours = {name: numbers[name] for name in ("parameters", "parameters_total", "percent", "bytes")}
    theirs = {tensor["name"]: {"shape": tensor["shape"], "bytes": tensor["bytes"]} for tensor in plan["tensors"]}
    ours["tensors"] = {
        name: {"shape": list(student[name].shape), "bytes": student[name].numel() * student[name].element_size()}
        for name in digests
    }
    tally.compare(f"{run.folder.name}/plan.json", plan | {"tensors": theirs}, ours)


def _evaluate(run: Run, bar: float) -> dict[str, Any]:
    subjects = {subject: _subject(run, subject) for subject in SUBJECTS}
    hybrid = subjects["hybrid"]
    successes = sum(hybrid["outcomes"][name] for name in DEFENDED)
    return {
        **subjects,
        "comparisons": [_comparison(run, other, "report", DEFENDED) for other in ("student", "teacher")],
        "over_refusal_comparisons": [
            _comparison(run, other, "harmless", ("refused",)) for other in ("student", "teacher") if run.harmless
        ],
        "perplexity_comparisons": _perplexity_comparisons(run),
        "above_threshold": st.probability_above(successes, hybrid["dsr"]["n"], bar),
        "above_threshold_clusters": st.clustered_probability_above(*_judged(run, "hybrid"), bar),
        "random": _random(run),
        "confirmation": _confirmation(run, bar),
        "agreement": _agreement(run, SUBJECTS),
        "agreement_by_model": {subject: _agreement(run, (subject,)) for subject in SUBJECTS}
        if run.record["evaluate"].get("agreement_by_model")
        else None,
        "conversation_comparisons": [],  # no known sweep has conversations
        **(
            {"change_by_layer": run.metric("hybrid-change_by_layer")}
            if run.has_metric("hybrid-change_by_layer")
            else {}
        ),
    }


def _confirmation(run: Run, bar: float) -> dict[str, Any] | None:
    """The found set and what is left of it without each unit, one row after the other until it is told."""
    error_rate, found = run.config["evaluate"].get("confirm"), run.record["search"]["units_found"]
    if error_rate is None or run.judges[0] != PHRASES or run.record["search"]["status"] == "no_gain":
        return None
    rows, tested = list(run.rows("report")), [None, *(witness["without"] for witness in witnesses(run))]
    names = (run.config["pair"]["name"], run.config["granularity"]["name"], run.config["search"]["seed"])
    random.Random(int(hashlib.sha256("|".join(map(str, names)).encode()).hexdigest()[:16], 16)).shuffle(rows)
    answers = {(line["weights"], line["prompt"]): line["completion"] for line in run.generated("random-confirm")}

    def claim(without: str | None) -> dict[str, Any]:
        name = "+".join(sorted(unit for unit in found if unit != without))
        asked = [row.id for row in rows if (name, row.id) in answers]
        defended = [refuses(answers[name, row]) for row in asked]
        reaches, prompts = st.sequential(defended, bar, error_rate / len(tested))
        told = "undecided" if reaches is None else "confirmed" if reaches == (without is None) else "refuted"
        if reaches is None:
            prompts = len(rows)  # a test that tells nothing has asked all
        return {"without": without, "verdict": told, "prompts": prompts, "dsr": sum(defended[:prompts]) / prompts}

    return {"error_rate": error_rate, "bar": bar, "claims": [claim(without) for without in tested]}


def _judged(run: Run, subject: str) -> tuple[list[bool], list[str]]:
    """Whether each judged report row was defended, and its group."""
    verdicts = run.verdicts(subject, "report", run.judges[0])
    rows = [pair for pair in zip(verdicts, run.rows("report"), strict=False) if pair[0] != "failed"]
    return [verdict in DEFENDED for verdict, _ in rows], [row.group for _, row in rows]


def _subject(run: Run, subject: str) -> dict[str, Any]:
    judge = run.judges[0]
    defence = {use: {j: _defence(run, subject, use, j) for j in run.judges} for use in run.harmful}
    refusals = {
        use: {j: _rate(run.verdicts(subject, use, j), ("refused",)) for j in run.judges if _sees_refusals(run, j)}
        for use in run.harmless
    }
    return {
        "dsr": defence["report"][judge]["dsr"],
        "outcomes": defence["report"][judge]["outcomes"],
        "dsr_clusters": st.clustered_rate(*_judged(run, subject)),
        "over_refusal": refusals.get("harmless", {}).get(judge),
        "defence": defence,
        "over_refusals": refusals,
        "reasoning": _reasoning(run, subject),
        **_perplexities(run, subject),
        **_kept(run, subject, "kl_to_student", "kl_to_teacher"),
    }


def _kept(run: Run, subject: str, *metrics: str) -> dict[str, Any]:
    """Metrics that the record repeats from the run's files; `ask` computes them anew."""
    return {name: run.metric(f"{subject}-{name}") for name in metrics if run.has_metric(f"{subject}-{name}")}


def _sees_refusals(run: Run, judge: str) -> bool:
    sees = run.record["provenance"]["judges"][judge].get("sees")
    return sees is None or "refused" in sees


def _defence(run: Run, subject: str, use: str, judge: str) -> dict[str, Any]:
    verdicts = run.verdicts(subject, use, judge)
    outcomes = dict.fromkeys(OUTCOMES, 0) | dict(Counter(verdicts))
    early = run.metric(f"{subject}-{use}-{judge}").get("early_differs")
    return {"dsr": _rate(verdicts, DEFENDED), "outcomes": outcomes, "early_differs": early}


def _rate(verdicts: list[str], counted: tuple[str, ...]) -> dict[str, Any]:
    judged = [verdict for verdict in verdicts if verdict != "failed"]
    return st.rate(sum(verdict in counted for verdict in judged), len(judged))


def _share(verdicts: Any) -> float:
    return float(_rate(list(verdicts), DEFENDED)["value"])


def _reasoning(run: Run, subject: str) -> dict[str, Any] | None:
    if not run.questions:
        return None
    rows, answers = run.rows("questions"), run.answers(subject, "questions")
    right = sum(st.words(answer) == st.words(row.answer or "") for row, answer in zip(rows, answers, strict=True))
    return st.rate(right, len(rows))


def _perplexities(run: Run, subject: str) -> dict[str, Any]:
    if not run.has_metric(f"{subject}-windows"):
        return {}
    sums, counts = run.metric(f"{subject}-windows")
    words = sum(len(row.text.split()) for row in run.rows("text"))
    by_word = [count * words / sum(counts) for count in counts]
    return {"perplexity": st.perplexity(sums, counts), "word_perplexity": st.perplexity(sums, by_word)}


def _comparison(run: Run, other: str, use: str, counted: tuple[str, ...]) -> dict[str, Any]:
    judge = run.judges[0]
    rows = [
        (a in counted, b in counted, row.group)
        for a, b, row in zip(
            run.verdicts("hybrid", use, judge), run.verdicts(other, use, judge), run.rows(use), strict=False
        )
        if "failed" not in (a, b)
    ]
    ours, theirs, groups = [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
    cells = Counter(zip(ours, theirs, strict=True))
    gained, lost = cells[True, False], cells[False, True]
    return {
        "against": other,
        "difference": st.paired_difference(ours, theirs),
        "detectable_gain": st.detectable_gain(sum(theirs) / len(theirs), len(theirs)) if theirs else None,
        "gained": gained,
        "lost": lost,
        "p_value": st.mcnemar_exact(gained, lost),
        "clusters": st.clustered_difference(ours, theirs, groups),
    }


def _perplexity_comparisons(run: Run) -> list[dict[str, Any]]:
    if not run.has_metric("hybrid-windows"):
        return []
    ours, counts = run.metric("hybrid-windows")
    return [
        {"against": other, **st.perplexity_change(ours, run.metric(f"{other}-windows")[0], counts)}
        for other in ("student", "teacher")
    ]


def _agreement(run: Run, subjects: tuple[str, ...]) -> list[dict[str, Any]]:
    found = []
    for one, other in combinations(run.judges, 2):
        both = [
            (a in DEFENDED, b in DEFENDED)
            for subject in subjects
            for use in run.harmful
            for a, b in zip(run.verdicts(subject, use, one), run.verdicts(subject, use, other), strict=True)
            if "failed" not in (a, b)
        ]
        same = st.rate(sum(a == b for a, b in both), len(both))
        found.append({"judges": [one, other], "agreement": same, "kappa": st.kappa(both)})
    return found


def _random(run: Run) -> dict[str, Any]:
    theirs = run.record["evaluate"]["random"]
    if theirs.get("sets") is not None:
        return _random_sets(run, theirs)
    measured = [
        _rate(run.verdicts(f"random{draw}", "report", run.judges[0]), DEFENDED) for draw in range(len(theirs["dsr"]))
    ]
    return {"k": len(run.record["search"]["units_found"]), "dsr": measured, "mean": _mean(measured)}


def _random_sets(run: Run, theirs: dict[str, Any]) -> dict[str, Any]:
    """The control that names its sets: their answers by our rule, where the judge is the phrase judge."""
    found, places = run.record["search"]["units_found"], folders(run)
    distinct = {frozenset(units) for units in theirs["sets"]} - {frozenset(found)}
    ours: dict[str, Any] = {"k": len(theirs["sets"][0]), "sets": {"length": len(distinct)}}
    if len(set(map(len, theirs["sets"]))) == 1:  # not where they are of about as many parameters
        ours["sets"] |= {place: {"length": len(found)} for place in range(len(theirs["sets"]))}
    if run.judges[0] == PHRASES:
        answers = {(line["weights"], line["prompt"]): line["completion"] for line in run.generated("random")}

        def dsr(units: list[str]) -> dict[str, Any]:
            name = "+".join(sorted(units))
            return st.rate(sum(refuses(answers[name, row.id]) for row in run.rows("report")), len(run.rows("report")))

        own, measured = dsr(found), [dsr(units) for units in theirs["sets"]]
        reached = sum(each["value"] >= own["value"] - ROUNDING for each in measured)
        ours |= {
            "dsr": measured,
            "mean": _mean(measured),
            "found_dsr": own,
            "interval": st.mean([each["value"] for each in measured]),
            "reached": reached,
            "p_value": (1 + reached) / (1 + len(measured)),
        }
    if places:
        sizes = [weights.transplant_numbers(units, *places)["parameters"] for units in theirs["sets"]]
        ours["parameters"] = sizes
    if theirs.get("equal_parameters"):
        ours["equal_parameters"] = _random_sets(run, theirs["equal_parameters"])
    if theirs["exact"]:
        ours["exact"] = len(distinct) == comb(run.record["search"]["units_total"], len(found)) - 1
    return ours


def _mean(measured: list[dict[str, Any]]) -> float | None:
    values = [each["value"] for each in measured if each["n"]]
    return float(np.mean(values)) if values else None


def _cost(run: Run) -> dict[str, Any]:
    """Seconds and memory as each stage wrote them down; tokens from the answers themselves."""
    found: dict[str, dict[str, Any]] = {}
    reused: set[str] = set()
    for line in _lines(run.folder / "cost.jsonl"):
        reused |= set(line.get("reused", {}))
        stage = found.setdefault(line["stage"], {"seconds": 0.0, "peak_memory_bytes": 0})
        stage["seconds"] += line["seconds"]
        stage["peak_memory_bytes"] = max(stage["peak_memory_bytes"], line["peak_memory_bytes"])
    for name, numbers in found.items():
        files = [
            file
            for file in (run.folder / "generations").glob(f"{name}*.jsonl")
            if str(file.relative_to(run.folder)) not in reused
        ]
        numbers["tokens"] = sum(line["tokens"] for file in files for line in _lines(file))
    return found


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
