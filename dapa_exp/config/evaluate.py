"""The config group `evaluate`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from dapa_exp.config.group import Group
from dapa_exp.config.names import Count, MetricName, Real, Whole


class Tasks(Group):
    """The tasks for lm-evaluation-harness."""

    names: list[str] = Field(description="tasks and groups of the harness, or of dapa_exp/evaluate/tasks")
    limit: Count | None = Field(description="documents for each task, also for each of a group; null: all")
    chat_template: bool = Field(description="format the questions with the chat template")


class Evaluate(Group):
    """What is measured on student, hybrid and teacher."""

    max_new_tokens: Count
    metrics: list[MetricName]
    perplexity_window: Count | None = Field(description="in tokens; null: the model's context length")
    perplexity_stride: Count = Field(description="tokens")
    perplexity_over: Literal["tokens", "windows"] = Field(
        default="tokens", description="what each counts once: `windows` is the mean of the windows' mean losses"
    )
    divergence_rows: Count = Field(description="prompts of each set that divergence and change_by_layer use")
    divergence_tokens: Count = Field(description="tokens of each answer over which KL is averaged")
    divergence_temperatures: Annotated[list[Annotated[Real, Field(gt=0)]], Field(min_length=1)]
    tasks: Tasks
    confirm: Annotated[Real, Field(gt=0, lt=0.5)] | None = Field(
        default=None, description="error rate of a test of the found set and its certificate on report rows; null: none"
    )
    random_repeats: Annotated[Whole, Field(ge=0)] = Field(
        description="random sets beside the found one, as a control; all if there are fewer"
    )

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, metrics: list[MetricName]) -> list[MetricName]:
        if twice := [name for place, name in enumerate(metrics) if name in metrics[:place]]:
            raise ValueError(f"{twice[0]} is named twice: the run would be another one than with it once")
        return metrics

    @model_validator(mode="after")
    def _stride_fits(self) -> Self:
        if self.perplexity_window is not None and self.perplexity_stride >= self.perplexity_window:
            raise ValueError(
                f"perplexity_stride {self.perplexity_stride} must be smaller than"
                f" perplexity_window {self.perplexity_window}: tokens would be left unscored"
            )
        return self
