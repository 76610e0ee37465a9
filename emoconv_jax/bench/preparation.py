"""Times the first pass of a preparation: hours of speech per hour of one core, and its memory.

Every core works, as in a real preparation, each in a process of its own. Starting these and
compiling are not counted: they are the same for ten utterances and for a million.
"""

import dataclasses
import os
import time

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.extraction import FAILED, Item, Settings, Task, extract, warm_up
from emoconv_jax.pipeline.plan import plan_tasks
from emoconv_jax.pipeline.shard_runner import map_shards, peak_bytes, tick


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What one way of preparing costs.

    Attributes:
        alignment: "auto" aligns English text, "given" nothing.
        utterances: that were measured.
        aligned: of them, by an aligner.
        speech_s: of them.
        core_s: time of the cores.
        peak_bytes: the greatest memory of a worker.
    """

    alignment: str
    utterances: int
    aligned: int
    speech_s: float
    core_s: float
    peak_bytes: int

    @property
    def hours_per_core_hour(self) -> float:
        """Hours of speech that one core prepares in an hour."""
        return self.speech_s / self.core_s


def measure(source: str, utterances: int, workers: int | None = None) -> list[Preparation]:
    """Prepares utterances of a corpus with and without alignment, and throws the result away.

    Args:
        source: see `pipeline.sources`.
        utterances: how many, spread evenly over the corpus.
        workers: processes, two or more; one per core where None.

    Returns:
        With alignment, and without.

    Raises:
        EmoconvError: the corpus cannot be read.
    """
    tasks = [dataclasses.replace(task, spans=None) for task in plan_tasks([source])]
    chosen = tasks[:: max(1, len(tasks) // utterances)][:utterances]
    count = max(2, workers or os.cpu_count() or 2)
    warm_up()
    found = []
    for alignment in ("auto", "given"):
        jobs = [(tuple(chosen[i::count]), alignment) for i in range(count)]
        parts = list(map_shards(_work, jobs, alignment, len(chosen), workers=count))
        kept, aligned, speech_s, core_s, peaks = map(list, zip(*parts, strict=True))
        if not sum(kept):
            raise EmoconvError(f"{source}: none of {len(chosen)} utterances can be prepared")
        found.append(
            Preparation(alignment, sum(kept), sum(aligned), sum(speech_s), sum(core_s), max(peaks))
        )
    return found


def _work(job: tuple[tuple[Task, ...], str]) -> tuple[int, int, float, float, int]:
    tasks, alignment = job
    settings = Settings(alignment=alignment)
    for task in tasks[:8]:  # compiles the few shapes there are
        extract(task, settings)
    kept, aligned, frames, begin = 0, 0, 0, time.process_time()
    for task in tasks:
        found = extract(task, settings)
        if isinstance(found, tuple):
            item: Item = found[0]
            kept, frames = kept + 1, frames + item.frames
            aligned += item.alignment not in ("", FAILED)
        tick()
    core_s = time.process_time() - begin
    mel = settings.mel
    return kept, aligned, frames * mel.hop_samples / mel.sample_rate_hz, core_s, peak_bytes()
