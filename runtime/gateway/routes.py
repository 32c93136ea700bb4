"""The routes of the OpenAI API: everything that is not named here is refused.

They are a resource of their own, apart from the listener, because a changed listener closes its
connections after the drain time and would cut long streams, while changed routes leave them alone.
"""

from collections.abc import Sequence

from runtime.gateway.config import GatewayConfig, ModelRoute
from runtime.gateway.document import Tree, discovery, seconds, typed
from runtime.gateway.errors import error, json_reply
from runtime.gateway.overflow import answer_headers, full_answers, spilling_routes

BUFFER_FILTER = "envoy.filters.http.buffer"
JSON_FILTER = "envoy.filters.http.json_to_metadata"
BODY_FILTERS = (BUFFER_FILTER, JSON_FILTER)
"""The filters that hold and read a body. They run only on routes that need the body."""

MODEL_KEY = "model"
PROBLEM_KEY = "problem"
PROBLEM_NO_MODEL = "model is missing"

ROUTES_NAME = "openai"

MODEL_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize")
"""The paths that carry a model name in their body."""

# Model ids count as created at the epoch: a time of rendering would make every rendering differ.
_CREATED = 0
_OWNER = "spillway"
_RETRY_ON = "connect-failure,refused-stream,reset-before-request"


def routes_file(config: GatewayConfig) -> str:
    """Returns the text of `routes.yaml`."""
    models = config.sorted_models
    return discovery(
        [
            typed(
                "envoy.config.route.v3.RouteConfiguration",
                {
                    "name": ROUTES_NAME,
                    "virtual_hosts": [
                        {
                            "name": ROUTES_NAME,
                            "domains": ["*"],
                            "routes": [
                                _models_list(models),
                                *(_model_card(model) for model in models),
                                _unknown_card(models),
                                *(route for model in models for route in _model_routes(model, config)),
                                *_refusals(models),
                                _anything_else(),
                            ],
                        }
                    ],
                },
            )
        ]
    )


def _models_list(models: Sequence[ModelRoute]) -> dict[str, Tree]:
    return {
        "name": "list models",
        "match": {"path": "/v1/models", "headers": [_method("GET")]},
        **json_reply(200, {"object": "list", "data": [_card(model) for model in models]}),
    }


def _model_card(model: ModelRoute) -> dict[str, Tree]:
    return {
        "name": f"describe {model.name}",
        "match": {"path": f"/v1/models/{model.name}", "headers": [_method("GET")]},
        **json_reply(200, _card(model)),
    }


def _unknown_card(models: Sequence[ModelRoute]) -> dict[str, Tree]:
    return {
        "name": "describe unknown model",
        "match": {"prefix": "/v1/models/", "headers": [_method("GET")]},
        **json_reply(404, _no_such_model("This model does not exist.", models)),
    }


def _card(model: ModelRoute) -> dict[str, Tree]:
    return {"id": model.name, "object": "model", "created": _CREATED, "owned_by": _OWNER}


def _model_routes(model: ModelRoute, config: GatewayConfig) -> list[dict[str, Tree]]:
    named: dict[str, Tree] = {
        "or_match": {
            "value_matchers": [
                {"string_match": {"exact": model.name}},
                {"string_match": {"prefix": f"{model.name}:"}},
            ]
        }
    }

    def match(headers: Sequence[Tree]) -> dict[str, Tree]:
        return _body_match(MODEL_KEY, named, headers)

    return [*spilling_routes(model, config, match, _RETRY_ON), _on_prem_route(model, config, match(()))]


def _on_prem_route(model: ModelRoute, config: GatewayConfig, match: dict[str, Tree]) -> dict[str, Tree]:
    return {
        "name": f"serve {model.name}",
        "match": match,
        "route": {
            "cluster": model.on_prem_cluster,
            # A long answer is not a slow one: only silence ends a request.
            "timeout": "0s",
            "idle_timeout": seconds(config.stream_idle_timeout_s),
            "retry_policy": {
                # Only while no server has seen the request: a model may have begun to compute.
                "retry_on": _RETRY_ON,
                "num_retries": config.retries,
                "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
            },
        },
        **(
            {**answer_headers(), "typed_per_filter_config": full_answers(of_two_pools=False)}
            if config.spills
            else {}
        ),
    }


def _refusals(models: Sequence[ModelRoute]) -> list[dict[str, Tree]]:
    """Answers requests on a model path whose model was not found, most specific first."""
    any_text: dict[str, Tree] = {"string_match": {"safe_regex": {"regex": "(?s).*"}}}
    named = f"%DYNAMIC_METADATA({JSON_FILTER}:{MODEL_KEY}):200%"
    return [
        {
            "name": "unknown model",
            "match": _body_match(MODEL_KEY, any_text),
            **json_reply(404, _no_such_model(f"The model '{named}' does not exist.", models)),
        },
        {
            "name": "model is not text",
            "match": _body_match(MODEL_KEY, {"present_match": True}),
            **json_reply(400, _bad_model("'model' must be a string.")),
        },
        {
            "name": "model is missing",
            "match": _body_match(PROBLEM_KEY, {"string_match": {"exact": PROBLEM_NO_MODEL}}),
            **json_reply(400, _bad_model("The body must be a JSON object with a string 'model'.")),
        },
        # Every request matches here first, before its body is read, so this is the route that
        # decides which filters run. It answers if they found no JSON.
        {
            "name": "body is not JSON",
            "match": _path_match(),
            **json_reply(
                400,
                error(
                    "The body must be valid JSON, sent with content type application/json.",
                    kind="invalid_request_error",
                    code="invalid_json",
                ),
            ),
            "typed_per_filter_config": _with_body_filters(),
        },
    ]


def _anything_else() -> dict[str, Tree]:
    return {
        "name": "anything else",
        "match": {"prefix": "/"},
        **json_reply(
            404,
            error(
                "Unknown path or method. This gateway answers POST "
                + ", ".join(MODEL_PATHS)
                + " and GET /v1/models, /v1/models/MODEL.",
                kind="invalid_request_error",
                code="unknown_url",
            ),
        ),
    }


def _no_such_model(message: str, models: Sequence[ModelRoute]) -> dict[str, Tree]:
    known = ", ".join(model.name for model in models) or "no model"
    return error(
        f"{message} This gateway serves: {known}.",
        kind="invalid_request_error",
        param="model",
        code="model_not_found",
    )


def _bad_model(message: str) -> dict[str, Tree]:
    return error(message, kind="invalid_request_error", param="model", code="invalid_model")


def _path_match(headers: Sequence[Tree] = ()) -> dict[str, Tree]:
    pattern = "|".join(path.replace(".", r"\.") for path in MODEL_PATHS)
    return {"safe_regex": {"regex": pattern}, "headers": [_method("POST"), *headers]}


def _body_match(key: str, value: Tree, headers: Sequence[Tree] = ()) -> dict[str, Tree]:
    return {
        **_path_match(headers),
        "dynamic_metadata": [{"filter": JSON_FILTER, "path": [{"key": key}], "value": value}],
    }


def _method(name: str) -> dict[str, Tree]:
    return {"name": ":method", "string_match": {"exact": name}}


def _with_body_filters() -> dict[str, Tree]:
    return {name: typed("envoy.config.route.v3.FilterConfig", {"config": {}}) for name in BODY_FILTERS}
