"""Measures conversions of held-out speech: does the arousal arrive, does the voice stay.

usage: emoconv evaluate --features FEATURES --corpora DIR --out DIR [--bundle BUNDLE]
                        [--split test] [--limit 48] [--steps 30] [--latent source]
                        [--start T] [--guidance W] [--seed 0]

Converts each chosen utterance to arousal 1 and 7, measures the outputs and prints a table. An
interrupted run continues where it was.
"""

import pathlib

from absl import flags as absl_flags

from emoconv_jax.cli.convert import BUNDLE
from emoconv_jax.errors import UsageError

ROWS = {
    "utterances": ("utterances", "{:.0f}"),
    "arousal_rises": ("arousal at target 7 above target 1", "{:.0%}"),
    "arousal_rises_equal_level": ("the same at equal loudness", "{:.0%}"),
    "voiced_pairs": ("utterances with a pitch at both targets", "{:.0f}"),
    "f0_rises": ("median F0 at target 7 above target 1, of those", "{:.0%}"),
    "arousal_low": ("mean measured arousal, target 1", "{:.2f}"),
    "arousal_high": ("mean measured arousal, target 7", "{:.2f}"),
    "f0_low_hz": ("mean of median F0, target 1 (Hz)", "{:.0f}"),
    "f0_high_hz": ("mean of median F0, target 7 (Hz)", "{:.0f}"),
    "level_low_db": ("mean level, target 1 (dBFS)", "{:.1f}"),
    "level_high_db": ("mean level, target 7 (dBFS)", "{:.1f}"),
    "own_speaker_nearest": ("outputs nearest to their own speaker", "{:.0%}"),
    "own_speaker_nearest_real": ("real emotional clips nearest to their own", "{:.0%}"),
    "own_speaker_ratio": ("ratio of the two", "{:.2f}"),
}


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    text, whole = absl_flags.DEFINE_string, absl_flags.DEFINE_integer
    text("features", None, "what `prepare` wrote", flag_values=flags)
    text("corpora", None, "folder that holds the corpus folders", flag_values=flags)
    text("out", None, "folder for rows and summary", flag_values=flags)
    text("bundle", BUNDLE, "the model", flag_values=flags)
    text("split", "test", "which utterances", flag_values=flags)
    whole("limit", 48, "utterances at most", 1, flag_values=flags)
    whole("steps", 30, "of the solver", 1, flag_values=flags)
    text("latent", None, "what to set out from (the bundle's own)", flag_values=flags)
    absl_flags.DEFINE_float(
        "start", None, "how far back to set out (the bundle's own)", flag_values=flags
    )
    absl_flags.DEFINE_float(
        "guidance", None, "how far beyond the target (the bundle's own)", flag_values=flags
    )
    whole("seed", 0, "of choice and noise", flag_values=flags)


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: empty, see `cli.main.FLAGS_ONLY`.

    Returns:
        The exit code.
    """
    for name in ("features", "corpora", "out"):
        if getattr(flags, name) is None:
            raise UsageError(f"--{name}: missing")
    from emoconv_jax.evaluation.arousal import evaluate
    from emoconv_jax.inference.converter import EmotionConverter
    from emoconv_jax.pipeline.store import FeatureStore

    summary = evaluate(
        EmotionConverter.from_pretrained(flags.bundle),
        FeatureStore(pathlib.Path(flags.features)),
        pathlib.Path(flags.corpora),
        pathlib.Path(flags.out),
        split=flags.split,
        limit=flags.limit,
        steps=flags.steps,
        seed=flags.seed,
        latent=flags.latent,
        start=flags.start,
        guidance=flags.guidance,
    )
    print(table(summary))
    return 0


def table(summary: dict) -> str:
    """Returns the summary as a Markdown table, one column per corpus.

    Args:
        summary: from `evaluation.arousal.evaluate`.

    Returns:
        The lines.
    """
    columns = [name for name, value in summary.items() if isinstance(value, dict)]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for key, (title, style) in ROWS.items():
        cells = [style.format(summary[name][key]) for name in columns]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
