"""Sizes of Fargate tasks, and what of a task's memory the gateway's two processes may hold.

Source of the sizes: ECS developer guide, "Amazon ECS task definition parameters for Fargate", task size.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

Cpu = Literal[256, 512, 1024, 2048, 4096, 8192, 16384]
Architecture = Literal["X86_64", "ARM64"]

MEMORY_MIB: Final[Mapping[int, tuple[int, ...]]] = MappingProxyType(
    {
        256: (512, 1024, 2048),
        512: tuple(range(1024, 4096 + 1, 1024)),
        1024: tuple(range(2048, 8192 + 1, 1024)),
        2048: tuple(range(4096, 16384 + 1, 1024)),
        4096: tuple(range(8192, 30720 + 1, 1024)),
        8192: tuple(range(16384, 61440 + 1, 4096)),
        16384: tuple(range(32768, 122880 + 1, 8192)),
    }
)
"""CPU units of a task to the memory that it may have, in MiB. 1,024 units are a virtual CPU."""

ENVOY_MIB: Final = 2048
"""Envoy's part: the worst body of 25 MiB takes 65 times its size (GatewayConfig.max_request_bytes)."""

# Python, its libraries and the buffers of 512 requests. Of 100 plain ones each took 100 KiB, where client,
# adapter, double and engine were one process.
_ADAPTER_MIB: Final = 256
# What masks is a process of 130 MiB; beside it are what waits for it, what waits for S3, and S3's client.
_CAPTURE_MIB: Final = 256

CAPTURE_HELD_BYTES: Final = 32 * 1024 * 1024
"""Records that may wait for the masker in a task, and as many for S3, in bytes."""

# A body is there as the bytes that came and as those that are sent.
_TIMES_HELD: Final = 2

READING_MIB: Final = 704
"""For the one body that is being read: its keys and its prompts are objects too, up to 28 times its size."""

_MIB: Final = 1024 * 1024


def held_bytes(memory_mib: int, *, captures: bool = False) -> int:
    """Request bodies that the adapter of a task may hold at a time, in bytes; 0 where there is no room.

    Args:
        memory_mib: The task's memory.
        captures: Whether the adapter keeps masked copies too.
    """
    return max(0, memory_mib - _own_mib(captures=captures)) // _TIMES_HELD * _MIB


def least_memory_mib(held: int, *, captures: bool = False) -> int:
    """Memory in MiB of a task whose adapter may hold so many bytes of bodies."""
    return _own_mib(captures=captures) + -(-_TIMES_HELD * held // _MIB)


def _own_mib(*, captures: bool) -> int:
    return ENVOY_MIB + _ADAPTER_MIB + READING_MIB + (_CAPTURE_MIB if captures else 0)
