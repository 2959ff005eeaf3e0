# Arguments that a plan's memory or graph does not allow.

cdef _check_apart(Plan plan, const fbp_array *xs, object x, object out):
    """out overlaps neither x nor the parameters nor the state."""
    cdef const char *low = ARRAY_DATA(out)
    cdef const char *high = low + xs.rows * plan.width * plan.size
    cdef const char *params = <const char *>fbp_plan_params(plan.plan)
    cdef const char *params_end = params + fbp_plan_parameters(plan.plan) * plan.size
    cdef const char *state = <const char *>fbp_plan_state(plan.plan)
    cdef const char *state_end = state + fbp_plan_state_size(plan.plan) * plan.size
    if _overlaps(xs, ARRAY_SIZE(x), low, high):
        raise ValueError("out must not overlap x")
    if low < params_end and params < high:
        raise ValueError("out must not overlap the parameters")
    if low < state_end and state < high:
        raise ValueError("out must not overlap the state")


cdef int _check_inputs_apart(Plan plan, const fbp_array *xs, str name) except -1:
    """No input lies in what training changes while other threads still read it."""
    cdef Py_ssize_t bytes = fbp_plan_parameters(plan.plan) * plan.size
    cdef const char *params = <const char *>fbp_plan_params(plan.plan)
    cdef const char *grads = <const char *>fbp_plan_grads(plan.plan)
    for i in range(plan.inputs):
        if _overlaps(&xs[i], plan.size, params, params + bytes) or _overlaps(&xs[i], plan.size, grads, grads + bytes):
            raise ValueError(f"{name} must not overlap the parameters or their gradients: give a copy of them")
    return 0


cdef _check_result(Plan plan, object out, int64_t rows):
    """`out` must fit exactly and be writable."""
    if not (ARRAY_CHECK(out) and ARRAY_NDIM(out) == 2 and ARRAY_SHAPE(out, 0) == rows and ARRAY_SHAPE(out, 1) == plan.width
            and _element_type(out) == (FBP_TYPE_F32 if plan.dtype == FBP_F32 else FBP_TYPE_F64) and ARRAY_CARRAY(out)):
        raise _bad_result(out, (rows, plan.width), plan.numpy_dtype)


cdef object _bad_result(object out, tuple shape, object dtype):
    """The exception of an array that cannot take a result."""
    wanted = f"out must be a writable C-contiguous {dtype} array of shape {shape}"
    if not ARRAY_CHECK(out):
        return TypeError(f"{wanted}, got {type(out).__name__}")
    if out.dtype != dtype:
        return TypeError(f"{wanted}, got dtype {out.dtype}")
    if out.shape != shape:
        return ValueError(f"{wanted}, got shape {out.shape}")
    return ValueError(f"{wanted}, got one that is not " +
                      ("writable" if not out.flags.writeable else "C-contiguous" if not out.flags.c_contiguous else "aligned"))


cdef _check_categories(Plan plan, const fbp_array *xs, object x, str name):
    """Raise ValueError where an embedding does not find a category."""
    cdef fbp_place bad
    if fbp_plan_check_categories(plan.plan, xs, &bad) != FBP_OK:
        values = np.asarray(x if plan.inputs == 1 else x[bad.input])
        value = values.reshape(xs[bad.input].rows, -1)[bad.row, bad.column]
        raise ValueError(f"{name if plan.inputs == 1 else f'{name}[{bad.input}]'} must hold whole numbers from 0 to {bad.most} in "
                         f"column {bad.column}, categories of an embedding, got {value} in row {bad.row}")
