"""One of several processes of a training run: python one_host.py FOLDER HOST HOSTS PORT WAYS...

Each way is the value of `parallel`; its run goes to FOLDER/WAY and continues where it stopped.
"""

import dataclasses
import functools
import pathlib
import sys
import time

import numpy as np
from runs import FEATURES, eight_devices

from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.training import hosts, loop

GO_ON = "go_on"  # a file in FOLDER


def say(folder: pathlib.Path, line: str) -> None:
    """Prints a line, and waits after step 2 until whoever reads has sent a signal or will not."""
    print(line, flush=True)
    while line.startswith("step 2/") and not (folder / GO_ON).exists():
        time.sleep(0.05)


if __name__ == "__main__":
    folder, host, count, port = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:5])
    hosts.start(f"127.0.0.1:{port}", host, count)
    hosts.AGREE_STEPS = 2
    store = FeatureStore(folder / FEATURES)
    for way in sys.argv[5:]:
        config = dataclasses.replace(eight_devices(), parallel=way)
        care = loop.Care(report=2, validate=4, listen=4)
        log = functools.partial(say, folder)
        loop.train(config, store, folder / way, care=care, vocode=np.ravel, log=log)
    print("done")
