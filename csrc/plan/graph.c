/* graph.c: the description of a graph is checked and read: what each gate computes, how many parameters it has, whose gradients are
 * wanted, and in which order they are written. */
#include <math.h>
#include <stdlib.h>

#include "plan.h"

#define ANY INT32_MAX
/* What each gate takes: how many inputs, and whether its width is given or follows from them. */
static const struct shape {
    int least, most;                /* inputs */
    int width;                      /* given */
} shapes[FBP_GATE_COUNT] = {
    [FBP_GATE_INPUT] = {0, 0, 1}, [FBP_GATE_CONSTANT] = {0, 0, 1}, [FBP_GATE_DENSE] = {1, 1, 1}, [FBP_GATE_MATMUL] = {1, 1, 1},
    [FBP_GATE_ACTIVATION] = {1, 1, 0}, [FBP_GATE_ADD] = {2, 2, 0}, [FBP_GATE_SUBTRACT] = {2, 2, 0}, [FBP_GATE_MULTIPLY] = {2, 2, 0},
    [FBP_GATE_DIVIDE] = {2, 2, 0}, [FBP_GATE_MAXIMUM] = {2, 2, 0}, [FBP_GATE_MINIMUM] = {2, 2, 0},
    [FBP_GATE_CONCATENATE] = {1, ANY, 0}, [FBP_GATE_SLICE] = {1, 1, 1}, [FBP_GATE_DROPOUT] = {1, 1, 0},
    [FBP_GATE_LAYER_NORM] = {1, 1, 0}, [FBP_GATE_RMS_NORM] = {1, 1, 0}, [FBP_GATE_BATCH_NORM] = {1, 1, 0},
    [FBP_GATE_EMBEDDING] = {1, 1, 1}, [FBP_GATE_STANDARDIZE] = {1, 1, 0},
};

static int node_exists(const struct fbp_node *n, int i)
{
    if (n->gate < 0 || n->gate >= FBP_GATE_COUNT || n->activation < 0 || n->activation >= FBP_ACT_COUNT) return 0;
    const struct shape *shape = &shapes[n->gate];
    if (n->ins < shape->least || n->ins > shape->most || (shape->width ? n->width < 1 : n->width < 0)) return 0;
    for (int e = 0; e < n->ins; e++)
        if (n->in[e] < 0 || n->in[e] >= i) return 0;
    if ((n->activation == FBP_CUSTOM) != (n->function != NULL)) return 0;
    if ((n->gate == FBP_GATE_CONSTANT || n->gate == FBP_GATE_MATMUL) && n->values == NULL) return 0;
    if ((n->gate == FBP_GATE_INPUT || n->gate == FBP_GATE_CONSTANT) && (n->activation || n->function)) return 0;
    return n->gate != FBP_GATE_DROPOUT || (n->setting[0] >= 0 && n->setting[0] < 1);
}

int fbp_graph_exists(const struct fbp_graph *graph)
{
    if (graph->nodes < 1 || graph->outputs < 1 || (graph->dtype != FBP_F32 && graph->dtype != FBP_F64)) return 0;
    if (graph->optimizer < -1 || graph->optimizer >= FBP_OPTIMIZER_COUNT) return 0;
    for (int i = 0; i < graph->nodes; i++)
        if (!node_exists(&graph->node[i], i)) return 0;
    for (int k = 0; k < graph->outputs; k++) {
        const struct fbp_output *o = &graph->output[k];
        if (o->node < 0 || o->node >= graph->nodes || graph->node[o->node].gate <= FBP_GATE_CONSTANT) return 0;
        if (o->loss >= FBP_LOSS_COUNT || (o->loss < FBP_LOSS_NONE && (o->loss != FBP_LOSS_CUSTOM || o->function == NULL))) return 0;
        for (int q = 0; q < k; q++)
            if (graph->output[q].node == o->node) return 0;
    }
    return 1;
}

/* A row stride of whole cache lines that is no multiple of 1 KiB: such strides crowd a few sets of the cache. */
size_t fbp_padded(size_t width, size_t size)
{
    const size_t line = 64 / size;
    const size_t ld = (width + line - 1) / line * line;
    return ld * size % 1024 == 0 ? ld + line : ld;
}

/* The width of a gate, or 0 if its inputs do not fit; SIZE_MAX for too many columns. */
static size_t width_of(const struct fbp_plan *plan, const struct fbp_node *n)
{
    const size_t first = n->ins ? plan->gate[n->in[0]].width : 0;
    size_t sum = 0;
    for (int e = 0; e < n->ins; e++)
        if (__builtin_add_overflow(sum, plan->gate[n->in[e]].width, &sum)) return SIZE_MAX;
    switch (n->gate) {
    case FBP_GATE_CONCATENATE: return sum;
    case FBP_GATE_SLICE: return n->setting[0] >= 0 && n->setting[0] + (double)n->width <= (double)first ? (size_t)n->width : 0;
    case FBP_GATE_EMBEDDING: return n->setting[0] >= 1 && (size_t)n->width % first == 0 ? (size_t)n->width : 0;
    default: break;
    }
    if (n->ins == 2 && plan->gate[n->in[1]].width != first) return 0;
    return shapes[n->gate].width ? (size_t)n->width : first;
}

/* Rows and columns of a gate's parameters. */
static void parameters_of(struct gate *g, const struct fbp_node *n, size_t inputs)
{
    g->units = g->width;
    switch (n->gate) {
    case FBP_GATE_DENSE: g->weights = inputs, g->bias = n->setting[0] != 0; break;
    case FBP_GATE_MATMUL: g->weights = inputs; break;
    case FBP_GATE_LAYER_NORM:
    case FBP_GATE_BATCH_NORM: g->weights = g->bias = 1; break;
    case FBP_GATE_RMS_NORM: g->weights = 1; break;
    case FBP_GATE_EMBEDDING: g->weights = (size_t)n->setting[0], g->units = g->width / inputs; break;
    default: break;
    }
}

static int read_gate(struct fbp_plan *plan, const struct fbp_node *n, struct gate *g, int *dropouts)
{
    const size_t size = plan->kernels->size, inputs = n->ins ? plan->gate[n->in[0]].width : 0;
    const struct fbp_act_kernels *act = &plan->kernels->act[n->activation];
    g->kind = n->gate, g->act = n->activation, g->function = n->function, g->context = n->context, g->trainable = n->trainable;
    g->parameter = isnan(n->parameter) ? act->parameter : n->parameter;
    memcpy(g->setting, n->setting, sizeof g->setting);
    g->width = width_of(plan, n);
    if (g->width == 0) return FBP_BAD_GRAPH;
    if (g->width > PTRDIFF_MAX / 2 / size - 64) return FBP_TOO_LARGE;
    if (n->gate == FBP_GATE_EMBEDDING && n->setting[0] > (plan->dtype == FBP_F32 ? 0x1p24 : 0x1p53)) return FBP_TOO_MANY;
    g->ld = fbp_padded(g->width, size);
    g->ins = n->ins;
    g->depends = n->gate == FBP_GATE_INPUT;
    size_t column = 0;
    for (int e = 0; e < n->ins; e++) {
        struct gate *from = &plan->gate[n->in[e]];
        g->in[e] = (struct edge){.from = n->in[e], .column = n->gate == FBP_GATE_CONCATENATE ? column : 0};
        column += from->width;
        g->depends |= from->depends;
        from->consumers++;
    }
    if (n->gate == FBP_GATE_INPUT) g->input = plan->inputs++;
    if (n->gate == FBP_GATE_DROPOUT) g->input = (*dropouts)++;
    if (n->gate == FBP_GATE_BATCH_NORM) plan->cut[plan->cuts++] = (int)(g - plan->gate);
    if (n->gate == FBP_GATE_BATCH_NORM || n->gate == FBP_GATE_STANDARDIZE) {
        g->state = plan->state_size;
        if (__builtin_add_overflow(plan->state_size, 2 * g->width, &plan->state_size)) return FBP_TOO_LARGE;
    }
    if (n->function) plan->alone = 1;
    parameters_of(g, n, inputs);
    if (n->gate == FBP_GATE_CONSTANT && n->count != (int64_t)g->width) return FBP_BAD_GRAPH;
    if (__builtin_mul_overflow(g->weights + (size_t)g->bias, g->units, &g->parameters) || g->parameters > PTRDIFF_MAX / 2 / size)
        return FBP_TOO_LARGE;
    if (n->gate == FBP_GATE_MATMUL && n->count != (int64_t)g->parameters) return FBP_BAD_GRAPH;
    if (n->gate == FBP_GATE_MATMUL) g->parameters = 0;
    g->w = plan->parameters;
    if (__builtin_add_overflow(plan->parameters, g->parameters, &plan->parameters)) return FBP_TOO_LARGE;
    return plan->parameters > PTRDIFF_MAX / 2 / size ? FBP_TOO_LARGE : FBP_OK;
}

int fbp_graph_read(struct fbp_plan *plan, const struct fbp_graph *graph)
{
    struct edge *edge = plan->edge;
    int dropouts = 0;
    for (int i = 0; i < graph->nodes; i++) {
        plan->gate[i].in = edge;
        edge += graph->node[i].ins;
        const int status = read_gate(plan, &graph->node[i], &plan->gate[i], &dropouts);
        if (status != FBP_OK) return status;
    }
    plan->trains = 1;
    for (int k = 0; k < graph->outputs; k++) {
        struct fbp_output *o = &plan->output[k];
        *o = graph->output[k];
        if (o->loss >= 0 && isnan(o->parameter)) o->parameter = plan->kernels->loss[o->loss].parameter;
        plan->gate[o->node].output = 1;
        plan->trains &= o->loss != FBP_LOSS_NONE;
        plan->alone |= o->loss == FBP_LOSS_CUSTOM;
    }
    if (plan->inputs == 0) return FBP_BAD_GRAPH;
    for (int i = 0; i < plan->gates; i++)           /* a gate that feeds nothing would get no gradient */
        if (plan->gate[i].kind != FBP_GATE_INPUT && plan->gate[i].consumers == 0 && !plan->gate[i].output) return FBP_BAD_GRAPH;
    return FBP_OK;
}

#define SIMPLE_OPERATIONS 8         /* of a gate without a product for each of its elements, forward and back, about */

/* What a row costs on its way forward. */
void fbp_graph_measure_forward(struct fbp_plan *plan)
{
    for (int i = 0; i < plan->gates; i++) {
        const struct gate *g = &plan->gate[i];
        if (fbp_is_product(g)) plan->forward_operations += 2.0 * (double)((g->weights + (size_t)g->bias) * g->width);
        else if (g->kind != FBP_GATE_INPUT && g->kind != FBP_GATE_ACTIVATION)
            plan->forward_operations += SIMPLE_OPERATIONS / 4.0 * (double)g->width;
    }
}

/* Whose gradients are wanted, and what a row costs in training: both change when a gate is frozen. */
void fbp_graph_measure(struct fbp_plan *plan)
{
    plan->products = plan->operations = 0;
    for (int i = 0; i < plan->gates; i++) {
        struct gate *g = &plan->gate[i];
        int upstream = 0;
        for (int e = 0; e < g->ins; e++) upstream |= plan->gate[g->in[e].from].wanted;
        g->wanted = upstream || (g->parameters > 0 && g->trainable);
        const double one = 2.0 * (double)(g->weights * g->width), simple = SIMPLE_OPERATIONS * (double)g->width;
        if (fbp_is_product(g)) plan->products += one * (1 + upstream + (g->kind == FBP_GATE_DENSE && g->trainable));
        else if (g->kind != FBP_GATE_INPUT && g->kind != FBP_GATE_ACTIVATION) plan->operations += simple;
    }
    plan->operations += plan->products;
}

/* Which edge is the first, and which the last, to write the gradient of the gate it comes from. The loss comes before all. */
void fbp_graph_order(struct fbp_plan *plan)
{
    for (int p = 0; p < plan->gates; p++) {
        struct edge *last = NULL;
        for (int g = plan->gates - 1; g > p; g--)
            for (int e = 0; e < plan->gate[g].ins; e++) {
                if (plan->gate[g].in[e].from != p) continue;
                plan->gate[g].in[e].first = last == NULL && !plan->gate[p].output;
                last = &plan->gate[g].in[e];
            }
        if (last) last->last = 1;
    }
}
