/* plan.h: what a compiled graph is. Private to plan/.
 *
 * A plan knows gates, tiles, threads and buffers, not the vector length: whatever depends on ISA or dtype is behind its table
 * of kernels. Two kinds of memory: `store`, made once, holds what outlives a call (parameters, gradients, optimizer slots,
 * packed weights); a workspace holds what one batch needs and is made anew when a larger batch arrives.
 *
 * A gate computes Z from its inputs and O = f(Z). Its buffer `grad` holds dE/dO while its consumers add to it, and dE/dZ
 * (delta) once the last of them has also multiplied by f'.
 */
#ifndef FBP_PLAN_H
#define FBP_PLAN_H

#include <stdatomic.h>
#include <string.h>

#include "../base/arena.h"
#include "../base/pool.h"
#include "../fbp.h"
#include "../kernels/kernels.h"

struct gate {
    int kind, act;
    int in[FBP_GATE_INPUTS];
    int input;                      /* number of an input among the inputs */
    size_t width, ld;               /* columns of O, and their stride in a workspace */
    int wanted;                     /* parameters lie here or upstream: its gradient is needed */
    int first[FBP_GATE_INPUTS];     /* this edge is the first to write the gradient of its input: it stores, others add */
    int last[FBP_GATE_INPUTS];      /* ... the last: it also multiplies by f' of that input */
    /* dense only */
    size_t inputs;                  /* I */
    size_t w;                       /* W (I + 1, U) starts there in params */
    char *wp;                       /* panels of the weights (I, U), which training updates; NULL where params itself serves */
    char *slot[FBP_MAX_SLOTS];      /* optimizer state of W (I + 1, U): weights as in wp, or as in params; then the bias row */
};

/* A block of one gate's W, the piece of work of phase B: rows i0 .. i1 of the weights, one panel of columns from j on,
 * and the bias row with the last rows. */
struct unit {
    int gate;
    size_t i0, i1, j0, j1;
    int bias;
    double before, cost;            /* cost of the units before it, its own */
};

#define FBP_UNPACKED_BYTES 512      /* rows of W up to so long are used where they lie */

/* What phase B does to a unit. */
enum phase_b {
    FBP_GRADIENTS,                  /* dW into grads */
    FBP_GRADIENTS_ADDED,            /* dW added to grads */
    FBP_GRADIENTS_AND_UPDATE,       /* dW, then at once the update of the block */
    FBP_UPDATE,                     /* the update from grads */
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
    const void **out_row, **grad_row;   /* pointers to their rows; those of an input may point into the caller's array */
};

struct workspace {
    struct fbp_arena arena;
    size_t rows;                    /* room for so many */
    struct buffers *gate;
    int64_t *label;
    const void **target;            /* pointers to rows of targets: the caller's, or in target_copy */
    char *target_copy;
    double *loss;                   /* of each row */
    struct workspace *next;         /* in the list of free ones */
};

struct fbp_plan {
    const struct fbp_kernels *kernels;
    int dtype, gates, inputs, loss, optimizer;
    struct gate *gate;
    int units;
    struct unit *unit;
    struct fbp_arena store;
    size_t parameters;
    char *params, *grads;
    double hyper[FBP_HYPER];
    int64_t updates;                /* done so far */
    int64_t gathered;               /* gradients whose sum is in grads, waiting for an update */
    double *squares;                /* for the norm: sum of the squares of each FBP_NORM_BLOCK elements of grads */
    struct step step;
    struct fbp_trial training_trial, prediction_trial;     /* the second only by the call that has the pool */
    double operations;              /* per batch row of a training step */
    double forward_operations;
    size_t row_block;               /* rows that go through the whole network together */
    struct fbp_lock lock;           /* readers: predict; writer: all else */
    atomic_int exports;             /* writable views of params that are out */
    atomic_int touched;             /* one was out since the packed weights were made, or a fork came between */
    int behind;                     /* training has updated packed weights that params does not show yet */
    struct workspace *training;
    _Atomic int64_t forward_rows;          /* rows whose activations `training` holds, -1 for none */
    struct workspace *free;         /* for predictions; guarded by lock.mutex */
};

/* One pass of a batch, or a part of it, through the network. */
struct pass {
    struct fbp_plan *plan;
    struct workspace *ws;
    const struct fbp_array *x;      /* one for each input */
    const struct fbp_array *y;      /* targets, or NULL */
    int labels;
    const int64_t *order;           /* row r of the batch is row order[first + r] of x and y; NULL: first + r */
    int64_t first;
    int64_t rows;                   /* of the whole batch: losses are divided by it */
    int parts;                      /* that its rows are cut into */
    int keep;                       /* copy the inputs, for a later backward */
    int inputs_wanted;              /* also the gradients of the inputs */
    atomic_int *bad;                /* set to a status when a label is out of range or a target is not finite */
    atomic_int *stop;               /* set when the caller wants the step given up; NULL in short steps */
    fbp_poll *interrupted;          /* on the calling thread of long steps, else NULL */
    double *polled;                 /* ... and the time of the last look, its own */
};
#define FBP_LONG_OPERATIONS 1e9     /* a step of so much work is worth giving up half-way */

/* gates.c: phase A, rows r0 .. r1 of the batch */
void fbp_pass_forward(struct pass *p, size_t r0, size_t r1);
void fbp_pass_loss(const struct pass *p, size_t r0, size_t r1);
void fbp_pass_delta(const struct pass *p, const struct fbp_array *dout, size_t r0, size_t r1);
void fbp_pass_backward(struct pass *p, size_t r0, size_t r1);

/* weights.c: phase B, and the packed copies of weights */
void fbp_weights_phase(struct fbp_plan *plan, const struct workspace *ws, size_t rows, enum phase_b what,
                       const struct fbp_rule rule[2], struct fbp_team *team);
void fbp_weights_refresh(struct fbp_plan *plan);
void fbp_weights_publish(struct fbp_plan *plan);
int fbp_weights_units(struct fbp_plan *plan);

static inline void *fbp_at(const struct fbp_plan *plan, const void *base, size_t reals)
{
    return (char *)base + reals * plan->kernels->size;
}
/* Where row i, column j of a gate's W (I + 1, U) is in its slots, counted from their start; row I is the bias. */
static inline size_t fbp_slot_place(const struct fbp_plan *plan, const struct gate *gate, size_t i, size_t j)
{
    const size_t nr = plan->kernels->nr;
    if (gate->wp == NULL) return i * gate->width + j;
    return i < gate->inputs ? (j / nr * gate->inputs + i) * nr + j % nr : (gate->width + nr - 1) / nr * nr * gate->inputs + j;
}

/* update.c: what comes before phase B, it, and what comes after; all called by the first thread of a team. */
void fbp_update_begin(struct fbp_plan *plan, int by_hand);
void fbp_update_phase(struct fbp_plan *plan, const struct workspace *ws, size_t rows, struct fbp_team *team);
void fbp_update_from_grads(struct fbp_plan *plan, struct fbp_team *team);
void fbp_update_end(struct fbp_plan *plan);
void fbp_update_block(const struct fbp_plan *plan, const struct fbp_rule *rule, const struct gate *gate, size_t i, size_t rows,
                      size_t j, size_t cols, void *w, ptrdiff_t ld, const void *g, ptrdiff_t ldg);

/* workspace.c */
int fbp_workspace_create(const struct fbp_plan *plan, size_t rows, int training, struct workspace **ws);
void fbp_workspace_destroy(struct workspace *ws);
int fbp_training_workspace(struct fbp_plan *plan, size_t rows);
int fbp_threads_for(double operations);
int fbp_training_threads(const struct fbp_plan *plan, int64_t rows);
int fbp_row_parts(const struct fbp_plan *plan, int64_t rows, int threads);

/* arrays.c */
int fbp_array_in_place(const struct fbp_array *a, int dtype, size_t size);
void fbp_array_convert(const struct fbp_array *a, int64_t row, int dtype, void *to);
int fbp_row_finite(const void *row, int dtype, size_t n);
int64_t fbp_array_label(const struct fbp_array *a, int64_t row);
static inline int64_t fbp_label(const struct fbp_array *a, int64_t row)     /* the same, at once for the usual type */
{
    if (a->type != FBP_TYPE_I64 || a->swapped) return fbp_array_label(a, row);
    int64_t label;
    memcpy(&label, a->data + row * a->row_stride, sizeof label);
    return label;
}

/* Where a gate's weights are: as B of a product, see struct fbp_gemm. */
struct fbp_weights {
    const char *b;
    ptrdiff_t ldb, panel;
};

static inline struct fbp_weights fbp_weights_of(const struct fbp_plan *plan, const struct gate *gate)
{
    const size_t nr = plan->kernels->nr;
    if (gate->wp) return (struct fbp_weights){gate->wp, (ptrdiff_t)nr, (ptrdiff_t)(nr * gate->inputs)};
    return (struct fbp_weights){plan->params + gate->w * plan->kernels->size, (ptrdiff_t)gate->width, (ptrdiff_t)nr};
}

static inline size_t fbp_min(size_t a, size_t b) { return a < b ? a : b; }

#endif
