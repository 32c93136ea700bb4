"""What the parts of a SageMaker stack do not allow each other: models, instances, endpoints, prices.

Paths start at the platform's settings. Each of these mistakes shows late otherwise: when an endpoint has
been starting for half an hour, at the first update, or on the bill.
"""

from collections.abc import Iterator, Sequence

from runtime.capacity import capacity_mistakes, memory_fit
from runtime.model import Mistake
from runtime.node_groups import instance_mistakes
from runtime.pricing import price_of
from runtime.quantities import GIB
from runtime.sagemaker.endpoints import EndpointSpec
from runtime.sagemaker.instances import CUDA_13_AMI, NEURON_AMI, facts_of, has_neuron
from runtime.sagemaker.models import EndpointModel

# What CreateEndpointConfig gives an instance without local disks where no size is said.
_DEFAULT_VOLUME_GIB = 30


def endpoint_mistakes(
    models: Sequence[EndpointModel], endpoints: Sequence[EndpointSpec], region: str
) -> Iterator[Mistake]:
    """Everything that spans models and endpoints.

    Args:
        models: All models of the stack.
        endpoints: All its endpoints.
        region: AWS region that they are in.
    """
    yield from _distinct(models, endpoints)
    yield from capacity_mistakes(models, (), None)
    for index, model in enumerate(models):
        yield from _compiled(("models", index, "maxSequences"), model)
    known = {one.name: one for one in models}
    for index, endpoint in enumerate(endpoints):
        yield from _variants(("endpoints", index), endpoint, known, region)
        yield from _components(("endpoints", index, "shared"), endpoint, known, region)
        yield from _one_answer(("endpoints", index), endpoint, known)
    yield from _routes(models, endpoints)


def _distinct(models: Sequence[EndpointModel], endpoints: Sequence[EndpointSpec]) -> Iterator[Mistake]:
    for key, names in (
        ("models", [one.name for one in models]),
        ("endpoints", [one.name for one in endpoints]),
    ):
        for index, name in enumerate(names):
            if (first := names.index(name)) != index:
                yield Mistake((key, index, "name"), f"is the name of {key}[{first}] too; give each its own")
    seen: dict[str, str] = {}
    for index, endpoint in enumerate(endpoints):
        for place, one in enumerate(endpoint.shared.components if endpoint.shared else ()):
            # Components are named in the account, not in their endpoint.
            here = f"endpoints[{index}].shared.components[{place}]"
            first_place = seen.setdefault(one.name, here)
            if first_place != here:
                yield Mistake(
                    ("endpoints", index, "shared", "components", place, "name"),
                    f"is the name of {first_place} too; give each its own",
                )


def _variants(
    path: tuple[str | int, ...], endpoint: EndpointSpec, models: dict[str, EndpointModel], region: str
) -> Iterator[Mistake]:
    for index, variant in enumerate(endpoint.variants):
        here = (*path, "variants", index)
        yield from _instances((*here, "instanceType"), variant.instance_type, region)
        model = models.get(variant.model)
        if model is None:
            yield _unknown((*here, "model"), models)
            continue
        facts = facts_of(variant.instance_type)
        if facts.accelerator != model.accelerator:
            yield _other_hardware((*here, "instanceType"), variant.instance_type, model)
        elif facts.gpus != model.devices:
            reason, fix = (
                (f"tensorParallel through {model.profile.cores} cores each", "change one of the two")
                if model.profile.is_neuron
                else (
                    "tensorParallel times engineArguments.data_parallel_size",
                    "change one of the three, or let models share the instance (shared)",
                )
            )
            yield Mistake(
                (*here, "instanceType"),
                f"has {facts.gpus} devices, and model {model.name} uses {model.devices} ({reason}), so some "
                f"are missing or paid for nothing; {fix}",
            )
        yield from _driver((*here, "ami"), variant.operating_system, variant.instance_type, model)
        yield from _volume((*here, "volumeGib"), variant.volume_gib, variant.instance_type, model)
        if endpoint.asynchronous is not None and model.is_pipeline:
            yield Mistake(
                (*path, "asynchronous"), f"does not go with the pipeline of model {model.name}; remove one"
            )


def _components(
    path: tuple[str | int, ...], endpoint: EndpointSpec, models: dict[str, EndpointModel], region: str
) -> Iterator[Mistake]:
    shared = endpoint.shared
    if shared is None:
        return
    yield from _instances((*path, "instanceType"), shared.instance_type, region)
    if has_neuron(shared.instance_type):
        yield Mistake(
            (*path, "instanceType"),
            "has Neuron devices, which one model has for itself here; host it as a variant (variants)",
        )
        return
    facts = facts_of(shared.instance_type)
    for index, component in enumerate(shared.components):
        here = (*path, "components", index)
        model = models.get(component.model)
        if model is None:
            yield _unknown((*here, "model"), models)
            continue
        yield from _driver((*path, "ami"), shared.operating_system, shared.instance_type, model)
        if facts.accelerator != model.accelerator:
            yield _other_hardware((*here, "model"), shared.instance_type, model)
        elif model.devices > facts.gpus:
            yield Mistake(
                (*here, "model"),
                f"uses {model.devices} devices in one copy, and {shared.instance_type} has {facts.gpus}; "
                "take a larger type or lower tensorParallel",
            )
        if component.memory_mib * 1024**2 > facts.allocatable_bytes:
            yield Mistake(
                (*here, "memoryMib"),
                f"is more than {shared.instance_type} has for containers, "
                f"{facts.allocatable_bytes // 1024**2}; lower it or take a larger type",
            )
        each = facts.gpus // model.devices if model.devices else facts.gpus or 1
        if each and component.copies.max > each * shared.instances.max:
            yield Mistake(
                (*here, "copies", "max"),
                f"does not fit: {shared.instances.max} instances hold {each * shared.instances.max} copies; "
                "lower it or raise instances.max",
            )
        if component.copies.min and not shared.instances.min:
            yield Mistake(
                (*path, "instances", "min"),
                f"is 0, and component {component.name} keeps {component.copies.min} copies; raise it, or set "
                "copies.min to 0",
            )
        if model.is_pipeline:
            yield Mistake(
                (*here, "model"), "has a pipeline, which components cannot have; host it as a variant"
            )


def _instances(path: tuple[str | int, ...], name: str, region: str) -> Iterator[Mistake]:
    facts = facts_of(name)
    yield from instance_mistakes(path, facts, region)
    if region in facts.regions and price_of(name, region).usd_per_hour is None:
        yield Mistake(
            path,
            f"has no list price in {region} here, so nobody could say what it costs; get one with `python -m "
            f"runtime.ops prices refresh --region {region}`, or take another type",
        )


def _driver(
    path: tuple[str | int, ...], ami: str | None, instance_type: str, model: EndpointModel
) -> Iterator[Mistake]:
    if has_neuron(instance_type) != (ami == NEURON_AMI):
        yield Mistake(
            path,
            f"has no driver for the devices of {instance_type}; remove it, for the newest that has one",
        )
    elif (
        model.needs_cuda_13
        and not model.profile.is_neuron
        and ami not in (None, CUDA_13_AMI)
        and not model.profile.is_cpu
    ):
        yield Mistake(
            path,
            f"has a driver older than CUDA 13, which the image of model {model.name} has, so it would not "
            f"pass its health check; set it to {CUDA_13_AMI} or remove it",
        )


def _compiled(path: tuple[str | int, ...], model: EndpointModel) -> Iterator[Mistake]:
    """A model on Neuron devices is compiled with room for all its requests at full length."""
    fit = memory_fit(model) if model.profile.is_neuron else None
    if fit is not None and 0 < fit.sequences < model.max_sequences:
        yield Mistake(
            path,
            f"is more than fit: beside the weights {model.accelerators_per_copy} x {model.accelerator} hold "
            f"{fit.sequences} requests of contextLength {model.context_length}; lower one of the two, and "
            "compile the model for them",
        )


def _volume(
    path: tuple[str | int, ...], volume_gib: int | None, instance_type: str, model: EndpointModel
) -> Iterator[Mistake]:
    facts, size = facts_of(instance_type), model.size
    if size is None:
        return
    weights = size.parameters_billion * 1e9 * size.bytes_per_parameter
    there = facts.nvme_gb * 1e9 if facts.nvme_gb else (volume_gib or _DEFAULT_VOLUME_GIB) * GIB
    if weights > there:
        yield Mistake(
            path,
            f"leaves {there / GIB:.0f} GiB for weights of {weights / GIB:.0f} GiB; raise it, up to 512, or "
            "take a type with larger local disks",
        )


def _one_answer(
    path: tuple[str | int, ...], endpoint: EndpointSpec, models: dict[str, EndpointModel]
) -> Iterator[Mistake]:
    served = {name: models[name].model_id for name in endpoint.hosted if name in models}
    if endpoint.variants and len(set(served.values())) > 1:
        yield Mistake(
            (*path, "variants"),
            f"answer as {' and '.join(dict.fromkeys(served.values()))}, and weights send a request to any of "
            "them; give their models one servedName, or make an endpoint for each",
        )


def _routes(models: Sequence[EndpointModel], endpoints: Sequence[EndpointSpec]) -> Iterator[Mistake]:
    at: dict[str, set[str]] = {}
    for endpoint in endpoints:
        for model in models:
            if model.name in endpoint.hosted:
                at.setdefault(model.model_id, set()).add(endpoint.name)
    told: set[str] = set()
    everywhere = {one.model for endpoint in endpoints for one in endpoint.variants} | {
        name for endpoint in endpoints for name in endpoint.hosted
    }
    for index, model in enumerate(models):
        if model.name not in everywhere:
            yield Mistake(
                ("models", index, "name"), "is hosted by no endpoint; name it in endpoints, or remove it"
            )
        elif len(at.get(model.model_id, ())) > 1 and model.model_id not in told:
            told.add(model.model_id)
            yield Mistake(
                ("models", index, "servedName"),
                f"{model.model_id} is what endpoints {' and '.join(sorted(at[model.model_id]))} answer as, "
                "and a request goes to one; give the models of each a servedName of their own",
            )


def _unknown(path: tuple[str | int, ...], models: dict[str, EndpointModel]) -> Mistake:
    return Mistake(path, f"is the name of no model; allowed: {', '.join(models)}; take one of them")


def _other_hardware(path: tuple[str | int, ...], instance_type: str, model: EndpointModel) -> Mistake:
    return Mistake(
        path,
        f"does not fit: {instance_type} has {facts_of(instance_type).accelerator}, and model {model.name} is "
        f"for {model.accelerator}; change one of them",
    )
