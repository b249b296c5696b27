"""What counts in a run's identity, and what does not."""

from __future__ import annotations

from pathlib import Path

from dapa_exp.cli.compose import jobs
from dapa_exp.record.identity import identity


def test_golden_identity() -> None:
    """A change here re-runs everybody's sweeps: raise IDENTITY_VERSION if it is meant."""
    (job,) = jobs(["pair=llama2-7b-vicuna-v1.5", "dataset=advbench128"])
    assert job.identity == "9af1a0267730a844a5ef0f0d45fcdea7247136a11c04f71ae568d183e1a2300d"


def test_identity_ignores_place_and_machine_but_not_what_moves_results() -> None:
    base = identity(jobs(["pair=mini-mistral-base"])[0].config)
    same = [
        "record.dir=/elsewhere",
        "record.experiment=other",
        "runtime.device=cuda",
        "runtime.processes=7",
        "record=wandb",
    ]
    for word in same:
        assert identity(jobs(["pair=mini-mistral-base", word])[0].config) == base, word
    for word in ("runtime.dtype=bfloat16", "runtime.batch_size=8", "search.threshold=0.8", "search=all"):
        assert identity(jobs(["pair=mini-mistral-base", word])[0].config) != base, word


def test_the_engine_is_part_of_the_identity_where_it_can_move_results() -> None:
    def identity(*words: str) -> str:
        return jobs(["pair=mini-mistral-base", *(f"runtime.{word}" for word in words)])[0].identity

    levers = ("reuse_memory=1", "drafts=false", "early_verdicts=false", "graphs=true")
    assert {identity(word) for word in ("engine=plain", *levers)} == {identity()}
    below = "dtype=bfloat16"
    assert len({identity(below, word) for word in ("engine=plain", "engine=fast", *levers)}) == 6
    plain = [identity(below, "engine=plain", word) for word in levers]
    assert set(plain) == {identity(below, "engine=plain")}
    assert identity("engine=plain", "cache_memory=3") == identity()
    vllm = [identity("engine=vllm", *word) for word in ((), ("tensor_parallel=2",))]
    assert len({*vllm, identity()}) == 3
    assert identity("engine=vllm", "cache_memory=3") == vllm[0]


def test_identity_of_a_local_checkpoint_changes_with_its_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    words = [f"pair.student.id={tmp_path}"]
    before = jobs(words)[0].identity
    (tmp_path / "model.safetensors").write_bytes(b"two!")
    assert jobs(words)[0].identity != before
