"""The containers of SageMaker models: real vLLM on the CPU, told what the declared model tells its own.

The images themselves cannot be had here. What they make of their environment and of the folder with the
weights is done in their place (AWS' vLLM image makes `--flag` of each `SM_VLLM_FLAG`; DJL takes vLLM's
arguments as `OPTION_KEY`; Hugging Face's for Neuron devices has some of its own), and what is not known is
refused.
"""

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rehearsal.endpoints.processes import Server, ServerError, free_port
from rehearsal.site.images import ENGINE_ENVIRONMENT
from runtime.accelerators import CPU
from runtime.ops.progress import Progress
from runtime.ops.staged_weights import MANIFEST
from runtime.sagemaker.containers import MODEL_FOLDER
from runtime.sagemaker.hosted import HostedRevision

LOAD_S = 600.0
"""How long vLLM may take to load the tiny model, on a machine that has other work."""

_VLLM, _LMI, _NEURON = "SM_VLLM_", "OPTION_", "SM_ON_"
# What DJL and optimum-cli call otherwise than vLLM does; None is DJL's own affair, or a number of devices.
_OWN: Mapping[str, str | None] = {
    "OPTION_MAX_ROLLING_BATCH_SIZE": "max-num-seqs",
    "SERVING_JOB_QUEUE_SIZE": None,
    "TENSOR_PARALLEL_DEGREE": None,
    "SM_ON_BATCH_SIZE": "max-num-seqs",
    "SM_ON_SEQUENCE_LENGTH": "max-model-len",
    "SM_ON_TENSOR_PARALLEL_SIZE": None,
}
_PASSED_ON = ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HF_HUB_OFFLINE")


class Containers:
    """Starts the container of a model when it is asked for first; the same weights and arguments share one.

    Args:
        vllm: The program.
        s3: boto3's client of the AWS double's S3.
        folder: For weights and logs.
        progress: Where a start is shown.
    """

    def __init__(self, vllm: Path, s3: Any, folder: Path, progress: Progress) -> None:
        self._vllm = vllm
        self._s3 = s3
        self._folder = folder
        self._progress = progress
        self._running: dict[tuple[str, ...], tuple[str, Server]] = {}
        self._one_at_a_time = threading.Lock()

    def url(self, hosted: HostedRevision) -> str:
        """Where the container of a model answers OpenAI's API, without `/v1`.

        Raises:
            ServerError: It does not start, or cannot be rehearsed.
        """
        model = f"{hosted.model} {hosted.revision[:7]}"
        if len(hosted.containers) != 1:
            raise ServerError(f"model {model} is a pipeline of containers, of which a rehearsal has none")
        (container,) = hosted.containers
        weights = self._weights(model, container["ModelDataSource"]["S3DataSource"]["S3Uri"])
        flags = engine_flags(container["Environment"])
        key = (str(weights), *flags)
        with self._one_at_a_time:
            if key not in self._running:
                with self._progress.step(f"vLLM on the CPU for {model}, with its weights from S3"):
                    self._running[key] = self._start(weights, flags)
        return self._running[key][0]

    def end(self) -> None:
        """Ends all of them."""
        for _, server in self._running.values():
            server.end()
        self._running.clear()

    def _start(self, weights: Path, flags: Sequence[str]) -> tuple[str, Server]:
        port = free_port()
        temporary = self._folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        environment = {
            **{key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")},
            **CPU.environment,
            **ENGINE_ENVIRONMENT,
            **dict.fromkeys(_PASSED_ON, "1"),
            "OMP_NUM_THREADS": "1",
            # Below the folder that goes away with the rehearsal: a killed vLLM leaves sockets and files.
            # That of the sockets is a relative one, because the path of a socket has 107 bytes at most.
            "TMPDIR": str(temporary),
            "VLLM_RPC_BASE_PATH": temporary.name,
        }
        cpu = [
            f"--{key.replace('_', '-')}={value}"
            for key, value in CPU.engine_defaults.items()
            if value is not True
        ]
        cpu += [f"--{key.replace('_', '-')}" for key, value in CPU.engine_defaults.items() if value is True]
        command = [self._vllm, "serve", weights, "--host=127.0.0.1", f"--port={port}", *cpu, *flags]
        server = Server(command, environment, self._folder / f"vllm-{port}.log", self._folder)
        try:
            server.until_ready(port, "/health", LOAD_S)
        except BaseException:
            server.end()
            raise
        return f"http://127.0.0.1:{port}", server

    def _weights(self, model: str, uri: str) -> Path:
        """The folder below `s3://BUCKET/PREFIX/`, as SageMaker lays it down before the container starts."""
        place = urlsplit(uri)
        bucket, prefix = place.netloc, place.path.lstrip("/")
        found = self._s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        if not found:
            raise ServerError(f"model {model}: there is nothing below {uri}; stage it first")
        # The manifest names the revision, which weights that are alike need not have in common.
        files = [one for one in found if not one["Key"].endswith(MANIFEST)]
        listed = "".join(f"{one['Key'][len(prefix) :]} {one['ETag']}" for one in files)
        folder = self._folder / "weights" / hashlib.sha256(listed.encode()).hexdigest()[:16]
        for one in files:
            target = folder / one["Key"][len(prefix) :]
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self._s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read())
        return folder


def engine_flags(environment: Mapping[str, str]) -> tuple[str, ...]:
    """What the images make of their environment: the arguments of `vllm serve`, without the model.

    Raises:
        ServerError: One of the variables is not known here, or asks for more than one device.
    """
    flags: list[str] = []
    for name, value in sorted(environment.items()):
        if name in _PASSED_ON:
            continue
        if name in ("SM_VLLM_MODEL", "HF_MODEL_ID", "SM_ON_MODEL"):
            if value != MODEL_FOLDER:
                raise ServerError(f"{name} = {value}: a container without network loads from {MODEL_FOLDER}")
        elif name in _OWN:
            if flag := _OWN[name]:
                flags.append(f"--{flag}={value}")
        elif prefix := next((one for one in (_VLLM, _LMI, _NEURON) if name.startswith(one)), None):
            argument = name.removeprefix(prefix).lower()
            # Several devices are several machines' worth of memory, and the model is a tiny one.
            if argument != "tensor_parallel_size":
                flags.append(_flag(argument, value))
        else:
            raise ServerError(f"{name} = {value}: a rehearsal does not know what the container makes of it")
    return tuple(flags)


def _flag(name: str, value: str) -> str:
    option = name.replace("_", "-")
    return f"--{option}" if value in ("true", "") else f"--{option}={value}"
