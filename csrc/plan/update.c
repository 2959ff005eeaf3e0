/* update.c: the numbers of an update, and the update of one block of weights with its slots. */
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

/* The numbers of the next update. Means that begin at 0 are too small by 1 - beta^t in step t. With both corrected,
 * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) = r / (1 - beta1^t) m / (sqrt(v) + r eps), r = sqrt(1 - beta2^t). */
void fbp_update_begin(struct fbp_plan *plan)
{
    const double *hyper = plan->hyper;
    struct fbp_rule *rule = &plan->rule;
    *rule = (struct fbp_rule){.rate = hyper[FBP_RATE], .eps = hyper[FBP_EPS], .beta1 = hyper[FBP_BETA1], .beta2 = hyper[FBP_BETA2]};
    if (!plan->kernels->optimizer[plan->optimizer].corrected) return;
    const int64_t t = plan->updates + 1;
    const double root = sqrt(1 - power(rule->beta2, t));
    rule->rate *= root / (1 - power(rule->beta1, t));
    rule->eps *= root;
}

/* The optimizer on rows i .. i + rows and columns j .. j + cols, of one panel, of a gate's W: they are at w with stride ld, their
 * gradient at g with stride ldg. */
void fbp_update_block(const struct fbp_plan *plan, const struct gate *gate, size_t i, size_t rows, size_t j, size_t cols, void *w,
                      ptrdiff_t ld, const void *g, ptrdiff_t ldg)
{
    const struct fbp_optimizer_kernels *optimizer = &plan->kernels->optimizer[plan->optimizer];
    const size_t place = fbp_slot_place(plan, gate, i, j);
    struct fbp_update update = {.rows = rows, .cols = cols, .w = w, .ld = ld, .g = g, .ldg = ldg, .rule = &plan->rule};
    update.ld_slot = (ptrdiff_t)(gate->wp ? plan->kernels->nr : gate->width);
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

void fbp_plan_copy_slot(fbp_plan *plan, int slot, void *values, int back)
{
    const struct fbp_kernels *k = plan->kernels;
    fbp_lock_write(&plan->lock);
    for (int g = 0; g < plan->gates; g++) {
        const struct gate *gate = &plan->gate[g];
        if (gate->kind != FBP_GATE_DENSE) continue;
        char *flat = fbp_at(plan, values, gate->w), *kept = gate->slot[slot];
        size_t rows = 0;                        /* those before row number `rows` are in panels */
        if (gate->wp) {
            rows = gate->inputs;
            (back ? k->pack : k->unpack)(flat, (ptrdiff_t)gate->width, rows, gate->width, kept);
        }
        flat = fbp_at(plan, flat, rows * gate->width);
        kept = fbp_at(plan, kept, fbp_slot_place(plan, gate, rows, 0));
        const size_t bytes = (gate->inputs + 1 - rows) * gate->width * k->size;
        memcpy(back ? kept : flat, back ? flat : kept, bytes);
    }
    fbp_lock_release(&plan->lock);
}
