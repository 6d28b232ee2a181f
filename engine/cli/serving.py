"""The work of `walras serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engine.service.options import ServerOptions, read_config

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what its core logs on a taken port, our own line says better


def serve_until_told(
    listen: str | None, data_dir: Path | None, config: Path | None, dev: bool | None, security: dict[str, Any]
) -> int:
    """Run the engine in this process until SIGTERM; its exit code."""
    from engine.service.server import run  # imports gRPC, which reads its verbosity then

    return run(server_options(listen, data_dir, config, dev, security))


def server_options(
    listen: str | None,
    data_dir: Path | None,
    config: Path | None,
    dev: bool | None,
    security: dict[str, Any] | None = None,
) -> ServerOptions:
    """What the command line says, above what the file says, above the defaults."""
    said = {"listen": listen, "data_dir": data_dir, "dev": dev, **(security or {})}
    values: dict[str, Any] = read_config(config) if config is not None else {}
    return ServerOptions(**values | {name: value for name, value in said.items() if value is not None})
