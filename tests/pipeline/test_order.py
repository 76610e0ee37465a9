"""The order: the published cipher, uniform permutations, whole epochs, steps by arithmetic."""

import collections
import itertools

import numpy as np
import pytest

from emoconv_jax.inference.lengths import bucket
from emoconv_jax.pipeline import order
from emoconv_jax.pipeline.order import EXAMPLES, GROUPS, UTTERANCES, Endless, Grouped

MASK = 2**64 - 1
LENGTHS = np.random.default_rng(0).integers(20, 300, 203)


def philox(counter: int, key: tuple[int, int]) -> list[int]:
    """Philox4x64-10 in whole numbers, as Salmon et al. (2011) define it in section 3.3."""
    x = [counter >> shift & MASK for shift in (0, 64, 128, 192)]
    k = list(key)
    for _ in range(10):
        a, b = x[0] * 0xD2E7470EE14C6C93, x[2] * 0xCA5A826395121157
        x = [b >> 64 ^ x[1] ^ k[0], b & MASK, a >> 64 ^ x[3] ^ k[1], a & MASK]
        k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
    return x


def uniform_bound(cells: int) -> float:
    """What chi-square exceeds with a probability of about 1e-8: mean + 6 standard deviations."""
    return cells + 6 * (2 * cells) ** 0.5


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


def test_the_cipher_above_gives_the_published_answer():
    """The first line of philox4x64 in Random123's kat_vectors."""
    known = "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"
    assert " ".join(f"{word:016x}" for word in philox(0, (0, 0))) == known


@pytest.mark.parametrize(("seed", "purpose"), [(0, UTTERANCES), (5, GROUPS), (2**32 - 1, EXAMPLES)])
@pytest.mark.parametrize(("first", "epoch"), [(0, 0), (7, 3), (2**60, 0), (0, 2**40)])
def test_words_are_the_ciphers(seed, purpose, first, epoch):
    found = order.words(seed, purpose, 10, first=first, epoch=epoch)
    blocks = [philox(first + 1 + i + (epoch << 64), (seed, purpose)) for i in range(3)]
    assert found.tolist() == [word for block in blocks for word in block][:10]


def test_a_permutation_is_the_order_of_its_words():
    found = order.permutation(3, UTTERANCES, 9, 50).tolist()
    keys = [word for i in range(13) for word in philox(i + 1 + (9 << 64), (3, UTTERANCES))]
    assert found == sorted(range(50), key=keys.__getitem__)


def test_draws_belong_to_positions():
    whole = order.draws(4, range(1000, 1032))
    parts = [order.draws(4, range(start, start + 8)) for start in range(1000, 1032, 8)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(np.unique(whole)) == whole.size
    assert not np.isin(order.draws(5, range(1000, 1032)), whole).any()


def test_draws_are_uniform_and_independent_of_their_neighbours():
    drawn = order.draws(0, range(20_000))
    assert drawn.min() >= 0
    assert drawn.max() < 1
    for column in drawn.T:
        assert chi_square(np.bincount((column * 50).astype(int), minlength=50)) < uniform_bound(49)
    neighbours = np.column_stack([drawn[:-1], drawn[1:]])
    correlation = np.corrcoef(neighbours, rowvar=False) - np.eye(8)
    assert np.abs(correlation).max() < 0.05  # standard deviation .007


@pytest.mark.parametrize("seed", [0, 1])
def test_permutations_are_uniform_and_those_of_neighbouring_epochs_independent(seed):
    """Every item in every place equally often, also relative to the epoch before."""
    count, epochs = 8, 4000
    made = [order.permutation(seed, UTTERANCES, epoch, count) for epoch in range(epochs)]
    places, moves = np.zeros((count, count)), np.zeros((count, count))
    for before, after in itertools.pairwise(made):
        places[np.arange(count), after] += 1
        moves[np.argsort(before), np.argsort(after)] += 1
    for table in (places, moves):
        assert chi_square(table) < uniform_bound((count - 1) ** 2)
    assert all(sorted(one.tolist()) == list(range(count)) for one in made[:50])


def test_long_permutations_differ_by_epoch_seed_and_purpose():
    settings = [(0, UTTERANCES, 0), (0, UTTERANCES, 1), (1, UTTERANCES, 0), (0, GROUPS, 0)]
    made = [order.permutation(*one, 1000) for one in settings]
    for i, one in enumerate(made):
        assert sorted(one.tolist()) == list(range(1000))
        for other in made[:i]:
            assert (one == other).mean() < 0.01  # one place in a thousand agrees by chance


def test_crops_reach_both_ends_and_no_further():
    lengths = np.array([300, 300, 128, 50, 129])
    almost_one = np.nextafter(1.0, 0.0)
    assert order.crop_starts(np.zeros(5), lengths, 128).tolist() == [0] * 5
    assert order.crop_starts(np.full(5, almost_one), lengths, 128).tolist() == [172, 172, 0, 0, 1]


def test_endless_epochs_follow_one_another():
    made = Endless(203, batch=8, frames=128, seed=0)
    rows = np.concatenate([made.at(step, range(8)).rows for step in range(203)])
    for epoch in rows.reshape(8, 203):
        assert sorted(epoch.tolist()) == list(range(203))


@pytest.mark.parametrize("batch", [1, 8, 500])
@pytest.mark.parametrize("frames", [64, 200, 1000])
def test_groups_have_one_length_and_miss_no_utterance(batch, frames):
    made = Grouped(LENGTHS, batch=batch, frames=frames, seed=0)
    padded = np.array([min(bucket(int(n)), frames) for n in LENGTHS])
    members = collections.Counter(padded.tolist())
    assert made.epoch_steps == sum(-(-n // batch) for n in members.values())
    for epoch in range(3):
        first = epoch * made.epoch_steps
        seen = collections.Counter()
        for step in range(first, first + made.epoch_steps):
            rows, length = made.at(step, range(batch))
            assert (padded[rows] == length).all()
            seen.update(rows.tolist())
        for row, times in seen.items():  # a bucket is filled evenly
            of_bucket = members[padded[row]]
            filled = -(-of_bucket // batch) * batch
            assert filled // of_bucket <= times <= -(-filled // of_bucket)
        assert len(seen) == len(LENGTHS)


def test_groups_of_short_and_long_are_mixed_anew_in_every_epoch():
    made = Grouped(LENGTHS, batch=4, frames=1000, seed=0)
    steps = made.epoch_steps
    lengths = [[made.at(e * steps + s, range(4)).frames for s in range(steps)] for e in range(4)]
    assert all(sorted(epoch) == sorted(lengths[0]) for epoch in lengths)
    assert len({tuple(epoch) for epoch in lengths}) == 4
    assert all(epoch != sorted(epoch) for epoch in lengths)
    partners = [
        {frozenset(made.at(e * steps + s, range(4)).rows.tolist()) for s in range(steps)}
        for e in range(2)
    ]
    assert len(partners[0] & partners[1]) < steps / 10  # groups are new ones, too


@pytest.mark.parametrize("crop", ["random", "whole"])
def test_any_step_costs_the_permutations_of_its_epoch_alone(monkeypatch, crop):
    counted, real = [], order.permutation

    def permutation(*arguments):
        counted.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(order, "permutation", permutation)
    settings = {"batch": 8, "frames": 128, "seed": 0}
    made = Endless(203, **settings) if crop == "random" else Grouped(LENGTHS, **settings)
    assert not counted
    made.at(1_000_000, range(8))
    assert 1 <= len(counted) <= 2
    made.at(1_000_001, range(8))
    made.at(1_000_000, range(8))
    assert len(counted) <= 4  # of two epochs at most: the second time they are remembered
