/* plan.h: what a compiled graph is. Private to plan/.
 *
 * A plan knows gates, tiles, threads and buffers, not the vector length: whatever depends on ISA or dtype is behind its table
 * of kernels. Two kinds of memory: `store`, made once, holds what outlives a call (parameters, gradients, optimizer slots,
 * packed weights); a workspace holds what one batch needs and is made anew when a larger batch arrives.
 *
 * A gate computes Z from its inputs and O = f(Z). Its buffer `grad` holds dE/dO while its consumers add to it, and dE/dZ
 * (delta) once the last of them has also multiplied by f'.
 *
 * Parameters of a gate are a matrix W, its rows one after the other in params: the weights and, last, a bias row where there is
 * one. So are those of a norm: one row of weights, the gain, and a bias row, the shift.
 */
#ifndef FBP_PLAN_H
#define FBP_PLAN_H

#include <stdatomic.h>
#include <string.h>

#include "../base/arena.h"
#include "../base/lock.h"
#include "../base/pool.h"
#include "../fbp.h"
#include "../kernels/kernels.h"

/* An input of a gate. */
struct edge {
    int from;
    int first;                      /* this edge is the first to write the gradient of `from`: it stores, others add */
    int last;                       /* ... the last: it also multiplies by f' of `from` */
    size_t column;                  /* of the gate's output where a part of a concatenation begins */
    int lent;                       /* this edge writes nothing: the next one, of a product, starts from dZ of the sum or activation */
    int start;                      /* ... which is this gate; 0: none */
};

struct gate {
    int kind, act;
    double parameter;               /* of the activation */
    fbp_function *function;         /* an activation of the caller's */
    void *context;
    struct edge *in;
    int ins;
    int input;                      /* number of an input among the inputs, of a dropout among these */
    size_t width, ld;               /* columns of O, and their stride in a workspace */
    double setting[FBP_SETTINGS];
    char *constant;                 /* values of a constant (1, width) or matmul (I, width) */
    int trainable;
    int depends;                    /* on an input */
    int wanted;                     /* trainable parameters lie here or upstream: its gradient is needed */
    int output;                     /* the loss is the first to write its gradient */
    int consumers;
    /* what gates do for each other, see fuse.c; 0: nothing */
    int shares;                     /* its gradient is dZ of this gate, a sum or an activation: it has no buffer of its own */
    int then;                       /* its O is only the input of this activation, which it computes at once */
    int sum;                        /* its O is only a term of this sum, which its product computes at once */
    int product;                    /* of a sum: that product, and the term, the product or its activation */
    int term;
    int hands;                      /* of a sum: the term relu(..) whose dZ is made where the sum's gradient is */
    int brief;                      /* its O is needed until its dZ is made, which takes its place */
    int replaces;                   /* its gradient takes the place of that of this sum */
    /* where there are parameters */
    size_t parameters;              /* reals in W; 0: none */
    size_t weights, units;          /* rows of W, or of a constant matrix, but the bias; columns */
    int bias;                       /* W has a last row more */
    size_t w;                       /* W starts there in params */
    char *wp;                       /* panels of the weights, which training updates; NULL where params itself always serves */
    char *slot[FBP_MAX_SLOTS];      /* optimizer state of W: weights as in wp, or as in params; then the bias row */
    size_t state;                   /* its state (2, width) starts there in state */
    /* prediction, see fold.c */
    int folded;                     /* a dense gate whose batch norm does its work */
    int folds;                      /* such a batch norm */
    char *folded_weights;           /* as the weights of the dense gate */
    char *folded_bias;              /* a row, and one of scales */
};

/* A block of one gate's W, the piece of work of phase B: rows i0 .. i1 and columns j0 .. j1 of the weights, and the bias row with the last. */
struct unit {
    int gate;
    size_t i0, i1, j0, j1;
    int bias;
    int more;                       /* of the units after it go on where it ends: they can be done with it in one go */
    double before, cost;            /* cost of the units before it, its own */
};

#define FBP_UNPACKED_BYTES 512      /* rows of W up to so long are used where they lie */
#define FBP_UNIT_ROWS 192           /* rows of W in a unit one panel wide: a multiple of every tile height and register length */

/* What phase B does to a unit. */
enum phase_b {
    FBP_GRADIENTS,                  /* dW into grads */
    FBP_GRADIENTS_ADDED,            /* dW added to grads */
    FBP_GRADIENTS_AND_UPDATE,       /* dW, then at once the update of the block */
    FBP_UPDATE,                     /* the update from grads */
    FBP_SUMS,                       /* the chains of dW wait in the workspace for the rest of the batch */
    FBP_TOTALS,                     /* they end, at a cut, and what they add up to so far waits there */
};

/* The training step, or the update by hand, that is under way. */
struct step {
    enum phase_b product;           /* what becomes of dW */
    int due;                        /* it ends with an update; from grads, if the product was not followed by one at once */
    struct fbp_rule rule[2];        /* for weights and for biases */
};

struct buffers {
    char *out, *grad;               /* O (rows, width) with stride ld; dE/dO, then dE/dZ, with the gate's ld */
    size_t ld;
    char *packed;                   /* dE/dZ once more, in panels, for phase B; or NULL */
    char *slope;                    /* f'(Z) with the gate's ld, where O does not give it */
    char *kept;                     /* of a norm X^, of dropout 0 or 1 / (1 - rate), with the gate's ld */
    char *statistics;               /* layer_norm, rms_norm: the scale of each row; batch_norm: enum column_rows */
    size_t *category;               /* of an embedding: what each element of its input names, (rows, columns) */
    size_t *element, *end;          /* ... the elements, by the unit of phase B that they concern, and where those of each unit end */
    const void **out_row, **grad_row;   /* pointers to their rows; those of an input may point into the caller's array */
};

/* Rows of numbers for each column of a batch norm. */
enum column_rows { FBP_MEAN, FBP_SCALE, FBP_VARIANCE, FBP_SUM_DELTA, FBP_SUM_PRODUCT, FBP_MEAN_DELTA, FBP_MEAN_PRODUCT, FBP_COLUMN_ROWS };

/* Targets of one output for the rows of a batch, and their losses. */
struct targets {
    int64_t *label;
    const void **row;               /* pointers to rows of targets: the caller's, or in copy */
    char *copy;
    double *loss;                   /* of each row */
};

struct workspace {
    struct fbp_arena arena;
    size_t rows;                    /* room for so many */
    struct buffers *gate;           /* one of the next two */
    struct buffers *apart, *shared; /* by hand, and in prediction; in a training step: see fuse.c */
    struct targets *target;         /* of each output */
    double *weight;                 /* of each row */
    struct fbp_array *x;            /* of the caller's in a training step: one for each input */
    struct fbp_targets *y;          /* ... for each output */
    atomic_int bad;                 /* status of the call at work */
    char *sums, *totals;            /* chains of dW that wait, and totals of ended ones: unit by unit, then the biases of each gate; or NULL */
    struct turned *turned;          /* see operands.h: of each of the first `turning` threads */
    int turning;
    struct workspace *next;         /* in the list of free ones */
};

struct fbp_plan {
    const struct fbp_kernels *kernels;
    int dtype, gates, inputs, outputs, optimizer;
    int trains;                     /* every output has a loss */
    struct gate *gate;
    struct edge *edge;              /* of all gates */
    struct fbp_output *output;
    int cuts, *cut;                 /* gates that mix rows: the batch norms, in order */
    int splits;                     /* the first gate, if threads may share its columns in place of rows, see fbp_split_gate; or 0 */
    int alone;                      /* functions of the caller's are called: one thread, whole batches */
    int units;
    struct unit *unit;
    struct fbp_arena store;
    size_t parameters;
    char *params, *grads;
    size_t state_size;
    char *state;                    /* means and variances, not trained */
    uint64_t seed;
    double products;                /* operations of the products of a training step, per batch row */
    double operations;              /* ... and of all else, about */
    double forward_operations;
    size_t row_block;               /* rows that go through the whole network together */
    int viewed;                     /* a view was out when the call at work began: params serves in place of packed weights */
    double *squares;                /* for the norm: sum of the squares of each FBP_NORM_BLOCK elements of grads */
    double hyper[FBP_HYPER];
    /* What follows changes with every call, and the caller alone reads it (but for draws, with dropout). What is before hyper is read by
     * workers all the time: so they share no cache line. */
    struct fbp_lock lock;           /* readers: predict; writer: all else */
    int64_t draws;                  /* forward passes in training mode so far */
    int64_t updates;                /* done so far */
    int64_t gathered;               /* gradients whose sum is in grads, waiting for an update */
    struct step step;
    struct fbp_trials training_trials, prediction_trials;  /* the second only by the call that has the pool */
    atomic_int exports;             /* writable views of params that are out */
    atomic_int touched;             /* one was out since the packed weights were made, or a fork came between */
    int fold_due;                   /* folded weights are not those of params and state */
    int behind;                     /* training has updated packed weights that params does not show yet */
    struct workspace *training;
    _Atomic int64_t forward_rows;   /* rows whose activations `training` holds, -1 for none */
    int forward_training;           /* they are those of training mode */
    int backward_wanted;            /* `training` also holds gradients: 1, also those that only inputs want: 2 */
    struct workspace *free;         /* for predictions; guarded by lock.mutex */
};

/* Whether a long call is to be given up. */
struct halt {
    atomic_int *stop;               /* set when the caller wants that; NULL in short calls */
    fbp_poll *interrupted;          /* on the calling thread, else NULL */
    double *polled;                 /* ... and the time of the last look, its own */
};

/* One pass of a batch, or a part of it, through the network. */
struct pass {
    struct fbp_plan *plan;
    struct workspace *ws;
    const struct fbp_array *x;      /* one for each input */
    const struct fbp_targets *y;    /* one for each output, or NULL */
    const struct fbp_array *dout;   /* by hand: the gradient of each output, or NULL */
    const double *weights;          /* of the rows of x, or NULL */
    const int64_t *order;           /* row r of the batch is row order[first + r] of x and y; NULL: first + r */
    int64_t first;
    int64_t rows;                   /* of the whole batch, or of the part of it that is taken through both phases */
    int in_parts;                   /* it is a part: chains of dW wait in the workspace */
    int64_t before;                 /* rows of the batch before that part */
    double weight;                  /* the sum of their weights: losses are divided by it */
    int parts;                      /* that its rows are cut into */
    int training;                   /* dropout drops, batch norm takes the statistics of the batch */
    int keep;                       /* copy the inputs, for a later backward */
    int contended;                  /* a short step in company: what phase A writes was just read by the other threads in phase B */
    int inputs_wanted;              /* also the gradients of the inputs */
    void *const *out, *const *dx;   /* by hand: where outputs, and gradients of inputs, are copied to; or NULL */
    int from, to;                   /* the gates at work */
    int split;                      /* the gate whose columns the threads share forward, ahead of all else; or 0 */
    size_t j0, j1;                  /* those at work, whole panels; 0, 0: all */
    const struct fbp_result *result;    /* prediction: the nodes asked for */
    int results;
    fbp_float_mode mode;            /* the caller's, in which its functions run */
    atomic_int *bad;                /* set to a status when a label, target or index is wrong, or a function gave up */
    struct halt halt;
};
_Static_assert(sizeof(struct pass) <= FBP_CONTEXT_BYTES, "the pool copies it");
#define FBP_LONG_OPERATIONS 1e9     /* a step of so much work is worth giving up half-way */
#define FBP_MOST_PARTS 16384        /* of a phase: the pool counts them in 16 bits */

static inline void fbp_forget_forward(struct fbp_plan *plan)
{
    atomic_store_explicit(&plan->forward_rows, -1, memory_order_relaxed);   /* the lock orders it; others but glance at it */
    plan->backward_wanted = 0;
}

/* Where a gate's weights are: as B of a product, see struct fbp_gemm. */
struct fbp_weights {
    const char *b;
    ptrdiff_t ldb, panel;
};

/* graph.c */
int fbp_graph_exists(const struct fbp_graph *graph);
size_t fbp_padded(size_t width, size_t size);
int fbp_graph_read(struct fbp_plan *plan, const struct fbp_graph *graph);
void fbp_graph_order(struct fbp_plan *plan);
void fbp_graph_measure_forward(struct fbp_plan *plan);
void fbp_graph_measure(struct fbp_plan *plan);

static inline int fbp_is_product(const struct gate *g) { return g->kind == FBP_GATE_DENSE || g->kind == FBP_GATE_MATMUL; }

/* split.c */
void fbp_split_find(struct fbp_plan *plan);
int fbp_split_gate(const struct fbp_plan *plan, int64_t rows, int threads);
void fbp_split_columns(const struct fbp_plan *plan, int g, int part, int parts, size_t *j0, size_t *j1);

/* fuse.c */
void fbp_fuse(struct fbp_plan *plan);
void fbp_fuse_buffers(const struct fbp_plan *plan, struct buffers *b);
int fbp_seen(const struct pass *p, int g);
int fbp_lands(const struct pass *p, int g);
int fbp_computed(const struct pass *p, int g);
int fbp_sum_of(const struct pass *p, int g, int to);
int fbp_output_needed(const struct pass *p, int g);

/* The row of the caller's arrays that is row r of the batch. */
static inline int64_t fbp_row_in(const int64_t *order, int64_t first, size_t r)
{
    return order ? order[first + (int64_t)r] : first + (int64_t)r;
}
static inline int64_t fbp_source_row(const struct pass *p, size_t r) { return fbp_row_in(p->order, p->first, r); }

/* pass.c: phase A: forward, loss, backward over all rows, which a team shares. */
int fbp_halt_asked(const struct halt *h);
static inline int fbp_halted(const struct halt *h) { return h->stop && fbp_halt_asked(h); }
static inline struct halt fbp_halt_of(struct halt h, int thread)    /* only the calling thread, 0, asks the caller */
{
    if (thread > 0) h.interrupted = NULL;
    return h;
}
void fbp_pass_forward(struct pass *p, struct fbp_team *team);
void fbp_pass_step(struct pass *p, struct fbp_team *team);
void fbp_pass_backward(struct pass *p, struct fbp_team *team);
void fbp_pass_rows(struct pass *p, size_t r0, size_t r1);

/* gates.c, embedding.c, norms.c: one gate, rows r0 .. r1 of the batch. Forward, O of gate `to` is computed: of g itself, or of the
 * activation that is all its output serves. */
typedef void fbp_forward_fn(const struct pass *p, int g, int to, size_t r0, size_t r1);
typedef void fbp_gate_fn(const struct pass *p, int g, size_t r0, size_t r1);
struct fbp_gate_row {
    fbp_forward_fn *forward;
    fbp_gate_fn *backward;
};
extern const struct fbp_gate_row fbp_gates[FBP_GATE_COUNT];
void fbp_activate(const struct pass *p, int g, size_t r0, size_t r1);
void fbp_deactivate(const struct pass *p, int g, size_t r0, size_t r1);
static inline char *fbp_out_at(const struct pass *p, int g, size_t r)
{
    return p->ws->gate[g].out + r * p->ws->gate[g].ld * p->plan->kernels->size;
}
static inline char *fbp_grad_at(const struct pass *p, int g, size_t r)
{
    return p->ws->gate[g].grad + r * p->plan->gate[g].ld * p->plan->kernels->size;
}
/* O of gate `to` = f([X 1] W), X being the input of gate `of`, which has the shape of W; its columns j0 .. j1 of the pass. */
void fbp_product_forward(const struct pass *p, int of, int to, struct fbp_weights w, const void *bias, size_t r0, size_t r1);
fbp_forward_fn fbp_embedding_forward, fbp_row_norm_forward, fbp_batch_norm_forward;
fbp_gate_fn fbp_embedding_backward, fbp_clear, fbp_row_norm_backward, fbp_batch_norm_backward;
void fbp_sum_columns(const struct fbp_plan *plan, size_t rows, struct fbp_columns f);
void fbp_batch_norm_statistics(const struct pass *p, int g, size_t j0, size_t j1);
void fbp_batch_norm_sums(const struct pass *p, int g, size_t j0, size_t j1);
int fbp_batch_norm_depends(const struct fbp_plan *plan, int g, int training, size_t rows);
void *fbp_column_row(const struct fbp_plan *plan, const struct workspace *ws, int g, enum column_rows row, size_t j);
void fbp_batch_norm_remember(struct fbp_plan *plan, const struct workspace *ws, size_t rows);
static inline int fbp_gradient_wanted(const struct pass *p, int g)
{
    const struct gate *gate = &p->plan->gate[g];
    return gate->wanted || (p->inputs_wanted && gate->depends);
}

/* weights.c: phase B, and the packed copies of weights */
int fbp_weights_phase(const struct pass *pass, enum phase_b what, const struct fbp_rule rule[2], struct fbp_team *team);
void fbp_weights_refresh(struct fbp_plan *plan);
void fbp_weights_publish(struct fbp_plan *plan);
int fbp_weights_units(struct fbp_plan *plan);
size_t fbp_unit_rows(const struct gate *gate);
static inline void *fbp_at(const struct fbp_plan *plan, const void *base, size_t reals)
{
    return (char *)base + reals * plan->kernels->size;
}

/* Columns of the targets of output k, which has a loss of the table. */
static inline size_t fbp_target_width(const struct fbp_plan *plan, int k)
{
    const struct fbp_output *output = &plan->output[k];
    return plan->gate[output->node].width / (size_t)plan->kernels->loss[output->loss].outputs_per_target;
}

/* embedding.c: the elements of a batch by units, before phase B */
void fbp_embedding_sort(const struct fbp_plan *plan, struct workspace *ws, size_t rows);
static inline size_t fbp_embedding_units(const struct gate *gate) { return (gate->weights + fbp_unit_rows(gate) - 1) / fbp_unit_rows(gate); }

/* fold.c */
void fbp_fold_find(struct fbp_plan *plan);
void fbp_fold_layout(struct fbp_plan *plan, struct gate *norm);
void fbp_fold(struct fbp_plan *plan);

/* update.c: what comes before phase B, it, and what comes after; all called by the first thread of a team. */
void fbp_update_begin(struct fbp_plan *plan, int64_t rows);
int fbp_update_phase(const struct pass *p, struct fbp_team *team);
void fbp_update_from_grads(struct fbp_plan *plan, struct fbp_team *team);
void fbp_update_end(struct fbp_plan *plan);
void fbp_update_block(const struct fbp_plan *plan, const struct fbp_rule *rule, const struct gate *gate, size_t i, size_t rows,
                      size_t j, size_t cols, void *w, ptrdiff_t ld, const void *g, ptrdiff_t ldg);

/* workspace.c */
int fbp_workspace_create(const struct fbp_plan *plan, size_t rows, int training, struct workspace **ws);
void fbp_workspace_destroy(struct workspace *ws);
int fbp_training_workspace(struct fbp_plan *plan, size_t rows);

/* parts.c */
int fbp_threads_for(const struct fbp_plan *plan, double operations);
int fbp_training_threads(const struct fbp_plan *plan, int64_t rows);
int fbp_row_parts(const struct fbp_plan *plan, int64_t rows, int threads);
int fbp_parts_each(double operations, int threads);
int fbp_prediction_parts(const struct fbp_plan *plan, int64_t rows, int threads);
int fbp_sums_wait(const struct fbp_plan *plan, size_t rows);
int64_t fbp_step_rows(const struct fbp_plan *plan, int64_t rows, int64_t before, int threads);
int fbp_update_waits(const struct fbp_plan *plan, int64_t rows);

/* loss.c, arrays.c */
double fbp_ordered_sum(const double *v, int64_t n);
int fbp_array_in_place(const struct fbp_array *a, int dtype, size_t size);
void fbp_array_convert(const struct fbp_array *a, int64_t row, int dtype, void *to);
int fbp_rows_within(const void *const *row, size_t m, int dtype, size_t n, double least, double most);
int64_t fbp_array_label(const struct fbp_array *a, int64_t row);
static inline int64_t fbp_label(const struct fbp_array *a, int64_t row)     /* the same, at once for the usual type */
{
    if (a->type != FBP_TYPE_I64 || a->swapped) return fbp_array_label(a, row);
    int64_t label;
    memcpy(&label, a->data + row * a->row_stride, sizeof label);
    return label;
}

static inline int fbp_in_panels(const struct fbp_plan *plan, const struct gate *gate) { return gate->wp && !plan->viewed; }

static inline struct fbp_weights fbp_weights_of(const struct fbp_plan *plan, const struct gate *gate)
{
    const size_t nr = plan->kernels->nr;
    if (fbp_in_panels(plan, gate)) return (struct fbp_weights){gate->wp, (ptrdiff_t)nr, (ptrdiff_t)(nr * gate->weights)};
    if (gate->constant) return (struct fbp_weights){gate->constant, (ptrdiff_t)gate->units, (ptrdiff_t)nr};
    return (struct fbp_weights){plan->params + gate->w * plan->kernels->size, (ptrdiff_t)gate->units, (ptrdiff_t)nr};
}

/* Rows of W are so long that it is better kept in panels. */
static inline int fbp_long_rows(const struct fbp_plan *plan, const struct gate *gate)
{
    return gate->units * plan->kernels->size > FBP_UNPACKED_BYTES;
}

static inline size_t fbp_min(size_t a, size_t b) { return a < b ? a : b; }

#endif
