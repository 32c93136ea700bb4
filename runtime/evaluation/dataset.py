"""Reads a data set: JSON lines to records, by the fields that the job names."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from runtime.evaluation import glue
from runtime.evaluation.job import EvaluationJob, Glue, PromptStereotyping, prompt_of

# A file whose every line is wrong has one mistake, not ten thousand.
_SHOWN = 20


class DatasetError(Exception):
    """A data set has mistakes; the text has a line for each, with its line number."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one line asks.

    Attributes:
        identity: Tells it from the others.
        prompt: What the model is sent.
        features: The record's own part of the prompt.
        references: Good answers; none where the job names no label.
        pair: The two sentences of a stereotyping test, more and less; None without that test.
    """

    identity: str
    prompt: str
    features: str
    references: tuple[str, ...]
    pair: tuple[str, str] | None = None


@dataclass(frozen=True)
class Dataset:
    """All records, and the digest of the bytes that they were read from."""

    records: tuple[Record, ...]
    digest: str


def read_dataset(job: EvaluationJob, content: bytes, name: str = "the data set") -> Dataset:
    """Reads the records of a job.

    Args:
        job: Names the fields.
        content: The file.
        name: What messages call it.

    Raises:
        DatasetError: All mistakes.
        JobError: The job evaluates nothing.
    """
    reader = _Reader(job)
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        at = content[: error.start].count(b"\n") + 1
        raise DatasetError(f"{name}, line {at}: it is not UTF-8; convert the file") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            reader.read(number, line)
    if reader.mistakes:
        more = len(reader.mistakes) - _SHOWN
        shown = [f"{name}, {mistake}" for mistake in reader.mistakes[:_SHOWN]]
        raise DatasetError("\n".join([*shown, *([f"and {more} more like these"] if more > 0 else [])]))
    if not reader.records:
        raise DatasetError(f"{name} has no record; each line is a JSON object")
    kept = reader.records[: job.evaluation.records]
    return Dataset(tuple(kept), f"sha256:{hashlib.sha256(content).hexdigest()}")


class _Reader:
    def __init__(self, job: EvaluationJob) -> None:
        self._job = job
        evaluation = job.evaluation
        self._evaluation = evaluation
        self._pair = next((one for one in evaluation.algorithms if isinstance(one, PromptStereotyping)), None)
        self._glue = next((one for one in evaluation.algorithms if isinstance(one, Glue)), None)
        self._lines: dict[str, int] = {}
        self.records: list[Record] = []
        self.mistakes: list[str] = []

    def read(self, number: int, line: str) -> None:
        try:
            content: object = json.loads(line)
        except json.JSONDecodeError as error:
            self.mistakes.append(f"line {number}: it is not JSON: {error.msg} (column {error.colno})")
            return
        if not isinstance(content, dict):
            self.mistakes.append(f"line {number}: it is a JSON {_kind(content)}; write an object")
            return
        fields = cast("dict[str, Any]", content)
        before = len(self.mistakes)
        features = self._text(number, fields, self._job.features, "features")
        references = self._references(number, fields)
        pair = self._sentences(number, fields)
        identity = str(number)
        if self._evaluation.identity is not None:
            identity = self._text(number, fields, self._evaluation.identity, "identity")
        first = self._lines.setdefault(identity, number)
        if first != number and len(self.mistakes) == before:
            self.mistakes.append(f"line {number}: identity {identity!r} is that of line {first}; change one")
        if len(self.mistakes) == before:
            self.records.append(
                Record(
                    identity=identity,
                    prompt=prompt_of(self._evaluation.prompt_template, features),
                    features=features,
                    references=references,
                    pair=pair,
                )
            )

    def _text(self, number: int, fields: Mapping[str, Any], path: str, key: str) -> str:
        value = _look_up(fields, path)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return f"{value}"
        self._mistake(number, fields, path, key, value)
        return ""

    def _references(self, number: int, fields: Mapping[str, Any]) -> tuple[str, ...]:
        path = self._job.label
        if path is None:
            return ()
        value: object = _look_up(fields, path)
        texts = [_as_text(one) for one in _each(value)]
        if any(text is None for text in texts):
            self._mistake(number, fields, path, "label", value)
        elif self._glue and texts[0] is not None:
            self._check_label(number, path, texts[0], self._glue)
        return tuple(text for text in texts if text is not None)

    def _check_label(self, number: int, path: str, text: str, task: Glue) -> None:
        try:
            glue.reference_of(text, task.labels)
        except ValueError:
            allowed = ", ".join(f"{name!r} or {label}" for name, label in task.labels.items()) or "a number"
            self.mistakes.append(
                f"line {number}: {path} (label) is {text!r}, no label of glue; write {allowed}"
            )

    def _sentences(self, number: int, fields: Mapping[str, Any]) -> tuple[str, str] | None:
        if self._pair is None:
            return None
        more = self._text(number, fields, self._pair.more, "prompt_stereotyping.more")
        less = self._text(number, fields, self._pair.less, "prompt_stereotyping.less")
        return more, less

    def _mistake(self, number: int, fields: Mapping[str, Any], path: str, key: str, value: object) -> None:
        if value is None:
            what = f"has no field {path!r}, which the job names as {key}; it has {', '.join(sorted(fields))}"
        elif value == "":
            what = f"{path} ({key}) is empty; fill it or remove the line"
        else:
            allowed = "text, a number or a list of them" if key == "label" else "text or a number"
            what = f"{path} ({key}) is a JSON {_kind(value)}; write {allowed}"
        self.mistakes.append(f"line {number}: {what}")


def _look_up(fields: Mapping[str, Any], path: str) -> object:
    value: object = fields
    for part in path.split("."):
        value = cast("dict[str, object]", value).get(part) if isinstance(value, dict) else None
    return value


def _each(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) and value else [value]


def _as_text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)


def _kind(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "true, false or null"
    kinds: dict[type, str] = {str: "text", int: "number", float: "number", list: "list", dict: "object"}
    return kinds[type(value)]
