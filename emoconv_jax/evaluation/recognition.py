"""How well recognisers hear emotion, beside what two numbers of a clip say without any training.

    (1) accuracy     share of clips whose emotion is named; a guess names 1 / classes
    (2) arousal      Pearson's r of heard and true arousal over clips
    (3) per speaker  the same, what is heard z-scored within each speaker
    (4) proxy        r of z(level in dB) + z(log F0), z within each speaker; of log F0 alone where
                     the corpus has normalised its level
    (5) lead         (3) minus (4), in the same resampled sets of clips

True is the rating where the corpus has one, else what the acted emotion and intensity stand for
(`labels.base_arousal`), and not the training label, which knows level and F0 already.

Source: level and F0, z-scored per speaker, correlate about .76 with human ratings of arousal; a
recogniser that does not lead them is of no use.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from emoconv_jax.bundles.format import check_mel, read_config
from emoconv_jax.errors import EmoconvError
from emoconv_jax.evaluation.statistics import Figure, correlation_figure, figure, save
from emoconv_jax.inference.encoders import DimensionalRole, EmotionRole
from emoconv_jax.inference.roles import emotion_role
from emoconv_jax.inference.whisper_roles import WhisperEmotionRole, check_features
from emoconv_jax.pipeline.labels import LEVEL_NORMALISED, base_arousal, standard_scores
from emoconv_jax.pipeline.store import FeatureStore, Utterance
from emoconv_jax.shapes import Float

Recogniser = EmotionRole | WhisperEmotionRole
TOGETHER = 16  # clips of similar length in one call of a network
FIGURES = ("accuracy", "arousal", "arousal_per_speaker", "proxy", "lead")


@dataclasses.dataclass(frozen=True)
class Heard:
    """What a recogniser says of some clips.

    Attributes:
        arousal: of each clip.
        emotion: the likeliest of each clip.
    """

    arousal: Float[np.ndarray, " n"]
    emotion: list[str]


def evaluate(
    recognisers: Mapping[str, Recogniser],
    store: FeatureStore,
    out: pathlib.Path,
    splits: Sequence[str] = ("test",),
    seed: int = 0,
) -> dict[str, dict[str, dict[str, Figure | None]]]:
    """Lets recognisers hear the acted or rated clips of some splits.

    Args:
        recognisers: by the name of their bundle.
        store: prepared features, which are heard.
        out: gets `summary.json`, the returned figures.
        splits: whose clips.
        seed: of the resampling.

    Returns:
        CORPUS/SPLIT -> recogniser -> FIGURES -> figure, None where nothing is known. Of clips that
        a recogniser was trained on its figures say nothing.

    Raises:
        EmoconvError: an unknown split, no such clip, or a recogniser of another mel or Whisper.
    """
    held = {u.split for u in store.utterances}
    for split in splits:
        if split not in held:
            raise EmoconvError(
                f"{store.folder}: split {split!r}: no utterance, allowed are "
                f"{', '.join(sorted(held))}"
            )
    for name, recogniser in recognisers.items():
        check_mel(recogniser.mel, store.mel_config, f"{name}: mel", "the features' mel")
        if isinstance(recogniser, WhisperEmotionRole):
            check_features("whisper_emotion", recogniser.head, store.encoder, str(store.folder))
    found = {}
    for group in sorted({f"{u.corpus}/{u.split}" for u in store.utterances if u.split in splits}):
        chosen = store.select(lambda u, group=group: _is_known(u, group))
        if not len(chosen):
            continue
        clips = [store.utterances[int(i)] for i in chosen]
        found[group] = {
            name: figures(clips, hear(recogniser, store, chosen, f"{name}: {group}"), seed)
            for name, recogniser in recognisers.items()
        }
    if not found:
        raise EmoconvError(f"{store.folder}: no acted or rated clips in {', '.join(splits)}")
    save(out, found)
    return found


def recogniser_of(folder: pathlib.Path) -> Recogniser:
    """Returns the recogniser of a bundle, of a kind that hears prepared features.

    Args:
        folder: of the bundle.

    Raises:
        EmoconvError: the bundle lacks it, or it hears waveforms and names no emotions.
    """
    config = read_config(folder)
    role = emotion_role(folder, config)
    if isinstance(role, DimensionalRole):
        raise EmoconvError(
            f"{folder}: roles.emotion is {config.roles.emotion!r}, which names no emotions; "
            "allowed are recogniser and whisper_emotion"
        )
    return role


def hear(
    recogniser: Recogniser, store: FeatureStore, chosen: Sequence[int] | np.ndarray, label: str
) -> Heard:
    """Returns what a recogniser says of clips of a store.

    Args:
        recogniser: of the store's mel.
        store: prepared features.
        chosen: indices into the store.
        label: of the progress bar.
    """
    by_length = sorted(chosen, key=lambda i: store.utterances[int(i)].frames)
    told = {}
    for start in tqdm(range(0, len(by_length), TOGETHER), label):
        batch = [int(i) for i in by_length[start : start + TOGETHER]]
        if isinstance(recogniser, WhisperEmotionRole):
            found = recogniser.of_pooled(np.asarray(store.array("whisper_pooled")[batch]))
        else:
            mels = [store.frames_of("mel", i).astype(np.float32) for i in batch]
            found = recogniser.recognise(mels, TOGETHER)
        told |= dict(zip(batch, found, strict=True))
    in_order = [told[int(i)] for i in chosen]
    return Heard(
        np.array([one.arousal for one in in_order]),
        [max(one.probabilities, key=lambda name: one.probabilities[name]) for one in in_order],
    )


def figures(clips: Sequence[Utterance], heard: Heard, seed: int = 0) -> dict[str, Figure | None]:
    """Returns (1) to (5).

    Args:
        clips: acted or rated.
        heard: of them.
        seed: of the resampling.
    """
    truth = np.array([true_arousal(clip) for clip in clips])
    names: dict[str, int] = {}
    speaker = np.array([names.setdefault(clip.speaker, len(names)) for clip in clips])
    own = standard_scores(heard.arousal, speaker)
    proxy = proxy_of(clips, speaker)
    named = [
        float(clip.emotion == emotion) if clip.emotion else np.nan
        for clip, emotion in zip(clips, heard.emotion, strict=True)
    ]
    r = [correlation_figure(truth, values, seed=seed) for values in (heard.arousal, own, proxy)]
    lead = correlation_figure(truth, own, less=proxy, seed=seed)
    return dict(zip(FIGURES, (figure(np.array(named), seed), *r, lead), strict=True))


def true_arousal(clip: Utterance) -> float:
    """Returns the rating, else what emotion and intensity stand for.

    Args:
        clip: acted or rated.
    """
    return clip.arousal if clip.rated else base_arousal(clip.emotion, clip.intensity)


def proxy_of(clips: Sequence[Utterance], speaker: np.ndarray) -> Float[np.ndarray, " n"]:
    """Returns (4)'s sum for each clip.

    Args:
        clips: with level and F0.
        speaker: a number from 0 for each clip.
    """
    level = [np.nan if clip.corpus in LEVEL_NORMALISED else clip.level_db for clip in clips]
    log_f0 = [np.log(clip.f0_hz) if clip.f0_hz > 0 else np.nan for clip in clips]
    return standard_scores(np.array(level), speaker) + standard_scores(np.array(log_f0), speaker)


def _is_known(utterance: Utterance, group: str) -> bool:
    """Tells whether an utterance of CORPUS/SPLIT was acted or rated."""
    known = bool(utterance.emotion) or utterance.rated
    return known and f"{utterance.corpus}/{utterance.split}" == group
