"""A provider for the examples, in OpenAI's format: no key, no network. It calls the first tool it is offered, once."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def start(name: str = "the stub") -> str:
    """Starts it on a free port of this machine, in threads that end with the program. Gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = reply(request, name)
            finish = "tool_calls" if "tool_calls" in message else "stop"
            body = {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 0,
                "model": request["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            }
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def reply(request: dict[str, Any], name: str) -> dict[str, Any]:
    results = [message["content"] for message in request["messages"] if message["role"] == "tool"]
    if results:
        return {"role": "assistant", "content": "The tools say: " + "; ".join(results)}
    if not request.get("tools"):
        return {"role": "assistant", "content": f"Hello from {name}!"}
    tool = request["tools"][0]["function"]["name"]
    calls = [
        {"id": f"call-{city}", "type": "function", "function": {"name": tool, "arguments": json.dumps({"city": city})}}
        for city in ("Oslo", "Rome")
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}
