"""Writes a complete, tiny Llama that vLLM loads with dummy weights: no download, the same bytes every time.

The tokenizer is byte-level: one token per byte, written in the way GPT-2 writes bytes as printable
characters, so that every text can be encoded and every token sequence decoded.
"""

import json

MODEL_NAME = "spillway-tiny"
_SPECIAL = ("<unk>", "<s>", "</s>")
TINY_CONTEXT = 2048
"""Tokens of prompt and answer together that the tiny model takes."""
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def byte_characters() -> list[str]:
    """Returns the character that stands for each byte 0 to 255 in a byte-level vocabulary.

    Printable Latin-1 stands for itself; the others are moved to 256 and above (Radford et al., 2019,
    `bytes_to_unicode`), because a vocabulary may hold neither blanks nor control characters.
    """
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    characters: list[str] = []
    moved = 256
    for byte in range(256):
        if byte in printable:
            characters.append(chr(byte))
        else:
            characters.append(chr(moved))
            moved += 1
    return characters


def model_files() -> dict[str, bytes]:
    """Returns the files of the model folder by name."""
    vocabulary = {token: number for number, token in enumerate([*_SPECIAL, *sorted(byte_characters())])}
    tokenizer: dict[str, object] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for number, token in enumerate(_SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }
    tokenizer_config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": TINY_CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": _CHAT_TEMPLATE,
    }
    config: dict[str, object] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": TINY_CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
    }
    generation: dict[str, object] = {"bos_token_id": 1, "eos_token_id": 2}
    documents: dict[str, dict[str, object]] = {
        "config.json": config,
        "generation_config.json": generation,
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": tokenizer_config,
    }
    return {name: (json.dumps(document, indent=1) + "\n").encode() for name, document in documents.items()}
