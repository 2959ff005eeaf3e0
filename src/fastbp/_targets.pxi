# Targets of a network, weights of its rows, and losses by themselves.

cdef int64_t _target_width(int loss, int64_t outputs) except -1:
    """Columns of the target of a loss; those of the outputs where it is none of the table."""
    cdef int64_t width = fbp_loss_target_width(loss, outputs) if loss >= 0 else outputs
    if width == 0:
        raise ValueError(f"{LOSSES[loss]} needs an even number of outputs, means and then log variances, got {outputs}")
    return width


cdef object _read_weights(object weights, str name, int64_t rows):
    """Weights of `rows` rows as a contiguous float64 vector; None stays None. They are finite, at least 0, and so is their sum."""
    cdef int64_t where = 0
    cdef double total = 0
    cdef _Array array
    if weights is None:
        return None
    values = _contiguous(_read(weights, name, &array), &array, FBP_F64)
    if values.shape != (rows,):
        raise ValueError(f"{name} must have shape ({rows},), got {values.shape}")
    if fbp_check_weights(<const double *>ARRAY_DATA(values), rows, &where, &total) != FBP_OK:
        raise ValueError(f"{name} must be finite and at least 0, got {values[where]} in row {where}")
    if total == float("inf"):
        raise ValueError(f"{name} must have a finite sum, got {total}")
    return values


cdef object _read_rows(object y, str name, int64_t rows, _Array *array):
    """As many of anything."""
    y = _read(y, name, array)
    if array.ndim == 0 or array.a.rows != rows:
        raise ValueError(f"{name} must have {rows} rows, got shape {y.shape}")
    return y


cdef object _read_targets(object y, str name, int64_t rows, int64_t outputs, int dtype, int loss, _Array *array, bint *labels,
                          bint check):
    """Targets for `rows` rows of so many outputs: integer labels (rows,) where the loss takes them, else (rows, width)."""
    cdef int64_t where = 0, value = 0
    cdef double least = 0, most = 0
    cdef int64_t width = _target_width(loss, outputs)
    cdef bint takes_labels = fbp_loss_takes_labels(loss)
    y = _read_rows(y, name, rows, array)
    labels[0] = takes_labels and array.ndim == 1
    if labels[0]:
        if array.a.type <= FBP_TYPE_F16:
            raise TypeError(f"{name} must hold integer class labels (batch,) or one-hot rows (batch, {width}), "
                            f"got dtype {y.dtype} of shape {y.shape}")
        if check and fbp_check_labels(&array.a, width, &where, &value) != FBP_OK:
            came = int(value)
            if array.a.type == FBP_TYPE_U64:
                came %= 2**64
            raise ValueError(f"{name} must hold class labels from 0 to {width - 1}, got {came} in row {where}")
        return y
    if not (array.ndim == 2 and array.a.cols == width or array.ndim == 1 and width == 1):
        raise ValueError(f"{name} must have shape ({'batch,) or (batch' if takes_labels or width == 1 else 'batch'}, {width}), "
                         f"got {y.shape}")
    fbp_loss_range(loss, &least, &most)
    if check and fbp_check_within(&array.a, dtype, least, most, &where) != FBP_OK:
        allowed = f"finite in {'float32' if dtype == FBP_F32 else 'float64'}"
        if least > -float("inf"):
            allowed += f" and at least {least:g}" if most == float("inf") else f" and from {least:g} to {most:g}"
        raise ValueError(f"{name} must be {allowed}, got {y[where]} in row {where}")
    return y


def loss_gradient(int loss, out, target, weights=None, double parameter=0.0):
    """(loss, dE/dout) of one row of the table of losses."""
    cdef bint labels
    cdef _Array ya, oa
    cdef double value = 0
    cdef const char *data
    cdef char *gradient
    cdef const double *weight = NULL
    cdef int status
    cdef int64_t width
    cdef int dtype
    out = _read(out, "out", &oa)
    if oa.ndim != 2 or oa.a.rows == 0 or oa.a.cols == 0:
        raise ValueError(f"out must have shape (batch, outputs), at least one of each, got {out.shape}")
    dtype = FBP_F32 if oa.a.type == FBP_TYPE_F32 and not oa.a.swapped else FBP_F64
    out = _contiguous(out, &oa, dtype)
    width = oa.a.cols
    target = _read_targets(target, "target", oa.a.rows, width, dtype, loss, &ya, &labels, True)
    weights = _read_weights(weights, "sample_weight", oa.a.rows)
    if weights is not None:
        weight = <const double *>ARRAY_DATA(weights)
    dout = _matrix(oa.a.rows, width, dtype)
    data = ARRAY_DATA(out)
    gradient = ARRAY_DATA(dout)
    with nogil:
        status = fbp_loss_gradient(loss, dtype, data, width, &ya.a, labels, weight, parameter, &value, gradient)
    if status == FBP_NO_ISA:
        raise _no_isa(None)
    if status != FBP_OK:
        raise _error(status, "")
    return value, dout
