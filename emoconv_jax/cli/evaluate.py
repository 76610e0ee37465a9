"""Measures conversions of held-out speech: does the emotion arrive, does the voice stay.

usage: emoconv evaluate --features FEATURES --corpora DIR --out DIR [--second BUNDLE]
                        [--bundle BUNDLE] [--split test] [--limit 40] [--seed 0]
                        [--trials arousal,emotions,mixes,emomix] [--mixed_in happy,angry,sad]
                        [--each 1]
                        [--yardsticks source,copy_synthesis,average_voice,signal,level]
                        [--steps N] [--solver NAME] [--spacing NAME] [--latent source] [--start T]
                        [--guidance W]
       emoconv evaluate --what recognisers --features FEATURES --out DIR [--bundle BUNDLE]
                        [--second BUNDLE] [--split validation,test]
       emoconv evaluate --what probes --features FEATURES --out DIR
       emoconv evaluate --what ablation --features FEATURES --second BUNDLE --out DIR
                        [--bundle BUNDLE] [--variants score,xt,tweedie,velocity,style]
                        [--train_steps 800] [--seeds 3]

conversions  (default) converts each chosen utterance to arousal 1, 2 ... 7, to every emotion and to
          neutral with an emotion mixed in at strength 0, .2, .4, .6, .8, on all steps (mixes)
          and by three phases (emomix), beside yardsticks. They are heard by the bundle's
          recogniser and by that of --second, by two speaker encoders, Whisper, DNSMOS and
          DistillMOS, as far as they are installed (extra `evaluate`, and for DistillMOS torch and
          `pip install --no-deps distillmos xls-r-sqa`). Tables and report.html with 95 % intervals
          over utterances, plots and players; report.csv, summary.json
recognisers  converts nothing: how well the recognisers of --bundle and --second hear emotion and
          arousal of real clips, beside level and F0 alone; of clips that a recogniser was
          trained on its row says nothing
probes    converts nothing: how well emotion and speaker can be told from the average voices of
          encoded FEATURES, of all splits, and from the mels they were made of
ablation  trains small score networks by the losses of EmoConv-Diff's ablation, with the velocity
          head and with the style loss, --seeds of each; converts validation clips to arousal 1 to
          7, with guidance and without, and lets the recogniser of --second hear them, and some
          DNSMOS. FEATURES are encoded with --bundle

Only voices that no training has heard are converted. A table is printed, the figures and all rows
go to the folder of --out; each question needs a folder of its own. An interrupted evaluation or
ablation continues where it was. An utterance takes about 25 conversions and 17 yardsticks: for a
quick look --limit 2 --steps 4 --trials arousal. --limit, --steps and the flags of a request
are of conversions.
"""

import pathlib
from typing import Any

from absl import flags as absl_flags

from emoconv_jax.cli.convert import BUNDLE
from emoconv_jax.errors import UsageError

REQUEST = ("solver", "steps", "spacing", "latent", "start", "guidance")
WHAT = ("conversions", "recognisers", "probes", "ablation")
OF_FEATURES = WHAT[1:]  # which need no recordings
TRIALS = ("arousal", "emotions", "mixes", "emomix")
YARDSTICKS = ("source", "copy_synthesis", "average_voice", "signal", "level")


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    text, whole = absl_flags.DEFINE_string, absl_flags.DEFINE_integer
    text("features", None, "what `prepare` wrote", flag_values=flags)
    text("corpora", None, "folder that holds the corpus folders", flag_values=flags)
    text("out", None, "folder for rows and summary", flag_values=flags)
    absl_flags.DEFINE_enum("what", WHAT[0], WHAT, "the question", flag_values=flags)
    text("bundle", BUNDLE, "the model", flag_values=flags)
    text("split", "test", "which utterances; `recognisers` takes several", flag_values=flags)
    whole("limit", 40, "utterances at most", 1, flag_values=flags)
    text("solver", None, "as of convert", flag_values=flags)
    whole("steps", None, "of the solver (what suits it)", 1, flag_values=flags)
    text("spacing", None, "of the steps (what suits the solver)", flag_values=flags)
    text("latent", None, "what to set out from (the bundle's own)", flag_values=flags)
    absl_flags.DEFINE_float(
        "start", None, "how far back to set out (the bundle's own)", flag_values=flags
    )
    absl_flags.DEFINE_float(
        "guidance", None, "how far beyond the target (the bundle's own)", flag_values=flags
    )
    whole("seed", 0, "of choice and noise", flag_values=flags)
    absl_flags.DEFINE_list(
        "mixed_in", ["happy", "angry", "sad"], "emotions to mix in", flag_values=flags
    )
    whole("each", 1, "of them per utterance; they take turns", 1, flag_values=flags)
    text("second", None, "bundle of a recogniser that judges beside the own", flag_values=flags)
    absl_flags.DEFINE_list("trials", list(TRIALS), "of conversions", flag_values=flags)
    absl_flags.DEFINE_list("yardsticks", list(YARDSTICKS), "of conversions", flag_values=flags)
    absl_flags.DEFINE_list("variants", [], "of `ablation` (all)", flag_values=flags)
    whole("train_steps", 800, "of a run of `ablation`", 1, flag_values=flags)
    whole("seeds", 3, "runs of each of its variants", 1, flag_values=flags)


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: empty, see `cli.main.FLAGS_ONLY`.

    Returns:
        The exit code.
    """
    for name in ("features", "corpora", "out"):
        if getattr(flags, name) is None and (name != "corpora" or flags.what not in OF_FEATURES):
            raise UsageError(f"--{name}: missing")
    for name, allowed in (("trials", TRIALS), ("yardsticks", YARDSTICKS)):
        for value in getattr(flags, name):
            if value not in allowed:
                raise UsageError(f"--{name}: found {value!r}, allowed are {', '.join(allowed)}")
    answers = {
        "conversions": _conversions,
        "recognisers": _recognisers,
        "probes": _probes,
        "ablation": _ablation,
    }
    print(answers[flags.what](flags))
    return 0


def _recognisers(flags: absl_flags.FlagValues) -> str:
    """Lets the recognisers hear real clips and returns their table."""
    from emoconv_jax.bundles import hub
    from emoconv_jax.evaluation import recognition
    from emoconv_jax.pipeline.store import FeatureStore

    names = [name.rstrip("/") for name in (flags.bundle, flags.second) if name]
    folders = {name: hub.fetch(name, None)[0] for name in names}
    _check_mels_are_heard(folders)
    found = recognition.evaluate(
        {name: recognition.recogniser_of(folder) for name, folder in folders.items()},
        FeatureStore(pathlib.Path(flags.features)),
        _own_folder(flags),
        [name.strip() for name in flags.split.split(",")],
        flags.seed,
    )
    rows = []
    for group, heard in found.items():
        for name, told in heard.items():
            rows.append((group, [name, *map(_interval, told.values())]))
    titles = {name: name.replace("_", " ") for name in recognition.FIGURES}
    return _markdown(["recogniser", *titles.values()], rows)


def _probes(flags: absl_flags.FlagValues) -> str:
    """Probes average voices and returns the table."""
    from emoconv_jax.evaluation import probes
    from emoconv_jax.pipeline.store import FeatureStore

    store = FeatureStore(pathlib.Path(flags.features))
    found = probes.evaluate(store, _own_folder(flags), flags.seed)
    rows = []
    for corpus, told in found.items():
        for label, row in told.items():
            cells = [_interval(row.get(name)) for name in probes.SOURCES]
            rest = [f"{row['chance']:.2f}", f"{row['classes']:.0f}"]
            rows.append((f"{corpus}: {label}", [*cells, *rest]))
    return _markdown(["mel", "average voice", "chance", "classes"], rows)


def _ablation(flags: absl_flags.FlagValues) -> str:
    """Trains and measures variants and returns their table."""
    if flags.second is None:
        raise UsageError("--second: missing; the recogniser that hears the conversions")
    from emoconv_jax.bundles import hub
    from emoconv_jax.evaluation import ablation
    from emoconv_jax.pipeline.store import FeatureStore

    for name in flags.variants:
        if name not in ablation.VARIANTS:
            allowed = ", ".join(ablation.VARIANTS)
            raise UsageError(f"--variants: found {name!r}, allowed are {allowed}")
    bundle, judge = (hub.fetch(name, None)[0] for name in (flags.bundle, flags.second))
    _check_mels_are_heard({flags.second: judge})
    settings = ablation.Settings(str(bundle), steps=flags.train_steps, seeds=flags.seeds)
    parts = FeatureStore(pathlib.Path(flags.features)), judge, pathlib.Path(flags.out)
    return ablation.table(
        ablation.measure(*parts, settings, flags.variants or tuple(ablation.VARIANTS))
    )


def _check_mels_are_heard(folders: dict[str, pathlib.Path]) -> None:
    """Refuses judges that hear recordings where the log-mels of features are heard."""
    from emoconv_jax.listeners.emotion import is_judges

    for name, folder in folders.items():
        if is_judges(folder):
            raise UsageError(
                f"{name}: found judges of recordings, allowed is a recogniser of log-mels; train "
                "one by configs/judge.py"
            )


def _own_folder(flags: absl_flags.FlagValues) -> pathlib.Path:
    """Returns the folder for figures; one that holds rows has a summary of these."""
    from emoconv_jax.evaluation.rows import ROWS_FILE

    out = pathlib.Path(flags.out)
    if (out / ROWS_FILE).is_file():
        raise UsageError(f"--out: {out} holds the rows of another question; use a fresh folder")
    return out


def _interval(figure: Any) -> str:
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})" if figure else ""


def _conversions(flags: absl_flags.FlagValues) -> str:
    """Converts, listens and returns the table."""
    from emoconv_jax.bundles import hub
    from emoconv_jax.bundles.format import fingerprint, read_config
    from emoconv_jax.evaluation import report
    from emoconv_jax.evaluation.evaluation import Asked, Evaluation
    from emoconv_jax.evaluation.judges import Judges
    from emoconv_jax.inference.converter import EmotionConverter
    from emoconv_jax.inference.roles import emotion_role
    from emoconv_jax.listeners import emotion
    from emoconv_jax.pipeline.store import FeatureStore

    converter = EmotionConverter.from_pretrained(flags.bundle)
    store = FeatureStore(pathlib.Path(flags.features))
    corpora, out = pathlib.Path(flags.corpora), pathlib.Path(flags.out)
    request = {name: getattr(flags, name) for name in REQUEST}
    second, sha256 = None, ""
    if flags.second:
        folder, _ = hub.fetch(flags.second, None)
        if emotion.is_judges(folder):
            (second,) = emotion.load_judges(folder, emotion.WHISPER).values()
            sha256 = emotion.fingerprint(folder)
        else:
            second, sha256 = emotion_role(folder, read_config(folder)), fingerprint(folder)
        if sha256 == converter.sha256:
            raise UsageError(f"--second: {flags.second} is the bundle that is judged")
    asked = Asked(
        what=tuple(flags.trials),
        systems=tuple(flags.yardsticks),
        split=flags.split,
        limit=flags.limit,
        mixed_in=tuple(flags.mixed_in),
        each=flags.each,
        seed=flags.seed,
        request={name: value for name, value in request.items() if value is not None},
    )
    judges = Judges(converter, second, sha256)
    evaluation = Evaluation(converter, store, corpora, out, judges, asked)
    summary = report.write(evaluation.run(), evaluation.voices, judges.notes, out, flags.seed)
    return "\n".join([report.markdown(summary), "", *judges.notes])


def _markdown(columns: list[str], rows: list[tuple[str, list[str]]]) -> str:
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    return "\n".join(lines + [f"| {title} | " + " | ".join(cells) + " |" for title, cells in rows])
