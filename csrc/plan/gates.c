/* gates.c: one gate for rows r0 .. r1 of a batch: O = f(Z) forward, and backward what each of its inputs receives of dZ. */
#include <string.h>

#include "operands.h"

static size_t bytes(const struct fbp_plan *plan, size_t reals) { return reals * plan->kernels->size; }

static char *slope_at(const struct pass *p, int g, size_t r)
{
    char *slope = p->ws->gate[g].slope;
    return slope ? slope + bytes(p->plan, r * p->plan->gate[g].ld) : NULL;
}

static const void **rows_into(const struct pass *p, int g, int e, size_t r0)
{
    return p->ws->gate[p->plan->gate[g].in[e].from].out_row + r0;
}

/* n columns of each row, from column `at` on. */
static void copy_rows(const struct pass *p, char *to, size_t ld_to, const void *const *from, size_t at, size_t m, size_t n)
{
    const struct fbp_plan *plan = p->plan;
    for (size_t r = 0; r < m; r++) memcpy(to + bytes(plan, r * ld_to), (const char *)from[r] + bytes(plan, at), bytes(plan, n));
}

/* f of gate g on a tile, in place: f is that of the table. */
static void activate_tile(const struct pass *p, int g, struct fbp_tile t)
{
    const struct gate *gate = &p->plan->gate[g];
    const struct fbp_act_kernels *act = &p->plan->kernels->act[gate->act];
    t.a = gate->parameter;
    if (act->forward) act->forward(&t);
}

static struct fbp_tile out_tile(const struct pass *p, int g, size_t r, size_t j, size_t m, size_t n)
{
    char *c = fbp_out_at(p, g, r) + bytes(p->plan, j), *slope = slope_at(p, g, r);
    const ptrdiff_t ld = (ptrdiff_t)p->ws->gate[g].ld;
    return (struct fbp_tile){.m = m, .n = n, .x = c, .ldx = ld, .c = c, .ldc = ld, .o = slope ? slope + bytes(p->plan, j) : NULL,
                             .ldo = (ptrdiff_t)p->plan->gate[g].ld};
}

/* O = f(Z) in place, for the gates whose product did not do it. */
void fbp_activate(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct gate *gate = &p->plan->gate[g];
    const struct fbp_tile t = out_tile(p, g, r0, 0, r1 - r0, gate->width);
    if (gate->function == NULL) {
        activate_tile(p, g, t);
        return;
    }
    if (r0 == r1) return;
    fbp_float_leave(p->mode);
    if (gate->function(gate->context, (int64_t)t.m, (int64_t)t.n, t.c, t.o, t.ldc)) atomic_store(p->bad, FBP_STOPPED);
    (void)fbp_float_enter();
}

/* What f' is taken from: O, or the slopes that were kept. */
static char *derivative_at(const struct pass *p, int g, size_t r, ptrdiff_t *ld)
{
    char *slope = slope_at(p, g, r);
    *ld = (ptrdiff_t)(slope ? p->plan->gate[g].ld : p->ws->gate[g].ld);
    return slope ? slope : fbp_out_at(p, g, r);
}

/* dZ of gate g = d f'(Z) for columns j .. j + n of rows r .. r + m; d is the same tile of the gradient of gate `from`, which may be g. */
static void delta_tile(const struct pass *p, int g, int from, size_t r, size_t j, size_t m, size_t n)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const struct fbp_act_kernels *act = &plan->kernels->act[gate->act];
    struct fbp_tile t = {.m = m, .n = n, .a = gate->parameter};
    if (act->backward == NULL) return;
    t.x = fbp_grad_at(p, from, r) + bytes(plan, j), t.ldx = (ptrdiff_t)plan->gate[from].ld;
    t.c = fbp_grad_at(p, g, r) + bytes(plan, j), t.ldc = (ptrdiff_t)gate->ld;
    t.o = derivative_at(p, g, r, &t.ldo) + bytes(plan, j);
    act->backward(&t);
}

/* dZ = dO f'(Z) in place. */
void fbp_deactivate(const struct pass *p, int g, size_t r0, size_t r1) { delta_tile(p, g, g, r0, 0, r1 - r0, p->plan->gate[g].width); }

/* ---- dense: O = f([X 1] W),  dX = dZ W^T; matmul: the same with a constant. f and f' are done in the registers of a tile where there
 * is an epilogue for them, and else as soon as it is stored, while it is in L1. --------------------------------------------------- */

struct tiles {
    const struct pass *p;
    int g;
    size_t r0, j0;
};

static void activate_stored(const void *context, size_t i, size_t j, size_t m, size_t n)
{
    const struct tiles *t = context;
    activate_tile(t->p, t->g, out_tile(t->p, t->g, t->r0 + i, t->j0 + j, m, n));
}

static void deactivate_stored(const void *context, size_t i, size_t j, size_t m, size_t n)
{
    const struct tiles *t = context;
    delta_tile(t->p, t->g, t->g, t->r0 + i, t->j0 + j, m, n);
}

#define TAKING_STEPS 32             /* of k hide what it takes to make lines this core's own */

void fbp_product_forward(const struct pass *p, int of, int to, struct fbp_weights w, const void *bias, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const int sum = fbp_sum_of(p, of, to), end = sum ? fbp_lands(p, sum) : to, stored = !sum || fbp_output_needed(p, to) ? to : end;
    const struct gate *last = &plan->gate[end];
    const struct fbp_act_kernels *act = &plan->kernels->act[last->act];
    const int tilewise = act->tilewise && !last->function;
    const size_t j0 = p->j0, j1 = p->j1 ? p->j1 : last->width;
    const int takes = p->contended && p->j1 == 0 && plan->gate[of].weights >= TAKING_STEPS && fbp_gradient_wanted(p, stored);
    plan->kernels->gemm_rows(&(struct fbp_gemm){
        .m = r1 - r0, .n = j1 - j0, .k = plan->gate[of].weights,
        .a = rows_into(p, of, 0, r0),
        .b = j0 ? w.b + bytes(plan, j0 / plan->kernels->nr * (size_t)w.panel) : w.b, .ldb = w.ldb, .panel = w.panel,
        .a0 = 0, .start = bias ? fbp_at(plan, bias, j0) : NULL, .ldstart = 0,
        .c = fbp_out_at(p, stored, r0) + bytes(plan, j0), .ldc = (ptrdiff_t)p->ws->gate[stored].ld,
        .epilogue = plan->kernels->act[plan->gate[to].act].epilogue, .alpha = 0, .o = NULL, .ldo = 0,
        .second = !sum ? FBP_NO_SECOND : act->epilogue == FBP_RELU ? FBP_SUM_RELU : FBP_SUM,
        .x = sum ? rows_into(p, sum, plan->gate[sum].in[0].from == to, r0) : NULL,
        .c2 = fbp_out_at(p, end, r0), .ldc2 = (ptrdiff_t)p->ws->gate[end].ld,
        .after = tilewise && act->forward && act->epilogue == FBP_STORE ? activate_stored : NULL,
        .context = &(struct tiles){p, end, r0, j0}, .sums = NULL, .more = 0,
        .next = takes ? fbp_grad_at(p, stored, r0) : NULL, .ldnext = (ptrdiff_t)plan->gate[stored].ld});
    if (!tilewise) fbp_activate(p, end, r0, r1);
}

static void dense_forward(const struct pass *p, int g, int to, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const void *bias = gate->bias ? plan->params + bytes(plan, gate->w + gate->weights * gate->width) : NULL;
    if (gate->folded && p->result && !fbp_seen(p, g)) return;
    fbp_product_forward(p, g, to, fbp_weights_of(plan, gate), bias, r0, r1);
}

static void dense_backward(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const struct edge *e = &gate->in[0];
    const int to = e->from;
    const struct gate *below = &plan->gate[to];
    const struct fbp_act_kernels *act = &plan->kernels->act[below->act];
    fbp_pack_delta(p, g, r0, r1);
    if (!fbp_gradient_wanted(p, to)) return;
    char *c = fbp_grad_at(p, to, r0);
    const char *start = e->start ? fbp_grad_at(p, e->start, r0) : c;    /* both gates are as wide */
    ptrdiff_t ldo;
    char *o = derivative_at(p, to, r0, &ldo);
    const struct fbp_weights w = fbp_weights_of(plan, gate);
    const int hands = e->last && below->hands && fbp_gradient_wanted(p, below->hands) ? below->hands : 0;
    plan->kernels->gemm_rows_transposed(&(struct fbp_gemm){
        .m = r1 - r0, .n = gate->weights, .k = gate->width,
        .a = p->ws->gate[g].grad_row + r0, .a0 = 0,
        .b = w.b, .ldb = w.ldb, .panel = w.panel,
        .start = e->first ? NULL : start, .ldstart = (ptrdiff_t)below->ld,
        .c = c, .ldc = (ptrdiff_t)below->ld,
        .epilogue = e->last ? act->epilogue_grad : FBP_STORE, .alpha = 0,
        .o = o, .ldo = ldo,
        .second = hands ? FBP_DELTA_RELU : FBP_NO_SECOND,
        .x = p->ws->gate[hands].out_row + r0, .c2 = fbp_grad_at(p, hands, r0), .ldc2 = (ptrdiff_t)plan->gate[hands].ld,
        .after = e->last && act->tilewise && act->backward && act->epilogue_grad == FBP_STORE ? deactivate_stored : NULL,
        .context = &(struct tiles){p, to, r0, 0}, .sums = NULL, .more = 0, .next = NULL, .ldnext = 0});
    if (e->last && !act->tilewise) fbp_deactivate(p, to, r0, r1);
}

/* ---- gates of two inputs, element by element ---------------------------------------------------------------------------------- */

/* What a sum or an activation hands on to a gate with f' that serves it alone: dZ f' on the way. Returns whether there is one. */
static int hand_on(const struct pass *p, int g, int e, size_t r0, size_t r1)
{
    const struct edge *edge = &p->plan->gate[g].in[e];
    const struct fbp_act_kernels *act = &p->plan->kernels->act[p->plan->gate[edge->from].act];
    if (!edge->first || !edge->last || act->backward == NULL) return 0;
    delta_tile(p, edge->from, g, r0, 0, r1 - r0, p->plan->gate[g].width);
    return 1;
}

static const struct fbp_binary_kernels *operation(const struct pass *p, int g)
{
    return &p->plan->kernels->binary[p->plan->gate[g].kind - FBP_GATE_ADD];
}

static void binary_forward(const struct pass *p, int g, int to, size_t r0, size_t r1)
{
    operation(p, g)->forward(&(struct fbp_binary){
        .m = r1 - r0, .n = p->plan->gate[g].width, .c = fbp_out_at(p, to, r0), .ldc = (ptrdiff_t)p->ws->gate[to].ld,
        .x = rows_into(p, g, 0, r0), .y = rows_into(p, g, 1, r0), .step_x = 1, .step_y = 1});
    fbp_activate(p, to, r0, r1);
}

static void binary_backward(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct gate *gate = &p->plan->gate[g];
    for (int e = 0; e < gate->ins; e++) {
        const int to = gate->in[e].from;
        if (!fbp_gradient_wanted(p, to) || gate->in[e].lent || p->plan->gate[to].shares == g) continue;
        if (gate->hands && gate->hands == to) continue;
        if (gate->kind == FBP_GATE_ADD && hand_on(p, g, e, r0, r1)) continue;
        operation(p, g)->backward[e](&(struct fbp_binary){
            .m = r1 - r0, .n = gate->width, .c = fbp_grad_at(p, to, r0), .ldc = (ptrdiff_t)p->plan->gate[to].ld,
            .d = fbp_grad_at(p, g, r0), .ldd = (ptrdiff_t)gate->ld, .add = !gate->in[e].first,
            .x = rows_into(p, g, 0, r0), .y = rows_into(p, g, 1, r0), .step_x = 1, .step_y = 1});
        if (gate->in[e].last) fbp_deactivate(p, to, r0, r1);
    }
}

/* ---- gates that hand columns on: activation O = f(X), concatenate, slice ------------------------------------------------------ */

static void columns_forward(const struct pass *p, int g, int to, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const size_t start = gate->kind == FBP_GATE_SLICE ? (size_t)gate->setting[0] : 0;
    for (int e = 0; e < gate->ins; e++)
        copy_rows(p, fbp_out_at(p, to, r0) + bytes(plan, gate->in[e].column), p->ws->gate[to].ld, rows_into(p, g, e, r0), start, r1 - r0,
                  fbp_min(gate->width, plan->gate[gate->in[e].from].width));
    fbp_activate(p, to, r0, r1);
}

static void activation_forward(const struct pass *p, int g, int to, size_t r0, size_t r1)
{
    const int from = p->plan->gate[g].in[0].from;
    struct fbp_tile t = out_tile(p, to, r0, 0, r1 - r0, p->plan->gate[g].width);
    if (p->plan->gate[from].kind <= FBP_GATE_CONSTANT || to != g || p->plan->kernels->act[p->plan->gate[g].act].forward == NULL) {
        columns_forward(p, g, to, r0, r1);
        return;
    }
    t.x = fbp_out_at(p, from, r0), t.ldx = (ptrdiff_t)p->ws->gate[from].ld;
    activate_tile(p, g, t);
}

/* Zeros for columns of a gradient that an edge, the first, does not write. */
void fbp_clear(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct gate *gate = &p->plan->gate[g];
    memset(fbp_grad_at(p, g, r0), 0, bytes(p->plan, (r1 - r0) * gate->ld));
}

static void columns_backward(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const size_t start = gate->kind == FBP_GATE_SLICE ? (size_t)gate->setting[0] : 0;
    for (int e = 0; e < gate->ins; e++) {
        const struct edge *edge = &gate->in[e];
        const struct gate *below = &plan->gate[edge->from];
        const size_t n = fbp_min(gate->width, below->width);
        if (!fbp_gradient_wanted(p, edge->from) || edge->lent || below->shares == g) continue;
        if (gate->kind == FBP_GATE_ACTIVATION && hand_on(p, g, e, r0, r1)) continue;
        if (edge->first && n < below->width) fbp_clear(p, edge->from, r0, r1);
        char *to = fbp_grad_at(p, edge->from, r0) + bytes(plan, start);
        if (edge->first) copy_rows(p, to, below->ld, p->ws->gate[g].grad_row + r0, edge->column, r1 - r0, n);
        else plan->kernels->add_rows(to, (ptrdiff_t)below->ld, fbp_grad_at(p, g, r0) + bytes(plan, edge->column), (ptrdiff_t)gate->ld, r1 - r0, n);
        if (edge->last) fbp_deactivate(p, edge->from, r0, r1);
    }
}

/* ---- dropout: O = X kept, kept = 0 or 1 / (1 - rate) -------------------------------------------------------------------------- */

#define STREAM_DROPOUT 16           /* of fastbp/rng.py; one for each dropout from there on */
#define KEPT_ROWS 16                /* on the way back at a time: they are in L1 when it goes on to f' */

static void dropout_forward(const struct pass *p, int g, int to, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const struct buffers *b = &p->ws->gate[g];
    if (!p->training) {
        columns_forward(p, g, to, r0, r1);
        return;
    }
    plan->kernels->dropout(&(struct fbp_dropout){
        .m = r1 - r0, .n = gate->width, .first = (size_t)p->before + r0, .x = rows_into(p, g, 0, r0),
        .c = fbp_out_at(p, to, r0), .ldc = (ptrdiff_t)p->ws->gate[to].ld,
        .kept = b->kept + bytes(plan, r0 * gate->ld), .ldk = (ptrdiff_t)gate->ld,
        .rate = gate->setting[0], .limit = (uint32_t)(gate->setting[0] * 0x1p32),
        .seed = plan->seed, .stream = (uint32_t)(STREAM_DROPOUT + gate->input), .step = (uint32_t)plan->draws});
    fbp_activate(p, to, r0, r1);
}

static void dropout_backward(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const int to = gate->in[0].from;
    if (!p->training) {
        columns_backward(p, g, r0, r1);
        return;
    }
    if (!fbp_gradient_wanted(p, to)) return;
    for (size_t r = r0, m; r < r1; r += m) {
        const void *kept[KEPT_ROWS];
        m = fbp_min(r1 - r, KEPT_ROWS);
        for (size_t i = 0; i < m; i++) kept[i] = p->ws->gate[g].kept + bytes(plan, (r + i) * gate->ld);
        plan->kernels->binary[FBP_TIMES].backward[0](&(struct fbp_binary){
            .m = m, .n = gate->width, .c = fbp_grad_at(p, to, r), .ldc = (ptrdiff_t)plan->gate[to].ld, .d = fbp_grad_at(p, g, r),
            .ldd = (ptrdiff_t)gate->ld, .x = kept, .y = kept, .step_x = 1, .step_y = 1, .add = !gate->in[0].first});
        if (gate->in[0].last) fbp_deactivate(p, to, r, r + m);
    }
}

/* ---- standardize: O = (X - mean) / deviation, both rows of state ------------------------------------------------------------------ */

static void standardize_forward(const struct pass *p, int g, int to, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const void *mean = plan->state + bytes(plan, gate->state), *deviation = plan->state + bytes(plan, gate->state + gate->width);
    plan->kernels->binary[FBP_MINUS].forward(&(struct fbp_binary){
        .m = r1 - r0, .n = gate->width, .c = fbp_out_at(p, to, r0), .ldc = (ptrdiff_t)p->ws->gate[to].ld,
        .x = rows_into(p, g, 0, r0), .step_x = 1, .y = &mean});
    for (size_t r = r0; r < r1; r++) {
        const void *centered = fbp_out_at(p, to, r);
        plan->kernels->binary[FBP_OVER].forward(&(struct fbp_binary){
            .m = 1, .n = gate->width, .c = fbp_out_at(p, to, r), .x = &centered, .y = &deviation});
    }
    fbp_activate(p, to, r0, r1);
}

static void standardize_backward(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const int to = gate->in[0].from;
    const void *deviation = plan->state + bytes(plan, gate->state + gate->width);
    if (!fbp_gradient_wanted(p, to)) return;
    plan->kernels->binary[FBP_OVER].backward[0](&(struct fbp_binary){
        .m = r1 - r0, .n = gate->width, .c = fbp_grad_at(p, to, r0), .ldc = (ptrdiff_t)plan->gate[to].ld,
        .d = fbp_grad_at(p, g, r0), .ldd = (ptrdiff_t)gate->ld, .x = &deviation, .y = &deviation, .add = !gate->in[0].first});
    if (gate->in[0].last) fbp_deactivate(p, to, r0, r1);
}

const struct fbp_gate_row fbp_gates[FBP_GATE_COUNT] = {
    [FBP_GATE_INPUT] = {NULL, NULL},
    [FBP_GATE_CONSTANT] = {NULL, NULL},
    [FBP_GATE_DENSE] = {dense_forward, dense_backward},
    [FBP_GATE_MATMUL] = {dense_forward, dense_backward},
    [FBP_GATE_ACTIVATION] = {activation_forward, columns_backward},
    [FBP_GATE_ADD] = {binary_forward, binary_backward},
    [FBP_GATE_SUBTRACT] = {binary_forward, binary_backward},
    [FBP_GATE_MULTIPLY] = {binary_forward, binary_backward},
    [FBP_GATE_DIVIDE] = {binary_forward, binary_backward},
    [FBP_GATE_MAXIMUM] = {binary_forward, binary_backward},
    [FBP_GATE_MINIMUM] = {binary_forward, binary_backward},
    [FBP_GATE_CONCATENATE] = {columns_forward, columns_backward},
    [FBP_GATE_SLICE] = {columns_forward, columns_backward},
    [FBP_GATE_DROPOUT] = {dropout_forward, dropout_backward},
    [FBP_GATE_LAYER_NORM] = {fbp_row_norm_forward, fbp_row_norm_backward},
    [FBP_GATE_RMS_NORM] = {fbp_row_norm_forward, fbp_row_norm_backward},
    [FBP_GATE_BATCH_NORM] = {fbp_batch_norm_forward, fbp_batch_norm_backward},
    [FBP_GATE_EMBEDDING] = {fbp_embedding_forward, fbp_embedding_backward},
    [FBP_GATE_STANDARDIZE] = {standardize_forward, standardize_backward},
};
