"""A model of your own answers while the server, or the provider behind it, is down.

    MCPCTL_URL=http://127.0.0.1:3100 MCPCTL_TOKEN=… python examples/python/failover.py gpt

Stop the provider of `gpt`, and run it again; give `gpt` an `extraConfig.failoverLeaseSeconds`, run it while all is well,
stop the server too, and run it again.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import mcpctl
import stub

LEASES = Path(os.environ.get("LEASES", Path(tempfile.gettempdir()) / f"mcpctl-leases-{os.getuid()}" / "leases.json"))


def main() -> None:
    llm = sys.argv[1] if len(sys.argv) > 1 else "gpt"
    client = mcpctl.Client(os.environ.get("MCPCTL_URL", "http://127.0.0.1:3100"), os.environ.get("MCPCTL_TOKEN"))
    # In earnest, this is Ollama or vLLM on your machine.
    laptop = {"name": "laptop", "type": "ollama", "model": "small", "url": stub.start("the laptop"), "failover_for": [llm]}
    with mcpctl.FailoverRouter(client, [laptop], leases=LEASES) as router:
        try:
            answer = router.infer(llm, [{"role": "user", "content": "Hello?"}])
        except mcpctl.McpctlError as error:
            sys.exit(f"the server's own error: {error}\n({error.mcpctl_decision})")
        print(answer.value["choices"][0]["message"]["content"])
        print(f"from {answer.via or 'the server'}: {answer.decision}")


if __name__ == "__main__":
    main()
