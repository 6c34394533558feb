"""Trains the two towers: ``python train.py --config shop.toml``, on one machine or on every task of a cluster."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from dpsr.config import ConfigError, load_config
from dpsr.errors import DpsrError


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line and trains.

    Returns:
        The exit code: 0 trained, 1 failed, 2 wrong usage.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Example: python train.py --config examples/demo_shop.toml --set training.epochs=3"
    )
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="the TOML configuration")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="override one value"
    )
    parser.add_argument("--no-resume", action="store_true", help="start anew instead of from the last checkpoint")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # As ``dpsr.cli`` does: each line reaches a pipe at once.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        config = load_config(options.config, options.overrides)
        from dpsr.cluster.run import train

        train(config, resume=not options.no_resume)
    except (DpsrError, OSError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    print(f"checkpoints: {config.checkpoint_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
