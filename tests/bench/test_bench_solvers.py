"""The measurement of solvers: distances by hand, noise by its law, runs against the sampler's."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from tiny_bundle import SAMPLE

from emoconv_jax.audio.reading import read_audio
from emoconv_jax.bench.distances import (
    DECIBELS,
    BrownianPath,
    bins_over_seeds,
    distance_db,
    spread_figures,
)
from emoconv_jax.bench.listeners import Listeners
from emoconv_jax.bench.solvers import SECTIONS, Bench, Settings, measure
from emoconv_jax.bench.solvers_table import table
from emoconv_jax.bench.walking import Speech, Walk, speech_of
from emoconv_jax.diffusion.solvers import DETERMINISTIC, time_grid
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.request import Request
from emoconv_jax.inference.sampling import Sampler


def test_a_factor_of_ten_in_magnitude_is_twenty_decibels_and_padding_does_not_count():
    reference = np.zeros((2, 3, 4), np.float32)
    found = np.full_like(reference, np.log(10))
    found[1, 0] = 0.0
    found[:, 2] = 99.0  # padding
    mask = np.array([[1, 1, 0], [1, 1, 0]], np.float32)
    np.testing.assert_allclose(distance_db(found, reference, mask), [20.0, 10.0], rtol=1e-6)


def test_means_and_spreads_over_seeds_by_hand():
    """Two bins of one frame: 0 and 2 over two seeds have mean 1 and deviation sqrt 2; 1 and 1 have
    0. The limit's means are 1 and 4, so the distances are 0 and 3, the root mean square sqrt 4.5.
    A mean of two seeds is off by chance by spread sqrt(2 / 2)."""
    runs = np.array([[[[0.0, 1.0]]], [[[2.0, 1.0]]]])
    means, spreads = bins_over_seeds(runs)
    np.testing.assert_allclose(spreads, [[[np.sqrt(2), 0.0]]])
    found = spread_figures(means, spreads, np.array([[[1.0, 4.0]]]), np.ones((1, 1)), seeds=2)
    assert found["shift_db"] == pytest.approx(DECIBELS * np.sqrt(4.5))
    assert found["spread_db"] == pytest.approx(DECIBELS * np.sqrt(2) / 2)
    assert found["chance_db"] == pytest.approx(DECIBELS * np.sqrt(2 / 2))
    assert found["mean_by_bin"] == [1.0, 1.0]
    assert found["spread_db_by_bin"] == pytest.approx([DECIBELS * np.sqrt(2), 0.0])


def test_a_coarse_step_sees_the_sum_of_the_fine_ones():
    fine, coarse = time_grid(12), time_grid(4)
    path = BrownianPath(0, [fine, coarse], (1, 2, 3))
    fine_noise, coarse_noise = path.noise(fine), path.noise(coarse)
    for step in range(4):
        summed = sum(np.sqrt(1 / 12) * fine_noise(i) for i in range(3 * step, 3 * step + 3))
        np.testing.assert_allclose(np.sqrt(1 / 4) * coarse_noise(step), summed, atol=1e-5)


def test_the_noise_of_every_grid_is_standard_normal():
    """Of 60 000 numbers, mean and variance are off by .004 and .006 (one standard error)."""
    grids = [time_grid(6), np.array([1.0, 0.41, 0.4, 0.001, 0.0])]
    path = BrownianPath(1, grids, (10, 20, 300))
    for grid in grids:
        for step in range(len(grid) - 1):
            noise = np.asarray(path.noise(grid)(step))
            assert abs(noise.mean()) < 0.02
            assert noise.var() == pytest.approx(1.0, abs=0.03)


@pytest.mark.slow
def test_the_listeners_hear_the_sample_and_say_what_is_missing():
    audio, text = read_audio(SAMPLE, 22050), "The queen wore a purple gown and a silver chain."
    listeners = Listeners()
    errors, count = listeners.word_errors(audio, 22050, text)
    assert count == 10
    assert errors <= 5
    assert listeners.word_errors(audio, 22050, "") is None
    assert any(note.startswith("WER: rough") for note in listeners.notes)
    score = listeners.mos(audio, 22050)
    absent = any(note.startswith("DNSMOS: absent") for note in listeners.notes)
    assert absent if score is None else 2 < score < 5


def test_utterances_are_short_english_and_of_different_speakers(tmp_path, speech):
    rows = [
        ("0", "ann", "en", "Far too long.", 8),
        ("1", "ann", "en", "One.", 2),
        ("2", "ann", "en", "Two.", 2),
        ("3", "bea", "en", "Three.", 2),
        ("4", "cid", "pl", "Cztery.", 2),
        ("5", "dan", "en", "", 2),
    ]
    lines = ["path\tspeaker\tgender\tlanguage\temotion\ttext"]
    for name, speaker, language, text, times in rows:
        soundfile.write(tmp_path / f"{name}.wav", np.tile(speech, times), 22050)
        lines.append(f"{name}.wav\t{speaker}\tF\t{language}\tneutral\t{text}")
    (tmp_path / "manifest.tsv").write_text("\n".join(lines) + "\n")
    two = speech_of(str(tmp_path), 2, 2.0, 22050)
    assert {one.text for one in two} in ({"One.", "Three."}, {"Two.", "Three."})
    many = speech_of(str(tmp_path), 9, 2.0, 22050)
    assert {one.text for one in many} == {"One.", "Two.", "Three."}
    with pytest.raises(EmoconvError, match=r"no utterance of 1 to 1\.1 s"):
        speech_of(str(tmp_path), 2, 1.1, 22050)


def test_a_run_that_blew_up_is_a_dash():
    found = spread_figures(*np.full((3, 1, 1, 2), np.nan), np.ones((1, 1)), seeds=2)
    assert (found["shift_db"], found["spread_db_by_bin"]) == (None, [None, None])
    row = {"solver": "ddim", "spacing": "log_snr", "distance_db": None}
    rows = [row | {"steps": 4}, row | {"steps": 6, "distance_db": 1.0}]
    section = {"rows": rows, "utterances": [{}], "baselines": {}, "notes": []}
    text = table("noise", section | {"settings": {"guidance": 1.0}})
    assert text.splitlines()[-1].split() == ["ddim,", "log_snr", "-", "1.00"]


@pytest.fixture(scope="module")
def pair(speech):
    return [Speech("a", "", speech), Speech("b", "", speech[: len(speech) * 3 // 4])]


class Shifted:
    """A network whose score is that of N(Y + shift, I), by a shift of its own for every frame,
    utterance, emotion, voice and time: -(x - Y) and a number from -1 to 1, computed in the type
    of x."""

    config = types.SimpleNamespace(reference_block=False)

    def apply(self, variables, xt, average_voice, mask, t, speaker, emotion):
        wide = [jnp.asarray(one, xt.dtype) for one in (t, speaker[:, 0], emotion[:, 0])]
        frames = jnp.arange(xt.shape[1], dtype=xt.dtype)
        shift = jnp.sin(sum(wide)[:, None] + frames[None]) * mask
        return average_voice - xt + shift[..., None]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "latent", "spacing"),
    [
        ("heun", "source", "uniform_t"),
        ("dpmpp_2m", "noise", "log_snr"),
        ("maximum_likelihood", "noise", "uniform_t"),
    ],
)
def test_a_walk_is_what_the_sampler_computes(converter, pair, monkeypatch, solver, latent, spacing):
    """Both compute in float64, with a score that enlarges nothing; the coefficients are the same
    float32 numbers on both sides. What may differ is the last bits of the noise, which is drawn in
    float32: up to 5.5, by some 16 roundings of 2^-24. A step keeps an error of its state or, where
    it remembers the estimate before, doubles it at most."""
    network = dataclasses.replace(converter.config.score_network, head="score")
    sampler = Sampler(dataclasses.replace(converter.config, score_network=network), {})
    sampler.network = Shifted()
    monkeypatch.setattr(converter, "sampler", sampler)
    request = Request(arousal=6.0, latent=latent, guidance=2.0)
    walk, steps = Walk(converter, pair, request), 3
    assert walk.conditions == 2  # the arousal and null
    walk.mel, walk.voice = walk.mel.astype(np.float64), walk.voice.astype(np.float64)
    with jax.enable_x64(True):
        grid = walk.grid(steps, spacing)
        state, noise = walk.from_noise(5)
        state = walk.inverted(grid, solver) if latent == "source" else state
        found = walk(solver, grid, state, noise)
        expected = sampler(
            walk.mel,
            walk.voice,
            walk.mask,
            walk.speaker,
            walk.emotions,
            walk.own,
            np.tile(walk.weights, (steps, 1)),
            jax.random.split(jax.random.key(5), 2),
            solver=solver,
            segments=((0, steps, (0, 1)),),
            latent=latent,
            spacing=spacing,
        )
    assert found.dtype == expected.dtype == np.float64
    draws = 0 if latent == "source" else 1 + steps
    tolerance = 1e-9 + 2**steps * draws * 5.5 * 16 * 2**-24
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.slow
def test_every_section_is_measured_shown_and_drawn(converter, pair, tmp_path):
    out, lines = tmp_path / "solvers.json", []
    settings = Settings(steps=(1, 4), reference_steps=4, seeds=2, heard=1, listen=False)
    found = measure(Bench(converter, pair, settings), SECTIONS, out, lines.append)
    assert json.loads(out.read_text()).keys() == found.keys() == set(SECTIONS)
    assert (tmp_path / "solvers.png").read_bytes().startswith(b"\x89PNG")
    assert [len(found[name]["rows"]) for name in SECTIONS] == [4 * 4, 4 * 4, 4, 4]
    by_name = {(r["solver"], r["spacing"], r["steps"]): r for r in found["noise"]["rows"]}
    assert {name for name, _, _ in by_name} == set(DETERMINISTIC)
    # the reference itself, and one step, of which heun's is Euler's
    assert by_name["heun", "uniform_t", 4]["distance_db"] == 0.0
    euler, one = (by_name[name, "uniform_t", 1] for name in ("probability_flow", "heun"))
    assert one["each_db"] == pytest.approx(euler["each_db"])
    assert min(one["each_db"]) > 0
    assert one["distance_db"] == pytest.approx(np.mean(one["each_db"]))  # the median of two
    assert by_name["heun", "uniform_t", 4]["evaluations"] == 7
    source = {(r["solver"], r["steps"], r["spacing"]): r for r in found["source"]["rows"]}
    assert source["heun", 4, "log_snr"]["evaluations"] == 7 + 8  # and the inversion
    assert source["heun", 4, "uniform_t"]["distance_db"] == 0.0
    brownian = {(r["spacing"], r["steps"]): r for r in found["brownian"]["rows"]}
    assert brownian["uniform_t", 4]["distance_db"] == pytest.approx(0.0, abs=1e-3)
    assert brownian["uniform_t", 1]["distance_db"] > 0.01
    posterior = {(r["spacing"], r["steps"]): r for r in found["posterior"]["rows"]}
    assert posterior["uniform_t", 4]["shift_db"] == 0.0  # the limit itself
    known = [r for r in posterior.values() if r["spread_db"] is not None]
    assert posterior["uniform_t", 4] in known
    assert all(r["spread_db"] > 0 and len(r["mean_by_bin"]) == 80 for r in known)
    assert "heun, log_snr" in lines[0]
    assert "nothing was listened to" in lines[0]
