"""Runs on a Ray cluster: each is a task that starts the process of a run on the machine it comes to.

The folder of the ablation and the data must lie on a disk that all machines share, under the same path, and
dethead must be installed on all of them.
"""

import subprocess
from typing import Any

from dethead.ablation.launchers import Job, kill_group, start_worker
from dethead.ablation.worker import STOPPED
from dethead.config import ConfigError

PAUSE = 0.5
"""Seconds between two looks at the process: a task that only waits does not hear that it is cancelled."""
PATIENCE = 60.0
"""Seconds a run has to save and stop."""


class RayLauncher:
    """Hands runs to the cluster of ``RAY_ADDRESS``, or to one on this machine; Ray finds the place for each.

    Args:
        slots: runs given to the cluster at a time.
        threads: CPU cores that a run asks for.
        device: of the inputs; one that may be a GPU asks for one where the cluster has any.

    Raises:
        ConfigError: no cluster answers.
    """

    def __init__(self, slots: int, threads: int, device: str) -> None:
        import ray

        self.slots, self.ray = slots, ray
        if not ray.is_initialized():
            try:
                ray.init(log_to_driver=False, logging_level="WARNING")
            except ConnectionError as error:
                raise ConfigError(f"--launcher ray: no cluster answers: {error}") from None
        gpus = 1 if device != "cpu" and ray.cluster_resources().get("GPU", 0) else 0
        self.task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(_train_there)

    def start(self, job: Job, slot: int) -> "RayProcess":
        """Give a run to the cluster; it waits there until a machine has room for it."""
        return RayProcess(self.ray, self.task.remote(tuple(job)))


class RayProcess:
    """A run on the cluster."""

    def __init__(self, ray: Any, task: Any) -> None:
        self.ray, self.task = ray, task

    def poll(self) -> int | None:
        """Give the exit status; None while it waits or works."""
        done, _ = self.ray.wait([self.task], timeout=0)
        if not done:
            return None
        try:
            return int(self.ray.get(self.task))
        except self.ray.exceptions.TaskCancelledError:
            return STOPPED
        except self.ray.exceptions.RayError as error:
            print(error)
            return 1

    def stop(self) -> None:
        """Ask it to save and stop."""
        self.ray.cancel(self.task)

    def kill(self) -> None:
        """End it at once."""
        self.ray.cancel(self.task, force=True)


def _train_there(job: tuple[str, str, int]) -> int:
    """Be the task: start the process of a run, pass on that it is to stop, give its exit status."""
    process = start_worker(Job(*job))
    assert process.stdin is not None
    try:
        return _wait(process)
    except KeyboardInterrupt:  # cancelled
        process.stdin.close()
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            kill_group(process)
            raise


def _wait(process: "subprocess.Popen[bytes]") -> int:
    while True:
        try:
            return process.wait(PAUSE)
        except subprocess.TimeoutExpired:
            continue
