"""One run of a sweep, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dapa_exp.config.schema import Config
from dapa_exp.record.status import search_name


@dataclass(frozen=True)
class Job:
    """A planned run: its checked config, its identity, and its folder."""

    config: Config
    overrides: tuple[str, ...]
    identity: str
    folder: Path
    unswept: tuple[str, ...] = ()
    """Keys that the experiment sweeps with -m, if this is a single run without -m that does not set them."""

    def listed(self) -> dict[str, str]:
        """What the list of a sweep's runs says of this one."""
        config = self.config
        return {
            "folder": self.folder.name,
            "identity": self.identity,
            "pair": config.pair.name,
            "family": config.family.name,
            "granularity": config.granularity.name,
            "search": search_name(config.search.algorithm, config.search.prior),
            "dataset": config.dataset.name,
        }
