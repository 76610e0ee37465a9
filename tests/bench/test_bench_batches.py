"""The measurement of readers: a made-up store that reads as one, and figures that can be."""

import dataclasses

import numpy as np
import pytest

from emoconv_jax.bench.batches import SHARD_UTTERANCES, forget, make_up, measure
from emoconv_jax.pipeline.store import FeatureStore, array_path


def test_a_made_up_store_opens_and_holds_what_its_index_says(tmp_path):
    make_up(tmp_path, 50, frames=40)
    store = FeatureStore(tmp_path)
    lengths = [u.frames for u in store.utterances]
    assert len(lengths) == 50
    assert min(lengths) >= 20
    assert max(lengths) <= 60
    assert sum(lengths) == store.frames
    mel = np.concatenate([store.frames_of("mel", i) for i in range(50)]).astype(np.float32)
    assert mel.std() == pytest.approx(2.0, rel=0.05)  # 160 000 numbers of that deviation
    assert store.array("emotion").shape == store.array("speaker").shape == (50, 256)


def test_an_empty_store_takes_no_room(tmp_path):
    make_up(tmp_path, SHARD_UTTERANCES + 1, frames=40, empty=True)
    store = FeatureStore(tmp_path)
    assert {u.shard for u in store.utterances} == {0, 1}
    assert not store.frames_of("mel", SHARD_UTTERANCES).any()
    mel = array_path(tmp_path, "mel").stat()
    assert mel.st_blocks * 512 < mel.st_size / 100


def test_forgetting_leaves_the_files_as_they_are(tmp_path):
    make_up(tmp_path, 5, frames=40)
    before = array_path(tmp_path, "mel").read_bytes()
    forget(tmp_path)
    assert array_path(tmp_path, "mel").read_bytes() == before


@pytest.mark.parametrize("crop", ["random", "whole"])
def test_every_figure_is_measured_and_shown(tmp_path, crop):
    make_up(tmp_path, 60, frames=40)
    found = measure(tmp_path, ["plain"], batch=4, frames=32, crop=crop, seconds=0.01)
    assert (found.utterances, found.batch, found.crop_frames) == (60, 4, 32)
    figures = dataclasses.asdict(found.readers["plain"])
    assert all(value > 0 for value in [found.open_s, *figures.values()])
    head, _, columns, row = found.table().splitlines()
    assert head.startswith(f"60 utterances, {found.frames} frames")
    assert len(row.split()) == 1 + len(figures)
    assert columns.split()[0] == "reader"
    assert row.split()[0] == "plain"
    assert float(row.split()[1]) == pytest.approx(figures["crops_per_s"], abs=1)
