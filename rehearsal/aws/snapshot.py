"""Keeps moto's state on disk, so that a double that is killed and started again forgets nothing.

moto has backends of plain objects. They are pickled after each call that may change something, before the
answer is sent: what was answered is on disk. A pickle of our own folder is read back, nothing else.
"""

# moto gives no types.
# pyright: basic, reportPrivateUsage=false, reportGeneralTypeIssues=false

import copyreg
import io
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from types import GeneratorType
from typing import Any

from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from moto.backends import get_backend
from moto.core.base_backend import BackendDict


def _written_key(key: Any) -> Any:
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return _private_key, (der,)


def _private_key(der: bytes) -> Any:
    return load_der_private_key(der, password=None)


class _Pickler(pickle.Pickler):
    """Takes what pickle refuses: locks, which nobody holds between two calls, keys of KMS, rests of lists.

    A rest is what a list still has that is asked for page by page; a double that was killed has none of it.
    By exact type: a `reducer_override` would be called for each of the many thousand objects of a save.
    """

    dispatch_table: Any = copyreg.dispatch_table | {
        type(threading.Lock()): lambda _: (threading.Lock, ()),
        type(threading.RLock()): lambda _: (threading.RLock, ()),
        GeneratorType: lambda _: (iter, ((),)),
        openssl.rsa.RSAPrivateKey: _written_key,
        openssl.ec.ECPrivateKey: _written_key,
    }


def save(file: Path, own: Any) -> None:
    """Writes everything that moto holds, and `own` with it, in place of what `file` held."""
    held = {
        backends.service_name: {account: dict(regions) for account, regions in backends.items()}
        for backends in BackendDict._instances  # pyright: ignore[reportPrivateUsage]
    }
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump((held, own))
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_bytes(buffer.getvalue())
    temporary.replace(file)


def load(file: Path, default: Callable[[], Any]) -> Any:
    """Gives moto back what it held, and returns what was kept with it.

    Args:
        file: As it was saved; need not be there.
        default: What to return where it is not.
    """
    if not file.exists():
        return default()
    held, own = pickle.loads(file.read_bytes())  # noqa: S301 - our own file, in the user's own folder
    for service, accounts in held.items():
        backends = get_backend(service)
        for account, regions in accounts.items():
            backends[account].update(regions)
    return own
