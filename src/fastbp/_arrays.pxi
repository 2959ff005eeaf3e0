# Arrays of the caller: read in place, held while the GIL is released.

cdef extern from *:
    """
    #define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
    #include <numpy/arrayobject.h>
    #define ARRAY_CHECK(o) PyArray_Check(o)
    #define ARRAY_CHECK_EXACT(o) PyArray_CheckExact(o)
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
    bint ARRAY_CHECK_EXACT(object)
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


ctypedef struct _Array:
    fbp_array a                     # for C
    int ndim


cdef object _read(object value, str name, _Array *array):
    """Any array-like of one or two dimensions that holds real numbers, as a NumPy array.

    `array` describes it, for as long as what is returned is held.
    """
    if not ARRAY_CHECK(value):
        try:
            value = np.asarray(value)
        except ValueError:
            raise ValueError(f"{name} must be a rectangular array, got rows of different lengths") from None
    elif not ARRAY_CHECK_EXACT(value) and np.any(getattr(value, "mask", False)):
        raise TypeError(f"{name} must have nothing masked: fill what is missing, as with filled(0)")
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
    return value


cdef bint _overlaps(const fbp_array *a, int size, const char *low, const char *high):
    """Whether any element, of `size` bytes, may lie in low .. high."""
    cdef const char *first = a.data
    cdef const char *last = a.data + size
    cdef Py_ssize_t reach
    if a.rows == 0 or a.cols == 0:
        return False
    reach = (a.rows - 1) * a.row_stride
    if reach < 0:
        first += reach
    else:
        last += reach
    reach = (a.cols - 1) * a.col_stride
    if reach < 0:
        first += reach
    else:
        last += reach
    return first < high and low < last


cdef object _contiguous(object value, const _Array *array, int dtype):
    """A NumPy array as one of native reals in C order, itself where it is one."""
    if ARRAY_CARRAY(value) and array.a.type == (FBP_TYPE_F32 if dtype == FBP_F32 else FBP_TYPE_F64):
        return value
    return np.require(value, np.float32 if dtype == FBP_F32 else np.float64, ["C_CONTIGUOUS", "ALIGNED"])


cdef object _matrix(int64_t rows, int64_t cols, int dtype):
    """A new array."""
    cdef Py_ssize_t shape[2]
    shape[0] = rows
    shape[1] = cols
    return PyArray_EMPTY(2, shape, NPY_FLOAT if dtype == FBP_F32 else NPY_DOUBLE, 0)


cdef class _Arrays:
    """Several of them, side by side for C."""
    cdef list held
    cdef fbp_array *a

    def __cinit__(self, int count):
        self.held = []
        self.a = <fbp_array *>calloc(count + 1, sizeof(fbp_array))
        if self.a == NULL:
            raise MemoryError()

    cdef add(self, int i, object value, const _Array *array):
        self.held.append(value)
        self.a[i] = array.a

    def __dealloc__(self):
        free(self.a)


cdef object _read_matrix(object value, str name, int64_t width, _Array *array):
    value = _read(value, name, array)
    if array.ndim < 2 and width == 1:           # a vector of one feature each, or one number
        return value
    if array.ndim != 2 or array.a.cols != width:
        raise ValueError(f"{name} must have shape (batch, {width}), got {value.shape}")
    return value


cdef object _read_order(object order, int64_t rows, _Array *array):
    order = _read(order, "order", array)
    if array.ndim != 1 or array.a.rows != rows or array.a.type != FBP_TYPE_I64 or array.a.swapped or not order.flags.c_contiguous:
        raise ValueError(f"order must be a contiguous int64 vector of {rows} row numbers, got {order.dtype} {order.shape}")
    return order


@cython.no_gc_clear                 # its buffer is given back to the plan, which must be there until then
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
            self.plan._outside()
            with nogil:
                fbp_plan_export(self.plan.plan, 1)

    def __releasebuffer__(self, Py_buffer *buffer):
        if self.parameters:
            fbp_plan_export(self.plan.plan, -1)


