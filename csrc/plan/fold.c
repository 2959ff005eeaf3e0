/* fold.c: prediction with a batch norm that follows a dense gate. Its statistics are then numbers of state, so both are one product:
 * gain s ((X W + b) - mean) + shift = X (W s') + (b - mean) s' + shift, s' = gain / sqrt(var + eps) for each column. */
#include "plan.h"

/* c = x op y, rows of n; c may be one of the two. */
static void row_op(const struct fbp_plan *plan, enum fbp_operation op, void *c, const void *x, const void *y, size_t n)
{
    plan->kernels->binary[op].forward(&(struct fbp_binary){.m = 1, .n = n, .c = c, .x = &x, .y = &y});
}

/* Which batch norms can be folded: those whose input is a dense gate that nothing else needs. */
void fbp_fold_find(struct fbp_plan *plan)
{
    for (int c = 0; c < plan->cuts; c++) {
        struct gate *norm = &plan->gate[plan->cut[c]], *dense = &plan->gate[norm->in[0].from];
        if (dense->kind != FBP_GATE_DENSE || dense->act != FBP_IDENTITY || dense->consumers != 1 || dense->output) continue;
        norm->folds = 1;
        dense->folded = 1;
    }
}

void fbp_fold_layout(struct fbp_plan *plan, struct gate *norm)
{
    const struct gate *dense = &plan->gate[norm->in[0].from];
    const size_t nr = plan->kernels->nr, size = plan->kernels->size;
    if (!norm->folds) return;
    norm->folded_weights = fbp_arena_cut(&plan->store, (dense->units + nr - 1) / nr * nr, dense->weights, size);
    norm->folded_bias = fbp_arena_cut(&plan->store, 2, norm->ld, size);
}

/* The folded weights, where training or the caller may have changed what they are made of. */
void fbp_fold(struct fbp_plan *plan)
{
    const fbp_float_mode mode = fbp_float_enter();
    for (int c = 0; c < plan->cuts; c++) {
        const struct gate *norm = &plan->gate[plan->cut[c]], *dense = &plan->gate[norm->in[0].from];
        if (!norm->folds) continue;
        const size_t n = norm->width, step = fbp_in_panels(plan, dense) ? plan->kernels->nr : n;
        const char *mean = fbp_at(plan, plan->state, norm->state), *variance = fbp_at(plan, mean, n);
        const char *gain = fbp_at(plan, plan->params, norm->w), *shift = fbp_at(plan, gain, n);
        const struct fbp_weights w = fbp_weights_of(plan, dense);
        char *bias = norm->folded_bias, *scale = fbp_at(plan, bias, norm->ld);
        plan->kernels->column_scales(n, variance, norm->setting[0], scale);
        row_op(plan, FBP_TIMES, scale, scale, gain, n);
        for (size_t j = 0; j < n; j += step)
            for (size_t i = 0; i < dense->weights; i++) {
                const size_t at = j / step * (size_t)w.panel + i * (size_t)w.ldb;
                row_op(plan, FBP_TIMES, fbp_at(plan, norm->folded_weights, at), fbp_at(plan, w.b, at), fbp_at(plan, scale, j),
                       fbp_min(step, n - j));
            }
        if (dense->bias) {
            row_op(plan, FBP_MINUS, bias, fbp_at(plan, plan->params, dense->w + dense->weights * n), mean, n);
            row_op(plan, FBP_TIMES, bias, bias, scale, n);
            row_op(plan, FBP_PLUS, bias, bias, shift, n);
        } else {
            row_op(plan, FBP_TIMES, bias, mean, scale, n);
            row_op(plan, FBP_MINUS, bias, shift, bias, n);
        }
    }
    fbp_float_leave(mode);
    plan->fold_due = 0;
}
