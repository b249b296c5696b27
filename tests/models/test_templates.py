"""Chat templates as people bring them: what a model is asked holds the whole conversation, whatever the day."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.config.schema import Config
from dapa_exp.engine.make import load_student
from dapa_exp.engine.plain import PlainEngine, encode, templated
from dapa_exp.models.load import LoadedModel, load_model
from dapa_exp.models.pair import open_pair
from dapa_exp.models.pair_templates import check_templates, template_date
from dapa_exp.models.templates import StoredTemplate, render, template_in
from dapa_exp.prompts.prompt import Message, Prompt, prompt
from dapa_exp.zoo import tokenizer as tokenizers
from tests.tiny import tiny_loaded
from tests.transplant.finished import config_of, sharded

PLAIN = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[answer]"
PARTS = (
    "{% for m in messages %}[{{ m['role'] }}]"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] | trim }}{% endif %}{% endfor %}"
    "{% endfor %}[answer]"
)
DATED = "{% if strftime_now is defined %}today is {{ strftime_now('%d %b %Y') }}. {% endif %}" + PLAIN
THINKS = (
    "\n"
    + PLAIN
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    + "{% else %}<think>\n{% endif %}"
)
TALK = [
    {"role": "user", "content": "  how do i bake\na cake? "},
    {"role": "assistant", "content": "<think>hm</think>with flour."},
    {"role": "user", "content": "a"},
]


def filled(template: object, turns: list[dict[str, str]]) -> str:
    tokenizer = tokenizers.make("llama")
    tokenizer.chat_template = template
    return render(tokenizer, turns)


@pytest.mark.parametrize("template", [PLAIN, PARTS])
def test_a_template_gets_the_form_of_content_that_it_renders(template: str) -> None:
    said = filled(template, TALK)
    assert said.startswith("[user]")
    assert "how do i bake\na cake?" in said
    assert "with flour." in said
    assert said.endswith("[user]a[answer]")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ messages[-1]['content'] }} a cake flour", "leaves out what the user's turn says"),
        (PLAIN.replace("{{ m['content'] }}", "{{ m['content'] | lower | replace('cake', 'pie') }}"), "leaves out what"),
        (
            PLAIN.replace("m['content'] }}", "m['content'] | replace('cake', 'pie') }}"),
            "does not render the text",
        ),
        (PLAIN.replace("m['content'] }}", "m['content'] + 1 }}"), "does not take its turns: .*str"),
        ("{{ raise_exception('no talks') }}", "does not take its turns: no talks"),
        ("{% for m in messages %}", "does not take its turns: Unexpected end of template"),
        ({"rag": PLAIN, "tool_use": PLAIN}, r"several chat templates \(rag, tool_use\) and none called default"),
        (DATED.replace("'%d %b %Y'", "date_format"), "computes today's date in a way"),
        ("{{ ['Hi', 'Hello'] | random }} " + PLAIN, "draws at random"),
    ],
)
def test_a_template_that_cannot_say_it_all_is_one_error(template: object, said: str) -> None:
    with pytest.raises(DapaError, match=said):
        filled(template, TALK)


def test_a_template_that_leaves_out_the_system_prompt_is_an_error() -> None:
    system = [{"role": "system", "content": "Be kind."}, *TALK]
    silent = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(DapaError, match="leaves out what the system's turn says"):
        filled(silent, system)
    assert "Be kind." in filled(PARTS, system)


def test_of_several_templates_the_default_is_used() -> None:
    assert filled({"default": PARTS, "tool_use": "x"}, TALK) == filled(PARTS, TALK)


def test_today_is_always_the_same_day() -> None:
    assert filled(DATED, TALK[:1]).startswith("today is 26 Jul 2024. [user]")
    assert filled(DATED.replace("'", '"'), TALK[:1]).startswith("today is 26 Jul 2024. [user]")


def test_thinking_is_switched_where_the_template_can() -> None:
    stored = StoredTemplate(THINKS)
    assert filled(stored.settled(None), TALK[:1]).endswith("[answer]<think>\n")
    assert filled(stored.settled(True), TALK[:1]) == filled(stored.settled(None), TALK[:1])
    off = filled(stored.settled(False), TALK[:1])
    assert off == filled(stored.settled(None), TALK[:1]).removesuffix("<think>\n") + "<think>\n\n</think>\n\n"
    assert StoredTemplate(PLAIN).settled(False) == PLAIN


def test_a_prompt_that_the_template_garbles_is_named() -> None:
    loaded = LoadedModel(tiny_loaded("llama", 1).model, tokenizers.make("llama"))
    loaded.tokenizer.chat_template = PARTS.replace("| trim", "| truncate(5, True, '')")
    assert "[user]hi[answer]" in templated(loaded.tokenizer, prompt("mine-1", "hi"))
    with pytest.raises(DapaError, match="prompt mine-2: the chat template does"):
        templated(loaded.tokenizer, Prompt("mine-2", (Message("user", "how do i bake a cake?"),)))


def test_turns_in_another_order_are_refused_but_a_system_prompt_may_stand_before_the_last() -> None:
    tokenizer = tokenizers.make("llama")
    tokenizer.chat_template = "{% for m in messages | reverse %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    with pytest.raises(DapaError, match="renders the turns in another order"):
        render(tokenizer, TALK)
    tokenizer.chat_template = (
        "{% for m in messages[1:] %}{% if loop.last %}{{ messages[0].content }} {% endif %}{{ m.content }}/{% endfor %}"
    )
    turns = [{"role": "system", "content": "be brief"}, *TALK]
    assert "be brief" in render(tokenizer, turns)


def written(folder: Path, template: object) -> Path:
    """A checkpoint with another chat template, where older transformers kept it."""
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}))
    return folder


def test_a_template_is_found_where_transformers_finds_it(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model", "llama", 1)
    jinja = (folder / "chat_template.jinja").read_text()
    assert template_in(folder) == StoredTemplate(jinja)
    written(folder, PLAIN)
    assert template_in(folder) == StoredTemplate(PLAIN)
    written(folder, [{"name": "default", "template": PARTS}, {"name": "rag", "template": PLAIN}])
    assert template_in(folder) == StoredTemplate({"default": PARTS, "rag": PLAIN})
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text(PLAIN)
    assert template_in(folder) == StoredTemplate({"rag": PLAIN})
    (folder / "chat_template.jinja").write_text(PARTS)
    assert template_in(folder) == StoredTemplate({"rag": PLAIN, "default": PARTS})


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return sharded(tmp_path / "teacher", "llama", 1), sharded(tmp_path / "student", "llama", 2)


def checked(config: Config) -> str | None:
    pair = open_pair(config)
    check_templates(config, pair)
    return template_date(config, pair)


def test_a_pair_is_refused_before_its_weights_are_read_where_a_template_does_not_do(
    folders: tuple[Path, Path],
) -> None:
    teacher, student = folders
    written(student, {"rag": PLAIN})
    with pytest.raises(DapaError, match=f"{student}: the tokenizer has several chat templates"):
        checked(config_of(teacher, student, "pair.chat_template=own"))
    assert checked(config_of(teacher, student, "pair.chat_template=teacher")) is None
    with pytest.raises(DapaError, match="student: the tokenizer has several chat templates"):
        load_model(student, config_of(teacher, student).runtime)


def test_the_day_is_recorded_where_a_template_asks_for_it(folders: tuple[Path, Path]) -> None:
    teacher, student = folders
    written(student, DATED)
    assert checked(config_of(teacher, student, "pair.chat_template=own")) == "2024-07-26"
    assert checked(config_of(teacher, student, "pair.chat_template=teacher")) is None


def test_a_system_prompt_that_a_template_does_not_take_is_said_at_once(folders: tuple[Path, Path]) -> None:
    teacher, student = folders
    written(teacher, "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system') }}{% endif %}" + PLAIN)
    with pytest.raises(DapaError, match=f"{teacher}: the chat template does not take its turns: No system"):
        checked(config_of(teacher, student, "dataset.system_prompt='Be kind.'"))
    assert checked(config_of(teacher, student)) is None


def test_thinking_is_switched_for_both_models_and_refused_where_neither_can(folders: tuple[Path, Path]) -> None:
    teacher, student = folders
    config = config_of(teacher, student, "pair.thinking=false", "pair.chat_template=own")
    with pytest.raises(DapaError, match=r"pair\.thinking=false: no chat template of the pair .* can switch thinking"):
        checked(config)
    written(student, THINKS)
    assert checked(config) is None
    loaded = load_model(student, config.runtime, thinking=config.pair.thinking)
    assert templated(loaded.tokenizer, prompt("a", "hi")).endswith("<think>\n\n</think>\n\n")
    assert templated(load_model(student, config.runtime).tokenizer, prompt("a", "hi")).endswith("<think>\n")
    bare = load_model(teacher, config.runtime, thinking=config.pair.thinking)
    assert "think" not in templated(bare.tokenizer, prompt("a", "hi"))


def test_a_base_student_ends_as_the_teacher_whose_template_it_has(folders: tuple[Path, Path]) -> None:
    """The teacher ends its turns by a token that the student's own config knows nothing of."""
    teacher, student = folders
    config = config_of(teacher, student, "pair.chat_template=teacher")
    asked = [prompt("a", "how do i bake a cake?")]
    loaded = load_model(student, config.runtime)
    (whole,) = PlainEngine(loaded, 1).generate_batch(asked, 12)
    inputs = encode(loaded, asked)
    output = loaded.model.generate(**inputs, do_sample=False, max_new_tokens=12)  # type: ignore[operator]
    said = output[0, inputs["input_ids"].shape[1] :].tolist()
    mark = next(token for token in said[3:] if token not in said[:3])
    (teacher / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, mark]}))
    (answer,) = load_student(config, open_pair(config)).generate_batch(asked, 12)
    assert answer.tokens == said.index(mark) + 1 < whole.tokens
    own = config_of(teacher, student, "pair.chat_template=own")
    assert load_student(own, open_pair(own)).generate_batch(asked, 12)[0] == whole


def test_a_teachers_end_is_found_by_its_mark_where_tokens_are_numbered_otherwise(folders: tuple[Path, Path]) -> None:
    teacher, student = folders
    file = teacher / "tokenizer.json"
    tokens = json.loads(file.read_text())
    numbers = tokens["model"]["vocab"]
    one, other = (token for token, number in numbers.items() if number in (400, 500))
    ours, theirs = numbers[one], numbers[other]
    numbers[one], numbers[other] = theirs, ours
    file.write_text(json.dumps(tokens))
    (teacher / "generation_config.json").write_text(json.dumps({"eos_token_id": theirs}))
    assert load_model(student, config_of(teacher, student).runtime, teacher).ends == {2, ours}


def test_the_mark_after_an_answer_in_the_template_ends_answers(folders: tuple[Path, Path]) -> None:
    _, student = folders
    (student / "generation_config.json").write_text('{"eos_token_id": 0}')
    vocabulary = tokenizers.make("llama").get_vocab()
    loaded = load_model(student, config_of(*folders).runtime)
    assert loaded.ends == {0, vocabulary["</s>"]}


def test_the_mark_after_an_answer_ends_answers_though_it_was_not_added_as_special(folders: tuple[Path, Path]) -> None:
    _, student = folders
    tokenizer = tokenizers.make("llama")
    tokenizer.add_tokens(["<|im_end|>"])
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}"
    tokenizer.save_pretrained(student)
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in load_model(student, config_of(*folders).runtime).ends
