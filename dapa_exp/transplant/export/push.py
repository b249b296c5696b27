"""Uploads an exported checkpoint to the hub, by the hub's own client."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from dapa_exp.models.hub import FAILURES, explained


def push(folder: Path, name: str) -> str:
    """Upload a checkpoint with its card to the repository `name`. A new repository is private. Returns its address.

    Raises DapaError where the hub refuses.
    """
    api = HfApi()
    try:
        address = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Aligned by dapa_exp")
    except FAILURES as error:
        raise explained(name, None, error) from error
    return str(address)
