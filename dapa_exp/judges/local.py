"""Loads the models of judges that run on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from dapa_exp.base.errors import DapaError
from dapa_exp.config.judge import JudgeNeeds, JudgeSettings
from dapa_exp.config.models import Model
from dapa_exp.config.names import Count, Device

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Row = TypeVar("Row")


class LocalSettings(JudgeSettings):
    """The settings of a judge whose model runs on this machine."""

    no_identity: ClassVar[frozenset[str]] = frozenset({"device"})
    model: Model
    device: Device
    dtype: Literal["float32", "bfloat16", "float16"]
    batch_size: Count

    def needs(self) -> JudgeNeeds:
        return JudgeNeeds(model=self.model, device=self.device)

    def full_version(self) -> str:
        """The judge's version together with its model: with another model it is another judge."""
        revision = f" {self.model.revision}" if self.model.revision else ""
        return f"{self.version} ({self.model.id}{revision})"


def load(settings: LocalSettings, auto_class: str) -> tuple[Any, PreTrainedTokenizerBase]:
    """The judge's model in evaluation mode on its device, and its tokenizer.

    Raises DapaError if the checkpoint is not available, cannot be loaded, or does not fill the model.
    """
    name = f"judge {settings.name}: {settings.model.id}"
    # Imported here: a config that names this judge is read without torch.
    import torch
    import transformers

    from dapa_exp.models.checkpoint import locate
    from dapa_exp.models.load import fit_tokenizer, load_whole

    folder = locate(settings.model, weights=True)
    model = load_whole(getattr(transformers, auto_class), folder, name, dtype=getattr(torch, settings.dtype))
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model.to(settings.device)
    except Exception as error:  # for a damaged file the libraries raise any kind of error
        raise DapaError(f"{name}: cannot be loaded: {type(error).__name__}: {error}") from error
    fit_tokenizer(model, tokenizer, name)
    model.config.pad_token_id = tokenizer.pad_token_id  # some models find a text's last token by it
    return model.eval(), tokenizer


def batches(rows: list[Row], size: int) -> Iterator[list[Row]]:
    """The rows in their order, `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
