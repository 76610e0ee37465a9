"""What a bundle consists of, and whether a folder holds a whole and sound one."""

import fnmatch
import pathlib
import re
from collections.abc import Sequence

from emoconv_jax.bundles.agreement import check_agreement
from emoconv_jax.bundles.banks import BANKS_FILE, load_banks
from emoconv_jax.bundles.cards import CARD_FILE
from emoconv_jax.bundles.format import (
    CONFIG_FILE,
    BundleConfig,
    check_shards,
    part_files,
    read_config,
)
from emoconv_jax.bundles.headers import check_header
from emoconv_jax.bundles.parts import load_variables, parts_of

SHARDS = re.compile(r"-of-([0-9]{1,4})\.safetensors")


def is_own(name: str, parts: Sequence[str]) -> bool:
    """Returns whether a file is one of those that a bundle consists of.

    Args:
        name: of the file.
        parts: of the bundle.
    """
    shards = (fnmatch.fnmatchcase(name, f"{part}-*-of-*.safetensors") for part in parts)
    return name in (CONFIG_FILE, BANKS_FILE, CARD_FILE) or any(shards)


def lacking(folder: pathlib.Path) -> str:
    """Returns the name of a file that a bundle needs and a folder lacks, or "".

    Args:
        folder: of the bundle.

    Raises:
        EmoconvError: its configuration cannot be read.
    """
    for name in (CONFIG_FILE, BANKS_FILE):
        if not (folder / name).exists():
            return name
    for part in parts_of(read_config(folder)):
        names = [file.name for file in part_files(folder, part) if file.exists()]
        counts = [int(found[1]) for name in names if (found := SHARDS.search(name))]
        count = max(counts, default=1)
        for number in range(1, count + 1):
            if (name := f"{part}-{number}-of-{count}.safetensors") not in names:
                return name
    return ""


def check_outside(folder: pathlib.Path) -> BundleConfig:
    """Checks a bundle's configuration, its banks, and the headers of its other tensors.

    Args:
        folder: of the bundle.

    Returns:
        Its configuration.

    Raises:
        EmoconvError: what is missing, damaged or does not fit, by file and field.
    """
    config = read_config(folder)
    check_agreement(config, str(folder / CONFIG_FILE))
    load_banks(folder, config.emotion_width)
    for part in parts_of(config):
        check_shards(part_files(folder, part))
    for path in folder.glob("*.safetensors"):
        check_header(path)
    return config


def check_bundle(folder: pathlib.Path) -> BundleConfig:
    """Loads everything a bundle holds, as a user would, and lets it go.

    Args:
        folder: of the bundle.

    Returns:
        Its configuration.

    Raises:
        EmoconvError: a part that is missing, damaged or does not fit, by file and field.
    """
    config = check_outside(folder)
    for role in parts_of(config):
        load_variables(folder, role, config)
    return config
