/* predict.c: forward without keeping anything: row blocks go through the network in a workspace of one block per thread, so
 * memory does not grow with the rows. Predictions of several callers run side by side, each with workspaces of its own. */
#include <stdlib.h>

#include "plan.h"

#define SLICE_OPERATIONS 2e8        /* work of one slice: milliseconds */

/* Workspaces for `count` threads from the plan's free list, made where there are none. The list is guarded by the mutex of the
 * lock, which a forked child makes anew. */
static int take(struct fbp_plan *plan, struct workspace **list, int count)
{
    *list = NULL;
    for (int i = 0; i < count; i++) {
        pthread_mutex_lock(&plan->lock.mutex);
        struct workspace *ws = plan->free;
        if (ws) plan->free = ws->next;
        pthread_mutex_unlock(&plan->lock.mutex);
        if (ws == NULL) {
            const int status = fbp_workspace_create(plan, plan->row_block, 0, &ws);
            if (status != FBP_OK) return status;
        }
        ws->next = *list;
        *list = ws;
    }
    return FBP_OK;
}

static void give_back(struct fbp_plan *plan, struct workspace *list)
{
    pthread_mutex_lock(&plan->lock.mutex);
    while (list) {
        struct workspace *ws = list;
        list = ws->next;
        ws->next = plan->free;
        plan->free = ws;
    }
    pthread_mutex_unlock(&plan->lock.mutex);
}

struct prediction {
    struct fbp_plan *plan;
    const struct fbp_array *x;
    const struct fbp_result *result;
    int results;
    struct workspace *ws;           /* one for each thread */
    int64_t first, rows;
    int parts;
    struct halt halt;
    fbp_float_mode mode;
    atomic_int *bad;
};
_Static_assert(sizeof(struct prediction) <= FBP_CONTEXT_BYTES, "the pool copies it");

/* Whether result number i is computed in the caller's memory: no other gate needs it. */
static int in_place(const struct prediction *q, int i)
{
    const struct gate *gate = &q->plan->gate[q->result[i].node];
    return gate->consumers == 0 && gate->kind != FBP_GATE_INPUT;
}

static void results_in_place(const struct prediction *q, struct workspace *ws, int64_t first)
{
    for (int i = 0; i < q->results; i++) {
        const struct fbp_result *result = &q->result[i];
        const struct gate *gate = &q->plan->gate[result->node];
        if (!in_place(q, i)) continue;
        ws->gate[result->node].out = fbp_at(q->plan, result->out, (size_t)first * gate->width);
        ws->gate[result->node].ld = gate->width;
    }
}

/* Back to the workspace's own memory. */
static void results_home(const struct prediction *q, struct workspace *ws)
{
    for (int i = 0; i < q->results; i++) {
        struct buffers *b = &ws->gate[q->result[i].node];
        if (in_place(q, i)) b->out = (char *)b->out_row[0], b->ld = q->plan->gate[q->result[i].node].ld;
    }
}

static void copy_results(const struct prediction *q, const struct workspace *ws, int64_t first, size_t m)
{
    for (int i = 0; i < q->results; i++) {
        const struct fbp_result *result = &q->result[i];
        const struct gate *gate = &q->plan->gate[result->node];
        const size_t bytes = gate->width * q->plan->kernels->size;
        for (size_t r = 0; !in_place(q, i) && r < m; r++)
            memcpy((char *)result->out + ((size_t)first + r) * bytes, ws->gate[result->node].out_row[r], bytes);
    }
}

/* Row blocks of part `part`, in the workspace of this thread. */
static void prediction_part(void *context, int part, int thread)
{
    struct prediction *q = context;
    struct fbp_plan *plan = q->plan;
    struct workspace *ws = q->ws;
    int64_t from, to;
    for (int i = 0; i < thread; i++) ws = ws->next;
    fbp_share(q->rows, part, q->parts, &from, &to);
    for (int64_t r = from; r < to; r += (int64_t)plan->row_block) {
        struct pass p = {.plan = plan, .ws = ws, .x = q->x, .first = q->first + r, .rows = to - r, .to = plan->gates, .bad = q->bad,
                         .result = q->result, .results = q->results, .mode = q->mode};
        if (plan->forward_operations * (double)q->rows > FBP_LONG_OPERATIONS) p.halt = fbp_halt_of(q->halt, thread);
        const size_t m = fbp_min((size_t)(to - r), plan->row_block);
        results_in_place(q, ws, q->first + r);
        fbp_pass_rows(&p, 0, m);
        copy_results(q, ws, q->first + r, m);
    }
    results_home(q, ws);
}

int fbp_predict(fbp_plan *plan, const struct fbp_array *x, const struct fbp_result *result, int results, int64_t *next,
                fbp_poll *interrupted)
{
    const double row_cost = plan->forward_operations + 1;
    const int64_t slice = (int64_t)(SLICE_OPERATIONS / row_cost) + (int64_t)plan->row_block * fbp_get_threads();
    atomic_int stop = 0, bad = FBP_OK;
    double polled = 0;
    struct prediction q = {.plan = plan, .x = x, .result = result, .results = results, .first = *next,
                           .halt = {&stop, interrupted, &polled}, .bad = &bad};
    q.rows = x[0].rows - *next < slice ? x[0].rows - *next : slice;
    if (q.rows <= 0) return FBP_OK;
    const int threads = fbp_threads_for(plan, row_cost * (double)q.rows);
    fbp_lock_read(&plan->lock);
    if (atomic_load(&plan->exports) > 0 || atomic_load(&plan->touched) || plan->fold_due) {
        fbp_lock_release(&plan->lock);
        fbp_lock_write(&plan->lock);
        fbp_weights_refresh(plan);
        fbp_fold(plan);
        fbp_lock_share(&plan->lock);
    }
    struct fbp_team team;
    fbp_team_open(&team, threads, row_cost * (double)q.rows, &plan->prediction_trials, row_cost * (double)q.rows);
    q.mode = team.mode;
    int status = take(plan, &q.ws, threads);           /* also where a worker is asleep: it may not be next time */
    if (status == FBP_OK) {
        if (team.shared) fbp_trial_begin(&team, &plan->prediction_trials, row_cost * (double)q.rows);
        q.parts = fbp_prediction_parts(plan, q.rows, team.threads);
        fbp_team_run(&team, prediction_part, &q, sizeof q, q.parts);
        if (team.shared) fbp_trial_end(&team);
        if (!atomic_load(&stop)) *next += q.rows;
        status = atomic_load(&bad) ? atomic_load(&bad) : *next < x[0].rows ? FBP_PAUSED : FBP_OK;
    }
    fbp_team_close(&team);
    give_back(plan, q.ws);
    fbp_lock_release(&plan->lock);
    return status;
}
