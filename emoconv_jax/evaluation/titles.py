"""What systems, hearers and figures of an evaluation are called on its page and in its tables."""

from collections.abc import Collection, Mapping
from typing import Any

from emoconv_jax.evaluation.summary import HEARERS
from emoconv_jax.evaluation.trials import EMOMIX, MIXES, MODEL

SYSTEMS = {  # in the order of the tables: colour, and what it is
    MODEL: ("#c2410c", "conversions by the bundle"),
    "signal": ("#2563a8", "pitch, its range, pace and level changed by rule, without any training"),
    "level": ("#4d7c0f", "the level changed by rule, and nothing else"),
    "average_voice": ("#a16207", "what is said, in no one's voice and mood, through the vocoder"),
    "copy_synthesis": ("#7c3aed", "the recording's mel through the vocoder"),
    "source": ("#6b7280", "the recording"),
}
MIXING_NAMES = {MIXES: "mixed on all steps", EMOMIX: "mixed by EmoMix's phases"}
HEARER_NAMES = {"own": "the bundle's recogniser", "second": "the second recogniser"}
TITLES = {
    "tau": "Kendall's tau of arousal, median",
    "slope": "slope of heard on asked arousal",
    "l_abs": "absolute error of arousal, L_abs",
    "l_mse": "squared error of arousal, L_mse",
    "in_order": "pairs of targets in order",
    "accuracy": "emotion heard as asked",
    "mixes_tau": "Kendall's tau of an emotion mixed in",
    "mixes_in_order": "pairs of strengths in order",
    "emomix_tau": "Kendall's tau of an emotion mixed in by EmoMix's phases",
    "emomix_in_order": "pairs of strengths in order by EmoMix's phases",
}
PERCENT = ("l_abs", "in_order", "accuracy", "mixes_in_order", "emomix_in_order", "wer", "cer")
OTHERS = {
    "own_voice": "cosine with the own speaker (GE2E)",
    "own_nearest": "nearest to the own speaker (GE2E)",
    "own_nearest_real": "the same of real emotional clips",
    "own_nearest_guess": "the same of a guess among voices of one sex",
    "second_voice": "cosine with the own speaker (second encoder)",
    "second_nearest": "nearest to the own speaker (second encoder)",
    "second_nearest_real": "the same of real emotional clips",
    "wer": "word error rate, English",
    "cer": "character error rate, English",
    "sig": "DNSMOS SIG",
    "ovrl": "DNSMOS OVRL",
    "distillmos": "DistillMOS",
    "level_db": "level (dBFS)",
    "f0_hz": "median F0 (Hz)",
    "f0_range_semitones": "standard deviation of F0 (semitones)",
    "f0_risen_semitones": "median F0 at arousal 7 above that at 1 (semitones)",
    "level_risen_db": "level at arousal 7 above that at 1 (dB)",
    "pace": "pace over that of the source",
    "mcd_db": "MCD to recordings of the same words in the emotion asked for, or in all (dB)",
    "f0_error_semitones": "F0 error to those recordings (semitones)",
}


def table_rows(known: Collection[str]) -> list[tuple[str, str, bool]]:
    """Returns (figure, title, whether it is a share) of every row of a table, in order.

    Args:
        known: the figures that there are.
    """
    languages = sorted(name for name in known if name.startswith("cer_"))
    others = OTHERS | {name: f"character error rate, {name[4:]}" for name in languages}
    rows = []
    for name, title in TITLES.items():
        for hearer in HEARERS:
            for loudness, said in (("", ""), ("_equal_level", ", equal loudness")):
                text = f"{title}, by {HEARER_NAMES[hearer]}{said}"
                rows.append((f"{name}_{hearer}{loudness}", text, name in PERCENT))
    shares = ("nearest", "wer", "cer")
    rows += [(key, title, any(s in key for s in shares)) for key, title in others.items()]
    return [row for row in rows if row[0] in known]


def text_of(
    figure: Mapping[str, Any] | None,
    share: bool,
    utterances: int = 0,
    digits: int | None = None,
) -> str:
    """Returns a figure with its interval as text.

    Args:
        figure: of `statistics`, as a dict; None where there is none.
        share: whether it is one of 0..1, shown in per cent.
        utterances: that there are; a figure of fewer says of how many.
        digits: after the point; None is as many as one can read.
    """
    if figure is None:
        return ""
    scale = 100 if share else 1
    value, low, high = (scale * figure[key] for key in ("value", "low", "high"))
    if digits is None:
        digits = 0 if share else 1 if abs(value) >= 10 else 2
    fewer = f", {figure['utterances']} clips" if figure["utterances"] < utterances else ""
    unit = " %" if share else ""
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}{fewer}){unit}"
