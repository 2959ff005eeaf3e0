/* kernels.h: the table of functions chosen for one CPU and one dtype, and the arguments they take.
 *
 * Kernels are pure functions of pointers and sizes: they cannot fail, allocate, lock or read globals. "real" stands for
 * float or double; strides (ld...) count reals. Buffers that the plan owns may be read, but never written, up to one
 * tile past their end; arrays of a caller are neither read nor written outside their elements.
 */
#ifndef FBP_KERNELS_H
#define FBP_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define FBP_MAX_SLOTS 2              /* optimizer state vectors */
#define FBP_REDUCTION_ROWS 4096      /* a reduction over more batch rows is cut at multiples of this */
#define FBP_NORM_BLOCK 4096          /* a sum of squares over more elements is cut at multiples of this */

/* What happens to a tile of C while it is in registers. */
enum fbp_epilogue {
    FBP_STORE,        /* C = S                    */
    FBP_RELU,         /* C = max(0, S)            */
    FBP_RELU_GRAD,    /* C = S [O > 0]            */
    FBP_TANH_GRAD,    /* C = S (1 + O) (1 - O)    */
    FBP_SIGMOID_GRAD, /* C = S O (1 - O)          */
    FBP_SLOPE_GRAD,   /* C = S O, finite slopes that were kept */
    FBP_ADD,          /* C = C + S                */
    FBP_AXPY,         /* C = C + alpha S          */
};

/* What is made of a tile of C while it is in registers, once the epilogue is done: C2, with X the same tile of another matrix. C
 * itself is stored too, unless C2 lies in its place. */
enum fbp_second {
    FBP_NO_SECOND,
    FBP_SUM,          /* C2 = C + X           */
    FBP_SUM_RELU,     /* C2 = max(0, C + X)   */
    FBP_DELTA_RELU,   /* C2 = C [X > 0]       */
};

/* A function of a tile (m x n), or of whole rows: c made of x, which may be c. o is the same tile of O, or of the slopes. */
struct fbp_tile {
    size_t m, n;
    const void *x;
    void *c, *o;
    ptrdiff_t ldx, ldc, ldo;
    double a;                   /* a parameter */
};
typedef void fbp_tile_fn(const struct fbp_tile *);

/* Called for every tile of a product after it is stored: rows i .. i + m of columns j .. j + n. */
typedef void fbp_after_fn(const void *context, size_t i, size_t j, size_t m, size_t n);

/* One product, C (m x n) = epilogue(S), S = start + sum over k of a_k b_k, one chain of FMAs per element in increasing k.
 *   gemm_rows: a_k = a[i][a0 + k]      A is given by pointers to its rows (forward, input gradient)
 *   gemm_rows_transposed: the same, but B is given as its transpose (input gradient from W)
 *   gemm_cols: a_k = a[k][a0 + i]      the same pointers, A transposed: k runs over its rows (weight gradient)
 * B: element (k, j) is b[(j / nr) * panel + k * ldb + j % nr]: row-major with panel = nr, or packed in panels of nr columns. */
struct fbp_gemm {
    size_t m, n, k;
    const void *const *a;
    ptrdiff_t a0;
    const void *b;
    ptrdiff_t ldb, panel;
    const void *start;          /* row i starts at start + i ldstart; NULL: zeros. ldstart 0: one row (the bias) for all */
    ptrdiff_t ldstart;
    void *c;
    ptrdiff_t ldc;
    int epilogue;               /* gemm_rows, k > 1024: none that reads C, where chains wait on their way; gemm_cols: FBP_STORE or one that does */
    double alpha;               /* FBP_AXPY */
    const void *o;              /* the epilogues of gradients: outputs whose derivative is wanted */
    ptrdiff_t ldo;
    int second;
    const void *const *x;       /* m pointers to rows of X */
    void *c2;
    ptrdiff_t ldc2;
    fbp_after_fn *after;        /* or NULL */
    const void *context;
    void *sums;                 /* gemm_cols: NULL, or where the n sums of B's columns go: the row of S for a column of ones in A */
    int more;                   /* sums go on from what is there */
    void *next;                 /* gemm_rows: NULL, or laid out like C what is written soon after it: other cores have read both, and every */
    ptrdiff_t ldnext;           /* tile begins by making its lines of them this core's */
};

/* The numbers of one step of an optimizer. It takes g = min(limit, max(-limit, scale dW)) + l2 W + l1 sign(W) for the
 * gradient, and W - decay W for the weights it changes. */
struct fbp_rule {
    double rate, eps;           /* where the optimizer is `corrected`, with the corrections of this step in them */
    double beta1, beta2;        /* what the means of g and of g^2 keep of themselves; beta1 is also the momentum */
    double scale, limit, l2, l1, decay;
    int plain;                  /* scale 1, no limit, no l2, no l1, no decay: g = dW */
};

/* An optimizer's pass over a block of weights (rows x cols): reads the gradient, updates weights and slots. */
struct fbp_update {
    size_t rows, cols;
    ptrdiff_t ld, ld_slot, ldg; /* strides of weights, slots, gradient */
    void *w;
    void *slot[FBP_MAX_SLOTS];
    const void *g;
    const struct fbp_rule *rule;
};

/* Loss and its gradient for m rows of n outputs. Dense targets by row pointers, or integer labels. */
struct fbp_loss_rows {
    size_t m, n;
    const void *out;            /* (m, n), stride ldo */
    ptrdiff_t ldo;
    const void *const *target;  /* m pointers to rows of n / outputs_per_target reals, or NULL */
    const int64_t *label;       /* m labels in 0 .. n-1, or NULL */
    double scale;               /* 1 / batch rows, or 1 / the sum of their weights */
    const double *weight;       /* m: of each row, in its loss and gradient; NULL: all 1 */
    double a;                   /* parameter of the loss */
    double *loss;               /* m: the loss of each row times its weight, not yet times scale */
    void *grad;                 /* (m, n), stride ldg: dE/dO, or NULL; not out, which is read twice */
    ptrdiff_t ldg;
};

/* Z = X op Y by rows, or one input's part of dZ. x[i step_x] is row i of X, so that step 0 repeats one row. */
struct fbp_binary {
    size_t m, n;
    void *c;
    ptrdiff_t ldc;
    const void *d;              /* dZ; NULL forward */
    ptrdiff_t ldd;
    const void *const *x, *const *y;
    size_t step_x, step_y;
    int add;                    /* to what is in c */
};
typedef void fbp_binary_fn(const struct fbp_binary *);
struct fbp_binary_kernels {
    fbp_binary_fn *forward, *backward[2];       /* the second: what X, and what Y receives */
};
enum fbp_operation { FBP_PLUS, FBP_MINUS, FBP_TIMES, FBP_OVER, FBP_LARGER, FBP_SMALLER, FBP_OPERATIONS };

/* X^ = (X - mean) scale and Z = gain X^ + shift for m rows of n. */
struct fbp_norm {
    size_t m, n;
    const void *const *x;
    void *c;
    ptrdiff_t ldc;
    void *kept;                 /* X^, stride ldk, or NULL */
    ptrdiff_t ldk;
    const void *mean;           /* by columns: a row of means */
    void *scale;                /* by columns: a row of scales; by rows: where those of the m rows go, or NULL */
    const void *gain, *shift;   /* rows; shift NULL: none */
    double eps;
    int centered;               /* by rows: the mean is taken off */
};
/* dX from dZ. */
struct fbp_norm_grad {
    size_t m, n;
    const void *d, *kept;       /* dZ and X^ */
    ptrdiff_t ldd, ldk;
    const void *gain, *scale;
    const void *mean, *mean_product;    /* by columns: those of dZ and dZ X^ over the batch */
    void *c;
    ptrdiff_t ldc;
    int centered, add;
};
/* Sums over k rows of n columns, a0 being the first of A's. */
struct fbp_columns {
    size_t k, n;
    const void *const *a;
    ptrdiff_t a0;
    const void *b;              /* stride ldb, or NULL */
    ptrdiff_t ldb;
    const void *center;         /* NULL, or a row */
    void *sum, *product;        /* or NULL */
    int more;                   /* added to what is there */
    int goes_on;                /* what is there are the chains over rows before, which go on */
};

struct fbp_dropout {
    size_t m, n, first;         /* row `first` of the batch is row 0 here */
    const void *const *x;
    void *c, *kept;             /* X kept, and 0 or 1 / (1 - rate) */
    ptrdiff_t ldc, ldk;
    double rate;
    uint32_t limit;             /* floor(rate 2^32): words below it drop their element */
    uint64_t seed;
    uint32_t stream, step;
};

enum fbp_act {
    FBP_IDENTITY, FBP_SIGMOID, FBP_RELU_ACT, FBP_TANH, FBP_SOFTMAX, FBP_SOFTPLUS, FBP_LEAKY_RELU, FBP_ELU, FBP_SELU, FBP_SOFTSIGN,
    FBP_GELU, FBP_GELU_TANH, FBP_SILU, FBP_MISH, FBP_HARD_SIGMOID, FBP_HARD_SWISH, FBP_RELU6, FBP_EXP, FBP_SIN, FBP_LOG_SOFTMAX,
    FBP_SQUARE, FBP_RECIPROCAL, FBP_LOG, FBP_NEGATIVE, FBP_POWER,
    FBP_CUSTOM,                 /* the user's own: the plan calls it */
    FBP_ACT_COUNT
};
enum fbp_loss {
    FBP_SQUARED_ERROR, FBP_CROSS_ENTROPY, FBP_ABSOLUTE_ERROR, FBP_HUBER, FBP_LOG_COSH, FBP_QUANTILE, FBP_BINARY_CROSS_ENTROPY,
    FBP_HINGE, FBP_BINARY_HINGE, FBP_POISSON, FBP_GAUSSIAN_NLL, FBP_LOSS_COUNT
};
enum fbp_optimizer { FBP_SGD, FBP_MOMENTUM, FBP_NESTEROV, FBP_ADAM, FBP_RMSPROP, FBP_ADAGRAD, FBP_OPTIMIZER_COUNT };

/* One row per activation. Both functions work on whole rows; tilewise ones also on any tile of them. */
struct fbp_act_kernels {
    const char *name;
    int tilewise;               /* element by element: may be applied tile by tile */
    int epilogue, epilogue_grad;/* the epilogues that do it in registers, FBP_STORE where there is none */
    int keeps;                  /* f' cannot be had from O: forward, where o is not NULL, leaves f'(x) there for backward */
    double parameter;           /* the usual value of its parameter a; NAN where it has none */
    fbp_tile_fn *forward;       /* c = f(x)                                            ; NULL: identity, custom */
    fbp_tile_fn *backward;      /* c = x * f'(z), taken from o: O, or the slopes kept  ; NULL: identity */
};

struct fbp_loss_kernels {
    const char *name;
    int labels;                 /* takes integer labels */
    int outputs_per_target;     /* columns of out for one of the target */
    double parameter;           /* the usual value of its parameter a; NAN where it has none */
    double least, most;         /* targets lie between them; infinite: any finite number */
    void (*rows)(const struct fbp_loss_rows *);
};

struct fbp_optimizer_kernels {
    const char *name;
    int slots;
    int corrected;              /* its means begin at 0, which rate and eps of step t make up for */
    int epilogue;               /* FBP_AXPY where a plain update is W - rate dW, else FBP_STORE */
    void (*update)(const struct fbp_update *);
};

struct fbp_kernels {
    const char *isa, *dtype;
    size_t size;                /* bytes of a real */
    size_t mr, nr, lanes;       /* tile rows, tile (panel) columns, reals in a register */
    void (*gemm_rows)(const struct fbp_gemm *);
    void (*gemm_rows_transposed)(const struct fbp_gemm *);
    void (*gemm_cols)(const struct fbp_gemm *);
    /* W (rows x cols, stride ldw) into its panels wp, `panel` apart, see struct fbp_gemm, and back. */
    void (*pack)(void *w, ptrdiff_t ldw, size_t rows, size_t cols, void *wp, ptrdiff_t panel);
    void (*unpack)(void *w, ptrdiff_t ldw, size_t rows, size_t cols, void *wp, ptrdiff_t panel);
    /* to (cols x rows, stride ld) = the transpose of columns a0 .. a0 + cols of rows; up to a register is written past the rows, and past
     * the columns as many rows as it has reals. NULL: gemm_cols is as fast as gemm_rows with what it is given transposed. */
    void (*turn)(const void *const *a, ptrdiff_t a0, size_t rows, size_t cols, void *to, ptrdiff_t ld);
    /* c (m x n) = c + x */
    void (*add_rows)(void *c, ptrdiff_t ldc, const void *x, ptrdiff_t ldx, size_t m, size_t n);
    struct fbp_binary_kernels binary[FBP_OPERATIONS];
    void (*normalize_rows)(const struct fbp_norm *);
    void (*normalize_columns)(const struct fbp_norm *);
    void (*normalize_rows_grad)(const struct fbp_norm_grad *);
    void (*normalize_columns_grad)(const struct fbp_norm_grad *);
    void (*column_sums)(const struct fbp_columns *);
    void (*column_means)(size_t n, const void *sum, double m, void *mean);
    void (*column_scales)(size_t n, const void *variance, double eps, void *scale);
    void (*move_average)(size_t n, void *running, const void *x, double momentum, double factor);
    void (*dropout)(const struct fbp_dropout *);
    /* The sum of the squares of n reals. */
    double (*sum_squares)(const void *x, size_t n);
    /* Columns of w (rows x cols, stride ldw) whose norm is larger than `most` are shrunk to it. */
    void (*limit_norms)(void *w, ptrdiff_t ldw, size_t rows, size_t cols, double most);
    struct fbp_act_kernels act[FBP_ACT_COUNT];
    struct fbp_loss_kernels loss[FBP_LOSS_COUNT];
    struct fbp_optimizer_kernels optimizer[FBP_OPTIMIZER_COUNT];
    /* n rounds of independent FMAs that fill every pipe; returns the floating-point operations done. */
    double (*fma_loop)(size_t n);
};

/* The table for "avx512", "avx2", "neon" or "base" and a dtype of fbp.h; NULL where it was not built in or the CPU lacks it. */
const struct fbp_kernels *fbp_kernels_find(const char *isa, int dtype);
/* The best table of this CPU, or the one FASTBP_ISA asks for. */
const struct fbp_kernels *fbp_kernels_default(int dtype);
/* Name number i of those the CPU has, best first; NULL past the end. */
const char *fbp_kernels_isa(size_t i);

#endif
