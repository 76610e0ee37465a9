"""What made a conversion, JSON-ready: its request, its bundle, the software."""

import dataclasses
import pathlib
from typing import Any

import emoconv_jax
from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.bundles.hub import Source
from emoconv_jax.inference.conversion import CAUTION
from emoconv_jax.inference.resolved import Resolved


def provenance(
    name: str, resolved: Resolved, config: BundleConfig, source: Source, sha256: str
) -> dict[str, Any]:
    """Returns what a conversion's files say of how it was made.

    Args:
        name: of the recording.
        resolved: the request.
        config: of the bundle.
        source: where the bundle came from.
        sha256: its fingerprint.
    """
    request = dataclasses.asdict(resolved.request)
    if request["emotion_ref"]:  # where it lies is nobody's business
        request["emotion_ref"] = pathlib.Path(request["emotion_ref"]).name
    return {
        "notice": CAUTION,
        "software": f"emoconv {emoconv_jax.__version__}",
        "bundle": config.name,
        "bundle_revision": f"{source.name}@{source.commit}" if source.commit else None,
        "bundle_sha256": sha256,
        "licence": config.licence,
        "imported": {entry.part: entry.licence for entry in config.imported},
        "source": name,
        "request": request,
        "conditions": list(resolved.names),
    }
