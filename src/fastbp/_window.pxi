# The test window: kernels of every ISA by name, on C-contiguous float32 or float64 matrices. Nothing in the library uses it.

from libc.string cimport memset

cdef extern from "window.h" nogil:
    int fbp_window_gemm(const char *isa, int dtype, int form, int packed, size_t m, size_t n, size_t k, const void *a,
                        const void *b, const void *start, void *c, int epilogue, double alpha, const void *o, int second,
                        const void *x, void *c2)
    int fbp_window_activation(const char *isa, int dtype, int act, int backward, double a, size_t m, size_t n, void *z,
                              void *o, size_t calls)
    void fbp_window_row(int act, int *keeps, double *parameter)
    int fbp_window_col_sums(const char *isa, int dtype, size_t k, size_t n, const void *b, void *out)
    int fbp_window_tile(const char *isa, int dtype, size_t *tile)


cdef _Array _plain(object value, str dtype) except *:
    """A matrix as it is, which the caller holds; None gives one without data."""
    cdef _Array array
    memset(&array, 0, sizeof(array))
    if value is None:
        return array
    if value.dtype.name != dtype or value.ndim != 2 or not value.flags.c_contiguous:
        raise ValueError(f"the window takes C-contiguous {dtype} matrices, got {value.dtype} of shape {value.shape}")
    _read(value, "array", &array)
    return array


cdef int _dtype_number(str dtype):
    return FBP_F32 if dtype == "float32" else FBP_F64


cdef _done(int status, str isa):
    if status != FBP_OK:
        raise _error(status, isa)


def window_gemm(str isa, int form, int packed, a, b, start, c, int epilogue=0, double alpha=0.0, o=None, int second=0, x=None, c2=None):
    """See csrc/window.h; the results replace c and c2."""
    cdef str dtype = c.dtype.name
    cdef _Array aa = _plain(a, dtype), ba = _plain(b, dtype), sa = _plain(start, dtype), ca = _plain(c, dtype)
    cdef _Array oa = _plain(o, dtype), xa = _plain(x, dtype), c2a = _plain(c2, dtype)
    cdef size_t k = aa.a.rows if form == 2 else aa.a.cols
    cdef bytes name = isa.encode()
    _done(fbp_window_gemm(name, _dtype_number(dtype), form, packed, ca.a.rows, ca.a.cols, k, aa.a.data, ba.a.data, sa.a.data,
                          <void *>ca.a.data, epilogue, alpha, oa.a.data, second, xa.a.data, <void *>c2a.a.data), isa)


def window_activation(str isa, int act, z, o=None, size_t calls=1, *, slopes=None, parameter=None):
    """z = f(z), which leaves f'(z) in `slopes` of a row that keeps them, or with o = f(Z), or those slopes: z = z f'(Z).

    In place, as often as `calls` says.
    """
    cdef str dtype = z.dtype.name
    cdef _Array za = _plain(z, dtype), oa = _plain(slopes if o is None else o, dtype)
    cdef bytes name = isa.encode()
    cdef double a = window_row(act)[1] if parameter is None else parameter
    _done(fbp_window_activation(name, _dtype_number(dtype), act, o is not None, a, za.a.rows, za.a.cols, <void *>za.a.data,
                                <void *>oa.a.data, calls), isa)


def window_row(int act):
    """(keeps slopes, usual value of the parameter) of an activation."""
    cdef int keeps
    cdef double parameter
    fbp_window_row(act, &keeps, &parameter)
    return bool(keeps), parameter


def window_col_sums(str isa, b, out):
    """out (1, n) = the sums of the columns of b (k, n)."""
    cdef str dtype = b.dtype.name
    cdef _Array ba = _plain(b, dtype), oa = _plain(out, dtype)
    cdef bytes name = isa.encode()
    _done(fbp_window_col_sums(name, _dtype_number(dtype), ba.a.rows, ba.a.cols, ba.a.data, <void *>oa.a.data), isa)


def window_tile(str isa, str dtype):
    """(tile rows, panel columns, lanes)"""
    cdef size_t tile[3]
    cdef bytes name = isa.encode()
    _done(fbp_window_tile(name, _dtype_number(dtype), tile), isa)
    return tile[0], tile[1], tile[2]
