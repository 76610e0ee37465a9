"""Examples during training: which utterances, what networks make of them, and how it is shown."""

import dataclasses

import jax
import matplotlib
import numpy as np
import pytest
from runs import drawn, settings, silent
from tiny_store import entries

from emoconv_jax.audio.griffin_lim import griffin_lim
from emoconv_jax.bundles.banks import LEVEL_NAMES, Banks
from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.config import MelConfig
from emoconv_jax.diffusion.plan import single
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.sampling import Sampler
from emoconv_jax.pipeline.average_voice import average_voice_target
from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.training import listening
from emoconv_jax.training.listening import Listening, draw, spread, title, vocoder_of
from emoconv_jax.training.trainees import make_trainee

CHOSEN = (9, 8)  # of made/0 and made/2, 35 and 30 frames
AVERAGE_VOICE, SCORE_NETWORK = "average_voice", "score_network"


def as_sound(mel: np.ndarray) -> np.ndarray:
    """A vocoder that gives the mel itself, number by number."""
    return mel.astype(np.float32).ravel()


def made(store: FeatureStore, trainee: str, vocode=as_sound, log=silent) -> Listening:
    config = settings(trainee)
    return Listening(config, store, make_trainee(config).network, vocode, log)


def params(trainee: str, seed: int = 0):
    """Random parameters of a network that draws mels."""
    return drawn(make_trainee(settings(trainee)), seed)


def stored(store: FeatureStore, name: str, index: int) -> np.ndarray:
    return np.array(store.frames_of(name, index), np.float32)


def average_voice(own, mel: np.ndarray) -> np.ndarray:
    """What the network makes of one unpadded mel."""
    network = make_trainee(settings(AVERAGE_VOICE)).network
    mask = np.ones((1, len(mel)), np.float32)
    return np.asarray(jax.jit(network.apply)({"params": own}, mel[None], mask)[0])


@pytest.mark.slow
def test_a_conversion_is_the_samplers_own_without_padding(store, monkeypatch, caplog):
    """Both utterances are padded to 64 frames in one batch; one alone, unpadded, is the same."""
    draw_bank = np.random.default_rng(0).normal
    vectors = {name: draw_bank(size=256).astype(np.float32) for name in LEVEL_NAMES}
    banks = Banks(vectors, {})  # the store's own are all the same, of 8 utterances each
    monkeypatch.setattr(listening, "banks_of", lambda *_: banks)
    own, example = params(SCORE_NETWORK), made(store, SCORE_NETWORK)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        found = example.examples(own, 7)
        changed = example.examples(params(SCORE_NETWORK, seed=1), 8)
    assert caplog.text.count("Finished XLA compilation of jit(_run)") == 1
    for shown, index in zip(found, CHOSEN, strict=True):
        assert list(shown.sounds) == ["source", "average_voice", "arousal_2", "arousal_6"]
        for name, array in (("source", "mel"), ("average_voice", "average_voice")):
            assert np.array_equal(shown.sounds[name], as_sound(stored(store, array, index)))
    config = make_trainee(settings(SCORE_NETWORK)).network_config
    sampler = Sampler(BundleConfig("", "", score_network=config), {"params": own})
    source, voice = (stored(store, name, CHOSEN[1]) for name in ("mel", "average_voice"))
    plan = single("any", 10)
    for level in (2.0, 6.0):
        alone = sampler(
            source[None],
            voice[None],
            np.ones((1, len(source)), np.float32),
            np.array(store.array("speaker"))[[CHOSEN[1]]],
            banks.arousal(level)[None],
            np.zeros((1, 256), np.float32),
            plan.weights,
            jax.random.split(jax.random.key(0), 2)[1:],
            solver="maximum_likelihood",
            segments=plan.segments(),
        )
        converted = found[1].sounds[f"arousal_{level:g}"].reshape(source.shape)
        np.testing.assert_allclose(converted, alone[0], atol=1e-3)
        different = changed[1].sounds[f"arousal_{level:g}"].reshape(source.shape)
        assert not np.allclose(converted, different, atol=1e-2)
    assert not np.allclose(found[1].sounds["arousal_2"], found[1].sounds["arousal_6"], atol=1e-2)


@pytest.mark.slow
def test_an_average_voice_is_beside_its_target(store):
    own = params(AVERAGE_VOICE)
    found = made(store, AVERAGE_VOICE).examples(own, 7)
    assert [example.name for example in found] == ["listening_1", "listening_2"]
    for example, index in zip(found, CHOSEN, strict=True):
        source = stored(store, "mel", index)
        assert list(example.sounds) == ["output"]
        drawn = example.sounds["output"].reshape(source.shape)
        np.testing.assert_allclose(drawn, average_voice(own, source), atol=1e-4)
        phones = store.frames_of("phones", index).astype(np.int64)
        target = average_voice_target(phones[None], np.asarray(store.array("targets")))[0]
        mels = {"source": source, "target": target, "output": drawn}
        picture = draw(mels, MelConfig(), title(store.utterances[index], 7))
        assert np.array_equal(example.picture, picture)


@pytest.mark.slow
def test_only_the_parameters_make_a_difference(store):
    one, other = (made(store, AVERAGE_VOICE) for _ in range(2))
    own = params(AVERAGE_VOICE)
    first, again = one.examples(own, 7), other.examples(own, 7)
    changed = one.examples(params(AVERAGE_VOICE, seed=1), 7)
    for a, b, c in zip(first, again, changed, strict=True):
        assert np.array_equal(a.picture, b.picture)
        assert np.array_equal(a.sounds["output"], b.sounds["output"])
        assert not np.allclose(a.sounds["output"], c.sounds["output"], atol=1e-2)
        assert not np.array_equal(a.picture, c.picture)


@pytest.mark.slow
def test_sounds_are_griffin_lims_unless_a_vocoder_is_given(store):
    own = params(AVERAGE_VOICE)
    heard = made(store, AVERAGE_VOICE, None).examples(own, 7)
    mels = made(store, AVERAGE_VOICE).examples(own, 7)
    assert [len(example.sounds["output"]) for example in heard] == [35 * 256, 30 * 256]
    for audio, mel in zip(heard, mels, strict=True):
        assert audio.sample_rate_hz == 22050
        expected = griffin_lim(mel.sounds["output"].reshape(-1, 80), MelConfig())
        assert np.array_equal(audio.sounds["output"], expected)


@pytest.mark.slow
def test_a_broken_network_has_a_picture_and_no_sound(store):
    broken = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), params(AVERAGE_VOICE))
    for example in made(store, AVERAGE_VOICE).examples(broken, 7):
        assert not example.sounds
        assert example.picture.ndim == 3


def test_a_recogniser_draws_nothing(store):
    lines: list[str] = []
    assert made(store, "recogniser", log=lines.append).examples(None, 7) == []
    assert lines == []


@pytest.mark.parametrize("trainee", [AVERAGE_VOICE, SCORE_NETWORK])
def test_without_validation_there_is_nothing_and_it_is_said_once(store, trainee):
    store.utterances = [dataclasses.replace(u, split="a") for u in store.utterances]
    lines: list[str] = []
    nothing = made(store, trainee, log=lines.append)
    assert nothing.examples({}, 7) == nothing.examples({}, 8) == []
    assert lines == ["nothing to listen to: no utterance in split validation"]


def test_without_banks_there_is_nothing_to_convert_to(store):
    store.utterances = [dataclasses.replace(u, arousal=-1.0, emotion="") for u in store.utterances]
    lines: list[str] = []
    assert made(store, SCORE_NETWORK, log=lines.append).examples({}, 7) == []
    assert len(lines) == 1
    assert "no utterance with an emotion or an arousal in split a" in lines[0]


def test_the_utterances_are_of_speakers_far_apart_and_fit(store):
    """Of the first woman and the last man, the longest of at most 256 frames, or the shortest."""
    told = [
        *(("F", "a/2", 100), ("F", "a/1", 300), ("F", "a/1", 250), ("F", "a/1", 200)),
        *(("M", "a/4", 500), ("M", "b/3", 400), ("M", "b/3", 300), ("M", "a/5", 256)),
    ]
    store.utterances = entries(
        [frames for _, _, frames in told],
        lambda i: {"gender": told[i][0], "speaker": told[i][1], "split": "validation"},
    )
    assert spread(store, np.arange(8)) == [2, 6]
    assert spread(store, np.arange(7, -1, -1)) == [2, 6]
    assert spread(store, np.array([4])) == [4]
    assert spread(store, np.array([], np.int64)) == []


@pytest.mark.slow
def test_long_utterances_show_their_middle(store, monkeypatch):
    """Of 35 frames 32, and all of 30; the network must see what is shown."""
    own = params(AVERAGE_VOICE)
    monkeypatch.setattr(listening, "MOST_FRAMES", 32)
    found = made(store, AVERAGE_VOICE).examples(own, 7)
    middle = stored(store, "mel", CHOSEN[0])[1:33]
    drawn = found[0].sounds["output"].reshape(32, 80)
    np.testing.assert_allclose(drawn, average_voice(own, middle), atol=1e-4)
    assert found[1].sounds["output"].size == 30 * 80


def colour_of(value: float) -> np.ndarray:
    return np.round(255 * np.array(matplotlib.colormaps["magma"](value)[:3])).astype(int)


def places(picture: np.ndarray, value: float) -> np.ndarray:
    """Rows and columns of the pixels in the colour of a value, 0 to 1 of the scale."""
    return np.argwhere((np.abs(picture.astype(int) - colour_of(value)) <= 2).all(axis=-1))


def test_panels_share_their_colours_and_low_bins_lie_below():
    """The source spans -8 to 0: lower bins, first half loud. Below it one value of half of that."""
    source = np.full((100, 80), -8.0, np.float32)
    source[:50, :40] = 0.0
    same = np.full((100, 80), -4.0, np.float32)
    picture = draw({"source": source, "same": same}, MelConfig(), "heading_of $5 · ż")
    height, width, _ = picture.shape
    loud, quiet, half = (places(picture, value) for value in (1.0, 0.0, 0.5))
    panel = half[half[:, 1] < 0.85 * width]  # without the colour bar
    assert len(panel) > 0.2 * height * width
    assert panel[:, 0].min() > loud[:, 0].max()  # the second panel lies below the first
    within = quiet[quiet[:, 1] < 0.85 * width]
    assert loud[:, 0].mean() > within[:, 0].mean()
    assert loud[loud[:, 1] < 0.85 * width][:, 1].mean() < within[:, 1].mean()


def test_frequencies_stand_where_a_tones_bin_is():
    """A mel's bin i is centred on the i-th of librosa's mel frequencies, ends left out."""
    import librosa

    centres_hz = librosa.mel_frequencies(82, fmin=0, fmax=8000)[1:-1]
    ticks, labels = listening._ticks(MelConfig())
    assert labels == ["250", "500", "1000", "2000", "4000"]
    expected = np.interp([float(label) for label in labels], centres_hz, np.arange(80))
    np.testing.assert_allclose(ticks, expected, atol=0.02)


def test_the_title_says_what_is_heard(store):
    told = title(store.utterances[9], 12000)
    assert told == "9.wav  ·  speaker made/0  ·  F  ·  calm  ·  step 12,000"
    unknown = dataclasses.replace(store.utterances[9], gender="", emotion="")
    assert title(unknown, 1) == "9.wav  ·  speaker made/0  ·  step 1"


@pytest.mark.slow
def test_a_bundles_vocoder_speaks(bundle_folder):
    audio = vocoder_of(bundle_folder, MelConfig())(np.full((20, 80), -6.0, np.float32))
    assert audio.shape == (20 * 256,)
    assert 0 < np.abs(audio).max() <= 1


def test_a_vocoder_of_another_mel_is_refused(bundle_folder):
    with pytest.raises(EmoconvError, match=r"mel\.high_hz is 8000\.0, the features' mel has 7"):
        vocoder_of(bundle_folder, MelConfig(high_hz=7000.0))
