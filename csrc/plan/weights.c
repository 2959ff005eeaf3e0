/* weights.c: phase B. Every thread takes blocks of dW of any gate: the product over the whole batch, then, while the block is
 * in L1, the update and the refresh of its packed copies. No thread ever adds another's partial sums. */
#include <stdlib.h>

#include "plan.h"

#define UNIT_ROWS 96                /* rows of W in a unit: a multiple of every tile height and register length */
#define BLOCK_UNITS 2               /* units pass over blocks of W of so many units in height and panels in width, for which the */
#define BLOCK_PANELS 8              /* columns of X and dZ lie in L2 together (256 batch rows of float32: 448 KiB) */
#define MAX_PANEL_BYTES 128         /* nr reals */

static void *at(const struct fbp_plan *plan, void *base, size_t reals) { return (char *)base + reals * plan->kernels->size; }

/* The units of all dense gates, with the cost of those before each; returns an fbp_status. */
int fbp_weights_units(struct fbp_plan *plan)
{
    const size_t nr = plan->kernels->nr;
    size_t count = 0;
    for (int g = 0; g < plan->gates; g++) {
        const struct gate *gate = &plan->gate[g];
        if (gate->kind == FBP_GATE_DENSE)
            count += ((gate->width + nr - 1) / nr) * ((gate->inputs + UNIT_ROWS - 1) / UNIT_ROWS);
    }
    if (count > INT32_MAX) return FBP_TOO_LARGE;
    plan->unit = calloc(count + 1, sizeof *plan->unit);
    if (plan->unit == NULL) return FBP_NO_MEMORY;
    struct unit *u = plan->unit;
    double before = 0;
    for (int g = 0; g < plan->gates; g++) {
        const struct gate *gate = &plan->gate[g];
        if (gate->kind != FBP_GATE_DENSE) continue;
        for (size_t jb = 0; jb < gate->width; jb += BLOCK_PANELS * nr)
            for (size_t ib = 0; ib < gate->inputs; ib += BLOCK_UNITS * UNIT_ROWS)
                for (size_t j = jb; j < fbp_min(jb + BLOCK_PANELS * nr, gate->width); j += nr)
                    for (size_t i = ib; i < fbp_min(ib + BLOCK_UNITS * UNIT_ROWS, gate->inputs); i += UNIT_ROWS, u++) {
                        const size_t i1 = fbp_min(i + UNIT_ROWS, gate->inputs);
                        *u = (struct unit){.gate = g, .i0 = i, .i1 = i1, .j0 = j, .j1 = fbp_min(j + nr, gate->width),
                                           .bias = i1 == gate->inputs, .before = before};
                        u->cost = (double)(u->i1 - u->i0 + (size_t)u->bias) * (double)(u->j1 - u->j0);
                        before += u->cost;
                    }
    }
    plan->units = (int)(u - plan->unit);
    return FBP_OK;
}

static void refresh_block(const struct fbp_plan *plan, struct gate *gate, size_t i0, size_t i1, size_t j0, size_t j1, int transposed)
{
    const struct fbp_kernels *k = plan->kernels;
    const void *w = at(plan, plan->params, gate->w);
    const ptrdiff_t ldw = (ptrdiff_t)gate->width;
    if (gate->wp) k->pack(w, ldw, gate->inputs, i0, i1, j0, j1, gate->width, gate->wp);
    if (transposed) k->pack_transposed(w, ldw, gate->inputs, i0, i1, j0, j1, gate->width, gate->wt);
}

/* Makes the packed copies agree with params, where they may not. */
void fbp_weights_refresh(struct fbp_plan *plan, int inputs_wanted)
{
    const int stale = atomic_exchange(&plan->touched, atomic_load(&plan->exports) > 0);
    for (int g = 0; g < plan->gates; g++) {
        struct gate *gate = &plan->gate[g];
        if (gate->kind != FBP_GATE_DENSE) continue;
        const int wanted = inputs_wanted || plan->gate[gate->in[0]].wanted;
        if (stale) gate->wt_fresh = 0;
        const int transposed = wanted && !gate->wt_fresh;
        if (!transposed && !(stale && gate->wp)) continue;
        refresh_block(plan, gate, 0, gate->inputs, 0, gate->width, transposed);
        if (transposed) gate->wt_fresh = 1;
    }
}

/* dW of a unit's rows and its bias row over the batch: S, cut every FBP_REDUCTION_ROWS rows and the parts added in order. */
static void unit_product(const struct fbp_plan *plan, const struct workspace *ws, size_t rows, const struct unit *u, char *c,
                         ptrdiff_t ldc, int epilogue, char *bias)
{
    const struct fbp_kernels *k = plan->kernels;
    const struct gate *gate = &plan->gate[u->gate];
    _Alignas(64) char part[MAX_PANEL_BYTES];
    for (size_t r = 0; r < rows || r == 0; r += FBP_REDUCTION_ROWS) {
        const size_t count = fbp_min(rows - r, FBP_REDUCTION_ROWS);
        const char *dz = at(plan, ws->gate[u->gate].grad, r * gate->ld + u->j0);
        k->gemm_cols(&(struct fbp_gemm){
            .m = u->i1 - u->i0, .n = u->j1 - u->j0, .k = count,
            .a = ws->gate[gate->in[0]].out_row + r, .a0 = (ptrdiff_t)u->i0,
            .b = dz, .ldb = (ptrdiff_t)gate->ld, .panel = (ptrdiff_t)k->nr,
            .c = c, .ldc = ldc,
            .epilogue = r == 0 ? epilogue : FBP_ADD, .alpha = plan->hyper[0]});
        if (!u->bias) continue;
        k->col_sums(dz, (ptrdiff_t)gate->ld, count, u->j1 - u->j0, r == 0 ? bias : part);
        if (r > 0) k->add_rows(bias, 0, part, 0, 1, u->j1 - u->j0);
    }
}

static void run_unit(struct fbp_plan *plan, const struct workspace *ws, size_t rows, enum phase_b what, const struct unit *u)
{
    struct gate *gate = &plan->gate[u->gate];
    const struct fbp_optimizer_kernels *optimizer = plan->optimizer >= 0 ? &plan->kernels->optimizer[plan->optimizer] : NULL;
    const size_t block = gate->w + u->i0 * gate->width + u->j0, bias = gate->w + gate->inputs * gate->width + u->j0;
    const ptrdiff_t ld = (ptrdiff_t)gate->width, ldg = (ptrdiff_t)plan->kernels->nr;
    const size_t weights = u->i1 - u->i0;
    if (what == FBP_GRADIENTS) {
        unit_product(plan, ws, rows, u, at(plan, plan->grads, block), ld, FBP_STORE, at(plan, plan->grads, bias));
        return;
    }
    _Alignas(64) char scratch[(UNIT_ROWS + 1) * MAX_PANEL_BYTES];   /* dW of the unit, bias row last */
    char *const bias_gradient = at(plan, scratch, weights * plan->kernels->nr);
    struct fbp_update update = {.rows = weights + (size_t)u->bias, .cols = u->j1 - u->j0, .ld = ld, .ldg = ldg,
                                .w = at(plan, plan->params, block), .g = scratch, .hyper = plan->hyper};
    if (what == FBP_UPDATE) {
        update.g = at(plan, plan->grads, block);
        update.ldg = ld;
    } else if (optimizer->epilogue == FBP_AXPY && rows <= FBP_REDUCTION_ROWS) {
        unit_product(plan, ws, rows, u, update.w, ld, FBP_AXPY, bias_gradient);
        update.rows = (size_t)u->bias;                              /* the weights are done, the bias row is not */
        update.w = at(plan, plan->params, bias);
        update.g = bias_gradient;
    } else {
        unit_product(plan, ws, rows, u, scratch, ldg, FBP_STORE, bias_gradient);
    }
    for (int s = 0; s < optimizer->slots; s++) update.slot[s] = at(plan, plan->slot[s], block);
    optimizer->update(&update);
    refresh_block(plan, gate, u->i0, u->i1, u->j0, u->j1, plan->gate[gate->in[0]].wanted);
}

void fbp_weights_phase(struct fbp_plan *plan, const struct workspace *ws, size_t rows, enum phase_b what, int thread, int threads)
{
    if (plan->units == 0) return;
    const struct unit *last = &plan->unit[plan->units - 1];
    const double share = (last->before + last->cost) / threads;
    for (const struct unit *u = plan->unit; u <= last; u++) {
        const double middle = u->before + 0.5 * u->cost;
        if (middle < thread * share) continue;
        if (thread + 1 < threads && middle >= (thread + 1) * share) break;
        run_unit(plan, ws, rows, what, u);
    }
    if (thread != 0 || what == FBP_GRADIENTS) return;
    for (int g = 0; g < plan->gates; g++)                           /* copies that this phase does not keep up to date */
        if (plan->gate[g].kind == FBP_GATE_DENSE && !plan->gate[plan->gate[g].in[0]].wanted) plan->gate[g].wt_fresh = 0;
}
