"""The engine that a config names, and the teacher and the student in it."""

from __future__ import annotations

from dapa_exp.config.schema import Config, Runtime
from dapa_exp.engine.fast import FastEngine
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.engine.vllm import BYTES_A_GB, VllmEngine
from dapa_exp.models.load import LoadedModel, load_model
from dapa_exp.models.pair import Pair


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


def load_teacher(config: Config, pair: Pair) -> PlainEngine:
    """An engine with the teacher."""
    return make_engine(load_model(pair.teacher_folder, config.runtime, thinking=config.pair.thinking), config.runtime)


def load_student(config: Config, pair: Pair) -> PlainEngine:
    """An engine with the student."""
    template = pair.teacher_folder if pair.chat_template == "teacher" else None
    loaded = load_model(pair.student_folder, config.runtime, template, config.pair.thinking)
    return make_engine(loaded, config.runtime)
