"""Checks whether models and prompt sets are available. Downloads no more than small config files."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import HfApi, constants, get_session, hf_hub_url, is_offline_mode, snapshot_download
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import read_object
from dapa_exp.base.progress import silent
from dapa_exp.config.dataset import ConversationRows, Rows
from dapa_exp.config.models import Model
from dapa_exp.fetch.store import is_fetched
from dapa_exp.models.checkpoint import bad_base, base_of, complete_config, gguf_file, read_config, unsafe_adapter
from dapa_exp.models.complete import read_whole
from dapa_exp.models.hub import (
    FAILURES,
    be_patient,
    explained,
    named,
    refuse_unnamed,
    repository_of,
    unreached,
    weight_files,
)
from dapa_exp.models.load import NO_TOKENIZER, holds_tokenizer
from dapa_exp.models.source import source_of
from dapa_exp.models.templates import StoredTemplate, stored_template, template_in
from dapa_exp.models.tensors import UNPICKLE
from dapa_exp.prompts.conversations import load_conversations
from dapa_exp.prompts.rows import is_here, load_rows

_ADAPTER = "adapter_config.json"
_SMALL = ("config.json", _ADAPTER)


@dataclass(frozen=True)
class Found:
    """The result of looking up a model or a prompt set."""

    config: dict[str, Any] | None = None
    """A model's config.json with the defaults of its class; None for a model that must be converted first."""
    template: StoredTemplate | bool | None = None
    """A model's chat template; False if it has none, None if unknown."""
    problem: str | None = None
    """Why it is not available, in a sentence; None if it is."""
    asked: bool = True
    """False if the hub is out of reach and the cache does not hold it, so its availability is unknown."""
    folder: Path | None = None
    """The folder of a model's safetensors files, if they are on this machine."""


@dataclass(frozen=True)
class Hub:
    """The model hub. After one failed request, it is not asked again."""

    api: HfApi = field(default_factory=HfApi)

    @cached_property
    def unreached(self) -> str | None:
        """Why the hub cannot be reached; None if it can."""
        if is_offline_mode():
            return "the hub is not asked, since HF_HUB_OFFLINE is set"
        be_patient()
        try:
            get_session().head(constants.ENDPOINT)
        except FAILURES as error:
            return unreached(error)
        return None

    def model(self, model: Model) -> Found:
        """Look up a model of a pair, on this machine or on the hub."""
        try:
            source = source_of(model)
            if source.remote:
                return self._in_cache(model) if self.unreached else self._ask(model)
            # `dapa run` builds it.
            return Found() if source.to_build else self._in_folder(source.locate(True, silent), model)
        except DapaError as error:
            return Found(problem=str(error))

    def judge(self, model: Model) -> Found:
        """Look up a judge's model, which may have any architecture: whether it is available, and its chat template."""
        source = source_of(model)
        if source.remote and self.unreached:
            return Found(asked=source.file("config.json") is not None)
        try:
            if source.remote:
                return Found(template=self._files(model)[2])
            return Found() if source.to_build else Found(template=template_in(source.locate(True, silent)))
        except DapaError as error:
            return Found(problem=str(error))

    def rows(self, rows: Rows, may_be_blank: bool = False) -> Found:
        """Look up a prompt set. It is read if that needs no network, else the hub is asked for it."""
        far = on_the_hub(rows)
        if far and self.unreached and not is_offline_mode():
            return Found(asked=False)
        try:
            if rows.fetched_name and not is_fetched(rows.fetched_name):
                return Found()  # `dapa run` fetches it
            if far and not self.unreached:
                self._ask_data(rows)
            elif isinstance(rows, ConversationRows):
                load_conversations(rows)
            else:
                load_rows(rows, may_be_blank=may_be_blank)
        except DapaError as error:
            return Found(asked=False) if far and self.unreached else Found(problem=str(error))
        return Found()

    def _ask(self, model: Model) -> Found:
        names, small, template = self._files(model)
        _, file = repository_of(model)
        if file:
            return Found() if file in names else Found(problem=f"{model.id}: the repository has no such file")
        if adapter := small.get(_ADAPTER):
            return self._merged(adapter, model, names, template)
        refuse_unnamed(model, names)
        lost = _no_tokenizer(model.id, names)  # then a missing chat template is not the problem
        found = template or (None if lost else False)
        return Found(complete_config(small["config.json"], model.id), found, _unreadable(model, names) or lost)

    def _merged(
        self, adapter: Mapping[str, Any], model: Model, names: Collection[str], template: StoredTemplate | None
    ) -> Found:
        """The result for an adapter: its base model's, with the adapter's chat template if it has one."""
        if "adapter_model.safetensors" not in names:
            return Found(problem=unsafe_adapter(model.id))
        base = self.model(base_of(adapter, model.id))
        return replace(
            base,
            folder=None,
            template=template or base.template,
            problem=base.problem and bad_base(model.id, base.problem),
        )

    def _in_folder(self, folder: Path, model: Model) -> Found:
        """Look up a checkpoint on this machine. Raises DapaError if a file is missing, or the architecture unknown."""
        if gguf_file(folder):
            return Found()  # `dapa run` converts it
        names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
        if adapter := read_object(folder / _ADAPTER):
            return self._merged(adapter, model, names, template_in(folder))
        config = read_config(folder)
        if not model.allow_pickle:
            read_whole(folder)
        lost = _no_tokenizer(str(folder), names)
        whole = None if model.allow_pickle else folder
        return Found(config, template_in(folder) or (None if lost else False), lost, folder=whole)

    def _in_cache(self, model: Model) -> Found:
        """Look up a model in the hub's cache, because the hub is out of reach."""
        repository, file = repository_of(model)
        wanted = [file] if file else ["config.json", *weight_files(model)]
        try:
            folder = Path(
                snapshot_download(repository, revision=model.revision, allow_patterns=wanted, local_files_only=True)
            )
            if file:
                return Found(asked=(folder / file).is_file())
            refuse_unnamed(model, [found.name for found in folder.iterdir()])
            return self._in_folder(folder, model)
        except (*FAILURES, DapaError):
            return Found(asked=False)

    def _files(self, model: Model) -> tuple[list[str], dict[str, dict[str, Any]], StoredTemplate | None]:
        """The names of a repository's files, the content of its config files by name, and its chat template."""
        repository, _ = repository_of(model)
        try:
            info = self.api.model_info(repository, revision=model.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            names = [sibling.rfilename for sibling in info.siblings or []]
            small = {name: _object(name, _content(info, name)) for name in _SMALL if name in names}
            return names, small, stored_template(names, partial(_content, info))
        except FAILURES as error:
            raise explained(repository, model.revision, error) from error

    def _ask_data(self, rows: Rows) -> None:
        try:
            self.api.auth_check(rows.source, repo_type="dataset")
            self.api.dataset_info(rows.source, revision=rows.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        except FAILURES as error:
            raise explained(rows.source, rows.revision, error, "datasets/") from error


def _content(info: ModelInfo, name: str) -> str:
    url = hf_hub_url(info.id, name, revision=info.sha)
    response = get_session().get(url, headers=build_hf_headers(), follow_redirects=True)
    hf_raise_for_status(response)
    return str(response.text)


def _object(name: str, text: str) -> dict[str, Any]:
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError(f"{name} holds no object")
    return content


def on_the_hub(source: Model | Rows) -> bool:
    """Whether the config names a model or prompt set by its hub id."""
    if isinstance(source, Model):
        return source_of(source).remote
    return not is_here(source)


def is_read_here(rows: Rows) -> bool:
    """Whether a prompt set can be read now, without the network."""
    return not on_the_hub(rows) and not (rows.fetched_name and not is_fetched(rows.fetched_name))


def _no_tokenizer(name: str, names: Iterable[str]) -> str | None:
    """The problem of a checkpoint whose files include no tokenizer; None if they do."""
    return None if any(map(holds_tokenizer, names)) else f"{name}: {NO_TOKENIZER}"


def is_cached(rows: Rows) -> bool:
    """Whether the cache holds any file of a hub data set."""
    owner_name = rows.source.replace("/", "___")
    places = (
        Path(datasets.config.HF_DATASETS_CACHE) / owner_name,
        Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=rows.source, repo_type="dataset"),
    )
    return any(place.is_dir() for place in places)


def _unreadable(model: Model, names: Iterable[str]) -> str | None:
    """Why none of a repository's weight files can be used; None if they can."""
    weights = {name for name in names for pattern in weight_files(model) if fnmatchcase(name, pattern)}
    if weights:
        return None
    if any(fnmatchcase(name, "pytorch_model*.bin") for name in names):
        return (
            f"{named(model.id, model.revision)}: its weights are there as pytorch_model.bin only, which is pickled;"
            f" {UNPICKLE}"
        )
    return f"{named(model.id, model.revision)}: no weights there as model*.safetensors"
