/* create.c: a plan is laid out once. All that can fail fails here or when a larger batch arrives. */
#include <stdlib.h>
#include <string.h>

#include "plan.h"

#define BLOCK_BYTES (512 << 10)     /* activations of a row block: about half of an L2 cache */
#define BLOCK_ROWS_MIN 516          /* enough rows to pay for streaming the weights */
#define BLOCK_ROWS_MAX 1024

/* All pieces of the store, in one order; measures while it is not open. */
static void layout(struct fbp_plan *plan)
{
    const struct fbp_kernels *k = plan->kernels;
    struct fbp_arena *a = &plan->store;
    plan->params = fbp_arena_cut(a, plan->parameters, 1, k->size);
    plan->grads = fbp_arena_cut(a, plan->parameters, 1, k->size);
    plan->state = fbp_arena_cut(a, plan->state_size, 1, k->size);
    const int slots = plan->optimizer < 0 ? 0 : k->optimizer[plan->optimizer].slots;
    if (plan->optimizer >= 0)
        plan->squares = fbp_arena_cut(a, (plan->parameters + FBP_NORM_BLOCK - 1) / FBP_NORM_BLOCK, 1, sizeof *plan->squares);
    for (int i = 0; i < plan->gates; i++) {
        struct gate *g = &plan->gate[i];
        if (g->kind == FBP_GATE_CONSTANT) g->constant = fbp_arena_cut(a, 1, g->width, k->size);
        if (g->kind == FBP_GATE_MATMUL) g->constant = fbp_arena_cut(a, g->weights, g->width, k->size);
        fbp_fold_layout(plan, g);
        if (g->parameters == 0) continue;
        const int packed = g->kind == FBP_GATE_DENSE && (fbp_long_rows(plan, g) || i == plan->splits);
        const size_t panels = (g->units + k->nr - 1) / k->nr * k->nr;
        if (packed) g->wp = fbp_arena_cut(a, panels, g->weights, k->size);
        for (int s = 0; s < slots; s++)
            g->slot[s] = fbp_arena_cut(a, packed ? panels : g->units, g->weights + (size_t)g->bias, k->size);
    }
}

static void copy_constants(struct fbp_plan *plan, const struct fbp_graph *graph)
{
    for (int i = 0; i < plan->gates; i++) {
        const struct gate *g = &plan->gate[i];
        const size_t n = g->kind == FBP_GATE_MATMUL ? g->weights * g->width : g->width;
        for (size_t j = 0; g->constant && j < n; j++) {
            const double v = graph->node[i].values[j];
            if (plan->dtype == FBP_F32) ((float *)g->constant)[j] = (float)v;
            else ((double *)g->constant)[j] = v;
        }
    }
}

/* Rows whose activations fit the cache together, but enough of them to reuse the weights. */
static size_t row_block(const struct fbp_plan *plan)
{
    size_t row = 0;
    for (int i = 0; i < plan->gates && row < BLOCK_BYTES; i++) row += plan->gate[i].ld * plan->kernels->size;
    size_t rows = BLOCK_BYTES / row;
    rows = rows < BLOCK_ROWS_MIN ? BLOCK_ROWS_MIN : rows > BLOCK_ROWS_MAX ? BLOCK_ROWS_MAX : rows;
    return rows / plan->kernels->mr * plan->kernels->mr;
}

int fbp_plan_create(const struct fbp_graph *graph, const char *isa, fbp_plan **result)
{
    if (!fbp_graph_exists(graph)) return FBP_BAD_GRAPH;
    const struct fbp_kernels *kernels = isa ? fbp_kernels_find(isa, graph->dtype) : fbp_kernels_default(graph->dtype);
    if (kernels == NULL) return FBP_NO_ISA;
    struct fbp_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) return FBP_NO_MEMORY;
    plan->kernels = kernels;
    plan->dtype = graph->dtype;
    plan->gates = graph->nodes;
    plan->outputs = graph->outputs;
    plan->seed = graph->seed;
    plan->optimizer = graph->optimizer;
    plan->forward_rows = -1;
    atomic_store(&plan->touched, 1);
    fbp_lock_create(&plan->lock, &plan->touched);
    size_t edges = 0;
    for (int i = 0; i < graph->nodes; i++) edges += (size_t)graph->node[i].ins;
    plan->gate = calloc((size_t)plan->gates, sizeof *plan->gate);
    plan->edge = calloc(edges + 1, sizeof *plan->edge);
    plan->cut = calloc((size_t)plan->gates, sizeof *plan->cut);
    plan->output = calloc((size_t)plan->outputs, sizeof *plan->output);
    int status = plan->gate && plan->edge && plan->cut && plan->output ? fbp_graph_read(plan, graph) : FBP_NO_MEMORY;
    if (status == FBP_OK) {
        fbp_graph_order(plan);
        fbp_fuse(plan);
        fbp_graph_measure_forward(plan);
        fbp_graph_measure(plan);
        fbp_fold_find(plan);
        fbp_split_find(plan);
        layout(plan);
        status = fbp_arena_open(&plan->store);
    }
    if (status == FBP_OK) {
        layout(plan);
        copy_constants(plan, graph);
        plan->row_block = row_block(plan);
        status = fbp_weights_units(plan);
    }
    if (status != FBP_OK) {
        fbp_plan_destroy(plan);
        return status;
    }
    *result = plan;
    return FBP_OK;
}

void fbp_plan_destroy(fbp_plan *plan)
{
    if (plan == NULL) return;
    while (plan->free) {
        struct workspace *ws = plan->free;
        plan->free = ws->next;
        fbp_workspace_destroy(ws);
    }
    fbp_workspace_destroy(plan->training);
    fbp_arena_close(&plan->store);
    fbp_lock_destroy(&plan->lock);
    free(plan->unit);
    free(plan->gate);
    free(plan->edge);
    free(plan->cut);
    free(plan->output);
    free(plan);
}

const char *fbp_plan_isa(const fbp_plan *plan) { return plan->kernels->isa; }
int64_t fbp_plan_state_offset(const fbp_plan *plan, int node) { return (int64_t)plan->gate[node].state; }
int64_t fbp_plan_state_size(const fbp_plan *plan) { return (int64_t)plan->state_size; }
void *fbp_plan_state(fbp_plan *plan) { return plan->state; }
int64_t fbp_plan_width(const fbp_plan *plan, int node) { return (int64_t)plan->gate[node].width; }
int64_t fbp_plan_offset(const fbp_plan *plan, int node) { return (int64_t)plan->gate[node].w; }
int64_t fbp_plan_parameters(const fbp_plan *plan) { return (int64_t)plan->parameters; }
void *fbp_plan_params(fbp_plan *plan) { return plan->params; }
void *fbp_plan_grads(fbp_plan *plan) { return plan->grads; }
int64_t fbp_forward_rows(const fbp_plan *plan) { return plan->forward_rows; }

int64_t fbp_plan_bytes(fbp_plan *plan)
{
    fbp_lock_write(&plan->lock);
    size_t bytes = plan->store.size + (plan->training ? plan->training->arena.size : 0);
    for (const struct workspace *ws = plan->free; ws; ws = ws->next) bytes += ws->arena.size;
    fbp_lock_release(&plan->lock);
    return (int64_t)bytes;
}

void fbp_plan_export(fbp_plan *plan, int count)
{
    if (count > 0) {
        fbp_lock_write(&plan->lock);
        fbp_weights_publish(plan);
    }
    atomic_fetch_add(&plan->exports, count);
    atomic_store(&plan->touched, 1);
    if (count > 0) fbp_lock_release(&plan->lock);
}

double fbp_plan_operations(fbp_plan *plan, int64_t rows)
{
    fbp_lock_write(&plan->lock);
    const double products = plan->products;
    fbp_lock_release(&plan->lock);
    return products * (double)rows;
}

int64_t fbp_plan_draws(fbp_plan *plan)
{
    fbp_lock_write(&plan->lock);
    const int64_t draws = plan->draws;
    fbp_lock_release(&plan->lock);
    return draws;
}

void fbp_plan_set_draws(fbp_plan *plan, int64_t draws)
{
    fbp_lock_write(&plan->lock);
    plan->draws = draws;
    fbp_lock_release(&plan->lock);
}

int fbp_plan_set_trainable(fbp_plan *plan, int node, int trainable)
{
    struct gate *gate = &plan->gate[node];
    fbp_lock_write(&plan->lock);
    fbp_fork_hold();
    const int before = gate->trainable;
    gate->trainable = trainable;
    const int status = fbp_weights_units(plan);
    if (status == FBP_OK) {
        fbp_graph_measure(plan);
        if (trainable && !before) plan->backward_wanted = 0;    /* gradients are wanted that the last backward has not made */
        if (!trainable) memset(fbp_at(plan, plan->grads, gate->w), 0, gate->parameters * plan->kernels->size);
    } else {
        gate->trainable = before;
    }
    fbp_fork_allow();
    fbp_lock_release(&plan->lock);
    return status;
}

const char *fbp_activation_name(int i)
{
    return i >= 0 && i < FBP_ACT_COUNT ? fbp_kernels_find("base", FBP_F32)->act[i].name : NULL;
}

double fbp_activation_parameter(int i) { return fbp_kernels_find("base", FBP_F32)->act[i].parameter; }

const char *fbp_optimizer_name(int i)
{
    return i >= 0 && i < FBP_OPTIMIZER_COUNT ? fbp_kernels_find("base", FBP_F32)->optimizer[i].name : NULL;
}
