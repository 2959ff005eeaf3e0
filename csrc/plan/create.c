/* create.c: a graph is checked, measured and laid out once. All that can fail fails here or when a larger batch arrives. */
#include <stdlib.h>
#include <string.h>

#include "plan.h"

#define BLOCK_BYTES (512 << 10)     /* activations of a row block: about half of an L2 cache */
#define BLOCK_ROWS_MIN 516          /* enough rows to pay for streaming the weights */
#define BLOCK_ROWS_MAX 1024

static int names_exist(const struct fbp_graph *graph)
{
    if (graph->nodes < 1 || (graph->dtype != FBP_F32 && graph->dtype != FBP_F64)) return 0;
    if (graph->loss < -1 || graph->loss >= FBP_LOSS_COUNT) return 0;
    if (graph->optimizer < -1 || graph->optimizer >= FBP_OPTIMIZER_COUNT) return 0;
    for (int i = 0; i < graph->nodes; i++) {
        const struct fbp_node *n = &graph->node[i];
        if (n->gate < 0 || n->gate >= FBP_GATE_COUNT || n->activation < 0 || n->activation >= FBP_ACT_COUNT) return 0;
        const int inputs = n->gate == FBP_GATE_INPUT ? 0 : n->gate == FBP_GATE_ADD ? 2 : 1;
        for (int e = 0; e < FBP_GATE_INPUTS; e++)
            if (e < inputs ? n->in[e] < 0 || n->in[e] >= i : n->in[e] != -1) return 0;
        if ((n->gate == FBP_GATE_INPUT || n->gate == FBP_GATE_DENSE) && n->width < 1) return 0;
    }
    return graph->node[graph->nodes - 1].gate != FBP_GATE_INPUT;
}

/* A row stride of whole cache lines that is no multiple of 1 KiB: such strides crowd a few sets of the cache. */
static size_t padded(size_t width, size_t size)
{
    const size_t line = 64 / size;
    const size_t ld = (width + line - 1) / line * line;
    return ld * size % 1024 == 0 ? ld + line : ld;
}

static int read_gates(struct fbp_plan *plan, const struct fbp_graph *graph)
{
    const size_t size = plan->kernels->size;
    size_t parameters = 0;
    for (int i = 0; i < graph->nodes; i++) {
        const struct fbp_node *n = &graph->node[i];
        struct gate *g = &plan->gate[i];
        *g = (struct gate){.kind = n->gate, .act = n->activation, .in = {n->in[0], n->in[1]}};
        if (n->gate == FBP_GATE_INPUT) g->input = plan->inputs++;
        g->width = n->width ? (size_t)n->width : plan->gate[n->in[0]].width;
        if (n->gate == FBP_GATE_ADD && plan->gate[n->in[1]].width != g->width) return FBP_BAD_GRAPH;
        if (g->width > PTRDIFF_MAX / 2 / size - 64) return FBP_TOO_LARGE;
        g->ld = padded(g->width, size);
        if (n->gate == FBP_GATE_DENSE) {
            size_t weights;
            g->inputs = plan->gate[n->in[0]].width;
            g->w = parameters;
            if (__builtin_mul_overflow(g->inputs + 1, g->width, &weights) ||
                __builtin_add_overflow(parameters, weights, &parameters) || parameters > PTRDIFF_MAX / 2 / size)
                return FBP_TOO_LARGE;
            plan->forward_operations += 2.0 * (double)weights;
        }
        g->wanted = n->gate == FBP_GATE_DENSE;
        for (int e = 0; e < FBP_GATE_INPUTS; e++) g->wanted |= n->in[e] >= 0 && plan->gate[n->in[e]].wanted;
    }
    plan->parameters = parameters;
    for (int i = 0; i < plan->gates; i++)
        if (plan->gate[i].kind == FBP_GATE_DENSE)
            plan->operations += 2.0 * (double)(plan->gate[i].inputs * plan->gate[i].width) *
                                (plan->gate[plan->gate[i].in[0]].wanted ? 3 : 2);
    return FBP_OK;
}

/* Which edge is the first, and which the last, to write the gradient of the gate it comes from. */
static void order_edges(struct fbp_plan *plan)
{
    for (int p = 0; p < plan->gates; p++) {
        int *last = NULL;
        for (int g = plan->gates - 1; g > p; g--)
            for (int e = 0; e < FBP_GATE_INPUTS; e++) {
                if (plan->gate[g].in[e] != p) continue;
                plan->gate[g].first[e] = last == NULL;
                last = &plan->gate[g].last[e];
            }
        if (last) *last = 1;
    }
}

/* All pieces of the store, in one order; measures while it is not open. */
static void layout(struct fbp_plan *plan)
{
    const struct fbp_kernels *k = plan->kernels;
    struct fbp_arena *a = &plan->store;
    plan->params = fbp_arena_cut(a, plan->parameters, 1, k->size);
    plan->grads = fbp_arena_cut(a, plan->parameters, 1, k->size);
    const int slots = plan->optimizer < 0 ? 0 : k->optimizer[plan->optimizer].slots;
    if (plan->optimizer >= 0)
        plan->squares = fbp_arena_cut(a, (plan->parameters + FBP_NORM_BLOCK - 1) / FBP_NORM_BLOCK, 1, sizeof *plan->squares);
    for (int i = 0; i < plan->gates; i++) {
        struct gate *g = &plan->gate[i];
        if (g->kind != FBP_GATE_DENSE) continue;
        const int packed = g->width * k->size > FBP_UNPACKED_BYTES;
        const size_t panels = (g->width + k->nr - 1) / k->nr * k->nr;
        if (packed) g->wp = fbp_arena_cut(a, panels, g->inputs, k->size);
        for (int s = 0; s < slots; s++) g->slot[s] = fbp_arena_cut(a, packed ? panels : g->width, g->inputs + 1, k->size);
    }
}

/* Rows whose activations fit the cache together, but enough of them to reuse the weights. */
static size_t row_block(const struct fbp_plan *plan)
{
    size_t row = 0;
    for (int i = 0; i < plan->gates; i++) row += plan->gate[i].ld * plan->kernels->size;
    size_t rows = BLOCK_BYTES / row;
    rows = rows < BLOCK_ROWS_MIN ? BLOCK_ROWS_MIN : rows > BLOCK_ROWS_MAX ? BLOCK_ROWS_MAX : rows;
    return rows / plan->kernels->mr * plan->kernels->mr;
}

int fbp_plan_create(const struct fbp_graph *graph, const char *isa, fbp_plan **result)
{
    if (!names_exist(graph)) return FBP_BAD_GRAPH;
    const struct fbp_kernels *kernels = isa ? fbp_kernels_find(isa, graph->dtype) : fbp_kernels_default(graph->dtype);
    if (kernels == NULL) return FBP_NO_ISA;
    struct fbp_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) return FBP_NO_MEMORY;
    plan->kernels = kernels;
    plan->dtype = graph->dtype;
    plan->gates = graph->nodes;
    plan->loss = graph->loss;
    plan->optimizer = graph->optimizer;
    plan->forward_rows = -1;
    atomic_store(&plan->touched, 1);
    fbp_lock_create(&plan->lock, &plan->touched);
    plan->gate = calloc((size_t)plan->gates, sizeof *plan->gate);
    int status = plan->gate ? read_gates(plan, graph) : FBP_NO_MEMORY;
    if (status == FBP_OK) {
        order_edges(plan);
        layout(plan);
        status = fbp_arena_open(&plan->store);
    }
    if (status == FBP_OK) {
        layout(plan);
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
    free(plan);
}

const char *fbp_plan_isa(const fbp_plan *plan) { return plan->kernels->isa; }
int64_t fbp_plan_width(const fbp_plan *plan, int node) { return (int64_t)plan->gate[node].width; }
int64_t fbp_plan_offset(const fbp_plan *plan, int node) { return (int64_t)plan->gate[node].w; }
int64_t fbp_plan_parameters(const fbp_plan *plan) { return (int64_t)plan->parameters; }
double fbp_plan_operations(const fbp_plan *plan, int64_t rows) { return plan->operations * (double)rows; }
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

const char *fbp_activation_name(int i)
{
    return i >= 0 && i < FBP_ACT_COUNT ? fbp_kernels_find("base", FBP_F32)->act[i].name : NULL;
}

const char *fbp_optimizer_name(int i)
{
    return i >= 0 && i < FBP_OPTIMIZER_COUNT ? fbp_kernels_find("base", FBP_F32)->optimizer[i].name : NULL;
}
