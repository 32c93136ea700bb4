"""What the masker finds, what it leaves, and that it gives nothing out where it is not sure."""

import logging
import re

import pytest
import tldextract
from hypothesis import example, given, settings
from hypothesis import strategies as st
from presidio_analyzer import pattern_recognizer

from runtime.sagemaker_gateway.capture.config import ENTITIES, CaptureConfig, Entity
from runtime.sagemaker_gateway.capture.masking import Masker, MaskingError

REGIONS = CaptureConfig.model_fields["phone_regions"].default
MASKER = Masker(ENTITIES, REGIONS)

# Published examples and test numbers, nobody's.
SAMPLES: dict[Entity, tuple[str, ...]] = {
    "EMAIL_ADDRESS": (
        "anna.maier@example.com",
        "o'neil+news@mail.example.co.uk",
        "anna@intranet.corp",
        "ä@müller.de",
    ),
    "PHONE_NUMBER": ("+49 30 901820", "(212) 555-0187", "+81 3-3224-5111", "01 44 50 60 70"),
    "CREDIT_CARD": ("4111 1111 1111 1111", "4111-1111-1111-1111", "5555555555554444", "378282246310005"),
    "IBAN_CODE": ("DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "FR1420041010050500013M02606"),
    "US_SSN": ("219-09-9999", "219 09 9998"),
    "IP_ADDRESS": ("192.168.17.4", "2001:db8::8a2e:370:7334"),
    "MAC_ADDRESS": ("00:1A:2B:3C:4D:5E",),
    "CRYPTO": ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
    "CREDENTIAL": (
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
        "sk-abcdefghijklmnop1234",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
        "password: hunter22",
    ),
    "LONG_NUMBER": ("123456789012", "000.000.000.001.000"),
}


@pytest.mark.parametrize(
    ("entity", "sample"), [(name, one) for name, all_ in SAMPLES.items() for one in all_]
)
def test_each_kind_is_masked_by_its_name(entity: Entity, sample: str) -> None:
    assert MASKER.text(f"It is {sample}, as she said.") == f"It is <{entity}>, as she said."


def test_every_kind_that_can_be_masked_has_a_sample_and_is_masked_by_itself() -> None:
    assert set(SAMPLES) == set(ENTITIES)
    assert CaptureConfig.model_fields["entities"].default == ENTITIES


def test_user_and_password_of_a_url_are_masked_and_its_host_is_not() -> None:
    assert MASKER.text("postgres://admin:hunter22@db:5432/x") == "postgres://<CREDENTIAL>@db:5432/x"


@pytest.mark.parametrize(
    "text",
    [
        "On 2026-11-22 at 05:53:14, on 22.11.2026 05:53 and 11/22/2026 05:53 it was 3.14159.",
        "1,234,567.89 EUR, HTTP 404 in 35 ms, 20,000 tokens, Python 3.13.1, line 12345678",
        "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3 is a commit",
        "def main(argv: list[str]) -> int: return 0  # TODO @anna",
        "Größe 42, C:\\temp\\new, 第3章 и 世界 🎉",
    ],
)
def test_what_is_no_personal_data_stays(text: str) -> None:
    assert MASKER.text(text) == text


def test_names_addresses_and_words_are_not_found() -> None:
    text = "Anna Maier, born on the first of May, lives at 5 Elm Street; her number is four one one one."
    assert MASKER.text(text) == text, "if this fails, docs/sagemaker-gateway.md says too little"


def test_only_what_is_named_is_masked() -> None:
    masker = Masker(("EMAIL_ADDRESS",), REGIONS)
    assert masker.text("a@example.com 4111 1111 1111 1111") == "<EMAIL_ADDRESS> 4111 1111 1111 1111"


# Traps


def test_trap_a_number_right_behind_an_escape_of_json_in_a_string_is_found() -> None:
    # A tool's arguments are JSON in a string: the `n` of `\\n` joins the digits to one word.
    assert (
        MASKER.text(r'{"text": "card:\n4111111111111111\u00a0x"}')
        == r'{"text": "card:\n<CREDIT_CARD>\u00a0x"}'
    )


def test_trap_an_address_with_an_encoded_at_sign_is_found() -> None:
    assert MASKER.text("?to=anna%40example.com&n=1") == "?<EMAIL_ADDRESS>&n=1"


def test_trap_digits_between_letters_that_are_no_latin_ones_are_found() -> None:
    assert MASKER.text("卡号4111111111111111谢谢") == "卡号<LONG_NUMBER>谢谢"


def test_trap_an_address_before_a_colon_is_found() -> None:
    assert MASKER.text("2001:db8::8a2e:370:7334: no route") == "<IP_ADDRESS>: no route"


def test_trap_a_mistyped_card_number_is_masked_though_its_checksum_is_wrong() -> None:
    assert MASKER.text("4111 1111 1111 1112") == "<LONG_NUMBER>"


def test_trap_no_suffix_list_is_asked_for_or_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("tldextract fetches its list from the internet")

    monkeypatch.setattr(tldextract, "extract", asked)
    monkeypatch.setattr(tldextract.TLDExtract, "__call__", asked)
    assert MASKER.text("anna@example.com") == "<EMAIL_ADDRESS>"


def test_trap_a_pattern_that_presidio_gives_up_is_no_unmasked_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern_recognizer, "REGEX_TIMEOUT_SECONDS", 1e-9)
    with pytest.raises(MaskingError, match="gave up a pattern"):
        MASKER.text("a b c anna@example.com " * 2000)


def test_trap_presidio_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        MASKER.text("anna@example.com 4111 1111 1111 1111")
    assert not caplog.records


def test_trap_a_picture_is_not_kept_because_nobody_looks_into_it() -> None:
    url = "data:image/png;base64," + "iVBORw0KGgo" * 40
    assert MASKER.document({"image_url": {"url": url}}) == {
        "image_url": {"url": "data:image/png;base64,<DATA>"}
    }
    wrapped = "\n".join(["QUJD" * 19] * 4)
    assert MASKER.text(f"file:\n{wrapped}") == "file:\n<DATA>"


# Documents


def test_a_document_is_masked_in_texts_keys_and_numbers_and_keeps_its_form() -> None:
    masked = MASKER.document(
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "I am a@example.com"}]},
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "call", "arguments": '{"n": "+49 30 901820"}'}}],
                },
            ],
            "a@example.com": 4111111111111111,
            "n": 2,
            "temperature": 0.7,
            "stream": True,
            "stop": None,
        }
    )
    assert masked == {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "I am <EMAIL_ADDRESS>"}]},
            {
                "role": "assistant",
                "tool_calls": [{"function": {"name": "call", "arguments": '{"n": "<PHONE_NUMBER>"}'}}],
            },
        ],
        "<EMAIL_ADDRESS>": "<CREDIT_CARD>",
        "n": 2,
        "temperature": 0.7,
        "stream": True,
        "stop": None,
    }


_SECRETS = [
    one for entity, all_ in SAMPLES.items() if entity not in {"EMAIL_ADDRESS", "CREDENTIAL"} for one in all_
]
_BORDERS = st.sampled_from([" ", "\n", ", ", ": ", "\t", "。", "(", '"', "\\n", "; ", "=", "/ "])
_WORDS = st.lists(st.sampled_from(["the", "card", "of", "42", "Größe", "第3章", "x"]), max_size=4).map(
    " ".join
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(_WORDS, _BORDERS, st.sampled_from(_SECRETS), _BORDERS), min_size=1, max_size=4))
@example([("", " ", "+49 30 901820", " "), ("", " ", "2001:db8::8a2e:370:7334", ": ")])
@example([("", "\\n", "4111 1111 1111 1111", "\\n"), ("x", "=", "4111-1111-1111-1111", '"')])
def test_no_run_of_digits_of_a_planted_secret_survives(parts: list[tuple[str, str, str, str]]) -> None:
    text = "".join("".join(part) for part in parts)
    masked = MASKER.text(text)
    for _, _, secret, _ in parts:
        assert secret not in masked
        for run in re.findall(r"\d{4,}", secret):
            assert run not in masked, (text, masked)
