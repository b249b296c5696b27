"""picire's delta debugging: an implementation that shares no line with ours, to compare with."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from unittest.mock import patch

from dapa_exp.search import Test, Unit

# picire 21.8 asks pkg_resources for its own version, and setuptools 81 dropped that module.
_no_versions = SimpleNamespace(get_distribution=lambda package: SimpleNamespace(version=""))
with patch.dict(sys.modules, {"pkg_resources": _no_versions}):
    import picire
    from picire import config_iterators, config_splitters


def picire_ddmin(
    units: tuple[Unit, ...], test: Test, *, try_chunks: bool = True
) -> tuple[frozenset[Unit], list[frozenset[Unit]]]:
    """Return picire's answer and the questions it asked, each once, in order."""
    asked: dict[frozenset[Unit], bool] = {}

    def passes(config: list[Unit], config_id: tuple[str, ...]) -> picire.Outcome:
        candidate = frozenset(config)
        if candidate not in asked:
            asked[candidate] = test(candidate, "").passed
        return picire.Outcome.FAIL if asked[candidate] else picire.Outcome.PASS

    chunks = config_iterators.forward if try_chunks else config_iterators.skip
    answer = picire.DD(passes, split=config_splitters.ZellerSplit(), subset_iterator=chunks)(list(units))
    return frozenset(answer), list(asked)
