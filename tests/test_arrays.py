"""Every legal array gives the bits of its C-contiguous copy, is not written to, and is never copied whole."""

from __future__ import annotations

import array
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import fastbp as fb

pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
Array = np.ndarray[Any, Any]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64"]
DTYPES = [
    *INTEGERS,
    *FLOATS,
    "bool",
    *(np.dtype(name).newbyteorder(">").str for name in (*INTEGERS[1:4], "uint64", *FLOATS)),
]
FEATURES, CLASSES, ROWS = 5, 3, 12


def network(dtype: str = "float32", loss: str = "cross_entropy", features: int = FEATURES) -> fb.Sequential:
    layers: list[fb.Input | fb.Dense] = [fb.Input(features), fb.Dense(7, "tanh"), fb.Dense(CLASSES)]
    return fb.Sequential(layers, loss, fb.SGD(0.1, momentum=0.5), dtype=dtype, seed=4)


def assert_same_bits(a: Array, b: Array) -> None:
    """NaN where the other has NaN; elsewhere the same bits, also of zeros."""
    assert a.dtype == b.dtype and a.shape == b.shape
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    assert a[~np.isnan(a)].tobytes() == b[~np.isnan(b)].tobytes()


def native(x: Array, dtype: str = "float32") -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(x, dtype)


class ArrayLike:
    """Nothing but __array__."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.values if dtype is None else self.values.astype(dtype)


class Subclass(np.ndarray):  # type: ignore[type-arg]
    """A subclass that would break what relies on the usual methods."""

    def __array_finalize__(self, other: object) -> None:
        self.unit = "metre"

    def astype(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("astype was called")

    copy = reshape = astype  # type: ignore[assignment]


def unaligned(x: Array, offset: int = 1) -> Array:
    memory = np.zeros(x.nbytes + offset, np.uint8)
    view = np.ndarray(x.shape, x.dtype, memory.data, offset)
    view[...] = x
    return view


def spread(x: Array, rows: int, cols: int) -> Array:
    """Strides of so many rows and columns; negative ones run backwards."""
    wide = np.zeros((x.shape[0] * abs(rows), x.shape[1] * abs(cols)), x.dtype)
    view = wide[:: abs(rows), :: abs(cols)]
    view = view[:: 1 if rows > 0 else -1, :: 1 if cols > 0 else -1]
    view[...] = x
    return view


def read_only(x: Array) -> Array:
    view = x.view()
    view.flags.writeable = False
    return view


LAYOUTS: dict[str, Callable[[Array], Any]] = {
    "c": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "rows_reversed": lambda x: spread(x, -1, 1),
    "columns_reversed": lambda x: spread(x, 1, -1),
    "all_reversed": lambda x: spread(x, -1, -1),
    "every_third_row": lambda x: spread(x, 3, 1),
    "every_second_column": lambda x: spread(x, 1, 2),
    "part_of_wider_rows": lambda x: np.column_stack([x, x, x])[:, x.shape[1] : 2 * x.shape[1]],
    "read_only": read_only,
    "unaligned": unaligned,
    "unaligned_by_3": lambda x: unaligned(x, 3),
    "subclass": lambda x: x.view(Subclass),
    "matrix": np.asmatrix,
    "masked": np.ma.asarray,
    "array_like": ArrayLike,
    "memoryview": lambda x: memoryview(np.ascontiguousarray(x)),
    "list": lambda x: x.tolist(),
    "tuple_of_rows": tuple,
    "list_of_lists_of_scalars": lambda x: [list(row) for row in x],
}


@pytest.fixture(scope="module")
def net() -> fb.Sequential:
    return network()


# Values ---------------------------------------------------------------------------------------------------------------


def numbers(dtype: str, rows: int = ROWS) -> Array:
    """Small numbers that every dtype holds, different in every element."""
    return (np.arange(rows * FEATURES).reshape(rows, FEATURES) % 101).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_predict(net: fb.Sequential, dtype: str, layout: str) -> None:
    if layout == "memoryview" and np.dtype(dtype).byteorder == ">":
        pytest.skip("memoryview has no such format")
    x = numbers(dtype)
    given_x = LAYOUTS[layout](x)
    before = np.asarray(given_x).tobytes()
    assert_same_bits(net.predict(given_x), net.predict(native(x)))
    assert np.asarray(given_x).tobytes() == before


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", "int16"])
def test_training(dtype: str, layout: str) -> None:
    x, y = numbers(dtype), np.arange(ROWS) % CLASSES
    one_hot = np.eye(CLASSES)[y].astype(dtype)
    given_x, given_y = LAYOUTS[layout](x), LAYOUTS[layout](one_hot)
    nets = network(), network()
    for net, a, b in zip(nets, (given_x, native(x)), (given_y, native(one_hot)), strict=True):
        net.train_step(a, b)
        net.fit(a, b, 2, batch_size=5, validation_data=(a, b))
        _, dout = fb.losses.cross_entropy(net.forward(a), b)
        net.backward(dout)
        net.update()
    assert_same_bits(nets[0].params, nets[1].params)
    assert nets[0].evaluate(given_x, given_y) == nets[1].evaluate(native(x), native(one_hot)) == nets[0].evaluate(x, y)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "memoryview"])
def test_layers_and_losses(layout: str) -> None:
    x, dout = numbers("float32") / np.float32(101), np.cos(numbers("float32"))[:, :CLASSES]
    given_x, given_dout = LAYOUTS[layout](x), LAYOUTS[layout](dout)
    layers = [fb.Dense(CLASSES, "sigmoid", inputs=FEATURES, seed=0) for _ in range(2)]
    results = [layer.forward(a) for layer, a in zip(layers, (given_x, x), strict=True)]
    assert_same_bits(*results)
    assert_same_bits(layers[0].backward(given_dout), layers[1].backward(dout))
    assert_same_bits(layers[0].dweight, layers[1].dweight)
    if layout != "list":  # which has lost the float32
        f = fb.Activation("softmax")
        assert_same_bits(f.forward(given_x), f.infer(x))
        for loss in (fb.losses.squared_error, fb.losses.cross_entropy):
            E, dO = loss(given_dout, given_dout)
            E_native, dO_native = loss(dout, dout)
            assert E_native == E
            assert_same_bits(dO, dO_native)


def test_memmap(net: fb.Sequential, tmp_path: Path) -> None:
    x = numbers("float32")
    (tmp_path / "x").write_bytes(b"odd" + x.tobytes())
    for mode, offset in (("r", 3), ("c", 3), ("r+", 3)):
        mapped = np.memmap(tmp_path / "x", np.float32, mode, offset, x.shape)
        assert_same_bits(net.predict(mapped), net.predict(x))
    assert (tmp_path / "x").read_bytes() == b"odd" + x.tobytes()


def test_python_arrays(net: fb.Sequential) -> None:
    x = numbers("int64")
    for code in "bBhHiIlLqQfd":
        flat = array.array(code, x.reshape(-1).tolist())
        shaped = memoryview(flat).cast("B").cast(code, x.shape)
        assert_same_bits(net.predict(shaped), net.predict(native(x)))
    one = fb.Sequential([fb.Input(1), fb.Dense(1)], "squared_error", fb.SGD(0.1), seed=0)
    twin = fb.Sequential([fb.Input(1), fb.Dense(1)], "squared_error", fb.SGD(0.1), seed=0)
    one.train_step(x[:, :1], array.array("h", range(ROWS)))
    twin.train_step(native(x[:, :1]), np.arange(ROWS, dtype=np.float32))
    assert_same_bits(one.params, twin.params)


@pytest.mark.parametrize("shape", [(ROWS, 1), (1, FEATURES), (1, 1)], ids=str)
def test_broadcast(net: fb.Sequential, shape: tuple[int, int]) -> None:
    x = np.broadcast_to(numbers("float32")[: shape[0], : shape[1]], (ROWS, FEATURES))
    assert 0 in x.strides
    assert_same_bits(net.predict(x), net.predict(x.copy()))
    nets = network(), network()
    nets[0].fit(x, np.broadcast_to(np.int64(1), ROWS), batch_size=5)
    nets[1].fit(x.copy(), np.ones(ROWS, int), batch_size=5)
    assert_same_bits(nets[0].params, nets[1].params)


def test_every_float16_is_converted_exactly() -> None:
    """All 65536 of them: denormals, infinities, NaN."""
    layer = fb.Activation("identity")
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    for dtype in (x.dtype, x.dtype.newbyteorder(">")):
        assert_same_bits(layer.infer(x.astype(dtype)), x.astype(np.float64))


def test_extreme_values_are_rounded_as_numpy_rounds(net: fb.Sequential) -> None:
    info = np.iinfo
    for dtype in INTEGERS:
        ends = [info(dtype).min, info(dtype).min + 1, info(dtype).max - 1, info(dtype).max, info(dtype).max // 3]
        x = np.array([ends], dtype)
        assert_same_bits(net.predict(x), net.predict(native(x)))
        assert fb.Activation("identity").infer(x).tolist() == x.astype(np.float64).tolist()
    x = np.array([[1e300, -1e300, np.inf, np.nan, -0.0], [2**24 + 1, 1 + 2**-24, 1 + 3 * 2**-25, 1e-40, 3.5e38]])
    for row in (x[:1], x[1:], x[:1, ::-1]):
        assert_same_bits(net.predict(row), net.predict(native(row)))


# Labels ---------------------------------------------------------------------------------------------------------------

LABELS = np.arange(ROWS) % CLASSES
LABEL_LAYOUTS: dict[str, Callable[[Array], Any]] = {
    "vector": lambda y: y,
    "reversed": lambda y: y[::-1].copy()[::-1],
    "every_third": lambda y: np.repeat(y, 3)[::3],
    "column_of_a_matrix": lambda y: np.stack([y, y + 5])[0],
    "field": lambda y: np.rec.fromarrays([y, y + 50], names="label,other")["label"],
    "unaligned": lambda y: unaligned(y[:, None])[:, 0],
    "read_only": read_only,
    "array_like": ArrayLike,
    "list": lambda y: y.tolist(),
    "scalars": list,
}


@pytest.mark.parametrize("layout", LABEL_LAYOUTS)
@pytest.mark.parametrize(
    "dtype", [*INTEGERS, *(np.dtype(name).newbyteorder(">").str for name in INTEGERS if name[-1] != "8")]
)
def test_labels(dtype: str, layout: str) -> None:
    x = numbers("float32") / np.float32(101)
    labels = LABEL_LAYOUTS[layout](LABELS.astype(dtype))
    nets = network(), network()
    for net, y in zip(nets, (labels, LABELS), strict=True):
        net.train_step(x, y)
        net.fit(x, y, 2, batch_size=5)
    assert_same_bits(nets[0].params, nets[1].params)
    assert nets[0].evaluate(x, labels) == nets[0].evaluate(x, LABELS)
    assert fb.losses.cross_entropy(x, labels)[0] == fb.losses.cross_entropy(x, LABELS)[0]


@pytest.mark.parametrize("library", [fb, fb.reference], ids=["fastbp", "reference"])
def test_truth_values_are_two_classes(library: Any) -> None:
    truth = LABELS == 1
    loss, _ = library.losses.cross_entropy(numbers("float32"), truth)
    assert loss == library.losses.cross_entropy(numbers("float32"), truth.astype(int))[0]


@pytest.mark.parametrize("code", ["<f4", ">f4"])
def test_denormal_floats_are_normal_doubles(code: str) -> None:
    """A conversion would flush them to zero, where denormals are flushed."""
    x = np.full((2, FEATURES), np.float32(2.0**-149), code)
    net = fb.Sequential([fb.Input(FEATURES), fb.Dense(1, weight_init=np.ones((FEATURES, 1)))], dtype="float64", seed=0)
    np.testing.assert_array_equal(net.predict(x), np.full((2, 1), FEATURES * 2.0**-149))


# Any dtype, layout, offset and shape -----------------------------------------------------------------------------------

STEP = st.sampled_from([-3, -2, -1, 1, 2, 5])
NETS = {(width, dtype): network(dtype, features=width) for width in range(1, 20) for dtype in ("float32", "float64")}


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_predict_equals_predict_of_a_contiguous_copy(data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    rows, cols = data.draw(st.integers(0, 70)), data.draw(st.integers(1, 19))
    elements = arrays.from_dtype(dtype, allow_nan=False, allow_infinity=False) if dtype.kind == "f" else None
    x = data.draw(arrays.arrays(dtype, (rows, cols), elements=elements, fill=st.just(dtype.type(1))))
    x = spread(x, data.draw(STEP), data.draw(STEP))
    if data.draw(st.booleans()):
        x = np.asfortranarray(x)
    elif data.draw(st.booleans()) and x.size:
        x = unaligned(x, data.draw(st.integers(0, 63)))
    kind = data.draw(st.sampled_from(["float32", "float64"]))
    net = NETS[cols, kind]
    assert_same_bits(net.predict(x), net.predict(native(x, kind)))


# No copies ------------------------------------------------------------------------------------------------------------

DATA_SETS: dict[str, Callable[[], Array]] = {
    "fortran": lambda: np.zeros((64, 1 << 18), np.float32).T,
    "float64": lambda: np.zeros((1 << 18, 64)),
    "big_endian": lambda: np.zeros((1 << 18, 64), ">f4"),
    "strided": lambda: np.zeros((1 << 18, 128), np.float32)[:, ::2],
    "uint8": lambda: np.zeros((1 << 18, 64), np.uint8),
    "unaligned": lambda: unaligned(np.zeros((1 << 18, 64), np.float32)),
    "array_like": lambda: ArrayLike(np.zeros((1 << 18, 64))),  # type: ignore[dict-item,return-value]
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_no_data_set_is_copied(name: str) -> None:
    """A float32 copy would take 64 MiB; 2 MiB are the shuffled order, and what the plan holds is for one batch."""
    X = DATA_SETS[name]()
    y = np.zeros(1 << 18, np.int8)
    net = fb.Sequential([fb.Input(64), fb.Dense(4)], "cross_entropy", fb.SGD(0.1), seed=0)
    share = (1 << 18) * 64 * 4 // 16
    tracemalloc.start()
    try:
        net.fit(X, y, batch_size=1024, validation_data=(np.asarray(X)[:1000], y[:1000]))
        net.predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    predictions = (1 << 18) * 4 * 4
    assert peak - predictions < share
    assert net.plan.nbytes < share


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_denormals_are_handed_on_from_wherever_they_lie(dtype: str) -> None:
    x = fb.Input(8)
    net = fb.Model(x, fb.concatenate([x[:, :3], fb.Dense(2)(x)]), dtype=dtype, seed=0)
    tiny = 1e-40 if dtype == "float32" else 1e-310
    rows = np.full((5, 8), tiny, dtype)
    expected = net.predict(rows)
    assert (expected[:, :3] == rows[:, :3]).all() and tiny > 0
    swapped, strided = rows.astype(rows.dtype.newbyteorder()), np.repeat(rows, 3, axis=1)[:, ::3]
    for other in (np.asfortranarray(rows), swapped, strided, rows[::-1, ::-1]):
        assert net.predict(other).tobytes() == expected.tobytes()
