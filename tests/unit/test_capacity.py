"""Capacity arithmetic: what is refused cannot run, and every message holds its numbers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.capacity import (
    NodePool,
    cache_bytes_per_token,
    capacity_mistakes,
    memory_fit,
    summary,
)
from runtime.model import ModelSize, ModelSpec
from runtime.quantities import GIB

# config.json of meta-llama/Llama-3.1-70B and Qwen/Qwen3-8B.
LLAMA_70B = {"parametersBillion": 70.6, "layers": 80, "keyValueHeads": 8, "headSize": 128}
QWEN3_8B = {"parametersBillion": 8.2, "layers": 36, "keyValueHeads": 8, "headSize": 128}


def model(**changes: Any) -> ModelSpec:
    base: dict[str, Any] = {
        "name": "llama",
        "source": {"path": "/models/llama"},
        "accelerator": "nvidia-h100",
        "worker": {"cpu": "8", "memory": "64Gi"},
    }
    return ModelSpec.model_validate({**base, **changes})


def pool(**changes: Any) -> NodePool:
    base = {"accelerator": "nvidia-h100", "nodes": 2, "devicesPerNode": 8, "cpu": "224", "memory": "2048Gi"}
    return NodePool.model_validate({**base, **changes})


def messages(
    *models: ModelSpec, pools: tuple[NodePool, ...] = (), quota: int | None = None
) -> list[tuple[tuple[str | int, ...], str]]:
    return [(mistake.path, mistake.message) for mistake in capacity_mistakes(models, pools, quota)]


def only(found: list[tuple[tuple[str | int, ...], str]]) -> tuple[tuple[str | int, ...], str]:
    assert len(found) == 1, found
    return found[0]


# --- memory


def test_a_token_of_llama_70b_takes_320_kib_of_cache() -> None:
    assert cache_bytes_per_token(ModelSize.model_validate(LLAMA_70B), 8) == 320 * 1024


def test_fewer_heads_than_devices_are_repeated_on_each() -> None:
    size = ModelSize.model_validate({**LLAMA_70B, "keyValueHeads": 2})
    assert cache_bytes_per_token(size, 8) == 4 * cache_bytes_per_token(size, 2)


def test_latent_attention_is_one_vector_per_layer_and_device() -> None:
    # DeepSeek-V3: 61 layers, kv_lora_rank 512 + qk_rope_head_dim 64, bf16.
    size = ModelSize.model_validate(
        {"parametersBillion": 671, "layers": 61, "keyValueHeads": 1, "headSize": 288}
    )
    assert cache_bytes_per_token(size, 1) == 61 * 576 * 2


def test_weights_that_do_not_fit_are_refused_with_the_devices_that_are_needed() -> None:
    path, message = only(messages(model(size=LLAMA_70B)))
    assert path == ("models", 0, "size")
    assert "the weights take 131.5 GiB" in message
    assert "vLLM may use 73.6 GiB of 1 x nvidia-h100 (80 GiB each)" in message
    assert "at least 2 devices" in message
    assert messages(model(size=LLAMA_70B, tensorParallel=2)) == []


def test_one_request_of_full_length_must_fit_beside_the_weights() -> None:
    path, message = only(messages(model(size=LLAMA_70B, tensorParallel=2, contextLength=131072)))
    assert path == ("models", 0, "size")
    assert "one request of contextLength 131072 takes 40.0 GiB" in message
    assert "the weights leave 15.7 GiB" in message
    assert "lower contextLength to 51" in message
    assert messages(model(size=LLAMA_70B, tensorParallel=2, contextLength=51_000)) == []


def test_the_utilization_of_the_engine_arguments_counts() -> None:
    narrow = model(size=QWEN3_8B, engineArguments={"gpu_memory_utilization": 0.15})
    assert "vLLM may use 12.0 GiB" in only(messages(narrow))[1]
    assert messages(model(size=QWEN3_8B)) == []


def test_a_pipeline_divides_weights_and_its_fullest_stage_decides() -> None:
    even = memory_fit(model(size=LLAMA_70B, tensorParallel=2, pipelineParallel=2))
    uneven = memory_fit(model(size=LLAMA_70B, tensorParallel=2, pipelineParallel=3))
    assert even is not None
    assert uneven is not None
    assert even.usable == pytest.approx(4 * 80 * GIB * 0.92)
    assert even.sequence == 4096 * 320 * 1024
    assert uneven.sequence == pytest.approx(even.sequence * 81 / 80)


def test_on_cpu_weights_and_cache_must_fit_the_pods_memory() -> None:
    small = {"parametersBillion": 0.6, "layers": 28, "keyValueHeads": 8, "headSize": 128}
    tight = model(accelerator="cpu", size=small, worker={"cpu": "2", "memory": "2Gi"})
    path, message = only(messages(tight))
    assert path == ("models", 0, "size")
    assert "weights of 1.1 GiB and 1.0 GiB of KV cache do not fit worker.memory 2Gi" in message
    long = model(accelerator="cpu", size=small, contextLength=16384, worker={"cpu": "2", "memory": "8Gi"})
    assert "lower contextLength to 9362" in only(messages(long))[1]


def test_a_preview_says_how_many_requests_of_full_length_fit() -> None:
    line = summary(model(size=QWEN3_8B, contextLength=32768))
    assert line is not None
    assert "weights 15.3 GiB of 73.6 GiB on 1 x nvidia-h100" in line
    assert "58.3 GiB of KV cache hold 12 requests of 32768 tokens" in line
    assert summary(model()) is None


@given(
    parameters=st.floats(0.1, 2000),
    tensor_parallel=st.sampled_from([1, 2, 4, 8]),
    context=st.integers(16, 1_000_000),
)
def test_more_devices_or_a_shorter_context_never_make_a_model_not_fit(
    parameters: float, tensor_parallel: int, context: int
) -> None:
    size = {**LLAMA_70B, "parametersBillion": parameters}
    fit = memory_fit(model(size=size, tensorParallel=tensor_parallel, contextLength=context))
    wider = memory_fit(model(size=size, tensorParallel=2 * tensor_parallel, contextLength=context))
    shorter = memory_fit(
        model(size=size, tensorParallel=tensor_parallel, contextLength=max(16, context // 2))
    )
    assert fit is not None
    assert wider is not None
    assert shorter is not None
    assert fit.sequences <= wider.sequences
    assert fit.sequences <= shorter.sequences
    assert fit.weights + fit.cache == pytest.approx(fit.usable)


# --- quota and nodes


def test_a_quota_below_the_most_that_models_hold_is_refused_because_an_upgrade_would_wait_for_ever() -> None:
    two = model(replicas={"min": 1, "max": 2}, tensorParallel=2)
    path, message = only(messages(two, quota=7))
    assert path == ("quota", "accelerators")
    assert "up to 8 nvidia.com/gpu (llama: 2 copies and 2 more during an upgrade x 2)" in message
    assert "raise it to 8" in message
    assert messages(two, quota=8) == []
    assert messages(two.model_copy(update={"upgrade": "None"}), quota=4) == []


def test_kinds_of_one_vendor_share_a_quota_because_they_share_the_resource() -> None:
    small = model(name="small", accelerator="nvidia-l4")
    assert "up to 4 nvidia.com/gpu" in only(messages(model(), small, quota=3))[1]


def test_cpu_models_need_no_accelerator_quota() -> None:
    assert messages(model(accelerator="cpu"), quota=0) == []


def test_a_model_without_nodes_of_its_kind_is_refused_and_the_kinds_there_are_named() -> None:
    path, message = only(messages(model(accelerator="nvidia-l4"), pools=(pool(),)))
    assert path == ("models", 0, "accelerator")
    assert "no nodes for model llama, only nvidia-h100" in message


def test_devices_beyond_those_of_the_nodes_are_refused_with_both_numbers() -> None:
    spec = model(tensorParallel=8, replicas={"min": 1, "max": 2})
    path, message = only(messages(spec, pools=(pool(),)))
    assert path == ("capacity",)
    assert "up to 32 nvidia-h100" in message
    assert "there are 16 (2 nodes with 8)" in message
    assert messages(spec, pools=(pool(nodes=4),)) == []


def test_tensor_parallel_must_fit_one_node() -> None:
    path, message = only(messages(model(tensorParallel=8), pools=(pool(nodes=9, devicesPerNode=4),)))
    assert path == ("models", 0)
    assert "takes 8 devices, 8 CPU and 64.0 GiB" in message
    assert "the nodes with nvidia-h100 have 4 devices, 224 CPU and 2048.0 GiB" in message


def test_a_pipeline_needs_a_pod_for_each_stage() -> None:
    spec = model(tensorParallel=8, pipelineParallel=2, upgrade="None")
    assert messages(spec, pools=(pool(nodes=2),)) == []
    assert "up to 16 nvidia-h100" in only(messages(spec, pools=(pool(nodes=1),)))[1]


def test_cpu_and_memory_of_all_pods_of_a_node_are_added_up() -> None:
    spec = model(replicas={"min": 8, "max": 8}, upgrade="None", worker={"cpu": "30", "memory": "64Gi"})
    path, message = only(messages(spec, pools=(pool(nodes=1),)))
    assert path == ("capacity",)
    assert "of 8 pods on nvidia-h100 at most" in message
    assert "first-fit decreasing places 7 on 1 nodes with 8" in message


def test_devices_left_over_on_several_nodes_do_not_add_up_for_one_pod() -> None:
    spec = model(tensorParallel=4, replicas={"min": 2, "max": 2}, upgrade="None")
    other = model(name="other", tensorParallel=2, replicas={"min": 2, "max": 2}, upgrade="None")
    assert (
        "places 3"
        in only(
            messages(
                spec, other, pools=(pool(devicesPerNode=6, nodes=1), pool(devicesPerNode=6, nodes=1, cpu="8"))
            )
        )[1]
    )


def test_cpu_models_are_packed_by_cpu_and_memory_alone() -> None:
    nodes = pool(accelerator="cpu", devicesPerNode=0, nodes=1, cpu="16", memory="256Gi")
    spec = model(accelerator="cpu", upgrade="None", replicas={"min": 2, "max": 2})
    assert messages(spec, pools=(nodes,)) == []
    assert (
        "of 4 pods on cpu at most"
        in only(messages(spec.model_copy(update={"upgrade": "NewCluster"}), pools=(nodes,)))[1]
    )


def test_mistakes_of_several_kinds_are_found_together() -> None:
    found = messages(
        model(size=LLAMA_70B, tensorParallel=1),
        model(name="b", accelerator="nvidia-l4"),
        pools=(pool(nodes=1),),
        quota=1,
    )
    assert [path for path, _ in found] == [
        ("models", 0, "size"),
        ("quota", "accelerators"),
        ("models", 1, "accelerator"),
    ]


@given(
    copies=st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(1, 4)), min_size=1, max_size=5),
    nodes=st.integers(1, 6),
)
def test_powers_of_two_pack_exactly_when_their_sum_fits(copies: list[tuple[int, int]], nodes: int) -> None:
    models = [
        model(
            name=f"m{index}",
            tensorParallel=tp,
            replicas={"min": count, "max": count},
            upgrade="None",
            worker={"cpu": "1", "memory": "1Gi"},
        )
        for index, (tp, count) in enumerate(copies)
    ]
    fits = sum(tp * count for tp, count in copies) <= 8 * nodes
    assert (messages(*models, pools=(pool(nodes=nodes),)) == []) is fits


@pytest.mark.parametrize(("accelerator", "devices"), [("cpu", 1), ("nvidia-h100", 0)])
def test_only_cpu_nodes_have_no_devices(accelerator: str, devices: int) -> None:
    with pytest.raises(ValueError, match="give 0 for cpu"):
        pool(accelerator=accelerator, devicesPerNode=devices)
