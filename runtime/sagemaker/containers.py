"""What containers are told: the engine's arguments as the environment variables of AWS' images."""

from collections.abc import Mapping
from typing import Final

from runtime.model import EngineArgument
from runtime.sagemaker.models import EndpointModel
from runtime.staging import is_staged, weights_prefix

# Where SageMaker puts what lies below `model_data_source`. A container that is told to load from there
# asks the hub for nothing, which it could not reach: it has no network.
MODEL_FOLDER: Final = "/opt/ml/model"
ADAPTERS: Final = "adapters"

# The images are told by variables with these prefixes. AWS' vLLM image: every `SM_VLLM_FLAG` is `--flag`.
# DJL: every key `option.key` of serving.properties is `OPTION_KEY`. Hugging Face's for Neuron devices: every
# `SM_ON_FLAG` is `--flag` of `optimum-cli neuron serve`, which hands on to vLLM what it does not know itself
# (github.com/huggingface/optimum-neuron, docker/vllm and optimum/commands/neuron/serve.py).
_VLLM, _LMI, _NEURON = "SM_VLLM_", "OPTION_", "SM_ON_"
_AT_ONCE: Final = (f"{_VLLM}MAX_NUM_SEQS", f"{_LMI}MAX_ROLLING_BATCH_SIZE", f"{_NEURON}BATCH_SIZE")
_SILENT: Final[Mapping[str, str]] = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}


def weights_uri(model: EndpointModel, bucket: str) -> str | None:
    """The folder of a model's weights, as `s3://…/`; None where they are in the image.

    SageMaker takes all objects below it as they are: with a slash at the end, and nothing compressed.
    """
    return f"s3://{bucket}/{weights_prefix(model)}" if is_staged(model) else None


def container_environment(model: EndpointModel) -> dict[str, str]:
    """Environment of a model's container, so that the keys mean what they mean under Ray."""
    if model.container == "lmi":
        return {**_SILENT, **_of_lmi(model)}
    if model.container == "neuron":
        return {**_SILENT, **_of_neuron(model)}
    return {**_SILENT, **_of_vllm(model)}


def told_name(environment: Mapping[str, str]) -> str:
    """Name by which clients ask for the model of a container with this environment; empty for none."""
    return next(
        (
            environment[key]
            for prefix in (_VLLM, _LMI, _NEURON)
            if (key := f"{prefix}SERVED_MODEL_NAME") in environment
        ),
        "",
    )


def told_at_once(environment: Mapping[str, str]) -> int | None:
    """Requests that a container with this environment works on at a time; None where it is not told."""
    return next((int(environment[key]) for key in _AT_ONCE if environment.get(key, "").isdigit()), None)


def _location(model: EndpointModel) -> str:
    return MODEL_FOLDER if is_staged(model) else model.source.path or MODEL_FOLDER


def _engine(model: EndpointModel) -> dict[str, EngineArgument]:
    """VLLM's arguments that both images take by its own names."""
    return {
        **model.profile.engine_defaults,
        **model.engine_arguments,
        "served_model_name": model.model_id,
        "max_model_len": model.context_length,
        **({"enable_lora": True} if model.adapters else {}),
    }


def _of_vllm(model: EndpointModel) -> dict[str, str]:
    arguments: dict[str, EngineArgument] = {
        **_engine(model),
        "model": _location(model),
        "max_num_seqs": model.max_sequences,
        # vLLM counts running requests too, and answers 503 beyond; unset, its queue has no end.
        "max_num_queued_reqs": model.max_sequences + model.queue_limit,
    }
    if not model.profile.is_cpu:
        arguments["tensor_parallel_size"] = model.tensor_parallel
    for adapter in model.adapters:
        arguments["lora_modules"] = f"{adapter.name}={_location(model)}/{ADAPTERS}/{adapter.name}"
    variables: dict[str, str] = {}
    for name, value in arguments.items():
        # `true` is the bare flag; no variable says the opposite, but vLLM has `--no-flag` for it.
        off = value is False
        variables[f"{_VLLM}{'NO_' if off else ''}{name.upper()}"] = "true" if off else _text(value)
    return variables


def _of_lmi(model: EndpointModel) -> dict[str, str]:
    variables = {f"{_LMI}{name.upper()}": _text(value) for name, value in _engine(model).items()}
    return {
        **variables,
        "HF_MODEL_ID": _location(model),
        "TENSOR_PARALLEL_DEGREE": str(model.tensor_parallel),
        "OPTION_MAX_ROLLING_BATCH_SIZE": str(model.max_sequences),
        # DJL has a queue of its own before vLLM's.
        "SERVING_JOB_QUEUE_SIZE": str(model.max_sequences + model.queue_limit),
    }


def _of_neuron(model: EndpointModel) -> dict[str, str]:
    variables: dict[str, str] = {}
    for name, value in model.engine_arguments.items():
        # A variable without a value is the bare flag.
        flag = f"NO_{name}" if value is False else name
        variables[f"{_NEURON}{flag.upper()}"] = "" if isinstance(value, bool) else str(value)
    return {
        **variables,
        f"{_NEURON}MODEL": _location(model),
        f"{_NEURON}SERVED_MODEL_NAME": model.model_id,
        # What the model was compiled for: `make stage` compares them with its neuron_config.json.
        f"{_NEURON}TENSOR_PARALLEL_SIZE": str(model.tensor_parallel),
        f"{_NEURON}BATCH_SIZE": str(model.max_sequences),
        f"{_NEURON}SEQUENCE_LENGTH": str(model.context_length),
    }


def _text(value: EngineArgument) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
