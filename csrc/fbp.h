/* fbp.h: the public C interface of fastbp. A graph of gates is compiled once into a plan; executing a plan allocates
 * nothing (but when a larger batch arrives, before it starts) and cannot fail half-way.
 *
 * Functions return an fbp_status; fbp_status_text says what it means. No function prints, aborts or knows Python.
 */
#ifndef FBP_H
#define FBP_H

#include <stddef.h>
#include <stdint.h>

enum fbp_status {
    FBP_OK,
    FBP_PAUSED,         /* the time slice is over; call again to go on */
    FBP_NO_MEMORY,
    FBP_TOO_LARGE,      /* a size does not fit the address space */
    FBP_NO_ISA,         /* no kernels of that name for this CPU */
    FBP_BAD_GRAPH,      /* a gate, input, activation, loss or optimizer that does not exist */
    FBP_BAD_LABEL,      /* a class label outside 0 .. classes-1 */
    FBP_BAD_TARGET,     /* a target that is not finite, or out of the range of its loss */
    FBP_BAD_WEIGHT,     /* a weight of a row that is negative or not finite */
    FBP_BAD_INDEX,      /* an input of an embedding that is no whole number from 0 to categories - 1 */
    FBP_NO_FORWARD,     /* backward without a forward before it */
    FBP_STOPPED,        /* a function of the caller's gave up */
    FBP_TOO_MANY,       /* an embedding of more categories than its dtype has whole numbers in a row */
    FBP_STATUS_COUNT
};
const char *fbp_status_text(int status);

enum fbp_dtype { FBP_F32, FBP_F64 };

/* ---- arrays of the caller: any strides, any of these element types; in place where they match, else converted by rows */

enum fbp_type {
    FBP_TYPE_F32, FBP_TYPE_F64, FBP_TYPE_F16,
    FBP_TYPE_I8, FBP_TYPE_I16, FBP_TYPE_I32, FBP_TYPE_I64,
    FBP_TYPE_U8, FBP_TYPE_U16, FBP_TYPE_U32, FBP_TYPE_U64,
    FBP_TYPE_COUNT
};

struct fbp_array {
    const char *data;
    int64_t rows, cols;
    ptrdiff_t row_stride, col_stride;   /* bytes */
    int type;                           /* enum fbp_type */
    int swapped;                        /* other byte order than this CPU's */
};

/* Rows y of integer class labels (cols = 1), all in 0 .. classes-1? Else *where is the first row that is not. */
int fbp_check_labels(const struct fbp_array *y, int64_t classes, int64_t *where, int64_t *value);
/* All elements finite in `dtype` and least .. most? Else *where is the first row with one that is not. */
int fbp_check_within(const struct fbp_array *y, int dtype, double least, double most, int64_t *where);

/* ---- the graph ---------------------------------------------------------------------------------------------------- */

enum fbp_gate {
    FBP_GATE_INPUT, FBP_GATE_CONSTANT, FBP_GATE_DENSE, FBP_GATE_MATMUL, FBP_GATE_ACTIVATION,
    FBP_GATE_ADD, FBP_GATE_SUBTRACT, FBP_GATE_MULTIPLY, FBP_GATE_DIVIDE, FBP_GATE_MAXIMUM, FBP_GATE_MINIMUM,
    FBP_GATE_CONCATENATE, FBP_GATE_SLICE, FBP_GATE_DROPOUT, FBP_GATE_LAYER_NORM, FBP_GATE_RMS_NORM, FBP_GATE_BATCH_NORM,
    FBP_GATE_EMBEDDING, FBP_GATE_STANDARDIZE, FBP_GATE_COUNT
};
#define FBP_SETTINGS 2

/* An activation of the caller's, the last row of the table: O = f(O) in place for m rows of n with stride ld, and f'(Z) to slope,
 * or slope is NULL. Called on the calling thread alone. Returns 0, or FBP_STOPPED to give up what is being done. */
typedef int fbp_function(void *context, int64_t m, int64_t n, void *o, void *slope, ptrdiff_t ld);

/* One gate; nodes stand in topological order. What each gate computes: the table in src/fastbp/values.py. */
struct fbp_node {
    int gate;
    const int *in;              /* earlier nodes */
    int ins;
    int64_t width;              /* columns of its output */
    double setting[FBP_SETTINGS];
    const double *values;       /* of a constant (width) or matmul (I, width), copied; NULL for others */
    int64_t count;              /* numbers there */
    int activation;             /* number in the table of activations, applied to its output; 0 is the identity */
    double parameter;           /* of the activation; NAN for its usual value */
    fbp_function *function;     /* of the caller's own activation */
    void *context;
    int trainable;
};

/* A loss of the caller's: the loss of rows `first` ... of the run, for the outputs `out` (rows, n) with stride ldo, to *loss, and
 * dE/dO to grad, with stride ldg. Called on the calling thread alone. Returns 0 or FBP_STOPPED. */
typedef int fbp_loss_function(void *context, int output, int64_t first, int64_t rows, int64_t n, const void *out, ptrdiff_t ldo,
                              double *loss, void *grad, ptrdiff_t ldg);
#define FBP_LOSS_NONE (-1)
#define FBP_LOSS_CUSTOM (-2)

/* E = sum over outputs of weight times loss. */
struct fbp_output {
    int node;
    int loss;                   /* number in the table of losses, one that takes so many outputs; or one of the above */
    double parameter;           /* of the loss; NAN for its usual value */
    double weight;
    fbp_loss_function *function;
    void *context;
};

struct fbp_graph {
    const struct fbp_node *node;
    int nodes;
    const struct fbp_output *output;
    int outputs;
    int dtype;
    int optimizer;              /* number in the table of optimizers, -1 for none */
    uint64_t seed;              /* of dropout */
};

/* The numbers of an optimizer; those that its row does not have are not looked at. From FBP_L2 on, 0 is none. With g the gradient
 * of a batch, or the mean of the last FBP_ACCUMULATE ones: g is clipped, then l2 W + l1 sign(W) added to it, and the update starts
 * from W less rate weight_decay W. */
enum fbp_hyper {
    FBP_RATE,
    FBP_BETA1, FBP_BETA2,       /* what the means of g and of g^2 keep of themselves: momentum is beta1, RMSprop's alpha beta2 */
    FBP_EPS,
    FBP_L2, FBP_L1, FBP_WEIGHT_DECAY,
    FBP_DECAY_BIASES,           /* whether these three also act on the bias rows */
    FBP_CLIP_NORM,              /* g shrunk to this norm, over all parameters, where it has a larger one */
    FBP_CLIP_VALUE,             /* each element of g limited to -value .. value */
    FBP_ACCUMULATE,             /* training steps for each update; their gradients add up in grads */
    FBP_MAX_NORM,               /* after an update, columns of W without the bias are shrunk to this norm where theirs is larger */
    FBP_HYPER
};

/* ---- plans --------------------------------------------------------------------------------------------------------- */

typedef struct fbp_plan fbp_plan;

/* isa: "avx512", "avx2", "neon", "base", or NULL for the best one. */
int fbp_plan_create(const struct fbp_graph *graph, const char *isa, fbp_plan **plan);
void fbp_plan_destroy(fbp_plan *plan);

const char *fbp_plan_isa(const fbp_plan *plan);
int64_t fbp_plan_width(const fbp_plan *plan, int node);         /* columns of a node's output */
int64_t fbp_plan_offset(const fbp_plan *plan, int node);        /* where the parameters of a gate start in params */
int64_t fbp_plan_state_offset(const fbp_plan *plan, int node);  /* where its state, two rows, starts in state */
int64_t fbp_plan_parameters(const fbp_plan *plan);              /* reals in params, grads and each slot */
double fbp_plan_operations(fbp_plan *plan, int64_t rows); /* of a training step; frozen gates cost less */
int64_t fbp_plan_bytes(fbp_plan *plan);                   /* memory held */
void *fbp_plan_params(fbp_plan *plan);
void *fbp_plan_grads(fbp_plan *plan);
int64_t fbp_plan_state_size(const fbp_plan *plan);
void *fbp_plan_state(fbp_plan *plan);                           /* means and variances or deviations, not trained */
/* Whether a gate's parameters are trained; a frozen gate's gradients are 0. */
int fbp_plan_set_trainable(fbp_plan *plan, int node, int trainable);
/* Forward passes in training mode so far: the step of dropout's random numbers. */
int64_t fbp_plan_draws(fbp_plan *plan);
void fbp_plan_set_draws(fbp_plan *plan, int64_t draws);
/* The caller hands out (+1) or takes back (-1) a view of params that may be read and written. While one is out, params is up to
 * date after every call, and packed copies of weights are made anew before every use; (+1) may wait for a call that runs. */
void fbp_plan_export(fbp_plan *plan, int count);
void fbp_plan_set_hyper(fbp_plan *plan, const double hyper[FBP_HYPER]);
int fbp_plan_slots(const fbp_plan *plan);                       /* state vectors of the optimizer */
/* Copies the values of a slot, in the order of params, to `values` (reals of the plan's dtype); or, with back, from there. */
void fbp_plan_copy_slot(fbp_plan *plan, int slot, void *values, int back);
int64_t fbp_plan_updates(fbp_plan *plan);                       /* updates done so far: the t of Adam's corrections */
void fbp_plan_set_updates(fbp_plan *plan, int64_t updates);

/* Asked now and then during long calls, on the calling thread: whether to give up the step (which then changes nothing) and
 * return FBP_PAUSED early; may be NULL. */
typedef int fbp_poll(void);

/* Whole training steps over rows next .. end of x and y (through `order` where it is not NULL), batches of `batch` rows;
 * returns FBP_PAUSED after a slice of about 20 ms, between two steps. */
struct fbp_run {
    const int64_t *order;
    const double *weights;      /* of the rows of x, in the loss; NULL: all 1 */
    int64_t next, end, batch;
    double loss;                /* of the last step, before its update */
    double loss_sum;            /* sum over steps of loss times the weights of its rows */
    double weight_sum;          /* sum of these weights */
    int64_t steps;
    fbp_poll *interrupted;
};
/* Targets of one output; integer labels (rows, 1) or real numbers. */
struct fbp_targets {
    struct fbp_array y;
    int labels;
};
/* x: one array for each input; y: one for each output. */
int fbp_train(fbp_plan *plan, const struct fbp_array *x, const struct fbp_targets *y, struct fbp_run *run);

/* Do embeddings find only categories of theirs, whole numbers from 0 on, in x? Else *bad is the first place where one does not. What
 * they take of computed values is not known before a pass. */
struct fbp_place {
    int input;
    int64_t row, column, most;      /* the largest category there may be */
};
int fbp_plan_check_categories(const fbp_plan *plan, const struct fbp_array *x, struct fbp_place *bad);

/* Where the output of a node goes: (rows, its width; contiguous, of the plan's dtype). */
struct fbp_result {
    int node;
    void *out;
};
/* Results for rows *next .. ; FBP_PAUSED as above. */
int fbp_predict(fbp_plan *plan, const struct fbp_array *x, const struct fbp_result *result, int results, int64_t *next,
                fbp_poll *interrupted);

/* The same by hand. forward keeps the activations and, in training mode, drops and takes the statistics of the batch, as training
 * does; out: where each output goes. backward needs it, takes a gradient for each output, and fills grads, and, where dx is not
 * NULL, dx[i] (contiguous) for every input; update applies the optimizer to params and grads. Both start FBP_ACCUMULATE anew.
 * FBP_PAUSED: given up; of forward nothing is kept, grads are those of neither this call nor the last. */
int fbp_forward(fbp_plan *plan, const struct fbp_array *x, int training, void *const *out, fbp_poll *interrupted);
int64_t fbp_forward_rows(const fbp_plan *plan);                 /* rows of the forward pass kept; -1 for none */
int fbp_backward(fbp_plan *plan, const struct fbp_array *dout, void *const *dx, fbp_poll *interrupted);
int fbp_update(fbp_plan *plan);
/* O of a node as the last forward left it, or dE/dZ as the last backward did: (rows, width), contiguous. FBP_NO_FORWARD without
 * these, if they have other than `rows` rows, or for a gradient that was not wanted. */
int fbp_plan_kept(fbp_plan *plan, int node, int gradient, int64_t rows, void *to);

/* Loss of out (rows of y, width; contiguous, of dtype) and dE/dout; labels must be in range. weight: of each row, or NULL; rows
 * whose weights add up to 0 have loss 0. a: the parameter of the loss, not looked at where it has none. */
int fbp_loss_gradient(int loss, int dtype, const void *out, int64_t width, const struct fbp_array *y, int labels,
                      const double *weight, double a, double *value, void *dout);
/* Rows of the table of losses: whether integer labels are taken; columns of a target for so many outputs, 0 if there can be none. */
int fbp_loss_takes_labels(int i);
int64_t fbp_loss_target_width(int i, int64_t outputs);
/* ... and what its targets lie between, infinite where any finite number will do. */
void fbp_loss_range(int i, double *least, double *most);
/* All weights finite and at least 0? Else *where is the first that is not. *sum is theirs. */
int fbp_check_weights(const double *weight, int64_t rows, int64_t *where, double *sum);

/* Names in the tables, NULL past the end. */
const char *fbp_activation_name(int i);
double fbp_activation_parameter(int i); /* the usual value of its parameter; NAN where it has none */
const char *fbp_loss_name(int i);
const char *fbp_optimizer_name(int i);

/* ---- run time -------------------------------------------------------------------------------------------------------- */

#define FBP_MAX_THREADS 256
void fbp_set_threads(int threads);
int fbp_get_threads(void);
const char *fbp_isa_name(int i);        /* instruction sets of this CPU that were built in, best first; NULL past the end */
/* Floating-point operations per second of one core in a loop of independent FMAs, measured for about `seconds`. */
double fbp_fma_peak(const char *isa, int dtype, double seconds);
/* Shuffles `order` (0, 1, ..., n-1 at first) for epoch `step`: Fisher-Yates with Philox 4x32-10, see rng.h. Elements from-1 down to
 * `to` take their turn, so that a long shuffle can be done in pieces, from n down to 0. */
void fbp_shuffle(uint64_t seed, uint32_t stream, uint32_t step, int64_t *order, int64_t from, int64_t to);

#endif
