# Functions of the user's own: activations (f, df) and losses. C calls them on the thread that made the call; an exception is put
# aside, the call is given up, and the exception is raised again once C has returned.

from libc.string cimport memcpy

cdef object _errors = {}        # by thread


cdef object _taken_error():
    return _errors.pop(_get_ident())


cdef class _Callback:
    cdef object f
    cdef int dtype
    cdef dict runs                  # of the plan

    cdef object copy_in(self, int64_t m, int64_t n, const void *rows, Py_ssize_t ld):
        """Rows of C as a new array."""
        cdef Py_ssize_t size = 4 if self.dtype == FBP_F32 else 8
        cdef int64_t r
        values = _matrix(m, n, self.dtype)
        for r in range(m):
            memcpy(ARRAY_DATA(values) + r * n * size, <const char *>rows + r * ld * size, n * size)
        return values

    cdef copy_back(self, object values, str what, int64_t m, int64_t n, void *rows, Py_ssize_t ld):
        cdef Py_ssize_t size = 4 if self.dtype == FBP_F32 else 8
        cdef int64_t r
        cdef _Array array
        values = _read(values, f"what {what} returns", &array)
        if values.shape != (m, n):
            raise ValueError(f"{what} must return an array of shape ({m}, {n}), got {values.shape}")
        values = _contiguous(values, &array, self.dtype)
        for r in range(m):
            memcpy(<char *>rows + r * ld * size, ARRAY_DATA(values) + r * n * size, n * size)


cdef class _Function(_Callback):
    """An activation f with its derivative df."""
    cdef object df

    def __cinit__(self, f, df):
        self.f = f
        self.df = df


cdef class _Loss(_Callback):
    """A loss (out, target) -> (loss, dout)."""
    cdef double weight

    def __cinit__(self, f, double weight):
        self.f = f
        self.weight = weight


cdef class _Targets:
    """Targets of several outputs for C."""
    cdef fbp_targets *a
    cdef list held

    def __cinit__(self, int outputs):
        self.held = []
        self.a = <fbp_targets *>calloc(outputs + 1, sizeof(fbp_targets))
        if self.a == NULL:
            raise MemoryError()

    cdef add(self, int k, object value, const _Array *array, bint labels):
        self.held.append(value)
        self.a[k].y = array.a
        self.a[k].labels = labels

    def __dealloc__(self):
        free(self.a)


cdef class _Pointers:
    """Where results go: (node, memory), and the memory alone."""
    cdef fbp_result *result
    cdef void **out
    cdef list held

    def __cinit__(self, list arrays, list nodes):
        self.held = arrays
        self.result = <fbp_result *>calloc(len(arrays) + 1, sizeof(fbp_result))
        self.out = <void **>calloc(len(arrays) + 1, sizeof(void *))
        if self.result == NULL or self.out == NULL:
            raise MemoryError()
        for i in range(len(arrays)):
            self.result[i].node = nodes[i]
            self.result[i].out = self.out[i] = ARRAY_DATA(arrays[i])

    def __dealloc__(self):
        free(self.result)
        free(self.out)


cdef int _call_function(void *context, int64_t m, int64_t n, void *o, void *slope, Py_ssize_t ld) noexcept with gil:
    cdef _Function function = <_Function>context
    try:
        z = function.copy_in(m, n, o, ld)
        if slope != NULL:
            function.copy_back(function.df(z.copy()), "df", m, n, slope, ld)
        function.copy_back(function.f(z), "f", m, n, o, ld)
    except BaseException as error:
        _errors[_get_ident()] = error
        return FBP_STOPPED
    return 0


cdef int _call_loss(void *context, int output, int64_t first, int64_t rows, int64_t n, const void *out, Py_ssize_t ldo, double *value,
                    void *grad, Py_ssize_t ldg) noexcept with gil:
    cdef _Loss loss = <_Loss>context
    try:
        targets, order = loss.runs[_get_ident()]
        batch = slice(first, first + rows) if order is None else order[first:first + rows]
        outputs = loss.copy_in(rows, n, out, ldo)
        result = loss.f(outputs, targets[output][batch])
        value[0] = _loss_and_gradient(result, outputs)[0]
        loss.copy_back(result[1] if loss.weight == 1.0 else np.asarray(result[1]) * loss.weight, "the loss", rows, n, grad, ldg)
    except BaseException as error:
        _errors[_get_ident()] = error
        return FBP_STOPPED
    return 0
