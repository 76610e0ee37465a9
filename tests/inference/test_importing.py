"""Foreign checkpoints into bundles: PyTorch twins saved as their owners do, and read back."""

import hashlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tiny_bundle import HIFIGAN, WAV2VEC2

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.resampling import resample
from emoconv_jax.bench.twins.average_voice import AverageVoiceTwin
from emoconv_jax.bench.twins.score_network import ScoreNetworkTwin
from emoconv_jax.bench.twins.shaken import shaken
from emoconv_jax.bench.twins.speaker import SpeakerEncoderTwin
from emoconv_jax.bench.twins.vocoder import VocoderTwin
from emoconv_jax.bench.twins.wav2vec2 import DimensionalTwin
from emoconv_jax.bundles.format import BundleConfig, Roles, read_config, write_bundle
from emoconv_jax.bundles.parts import load_variables, network_of
from emoconv_jax.cli.main import main
from emoconv_jax.config import (
    AverageVoiceConfig,
    ScoreNetworkConfig,
    SpeakerConfig,
    VocoderConfig,
)
from emoconv_jax.diffusion.solvers import start_state
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.importing import import_weights
from emoconv_jax.inference.sampling import Sampler
from emoconv_jax.pipeline import encoding
from emoconv_jax.porting.diffvc import port_score_network

DIFFVC = {  # tensors and parameters of the published checkpoint, arXiv 2109.13821
    "tensors": 346,
    "average_voice": 8_464_529,
    "score_network": 117_794_599,
}


def moved(twin):
    """Returns the twin with no parameter at a value that would hide a mistake."""
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if name.endswith(".g") or parameter.ndim == 1 or "prenet.proj" in name:
                parameter.copy_(0.5 + 0.5 * torch.rand_like(parameter))
    return twin.eval()


def diffvc_twins(network: ScoreNetworkConfig, voice: AverageVoiceConfig):
    torch.manual_seed(0)
    return moved(ScoreNetworkTwin(network)), moved(AverageVoiceTwin(voice))


def save_diffvc(path, network, voice) -> dict:
    tensors = {f"encoder.{name}": tensor for name, tensor in voice.state_dict().items()}
    tensors |= {f"decoder.estimator.{n}": tensor for n, tensor in network.state_dict().items()}
    torch.save(tensors, path)
    return tensors


def apply(role, folder, *inputs):
    config = read_config(folder)
    network = network_of(role, config)
    variables = load_variables(folder, role, config)
    found = jax.jit(network.apply)(variables, *map(jnp.asarray, inputs))
    return np.asarray(found)


def equal(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_a_checkpoint_of_diffvcs_names_and_sizes_gives_what_pytorch_gives(tmp_path, capsys):
    """All 346 tensors at width 256; of the vocoder's kind, equality needs whole fours of frames."""
    sizes = ScoreNetworkConfig(emotion=0, reference_block=True, head="score")
    network, voice = diffvc_twins(sizes, AverageVoiceConfig())
    tensors = save_diffvc(tmp_path / "vc.pt", network, voice)
    assert len(tensors) == DIFFVC["tensors"]
    line = ["import", "--format", "diffvc", str(tmp_path / "vc.pt"), "--out"]
    assert main([*line, str(tmp_path / "mine"), "--licence", "CC0-1.0"]) == 0
    sha256 = hashlib.sha256((tmp_path / "vc.pt").read_bytes()).hexdigest()
    said = capsys.readouterr().out
    assert said.count(sha256) == 2 and "with its reference block" in said and "CC0-1.0" in said
    config = read_config(tmp_path / "mine")
    assert (config.score_network, config.average_voice) == (sizes, AverageVoiceConfig())
    for role in ("average_voice", "score_network"):
        leaves = jax.tree.leaves(load_variables(tmp_path / "mine", role, config))
        assert sum(leaf.size for leaf in leaves) == DIFFVC[role]
    rng = np.random.default_rng(0)
    mels = [rng.normal(-5, 2, (1, 8, 80)).astype(np.float32) for _ in range(3)]
    mask, time = np.ones((1, 8), np.float32), np.array([0.4], np.float32)
    speaker = rng.normal(size=(1, 256)).astype(np.float32)
    inputs = [*mels[:2], mask, time, speaker, np.zeros((1, 0), np.float32), mels[2], mask]
    with torch.no_grad():
        expected = network(*map(torch.from_numpy, inputs)).numpy()
        expected_voice = voice(torch.from_numpy(mels[0]), torch.from_numpy(mask)).numpy()
    equal(apply("score_network", tmp_path / "mine", *inputs), expected)
    equal(apply("average_voice", tmp_path / "mine", mels[0], mask), expected_voice)


@pytest.mark.slow
def test_an_average_voice_encoder_alone_takes_its_role_in_another_bundle(
    bundle_folder, speech, tmp_path
):
    """Converting with a foreign mix: all else is the bundle's own."""
    sizes = AverageVoiceConfig(
        channels=16, feed_forward=24, layers=2, postnet_width=16, prenet_layers=1
    )
    voice = diffvc_twins(ScoreNetworkConfig(width=16), sizes)[1]
    torch.save(voice.state_dict(), tmp_path / "enc.pt")
    mix = tmp_path / "mix"
    shutil.copytree(bundle_folder, mix)
    ((entry, _),) = import_weights("diffvc", tmp_path / "enc.pt", mix)
    assert (entry.part, entry.licence) == ("average_voice", "unknown")
    config = read_config(mix)
    assert config.imported == (entry,) and config.average_voice == sizes
    assert config.score_network == read_config(bundle_folder).score_network
    mel = log_mel(speech, config.mel)[:24]
    with torch.no_grad():
        expected = voice(torch.from_numpy(mel[None]), torch.ones(1, 24)).numpy()[0]
    converter = EmotionConverter.from_pretrained(mix)
    equal(converter.average_voice(mel), expected)
    assert len(converter.convert(speech, arousal=6.0, steps=2).audio) == len(speech)


@pytest.mark.slow
def test_a_reference_is_diffused_to_the_time_of_every_step(tmp_path):
    """The original's loop in PyTorch, by the probability flow: method, Popov et al. 2022."""
    sizes = ScoreNetworkConfig(
        width=16, groups=8, condition_width=8, emotion=0, reference_block=True, head="score"
    )
    network = diffvc_twins(sizes, AverageVoiceConfig(channels=16, layers=1))[0]
    steps, rng = 3, np.random.default_rng(0)
    source, voice = (rng.normal(-5, 2, (1, 8, 80)).astype(np.float32) for _ in range(2))
    speaker = rng.normal(size=(1, 256)).astype(np.float32)
    beta_0, beta_1 = 0.05, 20.0  # the published schedule

    def share(t):  # of the data, at time t
        return np.exp(-0.5 * t * (beta_0 + 0.5 * t * (beta_1 - beta_0)))

    config = BundleConfig("reference", "CC0-1.0", score_network=sizes)
    params = port_score_network({k: v.numpy() for k, v in network.state_dict().items()}, sizes)
    sampler = Sampler(config, {"params": params})
    key = jax.random.split(jax.random.key(0), 1)
    none = np.zeros((1, 0), np.float32)
    mask = np.ones((1, 8), np.float32)
    found = sampler(
        source, voice, mask, speaker, none, none, np.ones((steps, 1), np.float32), key,
        solver="probability_flow", segments=((0, steps, (0,)),),
    )  # fmt: skip
    again = jax.vmap(jax.random.split)(jax.random.split(jax.random.key(0), 1))[:, 0]
    start = start_state(sampler.sde, jnp.asarray(source), jnp.asarray(voice), again)
    mean, seen, x_ref = (torch.from_numpy(np.array(a)) for a in (voice, mask, source))
    xt = torch.from_numpy(np.array(start))
    with torch.no_grad():
        for i in range(steps):
            t = 1 - i / steps
            reference = (share(t) * x_ref + (1 - share(t)) * mean).float()
            time = torch.tensor([t], dtype=torch.float32)
            score = network(
                xt, mean, seen, time, torch.from_numpy(speaker), torch.zeros(1, 0), reference, seen
            )
            beta = beta_0 + t * (beta_1 - beta_0)
            xt = xt - 0.5 * (mean - xt - score) * beta / steps
    expected = xt.numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("resblock", [1, 2])
def test_a_vocoder_speaks_from_the_bundle(tmp_path, resblock):
    sizes = VocoderConfig(
        resblock=resblock,
        channels=16,
        resblock_kernels=(3, 5),
        resblock_dilations=((1, 3, 5), (1, 3, 5)) if resblock == 1 else ((1, 2), (2, 6)),
    )
    torch.manual_seed(0)
    twin = VocoderTwin(sizes)
    torch.save({"generator": twin.state_dict()}, tmp_path / "generator_v1")
    json_config = {
        "resblock": str(resblock),
        "upsample_rates": [8, 8, 2, 2],
        "upsample_kernel_sizes": [16, 16, 4, 4],
        "upsample_initial_channel": 16,
        "resblock_kernel_sizes": [3, 5],
        "resblock_dilation_sizes": [list(row) for row in sizes.resblock_dilations],
        "segment_size": 8192,
        "num_mels": 80,
        "n_fft": 1024,
        "hop_size": 256,
        "win_size": 1024,
        "sampling_rate": 22050,
        "fmin": 0,
        "fmax": 8000,
        "fmax_loss": None,
    }
    (tmp_path / "config.json").write_text(json.dumps(json_config))
    import_weights("hifigan", tmp_path / "generator_v1", tmp_path / "mine")
    config = read_config(tmp_path / "mine")
    assert (config.vocoder, config.roles) == (sizes, Roles(vocoder="bundle"))
    mel = np.random.default_rng(0).normal(-4, 2, (1, 5, 80)).astype(np.float32)
    with torch.no_grad():
        expected = twin(torch.from_numpy(mel)).numpy()
    np.testing.assert_allclose(
        apply("vocoder", tmp_path / "mine", mel), expected, rtol=1e-4, atol=1e-5
    )
    json_config["sampling_rate"] = 16000
    (tmp_path / "config.json").write_text(json.dumps(json_config))
    speaking = tmp_path / "speaking"
    write_bundle(speaking, BundleConfig("speaking", "CC0-1.0"))
    (speaking / "score_network-1-of-1.safetensors").write_bytes(b"")  # so that the mel is taken
    with pytest.raises(EmoconvError, match=r"mel.sample_rate_hz is 16000, .* has 22050"):
        import_weights("hifigan", tmp_path / "generator_v1", speaking)
    assert not (speaking / "vocoder-1-of-1.safetensors").exists()


def test_a_speaker_encoder_keeps_its_sizes(tmp_path):
    sizes = SpeakerConfig(hidden=12, layers=2, embedding=10)
    torch.manual_seed(0)
    twin = SpeakerEncoderTwin(sizes).eval()
    tensors = twin.state_dict() | {"similarity_weight": torch.ones(1)}
    torch.save({"step": 7, "model_state": tensors}, tmp_path / "pretrained.pt")
    import_weights("ge2e", tmp_path / "pretrained.pt", tmp_path / "mine")
    config = read_config(tmp_path / "mine")
    assert config.speaker == sizes and config.roles.speaker == "bundle"
    mel = np.abs(np.random.default_rng(0).normal(size=(2, 160, 40))).astype(np.float32)
    with torch.no_grad():
        expected = twin(torch.from_numpy(mel)).numpy()
    equal(apply("speaker", tmp_path / "mine", mel), expected)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
def test_a_wav2vec2_becomes_the_emotion_role(bundle_folder, speech, tmp_path, file):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    twin = shaken(DimensionalTwin(WAV2VEC2))
    save = torch.save if file.endswith("bin") else save_file
    save(twin.state_dict(), tmp_path / file)
    names = {
        "model_type": "wav2vec2", "hidden_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 12, "conv_dim": [4, 4],
        "conv_kernel": [10, 8], "conv_stride": [5, 8], "conv_bias": True,
        "feat_extract_norm": "layer", "do_stable_layer_norm": True,
        "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
        "num_labels": 3,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(names))
    mix = tmp_path / "mix"
    shutil.copytree(bundle_folder, mix)
    # the tiny bundle's embeddings are as wide as this one's, so its banks and network still fit
    import_weights("wav2vec2-dim", tmp_path, mix)
    assert read_config(mix).roles.emotion == "wav2vec2"
    converter = EmotionConverter.from_pretrained(mix)
    told = converter.emotion.hear(speech, 22050)
    heard = resample(speech, 22050, 16000)
    heard = (heard - heard.mean()) / np.sqrt(heard.var() + 1e-7)
    with torch.no_grad():
        embedding, dimensions = twin(torch.from_numpy(heard[None].astype(np.float32)))
    equal(told.embedding, embedding.numpy()[0])
    expected = 1 + 6 * dimensions.numpy()[0]  # about 0..1 -> 1..7
    np.testing.assert_allclose([told.arousal, told.dominance, told.valence], expected, rtol=1e-4)
    assert told.probabilities == {}
    with pytest.raises(EmoconvError, match=r"roles\.emotion is 'wav2vec2', which hears waveforms"):
        encoding.check_bundle(mix)
    assert len(converter.convert(speech, arousal=2.0, steps=2).audio) == len(speech)


def test_a_part_of_another_bundle_is_taken_alone(bundle_folder, tmp_path):
    line = ["import", "--format", "safetensors", str(bundle_folder), "--parts", "recogniser"]
    assert main([*line, "--out", str(tmp_path / "mine")]) == 0
    assert [p.name for p in sorted((tmp_path / "mine").glob("*.safetensors"))] == [
        "banks.safetensors",  # which are of its embeddings
        "recogniser-1-of-1.safetensors",
    ]
    (entry,) = read_config(tmp_path / "mine").imported
    assert (entry.part, entry.licence) == ("recogniser", "CC0-1.0")


def tensors_of_a_voice() -> dict:
    sizes = AverageVoiceConfig(channels=16, feed_forward=16, layers=1, postnet_width=8)
    return AverageVoiceTwin(sizes).state_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("postnet.final_conv.bias"), r"missing: postnet_final_conv/bias"),
        (lambda t: t.update(more=torch.ones(1)), r"unexpected: more"),
        (
            lambda t: t.update({"encoder.term_proj.bias": torch.ones(79)}),
            r"wrong shape: encoder\.term_proj\.bias \(79,\), expected \(80,\)",
        ),
        (
            lambda t: t.update({"encoder.term_proj.bias": torch.full((80,), torch.nan)}),
            r"tensor 'encoder\.term_proj\.bias' holds NaN or infinity",
        ),
        (
            lambda t: t.update({"encoder.term_proj.bias": 1e300 * torch.ones(80).double()}),
            r"not finite in float32: encoder\.term_proj\.bias",
        ),
        (
            lambda t: t.update({"encoder.term_proj.bias": torch.ones(80, dtype=torch.int64)}),
            r"tensor 'encoder\.term_proj\.bias' is int64, expected floats",
        ),
        (lambda t: t.pop("encoder.init_proj.weight"), r"missing: encoder\.init_proj\.weight"),
        (lambda t: t.clear(), r"no dictionary of tensors"),
    ],
)
def test_what_does_not_fit_is_listed_and_nothing_is_written(tmp_path, change, message):
    tensors = dict(tensors_of_a_voice())
    change(tensors)
    torch.save(tensors, tmp_path / "enc.pt")
    with pytest.raises(EmoconvError, match=message):
        import_weights("diffvc", tmp_path / "enc.pt", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resblock": 1}, r"resblock: found 1, allowed are '1' and '2'"),
        ({"n_fft": "1024"}, r"n_fft: found '1024', expected a number"),
        ({"win_size": 800}, r"win_size: found 800, allowed is n_fft"),
        ({"upsample_rates": [8.5]}, r"upsample_rates: found \[8\.5\], expected whole numbers"),
        ({"upsample_initial_channel": 10**6}, r"vocoder\.channels is 1000000, allowed is"),
    ],
)
def test_a_vocoders_configuration_is_a_foreign_file(tmp_path, change, message):
    (tmp_path / "config.json").write_text(json.dumps(HIFIGAN | change))
    torch.save({"generator": {"conv_pre.bias": torch.ones(1)}}, tmp_path / "g")
    with pytest.raises(EmoconvError, match=message):
        import_weights("hifigan", tmp_path / "g", tmp_path / "mine")


def test_an_unknown_format_or_part_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"^--format: found 'onnx', allowed are diffvc, hifigan,"):
        import_weights("onnx", tmp_path, tmp_path)
    with pytest.raises(UsageError, match=r"^--parts: found 'banks', allowed are score_network,"):
        import_weights("safetensors", tmp_path, tmp_path, only=("banks",))


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("there", "", "--out: found '', give a path"),
        ("there", " ", "--out: found ' ', give a path"),
        ("", "mine", "SOURCE: found '', give a path"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    bundle_folder, tmp_path, monkeypatch, capsys, source, out, message
):
    monkeypatch.chdir(shutil.copytree(bundle_folder, tmp_path / "here"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    source = str(bundle_folder) if source else ""
    assert main(["import", "--format", "safetensors", source, "--out", out]) == 2
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()} == before
