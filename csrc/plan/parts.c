/* parts.c: how a batch is cut: for how many threads, in which parts through phase A, and how many rows at a time through both phases. None of
 * it touches a bit of the result. */
#include "plan.h"

#define ROWS_PER_THREAD 8
#define SHARED_BYTES (16 << 20)
#define OPERATIONS_PER_THREAD 3e5       /* work that pays for handing it to another thread: about a microsecond */

int fbp_threads_for(const struct fbp_plan *plan, double operations)
{
    if (plan->alone) return 1;
    const double most = operations / OPERATIONS_PER_THREAD;
    const int threads = fbp_get_threads();
    return most < 2 ? 1 : most < threads ? (int)most : threads;
}

/* The same for a training step. Every thread reads all weights, and half of them have just been changed in the other's cache: with
 * a few rows that costs more than is gained, until the weights are so many that they come from memory anyway. */
int fbp_training_threads(const struct fbp_plan *plan, int64_t rows)
{
    const int threads = fbp_threads_for(plan, plan->operations * (double)rows);
    if (plan->parameters * plan->kernels->size > SHARED_BYTES) return threads;
    if (4 * plan->gate[fbp_split_gate(plan, rows, threads)].parameters > 3 * plan->parameters) return threads;  /* they stay where they are */
    return rows < ROWS_PER_THREAD * threads ? 1 : threads;
}

/* Parts of a batch for phase A: row blocks that fit the cache, as many for each thread. */
int fbp_row_parts(const struct fbp_plan *plan, int64_t rows, int threads)
{
    const int64_t block = (int64_t)plan->row_block, each = (rows + block * threads - 1) / (block * threads);
    if (plan->alone) return 1;
    return rows < threads ? 1 : each * threads > FBP_MOST_PARTS ? FBP_MOST_PARTS : (int)each * threads;
}

#define PARTS_PER_THREAD 4
#define PART_OPERATIONS 2e6

/* Parts for each thread of a phase of so much work: several where it is long, for the threads to end at about the same time, also where one
 * core is slower, or away for a while. */
int fbp_parts_each(double operations, int threads)
{
    const double parts = operations / PART_OPERATIONS / threads;
    return threads == 1 || parts < 1 ? 1 : parts < PARTS_PER_THREAD ? (int)parts : PARTS_PER_THREAD;
}

#define PREDICTED_ROWS 64               /* enough to reuse weights from L2; in training, which transposes them for each part, it is not */

/* Parts of a batch for a prediction. */
int fbp_prediction_parts(const struct fbp_plan *plan, int64_t rows, int threads)
{
    const int parts = fbp_row_parts(plan, rows, threads), each = fbp_parts_each(plan->forward_operations * (double)rows, threads);
    const int64_t most = rows / (PREDICTED_ROWS * threads), finer = threads * (most < each ? most : each);
    return plan->alone || finer < parts ? parts : (int)finer;
}

/* ---- long batches. The products of a step on so many rows would find nothing in cache of what phase A has left there: so some rows go
 * through both phases, then the next, and the chains of dW wait, as do their totals from one cut to the next. ------------------------ */

#define STEP_ROWS 512                   /* for each thread: they are still in cache */
#define SUMS_SHARE 2                    /* what waits takes at most such a part of the memory of the batch */
#define STEP_OPERATIONS 1e7             /* for each thread, worth handing over a part: with fewer, more rows are taken ... */
#define STEP_ROWS_MOST 2048             /* ... but not more than so many for each */

/* Where that is done: no gate mixes rows, and activations need more memory than weights. Returns how many numbers wait for each weight,
 * 1 or, where the batch is longer than a chain, 2; or 0. */
int fbp_sums_wait(const struct fbp_plan *plan, size_t rows)
{
    const int wait = rows > FBP_REDUCTION_ROWS ? 2 : 1;
    size_t row = 0;
    if (plan->cuts || plan->alone || rows < 2 * STEP_ROWS) return 0;
    for (int g = 0; g < plan->gates; g++)
        if (plan->gate[g].parameters > 0) row += 2 * plan->gate[g].ld;
    return plan->parameters > 0 && (size_t)wait * plan->parameters <= rows * row / SUMS_SHARE ? wait : 0;
}

static int64_t step_rows_most(const struct fbp_plan *plan, int threads)
{
    const double worth = threads > 1 ? STEP_OPERATIONS / plan->operations : 0;
    return threads * (worth > STEP_ROWS_MOST ? STEP_ROWS_MOST : worth > STEP_ROWS ? (int64_t)worth : STEP_ROWS);
}

/* Rows of a batch that go through both phases at a time, after the first `before`. They are equal parts of what lies between two cuts, or of
 * several such pieces where they are as long as that. */
int64_t fbp_step_rows(const struct fbp_plan *plan, int64_t rows, int64_t before, int threads)
{
    const int64_t most = step_rows_most(plan, threads), chain = FBP_REDUCTION_ROWS;
    if (plan->training->sums == NULL || rows < 2 * most) return rows;
    const int64_t longest = most < chain ? chain : most / chain * chain, start = before / longest * longest;
    const int64_t piece = rows - start < longest ? rows - start : longest, count = (piece + most - 1) / most;
    const int64_t each = (piece + count - 1) / count, left = start + piece - before;
    return each < left ? each : left;
}

/* Whether gradients wait until all are there, for phase B to be given up half-way where it is long: it brings 12 bytes a weight more to and
 * from memory. */
#define WAITING_ROWS 2048               /* the products of so many take a hundred times as long as that */

int fbp_update_waits(const struct fbp_plan *plan, int64_t rows)
{
    return rows >= WAITING_ROWS && plan->training->sums == NULL && plan->operations * (double)rows > FBP_LONG_OPERATIONS;
}
