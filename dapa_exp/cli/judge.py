"""`dapa judge RUN judge=NAME`: gives a finished run's answers to another judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from dapa_exp.base.errors import DapaError, complain
from dapa_exp.base.progress import console, display
from dapa_exp.cli.judge_words import cost, judge_config
from dapa_exp.evaluate.defence import out_of_order
from dapa_exp.evaluate.rejudge import MODELS, NoVerdictError, rejudge
from dapa_exp.judges import make_judge
from dapa_exp.record.evaluation import Subject
from dapa_exp.record.schema import Record


def judge_command(words: Sequence[str]) -> int:
    """`dapa judge RUN judge=NAME [judge.KEY=VALUE…] [as=NAME]`: judge a finished run's answers with another judge.

    The verdicts join the run's record, under as=NAME if given. All judges' DSRs are printed. The exit code is 1 if most
    verdicts are missing. If the first ones are all missing, the command stops at once.
    """
    if not words or "=" in words[0]:
        raise DapaError("dapa judge needs the folder of a run, then judge=NAME")
    named = [word.removeprefix("as=") for word in words if word.startswith("as=")]
    config = judge_config("judge", [word for word in words[1:] if not word.startswith("as=")])
    judge = make_judge(config)
    try:
        with display() as report:
            done = rejudge(Path(words[0]), judge, named[-1] if named else config.name, report)
    except NoVerdictError as error:
        complain(error)
        return 1
    console().print(_table(done.record), cost(judge))
    if done.failed:
        print(f"{done.failed} of {done.asked} verdicts are missing: the same command asks for them again")
    return int(out_of_order(done.failed, done.asked))


def _table(record: Record) -> Table:
    """A table of DSRs: a row for each model and prompt set, a column for each judge, a dash without verdicts."""
    judges = list(record.provenance.judges)
    table = Table("model", "prompts", *(f"DSR {judge} (%)" for judge in judges))
    for model in MODELS:
        subject: Subject = getattr(record.evaluate, model)
        for rows, judged in subject.defence.items():
            measures = [judged[judge].dsr for judge in judges]
            table.add_row(model, rows, *(f"{100 * dsr.value:.1f} (n={dsr.n})" if dsr.n else "–" for dsr in measures))
    return table
