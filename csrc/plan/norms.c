/* norms.c: X^ = (X - mean) / sqrt(var + eps), Z = gain X^ + shift. layer_norm and rms_norm take the mean and the variance of a row,
 * batch_norm those of a column: of the batch in training, of state otherwise. X^ is kept for the way back and for phase B. */
#include <string.h>

#include "plan.h"

static void *kept_at(const struct pass *p, int g, size_t r)
{
    const struct buffers *b = &p->ws->gate[g];
    return b->kept ? fbp_at(p->plan, b->kept, r * p->plan->gate[g].ld) : NULL;
}

void *fbp_column_row(const struct fbp_plan *plan, const struct workspace *ws, int g, enum column_rows row, size_t j)
{
    return fbp_at(plan, ws->gate[g].statistics, (size_t)row * plan->gate[g].ld + j);
}

static struct fbp_norm norm_of(const struct pass *p, int g, int to, size_t r0, size_t r1)
{
    const struct gate *gate = &p->plan->gate[g];
    return (struct fbp_norm){
        .m = r1 - r0, .n = gate->width, .x = p->ws->gate[gate->in[0].from].out_row + r0,
        .c = fbp_out_at(p, to, r0), .ldc = (ptrdiff_t)p->ws->gate[to].ld, .kept = kept_at(p, g, r0), .ldk = (ptrdiff_t)gate->ld,
        .gain = fbp_at(p->plan, p->plan->params, gate->w), .shift = gate->bias ? fbp_at(p->plan, p->plan->params, gate->w + gate->width) : NULL,
        .eps = gate->setting[0], .centered = gate->kind != FBP_GATE_RMS_NORM};
}

static struct fbp_norm_grad norm_grad_of(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct gate *gate = &p->plan->gate[g];
    const int to = gate->in[0].from;
    return (struct fbp_norm_grad){
        .m = r1 - r0, .n = gate->width, .d = fbp_grad_at(p, g, r0), .ldd = (ptrdiff_t)gate->ld,
        .kept = kept_at(p, g, r0), .ldk = (ptrdiff_t)gate->ld, .gain = fbp_at(p->plan, p->plan->params, gate->w),
        .c = fbp_grad_at(p, to, r0), .ldc = (ptrdiff_t)p->plan->gate[to].ld,
        .centered = gate->kind != FBP_GATE_RMS_NORM, .add = !gate->in[0].first};
}

void fbp_row_norm_forward(const struct pass *p, int g, int to, size_t r0, size_t r1)
{
    struct fbp_norm f = norm_of(p, g, to, r0, r1);
    f.scale = p->ws->gate[g].statistics ? fbp_at(p->plan, p->ws->gate[g].statistics, r0) : NULL;
    p->plan->kernels->normalize_rows(&f);
    fbp_activate(p, to, r0, r1);
}

void fbp_row_norm_backward(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct edge *e = &p->plan->gate[g].in[0];
    if (!fbp_gradient_wanted(p, e->from)) return;
    struct fbp_norm_grad f = norm_grad_of(p, g, r0, r1);
    f.scale = fbp_at(p->plan, p->ws->gate[g].statistics, r0);
    p->plan->kernels->normalize_rows_grad(&f);
    if (e->last) fbp_deactivate(p, e->from, r0, r1);
}

/* ---- batch norm ------------------------------------------------------------------------------------------------------------ */

/* Sums over the rows of a batch, from those that f begins with; cut every FBP_REDUCTION_ROWS rows and added in order. */
void fbp_sum_columns(const struct fbp_plan *plan, size_t rows, struct fbp_columns f)
{
    const void *const *a = f.a, *b = f.b;
    size_t r = 0;
    do {                                                            /* also with no rows: 0 */
        f.k = fbp_min(rows - r, FBP_REDUCTION_ROWS);
        f.a = a + r;
        f.b = b ? fbp_at(plan, b, r * (size_t)f.ldb) : NULL;
        plan->kernels->column_sums(&f);
        f.more = 1;
    } while ((r += f.k) < rows);
}

/* Whether the statistics are those of the batch: else they are given, and do not depend on X. */
int fbp_batch_norm_depends(const struct fbp_plan *plan, int g, int training, size_t rows)
{
    return plan->gate[g].kind == FBP_GATE_BATCH_NORM && training && rows > 0;
}

/* Mean and scale of columns j0 .. j1: before the gate's own forward. */
void fbp_batch_norm_statistics(const struct pass *p, int g, size_t j0, size_t j1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const size_t n = j1 - j0;
    void *mean = fbp_column_row(plan, p->ws, g, FBP_MEAN, j0), *variance = fbp_column_row(plan, p->ws, g, FBP_VARIANCE, j0);
    if (fbp_batch_norm_depends(plan, g, p->training, (size_t)p->rows)) {
        const void *const *x = p->ws->gate[gate->in[0].from].out_row;
        fbp_sum_columns(plan, (size_t)p->rows, (struct fbp_columns){.n = n, .a = x, .a0 = (ptrdiff_t)j0, .sum = mean});
        plan->kernels->column_means(n, mean, (double)p->rows, mean);
        fbp_sum_columns(plan, (size_t)p->rows, (struct fbp_columns){.n = n, .a = x, .a0 = (ptrdiff_t)j0, .center = mean, .sum = variance});
        plan->kernels->column_means(n, variance, (double)p->rows, variance);
    } else {
        memcpy(mean, fbp_at(plan, plan->state, gate->state + j0), n * plan->kernels->size);
        memcpy(variance, fbp_at(plan, plan->state, gate->state + gate->width + j0), n * plan->kernels->size);
    }
    plan->kernels->column_scales(n, variance, gate->setting[0], fbp_column_row(plan, p->ws, g, FBP_SCALE, j0));
}

void fbp_batch_norm_forward(const struct pass *p, int g, int to, size_t r0, size_t r1)
{
    const struct gate *gate = &p->plan->gate[g];
    if (p->result && gate->folds) {
        struct fbp_weights w = fbp_weights_of(p->plan, &p->plan->gate[gate->in[0].from]);
        w.b = gate->folded_weights;
        fbp_product_forward(p, gate->in[0].from, to, w, gate->folded_bias, r0, r1);
        return;
    }
    struct fbp_norm f = norm_of(p, g, to, r0, r1);
    if (p->result) fbp_batch_norm_statistics(p, g, 0, p->plan->gate[g].width);    /* prediction */
    f.mean = fbp_column_row(p->plan, p->ws, g, FBP_MEAN, 0);
    f.scale = fbp_column_row(p->plan, p->ws, g, FBP_SCALE, 0);
    p->plan->kernels->normalize_columns(&f);
    fbp_activate(p, to, r0, r1);
}

/* Sums and means of dZ and dZ X^ over the batch: before the gate's own backward. With given statistics dX needs none: then the means are 0. */
void fbp_batch_norm_sums(const struct pass *p, int g, size_t j0, size_t j1)
{
    const struct fbp_plan *plan = p->plan;
    const size_t n = j1 - j0, ld = plan->gate[g].ld;
    void *delta = fbp_column_row(plan, p->ws, g, FBP_MEAN_DELTA, j0), *product = fbp_column_row(plan, p->ws, g, FBP_MEAN_PRODUCT, j0);
    void *sum = fbp_column_row(plan, p->ws, g, FBP_SUM_DELTA, j0), *sum_product = fbp_column_row(plan, p->ws, g, FBP_SUM_PRODUCT, j0);
    if (fbp_batch_norm_depends(plan, g, p->training, (size_t)p->rows)) {
        fbp_sum_columns(plan, (size_t)p->rows, (struct fbp_columns){
            .n = n, .a = p->ws->gate[g].grad_row, .a0 = (ptrdiff_t)j0,
            .b = fbp_at(plan, p->ws->gate[g].kept, j0), .ldb = (ptrdiff_t)ld, .sum = sum, .product = sum_product});
        plan->kernels->column_means(n, sum, (double)p->rows, delta);
        plan->kernels->column_means(n, sum_product, (double)p->rows, product);
    } else {
        memset(delta, 0, n * plan->kernels->size);
        memset(product, 0, n * plan->kernels->size);
    }
}

void fbp_batch_norm_backward(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct edge *e = &p->plan->gate[g].in[0];
    if (!fbp_gradient_wanted(p, e->from)) return;
    struct fbp_norm_grad f = norm_grad_of(p, g, r0, r1);
    f.scale = fbp_column_row(p->plan, p->ws, g, FBP_SCALE, 0);
    f.mean = fbp_column_row(p->plan, p->ws, g, FBP_MEAN_DELTA, 0);
    f.mean_product = fbp_column_row(p->plan, p->ws, g, FBP_MEAN_PRODUCT, 0);
    p->plan->kernels->normalize_columns_grad(&f);
    if (e->last) fbp_deactivate(p, e->from, r0, r1);
}

/* After a step: running = (1 - momentum) running + momentum batch, the variance without the bias of a sample of m rows. */
void fbp_batch_norm_remember(struct fbp_plan *plan, const struct workspace *ws, size_t rows)
{
    for (int c = 0; c < plan->cuts && rows > 0; c++) {
        const int g = plan->cut[c];
        const struct gate *gate = &plan->gate[g];
        const double unbiased = rows > 1 ? (double)rows / (double)(rows - 1) : 1, momentum = gate->setting[1];
        plan->kernels->move_average(gate->width, fbp_at(plan, plan->state, gate->state), fbp_column_row(plan, ws, g, FBP_MEAN, 0), momentum, 1);
        plan->kernels->move_average(gate->width, fbp_at(plan, plan->state, gate->state + gate->width),
                                    fbp_column_row(plan, ws, g, FBP_VARIANCE, 0), momentum, unbiased);
    }
}
