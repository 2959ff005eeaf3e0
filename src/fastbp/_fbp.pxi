# What csrc/fbp.h declares.

cdef extern from "fbp.h" nogil:
    enum:
        FBP_OK, FBP_PAUSED, FBP_NO_MEMORY, FBP_TOO_LARGE, FBP_NO_ISA, FBP_BAD_GRAPH, FBP_BAD_LABEL, FBP_BAD_TARGET, FBP_BAD_INDEX
        FBP_NO_FORWARD, FBP_STOPPED, FBP_LOSS_NONE, FBP_LOSS_CUSTOM, FBP_SETTINGS
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
    int fbp_check_within(const fbp_array *y, int dtype, double least, double most, int64_t *where)
    ctypedef struct fbp_node "struct fbp_node":
        int gate
        const int *in_ "in"
        int ins
        int64_t width
        double setting[2]
        const double *values
        int64_t count
        int activation
        double parameter
        int (*function)(void *, int64_t, int64_t, void *, void *, Py_ssize_t) noexcept nogil
        void *context
        int trainable
    ctypedef struct fbp_output "struct fbp_output":
        int node, loss
        double parameter, weight
        int (*function)(void *, int, int64_t, int64_t, int64_t, const void *, Py_ssize_t, double *, void *, Py_ssize_t) noexcept nogil
        void *context
    ctypedef struct fbp_graph "struct fbp_graph":
        const fbp_node *node
        int nodes
        const fbp_output *output
        int outputs, dtype, optimizer
        uint64_t seed
    ctypedef struct fbp_plan:
        pass
    int fbp_plan_create(const fbp_graph *graph, const char *isa, fbp_plan **plan)
    void fbp_plan_destroy(fbp_plan *plan)
    const char *fbp_plan_isa(const fbp_plan *plan)
    int64_t fbp_plan_state_offset(const fbp_plan *plan, int node)
    int64_t fbp_plan_state_size(const fbp_plan *plan)
    void *fbp_plan_state(fbp_plan *plan)
    int fbp_plan_set_trainable(fbp_plan *plan, int node, int trainable)
    int64_t fbp_plan_draws(fbp_plan *plan)
    void fbp_plan_set_draws(fbp_plan *plan, int64_t draws)
    int64_t fbp_plan_width(const fbp_plan *plan, int node)
    int64_t fbp_plan_offset(const fbp_plan *plan, int node)
    int64_t fbp_plan_parameters(const fbp_plan *plan)
    double fbp_plan_operations(fbp_plan *plan, int64_t rows)
    int64_t fbp_plan_bytes(fbp_plan *plan)
    void *fbp_plan_params(fbp_plan *plan)
    void *fbp_plan_grads(fbp_plan *plan)
    int fbp_plan_slots(const fbp_plan *plan)
    void fbp_plan_copy_slot(fbp_plan *plan, int slot, void *values, int back)
    int64_t fbp_plan_updates(fbp_plan *plan)
    void fbp_plan_set_updates(fbp_plan *plan, int64_t updates)
    void fbp_plan_export(fbp_plan *plan, int count)
    void fbp_plan_set_hyper(fbp_plan *plan, const double *hyper)
    ctypedef struct fbp_run "struct fbp_run":
        const int64_t *order
        const double *weights
        int64_t next, end, batch
        double loss, loss_sum, weight_sum
        int64_t steps
        int (*interrupted)() noexcept nogil
    ctypedef struct fbp_targets "struct fbp_targets":
        fbp_array y
        int labels
    ctypedef struct fbp_result "struct fbp_result":
        int node
        void *out
    ctypedef struct fbp_place "struct fbp_place":
        int input
        int64_t row, column, most
    int fbp_plan_check_categories(const fbp_plan *plan, const fbp_array *x, fbp_place *bad)
    int fbp_train(fbp_plan *plan, const fbp_array *x, const fbp_targets *y, fbp_run *run)
    int fbp_predict(fbp_plan *plan, const fbp_array *x, const fbp_result *result, int results, int64_t *next,
                    int (*interrupted)() noexcept nogil)
    int fbp_forward(fbp_plan *plan, const fbp_array *x, int training, void **out, int (*interrupted)() noexcept nogil)
    int64_t fbp_forward_rows(const fbp_plan *plan)
    int fbp_backward(fbp_plan *plan, const fbp_array *dout, void **dx, int (*interrupted)() noexcept nogil)
    int fbp_plan_kept(fbp_plan *plan, int node, int gradient, int64_t rows, void *to)
    int fbp_update(fbp_plan *plan)
    int fbp_loss_gradient(int loss, int dtype, const void *out, int64_t width, const fbp_array *y, int labels,
                          const double *weight, double a, double *value, void *dout)
    int fbp_loss_takes_labels(int i)
    int64_t fbp_loss_target_width(int i, int64_t outputs)
    void fbp_loss_range(int i, double *least, double *most)
    int fbp_check_weights(const double *weight, int64_t rows, int64_t *where, double *sum)
    const char *fbp_activation_name(int i)
    double fbp_activation_parameter(int i)
    const char *fbp_loss_name(int i)
    const char *fbp_optimizer_name(int i)
    void fbp_set_threads(int threads)
    int fbp_get_threads()
    const char *fbp_isa_name(int i)
    double fbp_fma_peak(const char *isa, int dtype, double seconds)
    void fbp_shuffle(uint64_t seed, uint32_t stream, uint32_t step, int64_t *order, int64_t start, int64_t to)
