"""The model card, README.md: what a bundle is for, what it was made from, what it must not do.

A card has YAML front matter, which the Hub shows as licence and tags, and five sections. Software
cannot judge what they say; it can refuse to publish a bundle that does not say it.
"""

import pathlib
import re

from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.errors import EmoconvError

CARD_FILE = "README.md"
CARD_BYTES = 1 << 20
SECTIONS = ("Licence", "Data", "Metrics", "Intended use", "Misuse and consent")
NOT_STATED = "Not stated yet."
INTENDED_USE = """Research and teaching on emotional voice conversion: the same words in the same \
voice with another
emotion."""
MISUSE = """- Convert a person's voice only with that person's permission.
- Do not use it to deceive, to impersonate, to harass, to fake evidence or to pass a voice check.
- Say that the result is synthetic. Every output says in its metadata that it is, and what made it;
  where it was not left out, a `.json` beside it says so in full. Leave both when you pass it on.
- Do not judge people by what the model reads from their voices."""
FRONT_MATTER = re.compile(r"---\n(.*?\n)---\n", re.DOTALL)


def card(
    config: BundleConfig,
    *,
    data: str = NOT_STATED,
    metrics: str = NOT_STATED,
    intended_use: str = INTENDED_USE,
    misuse: str = MISUSE,
) -> str:
    """Returns a model card.

    Args:
        config: of the bundle; gives name and licence.
        data: what it was trained on, Markdown. `check_card` refuses the default.
        metrics: what was measured on which data, Markdown. `check_card` refuses the default.
        intended_use: Markdown.
        misuse: what it must not be used for and whose consent is needed, Markdown.

    Returns:
        The text of README.md.
    """
    licence = f"`{config.licence}`, of the weights."
    if config.imported:
        licence += " Parts that were not trained here have their own:\n"
    for entry in config.imported:
        licence += f"\n- {entry.part}: `{entry.licence}`, from {entry.source} ({entry.format})"
    texts = (licence, data, metrics, intended_use, misuse)
    body = "\n".join(
        f"## {name}\n\n{text.strip()}\n" for name, text in zip(SECTIONS, texts, strict=True)
    )
    front = [
        f"license: {_quoted(config.licence.lower())}",
        "library_name: emoconv",
        "pipeline_tag: audio-to-audio",
        "tags:",
        *(f"- {tag}" for tag in ("emotional-voice-conversion", "diffusion", "jax")),
    ]
    return "\n".join(["---", *front, "---", "", f"# {config.name}", "", body])


def read_card(folder: pathlib.Path) -> str:
    """Reads a bundle's README.md.

    Args:
        folder: of the bundle.

    Returns:
        Its text; empty where the bundle has none.

    Raises:
        EmoconvError: no regular file, too large, or not UTF-8.
    """
    path = folder / CARD_FILE
    if not path.exists():
        return ""
    if not path.is_file():
        raise EmoconvError(f"{path}: not a regular file")
    if path.stat().st_size > CARD_BYTES:
        raise EmoconvError(f"{path}: {path.stat().st_size} bytes, at most {CARD_BYTES} allowed")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise EmoconvError(f"{path}: not UTF-8 ({error.reason})") from None


def check_card(folder: pathlib.Path) -> None:
    """Refuses a bundle whose model card is absent or leaves a section out.

    Args:
        folder: of the bundle.

    Raises:
        EmoconvError: no card, no front matter with a licence, or a section that is absent or empty,
            by name.
    """
    path, text = folder / CARD_FILE, read_card(folder)
    needed = ", ".join(f"'## {name}'" for name in SECTIONS)
    if not text:
        raise EmoconvError(f"{path}: not found; a published bundle has a model card with {needed}")
    front = FRONT_MATTER.match(text)
    if not front or not re.search(r"^license: *\S", front.group(1), re.MULTILINE):
        raise EmoconvError(f"{path}: no front matter with 'license:', which the Hub shows")
    _, *parts = re.split(r"^## +", text, flags=re.MULTILINE)
    found = {title.strip(): body.strip() for title, _, body in (p.partition("\n") for p in parts)}
    for name in SECTIONS:
        if found.get(name, "") in ("", NOT_STATED):
            fault = "is empty" if name in found else "is missing"
            raise EmoconvError(f"{path}: section '## {name}' {fault}; needed are {needed}")


def _quoted(text: str) -> str:
    """Returns a YAML scalar; the licence is any line of text."""
    return text if re.fullmatch(r"[a-z][\w.-]*", text) else "'" + text.replace("'", "''") + "'"
