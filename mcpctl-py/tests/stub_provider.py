"""A provider in OpenAI's format that needs no key and no network. What it does, the model's name says."""

from __future__ import annotations

import json
import select
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = ["Keys ", "stay ", "on ", "the ", "server", "."]


class Provider(ThreadingHTTPServer):
    """Listens on a free port of this machine, in a thread of its own."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.keys: list[str | None] = []
        self.requests: list[dict[str, Any]] = []
        self.arrived = threading.Event()
        self.client_left = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def forget(self) -> None:
        self.keys.clear()
        self.requests.clear()
        self.arrived.clear()
        self.client_left.clear()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        try:
            self.reply()
        except ConnectionError:
            self.server.client_left.set()
            self.close_connection = True

    def reply(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.keys.append(self.headers["authorization"])
        self.server.requests.append(body)
        self.server.arrived.set()
        model = body["model"]
        if model == "silent":
            self.wait_until_left()
        elif model == "refuses":
            self.answer(429, {"error": {"message": "slow down", "type": "rate_limit"}}, ("retry-after", "7"))
        elif model == "rubbish":
            self.answer(200, "not what was asked for")
        elif body.get("stream"):
            self.stream(model)
        else:
            self.answer(200, chunk({"role": "assistant", "content": "Hello!"}, "message"))

    def answer(self, status: int, body: Any, *headers: tuple[str, str]) -> None:
        data = json.dumps(body).encode() if isinstance(body, dict) else body.encode()
        self.send_response(status)
        for name, value in [("content-type", "application/json"), ("content-length", str(len(data))), *headers]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, model: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for word in WORDS:
            self.event(chunk({"content": word}, "delta"))
        if model == "breaks":
            self.event({"error": {"message": "the model fell over"}})
        elif model == "pauses":
            self.wait_until_left()
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, body: Any) -> None:
        self.wfile.write(f"data: {json.dumps(body)}\n\n".encode())

    def wait_until_left(self) -> None:
        self.wfile.flush()
        readable, _, _ = select.select([self.connection], [], [], 30)
        if readable and not self.connection.recv(1):
            self.server.client_left.set()
        self.close_connection = True


def chunk(content: dict[str, str], part: str) -> dict[str, Any]:
    return {"id": "1", "object": "chat.completion", "choices": [{"index": 0, part: content}]}
