"""Judges in the config: what each needs, what is part of a run's identity, and that naming one loads nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dapa_exp.cli.compose import jobs, note_unmeasurable
from dapa_exp.config.problems import ConfigError
from dapa_exp.judges.chat import Chat
from tests.settings import problems

COMPOSE = """
import sys
from dapa_exp.cli.compose import jobs
(job,) = jobs(["judge=guard"])
print(job.config.judge.name, sorted({"torch", "transformers", "openai"} & set(sys.modules)))
"""


def test_other_judges_stand_beside_the_runs_own() -> None:
    (job,) = jobs(["+judge@judges.paper=dapa_paper", "+judge@judges.local=chat", "judges.local.model=qwen"])
    assert job.config.judge.name == "phrases"
    assert [judge.name for judge in job.config.judges.values()] == ["dapa_paper", "chat"]
    local = job.config.judges["local"]
    assert isinstance(local, Chat)
    assert local.model == "qwen"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["judge=chta"], "no such judge. Did you mean 'chat'?"),
        (["judge=chat", "judge.modle=x"], "judge.modle: unknown key. Did you mean 'model'?"),
        (["judge=chat", "judge.concurrency=0"], "judge.concurrency: is 0"),
        (["judge=chat", "judge.key=sk-123"], "the name of an environment variable"),
        (["judge=chat", "judge.base_url=localhost:8000/v1"], "judge.base_url: is 'localhost:8000/v1'; it should start"),
        (
            ["judge=chat", "judge.base_url=http://localhost:99999/v1"],
            "judge.base_url: is 'http://localhost:99999/v1': Port",
        ),
        (["judge=chat", "judge.base_url='http://[::1'"], "judge.base_url: is 'http://[::1': Invalid IPv6 URL"),
        (["judge=classifier", "judge.labels.LABEL_1=hramful"], "Did you mean 'harmful'?"),
        (["+judge@judges.phrases=phrases"], "the run's own judge has this name"),
        (["+judges={a-b: {name: phrases}}"], "of letters, digits and underscores"),
        (["+judge@judges.a=chat", "judges.a.timeout=-1"], "judges.a.timeout: is -1"),
        (["+judge@judges.a=chat", "judges.a.tiemout=1"], "Did you mean 'timeout'?"),
        (["+judge@judges.a=chat", "judges.a.name=chatt"], "name is 'chatt'. Did you mean 'chat'?"),
    ],
)
def test_what_is_wrong_with_a_judge_is_said_where_it_stands(words: list[str], said: str) -> None:
    assert said in "\n".join(problems(*words))


def test_the_identity_knows_the_judges_but_not_how_they_are_reached() -> None:
    def identity(*words: str) -> str:
        return jobs(["judge=chat", *words])[0].identity

    plain = identity()
    reached = ("concurrency=1", "attempts=1", "timeout=9", "key=OTHER_KEY")
    assert {identity(f"judge.{word}") for word in reached} == {plain}
    others = ("judge.model=x", "judge.base_url=http://localhost/v1", "+judge@judges.other=phrases")
    assert len({plain, *(identity(word) for word in others)}) == 4


def test_naming_a_judge_loads_no_model_and_no_client() -> None:
    said = subprocess.run([sys.executable, "-c", COMPOSE], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "guard []"


@pytest.mark.parametrize("judge", ["guard", "classifier", "judgezoo", "dapa_paper"])
def test_over_refusal_is_asked_of_no_judge_that_cannot_see_it(judge: str, capsys: pytest.CaptureFixture[str]) -> None:
    blind, asked = f"judge={judge}", "evaluate.metrics=[over_refusal]"
    said = f"evaluate.metrics: over_refusal: {judge} cannot tell refusals from other answers"
    with pytest.raises(ConfigError, match=said):
        jobs([blind, asked])
    for words in ([blind, asked, "+judge@judges.refusals=phrases"], [blind, "evaluate.metrics=[perplexity]"]):
        note_unmeasurable(jobs(words))
    assert not capsys.readouterr().err
    note_unmeasurable(jobs([blind]))  # the metrics are the default's: it will be null
    assert said in capsys.readouterr().err


def test_not_harmful_is_not_refused() -> None:
    with pytest.raises(ConfigError, match="labels: LABEL_0 is refused, but a classifier trained for harm"):
        jobs(["judge=classifier", "judge.labels.LABEL_0=refused"])
    (job,) = jobs(["judge=classifier", "judge.labels.LABEL_0=refused", "judge.trained_for=refusal"])
    assert job.config.judge.sees() == {"refused"}
