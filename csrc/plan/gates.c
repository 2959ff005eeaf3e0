/* gates.c: phase A. Rows r0 .. r1 of a batch go forward through all gates, and the error signal comes back down. Weights are
 * only read, and every element is one chain whatever the rows, so any split of the rows gives the same bits. */
#include <math.h>
#include <string.h>

#include "../base/clock.h"
#include "plan.h"

#define CROWD 16                    /* rows: more than a cache has ways */

static size_t bytes(const struct fbp_plan *plan, size_t reals) { return reals * plan->kernels->size; }

static int64_t source_row(const struct pass *p, size_t r)
{
    return p->order ? p->order[p->first + (int64_t)r] : p->first + (int64_t)r;
}

static char *out_at(const struct pass *p, int g, size_t r)
{
    return p->ws->gate[g].out + bytes(p->plan, r * p->ws->gate[g].ld);
}

static char *grad_at(const struct pass *p, int g, size_t r)
{
    return p->ws->gate[g].grad + bytes(p->plan, r * p->plan->gate[g].ld);
}

static void copy_rows(const struct fbp_plan *plan, char *to, size_t ld_to, const void *const *from, size_t m, size_t n)
{
    for (size_t r = 0; r < m; r++) memcpy(to + bytes(plan, r * ld_to), from[r], bytes(plan, n));
}

/* O = f(Z) in place, for the gates whose product did not do it. */
static void activate(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct gate *gate = &p->plan->gate[g];
    const struct fbp_act_kernels *act = &p->plan->kernels->act[gate->act];
    if (act->forward) act->forward(out_at(p, g, r0), (ptrdiff_t)p->ws->gate[g].ld, NULL, 0, r1 - r0, gate->width, act->parameter);
}

/* dZ = dO f'(Z) in place. */
static void deactivate(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct gate *gate = &p->plan->gate[g];
    const struct fbp_act_kernels *act = &p->plan->kernels->act[gate->act];
    if (act->backward)
        act->backward(grad_at(p, g, r0), (ptrdiff_t)gate->ld, out_at(p, g, r0), (ptrdiff_t)p->ws->gate[g].ld, r1 - r0,
                      gate->width, act->parameter);
}

static int gradient_wanted(const struct pass *p, int g) { return p->inputs_wanted || p->plan->gate[g].wanted; }

/* ---- dense: O = f([X 1] W),  dX = dZ W^T ------------------------------------------------------------------------------ */

static void dense_forward(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const struct fbp_act_kernels *act = &plan->kernels->act[gate->act];
    const struct fbp_weights w = fbp_weights_of(plan, gate);
    const int in_registers = act->epilogue != FBP_STORE;
    plan->kernels->gemm_rows(&(struct fbp_gemm){
        .m = r1 - r0, .n = gate->width, .k = gate->inputs,
        .a = p->ws->gate[gate->in[0]].out_row + r0,
        .b = w.b, .ldb = w.ldb, .panel = w.panel,
        .start = plan->params + bytes(plan, gate->w + gate->inputs * gate->width),      /* the bias row */
        .c = out_at(p, g, r0), .ldc = (ptrdiff_t)p->ws->gate[g].ld,
        .epilogue = act->epilogue,
        .after = act->tilewise && !in_registers ? act->forward : NULL,
        .after_parameter = act->parameter});
    if (!act->tilewise) activate(p, g, r0, r1);
}

static void dense_backward(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const int to = gate->in[0];
    const struct gate *below = &plan->gate[to];
    const struct fbp_act_kernels *act = &plan->kernels->act[below->act];
    const int in_registers = act->epilogue_grad != FBP_STORE;
    if (!gradient_wanted(p, to)) return;
    char *c = grad_at(p, to, r0);
    const struct fbp_weights w = fbp_weights_of(plan, gate);
    plan->kernels->gemm_rows_transposed(&(struct fbp_gemm){
        .m = r1 - r0, .n = gate->inputs, .k = gate->width,
        .a = p->ws->gate[g].grad_row + r0,
        .b = w.b, .ldb = w.ldb, .panel = w.panel,
        .start = gate->first[0] ? NULL : c, .ldstart = (ptrdiff_t)below->ld,
        .c = c, .ldc = (ptrdiff_t)below->ld,
        .epilogue = gate->last[0] ? act->epilogue_grad : FBP_STORE,
        .o = out_at(p, to, r0), .ldo = (ptrdiff_t)p->ws->gate[to].ld,
        .after = gate->last[0] && act->tilewise && !in_registers ? act->backward : NULL,
        .after_parameter = act->parameter});
    if (gate->last[0] && !act->tilewise) deactivate(p, to, r0, r1);
}

/* ---- activation: O = f(X);  add: O = f(X0 + X1): each input receives dZ --------------------------------------------------- */

static void hand_on(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    for (int e = 0; e < FBP_GATE_INPUTS && gate->in[e] >= 0; e++) {
        const int to = gate->in[e];
        const ptrdiff_t ld_to = (ptrdiff_t)plan->gate[to].ld;
        if (!gradient_wanted(p, to)) continue;
        if (gate->first[e])
            copy_rows(plan, grad_at(p, to, r0), (size_t)ld_to, p->ws->gate[g].grad_row + r0, r1 - r0, gate->width);
        else
            plan->kernels->add_rows(grad_at(p, to, r0), ld_to, grad_at(p, g, r0), (ptrdiff_t)gate->ld, r1 - r0, gate->width);
        if (gate->last[e]) deactivate(p, to, r0, r1);
    }
}

static void activation_forward(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct gate *gate = &p->plan->gate[g];
    copy_rows(p->plan, out_at(p, g, r0), p->ws->gate[g].ld, p->ws->gate[gate->in[0]].out_row + r0, r1 - r0, gate->width);
    activate(p, g, r0, r1);
}

static void add_forward(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const void **other = p->ws->gate[gate->in[1]].out_row;
    copy_rows(plan, out_at(p, g, r0), p->ws->gate[g].ld, p->ws->gate[gate->in[0]].out_row + r0, r1 - r0, gate->width);
    for (size_t r = r0; r < r1; r++) plan->kernels->add_rows(out_at(p, g, r), 0, other[r], 0, 1, gate->width);
    activate(p, g, r0, r1);
}

/* One row per kind of gate. */
typedef void gate_fn(const struct pass *p, int g, size_t r0, size_t r1);
static const struct {
    gate_fn *forward, *backward;
} gates[FBP_GATE_COUNT] = {
    [FBP_GATE_INPUT] = {NULL, NULL},
    [FBP_GATE_DENSE] = {dense_forward, dense_backward},
    [FBP_GATE_ACTIVATION] = {activation_forward, hand_on},
    [FBP_GATE_ADD] = {add_forward, hand_on},
};

#define POLL_SECONDS 0.02

/* Whether the step is given up; asks the caller every POLL_SECONDS. */
static int stopped(struct pass *p)
{
    if (p->stop == NULL) return 0;
    if (p->interrupted && fbp_seconds() - *p->polled > POLL_SECONDS) {
        *p->polled = fbp_seconds();
        if (p->interrupted()) atomic_store(p->stop, 1);
    }
    return atomic_load(p->stop);
}

/* ---- the passes --------------------------------------------------------------------------------------------------------- */

/* Rows a multiple of 4 KiB apart fall into the same sets of the caches: copying them costs less than that. */
static int crowded(const struct fbp_array *x, size_t rows) { return rows >= CROWD && x->row_stride % 4096 == 0 && x->row_stride; }

/* Inputs stay where they are when their rows can be used in place; otherwise a block of rows is converted. */
static void load_inputs(const struct pass *p, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    for (int g = 0; g < plan->gates; g++) {
        if (plan->gate[g].kind != FBP_GATE_INPUT) continue;
        const struct fbp_array *x = &p->x[plan->gate[g].input];
        struct buffers *b = &p->ws->gate[g];
        const int in_place = !p->keep && fbp_array_in_place(x, plan->dtype, plan->kernels->size) && !crowded(x, r1 - r0);
        for (size_t r = r0; r < r1; r++) {
            if (in_place) {
                b->out_row[r] = x->data + source_row(p, r) * x->row_stride;
            } else {
                b->out_row[r] = out_at(p, g, r);
                fbp_array_convert(x, source_row(p, r), plan->dtype, out_at(p, g, r));
            }
        }
    }
}

void fbp_pass_forward(struct pass *p, size_t r0, size_t r1)
{
    load_inputs(p, r0, r1);
    for (int g = 0; g < p->plan->gates && !stopped(p); g++)
        if (gates[p->plan->gate[g].kind].forward) gates[p->plan->gate[g].kind].forward(p, g, r0, r1);
}

static void load_targets(const struct pass *p, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct fbp_array *y = p->y;
    struct workspace *ws = p->ws;
    const struct gate *out = &plan->gate[plan->gates - 1];
    const int in_place = fbp_array_in_place(y, plan->dtype, plan->kernels->size);
    for (size_t r = r0; p->labels && r < r1; r++) {
        const int64_t label = fbp_label(y, source_row(p, r));
        const int good = label >= 0 && label < (int64_t)out->width;
        ws->label[r] = good ? label : 0;
        if (!good) atomic_store(p->bad, FBP_BAD_LABEL);                 /* the caller's array changed under us */
    }
    for (size_t r = r0; !p->labels && r < r1; r++) {
        const int64_t row = source_row(p, r);
        if (in_place) {
            ws->target[r] = y->data + row * y->row_stride;
        } else {
            char *copy = ws->target_copy + bytes(plan, r * out->ld);
            fbp_array_convert(y, row, plan->dtype, copy);
            ws->target[r] = copy;
        }
    }
}

/* Losses of the rows, and delta of the output gate. */
void fbp_pass_loss(const struct pass *p, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const int g = plan->gates - 1;
    const struct gate *out = &plan->gate[g];
    load_targets(p, r0, r1);
    plan->kernels->loss[plan->loss].rows(&(struct fbp_loss_rows){
        .m = r1 - r0, .n = out->width,
        .out = out_at(p, g, r0), .ldo = (ptrdiff_t)p->ws->gate[g].ld,
        .target = p->ws->target + r0,
        .label = p->labels ? p->ws->label + r0 : NULL,
        .scale = 1.0 / (double)p->rows,
        .a = plan->kernels->loss[plan->loss].parameter,
        .loss = p->ws->loss + r0,
        .grad = grad_at(p, g, r0), .ldg = (ptrdiff_t)out->ld});
    for (size_t r = r0; !p->labels && r < r1; r++)  /* a target that is not finite shows in the loss, so only then look closer */
        if (!isfinite(p->ws->loss[r]) && !fbp_row_finite(p->ws->target[r], plan->dtype, (size_t)p->y->cols))
            atomic_store(p->bad, FBP_BAD_TARGET);
    deactivate(p, g, r0, r1);
}

/* Delta of the output gate from a gradient the caller gives. */
void fbp_pass_delta(const struct pass *p, const struct fbp_array *dout, size_t r0, size_t r1)
{
    const int g = p->plan->gates - 1;
    for (size_t r = r0; r < r1; r++) fbp_array_convert(dout, (int64_t)r, p->plan->dtype, grad_at(p, g, r));
    deactivate(p, g, r0, r1);
}

void fbp_pass_backward(struct pass *p, size_t r0, size_t r1)
{
    for (int g = p->plan->gates - 1; g >= 0 && !stopped(p); g--)
        if (gates[p->plan->gate[g].kind].backward) gates[p->plan->gate[g].kind].backward(p, g, r0, r1);
}
