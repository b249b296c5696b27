"""The engine that a config names."""

from __future__ import annotations

from dapa_exp.config.schema import Runtime
from dapa_exp.engine.fast import FastEngine
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.engine.vllm import VllmEngine
from dapa_exp.models.load import LoadedModel

BYTES_A_GB = 10**9


def make_engine(loaded: LoadedModel, runtime: Runtime) -> PlainEngine:
    """The engine for a loaded model that the config asks for."""
    if runtime.engine == "plain":
        return PlainEngine(loaded, runtime.batch_size)
    if runtime.engine == "vllm":
        return VllmEngine(loaded, runtime)
    return FastEngine(
        loaded,
        runtime.batch_size,
        reuse_bytes=int(runtime.reuse_memory * BYTES_A_GB),
        drafts=runtime.drafts,
        early_verdicts=runtime.early_verdicts,
        graphs=runtime.graphs,
    )
