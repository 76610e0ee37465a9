"""The step and the loop: resuming, splitting a batch over devices, overfitting."""

import dataclasses
import json
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import TRAINEES, drawn, settings, train

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.batches import Batches
from emoconv_jax.pipeline.store import array_path
from emoconv_jax.training import loop, target_banks
from emoconv_jax.training.loop import Care
from emoconv_jax.training.parallel import Parallel
from emoconv_jax.training.selection import choose, training_batches
from emoconv_jax.training.start import read_config
from emoconv_jax.training.state import make_optimizer
from emoconv_jax.training.trainees import make_trainee


@pytest.fixture
def compiled_once(monkeypatch):
    """Lets runs of one configuration share their programs, which take longest; but those of the
    average voice, which shows that programs that are compiled anew go on bit for bit, too."""
    made: dict[str, Parallel] = {}

    def shared(config, *more):
        key = repr(dataclasses.replace(config, reader="plain"))
        if key not in made or config.trainee == "average_voice":
            made[key] = Parallel(config, *more)
        return made[key]

    monkeypatch.setattr(loop, "Parallel", shared)


@pytest.mark.slow
@pytest.mark.parametrize("trainee", TRAINEES)
def test_four_steps_equal_two_and_two_more_bit_for_bit(store, tmp_path, trainee, compiled_once):
    """Those of the recogniser by another reader as well."""
    whole = train(settings(trainee), store, tmp_path / "whole")

    class Interrupted(RuntimeError):
        pass

    def stop_after_two(line: str) -> None:
        if line.startswith("step 2/"):
            raise Interrupted

    care = Care(report=1, save_s=0.0)
    with pytest.raises(Interrupted):
        train(settings(trainee), store, tmp_path / "cut", care=care, log=stop_after_two)
    for reader in ("plain", "tensorflow") if trainee == "recogniser" else ("plain",):
        run = shutil.copytree(tmp_path / "cut", tmp_path / reader)
        lines: list[str] = []
        resumed = train(settings(trainee, reader=reader), store, run, log=lines.append)
        assert any("continuing at step 1" in line for line in lines)
        for a, b in zip(jax.tree.leaves(vars(whole)), jax.tree.leaves(vars(resumed)), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.slow
def test_whole_utterances_train(store, tmp_path):
    """Eight utterances of 20 to 64 frames: batches of 32 and of 64 frames, the same network."""
    lines: list[str] = []
    config = settings("recogniser", crop="whole", frames=100, steps=6)
    state = train(config, store, tmp_path / "run", log=lines.append)
    assert int(state.step) == 6
    assert "examples of at most 100 frames" in lines[0]
    made = training_batches(config, store, choose(store, config, ("a",)))
    assert {made.at(step).mel.shape[1] for step in range(6)} == {32, 64}


@pytest.mark.slow
def test_what_fails_while_reading_ends_the_run_and_its_threads(store, tmp_path):
    array_path(store.folder, "mel").unlink()
    with pytest.raises(EmoconvError, match=r"mel\.f16: not found"):
        train(settings("average_voice"), store, tmp_path / "run")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_an_average_voice_is_learnt_from_aligned_utterances_alone(store):
    config = settings("average_voice")
    store.utterances[3] = dataclasses.replace(store.utterances[3], alignment="")
    assert choose(store, config, ("a",)).tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert len(choose(store, settings("score_network"), ("a",))) == 8


def test_a_split_of_one_corpus_can_be_named(store):
    config, other = settings("score_network"), "elsewhere"
    store.utterances[3] = dataclasses.replace(store.utterances[3], corpus=other)
    assert choose(store, config, ("elsewhere/a",)).tolist() == [3]
    assert choose(store, config, ("elsewhere/a", "a")).tolist() == list(range(8))
    with pytest.raises(EmoconvError, match="no utterances for score_network in splits nowhere/a"):
        choose(store, dataclasses.replace(config, splits=("nowhere/a",)), ("nowhere/a",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": "middle"}, r"^crop: found 'middle', allowed is random or whole$"),
        ({"reader": "torch"}, r"^reader: found 'torch', allowed is plain or tensorflow$"),
    ],
)
def test_an_unknown_crop_or_reader_is_refused(change, message):
    with pytest.raises(EmoconvError, match=message):
        settings("recogniser", **change)


@pytest.mark.slow
def test_another_config_in_the_same_workdir_is_refused(store, tmp_path):
    train(settings("average_voice", steps=1), store, tmp_path / "run")
    with pytest.raises(EmoconvError, match=r"has learning_rate 0\.001 -> 0\.5; use a fresh"):
        changed = settings("average_voice", steps=1, learning_rate=0.5)
        train(changed, store, tmp_path / "run")


@pytest.mark.slow
def test_metrics_are_recorded_with_their_step(store, tmp_path):
    train(settings("recogniser"), store, tmp_path / "run", care=Care(report=2, validate=2))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    steps = [record for record in records if "loss" in record]
    assert [record["step"] for record in steps] == [2, 4]
    for record in steps:
        weighted = record["emotion"] + 0.5 * record["arousal"]
        assert record["loss"] == pytest.approx(weighted, rel=1e-5)
    # warmed up after one step; then a cosine over three: (1 + cos(2 pi / 3)) / 2 = 1/4 at the last
    rates = [record["learning_rate"] for record in steps]
    assert rates == pytest.approx([1e-3, 0.25e-3])
    assert [r["step"] for r in records if "validation/accuracy" in r] == [2, 4]
    assert "goodput/compiling_s" in records[-1]
    # nothing was there to restore: looking for it is quick, and drawing parameters is compiling
    assert records[-1]["goodput/restoring_s"] < records[-1]["goodput/compiling_s"]


def test_every_batch_of_a_validation_has_noise_of_its_own():
    config = settings("recogniser")
    keys = Parallel(config, make_trainee(config), make_optimizer(config), jax.devices()[:1]).keys(0)
    drawn = {tuple(jax.random.key_data(key).tolist()) for key in (*keys.watch, keys.step)}
    assert len(keys.watch) == 4 and len(drawn) == 5


def test_a_score_network_sees_banks_as_often_as_the_run_asks(store):
    """Each emotion has one utterance here, so its bank is that one's own embedding.

    An arousal's bank is a mean of all, which nobody's own is, and half of what banks are drawn.
    """
    banks = target_banks.banks_of(store)
    levels = [banks.arousal(u.arousal) for u in store.utterances]
    config = settings("score_network")

    def from_levels(share: float) -> float:
        run = dataclasses.replace(config, bank_share=share)
        made = training_batches(run, store, choose(store, run, ("a",)))
        seen = np.concatenate([made.at(step).emotion for step in range(100)])
        return float(np.mean([any(np.array_equal(row, level) for level in levels) for row in seen]))

    assert from_levels(0.0) == 0.0
    assert abs(from_levels(1.0) - 0.5) < 0.1  # 400 draws: standard deviation .025
    assert abs(from_levels(0.5) - 0.25) < 0.1
    other = settings("average_voice")
    assert training_batches(other, store, choose(store, other, ("a",))).banks is None


def test_banks_come_from_the_recognisers_split_alone(store):
    made = target_banks.banks_of(store)
    chosen = [i for i, u in enumerate(store.utterances) if u.split == "a" and u.emotion == "sad"]
    expected = np.array(store.array("emotion"))[chosen].mean(axis=0)
    np.testing.assert_allclose(made.emotion("sad"), expected, rtol=1e-6)


@pytest.mark.slow
def test_initial_parameters_of_another_network_are_named(store, tmp_path):
    config = settings("score_network", steps=1)
    params = drawn(make_trainee(config))
    wide = dataclasses.replace(config, network={**config.network, "conditioning": "blocks"})
    with pytest.raises(EmoconvError, match=r"--bundle: its tensor cond_time/bias is nothing, the"):
        train(wide, store, tmp_path / "run", initial=params)
    wide = dataclasses.replace(config, network={**config.network, "condition_width": 16})
    with pytest.raises(EmoconvError, match=r"cond_block_0/bias is \(32,\), the run.* \(64,\)"):
        train(wide, store, tmp_path / "run", initial=params)
    train(config, store, tmp_path / "run", initial=params)  # what failed has claimed nothing


@pytest.mark.slow
def test_settings_that_fit_no_checkpoint_leave_the_run_as_it_was(store, tmp_path):
    config = settings("recogniser", steps=1)
    train(config, store, tmp_path)
    other = dataclasses.replace(config, steps=2, network={**config.network, "linear": 16})
    with pytest.raises(EmoconvError, match=r"step 1 does not fit this run: .*linear"):
        train(other, store, tmp_path, care=Care(override=True))
    assert read_config(tmp_path).network["linear"] == config.network["linear"]


@pytest.mark.slow
def test_a_run_goes_on_with_other_features_only_where_it_is_told_to(store, tmp_path):
    config = settings("recogniser", steps=1)
    train(config, store, tmp_path)
    store.utterances[3] = dataclasses.replace(store.utterances[3], emotion="")
    more = dataclasses.replace(config, steps=2)
    override = Care(override=True)
    train(more, store, tmp_path, care=override)
    store.utterances[4] = dataclasses.replace(store.utterances[4], emotion="")
    with pytest.raises(EmoconvError, match=r"trained on 7 utterances \(.*\), found 6 utterances"):
        train(more, store, tmp_path)


@pytest.mark.slow
def test_a_run_of_eight_devices_continues_on_one_and_on_four(store, tmp_path):
    """The steps after it are the same but for the order of sums."""
    config = settings("recogniser", batch=8, steps=2)
    train(config, store, tmp_path / "8", devices=jax.devices(), care=Care(report=1))
    more = dataclasses.replace(config, steps=4)
    for count in (1, 4):
        run = tmp_path / f"on {count}"
        shutil.copytree(tmp_path / "8", run)
        care = Care(report=1, override=True)
        train(more, store, run, devices=jax.devices()[:count], care=care)
    losses = [
        [json.loads(line).get("loss") for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in sorted(tmp_path.glob("on *"))
    ]
    found = np.array([[loss for loss in run if loss is not None] for run in losses])
    assert found.shape == (2, 4)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_configuration_of_a_run_is_refused(store, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(EmoconvError, match=r"config\.json: (not JSON|found list)"):
        train(settings("average_voice"), store, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "term"), [("xt", "reconstruction"), ("tweedie", "style")])
def test_a_term_has_a_gradient(store, bundle_folder, loss, term):
    """L1(X_t), the ablation, would have none to X_t itself; the style's comes through X0_hat."""
    judge = {"style_weight": 1.0, "style_recogniser": str(bundle_folder)}
    config = settings("score_network", loss=loss, **(judge if term == "style" else {}))
    network = make_trainee(config)
    params = drawn(network)
    batch = Batches(
        store, choose(store, config, ("a",)), "score_network", batch=4, frames=16, seed=0
    ).at(0)
    keys = jax.random.split(jax.random.key(0), 4)
    gradient = jax.grad(lambda p: network.terms(p, batch, keys)[term][0])
    norms = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(jax.jit(gradient)(params))]
    assert np.isfinite(norms).all()
    assert max(norms) > 1e-3
