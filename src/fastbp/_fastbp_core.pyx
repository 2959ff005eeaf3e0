# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""The binding: array -> pointer, status -> exception, GIL off. It holds no arithmetic.

Every array argument is a NumPy array or made into one; it is read in place and held while the GIL is released. One function
turns a status into an exception.
"""
from cpython.buffer cimport PyBUF_FORMAT
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

import os

import numpy as np


cdef extern from "fbp.h" nogil:
    enum:
        FBP_OK, FBP_PAUSED, FBP_NO_MEMORY, FBP_TOO_LARGE, FBP_NO_ISA, FBP_BAD_GRAPH, FBP_BAD_LABEL, FBP_BAD_TARGET, FBP_NO_FORWARD
        FBP_F32, FBP_F64, FBP_HYPER
        FBP_TYPE_F32, FBP_TYPE_F64, FBP_TYPE_F16, FBP_TYPE_I8, FBP_TYPE_I16, FBP_TYPE_I32, FBP_TYPE_I64
        FBP_TYPE_U8, FBP_TYPE_U16, FBP_TYPE_U32, FBP_TYPE_U64
    const char *fbp_status_text(int status)
    ctypedef struct fbp_array "struct fbp_array":
        const char *data
        int64_t rows, cols
        Py_ssize_t row_stride, col_stride
        int type, swapped
    int fbp_check_labels(const fbp_array *y, int64_t classes, int64_t *where, int64_t *value)
    int fbp_check_finite(const fbp_array *y, int dtype, int64_t *where)
    ctypedef struct fbp_node "struct fbp_node":
        int gate
        int in_ "in"[2]
        int64_t width
        int activation
    ctypedef struct fbp_graph "struct fbp_graph":
        const fbp_node *node
        int nodes, dtype, loss, optimizer
    ctypedef struct fbp_plan:
        pass
    int fbp_plan_create(const fbp_graph *graph, const char *isa, fbp_plan **plan)
    void fbp_plan_destroy(fbp_plan *plan)
    const char *fbp_plan_isa(const fbp_plan *plan)
    int64_t fbp_plan_width(const fbp_plan *plan, int node)
    int64_t fbp_plan_offset(const fbp_plan *plan, int node)
    int64_t fbp_plan_parameters(const fbp_plan *plan)
    double fbp_plan_operations(const fbp_plan *plan, int64_t rows)
    int64_t fbp_plan_bytes(fbp_plan *plan)
    void *fbp_plan_params(fbp_plan *plan)
    void *fbp_plan_grads(fbp_plan *plan)
    int fbp_plan_slots(const fbp_plan *plan)
    void fbp_plan_copy_slot(fbp_plan *plan, int slot, void *values, int back)
    int64_t fbp_plan_updates(fbp_plan *plan)
    void fbp_plan_export(fbp_plan *plan, int count)
    void fbp_plan_set_hyper(fbp_plan *plan, const double *hyper)
    ctypedef struct fbp_run "struct fbp_run":
        const int64_t *order
        int64_t next, end, batch
        double loss, loss_sum
        int64_t steps
        int (*interrupted)() noexcept nogil
    int fbp_train(fbp_plan *plan, const fbp_array *x, const fbp_array *y, int labels, fbp_run *run)
    int fbp_predict(fbp_plan *plan, const fbp_array *x, void *out, int64_t *next, int (*interrupted)() noexcept nogil)
    int fbp_forward(fbp_plan *plan, const fbp_array *x, void *out)
    int64_t fbp_forward_rows(const fbp_plan *plan)
    int fbp_backward(fbp_plan *plan, const fbp_array *dout, void *dx)
    int fbp_update(fbp_plan *plan)
    int fbp_loss_gradient(int loss, int dtype, const void *out, int64_t width, const fbp_array *y, int labels,
                          const double *weight, double a, double *value, void *dout)
    int fbp_loss_takes_labels(int i)
    int64_t fbp_loss_target_width(int i, int64_t outputs)
    int fbp_check_weights(const double *weight, int64_t rows, int64_t *where, double *sum)
    const char *fbp_activation_name(int i)
    const char *fbp_loss_name(int i)
    const char *fbp_optimizer_name(int i)
    void fbp_set_threads(int threads)
    int fbp_get_threads()
    const char *fbp_isa_name(int i)
    double fbp_fma_peak(const char *isa, int dtype, double seconds)
    void fbp_shuffle(uint64_t seed, uint32_t stream, uint32_t step, int64_t *order, int64_t start, int64_t to)


# ---- errors ---------------------------------------------------------------------------------------------------------------

cdef object _no_isa(isa):
    """The exception of an instruction set that is not there, asked for by argument or by the environment."""
    asked = f"isa={isa!r}" if isa is not None else f"FASTBP_ISA={os.environ.get('FASTBP_ISA')!r}"
    return _error(FBP_NO_ISA, f"have {', '.join(isa_names())}, got {asked}")


cdef object _error(int status, str detail):
    """The exception of a status."""
    text = fbp_status_text(status).decode() + (": " + detail if detail else "")
    if status == FBP_NO_MEMORY:
        return MemoryError(text)
    if status == FBP_NO_FORWARD:
        return RuntimeError(text)
    return ValueError(text)


cdef extern from "Python.h":
    int PyOS_InterruptOccurred()
    void PyErr_SetInterrupt()


cdef int _interrupted() noexcept with gil:
    """Whether Ctrl-C is pending. Asking takes the signal, so it is put back, for PyErr_CheckSignals to raise it."""
    if not PyOS_InterruptOccurred():
        return 0
    PyErr_SetInterrupt()
    return 1


# ---- arrays ---------------------------------------------------------------------------------------------------------------

cdef extern from *:
    """
    #define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
    #include <numpy/arrayobject.h>
    #define ARRAY_CHECK(o) PyArray_Check(o)
    #define ARRAY_DATA(o) PyArray_BYTES((PyArrayObject *)(o))
    #define ARRAY_NDIM(o) PyArray_NDIM((PyArrayObject *)(o))
    #define ARRAY_SHAPE(o, i) PyArray_DIM((PyArrayObject *)(o), i)
    #define ARRAY_STRIDE(o, i) PyArray_STRIDE((PyArrayObject *)(o), i)
    #define ARRAY_TYPE(o) PyArray_TYPE((PyArrayObject *)(o))
    #define ARRAY_SIZE(o) PyArray_ITEMSIZE((PyArrayObject *)(o))
    #define ARRAY_SWAPPED(o) PyArray_ISBYTESWAPPED((PyArrayObject *)(o))
    #define ARRAY_CARRAY(o) PyArray_ISCARRAY((PyArrayObject *)(o))
    """
    int _import_array() except -1
    bint ARRAY_CHECK(object)
    char *ARRAY_DATA(object)
    int ARRAY_NDIM(object)
    Py_ssize_t ARRAY_SHAPE(object, int)
    Py_ssize_t ARRAY_STRIDE(object, int)
    int ARRAY_TYPE(object)
    int ARRAY_SIZE(object)
    bint ARRAY_SWAPPED(object)
    bint ARRAY_CARRAY(object)       # C-contiguous, aligned, writable, native byte order
    object PyArray_EMPTY(int ndim, Py_ssize_t *shape, int type, int fortran)
    enum:
        NPY_BOOL, NPY_HALF, NPY_FLOAT, NPY_DOUBLE, NPY_BYTE, NPY_UBYTE, NPY_SHORT, NPY_USHORT, NPY_INT, NPY_UINT, NPY_LONG
        NPY_ULONG, NPY_LONGLONG, NPY_ULONGLONG

_import_array()


cdef int _element_type(object array):
    """The enum fbp_type of a NumPy array's elements, or -1."""
    cdef int code = ARRAY_TYPE(array), size = ARRAY_SIZE(array), log = size > 1
    log += (size > 2) + (size > 4)
    if code == NPY_FLOAT:
        return FBP_TYPE_F32
    if code == NPY_DOUBLE:
        return FBP_TYPE_F64
    if code == NPY_HALF:
        return FBP_TYPE_F16
    if code in (NPY_BYTE, NPY_SHORT, NPY_INT, NPY_LONG, NPY_LONGLONG):
        return FBP_TYPE_I8 + log
    if code in (NPY_BOOL, NPY_UBYTE, NPY_USHORT, NPY_UINT, NPY_ULONG, NPY_ULONGLONG):
        return FBP_TYPE_U8 + log
    return -1


cdef class _Array:
    """One argument, held until this object dies, and its description for C."""
    cdef fbp_array a
    cdef int ndim
    cdef object value

    @property
    def shape(self):
        return self.value.shape

    cdef bint overlaps(self, const char *low, const char *high):
        """Whether any element may lie in low .. high."""
        cdef const char *first = self.a.data
        cdef const char *last = self.a.data + ARRAY_SIZE(self.value)
        cdef Py_ssize_t reach
        if self.a.rows == 0 or self.a.cols == 0:
            return False
        reach = (self.a.rows - 1) * self.a.row_stride
        if reach < 0:
            first += reach
        else:
            last += reach
        reach = (self.a.cols - 1) * self.a.col_stride
        if reach < 0:
            first += reach
        else:
            last += reach
        return first < high and low < last


cdef _Array _read(object value, str name):
    """Any array-like of one or two dimensions that holds real numbers."""
    cdef _Array array = _Array.__new__(_Array)
    if not ARRAY_CHECK(value):
        try:
            value = np.asarray(value)
        except ValueError:
            raise ValueError(f"{name} must be a rectangular array, got rows of different lengths") from None
    array.value = value
    array.a.type = _element_type(value)
    if array.a.type < 0:
        raise TypeError(f"{name} must hold real numbers, got dtype {value.dtype}")
    array.a.swapped = ARRAY_SWAPPED(value)
    array.ndim = ARRAY_NDIM(value)
    array.a.data = ARRAY_DATA(value)
    array.a.rows = ARRAY_SHAPE(value, 0) if array.ndim >= 1 else 1
    array.a.cols = ARRAY_SHAPE(value, 1) if array.ndim >= 2 else 1
    array.a.row_stride = ARRAY_STRIDE(value, 0) if array.ndim >= 1 else 0
    array.a.col_stride = ARRAY_STRIDE(value, 1) if array.ndim >= 2 else 0
    return array


cdef object _matrix(int64_t rows, int64_t cols, int dtype):
    """A new array."""
    cdef Py_ssize_t shape[2]
    shape[0] = rows
    shape[1] = cols
    return PyArray_EMPTY(2, shape, NPY_FLOAT if dtype == FBP_F32 else NPY_DOUBLE, 0)


cdef _Array _read_matrix(object value, str name, int64_t width):
    cdef _Array array = _read(value, name)
    if array.ndim != 2 or array.a.cols != width:
        raise ValueError(f"{name} must have shape (batch, {width}), got {array.shape}")
    return array


cdef _Array _read_order(object order, int64_t rows):
    cdef _Array array = _read(order, "order")
    if array.ndim != 1 or array.a.rows != rows or array.a.type != FBP_TYPE_I64 or not order.flags.c_contiguous:
        raise ValueError(f"order must be a contiguous int64 vector of {rows} row numbers, got {order.dtype} {array.shape}")
    return array


cdef class _Vector:
    """Memory of a plan as a buffer of reals. While one of the parameters is out, the plan assumes that they are written."""
    cdef Plan plan
    cdef char *data
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]
    cdef bint parameters

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        buffer.buf = self.data
        buffer.obj = self
        buffer.itemsize = self.strides[0]
        buffer.len = self.shape[0] * self.strides[0]
        buffer.format = NULL
        if flags & PyBUF_FORMAT:
            buffer.format = <char *>"f" if self.plan.dtype == FBP_F32 else <char *>"d"
        buffer.ndim = 1
        buffer.shape = self.shape
        buffer.strides = self.strides
        buffer.suboffsets = NULL
        buffer.readonly = 0
        buffer.internal = NULL
        if self.parameters:
            with nogil:
                fbp_plan_export(self.plan.plan, 1)

    def __releasebuffer__(self, Py_buffer *buffer):
        if self.parameters:
            fbp_plan_export(self.plan.plan, -1)


# ---- plans ----------------------------------------------------------------------------------------------------------------

cdef str _sizes(list nodes):
    return "inputs and units " + ", ".join([str(node[3]) for node in nodes if node[3]])


cdef class Plan:
    """A compiled graph. nodes: tuples (gate, in0, in1, width, activation), numbers as in fbp.h."""
    cdef fbp_plan *plan
    cdef int dtype, loss, size
    cdef readonly int64_t features, width
    cdef int64_t target_width
    cdef object numpy_dtype
    cdef bint takes_labels

    def __cinit__(self, list nodes, str dtype, int loss, int optimizer, isa=None):
        cdef fbp_graph graph
        cdef fbp_node *node = <fbp_node *>calloc(len(nodes) + 1, sizeof(fbp_node))
        cdef bytes name = isa.encode() if isa is not None else b""
        cdef int status
        if node == NULL:
            raise MemoryError()
        try:
            for i, (gate, in0, in1, width, activation) in enumerate(nodes):
                node[i].gate = gate
                node[i].in_[0] = in0
                node[i].in_[1] = in1
                node[i].width = width
                node[i].activation = activation
            self.dtype = FBP_F32 if dtype == "float32" else FBP_F64
            graph.node = node
            graph.nodes = <int>len(nodes)
            graph.dtype = self.dtype
            graph.loss = loss
            graph.optimizer = optimizer
            status = fbp_plan_create(&graph, <const char *>name if isa is not None else NULL, &self.plan)
        except OverflowError:
            raise _error(FBP_TOO_LARGE, _sizes(nodes)) from None
        finally:
            free(node)
        if status == FBP_NO_ISA:
            raise _no_isa(isa)
        if status != FBP_OK:
            raise _error(status, _sizes(nodes))
        self.numpy_dtype = np.dtype(dtype)
        self.size = 4 if self.dtype == FBP_F32 else 8
        self.features = fbp_plan_width(self.plan, 0)
        self.width = fbp_plan_width(self.plan, <int>len(nodes) - 1)
        self.loss = loss
        self.takes_labels = fbp_loss_takes_labels(loss)
        self.target_width = _target_width(loss, self.width) if loss >= 0 else 0

    def __dealloc__(self):
        fbp_plan_destroy(self.plan)

    @property
    def isa(self):
        return fbp_plan_isa(self.plan).decode()

    @property
    def parameters(self):
        return fbp_plan_parameters(self.plan)

    @property
    def nbytes(self):
        cdef int64_t held
        with nogil:
            held = fbp_plan_bytes(self.plan)
        return held

    def offset(self, int node):
        return fbp_plan_offset(self.plan, node)

    def operations(self, int64_t rows):
        return fbp_plan_operations(self.plan, rows)

    cdef object _vector(self, void *data, bint parameters):
        cdef _Vector vector = _Vector.__new__(_Vector)
        if fbp_plan_parameters(self.plan) == 0:
            return np.empty(0, self.numpy_dtype)
        vector.plan = self
        vector.data = <char *>data
        vector.shape[0] = fbp_plan_parameters(self.plan)
        vector.strides[0] = self.size
        vector.parameters = parameters
        return np.asarray(memoryview(vector))

    def params(self):
        return self._vector(fbp_plan_params(self.plan), True)

    def grads(self):
        return self._vector(fbp_plan_grads(self.plan), False)

    @property
    def slots(self):
        return fbp_plan_slots(self.plan)

    @property
    def updates(self):
        return fbp_plan_updates(self.plan)

    def slot(self, int i):
        """A copy of state vector i of the optimizer, in the order of params."""
        cdef void *to
        if not 0 <= i < self.slots:
            raise ValueError(f"slot must be from 0 to {self.slots - 1}, got {i}")
        values = np.empty(self.parameters, self.numpy_dtype)
        to = ARRAY_DATA(values)
        with nogil:
            fbp_plan_copy_slot(self.plan, i, to, 0)
        return values

    def set_hyper(self, *values):
        cdef double hyper[FBP_HYPER]
        for i in range(FBP_HYPER):
            hyper[i] = values[i] if i < len(values) else 0.0
        with nogil:
            fbp_plan_set_hyper(self.plan, hyper)

    cdef _Array _targets(self, object y, str name, int64_t rows, bint *labels, bint check):
        return _read_targets(y, name, rows, self.target_width, self.dtype, self.takes_labels, labels, check)

    def check(self, x, y, str x_name, str y_name):
        """Raises what training on (x, y) would raise; returns the number of rows."""
        cdef bint labels
        cdef _Array xa = _read_matrix(x, x_name, self.features)
        if xa.a.rows == 0:
            raise ValueError(f"{x_name} must have at least one row, got {xa.shape}")
        self._targets(y, y_name, xa.a.rows, &labels, True)
        return xa.a.rows

    cdef double _train(self, _Array x, _Array y, bint labels, fbp_run *run, bint mean) except? -1.0:
        cdef int status = FBP_PAUSED
        while status == FBP_PAUSED:
            with nogil:
                status = fbp_train(self.plan, &x.a, &y.a, labels, run)
            if status == FBP_PAUSED:
                PyErr_CheckSignals()
        if status == FBP_BAD_LABEL or status == FBP_BAD_TARGET:
            self._targets(y.value, "y", y.a.rows, &labels, True)    # says which
        if status != FBP_OK:
            raise _error(status, f"batches of {run.batch} rows")
        return run.loss_sum / <double>run.end if mean else run.loss

    def train_step(self, x, y):
        """One step on the whole of x and y; returns the loss before the update."""
        cdef bint labels
        cdef fbp_run run
        cdef _Array xa = _read_matrix(x, "x", self.features)
        cdef _Array ya
        if xa.a.rows == 0:
            raise ValueError(f"x must have at least one row, got {xa.shape}")
        # A bad target is found on the way, before anything but kept activations has changed; if there are any, look first.
        ya = self._targets(y, "y", xa.a.rows, &labels, fbp_forward_rows(self.plan) > 0)
        run.order = NULL
        run.next = 0
        run.end = run.batch = xa.a.rows
        run.loss_sum = 0
        run.steps = 0
        run.interrupted = _interrupted
        return self._train(xa, ya, labels, &run, False)

    def train_epoch(self, x, y, order, int64_t batch):
        """Steps of `batch` rows over all rows in `order` (int64, or None); returns the mean loss."""
        cdef bint labels
        cdef fbp_run run
        cdef _Array xa = _read_matrix(x, "X", self.features)
        cdef _Array ya = self._targets(y, "y", xa.a.rows, &labels, False)
        cdef _Array oa
        run.order = NULL
        if order is not None:
            oa = _read_order(order, xa.a.rows)
            run.order = <const int64_t *>oa.a.data
        run.next = 0
        run.end = xa.a.rows
        run.batch = batch
        run.loss_sum = 0
        run.steps = 0
        run.interrupted = _interrupted
        return self._train(xa, ya, labels, &run, True)

    def predict(self, x, out=None):
        """out (rows, width) for x (rows, features)."""
        cdef _Array xa = _read_matrix(x, "X", self.features)
        cdef int64_t next = 0, rows = xa.a.rows
        cdef int status = FBP_PAUSED
        cdef void *to
        if out is None:
            out = _matrix(rows, self.width, self.dtype)
        else:
            self._check_result(out, rows)
            self._check_apart(xa, out)
        to = ARRAY_DATA(out)
        while status == FBP_PAUSED and rows > 0:
            with nogil:
                status = fbp_predict(self.plan, &xa.a, to, &next, _interrupted)
            if status == FBP_PAUSED:
                PyErr_CheckSignals()
        if status != FBP_OK and status != FBP_PAUSED:
            raise _error(status, "")
        return out

    cdef _check_apart(self, _Array x, object out):
        """out overlaps neither x nor the parameters."""
        cdef const char *low = ARRAY_DATA(out)
        cdef const char *high = low + x.a.rows * self.width * self.size
        cdef const char *params = <const char *>fbp_plan_params(self.plan)
        cdef const char *params_end = params + fbp_plan_parameters(self.plan) * self.size
        if x.overlaps(low, high):
            raise ValueError("out must not overlap x")
        if low < params_end and params < high:
            raise ValueError("out must not overlap the parameters")

    cdef _check_result(self, object out, int64_t rows):
        """`out` must fit exactly and be writable."""
        if not (ARRAY_CHECK(out) and ARRAY_NDIM(out) == 2 and ARRAY_SHAPE(out, 0) == rows and ARRAY_SHAPE(out, 1) == self.width
                and _element_type(out) == self._type() and ARRAY_CARRAY(out)):
            raise self._bad_result(out, rows)

    cdef int _type(self):
        return FBP_TYPE_F32 if self.dtype == FBP_F32 else FBP_TYPE_F64

    cdef object _bad_result(self, object out, int64_t rows):
        wanted = f"out must be a writable C-contiguous {self.numpy_dtype} array of shape ({rows}, {self.width})"
        if not ARRAY_CHECK(out):
            return TypeError(f"{wanted}, got {type(out).__name__}")
        if out.dtype != self.numpy_dtype:
            return TypeError(f"{wanted}, got dtype {out.dtype}")
        if out.shape != (rows, self.width):
            return ValueError(f"{wanted}, got shape {out.shape}")
        return ValueError(f"{wanted}, got one that is not " +
                          ("writable" if not out.flags.writeable else
                           "C-contiguous" if not out.flags.c_contiguous else "aligned"))

    def forward(self, x):
        """The output for x; keeps the activations for backward."""
        cdef _Array xa = _read_matrix(x, "x", self.features)
        cdef int status
        cdef object result = _matrix(xa.a.rows, self.width, self.dtype)
        cdef void *to = ARRAY_DATA(result)
        with nogil:
            status = fbp_forward(self.plan, &xa.a, to)
        if status != FBP_OK:
            raise _error(status, f"x has {xa.a.rows} rows")
        return result

    def backward(self, dout, bint inputs):
        """Fills grads from dE/dO; returns dE/dx if asked."""
        cdef _Array da
        cdef int status
        cdef int64_t rows = fbp_forward_rows(self.plan)
        cdef object result = None
        cdef void *to = NULL
        if rows < 0:
            raise _error(FBP_NO_FORWARD, "")
        da = _read(dout, "dout")
        if da.ndim != 2 or da.a.rows != rows or da.a.cols != self.width:
            raise ValueError(f"dout must have the shape of the output, ({rows}, {self.width}), got {da.shape}")
        if inputs:
            result = _matrix(rows, self.features, self.dtype)
            to = ARRAY_DATA(result)
        with nogil:
            status = fbp_backward(self.plan, &da.a, to)
        if status != FBP_OK:
            raise _error(status, "")
        return result

    def update(self):
        """The optimizer's step from grads."""
        cdef int status
        with nogil:
            status = fbp_update(self.plan)
        if status != FBP_OK:
            raise _error(status, "")


include "_targets.pxi"
include "_runtime.pxi"
include "_window.pxi"
