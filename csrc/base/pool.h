/* pool.h: the library's own threads, and a lock that survives a fork.
 *
 * The pool serves one call at a time; a call that finds it busy runs on its own thread alone. Workers are started on first
 * use, spin some tens of microseconds after a job and then sleep. After a fork the child starts a pool of its own.
 */
#ifndef FBP_POOL_H
#define FBP_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* The threads of one job. */
struct fbp_team {
    int threads;
    _Alignas(64) atomic_uint arrived;
    _Alignas(64) atomic_uint phase;
};

/* fn(context, team, thread) on `want` threads at most, the caller being thread 0; returns when all have finished. */
typedef void fbp_job(void *context, struct fbp_team *team, int thread);
void fbp_pool_run(int want, fbp_job *fn, void *context);
/* Waits until all threads of the team are here. */
void fbp_team_wait(struct fbp_team *team);

/* Part number `part` of `parts` of 0 .. n: as equal as can be. */
static inline void fbp_share(int64_t n, int part, int parts, int64_t *from, int64_t *to)
{
    const int64_t low = n / parts, larger = n % parts;
    *from = part * low + (part < larger ? part : larger);
    *to = *from + low + (part < larger);
}

/* Many readers or one writer; free again in a forked child, whoever held it: then *forked is raised, since what the lock
 * guards may be half-way through a change. */
struct fbp_lock {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int readers, writer;
    unsigned generation;
    atomic_int *forked;
};
void fbp_lock_create(struct fbp_lock *lock, atomic_int *forked);
void fbp_lock_destroy(struct fbp_lock *lock);
void fbp_lock_read(struct fbp_lock *lock);
void fbp_lock_write(struct fbp_lock *lock);
void fbp_lock_release(struct fbp_lock *lock);

#endif
