"""Everything that answers behind a rehearsed stack of SageMaker endpoints, from the gateway to vLLM."""

from pathlib import Path

from rehearsal.endpoints.containers import Containers
from rehearsal.endpoints.gateway_task import LocalTask, TaskRunner
from rehearsal.endpoints.runtime_api import CREDENTIALS, RuntimeApi
from rehearsal.tools import Toolbox
from runtime.ops.progress import Progress
from runtime.ops.teardown.account import Clients


class Hosting:
    """The containers, the runtime API in front of them, and the gateway's task in front of that.

    Args:
        toolbox: Envoy and vLLM.
        clients: Clients of the AWS double.
        region: The stack's region.
        gateway: What ECS calls the gateway's cluster and service.
        folder: For weights, files and logs.
        progress: Where starts are shown.
    """

    def __init__(
        self, toolbox: Toolbox, clients: Clients, region: str, gateway: str, folder: Path, progress: Progress
    ) -> None:
        self._toolbox = toolbox
        self._clients = clients
        self._gateway = gateway
        self._folder = folder
        self._progress = progress
        vllm = toolbox.python.with_name("vllm")
        self._containers = Containers(vllm, clients("s3"), folder, progress)
        self.runtime = RuntimeApi(clients("sagemaker"), self._containers.url, region)
        self._runtime_url = ""
        self._task: LocalTask | None = None

    @property
    def runtime_url(self) -> str:
        """The double of SageMaker's runtime API; empty before the start."""
        return self._runtime_url

    def start(self) -> str:
        """Returns the gateway's URL, without `/v1`, when its load balancer would send requests.

        Raises:
            ServerError: Something does not start.
        """
        if self._task is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._runtime_url = self.runtime.start()
            with self._progress.step("the gateway's task, as processes of this machine") as step:
                envoy = self._toolbox.path("envoy")
                runner = TaskRunner(self._clients, envoy, self._runtime_url, CREDENTIALS, self._folder)
                self._task = runner.start(self._gateway, self._gateway)
                step.update(self._task.url)
        return self._task.url

    def end(self) -> None:
        """Ends everything."""
        if self._task is not None:
            self._task.end()
        self.runtime.end()
        self._containers.end()
