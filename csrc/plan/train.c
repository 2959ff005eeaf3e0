/* train.c: training steps: phase A by rows, then phase B by weights; and the same by hand. */
#include <string.h>

#include "../base/clock.h"
#include "plan.h"

#define SLICE_SECONDS 0.02          /* a call comes back so often to let signals in */
#define CLOCK_OPERATIONS 2e6        /* work between two looks at the clock */

/* E of the step on a batch of so many rows: the weighted sum over outputs of their mean losses. */
static double step_loss(const struct pass *p, int64_t rows)
{
    double E = 0;
    for (int k = 0; k < p->plan->outputs; k++) {
        const double *loss = p->ws->target[k].loss;
        const int custom = p->plan->output[k].loss == FBP_LOSS_CUSTOM;
        const double mean = custom ? loss[0] : p->weight > 0 ? fbp_ordered_sum(loss, rows) / p->weight : 0;
        E += p->plan->output[k].weight * mean;
    }
    return E;
}

/* The weights of the rows of the step, and their sum. */
static double step_weight(const struct pass *p)
{
    double *weight = p->ws->weight;
    if (p->weights == NULL) return (double)p->rows;
    for (int64_t r = 0; r < p->rows; r++) weight[r] = p->weights[fbp_source_row(p, (size_t)r)];
    return fbp_ordered_sum(weight, p->rows);
}

/* Both phases on the batch that begins with row `first` of the run, all of it or part by part; the last part ends with the update. */
static int step(struct pass *p, int64_t first, int64_t rows, struct fbp_team *team)
{
    struct fbp_plan *plan = p->plan;
    for (p->before = 0;; p->before += p->rows) {
        p->first = first + p->before;
        p->rows = fbp_step_rows(plan, rows, p->before, team->threads);
        p->parts = fbp_row_parts(plan, p->rows, team->threads);
        p->in_parts = p->rows < rows;
        fbp_pass_step(p, team);
        if (atomic_load(p->bad)) return atomic_load(p->bad);            /* nothing was changed by this step */
        if (fbp_halted(&p->halt)) return FBP_PAUSED;
        const int64_t done = p->before + p->rows;
        if (done == rows) break;
        if (!fbp_weights_phase(p, done % FBP_REDUCTION_ROWS ? FBP_SUMS : FBP_TOTALS, plan->step.rule, team)) return FBP_PAUSED;
    }
    return fbp_update_phase(p, team) ? FBP_OK : FBP_PAUSED;
}

/* Steps on batches from run->next on; returns a status. */
static int training(struct pass *p, struct fbp_run *run, struct fbp_team *team)
{
    struct fbp_plan *plan = p->plan;
    double since_clock = 0, start = 0;                                  /* of the time: 0 before the first look */
    for (int64_t rows; run->next < run->end; run->next += rows) {
        rows = run->batch < run->end - run->next ? run->batch : run->end - run->next;
        p->first = run->next, p->rows = rows;
        p->weight = step_weight(p);
        fbp_trial_begin(team, &plan->training_trials, plan->operations * (double)rows);
        p->contended = team->trial && team->trial->company;
        fbp_update_begin(plan, rows);
        const int status = step(p, run->next, rows, team);
        if (status != FBP_OK) return status;
        fbp_update_end(plan);
        fbp_trial_end(team);
        plan->draws++;
        fbp_batch_norm_remember(plan, p->ws, (size_t)rows);
        run->loss = step_loss(p, rows);
        run->loss_sum += run->loss * p->weight;
        run->weight_sum += p->weight;
        run->steps++;
        since_clock += plan->operations * (double)rows;
        if (run->next + rows < run->end && (since_clock > CLOCK_OPERATIONS || plan->alone)) {
            const double now = fbp_seconds();
            since_clock = 0;
            if (start == 0) start = now;
            if (now - start > SLICE_SECONDS) {
                run->next += rows;
                break;
            }
        }
    }
    return run->next < run->end ? FBP_PAUSED : FBP_OK;
}

/* Of a call: no error yet, and these buffers. Workers read both: what is so already is not written. */
static void begin(struct workspace *ws, struct buffers *gate)
{
    if (atomic_load(&ws->bad) != FBP_OK) atomic_store(&ws->bad, FBP_OK);
    if (ws->gate != gate) ws->gate = gate;
}

/* Lets the caller be asked in a pass of so much work, if that is long. */
struct asked {
    atomic_int stop;
    double polled;
};
static void ask(struct pass *p, struct asked *a, fbp_poll *interrupted, double operations)
{
    if (operations <= FBP_LONG_OPERATIONS || interrupted == NULL) return;
    *a = (struct asked){.polled = fbp_seconds()};
    p->halt = (struct halt){&a->stop, interrupted, &a->polled};
}

int fbp_train(fbp_plan *plan, const struct fbp_array *x, const struct fbp_targets *y, struct fbp_run *run)
{
    if (!plan->trains || plan->optimizer < 0) return FBP_BAD_GRAPH;
    const int64_t rows = run->batch < run->end - run->next ? run->batch : run->end - run->next;
    if (rows <= 0) return FBP_OK;
    fbp_lock_write(&plan->lock);
    int status = fbp_training_workspace(plan, (size_t)rows);
    if (status == FBP_OK) {
        fbp_forget_forward(plan);
        struct workspace *ws = plan->training;
        begin(ws, ws->shared);
        fbp_weights_refresh(plan);
        struct asked asked;
        struct pass p = {.plan = plan, .ws = ws, .x = x, .y = y, .weights = run->weights, .order = run->order,
                         .training = 1, .bad = &ws->bad};
        ask(&p, &asked, run->interrupted, plan->operations * (double)rows);
        plan->behind = plan->fold_due = 1;
        struct fbp_team team;
        fbp_team_open(&team, fbp_training_threads(plan, rows), plan->operations * (double)(run->end - run->next), &plan->training_trials,
                      plan->operations * (double)rows);
        p.mode = team.mode;
        if (team.threads > 1) {
            fbp_post(ws->x, x, (size_t)plan->inputs * sizeof *x);
            fbp_post(ws->y, y, (size_t)plan->outputs * sizeof *y);
            p.x = ws->x, p.y = ws->y;
        }
        status = training(&p, run, &team);
        fbp_team_close(&team);
    }
    fbp_lock_release(&plan->lock);
    return status;
}

/* ---- by hand: forward, backward, update --------------------------------------------------------------------------------- */

int fbp_forward(fbp_plan *plan, const struct fbp_array *x, int training, void *const *out, fbp_poll *interrupted)
{
    fbp_lock_write(&plan->lock);
    const int64_t rows = x[0].rows;
    int status = fbp_training_workspace(plan, (size_t)rows);
    if (status == FBP_OK) {
        fbp_forget_forward(plan);
        begin(plan->training, plan->training->apart);
        fbp_weights_refresh(plan);
        struct pass p = {.plan = plan, .ws = plan->training, .x = x, .rows = rows, .keep = 1, .training = training, .out = out,
                         .bad = &plan->training->bad};
        const double operations = plan->forward_operations * (double)rows;
        struct asked asked;
        ask(&p, &asked, interrupted, operations);
        struct fbp_team team;
        fbp_team_open(&team, fbp_threads_for(plan, operations), operations, NULL, 0);
        p.mode = team.mode;
        p.parts = fbp_row_parts(plan, rows, team.threads);
        fbp_pass_forward(&p, &team);
        status = atomic_load(p.bad) ? atomic_load(p.bad) : fbp_halted(&p.halt) ? FBP_PAUSED : FBP_OK;
        if (status == FBP_OK) {
            plan->forward_rows = rows;
            plan->forward_training = training;
            plan->draws += training;
            plan->fold_due |= training;
            if (training) fbp_batch_norm_remember(plan, plan->training, (size_t)rows);
        }
        fbp_team_close(&team);
    }
    fbp_lock_release(&plan->lock);
    return status;
}

int fbp_backward(fbp_plan *plan, const struct fbp_array *dout, void *const *dx, fbp_poll *interrupted)
{
    fbp_lock_write(&plan->lock);
    int status = plan->forward_rows < 0 || plan->forward_rows != dout->rows ? FBP_NO_FORWARD : FBP_OK;
    if (status == FBP_OK) {
        begin(plan->training, plan->training->apart);
        fbp_weights_refresh(plan);
        struct pass p = {.plan = plan, .ws = plan->training, .rows = dout->rows, .training = plan->forward_training, .dout = dout,
                         .dx = dx, .inputs_wanted = dx != NULL, .bad = &plan->training->bad};
        plan->gathered = plan->backward_wanted = 0;
        const double operations = plan->operations * (double)dout->rows;
        struct asked asked;
        ask(&p, &asked, interrupted, operations);
        struct fbp_team team;
        fbp_team_open(&team, fbp_threads_for(plan, operations), operations, NULL, 0);
        p.mode = team.mode;
        p.parts = fbp_row_parts(plan, dout->rows, team.threads);
        fbp_pass_backward(&p, &team);
        if (fbp_halted(&p.halt) || !fbp_weights_phase(&p, FBP_GRADIENTS, plan->step.rule, &team)) status = FBP_PAUSED;
        else plan->backward_wanted = 1 + p.inputs_wanted;
        fbp_team_close(&team);
    }
    fbp_lock_release(&plan->lock);
    return status;
}

int fbp_plan_kept(fbp_plan *plan, int node, int gradient, int64_t rows, void *to)
{
    const struct gate *gate = &plan->gate[node];
    const size_t bytes = gate->width * plan->kernels->size;
    fbp_lock_write(&plan->lock);
    const int wanted = !gradient || (plan->backward_wanted && (gate->wanted || (plan->backward_wanted == 2 && gate->depends)));
    const int status = rows >= 0 && plan->forward_rows == rows && wanted ? FBP_OK : FBP_NO_FORWARD;
    for (int64_t r = 0; status == FBP_OK && r < rows; r++) {
        const struct buffers *b = &plan->training->gate[node];
        memcpy((char *)to + (size_t)r * bytes, gradient ? b->grad_row[r] : b->out_row[r], bytes);
    }
    fbp_lock_release(&plan->lock);
    return status;
}

int fbp_update(fbp_plan *plan)
{
    if (plan->optimizer < 0) return FBP_BAD_GRAPH;
    fbp_lock_write(&plan->lock);
    fbp_weights_refresh(plan);
    fbp_update_begin(plan, 0);
    plan->behind = plan->fold_due = 1;
    const double operations = 8.0 * (double)plan->parameters;
    struct fbp_team team;
    fbp_team_open(&team, fbp_threads_for(plan, operations), operations, NULL, 0);
    fbp_update_from_grads(plan, &team);
    fbp_team_close(&team);
    fbp_update_end(plan);
    fbp_lock_release(&plan->lock);
    return FBP_OK;
}
