"""A small OpenAI-compatible server on loopback, as good and as bad as real ones are."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


@dataclass
class Server:
    """What the server does with the next requests: `faults` one each, then `answer`. `asked` holds what it answered."""

    answer: Answer
    faults: list[Answer] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    busiest: int = 0
    url: str = ""
    _busy: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        with self._lock:
            fault = self.faults.pop(0) if self.faults else None
            if fault is None:
                self.asked.append(body)
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        try:
            (fault or self.answer)(handler, body)
        finally:
            with self._lock:
                self._busy -= 1


def says(content: Callable[[dict[str, Any]], str | None] | str) -> Answer:
    """A well-formed reply."""

    def answer(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        text = content if isinstance(content, str) else content(body)
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
        body_bytes(handler, 200, json.dumps({**reply, "choices": [choice], "usage": usage}).encode())

    return answer


def fails(status: int, **headers: str) -> Answer:
    """An error status, with headers such as Retry-After."""
    return lambda handler, _: body_bytes(handler, status, b'{"error": {"message": "no"}}', **headers)


def garbage(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    """A success that is no JSON."""
    body_bytes(handler, 200, b"<html>harmful refused safe")


def drops(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    """A connection that ends without a word."""
    handler.connection.close()


def hangs(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    """Longer than a patient client waits in a test."""
    time.sleep(1.0)


def body_bytes(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def serving(answer: Answer, *faults: Answer) -> Iterator[Server]:
    """A server for the duration of the block."""
    state = Server(answer, list(faults))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            state.handle(self, json.loads(self.rfile.read(length)))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    with Quiet(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield state
        finally:
            server.shutdown()
