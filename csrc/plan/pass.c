/* pass.c: phase A. A batch goes forward through all gates, and the error signal comes back down, by parts of its rows: each part
 * through as many gates as it can. Gates that mix rows (batch norms) cut the way in segments: between two, all rows are awaited
 * and the statistics of the columns are taken. Weights are only read, and every element is one chain whatever the parts, so any
 * split of the rows gives the same bits. */
#include <math.h>
#include <string.h>

#include "../base/clock.h"
#include "plan.h"

#define CROWD 16                    /* rows: more than a cache has ways */
#define PART_COLUMNS 64             /* of a batch norm: their sums are done together */
#define POLL_SECONDS 0.02

/* Whether a long call is given up; asks the caller every POLL_SECONDS. */
int fbp_halt_asked(const struct halt *h)
{
    if (h->interrupted && fbp_seconds() - *h->polled > POLL_SECONDS) {
        *h->polled = fbp_seconds();
        if (h->interrupted()) atomic_store(h->stop, 1);
    }
    return atomic_load(h->stop);
}

static int failed(const struct pass *p) { return atomic_load_explicit(p->bad, memory_order_relaxed) != FBP_OK; }
static int stopped(const struct pass *p) { return failed(p) || fbp_halted(&p->halt); }

/* Rows a multiple of 4 KiB apart fall into the same sets of the caches: copying them costs less than that. */
static int crowded(const struct fbp_array *x, size_t rows) { return rows >= CROWD && x->row_stride % 4096 == 0 && x->row_stride; }

/* Inputs stay where they are when their rows can be used in place; otherwise a block of rows is converted. */
static int stays(const struct pass *p, const struct fbp_array *x, size_t rows)
{
    return !p->keep && fbp_array_in_place(x, p->plan->dtype, p->plan->kernels->size) && !crowded(x, rows);
}

static void load_inputs(const struct pass *p, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    for (int g = 0; g < plan->gates; g++) {
        if (plan->gate[g].kind != FBP_GATE_INPUT) continue;
        const struct fbp_array *x = &p->x[plan->gate[g].input];
        const void **row = p->ws->gate[g].out_row;
        if (stays(p, x, r1 - r0)) {
            const char *data = x->data;                                 /* what a store might change is read again after it */
            const ptrdiff_t stride = x->row_stride;
            const int64_t *order = p->order, first = p->first;
            for (size_t r = r0; r < r1; r++) row[r] = data + fbp_row_in(order, first, r) * stride;
            continue;
        }
        for (size_t r = r0; r < r1; r++) {
            row[r] = fbp_out_at(p, g, r);
            fbp_array_convert(x, fbp_source_row(p, r), plan->dtype, fbp_out_at(p, g, r));
        }
    }
}

/* Forward through gates from .. to. */
void fbp_pass_rows(struct pass *p, size_t r0, size_t r1)
{
    if (p->from == 0 && !p->split) load_inputs(p, r0, r1);
    for (int g = p->from; g < p->to && !stopped(p); g++)
        if (g != p->split && fbp_gates[p->plan->gate[g].kind].forward && !fbp_computed(p, g))
            fbp_gates[p->plan->gate[g].kind].forward(p, g, fbp_lands(p, g), r0, r1);
}

static void load_targets(const struct pass *p, int k, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct fbp_array y = p->y[k].y;                               /* as in load_inputs */
    const int64_t *order = p->order, first = p->first;
    struct targets *t = &p->ws->target[k];
    const struct gate *out = &plan->gate[plan->output[k].node];
    const size_t classes = out->width;
    const int labels = p->y[k].labels, in_place = fbp_array_in_place(&y, plan->dtype, plan->kernels->size);
    int64_t *label = t->label;
    const void **row = t->row;
    int wrong = 0;
    for (size_t r = r0; labels && r < r1; r++) {
        const int64_t found = fbp_label(&y, fbp_row_in(order, first, r));
        const int good = (uint64_t)found < classes;
        label[r] = good ? found : 0;
        wrong |= !good;
    }
    if (wrong) atomic_store(p->bad, FBP_BAD_LABEL);                     /* the caller's array changed under us */
    for (size_t r = r0; !labels && in_place && r < r1; r++) row[r] = y.data + fbp_row_in(order, first, r) * y.row_stride;
    for (size_t r = r0; !labels && !in_place && r < r1; r++) {
        char *copy = fbp_at(plan, t->copy, r * out->ld);
        fbp_array_convert(&y, fbp_row_in(order, first, r), plan->dtype, copy);
        row[r] = copy;
    }
}

/* Losses of the rows at output k, and its dE/dO. */
static void output_loss(const struct pass *p, int k, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct fbp_output *output = &plan->output[k];
    const struct gate *gate = &plan->gate[output->node];
    struct targets *t = &p->ws->target[k];
    void *out = fbp_out_at(p, output->node, r0), *grad = fbp_grad_at(p, output->node, r0);
    const ptrdiff_t ldo = (ptrdiff_t)p->ws->gate[output->node].ld, ldg = (ptrdiff_t)gate->ld;
    if (output->loss == FBP_LOSS_CUSTOM) {
        fbp_float_leave(p->mode);
        if (output->function(output->context, k, p->first, p->rows, (int64_t)gate->width, out, ldo, t->loss, grad, ldg))
            atomic_store(p->bad, FBP_STOPPED);
        (void)fbp_float_enter();
        return;
    }
    const struct fbp_loss_kernels *loss = &plan->kernels->loss[output->loss];
    const int labels = p->y[k].labels;
    load_targets(p, k, r0, r1);
    loss->rows(&(struct fbp_loss_rows){
        .m = r1 - r0, .n = gate->width, .a = output->parameter,
        .out = out, .ldo = ldo,
        .target = t->row + r0,
        .label = labels ? t->label + r0 : NULL,
        .weight = p->weights ? p->ws->weight + p->before + r0 : NULL,
        .scale = p->weight > 0 ? output->weight / p->weight : 0,
        .loss = t->loss + p->before + r0,
        .grad = grad, .ldg = ldg});
    if (labels) return;
    const size_t width = fbp_target_width(plan, k);
    if (loss->least > -INFINITY || loss->most < INFINITY) {
        if (!fbp_rows_within(t->row + r0, r1 - r0, plan->dtype, width, loss->least, loss->most)) atomic_store(p->bad, FBP_BAD_TARGET);
        return;
    }
    for (size_t r = r0; r < r1; r++)                /* a target that is not finite shows in the loss, so only then look closer */
        if (!isfinite(t->loss[p->before + (int64_t)r]) && !fbp_rows_within(t->row + r, 1, plan->dtype, width, -INFINITY, INFINITY))
            atomic_store(p->bad, FBP_BAD_TARGET);
}

/* dE/dO of every output, from its loss or as the caller gives it; delta of those that feed no other gate. */
static void turn(const struct pass *p, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    for (int k = 0; k < plan->outputs && !failed(p); k++) {
        const int g = plan->output[k].node;
        if (p->dout == NULL) output_loss(p, k, r0, r1);
        else
            for (size_t r = r0; r < r1; r++) fbp_array_convert(&p->dout[k], (int64_t)r, plan->dtype, fbp_grad_at(p, g, r));
        if (plan->gate[g].consumers == 0) fbp_deactivate(p, g, r0, r1);
    }
}

/* Backward from the gate before `to` down to `from`. */
static void back(struct pass *p, int from, int to, size_t r0, size_t r1)
{
    for (int g = to - 1; g >= from && !stopped(p); g--)
        if (fbp_gates[p->plan->gate[g].kind].backward) fbp_gates[p->plan->gate[g].kind].backward(p, g, r0, r1);
}

static void copy_out(const struct pass *p, char *to, const void *const *from, size_t width, size_t r0, size_t r1)
{
    const size_t bytes = width * p->plan->kernels->size;
    for (size_t r = r0; r < r1; r++) memcpy(to + r * bytes, from[r], bytes);
}

/* ---- the stages; a task of each for a part of the rows ------------------------------------------------------------------- */

/* The pass that has the rows r0 .. r1 of a part: on the calling thread itself, elsewhere a copy of it that does not ask the caller. */
static struct pass *rows_of(void *context, int part, int thread, struct pass *copy, size_t *r0, size_t *r1)
{
    struct pass *p = context;
    int64_t from, to;
    fbp_share(p->rows, part, p->parts, &from, &to);
    *r0 = (size_t)from, *r1 = (size_t)to;
    if (thread == 0) return p;
    *copy = *p;
    copy->halt = fbp_halt_of(p->halt, thread);
    return copy;
}

static void forward_part(void *context, int part, int thread)
{
    size_t r0, r1;
    struct pass copy, *p = rows_of(context, part, thread, &copy, &r0, &r1);
    fbp_pass_rows(p, r0, r1);
    for (int k = 0; p->out && k < p->plan->outputs && p->to == p->plan->gates; k++) {
        const int g = p->plan->output[k].node;
        copy_out(p, p->out[k], p->ws->gate[g].out_row, p->plan->gate[g].width, r0, r1);
    }
}

/* Gradients of the inputs, once all gates are done: 0 where nothing takes an input. */
static void copy_dx(const struct pass *p, size_t r0, size_t r1)
{
    for (int g = 0; p->dx && g < p->plan->gates; g++) {
        const struct gate *gate = &p->plan->gate[g];
        if (gate->kind != FBP_GATE_INPUT) continue;
        if (gate->consumers == 0) memset(fbp_grad_at(p, g, r0), 0, (r1 - r0) * gate->ld * p->plan->kernels->size);
        copy_out(p, p->dx[gate->input], p->ws->gate[g].grad_row, gate->width, r0, r1);
    }
}

/* From the last cut on: forward if there is a loss, the turn, and back to the last cut. */
static void turn_part(void *context, int part, int thread)
{
    size_t r0, r1;
    struct pass copy, *p = rows_of(context, part, thread, &copy, &r0, &r1);
    const struct fbp_plan *plan = p->plan;
    const int down = plan->cuts ? plan->cut[plan->cuts - 1] + 1 : 0;
    if (p->dout == NULL) fbp_pass_rows(p, r0, r1);
    if (stopped(p)) return;
    turn(p, r0, r1);
    back(p, down, plan->gates, r0, r1);
    if (down == 0) copy_dx(p, r0, r1);
}

static void back_part(void *context, int part, int thread)
{
    size_t r0, r1;
    struct pass copy, *p = rows_of(context, part, thread, &copy, &r0, &r1);
    back(p, p->from, p->to, r0, r1);
    if (p->from == 0) copy_dx(p, r0, r1);
}

/* PART_COLUMNS columns of a batch norm at a time, in at most so many parts. */
static int64_t column_blocks(const struct pass *p, int g) { return (int64_t)((p->plan->gate[g].width + PART_COLUMNS - 1) / PART_COLUMNS); }
static int column_parts(const struct pass *p, int g) { return (int)fbp_min((size_t)column_blocks(p, g), FBP_MOST_PARTS); }

static void columns_part(const struct pass *p, int g, int part, void (*sums)(const struct pass *, int, size_t, size_t))
{
    const size_t width = p->plan->gate[g].width;
    int64_t from, to;
    fbp_share(column_blocks(p, g), part, column_parts(p, g), &from, &to);
    for (size_t j = (size_t)from * PART_COLUMNS; j < (size_t)to * PART_COLUMNS; j += PART_COLUMNS)
        sums(p, g, j, fbp_min(j + PART_COLUMNS, width));
}

static void statistics_part(void *context, int part, int thread)
{
    const struct pass *p = context;
    (void)thread;
    columns_part(p, p->from, part, fbp_batch_norm_statistics);
}

static void sums_part(void *context, int part, int thread)
{
    const struct pass *p = context;
    (void)thread;
    columns_part(p, p->to - 1, part, fbp_batch_norm_sums);
}

static void split_part(void *context, int part, int thread)
{
    struct pass p = *(const struct pass *)context;
    const int g = p.split;
    (void)thread;
    fbp_split_columns(p.plan, g, part, p.parts, &p.j0, &p.j1);
    fbp_gates[p.plan->gate[g].kind].forward(&p, g, fbp_lands(&p, g), 0, (size_t)p.rows);
}

/* The first gate ahead of all else, by columns, where that is better. */
static void forward_by_columns(struct pass *p, struct fbp_team *team)
{
    p->split = fbp_split_gate(p->plan, p->rows, team->threads);
    for (int i = 0; p->split && i < p->plan->inputs; i++)
        if (!stays(p, &p->x[i], (size_t)p->rows)) p->split = 0;      /* to be copied, by rows */
    if (p->split == 0) return;
    load_inputs(p, 0, (size_t)p->rows);
    fbp_team_run(team, split_part, p, sizeof *p, p->parts);
}

/* Forward to the last cut; what is left to do is from .. to. */
static void forward_to_last_cut(struct pass *p, struct fbp_team *team)
{
    const struct fbp_plan *plan = p->plan;
    p->from = 0;
    for (int c = 0; c < plan->cuts; c++) {
        p->to = plan->cut[c];
        fbp_team_run(team, forward_part, p, sizeof *p, p->parts);
        p->from = p->to;
        fbp_team_run(team, statistics_part, p, sizeof *p, column_parts(p, p->from));
    }
    p->to = plan->gates;
}

static void turn_and_back(struct pass *p, struct fbp_team *team)
{
    const struct fbp_plan *plan = p->plan;
    fbp_team_run(team, turn_part, p, sizeof *p, p->parts);
    for (int c = plan->cuts - 1; c >= 0; c--) {
        p->to = plan->cut[c] + 1;
        p->from = c ? plan->cut[c - 1] + 1 : 0;
        if (fbp_gradient_wanted(p, plan->cut[c])) fbp_team_run(team, sums_part, p, sizeof *p, column_parts(p, plan->cut[c]));
        fbp_team_run(team, back_part, p, sizeof *p, p->parts);
    }
}

void fbp_pass_forward(struct pass *p, struct fbp_team *team)
{
    forward_to_last_cut(p, team);
    fbp_team_run(team, forward_part, p, sizeof *p, p->parts);
}

void fbp_pass_step(struct pass *p, struct fbp_team *team)
{
    forward_by_columns(p, team);
    forward_to_last_cut(p, team);
    turn_and_back(p, team);
}

void fbp_pass_backward(struct pass *p, struct fbp_team *team) { turn_and_back(p, team); }
