"""Which request goes where, and what the gateway says to the others."""

import json
import socket

import openai
import pytest

from .fake_upstream import FakeUpstream
from .running_gateway import KEYS, RunningGateway, chat_body

BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"prompt": "hello"},
    "/v1/embeddings": {"input": "hello"},
    "/tokenize": {"prompt": "hello"},
    "/detokenize": {"tokens": [1]},
}


@pytest.mark.parametrize("path", BODIES)
def test_each_api_path_reaches_the_server_of_the_model_in_the_body(
    gateway: RunningGateway, tiny: FakeUpstream, llama: FakeUpstream, path: str
) -> None:
    for model, server in (("tiny", tiny), ("org/llama-3.1", llama)):
        answer = gateway.request("POST", path, json.dumps({"model": model, **BODIES[path]}))
        assert answer.status == 200, answer.raw
        assert [request.path for request in server.received] == [path]
        assert server.received[0].body == {"model": model, **BODIES[path]}


def test_an_adapter_of_a_model_goes_to_the_models_server(
    gateway: RunningGateway, llama: FakeUpstream
) -> None:
    assert gateway.chat(model="org/llama-3.1:my-adapter").status == 200
    assert llama.received[0].body["model"] == "org/llama-3.1:my-adapter"


def test_a_model_whose_name_only_begins_like_a_served_one_is_unknown(
    gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    assert gateway.chat(model="tiny-2").error_code == "model_not_found"
    assert not tiny.received


def test_the_last_of_two_model_fields_counts_as_it_does_for_the_server(
    gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    body = '{"model": "org/llama-3.1", "prompt": "x", "model": "tiny"}'
    assert gateway.request("POST", "/v1/completions", body).status == 200
    assert tiny.received[0].body["model"] == "tiny"


def test_a_body_in_chunks_is_routed_too(gateway: RunningGateway, tiny: FakeUpstream) -> None:
    connection = gateway.connect()
    connection.request(
        "POST",
        "/v1/chat/completions",
        iter([chat_body("in chunks")[:20].encode(), chat_body("in chunks")[20:].encode()]),
        {"content-type": "application/json", "authorization": f"Bearer {KEYS['alice']}"},
        encode_chunked=True,
    )
    assert connection.getresponse().status == 200
    connection.close()
    assert tiny.received[0].body["messages"][0]["content"] == "in chunks"


def test_a_content_type_with_charset_is_json(gateway: RunningGateway, tiny: FakeUpstream) -> None:
    answer = gateway.chat(headers={"content-type": "Application/JSON; charset=utf-8"})
    assert answer.status == 200


@pytest.mark.parametrize(
    ("body", "content_type", "code", "named"),
    [
        ("{}", "application/json", "invalid_model", "'model'"),
        ("", "application/json", "invalid_model", "'model'"),
        ("[1]", "application/json", "invalid_model", "'model'"),
        ('"tiny"', "application/json", "invalid_model", "'model'"),
        ('{"model": null}', "application/json", "invalid_model", "'model'"),
        ('{"model": ["tiny"]}', "application/json", "invalid_model", "'model'"),
        ('{"model": 5}', "application/json", "invalid_model", "must be a string"),
        ('{"model": true}', "application/json", "invalid_model", "must be a string"),
        ('{"model": "tiny"', "application/json", "invalid_json", "valid JSON"),
        ("model=tiny", "application/x-www-form-urlencoded", "invalid_json", "application/json"),
        ('{"model": "tiny"}', "text/plain", "invalid_json", "application/json"),
    ],
)
def test_a_body_without_a_usable_model_is_refused_with_the_reason(
    gateway: RunningGateway, tiny: FakeUpstream, body: str, content_type: str, code: str, named: str
) -> None:
    answer = gateway.request("POST", "/v1/chat/completions", body, headers={"content-type": content_type})
    assert (answer.status, answer.error_code) == (400, code)
    assert named in answer.json["error"]["message"]
    assert not tiny.received


def test_an_unknown_model_is_refused_with_the_models_that_are_served(gateway: RunningGateway) -> None:
    answer = gateway.chat(model='no"such\n%model%')
    assert (answer.status, answer.error_code) == (404, "model_not_found")
    assert answer.json["error"]["message"] == (
        "The model 'no\"such\n%model%' does not exist. "
        "This gateway serves: down, org/llama-3.1, tiny, unresolved."
    )


def test_an_unknown_model_name_of_any_length_gives_a_short_answer(gateway: RunningGateway) -> None:
    answer = gateway.chat(model="x" * 7000)
    assert answer.error_code == "model_not_found"
    assert len(answer.raw) < 1000


def test_the_models_are_listed_as_openai_lists_them(gateway: RunningGateway) -> None:
    answer = gateway.request("GET", "/v1/models")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["object"] == "list"
    assert answer.json["data"][1] == {
        "id": "org/llama-3.1",
        "object": "model",
        "created": 0,
        "owned_by": "spillway",
    }
    assert [card["id"] for card in answer.json["data"]] == ["down", "org/llama-3.1", "tiny", "unresolved"]


@pytest.mark.parametrize("path", ["/v1/models/org/llama-3.1", "/v1/models/org%2Fllama-3.1"])
def test_one_model_is_described_under_its_plain_and_its_escaped_name(
    gateway: RunningGateway, path: str
) -> None:
    assert gateway.request("GET", path).json["id"] == "org/llama-3.1"


def test_an_unknown_model_is_not_described(gateway: RunningGateway) -> None:
    answer = gateway.request("GET", "/v1/models/other")
    assert (answer.status, answer.error_code) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/unload_lora_adapter"),
        ("POST", "/sleep?level=1"),
        ("POST", "/wake_up"),
        ("POST", "/collective_rpc"),
        ("POST", "/reset_prefix_cache"),
        ("GET", "/-/routes"),
        ("GET", "/-/healthz"),
        ("GET", "/metrics"),
        ("GET", "/health"),
        ("GET", "/docs"),
        ("GET", "/v1/chat/completions"),
        ("DELETE", "/v1/models/tiny"),
        ("POST", "/v1/models"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1/chat/completions/../../../sleep"),
        ("POST", "/v1/chat/completions%2f..%2f..%2f..%2fsleep"),
        ("POST", "/prefix/v1/chat/completions"),
        ("POST", "/healthz"),
    ],
)
def test_what_is_not_part_of_the_api_never_reaches_a_server(
    gateway: RunningGateway, tiny: FakeUpstream, method: str, path: str
) -> None:
    answer = gateway.request(method, path, chat_body("hello") if method == "POST" else None)
    assert (answer.status, answer.error_code) == (404, "unknown_url")
    assert not tiny.received


def test_a_path_is_normalised_before_it_is_routed_and_forwarded(
    gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    answer = gateway.request("POST", "//v1/x/..//chat/./completions", chat_body("hello"))
    assert answer.status == 200
    assert tiny.received[0].path == "/v1/chat/completions"


def test_openais_own_client_works_and_gets_its_own_exceptions(
    gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    base_url = f"http://127.0.0.1:{gateway.config.listen_port}/v1"
    client = openai.OpenAI(base_url=base_url, api_key=KEYS["bob"], max_retries=0)
    chat = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hello"}])
    assert chat.choices[0].message.content == "tiny heard 5"
    parts = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    assert [part.choices[0].delta.content for part in parts] == ["first", "second"]
    assert client.models.retrieve("org/llama-3.1").id == "org/llama-3.1"
    assert len(client.models.list().data) == 4
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="other", messages=[])
    with pytest.raises(openai.AuthenticationError, match="API key"):
        client.with_options(api_key="sk-wrong-0123456789").models.list()


def test_http_2_without_tls_is_spoken(gateway: RunningGateway) -> None:
    # GET /healthz in HPACK's static table, without any HTTP/2 library.
    path = b"/healthz"
    block = bytes([0x82, 0x86, 0x04, len(path)]) + path + bytes([0x01, 1]) + b"x"
    frames = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    frames += len(block).to_bytes(3, "big") + b"\x01\x05\x00\x00\x00\x01" + block
    with socket.create_connection(("127.0.0.1", gateway.config.listen_port), 10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames)
        stream = connection.makefile("rb")
        while True:
            head = stream.read(9)
            payload = stream.read(int.from_bytes(head[:3], "big"))
            if head[3] == 1:
                break
    assert payload[0] == 0x88, "the static table's entry for `:status: 200`"
