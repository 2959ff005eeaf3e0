"""The random numbers: known answers of Philox, exact properties of the rest."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from fastbp import rng

EPS = float(np.finfo(np.float64).eps)

# Random123, tests/kat_vectors, "philox4x32 10": counter, key, answer.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_known_answers(counter: str, key: str, answer: str) -> None:
    c0, c1, c2, c3 = (np.array([int(word, 16)], np.uint64) for word in counter.split())
    low, high = (int(word, 16) for word in key.split())
    words = rng._philox_blocks(c0, c1, c2, c3, low | high << 32)
    assert [f"{int(word[0]):08x}" for word in words] == answer.split()


def test_philox_layout_of_key_and_counter() -> None:
    seed, stream, step = 0x0123456789ABCDEF, 7, 0xFFFFFFFF
    words = rng.philox(seed, stream, step, 12)
    c0, c1, c2, c3 = (np.array([c], np.uint64) for c in (2, 0, step, stream))
    third = rng._philox_blocks(c0, c1, c2, c3, seed)
    assert words.dtype == np.uint32
    assert words[8:].tolist() == [int(word[0]) for word in third]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, rng.CHUNK - 1, rng.CHUNK, rng.CHUNK + 1, 2 * rng.CHUNK + 5])
def test_any_count_is_a_prefix(count: int) -> None:
    longest = 2 * rng.CHUNK + 8
    for draw in (rng.philox, rng.uniform, rng.normal, rng.truncated_normal):
        np.testing.assert_array_equal(draw(5, 1, 2, count), draw(5, 1, 2, longest)[:count])


@pytest.mark.parametrize("first", [0, 1, 2, 3, 5, rng.CHUNK, rng.CHUNK + 1])
def test_uniform_numbers_from_one_on(first: int) -> None:
    count = rng.CHUNK + 3
    np.testing.assert_array_equal(rng.uniform(5, 1, 2, count, first), rng.uniform(5, 1, 2, first + count)[first:])


def test_uniform_is_built_from_53_bits_of_two_words() -> None:
    words = rng.philox(3, 1, 4, 2000).tolist()
    expected = [((a >> 5) * 2**26 + (b >> 6)) / 2**53 for a, b in zip(words[0::2], words[1::2], strict=True)]
    assert rng.uniform(3, 1, 4, 1000).tolist() == expected


def test_seed_stream_and_step_each_give_other_numbers() -> None:
    draws = [
        rng.philox(*key, 4).tolist() for key in ((0, 0, 0), (1, 0, 0), (1 << 32, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    assert len({tuple(draw) for draw in draws}) == len(draws)


def quantile_arguments() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Odd multiples of 2**-54 in (-1/2, 1/2): random ones, both extremes, both sides of every branch."""
    q = rng.uniform(11, 0, 0, 20_000) - 0.5
    tail = 0.5 - np.exp(-np.linspace(2.0, 37.0, 2_000))
    borders = np.array([0.0, 0.425, 0.5 - math.exp(-25.0), 0.5 - 2.0**-53])
    multiples = np.floor(np.concatenate([q, tail, borders]) * 2.0**53)
    q = (multiples + 0.5) * 2.0**-53
    return np.concatenate([q, -q])


def test_normal_agrees_with_the_standard_library() -> None:
    """Both evaluate AS 241: the same function, different roundings.

    All terms of a polynomial of degree 7 are positive, so the 14 roundings of Horner's rule err by at most 7
    eps relatively: 14 eps for numerator and denominator. In the tails r = sqrt(-log) errs by at most 2 eps r,
    with the difference r - c, and r dx/dr < 2 x: 4 eps; in the centre it is less. Quotient and product: 1
    eps. Together 19 eps, and twice that for two evaluations.
    """
    q = quantile_arguments()
    p = 0.5 - np.abs(q)  # exact
    expected = np.array([NormalDist().inv_cdf(value) for value in p.tolist()])
    expected = np.copysign(expected, q)
    x = rng._normal_quantile(q)
    assert np.all(np.abs(x - expected) <= 2 * 19 * EPS * np.abs(expected))


def test_normal_is_symmetric_and_finite() -> None:
    q = quantile_arguments()
    x = rng._normal_quantile(q)
    assert np.isfinite(x).all()
    np.testing.assert_array_equal(rng._normal_quantile(-q), -x)


def test_normal_is_the_quantile_of_the_uniform_numbers() -> None:
    u = rng.uniform(1, 2, 3, 500)
    np.testing.assert_array_equal(rng.normal(1, 2, 3, 500), rng._normal_quantile((u - 0.5) + 2.0**-54))


def test_truncated_normal_is_the_quantile_of_what_is_left() -> None:
    """The ends of [0, 1) are at -2 and 2; in between, u is Phi(x) - Phi(-2) over Phi(2) - Phi(-2).

    x errs by 19 eps (see above), of which u feels at most phi(x) x <= 1/4; and by the rounding of its argument, 2 eps, half of
    one here. The library's cdf, 1 + erf over 2, errs by 2 eps at most.
    """
    assert math.erf(math.sqrt(2)) == rng.WITHIN_TWO_DEVIATIONS
    u, x = rng.uniform(1, 2, 3, 500), rng.truncated_normal(1, 2, 3, 500)
    phi = np.array([NormalDist().cdf(value) for value in x.tolist()])
    assert np.all(np.abs((phi - 0.5) / rng.WITHIN_TWO_DEVIATIONS + 0.5 - u) <= (19 / 4 + 2 + 2 + 1) * EPS)
    ends = np.array([-1.0, 1.0]) * (0.5 - 2.0**-54) * rng.WITHIN_TWO_DEVIATIONS
    assert np.all(np.abs(np.abs(rng._normal_quantile(ends)) - 2) <= 19 * 2 * EPS)


def test_log_is_within_an_ulp() -> None:
    """fdlibm claims less than 1 ulp, math.log is within 1: together 2 ulp."""
    x = np.concatenate([rng.uniform(9, 0, 0, 5_000) + 2.0**-54, 2.0 ** -np.arange(1.0, 60.0), [1.0]])
    expected = np.array([math.log(value) for value in x.tolist()])
    assert np.all(np.abs(rng._log(x) - expected) <= 2 * np.spacing(np.abs(expected)))


def test_moments() -> None:
    """Means of n numbers lie within 6 standard errors."""
    n = 100_000
    u, x = rng.uniform(0, 0, 0, n), rng.normal(0, 0, 0, n)
    assert u.min() >= 0.0
    assert u.max() < 1.0
    assert abs(u.mean() - 1 / 2) < 6 * math.sqrt(1 / 12 / n)
    assert abs(x.mean()) < 6 * math.sqrt(1 / n)
    assert abs((x * x).mean() - 1) < 6 * math.sqrt(2 / n)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1000])
def test_permutation_is_one(n: int) -> None:
    order = rng.permutation(4, rng.STREAM_SHUFFLE, 0, n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_permutation_follows_its_definition() -> None:
    n = 257
    u = rng.uniform(8, 0, 3, n)
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = int(u[i] * (i + 1))
        order[i], order[j] = order[j], order[i]
    assert rng.permutation(8, 0, 3, n).tolist() == order


def test_permutations_are_equally_likely() -> None:
    """Counts of the 6 orders of 3 things over n epochs are binomial: within 6 standard deviations."""
    n = 6000
    counts: dict[tuple[int, ...], int] = {}
    for step in range(n):
        order = tuple(rng.permutation(0, 0, step, 3).tolist())
        counts[order] = counts.get(order, 0) + 1
    deviation = math.sqrt(n * 1 / 6 * 5 / 6)
    assert len(counts) == 6
    assert all(abs(count - n / 6) < 6 * deviation for count in counts.values())


@pytest.mark.parametrize(
    "arguments", [(-1, 0, 0, 1), (1 << 64, 0, 0, 1), (0, 1 << 32, 0, 1), (0, 0, -1, 1), (0, 0, 0, -1)]
)
def test_out_of_range(arguments: tuple[int, int, int, int]) -> None:
    for draw in (rng.philox, rng.uniform, rng.normal, rng.permutation):
        with pytest.raises(ValueError, match=r"must be in 0 \.\. 2\*\*\d+ - 1, got"):
            draw(*arguments)


def test_not_an_integer() -> None:
    with pytest.raises(TypeError, match="seed must be an integer, got float"):
        rng.uniform(1.5, 0, 0, 1)  # type: ignore[arg-type]


def test_fresh_seeds_differ() -> None:
    seeds = {rng.fresh_seed() for _ in range(10)}
    assert len(seeds) == 10
    assert all(0 <= seed < 2**63 for seed in seeds)
