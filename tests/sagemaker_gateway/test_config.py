"""The adapter's configuration file."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.sagemaker_gateway import AdapterConfig, read_config
from runtime.sagemaker_gateway.__main__ import main
from runtime.sagemaker_gateway.config import ConfigError

from .running import configured


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    config = configured(runtime_url="http://127.0.0.1:1", stream_limit_s=100.5)
    path = tmp_path / "config.json"
    path.write_text(config.model_dump_json(by_alias=True))
    assert read_config(path) == config


def test_the_limits_are_sagemakers_and_cannot_be_more() -> None:
    config = configured()
    assert (config.max_body_bytes, config.plain_limit_s, config.stream_limit_s) == (26_214_400, 60, 480)
    for key in ("max_body_bytes", "plain_limit_s", "stream_limit_s"):
        with pytest.raises(ValueError, match="less than or equal"):
            configured(**{key: getattr(config, key) + 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the file: Invalid JSON"),
        ('{"models": [{"name": "a", "endpoint": "e"}]}', "region: Field required"),
        ('{"region": "us-east-1", "models": []}', "models: "),
        ('{"region": "us-east-1", "models": [{"name": "a", "endpoint": "e_1"}]}', "models.0.endpoint: "),
        ('{"region": "us-east-1", "models": [{"name": "a", "endpoint": "e"}], "port": 1}', "port: Extra"),
        (
            '{"region": "us-east-1", "models": [{"name": "a", "endpoint": "e"}, '
            '{"name": "a", "endpoint": "f"}]}',
            "models.name 'a' is there twice",
        ),
        (
            '{"region": "us-east-1", "models": [{"name": "a", "endpoint": "e", "firstTokenS": 480}]}',
            "models.firstTokenS of 'a' is 480; allowed: less than streamLimitS, 480",
        ),
        (
            '{"region": "us-east-1", "models": [{"name": "a", "endpoint": "e"}], "capture": '
            '{"bucket": "abc", "kmsKeyId": "k", "endpoints": '
            '[{"endpoint": "f", "percent": 5, "prefix": "a/"}]}}',
            "capture.endpoints names 'f'; allowed: an endpoint of models, e; fix: name one of these",
        ),
    ],
)
def test_a_file_that_is_none_ends_the_program_with_one_message(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    assert main([str(path)]) == 1
    assert message in capsys.readouterr().err


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*config\.json: No such file"):
        read_config(tmp_path / "config.json")


def test_the_defaults_fit_the_notice_that_fargate_gives() -> None:
    config: AdapterConfig = configured()
    assert config.drain_notice_s + config.drain_s < 120


def test_capture_without_what_masks_ends_the_program_before_it_takes_a_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        '{"region": "us-east-1", "models": [{"name": "a", "endpoint": "e"}], "capture": {"bucket": "abc", '
        '"kmsKeyId": "k", "endpoints": [{"endpoint": "e", "percent": 5, "prefix": "a/"}]}}'
    )

    def missing(name: str) -> None:
        assert name == "presidio_analyzer"

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    assert main([str(path)]) == 1
    assert "install the extra sagemaker-gateway-capture, or remove capture" in capsys.readouterr().err


def test_an_adapter_without_capture_imports_nothing_that_masks() -> None:
    program = (
        "import sys, runtime.sagemaker_gateway.__main__;"
        "sys.exit(bool({'presidio_analyzer', 'spacy', 'tldextract'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
