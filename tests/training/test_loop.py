"""The step and the loop: resuming, splitting a batch over devices, overfitting."""

import dataclasses
import functools
import json
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emoconv_jax.config import TrainingConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.batches import Batches
from emoconv_jax.pipeline.store import array_path
from emoconv_jax.training import loop, target_banks
from emoconv_jax.training.state import init_state, make_optimizer
from emoconv_jax.training.step import train_step
from emoconv_jax.training.trainees import make_trainee

TINY = {
    "recogniser": {"maps": (4, 4, 4, 4, 4, 4), "linear": 8, "hidden": 4, "embedding": 8},
    "average_voice": {
        "channels": 16,
        "feed_forward": 16,
        "layers": 1,
        "postnet_width": 8,
        "postnet_groups": 4,
    },
    "score_network": {"width": 8, "groups": 4, "condition_width": 8, "multipliers": (1, 2)},
}
TRAINEES = list(TINY)


def settings(trainee: str, **changes) -> TrainingConfig:
    base = TrainingConfig(
        trainee=trainee,
        network=TINY[trainee],
        splits=("a",),
        batch=4,
        frames=32,
        steps=4,
        warmup=1,
        learning_rate=1e-3,
    )
    return dataclasses.replace(base, **changes)


def silent(_: str) -> None:
    """Takes a line of progress."""


@pytest.mark.parametrize("trainee", TRAINEES)
def test_four_steps_equal_two_and_two_more_bit_for_bit(store, tmp_path, trainee):
    whole = loop.train(settings(trainee), store, tmp_path / "whole", log=silent)

    class Interrupted(RuntimeError):
        pass

    def stop_after_two(line: str) -> None:
        if line.startswith("step 2/"):
            raise Interrupted

    pace = loop.Pace(report=1, save_s=0.0)
    with pytest.raises(Interrupted):
        loop.train(settings(trainee), store, tmp_path / "cut", pace=pace, log=stop_after_two)
    lines: list[str] = []
    resumed = loop.train(settings(trainee), store, tmp_path / "cut", log=lines.append)
    assert any("continuing at step 1" in line for line in lines)
    for a, b in zip(jax.tree.leaves(vars(whole)), jax.tree.leaves(vars(resumed)), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.slow
def test_another_reader_continues_a_run_with_the_same_batches(store, tmp_path):
    whole = loop.train(settings("recogniser"), store, tmp_path / "whole", log=silent)

    class Interrupted(RuntimeError):
        pass

    def stop_after_two(line: str) -> None:
        if line.startswith("step 2/"):
            raise Interrupted

    pace = loop.Pace(report=1, save_s=0.0)
    with pytest.raises(Interrupted):
        loop.train(settings("recogniser"), store, tmp_path / "cut", pace=pace, log=stop_after_two)
    other = settings("recogniser", reader="tensorflow")
    resumed = loop.train(other, store, tmp_path / "cut", log=silent)
    for a, b in zip(jax.tree.leaves(vars(whole)), jax.tree.leaves(vars(resumed)), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.slow
def test_whole_utterances_train(store, tmp_path):
    """Eight utterances of 20 to 64 frames: batches of 32 and of 64 frames, the same network."""
    lines: list[str] = []
    config = settings("recogniser", crop="whole", frames=100, steps=6)
    state = loop.train(config, store, tmp_path / "run", log=lines.append)
    assert int(state.step) == 6
    assert "examples of at most 100 frames" in lines[0]
    made = loop.training_batches(config, store, loop.choose(store, config, ("a",)))
    assert {made.at(step).mel.shape[1] for step in range(6)} == {32, 64}


def test_what_fails_while_reading_ends_the_run_and_its_threads(store, tmp_path):
    array_path(store.folder, "mel").unlink()
    with pytest.raises(EmoconvError, match=r"mel\.f16: not found"):
        loop.train(settings("average_voice"), store, tmp_path / "run", log=silent)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_an_average_voice_is_learnt_from_aligned_utterances_alone(store):
    config = settings("average_voice")
    store.utterances[3] = dataclasses.replace(store.utterances[3], alignment="")
    assert loop.choose(store, config, ("a",)).tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert len(loop.choose(store, settings("score_network"), ("a",))) == 8


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


def test_another_config_in_the_same_workdir_is_refused(store, tmp_path):
    loop.train(settings("average_voice", steps=1), store, tmp_path / "run", log=silent)
    with pytest.raises(EmoconvError, match=r"learning_rate is 0\.001, this run asks for 0\.5"):
        changed = settings("average_voice", steps=1, learning_rate=0.5)
        loop.train(changed, store, tmp_path / "run", log=silent)


def test_metrics_are_recorded_with_their_step(store, tmp_path):
    loop.train(settings("score_network"), store, tmp_path / "run", log=silent)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["step"] == 4
    assert last["loss"] == pytest.approx(last["score"] + last["reconstruction"], rel=1e-5)


@pytest.mark.parametrize("trainee", TRAINEES)
def test_two_halves_reduced_equal_the_whole_batch(store, trainee):
    """Ragged masks: a mean per half would differ, sums and counts do not."""
    config = settings(trainee, frames=60)
    network = make_trainee(config, loop.statistics_of(config, store))
    optimizer = make_optimizer(config)
    params = network.init(jax.random.key(0))
    state = init_state(params, optimizer)
    make = functools.partial(
        Batches, store, loop.choose(store, config, ("a",)), trainee, batch=4, frames=60, seed=0
    )
    step = functools.partial(train_step, trainee=network, optimizer=optimizer, ema=0.9)
    key = jax.random.key(1)
    _, whole = jax.jit(step)(state, make().at(0), key)
    halves = [make(host=h, hosts=2).at(0) for h in range(2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *halves)
    split = jax.vmap(
        functools.partial(step, reduce=lambda tree: jax.lax.psum(tree, "devices")),
        in_axes=(None, 0, None),
        axis_name="devices",
    )
    _, parts = jax.jit(split)(state, stacked, key)
    for name in whole:
        np.testing.assert_allclose(parts[name], np.full(2, whole[name]), rtol=2e-5, err_msg=name)


@pytest.mark.slow
def test_score_loss_falls_tenfold_on_one_batch_with_fixed_noise(store):
    config = settings("score_network", steps=400, learning_rate=5e-3, condition_dropout=0.0)
    config = dataclasses.replace(config, network={**TINY["score_network"], "width": 16})
    network = make_trainee(config)
    optimizer = make_optimizer(config)
    state = init_state(network.init(jax.random.key(0)), optimizer)
    batch = Batches(
        store, loop.choose(store, config, ("a",)), "score_network", batch=2, frames=16, seed=0
    ).at(0)

    @jax.jit
    def step(state):
        # the step's number is folded into the key: holding it fixes time and noise
        held = dataclasses.replace(state, step=jnp.zeros((), jnp.int32))
        after, metrics = train_step(
            held, batch, jax.random.key(3), trainee=network, optimizer=optimizer, ema=0.9
        )
        return after, metrics["loss"]

    losses = []
    for _ in range(config.steps):
        state, loss = step(state)
        losses.append(float(loss))
    assert losses[-1] < losses[0] / 10


def test_a_score_network_sees_banks_as_often_as_the_run_asks(store):
    """Each emotion has one utterance here, so its bank is that one's own embedding.

    An arousal's bank is a mean of all, which nobody's own is, and half of what banks are drawn.
    """
    banks = target_banks.banks_of(store)
    levels = [banks.arousal(u.arousal) for u in store.utterances]
    config = settings("score_network")

    def from_levels(share: float) -> float:
        run = dataclasses.replace(config, bank_share=share)
        made = loop.training_batches(run, store, loop.choose(store, run, ("a",)))
        seen = np.concatenate([made.at(step).emotion for step in range(100)])
        return float(np.mean([any(np.array_equal(row, level) for level in levels) for row in seen]))

    assert from_levels(0.0) == 0.0
    assert abs(from_levels(1.0) - 0.5) < 0.1  # 400 draws: standard deviation .025
    assert abs(from_levels(0.5) - 0.25) < 0.1
    other = settings("average_voice")
    assert loop.training_batches(other, store, loop.choose(store, other, ("a",))).banks is None


def test_banks_come_from_the_recognisers_split_alone(store):
    made = target_banks.banks_of(store)
    chosen = [i for i, u in enumerate(store.utterances) if u.split == "a" and u.emotion == "sad"]
    expected = np.array(store.array("emotion"))[chosen].mean(axis=0)
    np.testing.assert_allclose(made.emotion("sad"), expected, rtol=1e-6)


def test_initial_parameters_of_another_network_are_named(store, tmp_path):
    config = settings("score_network", steps=1)
    params = make_trainee(config).init(jax.random.key(0))
    wide = dataclasses.replace(config, network={**config.network, "conditioning": "blocks"})
    with pytest.raises(EmoconvError, match=r"--bundle: its tensor cond_time/bias is nothing, the"):
        loop.train(wide, store, tmp_path / "run", initial=params, log=silent)
    wide = dataclasses.replace(config, network={**config.network, "condition_width": 16})
    with pytest.raises(EmoconvError, match=r"cond_block_0/bias is \(32,\), the run.* \(64,\)"):
        loop.train(wide, store, tmp_path / "other", initial=params, log=silent)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_configuration_of_a_run_is_refused(store, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(EmoconvError, match=r"config\.json: (not JSON|found list)"):
        loop.train(settings("average_voice"), store, tmp_path, log=silent)


def test_xt_ablation_has_a_gradient(store):
    config = settings("score_network", loss="xt")
    network = make_trainee(config)
    params = network.init(jax.random.key(0))
    batch = Batches(
        store, loop.choose(store, config, ("a",)), "score_network", batch=2, frames=16, seed=0
    ).at(0)
    keys = jax.random.split(jax.random.key(0), 2)
    grads = jax.grad(lambda p: network.terms(p, batch, keys)["reconstruction"][0])(params)
    norms = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(grads)]
    assert max(norms) > 1e-3
