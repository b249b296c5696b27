"""Reads what was mirrored to Weights & Biases, from the offline files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

BLOCK = 32768  # a .wandb file is a LevelDB log, after a header of seven bytes


def sent(folder: Path) -> list[Any]:
    """The messages in the run's one .wandb file."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    data = path.read_bytes()
    messages, payload, at = [], b"", 7
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        payload += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole message, or the last part of one
            messages.append(wandb_internal_pb2.Record.FromString(payload))  # type: ignore[attr-defined]
            payload = b""
    return messages


def steps_of(messages: list[Any]) -> list[dict[str, Any]]:
    """The history of a run, a dict for each step."""
    return [
        {"/".join(item.nested_key): json.loads(item.value_json) for item in message.history.item}
        for message in messages
        if message.HasField("history")
    ]


def summary_of(messages: list[Any]) -> dict[str, Any]:
    """The summary of a run."""
    summary: dict[str, Any] = {}
    for message in messages:
        summary |= {item.key: json.loads(item.value_json) for item in message.summary.update if item.key}
    return summary
