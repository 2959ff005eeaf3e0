/* weights.c: phase B. Every thread takes blocks of dW of any gate: the product over the whole batch, then, while the block is
 * in L1, the update. No thread ever adds another's partial sums. */
#include <math.h>
#include <stdlib.h>

#include "operands.h"

#define BLOCK_ROWS 512              /* batch rows whose columns of X for a unit fit L2 with room to spare */
#define WHOLE_ROWS 48               /* most rows of a unit as wide as its gate */
#define UNIT_BYTES (WHOLE_ROWS * FBP_UNPACKED_BYTES)
#define AT_ONCE_BYTES (32 << 10)    /* ... and joined ones, where each product goes through the update to W itself */
#define PIECES 16                   /* of a small dense gate, for the threads to share ... */
#define PIECE_ROWS 4                /* ... each a multiple of so many rows, */
#define NARROW_PIECE_ROWS 16        /* or where the columns do not fill a register, which then holds rows, of so many */
#define COLUMNS_MORE 8              /* the rest of the work on a row of W takes as long as so many columns */

/* Rows of a gate's units. Dense units as wide as their gate are small; a thread takes those of its share in one go. */
size_t fbp_unit_rows(const struct gate *gate)
{
    if (gate->wp) return FBP_UNIT_ROWS;
    if (gate->kind != FBP_GATE_DENSE) return gate->weights > FBP_UNIT_ROWS ? WHOLE_ROWS : WHOLE_ROWS * 2 / 3;
    const size_t piece = gate->units < NARROW_PIECE_ROWS ? NARROW_PIECE_ROWS : PIECE_ROWS;
    return fbp_min((gate->weights + PIECES * piece - 1) / (PIECES * piece) * piece, WHOLE_ROWS);
}

/* ... and columns. */
static void unit_size(const struct fbp_plan *plan, const struct gate *gate, size_t *rows, size_t *cols)
{
    *rows = fbp_unit_rows(gate);
    *cols = gate->wp ? plan->kernels->nr : fbp_min(gate->units, FBP_UNPACKED_BYTES / plan->kernels->size);
}

/* The units of all gates with parameters that are trained, with the cost of those before each; returns an fbp_status. */
int fbp_weights_units(struct fbp_plan *plan)
{
    size_t count = 0, rows, cols;                                   /* the last two of a unit */
    for (int g = 0; g < plan->gates; g++) {
        const struct gate *gate = &plan->gate[g];
        if (gate->parameters == 0 || !gate->trainable) continue;
        unit_size(plan, gate, &rows, &cols);
        count += ((gate->units + cols - 1) / cols) * ((gate->weights + rows - 1) / rows);
    }
    if (count > INT32_MAX) return FBP_TOO_LARGE;
    struct unit *unit = calloc(count + 1, sizeof *unit), *u = unit;
    if (unit == NULL) return FBP_NO_MEMORY;
    double before = 0;
    for (int g = 0; g < plan->gates; g++) {
        const struct gate *gate = &plan->gate[g];
        if (gate->parameters == 0 || !gate->trainable) continue;
        unit_size(plan, gate, &rows, &cols);
        for (size_t i = 0; i < gate->weights; i += rows)
            for (size_t j = 0; j < gate->units; j += cols, u++) {
                const size_t i1 = fbp_min(i + rows, gate->weights);
                *u = (struct unit){.gate = g, .i0 = i, .i1 = i1, .j0 = j, .j1 = fbp_min(j + cols, gate->units),
                                   .bias = gate->bias && i1 == gate->weights, .before = before,
                                   .more = gate->wp || gate->kind != FBP_GATE_DENSE ? 0 : (int)((gate->weights - i1 + rows - 1) / rows)};
                u->cost = (double)(u->i1 - u->i0 + (size_t)u->bias) * (double)(u->j1 - u->j0 + COLUMNS_MORE);
                before += u->cost;
            }
    }
    free(plan->unit);
    plan->unit = unit;
    plan->units = (int)(u - unit);
    return FBP_OK;
}

/* Row i, column j of a gate's weights, and the stride of its rows within the panel. */
static void *weights_at(const struct fbp_plan *plan, const struct gate *gate, size_t i, size_t j, ptrdiff_t *ld)
{
    const size_t nr = plan->kernels->nr;
    const struct fbp_weights w = fbp_weights_of(plan, gate);
    *ld = w.ldb;
    return fbp_at(plan, w.b, j / nr * (size_t)w.panel + i * (size_t)w.ldb + j % nr);
}

/* Copies between params and wp of all gates whose weights are there. */
static void exchange(const struct fbp_plan *plan, int into_params)
{
    const struct fbp_kernels *k = plan->kernels;
    for (int g = 0; g < plan->gates; g++) {
        const struct gate *gate = &plan->gate[g];
        if (!fbp_in_panels(plan, gate)) continue;
        (into_params ? k->unpack : k->pack)(fbp_at(plan, plan->params, gate->w), (ptrdiff_t)gate->units, gate->weights, gate->units,
                                            gate->wp, (ptrdiff_t)(k->nr * gate->weights));
    }
}

/* Makes params agree with the packed weights that training has updated, before a view of params is given out. */
void fbp_weights_publish(struct fbp_plan *plan)
{
    if (plan->behind) exchange(plan, 1);
    plan->behind = 0;
}

/* Makes packed weights agree with params, where a user may have written to them. While a view is out, that would be before every step,
 * and back after it, which takes longer than packing saves: params itself serves then. */
void fbp_weights_refresh(struct fbp_plan *plan)
{
    const int out = atomic_load(&plan->exports) > 0;
    if (!atomic_load(&plan->touched)) return;       /* which it is as long as a view is out */
    atomic_store(&plan->touched, out);
    fbp_weights_publish(plan);                      /* nothing, unless this process was forked in the middle of a step */
    plan->viewed = out;
    exchange(plan, 0);
    plan->fold_due = 1;
}

/* What waits for a unit in ws->sums or ws->totals, and for its biases. */
static char *waiting_at(const struct fbp_plan *plan, const char *all, const struct unit *u)
{
    const struct gate *gate = &plan->gate[u->gate];
    return fbp_at(plan, all, gate->w + u->i0 * gate->units + (u->i1 - u->i0) * u->j0);
}

static char *waiting_biases_at(const struct fbp_plan *plan, const char *all, const struct unit *u)
{
    const struct gate *gate = &plan->gate[u->gate];
    return fbp_at(plan, all, gate->w + gate->weights * gate->units + u->j0);
}

/* What all units of a phase have in common. */
struct phase {
    struct fbp_plan *plan;
    const struct workspace *ws;         /* NULL in an update from grads */
    size_t rows;
    int in_parts;                       /* as in the pass, and so is split */
    int64_t before;                     /* rows of the batch before these, since the last cut */
    int later;                          /* there were cuts before: totals wait */
    int training;
    int split;
    enum phase_b what;
    struct fbp_rule rule[2];            /* of weights and of biases, where there is an update */
    struct halt halt;                   /* nothing in it where weights, or what was gathered before, change: that must be done whole */
    int parts, threads;
    double split_cost;                  /* of its units, which are the first */
};
_Static_assert(sizeof(struct phase) <= FBP_CONTEXT_BYTES, "the pool copies it");

/* dW of a unit's rows and its bias row over the batch: S, cut every FBP_REDUCTION_ROWS rows and the parts added in order, to what
 * is there where the epilogue is FBP_ADD. alpha is that of FBP_AXPY. Between two cuts a chain stops every BLOCK_ROWS rows, whose
 * columns of X stay in cache for the whole unit, and goes on from where it was, as it does from what waits of earlier rows. */
static void unit_product(const struct phase *p, struct turned *turned, const struct unit *u, char *c, ptrdiff_t ldc, int epilogue,
                         double alpha, char *bias)
{
    const struct fbp_plan *plan = p->plan;
    const struct workspace *ws = p->ws;
    const struct fbp_kernels *k = plan->kernels;
    const struct gate *gate = &plan->gate[u->gate];
    const ptrdiff_t ld = (ptrdiff_t)(u->j1 - u->j0);
    const size_t rows = p->rows;
    const void *const *x = fbp_turned_rows(plan, ws, rows, u, turned);
    _Alignas(64) char own[UNIT_BYTES], part[FBP_UNPACKED_BYTES];
    char *partial = p->in_parts ? waiting_at(plan, ws->sums, u) : own;
    size_t r = 0, next;
    ptrdiff_t ldb;
    if (p->before > 0 && u->bias && bias != waiting_biases_at(plan, ws->sums, u))
        memcpy(epilogue == FBP_ADD ? part : bias, waiting_biases_at(plan, ws->sums, u), (size_t)ld * k->size);
    do {                                                            /* also with no rows: dW = 0 */
        const size_t cut = r / FBP_REDUCTION_ROWS * FBP_REDUCTION_ROWS;
        const int first = r == cut && p->before == 0, add = cut > 0 || epilogue == FBP_ADD;
        next = fbp_min(r + BLOCK_ROWS, fbp_min(rows, cut + FBP_REDUCTION_ROWS));
        const int last = next == rows || next == cut + FBP_REDUCTION_ROWS;
        struct fbp_gemm g = {
            .m = u->i1 - u->i0, .n = u->j1 - u->j0, .k = next - r,
            .a = ws->gate[gate->in[0].from].out_row + r, .a0 = (ptrdiff_t)u->i0,
            .b = fbp_delta_panel(plan, ws, rows, u, r, &ldb), .ldb = ldb, .panel = (ptrdiff_t)k->nr,
            .start = first ? NULL : partial, .ldstart = ld,
            .c = last ? c : partial, .ldc = last ? ldc : ld,
            .epilogue = !last ? FBP_STORE : cut == 0 ? epilogue : FBP_ADD, .alpha = alpha,
            .o = NULL, .ldo = 0, .second = FBP_NO_SECOND, .x = NULL, .c2 = NULL, .ldc2 = 0, .after = NULL, .context = NULL,
            .sums = !u->bias ? NULL : add ? part : bias, .more = !first,
            .next = NULL, .ldnext = 0};
        if (x) {                                                    /* by rows; by columns the sums of those alone, if there are any */
            struct fbp_gemm by_rows = g;
            by_rows.a = x, by_rows.a0 = (ptrdiff_t)r, by_rows.sums = NULL;
            k->gemm_rows(&by_rows);
            g.m = 0;
        }
        k->gemm_cols(&g);
        if (u->bias && add && last) k->add_rows(bias, 0, part, 0, 1, u->j1 - u->j0);
    } while ((r = next) < rows);
}

/* Whether the chains of norms and embeddings over these rows go on from where they wait, and back there: else they are whole ones. */
static int waits(const struct phase *p) { return p->in_parts && p->rows <= FBP_REDUCTION_ROWS; }

/* c (m x n) = x, which has no gaps, or where `add`, c + x. */
static void hand_over(const struct fbp_plan *plan, char *c, ptrdiff_t ldc, const char *x, size_t m, size_t n, int add)
{
    if (add) plan->kernels->add_rows(c, ldc, x, (ptrdiff_t)n, m, n);
    else for (size_t i = 0; i < m; i++) memcpy(fbp_at(plan, c, i * (size_t)ldc), fbp_at(plan, x, i * n), n * plan->kernels->size);
}

/* The gradients of a norm's gain and shift: S dZ X^ and S dZ over the batch, cut and added as above; onto what is there if `add`. A batch norm
 * that takes the statistics of the batch has had to add them up in phase A. */
static void unit_norm(const struct phase *p, const struct unit *u, char *c, char *bias, int add)
{
    const struct fbp_plan *plan = p->plan;
    const struct buffers *b = &p->ws->gate[u->gate];
    const size_t n = u->j1 - u->j0;
    const int added_up = fbp_batch_norm_depends(plan, u->gate, p->training, p->rows);
    char *product = waits(p) ? waiting_at(plan, p->ws->sums, u) : c, *sum = waits(p) ? waiting_biases_at(plan, p->ws->sums, u) : bias;
    if (added_up) product = fbp_column_row(plan, p->ws, u->gate, FBP_SUM_PRODUCT, u->j0), sum = fbp_column_row(plan, p->ws, u->gate, FBP_SUM_DELTA, u->j0);
    else fbp_sum_columns(plan, p->rows, (struct fbp_columns){
        .n = n, .a = b->grad_row, .a0 = (ptrdiff_t)u->j0,
        .b = fbp_at(plan, b->kept, u->j0), .ldb = (ptrdiff_t)plan->gate[u->gate].ld,
        .sum = u->bias ? sum : NULL, .product = product, .more = add && !waits(p), .goes_on = p->before > 0});
    if (product == c) return;
    hand_over(plan, c, 0, product, 1, n, add);
    if (u->bias) hand_over(plan, bias, 0, sum, 1, n, add);
}

/* The gradient of rows of an embedding: each the sum of dZ wherever its category was named, in the order of the batch, cut and added
 * as above. */
static void unit_embedding(const struct phase *p, const struct unit *u, char *c, ptrdiff_t ldc, int add)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[u->gate];
    const struct buffers *b = &p->ws->gate[u->gate];
    const size_t m = u->i1 - u->i0, n = u->j1 - u->j0, columns = gate->width / gate->units, number = u->i0 / fbp_unit_rows(gate);
    size_t e = number ? b->end[number - 1] : 0;
    _Alignas(64) char own[UNIT_BYTES];
    for (size_t cut = 0; cut == 0 || cut < p->rows; cut += FBP_REDUCTION_ROWS) {
        const int direct = !waits(p) && !add && cut == 0;
        char *to = direct ? c : waits(p) ? waiting_at(plan, p->ws->sums, u) : own;
        const size_t ld = direct ? (size_t)ldc : n;
        for (size_t i = 0; p->before == 0 && i < m; i++) memset(fbp_at(plan, to, i * ld), 0, n * plan->kernels->size);
        for (; e < b->end[number] && b->element[e] / columns < cut + FBP_REDUCTION_ROWS; e++) {
            const size_t r = b->element[e] / columns, k = b->element[e] % columns;
            plan->kernels->add_rows(fbp_at(plan, to, (b->category[b->element[e]] - u->i0) * ld), 0,
                                    fbp_at(plan, b->grad, r * gate->ld + k * gate->units + u->j0), 0, 1, n);
        }
        if (to != c) hand_over(plan, c, ldc, to, m, n, add || cut > 0);
    }
}

/* The gradient of a unit to c and `bias`, or where `add`, onto what is there. */
static void unit_gradient(const struct phase *p, struct turned *turned, const struct unit *u, char *c, ptrdiff_t ldc, char *bias, int add)
{
    switch (p->plan->gate[u->gate].kind) {
    case FBP_GATE_DENSE: unit_product(p, turned, u, c, ldc, add ? FBP_ADD : FBP_STORE, 0, bias); break;
    case FBP_GATE_EMBEDDING: unit_embedding(p, u, c, ldc, add); break;
    default: unit_norm(p, u, c, bias, add);
    }
}

/* A gradient and that of the biases, from where they wait in the workspace to grads, or back. */
static void move_total(const struct phase *p, const struct unit *u, int back)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[u->gate];
    const size_t size = plan->kernels->size, bytes = (u->j1 - u->j0) * size;
    char *total = waiting_at(plan, p->ws->totals, u), *biases = waiting_biases_at(plan, p->ws->totals, u);
    for (size_t i = u->i0; i < u->i1 + (size_t)u->bias; i++, total += bytes) {
        char *g = fbp_at(plan, plan->grads, gate->w + i * gate->units + u->j0), *t = i < u->i1 ? total : biases;
        memcpy(back ? t : g, back ? g : t, bytes);
    }
}

/* Whether the product ends with the update. */
static int updates_itself(const struct phase *p, const struct gate *gate)
{
    const struct fbp_plan *plan = p->plan;
    return p->what == FBP_GRADIENTS_AND_UPDATE && gate->kind == FBP_GATE_DENSE && p->rows <= FBP_REDUCTION_ROWS && !p->later &&
           plan->kernels->optimizer[plan->optimizer].epilogue == FBP_AXPY && p->rule->plain;
}

static void run_unit(const struct phase *p, struct turned *turned, const struct unit *u)
{
    struct fbp_plan *plan = p->plan;
    const struct workspace *ws = p->ws;
    const enum phase_b what = p->what;
    const struct fbp_rule *rule = p->rule;
    const struct gate *gate = &plan->gate[u->gate];
    const int table = gate->kind == FBP_GATE_DENSE || gate->kind == FBP_GATE_EMBEDDING;     /* else a gain: as a bias */
    const size_t weights = u->i1 - u->i0, cols = u->j1 - u->j0;
    const size_t block = gate->w + u->i0 * gate->units + u->j0, bias = gate->w + gate->weights * gate->units + u->j0;
    const ptrdiff_t ld_flat = (ptrdiff_t)gate->units;
    _Alignas(64) char gradient[UNIT_BYTES], bias_gradient[FBP_UNPACKED_BYTES];
    const void *g = fbp_at(plan, plan->grads, block), *g_bias = fbp_at(plan, plan->grads, bias);
    ptrdiff_t ld, ldg = ld_flat;
    void *w = weights_at(plan, gate, u->i0, u->j0, &ld);
    int updated = 0;
    if (what == FBP_SUMS) {
        unit_gradient(p, turned, u, waiting_at(plan, ws->sums, u), (ptrdiff_t)cols, waiting_biases_at(plan, ws->sums, u), 0);
        return;
    }
    if (what == FBP_TOTALS) {           /* grads, which other batches may have filled, is left as it is until all rows were found good */
        const int added = plan->step.product == FBP_GRADIENTS_ADDED;
        if (added && !p->later) move_total(p, u, 1);
        unit_gradient(p, turned, u, waiting_at(plan, ws->totals, u), (ptrdiff_t)cols, waiting_biases_at(plan, ws->totals, u), added || p->later);
        return;
    }
    if (what == FBP_GRADIENTS || what == FBP_GRADIENTS_ADDED) {
        if (p->later) move_total(p, u, 0);
        unit_gradient(p, turned, u, fbp_at(plan, plan->grads, block), ld_flat, fbp_at(plan, plan->grads, bias),
                      what == FBP_GRADIENTS_ADDED || p->later);
        return;
    }
    if (what == FBP_GRADIENTS_AND_UPDATE) {
        char *to = p->later ? waiting_at(plan, ws->totals, u) : gradient;
        char *to_bias = p->later ? waiting_biases_at(plan, ws->totals, u) : bias_gradient;
        g = to, g_bias = to_bias, ldg = (ptrdiff_t)cols;
        updated = updates_itself(p, gate);
        if (updated) unit_product(p, turned, u, w, ld, FBP_AXPY, -rule->rate, bias_gradient);
        else unit_gradient(p, turned, u, to, ldg, to_bias, p->later);
    }
    if (!updated) fbp_update_block(plan, table ? rule : rule + 1, gate, u->i0, weights, u->j0, cols, w, ld, g, ldg);
    if (u->bias) fbp_update_block(plan, rule + 1, gate, gate->weights, 1, u->j0, cols, fbp_at(plan, plan->params, bias), 0, g_bias, 0);
}

/* A unit, or several that were joined: in blocks of about the same height that have room on the stack, where they need it. */
static void run_units(const struct phase *p, const struct halt *halt, struct turned *turned, const struct unit *all)
{
    const struct gate *gate = &p->plan->gate[all->gate];
    const size_t rows = all->i1 - all->i0, row_bytes = (all->j1 - all->j0) * p->plan->kernels->size;
    const size_t room = p->rows <= BLOCK_ROWS && updates_itself(p, gate) ? AT_ONCE_BYTES : UNIT_BYTES;
    if (rows * row_bytes <= room) {
        if (!fbp_halted(halt)) run_unit(p, turned, all);
        return;
    }
    const size_t unit_rows = fbp_unit_rows(gate), most = room / row_bytes / unit_rows * unit_rows;
    const size_t blocks = (rows + most - 1) / most, height = (rows + blocks * unit_rows - 1) / (blocks * unit_rows) * unit_rows;
    for (size_t i = all->i0; i < all->i1 && !fbp_halted(halt); i += height) {
        struct unit u = *all;
        u.i0 = i, u.i1 = fbp_min(i + height, all->i1), u.bias = all->bias && u.i1 == all->i1;
        run_unit(p, turned, &u);
    }
}

/* Part `part` of `parts` of a cost: units whose middle is from .. to. */
struct share {
    double from, to;
};
static struct share share_of(double cost, int part, int parts)
{
    return (struct share){part ? part * cost / parts : 0, part + 1 == parts ? INFINITY : (part + 1) * cost / parts};
}

static double middle_of(const struct unit *u) { return u->before + 0.5 * u->cost; }

/* The units of a part; those that go on where others of a gate end are joined. Of the gate whose columns are shared, each thread has its
 * panels, and each of its parts some rows of them. */
static void phase_part(void *context, int part, int thread)
{
    const struct phase *p = context;
    const struct unit *first = p->plan->unit, *last = first + p->plan->units - 1;
    const int each = p->parts / p->threads;
    const struct share share = share_of(last->before + last->cost - p->split_cost, part, p->parts);
    const struct share split_share = share_of(p->split_cost, part % each, each);
    struct turned *turned = p->ws && thread < p->ws->turning ? &p->ws->turned[thread] : NULL;
    const struct halt halt = fbp_halt_of(p->halt, thread);
    size_t j0 = 0, j1 = 0;
    if (p->split) fbp_split_columns(p->plan, p->split, part / each, p->threads, &j0, &j1);
    for (const struct unit *u = first; u <= last; u++) {
        const int split = u->gate == p->split;
        const struct share *mine = split ? &split_share : &share;
        const double done = split ? 0 : p->split_cost, middle = middle_of(u) - done;
        if (middle < mine->from || middle >= mine->to || (split && (u->j0 < j0 || u->j0 >= j1))) continue;
        struct unit work = *u;
        const struct unit *end = u + u->more;
        while (middle_of(end) - done >= mine->to) end--;
        work.i1 = end->i1, work.bias = end->bias;
        run_units(p, &halt, turned, &work);
        u = end;
    }
}

/* On the rows of a pass. rule: of an update, where there is one. Returns 0 when it was given up half-way, which changes but gradients. */
int fbp_weights_phase(const struct pass *pass, enum phase_b what, const struct fbp_rule rule[2], struct fbp_team *team)
{
    const struct fbp_plan *plan = pass->plan;
    const struct workspace *ws = pass->ws;
    const int each = fbp_parts_each(2.0 * (double)(pass->rows + 8) * (double)plan->parameters, team->threads);
    struct phase p = {.plan = pass->plan, .ws = ws, .rows = (size_t)pass->rows, .in_parts = pass->in_parts, .before = pass->before % FBP_REDUCTION_ROWS,
                      .later = pass->before >= FBP_REDUCTION_ROWS, .training = pass->training,
                      .split = pass->split, .what = what, .rule = {rule[0], rule[1]}, .parts = each * team->threads,
                      .threads = team->threads, .split_cost = 0};
    if (plan->units == 0) return 1;
    if (what == FBP_SUMS || what == FBP_TOTALS || what == FBP_GRADIENTS) p.halt = pass->halt;
    if (ws) fbp_embedding_sort(plan, pass->ws, p.rows);
    for (int i = 0; ws && i < ws->turning; i++) ws->turned[i].gate = 0;
    for (const struct unit *u = plan->unit; p.split && u < plan->unit + plan->units && u->gate == p.split; u++) p.split_cost += u->cost;
    fbp_team_run(team, phase_part, &p, sizeof p, p.parts);
    return !fbp_halted(&p.halt);
}
