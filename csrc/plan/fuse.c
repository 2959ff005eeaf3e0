/* fuse.c: what gates do for each other, so that a skip connection, or an activation as a gate of its own, costs next to nothing.
 * Forward, a product computes in its tiles the activation that is all it serves, and the sum of which it is a term. Backward, a
 * gradient that is handed on as it is stays where it lies. In a training step, what is needed for a short time only shares memory
 * with what comes after it. By hand, every gate keeps values of its own. Every element is the result of the same operations in the
 * same order either way. */
#include "plan.h"

static int linear(const struct gate *g) { return g->act == FBP_IDENTITY && g->function == NULL; }
static int serves_one(const struct gate *g) { return g->kind > FBP_GATE_CONSTANT && g->consumers == 1 && !g->output; }

/* The second edge to write the gradient of gate p, if it is that of a product. */
static struct edge *second_of_product(const struct fbp_plan *plan, int p)
{
    for (int g = plan->gates - 1, count = 0; g > p; g--)
        for (int e = 0; e < plan->gate[g].ins; e++)
            if (plan->gate[g].in[e].from == p && ++count == 2) return fbp_is_product(&plan->gate[g]) ? &plan->gate[g].in[e] : NULL;
    return NULL;
}

/* Whether a product is the last to write the gradient of gate p. */
static int last_of_product(const struct fbp_plan *plan, int p)
{
    for (int g = p + 1; g < plan->gates; g++)
        for (int e = 0; e < plan->gate[g].ins; e++)
            if (plan->gate[g].in[e].from == p) return fbp_is_product(&plan->gate[g]);
    return 0;
}

/* A sum and an activation hand dZ on as it is. Who receives nothing else uses it where it lies; where a product adds to it, as in
 * X + f(X W), the product starts from it. A term relu(..) also has a derivative: the product that ends the gradient of the sum makes
 * both. */
static void fuse_gradients(struct fbp_plan *plan, int g)
{
    struct gate *gate = &plan->gate[g];
    for (int e = 0; e < gate->ins; e++) {
        struct edge *edge = &gate->in[e];
        struct gate *from = &plan->gate[edge->from];
        if (!edge->first || from->kind <= FBP_GATE_CONSTANT) continue;
        if (edge->last) {
            if (linear(from)) {
                from->shares = g;
            } else if (gate->kind == FBP_GATE_ADD) {
                from->brief = 1;
                if (linear(gate) && plan->kernels->act[from->act].epilogue_grad == FBP_RELU_GRAD && last_of_product(plan, g))
                    gate->hands = edge->from;
            }
            continue;
        }
        struct edge *next = second_of_product(plan, edge->from);
        if (next == NULL) continue;
        edge->lent = 1;
        next->start = g;
    }
}

/* The product that can compute sum g in its tiles: that of its later term, where the other is there before. */
static void fuse_sum(struct fbp_plan *plan, int g)
{
    const struct edge *in = plan->gate[g].in;
    const int other = in[0].from < in[1].from ? in[0].from : in[1].from, t = in[0].from + in[1].from - other;
    struct gate *term = &plan->gate[t];
    const int in_registers = linear(term) || plan->kernels->act[term->act].epilogue != FBP_STORE;
    const int product = term->kind == FBP_GATE_ACTIVATION && plan->gate[term->in[0].from].then == t ? term->in[0].from : t;
    if (!serves_one(term) || !in_registers || !fbp_is_product(&plan->gate[product]) || other >= product) return;
    term->sum = g;
    plan->gate[g].term = t;
    plan->gate[g].product = product;
}

/* In X + f(..) the gradient of X can take the place of that of the sum, if nobody else uses that where it lies. */
static void fuse_memory(struct fbp_plan *plan, int g)
{
    const struct gate *gate = &plan->gate[g];
    for (int e = 0; e < 2; e++) {
        const struct edge *other = &gate->in[1 - e];
        if (gate->in[e].lent && !other->lent && gate->shares == 0 && plan->gate[other->from].shares != g)
            plan->gate[gate->in[e].from].replaces = g;
    }
}

void fbp_fuse(struct fbp_plan *plan)
{
    for (int g = 0; g < plan->gates; g++) {
        const struct gate *gate = &plan->gate[g];
        if (gate->kind == FBP_GATE_ACTIVATION) {
            struct gate *from = &plan->gate[gate->in[0].from];
            if (serves_one(from) && linear(from) && from->kind != FBP_GATE_ACTIVATION) from->then = g;
        }
        if (gate->kind == FBP_GATE_ADD) fuse_sum(plan, g);
        if (gate->kind == FBP_GATE_ACTIVATION || gate->kind == FBP_GATE_ADD) fuse_gradients(plan, g);
    }
    for (int g = 0; g < plan->gates; g++)
        if (plan->gate[g].kind == FBP_GATE_ADD) fuse_memory(plan, g);
}

/* The buffers of a training step, from those by hand. */
void fbp_fuse_buffers(const struct fbp_plan *plan, struct buffers *b)
{
    for (int g = plan->gates - 1; g >= 0; g--) {
        const struct gate *gate = &plan->gate[g];
        const int owner = gate->shares ? gate->shares : gate->replaces;
        if (owner) b[g].grad = b[owner].grad, b[g].grad_row = b[owner].grad_row;
        if (gate->brief) b[g].out = b[g].grad, b[g].out_row = b[g].grad_row;
    }
}

/* ---- in a pass ----------------------------------------------------------------------------------------------------------------- */

/* Whether O of gate g is a result that is asked for: all are, by hand. */
int fbp_seen(const struct pass *p, int g)
{
    for (int i = 0; i < p->results; i++)
        if (p->result[i].node == g) return 1;
    return p->keep;
}

/* The gate whose O is computed where Z of gate g is. */
int fbp_lands(const struct pass *p, int g)
{
    const int then = p->plan->gate[g].then;
    return then && !fbp_seen(p, g) ? then : g;
}

/* The sum that the product g, whose output is that of gate `to`, computes as well; or 0. */
int fbp_sum_of(const struct pass *p, int g, int to)
{
    const int sum = p->plan->gate[to].sum;
    return sum && p->plan->gate[sum].product == g ? sum : 0;
}

/* Whether another gate has already computed gate g. */
int fbp_computed(const struct pass *p, int g)
{
    const struct gate *gate = &p->plan->gate[g];
    if (gate->kind == FBP_GATE_ACTIVATION) return fbp_lands(p, gate->in[0].from) == g;
    return gate->product && fbp_lands(p, gate->product) == gate->term;
}

/* Whether O of gate g, which a sum has taken in, is needed for anything else. */
int fbp_output_needed(const struct pass *p, int g)
{
    const struct fbp_act_kernels *act = &p->plan->kernels->act[p->plan->gate[g].act];
    return fbp_seen(p, g) || (p->result == NULL && act->backward && !act->keeps);
}
