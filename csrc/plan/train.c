/* train.c: training steps: phase A by rows, a barrier, phase B by weights, a barrier; and the same by hand. */
#include <string.h>

#include "../base/clock.h"
#include "plan.h"

#define SLICE_SECONDS 0.02          /* a call comes back so often to let signals in */
#define CLOCK_OPERATIONS 2e6        /* work between two looks at the clock */

/* Part `part` of phase A: its rows of the batch go forward, and the error signal comes back. */
static void phase_a(void *context, int part, int thread)
{
    struct pass p = *(const struct pass *)context;
    int64_t r0, r1;
    if (thread != 0) p.interrupted = NULL;
    fbp_share(p.rows, part, p.parts, &r0, &r1);
    fbp_pass_forward(&p, (size_t)r0, (size_t)r1);
    fbp_pass_loss(&p, (size_t)r0, (size_t)r1);
    fbp_pass_backward(&p, (size_t)r0, (size_t)r1);
}

/* Sum of the losses of the rows, in order, cut every FBP_REDUCTION_ROWS rows, over the number of rows. */
static double mean_loss(const double *loss, int64_t rows)
{
    double total = 0;
    for (int64_t r = 0; r < rows; r += FBP_REDUCTION_ROWS) {
        double part = 0;
        for (int64_t i = r; i < rows && i < r + FBP_REDUCTION_ROWS; i++) part += loss[i];
        total += part;
    }
    return total / (double)rows;
}

/* Steps on batches from run->next on; returns a status. */
static int training(struct pass *p, struct fbp_run *run, struct fbp_team *team)
{
    struct fbp_plan *plan = p->plan;
    double since_clock = 0, start = 0;                                  /* of the time: 0 before the first look */
    atomic_int bad = FBP_OK;
    p->bad = &bad;
    for (; run->next < run->end; run->next += p->rows) {
        p->first = run->next;
        p->rows = run->batch < run->end - run->next ? run->batch : run->end - run->next;
        fbp_trial_begin(&plan->training_trial, team, plan->operations * (double)p->rows);
        p->parts = fbp_row_parts(plan, p->rows, team->threads);
        fbp_update_begin(plan, 0);
        fbp_team_run(team, phase_a, p, p->parts);
        if (atomic_load(&bad)) return atomic_load(&bad);                /* nothing was changed by this step */
        if (p->stop && atomic_load(p->stop)) return FBP_PAUSED;
        fbp_update_phase(plan, p->ws, (size_t)p->rows, team);
        fbp_update_end(plan);
        fbp_trial_end(&plan->training_trial, team);
        run->loss = mean_loss(p->ws->loss, p->rows);
        run->loss_sum += run->loss * (double)p->rows;
        run->steps++;
        since_clock += plan->operations * (double)p->rows;
        if (since_clock > CLOCK_OPERATIONS) {
            const double now = fbp_seconds();
            since_clock = 0;
            if (start == 0) start = now;
            if (now - start > SLICE_SECONDS) {
                run->next += p->rows;
                break;
            }
        }
    }
    return run->next < run->end ? FBP_PAUSED : FBP_OK;
}

/* A view of params that is out shows what the call has done; without one, params may stay behind until somebody looks. */
static void publish_to_views(struct fbp_plan *plan)
{
    if (atomic_load(&plan->exports) > 0) fbp_weights_publish(plan);
}

int fbp_train(fbp_plan *plan, const struct fbp_array *x, const struct fbp_array *y, int labels, struct fbp_run *run)
{
    if (plan->loss < 0 || plan->optimizer < 0) return FBP_BAD_GRAPH;
    const int64_t rows = run->batch < run->end - run->next ? run->batch : run->end - run->next;
    if (rows <= 0) return FBP_OK;
    fbp_lock_write(&plan->lock);
    int status = fbp_training_workspace(plan, (size_t)rows);
    if (status == FBP_OK) {
        plan->forward_rows = -1;
        fbp_weights_refresh(plan);
        struct pass p = {.plan = plan, .ws = plan->training, .x = x, .y = y, .labels = labels, .order = run->order};
        atomic_int stop = 0;
        double polled = 0;
        if (plan->operations * (double)rows > FBP_LONG_OPERATIONS) {
            p.stop = &stop;
            p.interrupted = run->interrupted;
            p.polled = &polled;
            polled = fbp_seconds();
        }
        plan->behind = 1;
        struct fbp_team team;
        fbp_team_open(&team, fbp_training_threads(plan, rows), plan->operations * (double)(run->end - run->next));
        status = training(&p, run, &team);
        fbp_team_close(&team);
        publish_to_views(plan);
    }
    fbp_lock_release(&plan->lock);
    return status;
}

/* ---- by hand: forward, backward, update --------------------------------------------------------------------------------- */

struct by_hand {
    struct pass pass;
    const struct fbp_array *dout;
    char *out;                      /* where the output of forward, or dX of backward, goes; or NULL */
};

static void copy_out(const struct pass *p, char *to, const char *from, size_t width, size_t ld, size_t r0, size_t r1)
{
    const size_t size = p->plan->kernels->size;
    for (size_t r = r0; r < r1; r++) memcpy(to + r * width * size, from + r * ld * size, width * size);
}

static void forward_part(void *context, int part, int thread)
{
    const struct by_hand *h = context;
    struct pass p = h->pass;
    const int g = p.plan->gates - 1;
    int64_t r0, r1;
    (void)thread;
    fbp_share(p.rows, part, p.parts, &r0, &r1);
    fbp_pass_forward(&p, (size_t)r0, (size_t)r1);
    copy_out(&p, h->out, p.ws->gate[g].out, p.plan->gate[g].width, p.ws->gate[g].ld, (size_t)r0, (size_t)r1);
}

int fbp_forward(fbp_plan *plan, const struct fbp_array *x, void *out)
{
    fbp_lock_write(&plan->lock);
    const int64_t rows = x[0].rows;
    const int status = fbp_training_workspace(plan, (size_t)rows);
    if (status == FBP_OK) {
        fbp_weights_refresh(plan);
        struct by_hand h = {.pass = {.plan = plan, .ws = plan->training, .x = x, .rows = rows, .keep = 1}, .out = out};
        const double operations = plan->forward_operations * (double)rows;
        struct fbp_team team;
        fbp_team_open(&team, fbp_threads_for(operations), operations);
        h.pass.parts = fbp_row_parts(plan, rows, team.threads);
        fbp_team_run(&team, forward_part, &h, h.pass.parts);
        fbp_team_close(&team);
        plan->forward_rows = rows;
    }
    fbp_lock_release(&plan->lock);
    return status;
}

static void backward_part(void *context, int part, int thread)
{
    const struct by_hand *h = context;
    struct pass p = h->pass;
    int64_t r0, r1;
    (void)thread;
    fbp_share(p.rows, part, p.parts, &r0, &r1);
    fbp_pass_delta(&p, h->dout, (size_t)r0, (size_t)r1);
    fbp_pass_backward(&p, (size_t)r0, (size_t)r1);
    if (h->out) copy_out(&p, h->out, p.ws->gate[0].grad, p.plan->gate[0].width, p.plan->gate[0].ld, (size_t)r0, (size_t)r1);
}

int fbp_backward(fbp_plan *plan, const struct fbp_array *dout, void *dx)
{
    fbp_lock_write(&plan->lock);
    const int status = plan->forward_rows < 0 || plan->forward_rows != dout->rows ? FBP_NO_FORWARD : FBP_OK;
    if (status == FBP_OK) {
        fbp_weights_refresh(plan);
        struct by_hand h = {.pass = {.plan = plan, .ws = plan->training, .rows = dout->rows, .inputs_wanted = dx != NULL},
                            .dout = dout, .out = dx};
        plan->gathered = 0;
        const double operations = plan->operations * (double)dout->rows;
        struct fbp_team team;
        fbp_team_open(&team, fbp_threads_for(operations), operations);
        h.pass.parts = fbp_row_parts(plan, dout->rows, team.threads);
        fbp_team_run(&team, backward_part, &h, h.pass.parts);
        fbp_weights_phase(plan, plan->training, (size_t)dout->rows, FBP_GRADIENTS, NULL, &team);
        fbp_team_close(&team);
    }
    fbp_lock_release(&plan->lock);
    return status;
}

int fbp_update(fbp_plan *plan)
{
    if (plan->optimizer < 0) return FBP_BAD_GRAPH;
    fbp_lock_write(&plan->lock);
    fbp_weights_refresh(plan);
    fbp_update_begin(plan, 1);
    plan->behind = 1;
    const double operations = 8.0 * (double)plan->parameters;
    struct fbp_team team;
    fbp_team_open(&team, fbp_threads_for(operations), operations);
    fbp_update_from_grads(plan, &team);
    fbp_team_close(&team);
    fbp_update_end(plan);
    publish_to_views(plan);
    fbp_lock_release(&plan->lock);
    return FBP_OK;
}
