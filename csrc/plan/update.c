/* update.c: the numbers of an update, the update of one block of weights with its slots, and the passes over all weights: the update
 * from grads, where it has to wait for the whole gradient (its norm) or for more batches, and the limit to the norms of columns. */
#include <math.h>
#include <string.h>

#include "plan.h"

/* b^n by repeated squaring: one order of operations, so the same bits everywhere. */
static double power(double b, int64_t n)
{
    double result = 1;
    for (; n > 0; n /= 2, b *= b)
        if (n % 2) result *= b;
    return result;
}

/* Means that begin at 0 are too small by 1 - beta^t in step t. With both corrected,
 * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) = r / (1 - beta1^t) m / (sqrt(v) + r eps), r = sqrt(1 - beta2^t). */
static void correct(const double hyper[FBP_HYPER], int64_t t, double *rate, double *eps)
{
    const double root = sqrt(1 - power(hyper[FBP_BETA2], t));
    *rate *= root / (1 - power(hyper[FBP_BETA1], t));
    *eps *= root;
}

static void set_scale(struct fbp_rule *rule, double scale)
{
    rule->scale = scale;
    rule->plain = scale == 1 && rule->limit == INFINITY && rule->l2 == 0 && rule->l1 == 0 && rule->decay == 0;
}

/* What the next step does, on a batch of `rows`, or by hand, then 0. It changes nothing that outlives the step: a step may be given up. */
void fbp_update_begin(struct fbp_plan *plan, int64_t rows)
{
    const double *hyper = plan->hyper;
    struct step *step = &plan->step;
    const int by_hand = rows == 0, wait = fbp_update_waits(plan, rows) || hyper[FBP_CLIP_NORM] > 0;
    const int64_t gathered = by_hand ? 0 : plan->gathered;
    step->due = by_hand || (double)(gathered + 1) >= hyper[FBP_ACCUMULATE];
    step->product = gathered > 0 ? FBP_GRADIENTS_ADDED : step->due && !wait ? FBP_GRADIENTS_AND_UPDATE : FBP_GRADIENTS;
    double rate = hyper[FBP_RATE], eps = hyper[FBP_EPS];
    if (plan->kernels->optimizer[plan->optimizer].corrected) correct(hyper, plan->updates + 1, &rate, &eps);
    for (int bias = 0; bias < 2; bias++) {
        struct fbp_rule *rule = &step->rule[bias];
        const int decays = !bias || hyper[FBP_DECAY_BIASES] != 0;
        rule->rate = rate, rule->eps = eps, rule->beta1 = hyper[FBP_BETA1], rule->beta2 = hyper[FBP_BETA2];
        rule->limit = hyper[FBP_CLIP_VALUE] > 0 ? hyper[FBP_CLIP_VALUE] : INFINITY;
        rule->l2 = decays ? hyper[FBP_L2] : 0;
        rule->l1 = decays ? hyper[FBP_L1] : 0;
        rule->decay = decays ? hyper[FBP_RATE] * hyper[FBP_WEIGHT_DECAY] : 0;
        set_scale(rule, 1.0 / (double)(gathered + 1));
    }
}

/* The norm of grads: squares summed in blocks, by whoever comes first, and the blocks in order. */
struct norm {
    struct fbp_plan *plan;
    size_t blocks;
    int parts;
};

static void norm_part(void *context, int part, int thread)
{
    const struct norm *n = context;
    struct fbp_plan *plan = n->plan;
    int64_t from, to;
    (void)thread;
    fbp_share((int64_t)n->blocks, part, n->parts, &from, &to);
    for (size_t b = (size_t)from; b < (size_t)to; b++) {
        const size_t start = b * FBP_NORM_BLOCK;
        plan->squares[b] = plan->kernels->sum_squares(fbp_at(plan, plan->grads, start),
                                                      fbp_min(plan->parameters - start, FBP_NORM_BLOCK));
    }
}

static double norm(struct fbp_plan *plan, struct fbp_team *team)
{
    struct norm n = {plan, (plan->parameters + FBP_NORM_BLOCK - 1) / FBP_NORM_BLOCK, team->threads};
    double sum = 0;
    fbp_team_run(team, norm_part, &n, sizeof n, n.parts);
    for (size_t b = 0; b < n.blocks; b++) sum += plan->squares[b];
    return sqrt(sum);
}

/* The columns of weights whose norm is limited: those of dense gates that are trained, in pieces of one panel. */
static size_t limited_columns(const struct gate *gate)
{
    return gate->kind == FBP_GATE_DENSE && gate->trainable ? gate->units : 0;
}

struct limit {
    struct fbp_plan *plan;
    double weights;                 /* of all limited columns */
    int parts;
};

/* The pieces that begin in part `part` of the weights. */
static void limit_part(void *context, int part, int thread)
{
    const struct limit *l = context;
    const struct fbp_plan *plan = l->plan;
    const struct fbp_kernels *k = plan->kernels;
    const double share = l->weights / l->parts;
    double before = 0;
    (void)thread;
    for (int g = 0; g < plan->gates; g++) {
        const struct gate *gate = &plan->gate[g];
        const struct fbp_weights w = fbp_weights_of(plan, gate);
        const size_t width = limited_columns(gate);
        for (size_t j = 0; j < width; j += k->nr) {
            const size_t cols = fbp_min(k->nr, width - j);
            if (before >= part * share && (before < (part + 1) * share || part + 1 == l->parts))
                k->limit_norms(fbp_at(plan, w.b, j / k->nr * (size_t)w.panel), w.ldb, gate->weights, cols, plan->hyper[FBP_MAX_NORM]);
            before += (double)(cols * gate->weights);
        }
    }
}

#define LIMIT_PART 1e4              /* weights worth a part of their own */

/* Shrinks the columns of W, one for each unit, that the update has made longer than allowed. */
static void limit_all(struct fbp_plan *plan, struct fbp_team *team)
{
    struct limit l = {.plan = plan};
    if (!(plan->hyper[FBP_MAX_NORM] > 0)) return;
    for (int g = 0; g < plan->gates; g++) l.weights += (double)(limited_columns(&plan->gate[g]) * plan->gate[g].weights);
    l.parts = l.weights < LIMIT_PART * team->threads ? 1 : team->threads;
    fbp_team_run(team, limit_part, &l, sizeof l, l.parts);
}

/* Updates all weights from grads, shrunk to the norm asked for. A norm that is NaN makes all of them NaN. */
void fbp_update_from_grads(struct fbp_plan *plan, struct fbp_team *team)
{
    struct fbp_rule rule[2] = {plan->step.rule[0], plan->step.rule[1]};
    const double most = plan->hyper[FBP_CLIP_NORM];
    if (most > 0) {
        const double length = norm(plan, team) * rule->scale;
        if (!(length <= most))
            for (int i = 0; i < 2; i++) set_scale(&rule[i], rule[i].scale * (most / length));
    }
    fbp_weights_phase(&(struct pass){.plan = plan}, FBP_UPDATE, rule, team);
    limit_all(plan, team);
}

/* Phase B of a training step; returns 0 when it was given up before it had changed anything. */
int fbp_update_phase(const struct pass *p, struct fbp_team *team)
{
    const struct step *step = &p->plan->step;
    if (!fbp_weights_phase(p, step->product, step->rule, team)) return 0;
    if (!step->due) return 1;
    if (step->product == FBP_GRADIENTS_AND_UPDATE) limit_all(p->plan, team);
    else fbp_update_from_grads(p->plan, team);
    return 1;
}

/* Counts what the step has done. */
void fbp_update_end(struct fbp_plan *plan)
{
    plan->updates += plan->step.due;
    plan->gathered = plan->step.due ? 0 : plan->gathered + 1;
}

/* Where row i, column j of a gate's W is in its slots, counted from their start; row `weights` is the bias. */
static size_t slot_place(const struct fbp_plan *plan, const struct gate *gate, size_t i, size_t j)
{
    const size_t nr = plan->kernels->nr;
    if (gate->wp == NULL) return i * gate->units + j;
    return i < gate->weights ? (j / nr * gate->weights + i) * nr + j % nr : (gate->units + nr - 1) / nr * nr * gate->weights + j;
}

/* The optimizer on rows i .. i + rows and columns j .. j + cols, of one panel where there are any, of a gate's W: they are at w with stride ld, their
 * gradient at g with stride ldg. */
void fbp_update_block(const struct fbp_plan *plan, const struct fbp_rule *rule, const struct gate *gate, size_t i, size_t rows,
                      size_t j, size_t cols, void *w, ptrdiff_t ld, const void *g, ptrdiff_t ldg)
{
    const struct fbp_optimizer_kernels *optimizer = &plan->kernels->optimizer[plan->optimizer];
    const size_t place = slot_place(plan, gate, i, j);
    struct fbp_update update = {.rows = rows, .cols = cols, .w = w, .ld = ld, .g = g, .ldg = ldg, .rule = rule};
    update.ld_slot = (ptrdiff_t)(gate->wp ? plan->kernels->nr : gate->units);
    for (int s = 0; s < optimizer->slots; s++) update.slot[s] = fbp_at(plan, gate->slot[s], place);
    optimizer->update(&update);
}

void fbp_plan_set_hyper(fbp_plan *plan, const double hyper[FBP_HYPER])
{
    fbp_lock_write(&plan->lock);
    memcpy(plan->hyper, hyper, sizeof plan->hyper);
    fbp_lock_release(&plan->lock);
}

int fbp_plan_slots(const fbp_plan *plan) { return plan->optimizer < 0 ? 0 : plan->kernels->optimizer[plan->optimizer].slots; }

int64_t fbp_plan_updates(fbp_plan *plan)
{
    fbp_lock_write(&plan->lock);
    const int64_t updates = plan->updates;
    fbp_lock_release(&plan->lock);
    return updates;
}

void fbp_plan_set_updates(fbp_plan *plan, int64_t updates)
{
    fbp_lock_write(&plan->lock);
    plan->updates = updates;
    fbp_lock_release(&plan->lock);
}

void fbp_plan_copy_slot(fbp_plan *plan, int slot, void *values, int back)
{
    const struct fbp_kernels *k = plan->kernels;
    fbp_lock_write(&plan->lock);
    for (int g = 0; g < plan->gates; g++) {
        const struct gate *gate = &plan->gate[g];
        if (gate->parameters == 0) continue;
        char *flat = fbp_at(plan, values, gate->w), *kept = gate->slot[slot];
        size_t rows = 0;                        /* those before row number `rows` are in panels */
        if (gate->wp) {
            rows = gate->weights;
            (back ? k->pack : k->unpack)(flat, (ptrdiff_t)gate->units, rows, gate->units, kept, (ptrdiff_t)(k->nr * rows));
        }
        flat = fbp_at(plan, flat, rows * gate->units);
        kept = fbp_at(plan, kept, slot_place(plan, gate, rows, 0));
        const size_t bytes = (gate->weights + (size_t)gate->bias - rows) * gate->units * k->size;
        memcpy(back ? kept : flat, back ? flat : kept, bytes);
    }
    fbp_lock_release(&plan->lock);
}
