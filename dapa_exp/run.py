"""One run of the method, on one screen: search → transplant → evaluate → record."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import torch

from dapa_exp.assemble import make_record
from dapa_exp.base.errors import StoppedError
from dapa_exp.base.progress import Remark, Report
from dapa_exp.config.schema import Config
from dapa_exp.engine.make import load_student, load_teacher
from dapa_exp.evaluate.evaluator import Evaluator, Teacher, make_evaluator
from dapa_exp.models.pair import Pair, checkpoint_digests, open_pair
from dapa_exp.models.pair_templates import check_templates
from dapa_exp.record.folder import open_run, read_record
from dapa_exp.record.log import log_progress
from dapa_exp.record.schema import Record
from dapa_exp.search.joint import load_others, open_others
from dapa_exp.search.oracle import Oracle
from dapa_exp.search.prepare import prepare_method
from dapa_exp.search.unit_search import check_search, search_units
from dapa_exp.transplant.apply import transplant
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.transplant.make_method import make_method


def run(config: Config, folder: Path, report: Report) -> Record:
    """Carry out a run in its folder and return its record. The record of a finished run is only read.

    An interrupted run is resumed: nothing in its folder is generated, judged or measured again. Raises DapaError, with
    one clear message, if the run cannot be carried out, and StoppedError where `record.until` ends it.
    """
    if (done := read_record(folder, config)) is not None:
        return done
    torch.set_num_threads(config.runtime.threads)
    with open_run(folder, config) as run:
        if (done := read_record(folder, config)) is not None:  # another process has finished it meanwhile
            return done
        report = log_progress(report)
        with run.run_stage("load"):
            evaluator = make_evaluator(run, config, report)
            pair = open_pair(config, report)
            evaluator = evaluator.sharing(pair)
            for difference in pair.differences:
                report(Remark(f"note: {config.pair.name}", 0, note=difference))
            check_templates(config, pair)
            check_search(config, pair)
            others = open_others(config, pair, report)
            for each in [(config, pair), *others]:
                evaluator.check_context(*each)
            run.refuse_changed({**checkpoint_digests(pair, [p for _, p in others]), **evaluator.prompts.digests()})
            method = make_method(config.transplant, pair)
        with run.run_stage("teacher"):
            teacher = measure_teacher(evaluator, pair)
        with run.run_stage("search"):
            engine = load_student(config, pair)
            hybrid = Hybrid(engine.loaded.model, pair, method)
            oracle = Oracle(run, hybrid, engine, evaluator.judge, evaluator.prompts.search)
            prepare_method(run, method, oracle, teacher)
            found = search_units(run, pair, teacher, oracle, report, partial(load_others, run, evaluator, others))
            engine.forget()
        if config.record.until == "search":
            raise StoppedError
        with run.run_stage("student"):
            hybrid.set_units(())
            student = evaluator.measure("student", lambda: engine)
        with run.run_stage("transplant"):
            moved = transplant(run, hybrid, pair, found.units_found)
            moved = moved.model_copy(update={"in_engine": evaluator.agreement(engine)})
        with run.run_stage("hybrid"):
            aligned = evaluator.measure("hybrid", lambda: engine)
            change = evaluator.change_by_layer(engine)
        with run.run_stage("random"):
            random = evaluator.random_control(hybrid, engine, found.units_found)
            confirmation = evaluator.confirm(hybrid, engine, found)
        evaluated = evaluator.comparer.conclude(student, aligned, teacher.measured, random, change, found.threshold_dsr)
        evaluated = evaluated.model_copy(update={"confirmation": confirmation})
        return run.finish(make_record(run, pair, evaluator, found, moved, evaluated, engine.ends))


def measure_teacher(evaluator: Evaluator, pair: Pair) -> Teacher:
    """Load the teacher, measure it, and free its memory. Teacher and student are never loaded at the same time.

    It is not loaded if other runs have measured all of it.
    """
    return evaluator.teacher(cache(lambda: load_teacher(evaluator.config, pair)))
