"""`python -m runtime.sagemaker_gateway [CONFIG]`: runs the adapter until SIGTERM, then drains it."""

import asyncio
import importlib.util
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import botocore.session  # pyright: ignore[reportMissingTypeStubs]

from runtime.sagemaker_gateway.config import CONFIG_FILE, AdapterConfig, ConfigError, read_config
from runtime.sagemaker_gateway.service import NoCredentialsError, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the adapter; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        config = read_config(Path(given[0]) if given else CONFIG_FILE)
        _check_masker(config)
        session: Any = botocore.session.Session()
        asyncio.run(_serve_until_told(config, session))
    except (ConfigError, NoCredentialsError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _check_masker(config: AdapterConfig) -> None:
    """Looks for what masks without importing it, which takes seconds."""
    if config.capture is not None and importlib.util.find_spec("presidio_analyzer") is None:
        raise ConfigError(
            "capture is configured, and presidio-analyzer, which masks, is not installed; fix: use the "
            "image spillway-sagemaker-gateway, install the extra sagemaker-gateway-capture, or remove capture"
        )


async def _serve_until_told(config: AdapterConfig, session: Any) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(config, session, stop)


if __name__ == "__main__":
    raise SystemExit(main())
