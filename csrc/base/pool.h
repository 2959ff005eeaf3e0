/* pool.h: the library's own threads.
 *
 * Work is offered, not assigned: a phase is cut into parts, the caller takes them one by one, and so does every worker that happens
 * to be awake. A worker that the system has given no core takes nothing and delays nobody. The pool serves one call at a time;
 * a call that finds it busy runs on its own thread alone. Workers are started on first use, look out for work for some tens of
 * microseconds after the last, and then sleep. After a fork the child starts a pool of its own.
 */
#ifndef FBP_POOL_H
#define FBP_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu.h"

/* Whether short work of one kind is done sooner alone: both ways are timed now and then, and the better one is taken in between.
 * What a second thread gains on a few microseconds depends on how far apart its core is, which no table knows. */
struct fbp_trial {
    double operations;              /* the kind of work */
    double seconds[2];              /* least time of the last trial: alone, in company */
    double began;
    unsigned calls;                 /* since the last trial began */
    int company;                    /* of the last call */
};
#define FBP_TRIALS 4                /* kinds that come in turn, as the last batch of an epoch and the others */
struct fbp_trials {
    struct fbp_trial kind[FBP_TRIALS];
    unsigned kinds;                 /* that there were: a new one takes the place of the oldest */
};

/* The threads of one call: the caller, number 0, and workers 1 .. threads - 1. */
struct fbp_team {
    int threads;
    int here;                       /* of all there are, those that are awake, or are worth waking */
    int most;                       /* threads there are */
    int shared;                     /* the pool is ours until the team is closed */
    int wake;                       /* the work is worth the microseconds of waking workers */
    struct fbp_trial *trial;        /* of the work at hand, or NULL */
    fbp_float_mode mode;
};

/* For a call of so many floating-point operations on `want` threads at most. trials: of its pieces, of `each` operations, or NULL; what they have
 * shown to be done sooner alone wakes no worker. Between the two, denormals are flushed. */
void fbp_team_open(struct fbp_team *team, int want, double operations, struct fbp_trials *trials, double each);
void fbp_team_close(struct fbp_team *team);

/* task(context, part, thread) for every part of 0 .. parts, by whoever comes first; returns when all are done. Workers get a copy of the
 * `size` bytes of context, FBP_CONTEXT_BYTES at most; what they write is elsewhere, and context has pointers to it. */
#define FBP_CONTEXT_BYTES 512
typedef void fbp_task(void *context, int part, int thread);
void fbp_team_run(struct fbp_team *team, fbp_task *task, void *context, size_t size, int parts);

/* Copies what workers are to read, but only the pieces that are not there yet. A cache line that is written has to be taken from all who
 * have read it, and they have to fetch it again; from one short step to the next, hardly any differ. */
void fbp_post(void *to, const void *from, size_t size);

/* Around the work: makes the team one thread where that is better, and gives back its threads. */
void fbp_trial_begin(struct fbp_team *team, struct fbp_trials *trials, double operations);
void fbp_trial_end(struct fbp_team *team);

/* Part number `part` of `parts` of 0 .. n: as equal as can be. */
static inline void fbp_share(int64_t n, int part, int parts, int64_t *from, int64_t *to)
{
    const int64_t low = n / parts, larger = n % parts;
    *from = part * low + (part < larger ? part : larger);
    *to = *from + low + (part < larger);
}

#endif
