"""The card of a model on the hub names the model that it was tuned from."""

from __future__ import annotations

import pytest

from dapa_exp.base.progress import silent
from dapa_exp.config.models import Model
from dapa_exp.models.card import base_in_card
from tests.hub.look_alike import Hub


@pytest.mark.parametrize(
    ("card", "base"),
    [
        ("---\nbase_model: some/base\n---\n", "some/base"),
        ("---\nbase_model: [some/base]\n---\n", "some/base"),
        ("---\nbase_model: [some/base, some/other]\n---\n", None),
        ("---\nlicense: mit\n---\n", None),
        ("no front matter", None),
        (None, None),
    ],
)
def test_the_base_is_what_the_card_names_alone(hub: Hub, card: str | None, base: str | None) -> None:
    hub.add("some/teacher", {"config.json": b"{}", **({"README.md": card.encode()} if card else {})})
    assert base_in_card(Model(id="some/teacher", revision=None), silent) == base


def test_a_teacher_that_is_not_on_the_hub_has_no_card(hub: Hub) -> None:
    assert base_in_card(Model(id="some/nowhere", revision=None), silent) is None
