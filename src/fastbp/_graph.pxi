# The description of a graph for C.

cdef str _sizes(list nodes):
    return "inputs and units " + ", ".join([str(node[2]) for node in nodes if node[2]])


cdef class _Graph:
    """The description of a graph for C, and what it points to."""
    cdef fbp_graph graph
    cdef fbp_node *node
    cdef fbp_output *output
    cdef int *edge
    cdef list held

    def __cinit__(self, list nodes, list outputs, list callbacks):
        cdef int edges = 0
        cdef fbp_node *n
        cdef fbp_output *o
        self.held = []
        self.node = <fbp_node *>calloc(len(nodes) + 1, sizeof(fbp_node))
        self.output = <fbp_output *>calloc(len(outputs) + 1, sizeof(fbp_output))
        self.edge = <int *>calloc(sum([len(node[1]) for node in nodes]) + 1, sizeof(int))
        if self.node == NULL or self.output == NULL or self.edge == NULL:
            raise MemoryError()
        for i, (gate, inputs, width, settings, values, activation, parameter, function, trainable) in enumerate(nodes):
            n = &self.node[i]
            n.gate = gate
            n.in_ = self.edge + edges
            n.ins = <int>len(inputs)
            for position in inputs:
                self.edge[edges] = position
                edges += 1
            n.width = width
            for k in range(min(len(settings), FBP_SETTINGS)):
                n.setting[k] = settings[k]
            if values is not None:
                values = np.ascontiguousarray(values, np.float64)
                self.held.append(values)
                n.values = <const double *>ARRAY_DATA(values)
            n.activation = activation
            n.parameter = parameter
            n.trainable = trainable
            if function is not None:
                callback = _Function(*function)
                callbacks.append(callback)
                n.function = _call_function
                n.context = <void *>callback
        for i, (position, loss, parameter, weight, function) in enumerate(outputs):
            o = &self.output[i]
            o.node = position
            o.loss = loss
            o.parameter = parameter
            o.weight = weight
            if function is not None:
                callback = _Loss(function, weight)
                callbacks.append(callback)
                o.loss = FBP_LOSS_CUSTOM
                o.function = _call_loss
                o.context = <void *>callback
        self.graph.node = self.node
        self.graph.nodes = <int>len(nodes)
        self.graph.output = self.output
        self.graph.outputs = <int>len(outputs)

    def __dealloc__(self):
        free(self.node)
        free(self.output)
        free(self.edge)
