"""An agent: a model, tools, and a loop between them. It holds a token, never a provider's key.

    pip install mcpctl
    python examples/python/agent.py                                  # the core embedded, and a stub for the model
    MCPCTL_URL=http://127.0.0.1:3100 MCPCTL_TOKEN=… python examples/python/agent.py gpt "Oslo or Rome?"
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import mcpctl
import stub

TURNS = 8
WARMTH = {"Oslo": 4, "Rome": 21}


def temperature(city: str) -> str:
    """How warm it is in a city, in °C."""
    return f"{city}: {WARMTH[city]} °C"


def described(tool: Callable[..., str]) -> dict[str, Any]:
    """A tool as the model is told of it. All our tools take strings."""
    names = tool.__code__.co_varnames[: tool.__code__.co_argcount]
    properties = {name: {"type": "string"} for name in names}
    parameters = {"type": "object", "properties": properties, "required": list(names)}
    return {
        "type": "function",
        "function": {"name": tool.__name__, "description": tool.__doc__, "parameters": parameters},
    }


def call(tools: dict[str, Callable[..., str]], wanted: dict[str, Any]) -> str:
    """What the tool says. A model that asks for nonsense is told so, and may try again."""
    try:
        return tools[wanted["name"]](**json.loads(wanted["arguments"]))
    except (KeyError, TypeError, ValueError) as fault:
        return f"error: {type(fault).__name__}: {fault}"


def run(llms: mcpctl.Client | mcpctl.Registry, llm: str, task: str, *tools: Callable[..., str]) -> str:
    """Lets the model use the tools until it answers."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": task}]
    by_name = {tool.__name__: tool for tool in tools}
    for _ in range(TURNS):
        answer = llms.infer(llm, messages, tools=[described(tool) for tool in tools])
        said = answer["choices"][0]["message"]
        messages.append(said)
        wanted = said.get("tool_calls") or []
        if not wanted:
            return str(said["content"])
        for each in wanted:
            result = call(by_name, each["function"])
            print(f"  {each['function']['name']}({each['function']['arguments']}) -> {result}")
            messages.append({"role": "tool", "tool_call_id": each["id"], "content": result})
    raise RuntimeError(f"no answer after {TURNS} turns")


def main() -> None:
    llm, task = (sys.argv[1:] + ["gpt", "Oslo or Rome?"][len(sys.argv) - 1 :])[:2]
    url = os.environ.get("MCPCTL_URL")
    if url:
        print(run(mcpctl.Client(url, os.environ.get("MCPCTL_TOKEN")), llm, task, temperature))
        return
    with mcpctl.Registry.open("memory://") as registry:
        registry.llms.create(llm, type="vllm", model="stub-1", url=stub.start())
        print(run(registry, llm, task, temperature))


if __name__ == "__main__":
    main()
