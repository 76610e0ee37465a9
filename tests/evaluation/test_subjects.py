"""Who is converted, and whose voices compete, on a store of two-number voices."""

import numpy as np
import pytest
from tiny_store import CLIPS, voice_store

from emoconv_jax.errors import EmoconvError
from emoconv_jax.evaluation.subjects import Voices, choose
from emoconv_jax.pipeline.store import FeatureStore


def voices_of(store: FeatureStore) -> Voices:
    return Voices(store, "test", np.array(store.array("speaker")))


@pytest.fixture
def voices(tmp_path) -> Voices:
    return voices_of(voice_store(tmp_path / "features"))


def test_a_centroid_never_holds_the_clip_in_question(voices):
    """Ann's happy clip (0, 1): her other clip (1, .1) has cosine .0995 to it, Bea's mean (1, .95)
    has .689. With the clip itself, Ann's mean (.5, .55) would have .740 and win."""
    clip = np.array([0.0, 1.0], np.float32)
    assert voices.nearest(clip, 0) == "bea"
    assert voices.nearest(np.array([1.0, 0.2], np.float32), 0) == "ann"
    # for Bea's clip, Ann's centroid is whole: (.5, .55), cosine to (.5, .55) is 1
    assert voices.nearest(np.array([0.5, 0.55], np.float32), 2) == "ann"


def test_only_speakers_of_the_same_gender_compete(voices):
    assert voices.nearest(np.array([1.0, 0.1], np.float32), 4) == "carl"


def test_real_rate_is_that_of_emotional_clips_or_of_all_where_there_are_none(voices):
    """Ann's only emotional clip goes to Bea: 0. Bea's sad clip (1, 1) has cosine .99862 to her
    other one and .99887 to Ann's mean (.5, .55): lost; her angry clip (1, .9) has .99862 to her own
    and .99500 to Ann's: won. Carl is alone among the men: 1."""
    assert voices.real_rate("ann") == 0.0
    assert voices.real_rate("bea") == 0.5
    assert voices.real_rate("carl") == 1.0


def test_without_another_clip_there_is_no_nearest(tmp_path):
    alone = voices_of(voice_store(tmp_path / "features", CLIPS[:1]))
    assert alone.nearest(np.array([0.0, 1.0], np.float32), 0) == ""
    two = [CLIPS[0], ("bea", "F", "sad", (1.0, 0.0))]
    pair = voices_of(voice_store(tmp_path / "two", two))
    assert pair.nearest(np.array([0.0, 1.0], np.float32), 0) == "bea"


def test_similarity_is_that_with_the_other_clips_of_the_own_voice(voices):
    """Ann's other clip is (1, .1), length 1.00499: (1, 0) has cosine .99504 with it."""
    assert voices.similarity(np.array([1.0, 0.0], np.float32), 0) == pytest.approx(
        0.99504, abs=1e-5
    )


def test_medians_of_real_clips_with_own_and_other_centroids(voices):
    """Emotional are ann 0, bea 2 and 3. Own: .0995, .99862, .99862. Other: clip 0 with Bea's
    (1, .95) .6888; clips 2 and 3 with Ann's (.5, .55) .99887 and .99499."""
    own, other = voices.real_medians()
    assert own == pytest.approx(0.99862, abs=1e-5)
    assert other == pytest.approx(0.99499, abs=1e-5)


def test_choice_takes_turns_between_speakers_and_grows_with_the_limit(tmp_path):
    clips = [("ann", "F", "", (0.0, 1.0))] * 5 + [("bea", "F", "", (1.0, 0.0))] * 2
    store = voice_store(tmp_path / "features", clips)
    four, six = choose(store, "test", 4, seed=3), choose(store, "test", 6, seed=3)
    assert four == six[:4]
    assert [store.utterances[i].speaker for i in six] == ["ann", "bea", "ann", "bea", "ann", "ann"]
    assert len(set(six)) == 6
    assert sorted(choose(store, "test", 100, seed=0)) == list(range(7))
    assert len({tuple(choose(store, "test", 7, seed=s)) for s in range(5)}) > 1
    with pytest.raises(
        EmoconvError, match="no utterances of unseen speakers in split 'validation'"
    ):
        choose(store, "validation", 4, seed=0)
