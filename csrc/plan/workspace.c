/* workspace.c: the buffers one batch needs. */
#include <stdlib.h>

#include "operands.h"

/* What backward needs of a norm or dropout: X^ or the mask, and the statistics. */
static void layout_kept(const struct fbp_plan *plan, struct workspace *ws, int g, int training)
{
    const struct gate *gate = &plan->gate[g];
    struct buffers *b = &ws->gate[g];
    const int row_norm = gate->kind == FBP_GATE_LAYER_NORM || gate->kind == FBP_GATE_RMS_NORM;
    const int batch_norm = gate->kind == FBP_GATE_BATCH_NORM;
    const size_t size = plan->kernels->size;
    if (batch_norm) b->statistics = fbp_arena_cut(&ws->arena, FBP_COLUMN_ROWS, gate->ld, size);
    if (!training) return;
    if (row_norm) b->statistics = fbp_arena_cut(&ws->arena, ws->rows, 1, size);
    if (gate->kind == FBP_GATE_EMBEDDING) {
        const size_t columns = gate->width / gate->units;
        b->category = fbp_arena_cut(&ws->arena, ws->rows, columns, sizeof *b->category);
        b->element = fbp_arena_cut(&ws->arena, ws->rows, columns, sizeof *b->element);
        b->end = fbp_arena_cut(&ws->arena, fbp_embedding_units(gate), 1, sizeof *b->end);
    }
    if (row_norm || batch_norm || gate->kind == FBP_GATE_DROPOUT) b->kept = fbp_arena_cut(&ws->arena, ws->rows, gate->ld, size);
}

/* All pieces, in one order; measures while the arena is not open. */
static void layout(const struct fbp_plan *plan, struct workspace *ws, int training)
{
    const size_t size = plan->kernels->size, rows = ws->rows;
    struct fbp_arena *arena = &ws->arena;
    for (int i = 0; i < plan->gates; i++) {
        const struct gate *gate = &plan->gate[i];
        struct buffers *b = &ws->gate[i];
        b->ld = gate->ld;
        b->out_row = fbp_arena_cut(arena, rows, 1, sizeof(void *));
        if (gate->kind == FBP_GATE_CONSTANT) continue;                  /* one row for all, which the plan has */
        b->out = fbp_arena_cut(arena, rows, gate->ld, size);
        layout_kept(plan, ws, i, training);
        if (!training) continue;
        if (gate->shares == 0) b->grad = fbp_arena_cut(arena, rows, gate->ld, size);
        b->grad_row = fbp_arena_cut(arena, rows, 1, sizeof(void *));
        if (plan->kernels->act[gate->act].keeps) b->slope = fbp_arena_cut(arena, rows, gate->ld, size);
    }
    if (!training) return;
    ws->weight = fbp_arena_cut(arena, rows, 1, sizeof *ws->weight);
    ws->x = fbp_arena_cut(arena, (size_t)plan->inputs, 1, sizeof *ws->x);
    ws->y = fbp_arena_cut(arena, (size_t)plan->outputs, 1, sizeof *ws->y);
    fbp_operands_layout(plan, ws);
    const int wait = fbp_sums_wait(plan, rows);
    if (wait > 0) ws->sums = fbp_arena_cut(arena, plan->parameters, 1, size);
    if (wait > 1) ws->totals = fbp_arena_cut(arena, plan->parameters, 1, size);
    for (int k = 0; k < plan->outputs; k++) {
        struct targets *t = &ws->target[k];
        t->label = fbp_arena_cut(arena, rows, 1, sizeof *t->label);
        t->row = fbp_arena_cut(arena, rows, 1, sizeof *t->row);
        t->copy = fbp_arena_cut(arena, rows, plan->gate[plan->output[k].node].ld, size);
        t->loss = fbp_arena_cut(arena, rows, 1, sizeof *t->loss);
    }
}

int fbp_workspace_create(const struct fbp_plan *plan, size_t rows, int training, struct workspace **result)
{
    struct workspace *ws = calloc(1, sizeof *ws);
    if (ws == NULL) return FBP_NO_MEMORY;
    ws->apart = ws->gate = calloc((size_t)plan->gates, sizeof *ws->gate);
    ws->shared = calloc((size_t)plan->gates, sizeof *ws->shared);
    ws->target = calloc((size_t)plan->outputs, sizeof *ws->target);
    ws->rows = rows;
    ws->turning = training ? fbp_turning(plan, rows) : 0;
    int status = ws->gate && ws->shared && ws->target ? FBP_OK : FBP_NO_MEMORY;
    if (status == FBP_OK) {
        layout(plan, ws, training);
        status = fbp_arena_open(&ws->arena);
    }
    if (status != FBP_OK) {
        fbp_workspace_destroy(ws);
        return status;
    }
    layout(plan, ws, training);
    for (int i = plan->gates - 1; i >= 0; i--) {
        struct buffers *b = &ws->gate[i];
        if (plan->gate[i].shares) b->grad = ws->gate[plan->gate[i].shares].grad;
        const size_t stride = b->ld * plan->kernels->size;
        for (size_t r = 0; r < rows; r++) {
            b->out_row[r] = b->out ? b->out + r * stride : plan->gate[i].constant;
            if (b->grad) b->grad_row[r] = b->grad + r * stride;
        }
    }
    memcpy(ws->shared, ws->apart, (size_t)plan->gates * sizeof *ws->shared);
    if (training) fbp_fuse_buffers(plan, ws->shared);
    *result = ws;
    return FBP_OK;
}

void fbp_workspace_destroy(struct workspace *ws)
{
    if (ws == NULL) return;
    fbp_arena_close(&ws->arena);
    free(ws->apart);
    free(ws->shared);
    free(ws->target);
    free(ws);
}

/* Room for a batch of `rows`; what was there is kept until the new one exists. */
int fbp_training_workspace(struct fbp_plan *plan, size_t rows)
{
    if (plan->training && plan->training->rows >= rows) return FBP_OK;
    struct workspace *ws;
    const int status = fbp_workspace_create(plan, rows, 1, &ws);
    if (status != FBP_OK) return status;
    struct workspace *old = plan->training;
    plan->training = ws;                            /* first: a fork may come between any two lines */
    fbp_forget_forward(plan);
    fbp_workspace_destroy(old);
    return FBP_OK;
}
