"""What in a feature folder will hurt a training: what was found, what is wanted, what to do.

None of it is an error: a folder for a trial run may well have three speakers. Thresholds are
constants with their reasons; "measured" refers to RAVDESS (true level), nEMO (level normalised) and
the rule-made speech of 28 synthetic voices.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from emoconv_jax.audio.prosody import HIGHEST_F0_HZ, LOWEST_F0_HZ
from emoconv_jax.config import EMOTIONS, TRAINING_SPLITS
from emoconv_jax.pipeline.report import (
    FULL_SCALE_DB,
    LEAST_CLIPS,
    LEAST_VOICED,
    LONGEST_S,
    NONE,
    RECOGNISERS,
    SHORTEST_S,
    Distribution,
    Figures,
    Report,
    duration,
    plain_name,
)
from emoconv_jax.pipeline.splits import UNUSED

# emoconv-small's recogniser heard ten; below that it learns voices rather than emotions.
LEAST_SPEAKERS = 10
# A quarter of what the laptop-sized emoconv-small trains on.
LEAST_HOURS = 0.5
# One in 33: every other batch of 16 would hold no example.
LEAST_EMOTION_SHARE = 0.03
# Measured, median over speakers: true level 8.2 dB, rule-made 4.4 dB, normalised 2.2 dB.
LEAST_LEVEL_DEVIATION_DB = 3.0
# Measured: 1.5 dB (read) to 9 dB; only scaling each clip to its peak makes peaks agree.
LEAST_PEAK_DEVIATION_DB = 0.5
# Measured: up to 1.2 %, the shouts.
MOST_FULL_SCALE = 0.05
# Targets 1 and 7 are learnt from the ends of the scale; even labels would put 25 % into each.
LOW_AROUSAL, HIGH_AROUSAL = 2.5, 5.5
LEAST_AROUSAL_SHARE = 0.05
# Measured: aligning acted English by its text fails hardly ever, so many failures have one cause.
MOST_UNALIGNED = 0.1
# Odd lengths are usually bad cuts; a few do no harm.
MOST_SHORT = MOST_LONG = 0.01
# Measured: up to 4 %, in acted and in synthetic speech.
MOST_UNVOICED = 0.1
# Measured: under 1 %.
MOST_AT_LIMITS = 0.03
NAME_LETTERS = 40
NAMED = 3  # names listed before "and N more"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that will hurt.

    Attributes:
        name: of the check.
        found: what the folder holds.
        wanted: the threshold.
        advice: what it does and what to do.
        where: the corpus, or empty where it concerns the whole folder.
    """

    name: str
    found: str
    wanted: str
    advice: str
    where: str = ""

    @property
    def line(self) -> str:
        """Returns everything but the corpus in one line."""
        return f"{self.found} (wanted: {self.wanted}); {self.advice}"


Check = Callable[[Report], Iterator[Finding]]
CorpusCheck = Callable[[Figures], Iterator[Finding]]


def findings(report: Report) -> list[Finding]:
    """Returns everything in a feature folder that will hurt.

    Args:
        report: of the folder.

    Returns:
        What concerns the whole folder first, then corpus by corpus; empty where all is well.
    """
    found = [finding for check in _CHECKS for finding in check(report)]
    for corpus, figures in report.corpora.items():
        for check in _CORPUS_CHECKS:
            found += [dataclasses.replace(finding, where=corpus) for finding in check(figures)]
    return found


def _splits(report: Report) -> Iterator[Finding]:
    if not report.training.utterances:
        yield Finding(
            "no_training",
            "no utterance in a training split",
            "some in " + ", ".join(TRAINING_SPLITS),
            "nothing can be trained; name the speakers in the split file or the split column",
        )
    for split, purpose in (("validation", "choosing a checkpoint"), ("test", "judging a model")):
        if split not in report.splits:
            yield Finding(
                f"no_{split}",
                f"no speaker in split {split}",
                "1 or more",
                f"{purpose} needs voices that no training heard; hold some out",
            )
    if report.leaked_speakers:
        yield Finding(
            "leaked_speakers",
            f"{_named(report.leaked_speakers)} both in training and in validation or test",
            "none",
            "figures on them say nothing of unheard voices; give each speaker one side",
        )
    if report.shared_speakers:
        yield Finding(
            "shared_speakers",
            f"{_named(report.shared_speakers)} both in {' and in '.join(RECOGNISERS)}",
            "none",
            "the recogniser that judges must not know the other's voices; give each speaker one",
        )


def _size(report: Report) -> Iterator[Finding]:
    training = report.training
    if not training.utterances:
        return
    if training.speakers < LEAST_SPEAKERS:
        yield Finding(
            "few_speakers",
            f"{training.speakers} training speaker{'s' * (training.speakers != 1)}",
            f"{LEAST_SPEAKERS} or more",
            "voices are learnt instead of emotions; add a corpus with more voices",
        )
    if training.hours < LEAST_HOURS:
        yield Finding(
            "little_speech",
            f"{duration(training.hours)} of training speech",
            f"{LEAST_HOURS * 60:g} min or more",
            "networks learn it by heart; add speech",
        )


def _emotions(report: Report) -> Iterator[Finding]:
    training = report.training
    labelled = training.utterances - training.emotions.get(NONE, 0)
    if not labelled:
        if training.utterances:
            yield Finding(
                "no_emotions",
                "no training utterance has an emotion",
                "some of each",
                "no recogniser can be trained and no named target made; fill the emotion column",
            )
        return
    first = report.splits.get(RECOGNISERS[0])
    if training.arousal is not None and (first is None or first.arousal is None):
        yield Finding(
            "no_banks",
            f"no utterance with an arousal in split {RECOGNISERS[0]}",
            "some of each",
            f"a bundle's banks are made of them; put some speakers into {RECOGNISERS[0]}",
        )
    missing = [name for name in EMOTIONS if not training.emotions[name]]
    if missing:
        yield Finding(
            "missing_emotions",
            f"no training utterance of {', '.join(missing)}",
            "some of each",
            "they cannot be targets; add a corpus that has them, or do without",
        )
    shares = {name: training.emotions[name] / labelled for name in EMOTIONS}
    rare = [f"{name} {x:.1%}" for name, x in shares.items() if 0 < x < LEAST_EMOTION_SHARE]
    if rare:
        yield Finding(
            "rare_emotions",
            f"{', '.join(rare)} of the emotions in training",
            f"{LEAST_EMOTION_SHARE:.0%} or more each",
            "most batches lack them; add a corpus that has them, or expect little of them",
        )


def _arousal(report: Report) -> Iterator[Finding]:
    training = report.training
    if not training.utterances:
        return
    if training.arousal is None:
        yield Finding(
            "no_arousal",
            "no training utterance has an arousal label",
            "some",
            "arousal cannot be a target; fill the column arousal (1 to 7), or emotion",
        )
        return
    if not training.rated:
        yield Finding(
            "no_ratings",
            f"0 of {training.arousal.count:,} arousal labels in training come from listeners",
            "some",
            "all follow from emotion, level and F0 by rule; add a corpus with ratings",
        )
    low = _share_between(training.arousal, -np.inf, LOW_AROUSAL)
    high = _share_between(training.arousal, HIGH_AROUSAL, np.inf)
    if min(low, high) < LEAST_AROUSAL_SHARE:
        yield Finding(
            "bunched_arousal",
            f"arousal labels in training: {low:.1%} below {LOW_AROUSAL:g} and {high:.1%} from "
            f"{HIGH_AROUSAL:g} on",
            f"{LEAST_AROUSAL_SHARE:.0%} or more each",
            "targets at an empty end mean little; add calmer or livelier speech",
        )


def _unused(figures: Figures) -> Iterator[Finding]:
    if set(figures.split_hours) == {UNUSED}:
        yield Finding(
            "unused",
            f"all {figures.utterances:,} utterances are in no split",
            "some in one",
            "nothing uses them; name the corpus in the split file or fill the split column",
        )


def _level(figures: Figures) -> Iterator[Finding]:
    emotional = sum(n > 0 for name, n in figures.emotions.items() if name != NONE) > 1
    peak, level, deviation_db = (
        figures.peak_db,
        figures.level_db,
        figures.speaker_level_deviation_db,
    )
    if deviation_db is None and level and level.count >= LEAST_CLIPS:
        deviation_db = level.deviation  # that within speakers is no greater
    advice = "level says little of arousal; use the recordings as they were, or trust F0 alone"
    if peak and peak.count >= LEAST_CLIPS and peak.deviation < LEAST_PEAK_DEVIATION_DB:
        yield Finding(
            "normalised_level",
            f"every clip peaks near {peak.median:.1f} dBFS, ± {peak.deviation:.2f} dB",
            f"± {LEAST_PEAK_DEVIATION_DB:g} dB or more",
            advice,
        )
        return  # at full scale without being clipped, perhaps
    varied = deviation_db is None or deviation_db >= LEAST_LEVEL_DEVIATION_DB
    # Speech that nobody acted or rated may well be even: an audiobook is.
    if not varied and (emotional or figures.rated):
        yield Finding(
            "normalised_level",
            f"level varies by ± {deviation_db:.1f} dB within a speaker",
            f"± {LEAST_LEVEL_DEVIATION_DB:g} dB or more",
            advice,
        )
    if figures.full_scale / figures.utterances > MOST_FULL_SCALE:
        yield Finding(
            "clipping",
            f"{figures.full_scale / figures.utterances:.1%} of utterances peak at full scale",
            f"at most {MOST_FULL_SCALE:.0%} at {FULL_SCALE_DB:g} dBFS or more",
            "clipping sounds excited whatever is said; use recordings with a lower gain",
        )


def _alignment(figures: Figures) -> Iterator[Finding]:
    share = figures.alignments.get(NONE, 0) / figures.utterances
    if share > MOST_UNALIGNED and set(figures.split_hours) & set(TRAINING_SPLITS):
        yield Finding(
            "unaligned",
            f"{share:.0%} of utterances have no phone times",
            f"at most {MOST_UNALIGNED:.0%}",
            "the average voice learns nothing from them; bring phone times, or texts in English",
        )


def _lengths(figures: Figures) -> Iterator[Finding]:
    short, long = figures.short / figures.utterances, figures.long_hours / figures.hours
    if short > MOST_SHORT:
        yield Finding(
            "short_clips",
            f"{short:.1%} of utterances are shorter than {SHORTEST_S:g} s",
            f"at most {MOST_SHORT:.0%}",
            "one word shows no emotion; leave them out",
        )
    if long > MOST_LONG:
        yield Finding(
            "long_clips",
            f"{long:.1%} of the speech is in utterances longer than {LONGEST_S:g} s",
            f"at most {MOST_LONG:.0%}",
            "one label does not hold for so long; cut them at pauses",
        )


def _pitch(figures: Figures) -> Iterator[Finding]:
    unvoiced = figures.unvoiced / figures.utterances
    limits = figures.f0_at_limits / figures.utterances
    if unvoiced > MOST_UNVOICED:
        yield Finding(
            "unvoiced",
            f"{unvoiced:.0%} of utterances have a pitch in less than {LEAST_VOICED:.0%} of their "
            "frames",
            f"at most {MOST_UNVOICED:.0%}",
            "the pitch tracker found noise, whisper or music; listen to some",
        )
    if limits > MOST_AT_LIMITS:
        yield Finding(
            "f0_at_limits",
            f"{limits:.1%} of median F0s lie within a semitone of {LOWEST_F0_HZ:g} or "
            f"{HIGHEST_F0_HZ:g} Hz, the pitch tracker's limits",
            f"at most {MOST_AT_LIMITS:.0%}",
            "it follows hum or octaves; listen to some",
        )


_CHECKS: tuple[Check, ...] = (_splits, _size, _emotions, _arousal)
_CORPUS_CHECKS: tuple[CorpusCheck, ...] = (_unused, _level, _alignment, _lengths, _pitch)


def _named(names: Sequence[str]) -> str:
    """Returns "2 speakers (a, b)", a long list cut."""
    more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    plural = "s" if len(names) > 1 else ""
    shown = [plain_name(name, NAME_LETTERS) for name in names[:NAMED]]
    return f"{len(names)} speaker{plural} ({', '.join([*shown, *more])})"


def _share_between(distribution: Distribution, low: float, high: float) -> float:
    """Returns the share of a histogram's bins that lie in [low, high], which must be edges."""
    edges, counts = np.array(distribution.edges), np.array(distribution.counts)
    return float(counts[(edges[:-1] >= low) & (edges[1:] <= high)].sum()) / distribution.count
