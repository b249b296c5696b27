"""Asks a chat model behind an OpenAI-compatible server. Its replies are on disk at once, and not asked for again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from urllib.parse import urlsplit

from filelock import FileLock
from pydantic import Field, field_validator

from dapa_exp.base.digests import cache_root
from dapa_exp.base.errors import DapaError
from dapa_exp.base.packages import need_package
from dapa_exp.config.judge import JudgeNeeds, JudgeSettings
from dapa_exp.config.names import Count, Real
from dapa_exp.judges.contract import Verdict

if TYPE_CHECKING:
    import openai

OPENAI = "https://api.openai.com/v1"
PATIENCE = 16
logging.getLogger("openai").setLevel(logging.WARNING)  # it logs every attempt, and Hydra shows what is logged


class EndpointSettings(JudgeSettings):
    """A chat model behind an OpenAI-compatible server. Only `model` and `base_url` can change a verdict."""

    no_identity: ClassVar[frozenset[str]] = frozenset({"key", "concurrency", "attempts", "timeout"})
    model: str
    base_url: str | None = Field(description="null: OpenAI's own")
    key: str = Field(description="the environment variable that holds the key; never the key itself")
    concurrency: Count = Field(description="requests at a time")
    attempts: Count = Field(description="tries for one completion; after the last one its verdict is missing")
    timeout: Annotated[Real, Field(gt=0)] = Field(description="seconds that one attempt may take")

    def needs(self) -> JudgeNeeds:
        return JudgeNeeds(key=self.key if self.base_url is None else None, extra="chat", package="openai")

    def sends_to(self) -> str | None:
        return self.base_url or OPENAI

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, base_url: str | None) -> str | None:
        if base_url is not None and not base_url.startswith(("http://", "https://")):
            raise ValueError(f"is {base_url!r}; it should start with http:// or https://")
        try:
            _ = urlsplit(base_url or "").port
        except ValueError as error:
            raise ValueError(f"is {base_url!r}: {error}") from None
        return base_url

    @field_validator("key")
    @classmethod
    def _is_a_variable(cls, key: str) -> str:
        if not key.isidentifier():
            raise ValueError("must be the name of an environment variable that holds the key, never a key")
        return key


Parse = Callable[[str], Verdict | None]
"""Reads the verdict in a reply. Returns None if the reply has no valid verdict."""


class Endpoint:
    """A chat model behind a server, with a file of its earlier replies.

    The client tries again after errors that may be temporary: 429 (after the wait that the server asks for), timeouts,
    dropped connections, 5xx. Each kind of error that remains is logged once. `tokens` counts the tokens that this
    process has paid for, by "prompt" and "completion".
    """

    def __init__(self, settings: EndpointSettings) -> None:
        need_package("openai", f"judge {settings.name}", extra="chat")
        key = os.environ.get(settings.key)
        if key is None and settings.base_url is None:
            raise DapaError(f"judge {settings.name}: the environment variable {settings.key} is not set")
        if key is not None and not (key.isascii() and key.isprintable()):  # the client would quote it, and we log that
            raise DapaError(
                f"judge {settings.name}: the environment variable {settings.key} holds a line break, or another"
                " character that no key has"
            )
        self._settings = settings
        self._secret = key or "none"
        self._url = settings.base_url or OPENAI
        self._said_by = (settings.name, settings.version, settings.model, self._url)
        self._takes_temperature = True
        self._memory = Memory(cache_root() / "judges" / f"{settings.name}.jsonl")
        self.tokens = {"prompt": 0, "completion": 0}
        self._asked = hashlib.sha256(json.dumps(self._said_by).encode()).hexdigest()
        self._logged: set[str] = set()
        self._silence = 0
        """The number of requests in a row that the server did not answer."""

    @property
    def answered_by(self) -> str | None:
        """The model that the server names in its replies, those to earlier processes too. None if it names none."""
        return self._memory.models.get(self._asked)

    def ask(self, conversations: Sequence[list[Any]], parse: Parse) -> list[Verdict | None]:
        """The verdict on each conversation. None if no attempt got a valid verdict.

        After `PATIENCE` requests in a row without an answer, the other conversations are not sent: each of them would
        cost all attempts. Raises DapaError if the server refuses the key or does not know the model.
        """
        keys = [self._key_of(turns) for turns in conversations]
        missing = {
            key: turns for key, turns in zip(keys, conversations, strict=True) if key not in self._memory.replies
        }
        if missing:
            asyncio.run(self._ask_all(missing, parse))
        replies = [self._memory.replies.get(key) for key in keys]
        return [None if reply is None else parse(reply) for reply in replies]

    def _key_of(self, turns: list[Any]) -> str:
        return hashlib.sha256(json.dumps([*self._said_by, turns]).encode()).hexdigest()

    async def _ask_all(self, missing: dict[str, list[Any]], parse: Parse) -> None:
        settings = self._settings
        gate = asyncio.Semaphore(settings.concurrency)
        self._silence = 0
        async with self._client() as client:

            async def one(key: str, turns: list[Any]) -> None:
                async with gate:
                    reply = await self._reply(client, turns) if self._silence < PATIENCE else None
                if reply is None:
                    return
                if parse(reply) is not None:
                    self._memory.keep(key, reply, self._asked)
                else:
                    self._log_once("reply", "has no valid verdict")  # it is not shown, as it may quote the completion

            await asyncio.gather(*(one(key, turns) for key, turns in missing.items()))

    def _client(self) -> openai.AsyncOpenAI:
        """The client. A server on this machine is never asked through a proxy."""
        import openai

        settings = self._settings
        try:
            return openai.AsyncOpenAI(
                api_key=self._secret,
                base_url=self._url,
                timeout=settings.timeout,
                max_retries=settings.attempts - 1,
                http_client=openai.DefaultAsyncHttpxClient(trust_env=False) if is_loopback(self._url) else None,
            )
        except (ImportError, ValueError) as error:  # a proxy that the client cannot use
            raise DapaError(
                f"judge {settings.name}: {self._url}: {error} It is the environment that names the proxy (ALL_PROXY,"
                " HTTPS_PROXY); NO_PROXY names the hosts that are asked without one"
            ) from error

    async def _reply(self, client: openai.AsyncOpenAI, turns: list[Any]) -> str | None:
        """The text of a reply, which may be empty. None if there was no reply."""
        import openai
        from openai.types.chat import ChatCompletion

        greedy = self._takes_temperature
        try:
            reply = await client.chat.completions.create(
                model=self._settings.model, messages=turns, temperature=0 if greedy else openai.omit
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            said = f"{self._url}, model {self._settings.model}, key from {self._settings.key}"
            raise DapaError(f"judge {self._settings.name}: {said}: {error.message}") from error
        except (openai.OpenAIError, ValueError) as error:  # ValueError: a body that is not the JSON it says it is
            if greedy and isinstance(error, openai.BadRequestError) and "temperature" in str(error):
                self._takes_temperature = False  # some models allow no other temperature than their own
                self._log_once("temperature", "refused; the model's own temperature is used, so verdicts may vary")
                return await self._reply(client, turns)
            silent = (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError)
            self._silence += isinstance(error, silent)  # tried again before; timeouts are lost connections
            self._log_once(type(error).__name__, _said(error))
            return None
        self._silence = 0
        if not isinstance(reply, ChatCompletion) or not reply.choices:
            return ""
        self._refuse_another(reply.model)
        if reply.usage:
            self.tokens["prompt"] += reply.usage.prompt_tokens or 0
            self.tokens["completion"] += reply.usage.completion_tokens or 0
        message = reply.choices[0].message
        return _text(message.content if message else None)

    def _refuse_another(self, model: str | None) -> None:
        """Raises DapaError if a reply is of another model than was asked for, or than earlier replies were of."""
        if not model:
            return
        settings, name = self._settings, f"judge {self._settings.name}: {self._url}"
        if not _is_dated(model, settings.model):  # some servers take any name
            raise DapaError(
                f"{name}: answers with {model} where {settings.model} was asked for; if that is meant, name it as the"
                " judge's model"
            )
        if model != (before := self._memory.models.setdefault(self._asked, model)):
            raise DapaError(
                f"{name}: answers with {model} now, and has answered with {before} before; verdicts of two models are"
                " not mixed: name one of them as the judge's model"
            )

    def _log_once(self, kind: str, said: str) -> None:
        if kind not in self._logged:
            self._logged.add(kind)
            logging.getLogger(__name__).warning("judge %s: %s: %s: %.300s", self._settings.name, self._url, kind, said)


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_dated(model: str, asked: str) -> bool:
    """Whether a model is the one asked for: by its name, without folders, or by this name and a date or version."""
    name, wanted = (full.rpartition("/")[2].lower() for full in (model, asked))
    return name.startswith(wanted) and not name.removeprefix(wanted).strip("-:@.0123456789")


def _text(content: Any) -> str:
    """The text of a reply's content. Some servers send it in parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text") if isinstance(part, dict) else part) for part in content)
    return content if isinstance(content, str) else ""


def _said(error: Exception) -> str:
    """An error's message. For a lost connection, the cause is added, which the client's message leaves out."""
    import openai

    because = error.__cause__ if isinstance(error, openai.APIConnectionError) else None
    return f"{error} {because}" if because and str(because) else str(error)


class Memory:
    """Replies in a file of JSON lines that several processes may append to. A torn line is skipped, not cut off."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(f"{path}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.replies: dict[str, str] = {}
        self.models: dict[str, str] = {}
        """By a digest of judge and server: the model that the server says its replies are of."""
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
            try:
                kept = json.loads(line)
                self.replies[kept["key"]] = kept["reply"]
                if kept.get("model"):  # lines from before it was kept lack it
                    self.models[kept["asked"]] = kept["model"]
            except (ValueError, KeyError, TypeError):
                continue

    def keep(self, key: str, reply: str, asked: str) -> None:
        """Store a reply. On return, it is on the disk. `asked` is a digest of the judge and the server."""
        line = json.dumps({"key": key, "reply": reply, "asked": asked, "model": self.models.get(asked)})
        with self._lock, self._path.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{line}\n")  # a line that a kill tore ends here
            stream.flush()
            os.fsync(stream.fileno())
        self.replies[key] = reply
