"""The coordinator, a process of the chief: connects to the cluster, trains, and ends the other tasks.

``python -m dpsr.cluster.coordinator`` reads ``TF_CONFIG`` and, from its standard input, the configuration as JSON. Its
exit code says how it ended. After ``RETRY`` (a parameter server was lost) and ``UNCLEAR`` (another error of TensorFlow)
the chief starts another one, which resumes from the last checkpoint.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from dpsr.cluster.sockets import wait_for, wait_for_end
from dpsr.cluster.tasks import PS, WORKER, ClusterError, Task
from dpsr.cluster.tf_config import task_of_environment
from dpsr.cluster.watchdog import Watchdog
from dpsr.config import Config, parse_config
from dpsr.data.dataset.schema import MANIFEST_FILE
from dpsr.data.dataset.tables import Dataset
from dpsr.errors import DpsrError
from dpsr.model.run_files import MODEL_FILE
from dpsr.training.checkpoints import writing

DONE, FAILED, RETRY, UNCLEAR = 0, 1, 75, 76
_END_SECONDS = 10.0


def coordinate(task: Task, config: Config, *, resume: bool, progress: bool) -> dict[str, Any]:
    """Trains on the cluster.

    Args:
        task: the chief.
        config: the run.
        resume: whether to resume from the last checkpoint.
        progress: show a progress bar.

    Returns:
        The content of ``metrics.json``.

    Raises:
        ClusterError: a task cannot be reached, or has another op library or dataset than the chief.
        tf.errors.OpError: a parameter server died, or a step failed.
    """
    import tensorflow as tf

    from dpsr.cluster.training import ClusterTraining, ps_device, worker_device
    from dpsr.ops_cc import library
    from dpsr.training.trainer import start_run

    dataset = Dataset.load(config.dataset_dir)
    with writing(config.checkpoint_dir):
        start_run(config, dataset, resume=resume)
    wait_for(task, (PS, WORKER), config.cluster.start_timeout)
    library.load()
    watchdog = Watchdog(FAILED)
    seconds = config.cluster.start_timeout
    watchdog.expect(
        f"connecting for {seconds:g} s, although every task listens: one of them hangs; restart it, or raise "
        "cluster.start_timeout if the tables are that large",
        seconds,
    )
    spec = tf.train.ClusterSpec({job: list(addresses) for job, addresses in task.addresses.items()})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec, task_type=task.job, task_id=task.index, rpc_layer="grpc"
    )
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    devices = {
        **{f"{PS} {index}": ps_device(index) for index in range(len(task.addresses[PS]))},
        **{f"{WORKER} {index}": worker_device(index) for index in range(len(task.addresses[WORKER]))},
    }
    _check_alike(devices, config, dataset)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with writing(config.checkpoint_dir):
        training = ClusterTraining(config, dataset, task, coordinator, watchdog, progress=progress)
        print(f"chief: starts at step {training.first_step}", flush=True)
        metrics = training.run()
    print(f"chief: {json.dumps(training.counts())}", flush=True)
    watchdog.expect("ending the other tasks", seconds)
    for device in devices.values():
        with tf.device(device):
            library.load().dpsr_end_task()
    # A task that has not ended when the chief goes would wait for another chief.
    wait_for_end(task, (PS, WORKER), _END_SECONDS)
    return metrics


def _check_alike(devices: dict[str, str], config: Config, dataset: Dataset) -> None:
    """Checks that every task has the chief's op library and checkpoints, and every worker the chief's dataset.

    Raises:
        ClusterError: a task has another one, or none; names the task.
    """
    import tensorflow as tf

    from dpsr.ops_cc import library

    ops = library.load()
    manifest, model = dataset.directory / MANIFEST_FILE, config.checkpoint_dir / MODEL_FILE
    ours, text = ops.dpsr_task().library.numpy(), manifest.read_bytes()
    for name, device in devices.items():
        with tf.device(device):
            try:
                theirs = ops.dpsr_task().library.numpy()
            except tf.errors.NotFoundError:
                raise ClusterError(
                    f"{name}: does not know the op library of dpsr; start it by the same command, with the same "
                    "installation of dpsr, as the chief"
                ) from None
            if theirs != ours:
                raise ClusterError(
                    f"{name}: runs op library {theirs.decode()}, the chief {ours.decode()}; install the same build on "
                    "both"
                )
            try:
                tf.io.read_file(str(model))
                found = tf.io.read_file(str(manifest)).numpy() if name.startswith(WORKER) else text
            except tf.errors.OpError as error:
                raise ClusterError(
                    f"{name}: cannot read what the chief reads ({_first_line(error)}); give every task the same "
                    "work_dir, and every worker the same dataset, under the same path"
                ) from None
        if found != text:
            raise ClusterError(
                f"{name}: {manifest} is another dataset than the chief's (tokenizer {_tokenizer_of(found)} there, "
                f"{dataset.schema.tokenizer_fingerprint} here); give every task the same dataset directory"
            )


def _first_line(error: Any) -> str:
    return str(error.message).partition("\n")[0]


def _tokenizer_of(manifest: bytes) -> str:
    try:
        return str(json.loads(manifest)["schema"]["tokenizer_fingerprint"])
    except (ValueError, KeyError, TypeError):
        return "unreadable"


def main() -> int:
    """Runs the coordinator; returns its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    request = json.load(sys.stdin)
    config = parse_config(request["config"], "the chief's configuration")
    task = task_of_environment(os.environ)
    if task is None:
        raise SystemExit("TF_CONFIG is not set")
    import tensorflow as tf

    try:
        coordinate(task, config, resume=request["resume"], progress=request["progress"])
    except (DpsrError, OSError) as error:
        print(f"chief: {error}", file=sys.stderr, flush=True)
        return FAILED
    except tf.errors.OpError as error:
        print(f"chief: {type(error).__name__}: {error.message}", file=sys.stderr, flush=True)
        return RETRY if _may_be_a_lost_task(error) else UNCLEAR
    return DONE


def _may_be_a_lost_task(error: Any) -> bool:
    """Whether an error of TensorFlow is of a kind that the loss of a parameter server brings about."""
    from tensorflow import errors

    kinds = (errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError, errors.FailedPreconditionError)
    more_kinds = (errors.InternalError, errors.NotFoundError, errors.UnavailableError, errors.UnknownError)
    return isinstance(error, (*kinds, *more_kinds))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Not by the usual way: threads of TensorFlow may wait for tasks that are gone.
    os._exit(code)
