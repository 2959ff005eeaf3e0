# Names in the tables, threads, instruction sets, the FMA peak, permutations.

cdef tuple _names(const char *(*name)(int) noexcept nogil):
    found = []
    while name(<int>len(found)) != NULL:
        found.append(name(<int>len(found)).decode())
    return tuple(found)


ACTIVATIONS = _names(fbp_activation_name)
PARAMETERS = tuple([fbp_activation_parameter(i) for i in range(len(ACTIVATIONS))])    # of the activations; nan: has none
LOSSES = _names(fbp_loss_name)
OPTIMIZERS = _names(fbp_optimizer_name)
LOSS_CUSTOM = FBP_LOSS_CUSTOM


def isa_names():
    return _names(fbp_isa_name)


def set_threads(int n):
    fbp_set_threads(n)


def get_threads():
    return fbp_get_threads()


def fma_peak(isa, str dtype, double seconds):
    """Floating-point operations per second of one core in a loop of independent FMAs."""
    cdef bytes name = isa.encode() if isa is not None else b""
    cdef const char *chosen = <const char *>name if isa is not None else NULL
    cdef int kind = FBP_F32 if dtype == "float32" else FBP_F64
    cdef double rate
    with nogil:
        rate = fbp_fma_peak(chosen, kind, seconds)
    if rate == 0:
        raise _no_isa(isa)
    return rate


def permutation(uint64_t seed, uint32_t stream, uint32_t step, order):
    """Fills order, an int64 vector, with the shuffled numbers 0 .. n-1; Ctrl-C is heard on the way."""
    cdef _Array oa
    cdef int64_t *row
    cdef int64_t i, left, piece = 1 << 20
    order = _read_order(order, order.size, &oa)
    row = <int64_t *>oa.a.data
    left = oa.a.rows
    with nogil:
        for i in range(left):
            row[i] = i
    while left > 0:
        with nogil:
            fbp_shuffle(seed, stream, step, row, left, max(left - piece, 0))
        left = max(left - piece, 0)
        PyErr_CheckSignals()
