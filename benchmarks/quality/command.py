"""What both looks' commands share: flags, the run, the line and the row of the table."""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.quality import figures, real_speech, trials_table
from benchmarks.quality.clips import (
    ACTED,
    KOKORO,
    SYNTHETIC,
    Clip,
    enrolment,
    read_clips,
    real,
    to_convert,
)
from benchmarks.quality.look import REAL, TARGETS, Asked, Look, Row
from benchmarks.quality.panel import OWN, Panel, Voices
from emoconv_jax.bundles import hub
from emoconv_jax.bundles.banks import Banks
from emoconv_jax.bundles.format import fingerprint
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import parse_json
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.speaker import SpeakerRole
from emoconv_jax.listeners import emotion
from emoconv_jax.training.status import status_of

ROOT = pathlib.Path(__file__).parents[2]
CORPORA = ROOT.parent / "shared" / "data"
JUDGES = ROOT / "data" / "bundles" / "emoconv-judge"
TABLE = pathlib.Path(__file__).parent / "results" / "trials.tsv"
LJ = "ljspeech32"


@dataclasses.dataclass(frozen=True)
class Kind:
    """One of the two looks.

    Attributes:
        name: of it.
        split: whose voices are converted.
        counts: clips of each corpus; Kokoro's are those of KOKORO or, where that is not there,
            SYNTHETIC.
        seeds: of the conversions.
    """

    name: str
    split: str
    counts: Mapping[str, int]
    seeds: Sequence[int]


def flags(kind: Kind, doc: str | None) -> argparse.ArgumentParser:
    """Returns the parser of a look's flags.

    Args:
        kind: of the look.
        doc: of the command.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.quality.{kind.name}_look",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("bundle", help="folder, or ORG/NAME on the Hub")
    add("--corpora", default=CORPORA, type=pathlib.Path, help="folder of the corpora's folders")
    add("--kokoro", type=pathlib.Path, help="folder of the corpus kokoro (CORPORA/kokoro)")
    add("--judges", default=JUDGES, type=pathlib.Path, help="what fit_judges wrote")
    add("--out", default=TABLE, type=pathlib.Path, help="table of trials, .tsv, gets a row")
    add("--keep", type=pathlib.Path, help="folder for clips and rows; a look goes on in it")
    more = "further field of every request, the value as JSON or text; several times"
    add("--request", default=[], action="append", metavar="FIELD=VALUE", help=more)
    add("--null_emotion", action="store_true",
        help="e = null at every target: what prosody by rule does alone")  # fmt: skip
    add("--targets", default=",".join(TARGETS), help="of the conversions")
    add("--note", default="", help="what the trial is, for the table")
    add("--hours", default="", help="of training, for the table")
    add("--crops", default="", help="trained on, for the table")
    add("--workdir", type=pathlib.Path, help="of the training: hours and crops are read there")
    add("--commit", default="", help="that trained the bundle (the checkout's)")
    add("--limit", type=int, help="clips of each corpus at most: a trial of the look itself")
    return parser


def run(kind: Kind, doc: str | None, argv: Sequence[str] | None = None) -> int:
    """Runs a look; prints its figures and adds its row to the table.

    Args:
        kind: of it.
        doc: of the command.
        argv: arguments; None are the process's.

    Returns:
        The exit code; what is wrong is printed in one line.
    """
    args = flags(kind, doc).parse_args(argv)
    try:
        _run(kind, args)
    except (EmoconvError, ModuleNotFoundError) as error:
        print(f"{kind.name}_look: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def _run(kind: Kind, args: argparse.Namespace) -> None:
    targets = [name.strip() for name in args.targets.split(",")]
    if unknown := [name for name in targets if name not in TARGETS]:
        raise UsageError(f"--targets: found {unknown[0]!r}, allowed are {', '.join(TARGETS)}")
    request = request_of(args.request)
    trained = {}
    if args.workdir:
        status = status_of(args.workdir)
        trained = {"hours": f"{status.hours:.2f}", "crops": str(status.crops)}
    clips = clips_of(args.corpora, args.kokoro)
    chosen = converted(kind, clips, args.limit)
    about, judges = emotion.read_about(args.judges), emotion.load_judges(args.judges)
    folder, _ = hub.fetch(args.bundle, None)
    converter = EmotionConverter.from_pretrained(folder)
    if args.null_emotion:
        take_emotion_away(converter.banks)
    rate_hz = converter.config.mel.sample_rate_hz
    voices = Voices(SpeakerRole(), rate_hz)
    voices.enrol(enrolment(clips, chosen))
    panel = Panel({OWN: converter.emotion, **judges}, voices, rate_hz)
    heard = real(clips, {clip.voice for clip in chosen})
    asked = Asked(chosen, heard, targets, kind.seeds, request, null_emotion=args.null_emotion)
    said = [*args.request, *(["e = null"] if args.null_emotion else [])]
    name = f"{kind.name}-{pathlib.Path(args.bundle).name}-{fingerprint(folder)[:8]}"
    if said:
        name += "-" + "-".join("".join(c for c in one if c.isalnum() or c in "._") for one in said)
    keep = args.keep or pathlib.Path("runs") / "looks" / name
    rows = Look(converter, panel, asked, keep).rows(emotion.fingerprint(args.judges))
    scales = {OWN: own_scale(rows, heard), **about["heard"]}
    found = figures.line(rows, scales)
    row = trials_table.row(
        {
            "date": trials_table.today(),
            "look": kind.name,
            "bundle": f"{converter.config.name} {fingerprint(folder)[:8]}",
            "note": args.note,
            "commit": args.commit or trials_table.commit_of(ROOT),
            "hours": args.hours or trained.get("hours", ""),
            "crops": args.crops or trained.get("crops", ""),
            "request": ", ".join(said),
            "clips": str(len(chosen)),
        },
        found,
    )
    print(real_speech.table(scales))
    print()
    print(trials_table.markdown([row]).split("\n", 4)[-1])
    trials_table.append(args.out, row)
    print(f"added to {args.out}; clips in {keep}")


def take_emotion_away(banks: Banks) -> None:
    """Makes every embedding of banks null; what they say of prosody stays.

    Args:
        banks: of a bundle.
    """
    banks.vectors |= {name: np.zeros_like(vector) for name, vector in banks.vectors.items()}


def clips_of(corpora: pathlib.Path, kokoro: pathlib.Path | None) -> list[Clip]:
    """Returns the clips of all corpora of a look.

    Args:
        corpora: the folder of their folders.
        kokoro: the corpus of that name; None lies beside the others.
    """
    folders = [corpora / name for name in (*ACTED, LJ, SYNTHETIC)]
    return read_clips([*folders, kokoro or corpora / KOKORO])


def converted(kind: Kind, clips: Sequence[Clip], limit: int | None) -> list[Clip]:
    """Returns the clips that a look converts.

    Args:
        kind: of the look.
        clips: of `clips_of`.
        limit: of each corpus at most; None is all.
    """
    counts = {name: min(count, limit or count) for name, count in kind.counts.items()}
    other = {KOKORO: "test", SYNTHETIC: "test"}
    if not any(clip.corpus == KOKORO and clip.split != "unused" for clip in clips):
        counts = {SYNTHETIC if n == KOKORO else n: count for n, count in counts.items()}
    return to_convert(clips, counts, kind.split, other=other)


def own_scale(rows: Sequence[Row], clips: Sequence[Clip]) -> dict[str, dict[str, Any]]:
    """Returns what the bundle's own head hears on the real clips of a look.

    Args:
        rows: of the look.
        clips: the real ones.
    """
    told = {row.clip: row for row in rows if row.target == REAL}
    found = [told[clip.name] for clip in clips]
    return real_speech.by_group(
        clips,
        [row.named.get(OWN, "") for row in found],
        [row.figures[f"{OWN}_arousal"] for row in found],
    )


def request_of(given: Sequence[str]) -> dict[str, Any]:
    """Returns fields of a request.

    Args:
        given: FIELD=VALUE; a value that is no JSON is text.

    Raises:
        UsageError: something else, or a field that the look sets.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--request: found {text!r}, allowed is FIELD=VALUE")
        if name in ("arousal", "mix", "seed"):
            raise UsageError(f"--request: {name} is the look's own; leave it out")
        try:
            found[name] = parse_json(value, name)
        except EmoconvError:
            found[name] = value
    return found
