"""Batches, long recordings and streams: none of them changes what an utterance is converted to."""

import jax
import numpy as np
import pytest
import soundfile

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.bundles.banks import Banks
from emoconv_jax.bundles.parts import load_variables, open_bundle
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference import chunks
from emoconv_jax.inference.batching import (
    READ_AHEAD,
    Job,
    Recording,
    Stretch,
    in_batches,
    sample_batch,
)
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.curve import Curve
from emoconv_jax.inference.encoders import WINDOW_FRAMES, VocoderRole
from emoconv_jax.inference.lengths import bucket
from emoconv_jax.inference.request import Request
from emoconv_jax.inference.resolved import resolve
from emoconv_jax.inference.sampling import Sampler

REQUEST = {"arousal": 6.0, "steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def converter(bundle_folder):
    """Returns one of its own: tests count what it compiles."""
    return EmotionConverter.from_pretrained(bundle_folder)


@pytest.fixture(scope="module")
def utterances(speech):
    """Returns voices of three lengths: 60, 50 and 30 frames, in buckets of 64, 64 and 32."""
    return [speech, speech[: 50 * 256], speech[20 * 256 : 50 * 256]]


def stretch(frames: int, first_frame: int = 0) -> Stretch:
    mel = np.zeros((frames, 80), np.float32)
    return Stretch(mel, mel, np.zeros(8, np.float32), np.zeros(8, np.float32), first_frame)


def test_a_batch_holds_one_bucket_and_little_is_read_ahead():
    rng = np.random.default_rng(0)
    lengths = [[int(n) for n in rng.integers(1, 400, rng.integers(1, 4))] for _ in range(60)]
    opened, finished, sizes = [], [], []

    def recordings():
        for number, frames in enumerate(lengths):
            opened.append(number)
            yield (
                Recording(number, "", np.zeros(1, np.float32)),
                [stretch(count, number) for count in frames],
            )

    def run(batch):
        assert len({bucket(len(one.mel)) for one in batch}) == 1
        sizes.append(len(batch))
        return [one.mel + one.first_frame for one in batch]

    for recording in in_batches(recordings(), run, 4):
        finished.append(recording.number)
        found = [len(mel) for mel in recording.mels]
        assert found == lengths[recording.number]
        assert all((mel == recording.number).all() for mel in recording.mels)
        waiting = sum(len(lengths[n]) for n in opened) - sum(sizes)
        assert waiting <= READ_AHEAD * 4 + 3  # those of the recording that was opened last
    assert sorted(finished) == list(range(60)) == opened
    assert max(sizes) == 4 and sum(sizes) == sum(map(len, lengths))


@pytest.mark.slow
def test_neighbours_order_and_padding_change_nothing(converter, utterances):
    """The same to 1e-3 alone, in any batch and any place; to the bit with other neighbours."""
    alone = [converter.convert(audio, **REQUEST) for audio in utterances[:2]]
    before = converter.sampler.compilations
    together = dict(converter.convert_many(utterances, batch=2, **REQUEST))
    assert converter.sampler.compilations == before + 2  # two buckets
    turned = dict(converter.convert_many(utterances[::-1], batch=2, **REQUEST))
    other = REQUEST | {"arousal": 2.0, "seed": 9}
    dict(converter.convert_many(utterances, batch=2, **other))
    doubled = dict(converter.convert_many([utterances[0]] * 2, batch=2, **REQUEST))
    np.testing.assert_array_equal(doubled[0].mel, together[0].mel)
    assert converter.sampler.compilations == before + 2  # banks, weights and seeds are traced
    for number, one in enumerate(alone):
        found, again = together[number], turned[2 - number]
        np.testing.assert_allclose(found.mel, one.mel, atol=1e-3)
        np.testing.assert_allclose(again.mel, one.mel, atol=1e-3)
        assert len(found.audio) == len(utterances[number])
        np.testing.assert_array_equal(found.source, utterances[number])


@pytest.mark.slow
def test_a_batch_under_two_conditions_is_each_alone(converter, utterances):
    """Rows of the network are conditions times utterances; each gets its own back."""
    request = REQUEST | {"steps": 1, "mix": {"sad": 0.5, "source": 0.5}, "arousal": None}
    found = dict(converter.convert_many(utterances[:2], batch=2, **request))
    for number, audio in enumerate(utterances[:2]):
        alone = converter.convert(audio, **request)
        np.testing.assert_allclose(found[number].mel, alone.mel, atol=1e-3)


@pytest.mark.slow
def test_eight_devices_convert_as_one(converter, bundle_folder, utterances):
    config, banks = open_bundle(bundle_folder)
    variables = load_variables(bundle_folder, "score_network", config)
    many = EmotionConverter.from_pretrained(bundle_folder)
    many.sampler = Sampler(config, variables, devices=jax.devices())
    ones = dict(converter.convert_many([utterances[0]] * 2, **REQUEST))
    told: list[float] = []
    eights = dict(many.convert_many([utterances[0]] * 2, **REQUEST, on_progress=told.append))
    assert len(many.sampler.devices) == 8 and len(told) == 2
    assert sum(told) == pytest.approx(2 * 60 * 256 / 22050)
    for number, one in ones.items():
        np.testing.assert_allclose(eights[number].mel, one.mel, atol=1e-3)
    resolved = resolve(Request(**REQUEST), config, banks)
    with pytest.raises(UsageError, match="batch: found 3, allowed are multiples of 8 devices"):
        sample_batch(many.sampler, [stretch(4)], Job(resolved, None, 3), 0.0)


@pytest.mark.slow
def test_half_precision_stays_near(converter, bundle_folder, utterances):
    half = EmotionConverter.from_pretrained(bundle_folder, compute="bfloat16")
    request = REQUEST | {"start": 0.2}  # from t = 1 a network of random weights goes anywhere
    one, other = (c.convert(utterances[0], **request).mel for c in (converter, half))
    assert 0 < np.abs(one - other).mean() < 0.1


@pytest.mark.slow
def test_what_cannot_be_read_is_told_and_the_others_go_on(converter, utterances, tmp_path):
    (tmp_path / "damaged.wav").write_bytes(b"RIFF")
    soundfile.write(tmp_path / "good.wav", utterances[0], 22050)
    sources = [tmp_path / "damaged.wav", tmp_path / "good.wav", tmp_path / "absent.wav"]
    found = dict(converter.convert_many(sources, **REQUEST))
    assert sorted(found) == [0, 1, 2]
    assert all(isinstance(found[number], EmoconvError) for number in (0, 2))
    assert found[1].provenance["source"] == "good.wav"
    with pytest.raises(UsageError, match="batch: found 0, at least 1"):
        converter.convert_many(sources, batch=0, **REQUEST)
    with pytest.raises(UsageError, match="steps: found 0"):
        converter.convert_many(sources, steps=0, arousal=3.0)


def shorten(monkeypatch) -> None:
    """Cuts at 96 frames in place of 1280, so that a second of speech is long."""
    monkeypatch.setattr(chunks, "LONGEST_FRAMES", 96)
    monkeypatch.setattr(chunks, "WINDOW_FRAMES", 16)
    monkeypatch.setattr(chunks, "OVERLAP_FRAMES", 8)


@pytest.mark.slow
def test_a_long_recording_comes_back_whole_and_as_a_stream(converter, speech, monkeypatch):
    shorten(monkeypatch)
    audio = np.concatenate([speech, speech[::-1], speech])[:-100]
    told: list[float] = []
    found = converter.convert(audio, **REQUEST, on_progress=told.append)
    assert len(found.audio) == len(audio) and len(found.mel) == len(audio) // 256
    assert sum(told) == pytest.approx(len(audio) // 256 * 256 / 22050)
    assert len(told) == 2 * len(chunks.chunks_of(found.mel)) > 2
    told.clear()
    pieces = list(converter.stream(audio, **REQUEST, on_progress=told.append))
    assert sum(told) == pytest.approx(len(audio) // 256 * 256 / 22050)
    streamed = np.concatenate(pieces)
    assert len(streamed) == len(audio)
    np.testing.assert_allclose(streamed, found.audio, atol=1e-5)


@pytest.mark.slow
def test_a_curve_runs_every_stretch_by_one_program(converter, speech, monkeypatch):
    """Though the first is calm throughout and the last excited: all conditions count as used."""
    shorten(monkeypatch)
    audio = np.tile(speech, 4)
    times = (0.0, 0.9, 1.8, 2.7)
    curve = Curve(times, ("arousal",), ((1.0,), (1.0,), (7.0,), (7.0,)), "made")
    request = {"steps": 1, "curve": curve, "base": "neutral", "guidance": 2.0}
    mels = chunks.chunks_of(log_mel(audio, converter.config.mel))
    before = converter.sampler.compilations
    found = converter.convert(audio, **request)
    buckets = {bucket(chunk.stop - chunk.start) for chunk in mels}
    assert converter.sampler.compilations - before == len(buckets) < len(mels)
    assert found.plan.frames == len(audio) // 256


@pytest.mark.slow
def test_what_no_one_could_hear_is_refused(converter, speech, monkeypatch):
    wild = {name: 1e6 * vector for name, vector in converter.banks.vectors.items()}
    monkeypatch.setattr(converter, "banks", Banks(wild, {}))
    with pytest.raises(EmoconvError, match="waveform: the score network gave NaN"):
        converter.convert(speech, **REQUEST)
    with pytest.raises(EmoconvError, match="waveform: the score network gave NaN"):
        list(converter.stream(speech, **REQUEST))


@pytest.mark.slow
def test_windows_of_the_vocoder_sound_as_the_whole(bundle_folder, monkeypatch):
    """Each frame is spoken with all the frames that it hears, so there is no seam at all."""
    config, _ = open_bundle(bundle_folder)
    role = VocoderRole(config, bundle_folder)
    mel = np.random.default_rng(0).normal(-4, 2, (WINDOW_FRAMES - 1, 80)).astype(np.float32)
    expected = role(mel)  # one window
    monkeypatch.setattr("emoconv_jax.inference.encoders.WINDOW_FRAMES", 128)
    assert role.reach < 16
    parts = [mel[:5], mel[5:300], mel[300:301], mel[301:]]
    found = list(role.stream(iter(parts)))
    assert len(found) > 8
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)


@pytest.mark.slow
def test_warming_up_compiles_what_a_conversion_needs(converter, speech):
    request = {"mix": {"happy": 1.0}, "steps": 1}
    converter.warmup([len(speech) / 22050], **request)
    before = converter.sampler.compilations
    converter.convert(speech, **request)
    assert converter.sampler.compilations == before


@pytest.mark.slow
def test_a_seam_cannot_be_told_from_speech(converter, speech, monkeypatch):
    """Level and spectral flux around the seams lie within those of the same speech uncut."""
    audio = np.tile(speech, 4)
    uncut = converter.convert(audio, **REQUEST).mel
    shorten(monkeypatch)
    cuts = chunks.chunks_of(log_mel(audio, converter.config.mel))
    found = converter.convert(audio, **REQUEST).mel
    seams = np.concatenate([np.arange(c.start, c.start + chunks.OVERLAP_FRAMES) for c in cuts[1:]])
    assert len(seams) >= 2 * chunks.OVERLAP_FRAMES and np.abs(found - uncut).max() > 0.01

    def level(mel):
        return np.log(np.exp(mel).mean(axis=1))

    def flux(mel):
        return np.linalg.norm(np.diff(mel, axis=0), axis=1)

    for measure in (level, flux):
        low, high = np.quantile(measure(uncut), [0.005, 0.995])
        inside = (measure(found)[seams] >= low) & (measure(found)[seams] <= high)
        assert inside.mean() >= 0.9
