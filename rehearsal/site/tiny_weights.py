"""Random weights for the tiny model, for where weights are read: the same bytes every time."""

import json
import math
import random
import struct

from rehearsal.site.tiny_model import model_files


def tiny_weights(seed: int = 0) -> bytes:
    """A safetensors file with small random bfloat16 weights for the tiny model's config.

    Args:
        seed: Another one gives a model that answers otherwise.
    """
    config = json.loads(model_files()["config.json"])
    hidden, inner, vocabulary = (config[key] for key in ("hidden_size", "intermediate_size", "vocab_size"))
    attention = config["num_attention_heads"] * config["head_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (vocabulary, hidden),
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj"):
            shapes[f"{prefix}.self_attn.{name}.weight"] = (attention, hidden)
        shapes[f"{prefix}.self_attn.o_proj.weight"] = (hidden, attention)
        for name in ("gate_proj", "up_proj"):
            shapes[f"{prefix}.mlp.{name}.weight"] = (inner, hidden)
        shapes[f"{prefix}.mlp.down_proj.weight"] = (hidden, inner)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}.{name}.weight"] = (hidden,)
    header: dict[str, object] = {}
    data = bytearray()
    generator = random.Random(seed)  # noqa: S311 - weights, not secrets
    for name, shape in sorted(shapes.items()):
        start = len(data)
        for _ in range(math.prod(shape)):
            # bfloat16 is the upper half of a float32.
            data += struct.pack("<f", generator.gauss(0.0, 0.1))[2:]
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)
