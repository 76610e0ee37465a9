"""One of several processes of a training run: python one_host.py FOLDER HOST HOSTS PORT WAYS...

Each way is the value of `parallel`; its run goes to FOLDER/WAY and continues where it stopped.
"""

import dataclasses
import pathlib
import sys
import time

from runs import FEATURES, eight_devices

from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.training import hosts, loop


def say(line: str) -> None:
    """Prints a line, and leaves a signal the time to come before the next steps."""
    print(line, flush=True)
    time.sleep(line.startswith("step 2/"))


if __name__ == "__main__":
    folder, host, count, port = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:5])
    hosts.start(f"127.0.0.1:{port}", host, count)
    hosts.AGREE_STEPS = 2
    store = FeatureStore(folder / FEATURES)
    for way in sys.argv[5:]:
        config = dataclasses.replace(eight_devices(), parallel=way)
        care = loop.Care(report=2, validate=4, listen=4)
        loop.train(config, store, folder / way, care=care, log=say)
    print("done")
