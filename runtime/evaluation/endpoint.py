"""An OpenAI-style endpoint as the model under evaluation, as the judge, and as scorer of sentences.

Retries, back-off and Retry-After are the `openai` client's.
"""

import importlib
import time
from typing import Any

from runtime.evaluation.hooks import Answer, ModelError, NotAskedError
from runtime.evaluation.job import Sampling

# The client waits between tries as the server says, at most a minute each time.
RETRIES = 6
TIMEOUT_S = 300.0
# A wrong key, a key without the right, and a wrong URL or name.
_REFUSED = (401, 403, 404)


class OpenAiEndpoint:
    """A model by its name at an endpoint; safe to use from several threads.

    Args:
        url: Base URL without `/v1`.
        api_key: Sent as bearer token.
        model: Name of the model there.
        sampling: How it is asked.
        retries: How often a request is sent again that was refused for load or broke off.
        timeout_s: Longest wait for one answer, in seconds.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        model: str,
        sampling: Sampling,
        retries: int = RETRIES,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        library: Any = importlib.import_module("openai")
        self._library, self._url = library, url
        self._errors = (library.OpenAIError, IndexError, TypeError, AttributeError)
        self._client: Any = library.OpenAI(
            base_url=f"{url.rstrip('/')}/v1", api_key=api_key, max_retries=retries, timeout=timeout_s
        )
        self._model = model
        self._sampling = sampling

    def answer(self, prompt: str) -> Answer:
        """Asks once.

        Raises:
            ModelError: There is no answer after all retries.
            NotAskedError: The endpoint cannot be reached, refuses the key or does not know the model.
        """
        sampling = self._sampling
        system = [{"role": "system", "content": sampling.system}] if sampling.system else []
        started = time.monotonic()
        try:
            response = self._client.chat.completions.create(
                model=self._model,
                messages=[*system, {"role": "user", "content": prompt}],
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                seed=sampling.seed,
            )
            choice = response.choices[0]
        except self._errors as error:
            raise self._trouble(error) from error
        return Answer(
            text=choice.message.content or "",
            seconds=time.monotonic() - started,
            finish_reason=str(choice.finish_reason),
        )

    def log_probability(self, text: str) -> float:
        """Natural logarithm of the probability that the model gives a sentence, 0 or less.

        It asks to have the text itself echoed with its tokens' probabilities, which vLLM and the older
        completions API can do. The first token has none.

        Raises:
            ModelError: The endpoint does not say.
            NotAskedError: It cannot say of any sentence, or cannot be asked.
        """
        try:
            response = self._client.completions.create(
                model=self._model, prompt=text, max_tokens=1, temperature=0, echo=True, logprobs=0
            )
            found = response.choices[0].logprobs
            # The last one is the token that had to be asked for.
            known = [one for one in found.token_logprobs[:-1] if one is not None]
        except self._errors as error:
            raise self._trouble(error) from error
        if not known:
            raise NotAskedError(
                f"{self._url} gives no probabilities of the prompt's tokens (echo with logprobs)"
            )
        return float(sum(known))

    def _trouble(self, error: Exception) -> ModelError | NotAskedError:
        """Whose trouble it is: a model that times out was asked, an endpoint that is not there was not."""
        text = f"{self._url}: {type(error).__name__}: {error}"
        unreached = isinstance(error, self._library.APIConnectionError)
        if unreached and not isinstance(error, self._library.APITimeoutError):
            return NotAskedError(text)
        # What has no choices at all is no answer of such an endpoint.
        if isinstance(error, AttributeError) or getattr(error, "status_code", None) in _REFUSED:
            return NotAskedError(text)
        return ModelError(text)
