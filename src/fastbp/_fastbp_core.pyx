# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True, binding=False
"""The binding: array -> pointer, status -> exception, GIL off. It holds no arithmetic.

Every array argument is a NumPy array or made into one; it is read in place and held while the GIL is released. One function
turns a status into an exception.
"""
cimport cython
from cpython.buffer cimport PyBUF_FORMAT
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

import operator
import os
from threading import get_ident as _get_ident

import numpy as np

from fastbp.checks import loss_and_gradient as _loss_and_gradient


include "_fbp.pxi"
include "_arrays.pxi"
include "_errors.pxi"
include "_callbacks.pxi"
include "_graph.pxi"


cdef class Plan:
    """A compiled graph.

    nodes: tuples (gate, inputs, width, settings, values, activation, parameter, function, trainable), numbers as in fbp.h;
    outputs: tuples (node, loss, parameter, weight, function).
    """
    cdef fbp_plan *plan
    cdef int dtype, size
    cdef readonly int inputs, outputs, nodes
    cdef readonly int64_t features, width   # of the first input and output
    cdef object numpy_dtype
    cdef bint simple                        # one input, one output, no function of the user's own: the hot path
    cdef bint calls_back                    # there are such functions
    cdef int first_output, first_loss
    cdef list output, loss, input, callbacks
    cdef dict runs                          # calls under way that may call the callbacks, by thread: targets and order, or None

    def __cinit__(self, list nodes, list outputs, str dtype, int optimizer, isa=None, uint64_t seed=0):
        cdef _Graph graph
        cdef bytes name = isa.encode() if isa is not None else b""
        cdef int status
        self.callbacks = []
        self.runs = {}
        try:
            graph = _Graph(nodes, outputs, self.callbacks)
        except OverflowError:
            raise _error(FBP_TOO_LARGE, _sizes(nodes)) from None
        self.dtype = graph.graph.dtype = FBP_F32 if dtype == "float32" else FBP_F64
        graph.graph.optimizer = optimizer
        graph.graph.seed = seed
        for callback in self.callbacks:
            (<_Callback>callback).dtype = self.dtype
            (<_Callback>callback).runs = self.runs
        status = fbp_plan_create(&graph.graph, <const char *>name if isa is not None else NULL, &self.plan)
        if status == FBP_NO_ISA:
            raise _no_isa(isa)
        if status != FBP_OK:
            raise _error(status, _sizes(nodes))
        self.numpy_dtype = np.dtype(dtype)
        self.size = 4 if self.dtype == FBP_F32 else 8
        self.nodes = <int>len(nodes)
        self.input = [i for i in range(len(nodes)) if nodes[i][0] == 0]
        self.output = [entry[0] for entry in outputs]
        self.loss = [entry[1] for entry in outputs]
        self.inputs, self.outputs = <int>len(self.input), <int>len(outputs)
        self.calls_back = bool(self.callbacks)
        self.simple = self.inputs == 1 and self.outputs == 1 and not self.calls_back
        self.first_output, self.first_loss = self.output[0], self.loss[0]
        self.features = fbp_plan_width(self.plan, self.input[0])
        self.width = fbp_plan_width(self.plan, self.output[0])
        for node, loss in zip(self.output, self.loss):
            _target_width(loss, fbp_plan_width(self.plan, node))        # or raise

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
        self._outside()
        with nogil:
            held = fbp_plan_bytes(self.plan)
        return held

    def offset(self, int node):
        self._check_node(node)
        return fbp_plan_offset(self.plan, node)

    def state_offset(self, int node):
        self._check_node(node)
        return fbp_plan_state_offset(self.plan, node)

    def operations(self, int64_t rows):
        cdef double operations
        self._outside()
        with nogil:
            operations = fbp_plan_operations(self.plan, rows)
        return operations

    cdef object _vector(self, void *data, int64_t reals, bint parameters):
        cdef _Vector vector = _Vector.__new__(_Vector)
        if reals == 0:
            return np.empty(0, self.numpy_dtype)
        vector.plan = self
        vector.data = <char *>data
        vector.shape[0] = reals
        vector.strides[0] = self.size
        vector.parameters = parameters
        return np.asarray(memoryview(vector))

    def params(self):
        return self._vector(fbp_plan_params(self.plan), fbp_plan_parameters(self.plan), True)

    def grads(self):
        return self._vector(fbp_plan_grads(self.plan), fbp_plan_parameters(self.plan), False)

    def state(self):
        return self._vector(fbp_plan_state(self.plan), fbp_plan_state_size(self.plan), True)

    def set_trainable(self, int node, bint trainable):
        cdef int status
        self._check_node(node)
        self._outside()
        with nogil:
            status = fbp_plan_set_trainable(self.plan, node, trainable)
        if status != FBP_OK:
            raise _error(status, "")

    @property
    def draws(self):
        cdef int64_t draws
        self._outside()
        with nogil:
            draws = fbp_plan_draws(self.plan)
        return draws

    @draws.setter
    def draws(self, int64_t value):
        self._outside()
        with nogil:
            fbp_plan_set_draws(self.plan, value)

    @property
    def slots(self):
        return fbp_plan_slots(self.plan)

    @property
    def updates(self):
        cdef int64_t updates
        self._outside()
        with nogil:
            updates = fbp_plan_updates(self.plan)
        return updates

    @updates.setter
    def updates(self, value):
        cdef int64_t count = operator.index(value)
        if count < 0:
            raise ValueError(f"updates must be at least 0, got {count}")
        self._outside()
        with nogil:
            fbp_plan_set_updates(self.plan, count)

    cdef _copy_slot(self, int i, object values, bint back):
        cdef void *data = ARRAY_DATA(values)
        if not 0 <= i < fbp_plan_slots(self.plan):
            raise ValueError(f"slot must be from 0 to {self.slots - 1}, got {i}")
        self._outside()
        with nogil:
            fbp_plan_copy_slot(self.plan, i, data, back)

    def slot(self, int i):
        """A copy of state vector i of the optimizer, in the order of params."""
        values = np.empty(self.parameters, self.numpy_dtype)
        self._copy_slot(i, values, False)
        return values

    def set_slot(self, int i, values):
        """State vector i of the optimizer becomes a copy of values, real numbers in the order of params."""
        cdef _Array array
        values = _read(values, "values", &array)
        if array.ndim != 1 or array.a.rows != self.parameters:
            raise ValueError(f"values must have shape ({self.parameters},), got {values.shape}")
        self._copy_slot(i, _contiguous(values, &array, self.dtype), True)

    def set_hyper(self, *values):
        cdef double hyper[FBP_HYPER]
        for i in range(FBP_HYPER):
            hyper[i] = values[i] if i < len(values) else 0.0
        self._outside()
        with nogil:
            fbp_plan_set_hyper(self.plan, hyper)

    # Arguments: an array where there is one input or output, else a sequence with one array for each.

    cdef list _each(self, object values, str name, int count):
        """(name, array) for each of them."""
        if count == 1:
            return [(name, values)]
        if not isinstance(values, (list, tuple)) or len(values) != count:
            came = f"{len(values)} of them" if isinstance(values, (list, tuple)) else type(values).__name__
            raise ValueError(f"{name} must be a list of {count} arrays, got {came}")
        return [(f"{name}[{i}]", value) for i, value in enumerate(values)]

    cdef _Arrays _read_inputs(self, object x, str name):
        """Every input, all of as many rows."""
        cdef _Arrays arrays = _Arrays(self.inputs)
        cdef _Array array
        for i, (each, value) in enumerate(self._each(x, name, self.inputs)):
            arrays.add(i, _read_matrix(value, each, fbp_plan_width(self.plan, self.input[i]), &array), &array)
        for i in range(self.inputs):
            if arrays.a[i].rows != arrays.a.rows:
                raise ValueError(f"{name}[{i}] must have as many rows as {name}[0], {arrays.a.rows}, got {arrays.held[i].shape}")
        return arrays

    cdef _Targets _read_outputs(self, object y, str name, int64_t rows, bint check):
        """The targets of every output."""
        cdef bint labels
        cdef _Array array
        cdef _Targets targets = _Targets(self.outputs)
        for k, (each, value) in enumerate(self._each(y, name, self.outputs)):
            if self.loss[k] == FBP_LOSS_CUSTOM:
                value = _read_rows(value, each, rows, &array)
                labels = False
            else:
                value = _read_targets(value, each, rows, fbp_plan_width(self.plan, self.output[k]), self.dtype, self.loss[k],
                                      &array, &labels, check)
            targets.add(k, value, &array, labels)
        return targets

    def check(self, x, y, str x_name, str y_name):
        """Raises what training on (x, y) would raise; returns the number of rows."""
        cdef _Arrays inputs = self._read_inputs(x, x_name)
        if inputs.a.rows == 0:
            raise ValueError(f"{x_name} must have at least one row, got {inputs.held[0].shape}")
        self._read_outputs(y, y_name, inputs.a.rows, True)
        _check_categories(self, inputs.a, x, x_name)
        return inputs.a.rows

    cdef object _failed(self, int status, const fbp_array *xs, object x, str x_name, str detail):
        """The exception of a status of forward, predict or a training step."""
        if status == FBP_STOPPED:
            return _taken_error()
        if status == FBP_BAD_INDEX:
            _check_categories(self, xs, x, x_name)
        return _error(status, detail)

    cdef _outside(self):
        """Not in a function of the user's own: the call that calls it holds the plan's lock, and another would wait for ever."""
        if self.runs and _get_ident() in self.runs:
            raise RuntimeError("a function of the network's own cannot call the network, which waits for the function")

    cdef _begin(self, object targets, object order):
        if self.calls_back:
            self._outside()
            self.runs[_get_ident()] = targets, order

    cdef _end(self):
        if self.calls_back:
            del self.runs[_get_ident()]

    cdef double _train(self, object x, object y, const fbp_array *xs, const fbp_targets *ys, fbp_run *run, bint mean,
                       object targets, object order) except? -1.0:
        cdef int status = FBP_PAUSED
        cdef str x_name = "X" if mean else "x"
        _check_inputs_apart(self, xs, x_name)
        self._begin(targets, order)
        try:
            while status == FBP_PAUSED:
                with nogil:
                    status = fbp_train(self.plan, xs, ys, run)
                if status == FBP_PAUSED:
                    PyErr_CheckSignals()
        finally:
            self._end()
        if status == FBP_BAD_LABEL or status == FBP_BAD_TARGET:
            self._read_outputs(y, "y", xs.rows, True)           # says which
        if status != FBP_OK:
            raise self._failed(status, xs, x, x_name, f"batches of {run.batch} rows")
        if not mean:
            return run.loss
        return run.loss_sum / run.weight_sum if run.weight_sum > 0 else 0.0

    cdef object _start(self, fbp_run *run, int64_t rows, int64_t batch, object weights, const int64_t *order):
        """Fills `run`; returns the weights of the rows, which must be held until it has ended."""
        run.order = order
        run.weights = NULL
        if weights is not None:
            if FBP_LOSS_CUSTOM in self.loss:
                raise ValueError("weights of rows are not known to a loss of one's own: they must be left out")
            weights = _read_weights(weights, "sample_weight", rows)
            run.weights = <const double *>ARRAY_DATA(weights)
        run.next = 0
        run.end = rows
        run.batch = batch
        run.loss_sum = 0
        run.weight_sum = 0
        run.steps = 0
        run.interrupted = _interrupted
        return weights

    def train_step(self, x, y, weights=None):
        """One step on the whole of x and y; returns the loss before the update."""
        return self._train_step(x, y, weights)

    cdef object _train_step(self, object x, object y, object weights):
        cdef bint labels
        cdef fbp_run run
        cdef fbp_targets targets
        cdef _Array xa, ya
        cdef _Arrays inputs
        cdef _Targets outputs
        if not self.simple:
            inputs = self._read_inputs(x, "x")
            if inputs.a.rows == 0:
                raise ValueError(f"x must have at least one row, got {inputs.held[0].shape}")
            outputs = self._read_outputs(y, "y", inputs.a.rows, fbp_forward_rows(self.plan) > 0)
            if fbp_forward_rows(self.plan) > 0:
                _check_categories(self, inputs.a, x, "x")
            weights = self._start(&run, inputs.a.rows, inputs.a.rows, weights, NULL)
            return self._train(x, y, inputs.a, outputs.a, &run, False, outputs.held, None)
        x = _read_matrix(x, "x", self.features, &xa)
        if xa.a.rows == 0:
            raise ValueError(f"x must have at least one row, got {x.shape}")
        # A bad target or category is found on the way, before anything but kept activations has changed; if there are any, look first.
        y = _read_targets(y, "y", xa.a.rows, self.width, self.dtype, self.first_loss, &ya, &labels,
                          fbp_forward_rows(self.plan) > 0)
        if fbp_forward_rows(self.plan) > 0:
            _check_categories(self, &xa.a, x, "x")
        targets.y = ya.a
        targets.labels = labels
        weights = self._start(&run, xa.a.rows, xa.a.rows, weights, NULL)
        return self._train(x, y, &xa.a, &targets, &run, False, None, None)

    def train_epoch(self, x, y, order, int64_t batch, weights=None):
        """Steps of `batch` rows over all rows in `order` (int64, or None); returns the mean loss."""
        cdef fbp_run run
        cdef _Arrays inputs = self._read_inputs(x, "X")
        cdef _Targets outputs = self._read_outputs(y, "y", inputs.a.rows, False)
        cdef _Array oa
        cdef const int64_t *row = NULL
        if order is not None:
            order = _read_order(order, inputs.a.rows, &oa)
            row = <const int64_t *>oa.a.data
        weights = self._start(&run, inputs.a.rows, batch, weights, row)
        return self._train(x, y, inputs.a, outputs.a, &run, True, outputs.held, order)

    def predict(self, x, out=None, nodes=None):
        """The output, (rows, width), for x; a list of them for several outputs, or for the nodes named."""
        return self._predict_rows(x, out) if nodes is None else self._predict_nodes(x, out, nodes)

    cdef object _predict_rows(self, object x, object out):
        cdef _Array xa
        cdef fbp_result result
        if not self.simple:
            return self._predict_nodes(x, out, None)
        x = _read_matrix(x, "X", self.features, &xa)
        if out is None:
            out = _matrix(xa.a.rows, self.width, self.dtype)
        else:
            _check_result(self, out, xa.a.rows)
            _check_apart(self, &xa.a, x, out)
        result.node = self.first_output
        result.out = ARRAY_DATA(out)
        self._predict(x, &xa.a, &result, 1)
        return out

    cdef _predict(self, object x, const fbp_array *xs, const fbp_result *result, int results):
        cdef int64_t next = 0
        cdef int status = FBP_PAUSED
        self._begin(None, None)
        try:
            while status == FBP_PAUSED and xs.rows > 0:
                with nogil:
                    status = fbp_predict(self.plan, xs, result, results, &next, _interrupted)
                if status == FBP_PAUSED:
                    PyErr_CheckSignals()
        finally:
            self._end()
        if status != FBP_OK and status != FBP_PAUSED:
            raise self._failed(status, xs, x, "X", "")

    cdef object _predict_nodes(self, object x, object out, object asked):
        cdef list nodes = self.output if asked is None else list(asked)
        cdef _Arrays inputs = self._read_inputs(x, "X")
        cdef _Pointers to
        if out is not None and (asked is not None or self.outputs > 1):
            raise ValueError("out must be left out where there are several results")
        for node in nodes:
            self._check_node(node)
        different = list(dict.fromkeys(nodes))
        made = [_matrix(inputs.a.rows, fbp_plan_width(self.plan, node), self.dtype) for node in different]
        if out is not None:
            _check_result(self, out, inputs.a.rows)
            for i in range(self.inputs):
                _check_apart(self, &inputs.a[i], inputs.held[i], out)
            made = [out]
        to = _Pointers(made, different)
        self._predict(x, inputs.a, to.result, <int>len(made))
        values = [made[different.index(node)] for node in nodes]
        return values[0] if asked is None and self.outputs == 1 else values

    cdef _check_node(self, int node):
        if not 0 <= node < self.nodes:
            raise ValueError(f"node must be from 0 to {self.nodes - 1}, got {node}")

    def forward(self, x, bint training=True):
        """The output for x, a list for several outputs; keeps the activations for backward."""
        cdef _Arrays inputs = self._read_inputs(x, "x")
        cdef _Pointers to
        cdef int status = FBP_PAUSED
        made = [_matrix(inputs.a.rows, fbp_plan_width(self.plan, node), self.dtype) for node in self.output]
        to = _Pointers(made, self.output)
        if fbp_forward_rows(self.plan) > 0:
            _check_categories(self, inputs.a, x, "x")
        self._begin(None, None)
        try:
            while status == FBP_PAUSED:
                with nogil:
                    status = fbp_forward(self.plan, inputs.a, training, to.out, _interrupted)
                if status == FBP_PAUSED:
                    PyErr_CheckSignals()
        finally:
            self._end()
        if status != FBP_OK:
            raise self._failed(status, inputs.a, x, "x", f"x has {inputs.a.rows} rows")
        return made[0] if self.outputs == 1 else made

    def backward(self, dout, bint inputs):
        """Fills grads from dE/dO, a list for several outputs; returns a list of dE/dx if asked."""
        cdef _Arrays gradients = _Arrays(self.outputs)
        cdef _Array array
        cdef _Pointers to
        cdef int status = FBP_PAUSED
        cdef int64_t rows = fbp_forward_rows(self.plan)
        cdef list made = []
        if rows < 0:
            raise _error(FBP_NO_FORWARD, "")
        for k, (name, value) in enumerate(self._each(dout, "dout", self.outputs)):
            width = fbp_plan_width(self.plan, self.output[k])
            value = _read(value, name, &array)
            if array.ndim != 2 or array.a.rows != rows or array.a.cols != width:
                raise ValueError(f"{name} must have the shape of the output, ({rows}, {width}), got {value.shape}")
            gradients.add(k, value, &array)
        if inputs:
            made = [_matrix(rows, fbp_plan_width(self.plan, node), self.dtype) for node in self.input]
        to = _Pointers(made, self.input if inputs else [])
        self._outside()
        while status == FBP_PAUSED:
            with nogil:
                status = fbp_backward(self.plan, gradients.a, to.out if inputs else NULL, _interrupted)
            if status == FBP_PAUSED:
                PyErr_CheckSignals()
        if status != FBP_OK:
            raise _error(status, "")
        return made if inputs else None

    def value(self, int node):
        """O of a node, as the last forward left it."""
        return self._kept(node, 0)

    def delta(self, int node):
        """dE/dZ of a node, as the last backward left it."""
        return self._kept(node, 1)

    cdef object _kept(self, int node, int gradient):
        cdef int64_t rows = fbp_forward_rows(self.plan)
        cdef int status
        cdef void *to
        self._check_node(node)
        if rows < 0:
            raise _error(FBP_NO_FORWARD, "")
        values = _matrix(rows, fbp_plan_width(self.plan, node), self.dtype)
        to = ARRAY_DATA(values)
        self._outside()
        with nogil:
            status = fbp_plan_kept(self.plan, node, gradient, rows, to)
        if status != FBP_OK:
            raise _error(status, "")
        return values

    def update(self):
        """The optimizer's step from grads."""
        cdef int status
        self._outside()
        with nogil:
            status = fbp_update(self.plan)
        if status != FBP_OK:
            raise _error(status, "")


include "_calls.pxi"
include "_runtime.pxi"
include "_checks.pxi"
include "_targets.pxi"
include "_window.pxi"
