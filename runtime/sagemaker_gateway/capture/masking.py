"""Masks personal data in text by patterns and checksums: presidio's recognizers, and a few of our own.

Patterns find what has a form. They find no names, no street addresses, no dates of birth, nothing that is
only said in words (docs/sagemaker-gateway.md lists it).
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import regex
from presidio_analyzer import LocalRecognizer, Pattern, PatternRecognizer, RecognizerResult
from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer,
    CryptoRecognizer,
    EmailRecognizer,
    IbanRecognizer,
    IpRecognizer,
    MacAddressRecognizer,
    PhoneRecognizer,
    UsSsnRecognizer,
)

from runtime.sagemaker_gateway.capture.config import Entity

DATA = "<DATA>"
"""What stands for long base64, such as a picture: no pattern sees what is in it."""

# Weaker than any of presidio's, so that its own name stands where one of those found the number too.
_WEAKEST = 0.01
_STRONG = 0.9
# Fewer digits are years, prices and codes of countries.
_LONG = 9
# What a model of a language would say of the text; patterns ask for nothing of it.
_NO_LANGUAGE: Any = None
_BASE64 = r"[A-Za-z0-9+/_=-]"
_DATA = re.compile(rf"{_BASE64}{{200,}}|(?:{_BASE64}{{60,}}\s+){{2,}}{_BASE64}*")
# JSON in a string, as a tool's arguments are: `\n4111…` has no border of a word before the 4.
_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}|\\.", re.DOTALL)
_DATE = r"(?!\d{4}-\d\d-\d\d(?!\d)|\d\d?([./])\d\d?\1\d{4}(?!\d))"
# With what stands between digits: `(212) 555-0187 12` is no telephone number for who looks for one.
_NUMBER = rf"(?<!\d){_DATE}\d(?:[ \u00a0\u2009\u202f\u2010-\u2013./()-]{{0,2}}\d){{{_LONG - 1},}}"
# presidio's patterns do not find one that a colon follows.
_GROUP = "[0-9A-Fa-f]{1,4}"
_IPV6 = (
    r"(?<![\w:])(?=[0-9A-Fa-f:]*\d)"
    rf"(?:(?:{_GROUP}:){{1,7}}:(?:{_GROUP}(?::{_GROUP})*)?|(?:{_GROUP}:){{7}}{_GROUP})(?!\w)"
)
_CREDENTIALS = {
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    "user and password of a URL": r"(?<=://)[^\s/?#\"'<>@:]*:[^\s/?#\"'<>]+(?=@)",
    "AWS key id": r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",
    # Upper case, lower case and a digit: no hash in hexadecimal digits has all of them.
    "AWS secret key": r"(?<![A-Za-z0-9+/=])(?=[^A-Z]{0,39}[A-Z])(?=[^a-z]{0,39}[a-z])(?=[^0-9]{0,39}[0-9])"
    r"[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=])",
    "JSON web token": r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
    "key of a service": r"(?<!\w)(?:sk-|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|hf_|AIza)[\w-]{16,}",
    "bearer": r"(?i)(?<=\bbearer )[\w.~+/=-]{16,}",
    "named": r"(?i)(?<![a-z])(?:password|passwd|passwort|pwd|api[_-]?key|access[_-]?token|client[_-]?secret)"
    r"(?:\\?[\"'])?\s*[:=]\s*(?:\\?[\"'])?[^\s\"'\\,;]{4,}",
}


class MaskingError(Exception):
    """A text could not be masked for sure. The message holds nothing of it."""


class _Strict(logging.Filter):
    """presidio skips a pattern that takes too long, and says so in its log alone: here that ends the record.

    It also keeps everything that presidio would log out of any log.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            raise MaskingError("presidio gave up a pattern")
        return False


logging.getLogger("presidio-analyzer").addFilter(_Strict())


class Masker:
    """Masks texts and whole JSON documents."""

    def __init__(self, entities: Sequence[Entity], phone_regions: Sequence[str]) -> None:
        """Makes one.

        Args:
            entities: What to mask.
            phone_regions: Countries whose telephone numbers are known without a country code.
        """
        named = dict.fromkeys(entities)
        self._recognizers = [made for entity in named for made in _recognizers(entity, phone_regions)]

    def text(self, text: str) -> str:
        """The text with `<ENTITY>` for whatever was found.

        Raises:
            MaskingError: A pattern was given up.
        """
        text = _DATA.sub(DATA, text)
        found = self._found(text)
        # As long as the text, so that what is found in it is at the same place.
        plain = _ESCAPE.sub(lambda escape: " " * len(escape[0]), text.replace("%40", "__@"))
        if plain != text:
            found += self._found(plain)
        masked: list[str] = []
        at = 0
        for start, end, entity in _united(found):
            masked += [text[at:start], f"<{entity}>"]
            at = end
        return "".join([*masked, text[at:]])

    def document(self, value: object) -> object:
        """A JSON document with all its texts, keys and long numbers masked.

        Raises:
            MaskingError: A pattern was given up.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            fields = cast("Mapping[str, object]", value)
            return {self.text(key): self.document(field) for key, field in fields.items()}
        if isinstance(value, list):
            return [self.document(item) for item in cast("list[object]", value)]
        if isinstance(value, int | float) and not isinstance(value, bool):
            masked = self.text(str(value))
            return value if masked == str(value) else masked
        return value

    def _found(self, text: str) -> list[RecognizerResult]:
        return [
            result
            for recognizer in self._recognizers
            for result in recognizer.analyze(text, recognizer.supported_entities, _NO_LANGUAGE)
        ]


def _united(found: Sequence[RecognizerResult]) -> list[tuple[int, int, str]]:
    """Places that do not overlap, in order; each has the name of the surest that is in it."""
    united: list[tuple[int, int, str, float]] = []
    for result in sorted(found, key=lambda one: (one.start, -one.end)):
        if united and result.start < united[-1][1]:
            start, end, entity, score = united[-1]
            if result.score > score:
                entity, score = result.entity_type, result.score
            united[-1] = (start, max(end, result.end), entity, score)
        else:
            united.append((result.start, result.end, result.entity_type, result.score))
    return [(start, end, entity) for start, end, entity, _ in united]


def _patterns(entity: Entity, patterns: Mapping[str, str], score: float) -> PatternRecognizer:
    made = [Pattern(name, pattern, score) for name, pattern in patterns.items()]
    # Without presidio's IGNORECASE: upper and lower case tell a key from a hash.
    return PatternRecognizer(entity, patterns=made, global_regex_flags=regex.DOTALL)


def _recognizers(entity: Entity, phone_regions: Sequence[str]) -> list[LocalRecognizer]:
    match entity:
        case "EMAIL_ADDRESS":
            # presidio's own recognizer asks for a public suffix: it would let pass anna@intranet.corp, and it
            # fetches the list of suffixes from the internet when it first needs it.
            return [PatternRecognizer(entity, patterns=EmailRecognizer.PATTERNS)]
        case "PHONE_NUMBER":
            return [PhoneRecognizer(supported_regions=tuple(phone_regions))]
        case "CREDIT_CARD":
            return [CreditCardRecognizer()]
        case "IBAN_CODE":
            return [IbanRecognizer()]
        case "US_SSN":
            return [UsSsnRecognizer()]
        case "IP_ADDRESS":
            return [IpRecognizer(), _patterns(entity, {"before a colon": _IPV6}, _STRONG)]
        case "MAC_ADDRESS":
            return [MacAddressRecognizer()]
        case "CRYPTO":
            return [CryptoRecognizer()]
        case "CREDENTIAL":
            return [_patterns(entity, _CREDENTIALS, _STRONG)]
        case "LONG_NUMBER":
            return [_patterns(entity, {"digits": _NUMBER}, _WEAKEST)]
