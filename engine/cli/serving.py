"""The work of `walras serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engine.service.options import ServerOptions, read_config

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what its core logs on a taken port, our own line says better


def serve_until_told(config: Path | None, **said: Any) -> int:
    """Run the engine in this process until SIGTERM; its exit code. `said`: as in `server_options`."""
    from engine.service.server import run  # imports gRPC, which reads its verbosity then

    return run(server_options(config, **said))


def server_options(config: Path | None, **said: Any) -> ServerOptions:
    """What the command line says, by names of `ServerOptions`, above what the file says, above the defaults."""
    values: dict[str, Any] = read_config(config) if config is not None else {}
    return ServerOptions(**values | {name: value for name, value in said.items() if value is not None})
