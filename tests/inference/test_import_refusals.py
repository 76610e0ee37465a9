"""What an import refuses, what it leaves alone when it does, and what comes along with a part."""

import dataclasses
import json
import os
import shutil

import pytest
import torch
from tiny_bundle import HIFIGAN, WITH_PUBLIC_PARTS, make_bundle

from emoconv_jax.bench.twins.average_voice import AverageVoiceTwin
from emoconv_jax.bench.twins.score_network import ScoreNetworkTwin
from emoconv_jax.bundles.banks import load_banks
from emoconv_jax.bundles.cards import card
from emoconv_jax.bundles.format import Imported, Roles, read_config, write_bundle
from emoconv_jax.cli.main import main
from emoconv_jax.config import (
    AverageVoiceConfig,
    MelConfig,
    ScoreNetworkConfig,
    SpeakerConfig,
    VocoderConfig,
)
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference.importing import import_weights

PART = "average_voice-1-of-1.safetensors"
VOICE = AverageVoiceConfig(channels=16, feed_forward=16, layers=1, postnet_width=8)
NETWORK = ScoreNetworkConfig(width=16, groups=8, condition_width=8, emotion=0, head="score")


def diffvc() -> dict:
    """Returns the tensors of both networks, under the names of vc.pt."""
    tensors = {f"encoder.{k}": v for k, v in AverageVoiceTwin(VOICE).state_dict().items()}
    network = ScoreNetworkTwin(NETWORK).state_dict()
    return tensors | {f"decoder.estimator.{k}": v for k, v in network.items()}


def layers(tensors, count):
    named = "encoder.encoder.encoder.attn_layers."
    tensors.update({f"{named}{number}.conv_q.bias": torch.ones(16) for number in range(count)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: layers(t, 25), r"average_voice\.layers is 25, allowed is 1 to 24"),
        (  # 16 channels in heads of 64: none
            lambda t: t.update(
                {"encoder.encoder.encoder.attn_layers.0.emb_rel_k": torch.ones(1, 9, 64)}
            ),
            r"vc\.pt: average_voice has impossible sizes: ",
        ),
        (
            lambda t: t.update({"decoder.estimator.mlp.0.weight": torch.ones(48, 12)}),
            r"vc\.pt: score_network has impossible sizes: ",
        ),
        (
            lambda t: t.update({"encoder.encoder.init_proj.weight": torch.ones(24001, 1, 1)}),
            r"average_voice\.channels is 24001, allowed is 0 to 24000",
        ),
        (lambda t: t.update({"encoder.\x1b[2J" + 500 * "x": torch.ones(1)}), r"\\x1b\[2Jx{60}"),
    ],
    ids=["layers", "heads", "groups", "channels", "name"],
)
def test_sizes_and_names_are_foreign(tmp_path, change, message):
    tensors = diffvc()
    change(tensors)
    torch.save(tensors, tmp_path / "vc.pt")
    with pytest.raises(EmoconvError, match=message) as caught:
        import_weights("diffvc", tmp_path / "vc.pt", tmp_path / "mine")
    assert len(str(caught.value)) < 500 and str(caught.value).isprintable()
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("value", [10**400, float("nan"), float("inf"), True])
def test_a_number_that_no_float_holds_is_refused(tmp_path, value):
    (tmp_path / "config.json").write_text(json.dumps(HIFIGAN | {"fmin": value}))
    (tmp_path / "g").write_bytes(b"never read")
    with pytest.raises(EmoconvError, match=r"fmin: found .{1,40}, expected a number"):
        import_weights("hifigan", tmp_path / "g", tmp_path / "mine")


def test_types_that_arrays_do_not_have_are_refused(tmp_path):
    from safetensors.torch import save_file

    sizes = {"model_type": "wav2vec2", "num_labels": 3}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    for kind in (torch.float8_e4m3fn, torch.bfloat16):
        save_file({"a": torch.ones(2).to(kind)}, tmp_path / "model.safetensors")
        with pytest.raises(EmoconvError, match=r"is bfloat16, expected|not of float16 or float32"):
            import_weights("wav2vec2-dim", tmp_path, tmp_path / "mine")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "enc.pt")
    with pytest.raises(EmoconvError, match=r"enc\.pt: not a regular file"):
        import_weights("diffvc", tmp_path / "enc.pt", tmp_path / "mine")


def test_where_one_file_cannot_be_written_none_is(tmp_path):
    torch.save(diffvc(), tmp_path / "vc.pt")
    mine = tmp_path / "mine"
    (mine / "score_network-1-of-1.safetensors").mkdir(parents=True)
    with pytest.raises(EmoconvError, match=r"mine: cannot be written \(Is a directory\)"):
        import_weights("diffvc", tmp_path / "vc.pt", mine)
    assert [path.name for path in mine.iterdir()] == ["score_network-1-of-1.safetensors"]


def changed(bundle_folder, folder, **fields):
    """Returns a copy of the tiny bundle with other settings."""
    shutil.copytree(bundle_folder, folder)
    write_bundle(folder, dataclasses.replace(read_config(folder), **fields))
    return folder


def test_a_part_of_another_mel_is_refused(bundle_folder, tmp_path):
    config, mel = read_config(bundle_folder), MelConfig(high_hz=7000.0)
    vocoder = dataclasses.replace(config.vocoder, mel=mel)
    source = changed(bundle_folder, tmp_path / "source", mel=mel, vocoder=vocoder)
    mine = shutil.copytree(bundle_folder, tmp_path / "mine")
    for part in ("score_network", "average_voice", "recogniser"):
        with pytest.raises(EmoconvError, match=rf"{part}: mel\.high_hz is 7000\.0, .* has 8000\.0"):
            import_weights("safetensors", source, mine, only=[part])
    assert read_config(mine) == config
    import_weights("safetensors", source, tmp_path / "new", only=["average_voice"])
    assert read_config(tmp_path / "new").mel == mel


@pytest.mark.slow
def test_a_whole_bundle_comes_with_schedule_banks_and_licences(bundle_folder, tmp_path, capsys):
    config = read_config(bundle_folder)
    diffusion = dataclasses.replace(config.diffusion, beta_1=10.0)
    voice = Imported("average_voice", "diffvc", "enc.pt", "00", "CC-BY-NC-4.0")
    source = changed(bundle_folder, tmp_path / "source", diffusion=diffusion, imported=(voice,))
    # there from earlier, and no role uses it: reading it would fail
    (source / "wav2vec2-1-of-1.safetensors").write_bytes(b"")
    line = ["import", "--format", "safetensors", str(source), "--out"]
    assert main([*line, str(tmp_path / "mine")]) == 0
    assert "mine: written; it converts\n" in capsys.readouterr().out
    mine = read_config(tmp_path / "mine")
    assert (mine.diffusion, mine.roles, mine.mel) == (diffusion, config.roles, config.mel)
    licences = {entry.part: entry.licence for entry in mine.imported}
    assert licences == {
        "average_voice": "CC-BY-NC-4.0", "recogniser": "CC0-1.0", "score_network": "CC0-1.0",
        "speaker": "CC0-1.0", "vocoder": "CC0-1.0",
    }  # fmt: skip
    assert "- average_voice: `CC-BY-NC-4.0`, from enc.pt (diffvc)" in card(mine)
    assert "- recogniser: `CC0-1.0`, from source (safetensors)" in card(mine)
    width = config.emotion_width
    found, expected = load_banks(tmp_path / "mine", width), load_banks(source, width)
    assert all((found.vectors[name] == expected.vectors[name]).all() for name in expected.vectors)
    assert main([*line, str(tmp_path / "part"), "--parts", "average_voice"]) == 0
    said = capsys.readouterr().out
    assert "it does not convert yet: banks.safetensors is missing\n" in said


def test_a_part_keeps_the_origin_that_its_bundle_tells(bundle_folder, tmp_path):
    """Also over two bundles; a licence that the user states is the user's."""
    voice = Imported("average_voice", "diffvc", "enc.pt", "00", "unknown")
    source = changed(bundle_folder, tmp_path / "source", imported=(voice,))
    import_weights("safetensors", source, tmp_path / "second")
    import_weights("safetensors", tmp_path / "second", tmp_path / "third", licence="MIT")
    second, third = (
        {entry.part: entry for entry in read_config(tmp_path / name).imported}
        for name in ("second", "third")
    )
    assert second["average_voice"] == voice
    assert third["average_voice"] == dataclasses.replace(voice, licence="MIT")
    assert second["recogniser"].source == third["recogniser"].source == "source"
    assert third["recogniser"].sha256 == second["recogniser"].sha256


@pytest.mark.slow
def test_parts_that_the_source_lacks_are_named_and_one_named_twice_is_taken_once(
    bundle_folder, tmp_path
):
    mine, wanted = tmp_path / "mine", ("recogniser", "vocoder", "speaker")
    source = make_bundle(tmp_path / "public", WITH_PUBLIC_PARTS)
    with pytest.raises(EmoconvError, match=r"public: has no vocoder, speaker$"):
        import_weights("safetensors", source, mine, only=wanted)
    torch.save(diffvc(), tmp_path / "vc.pt")
    with pytest.raises(EmoconvError, match=r"vc\.pt: has no recogniser$"):
        import_weights("diffvc", tmp_path / "vc.pt", mine, only=("average_voice", "recogniser"))
    assert not mine.exists()
    import_weights("safetensors", bundle_folder, mine, only=("recogniser", "recogniser"))
    assert [entry.part for entry in read_config(mine).imported] == ["recogniser"]


def test_a_bundle_is_not_imported_into_itself(bundle_folder, tmp_path):
    mine = shutil.copytree(bundle_folder, tmp_path / "mine")
    (tmp_path / "link").symlink_to(mine)
    for out in (mine, tmp_path / "link", mine / ".." / "mine"):
        with pytest.raises(UsageError, match=r"^--out: .* is the source, give another folder$"):
            import_weights("safetensors", mine, out)
    assert read_config(mine).imported == ()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda mine: (mine / PART).write_bytes(b"junk"), f"{PART}: damaged file"),
        (
            lambda mine: (mine / PART).rename(mine / "average_voice-1-of-2.safetensors"),
            "average_voice-2-of-2.safetensors is missing",
        ),
        (
            lambda mine: write_bundle(
                mine,
                dataclasses.replace(
                    read_config(mine), average_voice=dataclasses.replace(VOICE, feed_forward=24)
                ),
            ),
            f"{PART}: tensor params/",
        ),
    ],
    ids=["junk", "shard", "sizes"],
)
def test_a_bundle_that_does_not_load_does_not_convert(
    bundle_folder, tmp_path, capsys, damage, reason
):
    source = shutil.copytree(bundle_folder, tmp_path / "source")
    mine = shutil.copytree(bundle_folder, tmp_path / "mine")
    damage(mine)
    line = ["import", "--format", "safetensors", str(source), "--parts", "score_network"]
    assert main([*line, "--out", str(mine)]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert "it does not convert yet: " in said and reason in said


@pytest.mark.slow
def test_banks_of_another_encoder_are_told(bundle_folder, tmp_path, capsys):
    mine = shutil.copytree(bundle_folder, tmp_path / "mine")
    source = shutil.copytree(bundle_folder, tmp_path / "source")
    line = ["import", "--format", "safetensors", str(source), "--out", str(mine)]
    assert main(line) == 0
    assert "the banks were replaced by its own" in capsys.readouterr().out
    (source / "banks.safetensors").unlink()
    assert main(line) == 0
    assert "build them anew with `emoconv export --banks`" in capsys.readouterr().out


@pytest.mark.parametrize(("part", "field"), [("speaker", "hidden"), ("vocoder", "channels")])
def test_public_weights_have_the_sizes_they_have(bundle_folder, tmp_path, part, field):
    public = {"speaker": SpeakerConfig(), "vocoder": VocoderConfig()}
    public[part] = dataclasses.replace(public[part], **{field: 64})
    mine = changed(bundle_folder, tmp_path / "mine", roles=Roles(), **public)
    from emoconv_jax.bundles.parts import open_bundle

    with pytest.raises(EmoconvError, match=rf"roles\.{part} is 'registry', whose weights have"):
        open_bundle(mine)
