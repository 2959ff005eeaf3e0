/* split.c: a first layer of many inputs, and few rows of a batch. Sharing the rows, every thread reads all weights, of which the others have
 * just changed their part: they pass from cache to cache twice a step. Sharing the columns, each thread reads the weights that it also
 * changes, and only outputs pass. */
#include "plan.h"

#define SPLIT_WEIGHTS 16384             /* fewer are passed in less time than the threads take to wait for each other once more */
#define SPLIT_INPUTS 2                  /* for each row of the batch: with fewer, as many outputs pass as weights would */
#define SPLIT_GAIN 3.0                  /* what is saved is the work on so many rows, which a thread may have more than the others */

/* The gate: a dense one of an input, before all others that compute anything. Two threads can cut it in half, or its weights are in
 * panels anyway. */
void fbp_split_find(struct fbp_plan *plan)
{
    int g = 0;
    while (g < plan->gates && plan->gate[g].kind <= FBP_GATE_CONSTANT) g++;
    if (g == plan->gates || plan->gate[g].kind != FBP_GATE_DENSE || plan->gate[g].weights * plan->gate[g].units < SPLIT_WEIGHTS) return;
    const struct gate *last = &plan->gate[plan->gate[g].then ? plan->gate[g].then : g];
    if (last->sum || last->function || !plan->kernels->act[last->act].tilewise) return;
    if (!fbp_long_rows(plan, &plan->gate[g]) && plan->gate[g].units % (2 * plan->kernels->nr) != 0) return;
    plan->splits = g;
}

/* The share of its columns: whole panels, which its weights are in. */
void fbp_split_columns(const struct fbp_plan *plan, int g, int part, int parts, size_t *j0, size_t *j1)
{
    const struct gate *gate = &plan->gate[g];
    const size_t nr = plan->kernels->nr, units = gate->units, n = (size_t)parts, i = (size_t)part;
    *j0 = (units * i / n + nr / 2) / nr * nr;
    *j1 = i + 1 == n ? units : (units * (i + 1) / n + nr / 2) / nr * nr;
}

/* That gate, where it pays for so many rows and threads; or 0. */
int fbp_split_gate(const struct fbp_plan *plan, int64_t rows, int threads)
{
    const int g = plan->splits;
    const struct gate *gate = &plan->gate[g];
    if (g == 0 || threads < 2 || rows > (int64_t)plan->row_block || gate->weights < SPLIT_INPUTS * (size_t)rows) return 0;
    for (int part = 0; part < threads; part++) {
        size_t j0, j1;
        fbp_split_columns(plan, g, part, threads, &j0, &j1);
        if (j0 >= j1 || (double)(j1 - j0) * threads > (1 + SPLIT_GAIN / (double)rows) * (double)gate->units) return 0;
    }
    return g;
}
