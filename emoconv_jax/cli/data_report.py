"""Shows what a prepared feature folder holds, and warns of what will hurt a training.

usage: emoconv data_report FEATURES [--out FOLDER]

FEATURES is what `emoconv prepare` wrote. Prints hours, speakers, emotions, and the distributions of
arousal, length, level and F0, by corpus; the last lines are warnings: what was found, what is
wanted, what to do. With --out it also writes

  FOLDER/report.json   every figure, overall, by corpus and by split, and the warnings
  FOLDER/report.png    a picture for a slide, 1920 x 1080

In the tables, "phones" is the share of utterances with phone times, "rated" that of arousal labels
which listeners gave (the others follow from emotion, level and F0), "within speaker" the standard
deviation of the level of one speaker's utterances, "voiced" the share of frames with a pitch.
Histograms run over the range that their column's head names.

Warnings are advice: the exit code is 0 with them and without. They look at the training splits
where training is concerned, and at a corpus as a whole where its recordings are.
"""

import json
import pathlib
import sys

from absl import flags as absl_flags

from emoconv_jax.errors import UsageError

JSON, PICTURE = "report.json", "report.png"


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    absl_flags.DEFINE_string("out", None, "folder for report.json and .png", flag_values=flags)


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: the feature folder.

    Returns:
        The exit code.
    """
    if len(positional) != 1:
        raise UsageError(f"found {len(positional)} folders, expected one that `prepare` wrote")
    from emoconv_jax.config import to_dict
    from emoconv_jax.files import replacing
    from emoconv_jax.pipeline.report import make_report
    from emoconv_jax.pipeline.report_text import in_plain_letters, report_text
    from emoconv_jax.pipeline.report_warnings import findings
    from emoconv_jax.pipeline.store import FeatureStore

    store = FeatureStore(pathlib.Path(positional[0]))
    report = make_report(store.utterances, store.mel_config)
    found = findings(report)
    text = report_text(report, found)
    utf = (sys.stdout.encoding or "").lower().startswith("utf")
    print(text if utf else in_plain_letters(text))
    if flags.out is None:
        return 0
    from emoconv_jax.pipeline.report_picture import draw  # matplotlib takes a second to import

    out = pathlib.Path(flags.out)
    data = to_dict(report) | {"warnings": [to_dict(finding) for finding in found]}
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / JSON, out / PICTURE) as (figures, picture):
        figures.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        draw(report, picture)
    print(f"\nwrote {out / JSON} and {out / PICTURE}")
    return 0
