"""What encoders of every kind add to features: those of log-mels, of states and of waveforms."""

import dataclasses
import pathlib
import shutil
import sys

import numpy as np
import pytest
import soundfile
from tiny_bundle import WAV2VEC2, WITH_PUBLIC_PARTS, make_bundle
from tones import CLIPS, RATE_HZ, SETTINGS, make_corpus

from emoconv_jax.audio.reading import read_audio
from emoconv_jax.bundles.banks import load_banks
from emoconv_jax.bundles.format import Roles, read_config
from emoconv_jax.cli.main import main
from emoconv_jax.config import WhisperAverageVoiceConfig, WhisperEmotionConfig
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference.encoders import AverageVoiceRole, EmotionRole
from emoconv_jax.inference.roles import average_voice_role, emotion_role
from emoconv_jax.inference.whisper_features import ENCODER
from emoconv_jax.inference.whisper_roles import WhisperAverageVoiceRole, WhisperEncoderRole
from emoconv_jax.pipeline.encoding import check_bundle, encode
from emoconv_jax.pipeline.prepare import Running, prepare
from emoconv_jax.pipeline.store import FeatureStore

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "training"))
import runs

pytestmark = pytest.mark.slow
WIDTH = 12  # of the embeddings: not that of any other role
HEARS = dataclasses.replace(
    WITH_PUBLIC_PARTS,
    wav2vec2=dataclasses.replace(WAV2VEC2, hidden=WIDTH),
    score_network=dataclasses.replace(WITH_PUBLIC_PARTS.score_network, emotion=WIDTH),
    roles=Roles(emotion="wav2vec2"),
)


@pytest.fixture(scope="module")
def hearing_bundle(tmp_path_factory) -> pathlib.Path:
    """Returns a bundle whose emotions are heard in waveforms."""
    return make_bundle(tmp_path_factory.mktemp("hearing") / "bundle", HEARS)


def test_encoding_adds_what_the_bundles_encoders_say(prepared, tmp_path, corpus, splits):
    # whose speaker encoder is the one that the features' d-vectors are of
    bundle_folder = make_bundle(tmp_path / "public", WITH_PUBLIC_PARTS)
    store = FeatureStore(prepared)
    with pytest.raises(EmoconvError, match="run `emoconv prepare`"):
        store.frames_of("average_voice", 0)
    encode(store, bundle_folder)
    average_voice = AverageVoiceRole.from_bundle(bundle_folder)
    emotion = EmotionRole.from_bundle(bundle_folder)
    store = FeatureStore(store.folder)
    for i in range(len(store.utterances)):
        mel = np.array(store.frames_of("mel", i), dtype=np.float32)
        expected = average_voice(mel).astype(np.float16)
        np.testing.assert_array_equal(store.frames_of("average_voice", i), expected)
        found = emotion(mel)
        np.testing.assert_array_equal(store.array("emotion")[i], found.embedding)
        assert store.array("arousal")[i] == np.float32(found.arousal)
    # another preparation takes the embeddings away, and encoding again finds the shards done
    shards = {path: path.stat().st_mtime_ns for path in store.folder.rglob("average_voice.f16")}
    before = (store.folder / "emotion.f32").read_bytes()
    running = Running(log=lambda line: None)
    store, _ = prepare([str(corpus)], prepared, splits, settings=SETTINGS, running=running)
    assert store is not None
    with pytest.raises(EmoconvError, match="run `emoconv prepare`"):
        store.array("emotion")
    encode(store, bundle_folder)
    assert (store.folder / "emotion.f32").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    # what is missing or cut short is made again
    voices = next(iter(shards))
    content = voices.read_bytes()
    for damage in (voices.unlink, lambda: voices.write_bytes(content[:-2])):
        damage()
        encode(store, bundle_folder)
        assert voices.read_bytes() == content


def test_waveforms_are_heard_in_the_corpora_given_again(prepared, corpus, hearing_bundle):
    store = FeatureStore(prepared)
    encode(store, hearing_bundle, sources=[str(corpus)])
    role = emotion_role(hearing_bundle, read_config(hearing_bundle))
    store = FeatureStore(prepared)
    assert store.array("emotion").shape == (len(CLIPS), WIDTH)
    for i, utterance in enumerate(store.utterances):
        told = role.hear(read_audio(corpus / utterance.path), RATE_HZ)
        # in a worker, sums are in another order
        np.testing.assert_allclose(store.array("emotion")[i], told.embedding, rtol=1e-4, atol=1e-5)
        assert store.array("arousal")[i] == pytest.approx(told.arousal, abs=1e-4)
    assert store.frames_of("average_voice", 0).shape == (store.utterances[0].frames, 80)


def test_waveforms_that_are_not_those_of_the_features_are_refused(
    prepared, corpus, hearing_bundle, tmp_path
):
    store = FeatureStore(prepared)
    with pytest.raises(UsageError, match=r"'wav2vec2', which hears waveforms; give the corpora"):
        encode(store, hearing_bundle)
    other = make_corpus(tmp_path / "corpus", CLIPS[:3])
    with pytest.raises(UsageError, match="are not those of the features; give the sources"):
        encode(store, hearing_bundle, sources=[str(other)])
    changed = shutil.copytree(corpus, tmp_path / "changed" / "corpus")
    audio, rate_hz = soundfile.read(changed / CLIPS[2].path)
    soundfile.write(changed / CLIPS[2].path, 0.5 * audio, rate_hz)
    with pytest.raises(EmoconvError, match=rf"{CLIPS[2].path}: its sound is not the one"):
        encode(store, hearing_bundle, sources=[str(changed)])


def test_a_network_trains_on_what_was_heard_in_waveforms(
    prepared, corpus, hearing_bundle, tmp_path
):
    """The published system's way: embeddings of waveforms, their banks, the score network."""
    bundle = shutil.copytree(hearing_bundle, tmp_path / "bundle")
    command = ["prepare", "--out", str(prepared), "--bundle", str(bundle)]
    assert main(command) == 2
    encode(FeatureStore(prepared), bundle, sources=[str(corpus)])
    assert main(["export", "--banks", "--features", str(prepared), "--out", str(bundle)]) == 0
    assert load_banks(bundle, WIDTH).emotion("sad").shape == (WIDTH,)
    config = runs.settings("score_network", steps=2, bank_share=0.5, validation="test")
    with pytest.raises(EmoconvError, match=f"network.emotion: found 256, .* have {WIDTH} numbers"):
        runs.train(config, FeatureStore(prepared), tmp_path / "run")
    config = dataclasses.replace(config, network=config.network | {"emotion": WIDTH})
    state = runs.train(config, FeatureStore(prepared), tmp_path / "run")
    assert int(state.step) == 2


ON_WHISPER = dataclasses.replace(
    WITH_PUBLIC_PARTS,
    whisper_average_voice=WhisperAverageVoiceConfig(encoder=ENCODER, channels=8),
    whisper_emotion=WhisperEmotionConfig(encoder=ENCODER, embedding=WIDTH),
    score_network=dataclasses.replace(WITH_PUBLIC_PARTS.score_network, emotion=WIDTH),
    roles=Roles(average_voice="whisper_average_voice", emotion="whisper_emotion"),
)


def test_heads_on_whisper_hear_in_features_what_they_hear_in_speech(corpus, splits, tmp_path):
    """From the states that are stored, and from the waveform, as at a conversion."""
    folder, bundle = tmp_path / "features", make_bundle(tmp_path / "bundle", ON_WHISPER)
    settings = dataclasses.replace(SETTINGS, whisper=True)
    running = Running(log=lambda line: None)
    store, _ = prepare([str(corpus)], folder, splits, settings=settings, running=running)
    assert store is not None
    encode(store, bundle)
    whisper = WhisperEncoderRole()
    voice = average_voice_role(bundle, ON_WHISPER, whisper)
    emotion = emotion_role(bundle, ON_WHISPER, whisper)
    assert isinstance(voice, WhisperAverageVoiceRole)
    store = FeatureStore(folder)
    assert store.array("emotion").shape == (len(CLIPS), WIDTH)
    for i in (0, 5):
        audio = read_audio(corpus / store.utterances[i].path)
        mel = store.frames_of("mel", i).astype(np.float32)
        # states of up to 60 are rounded to float16: 11 bits
        wanted = voice(mel, audio)
        found = store.frames_of("average_voice", i).astype(np.float32)
        np.testing.assert_allclose(found, wanted, atol=0.01 * np.abs(wanted).max())
        told = emotion.hear(audio, RATE_HZ)
        np.testing.assert_allclose(store.array("emotion")[i], told.embedding, atol=0.01)
        assert store.array("arousal")[i] == pytest.approx(told.arousal, abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "0" * 64}, "encoder: found 905e5bf8336b, .* was trained on 000000000000"),
        ({"states": (3, 5)}, r"states: found \[3, 5\], the features hold \[4, 6\]"),
    ],
)
def test_a_head_for_other_states_than_the_features_hold_is_refused(tmp_path, change, message):
    head = dataclasses.replace(ON_WHISPER.whisper_average_voice, **change)
    emotion = dataclasses.replace(ON_WHISPER.whisper_emotion, encoder=head.encoder)
    config = dataclasses.replace(ON_WHISPER, whisper_average_voice=head, whisper_emotion=emotion)
    bundle = make_bundle(tmp_path / "bundle", config)
    with pytest.raises(EmoconvError, match=r"encoder: found none, .* make features by"):
        check_bundle(bundle)
    with pytest.raises(EmoconvError, match=message):
        check_bundle(bundle, encoder=ENCODER)
