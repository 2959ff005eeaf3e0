#define _GNU_SOURCE
#include "pool.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#include "../fbp.h"
#include "cpu.h"

#define WORKER_SPINS 2000       /* pauses before a worker sleeps: 20 to 80 us */
#define BARRIER_SPINS 4000      /* pauses before a barrier starts to yield */

/* A worker's mailbox: the caller writes the job, then raises `posted`; the worker answers by raising `done` to the same. */
struct worker {
    _Alignas(128) atomic_uint posted;
    atomic_int asleep;
    fbp_job *fn;
    void *context;
    struct fbp_team *team;
    int thread;
    _Alignas(128) atomic_uint done;
};

static struct {
    pthread_mutex_t busy;       /* held by the call that uses the pool */
    pthread_mutex_t sleep;
    pthread_cond_t wake;
    struct worker *worker[FBP_MAX_THREADS];
    int workers;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER, .sleep = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static atomic_uint fork_generation;
static atomic_int threads_wanted = 1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

void fbp_set_threads(int threads)
{
    atomic_store(&threads_wanted, threads < 1 ? 1 : threads > FBP_MAX_THREADS ? FBP_MAX_THREADS : threads);
}

int fbp_get_threads(void) { return atomic_load(&threads_wanted); }

/* In a forked child no worker lives and no lock is held. */
static void after_fork(void)
{
    pthread_mutex_init(&pool.busy, NULL);
    pthread_mutex_init(&pool.sleep, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pool.workers = 0;
    atomic_fetch_add(&fork_generation, 1);
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, after_fork); }

static void *work(void *arg)
{
    struct worker *w = arg;
    for (unsigned seen = 0;;) {
        for (int spin = 0; atomic_load_explicit(&w->posted, memory_order_acquire) == seen && spin < WORKER_SPINS; spin++)
            fbp_cpu_relax();
        if (atomic_load_explicit(&w->posted, memory_order_acquire) == seen) {
            pthread_mutex_lock(&pool.sleep);
            atomic_store(&w->asleep, 1);
            while (atomic_load(&w->posted) == seen) pthread_cond_wait(&pool.wake, &pool.sleep);
            atomic_store(&w->asleep, 0);
            pthread_mutex_unlock(&pool.sleep);
        }
        seen = atomic_load_explicit(&w->posted, memory_order_acquire);
        const fbp_float_mode mode = fbp_float_enter();
        w->fn(w->context, w->team, w->thread);
        fbp_float_leave(mode);
        atomic_store_explicit(&w->done, seen, memory_order_release);
    }
    return NULL;
}

/* Threads there are for a job of `want`: the caller's and the workers', some started now. */
static int gather(int want)
{
    while (pool.workers < want - 1) {
        struct worker *w;
        pthread_t thread;
        pthread_attr_t attr;
        sigset_t all, before;
        if (posix_memalign((void **)&w, 128, sizeof *w) != 0) break;
        *w = (struct worker){.thread = pool.workers + 1};
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        sigfillset(&all);                               /* signals are for the program's own threads */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        const int failed = pthread_create(&thread, &attr, work, w);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attr);
        if (failed) {
            free(w);
            break;
        }
        pool.worker[pool.workers++] = w;
    }
    return pool.workers + 1 < want ? pool.workers + 1 : want;
}

void fbp_pool_run(int want, fbp_job *fn, void *context)
{
    struct fbp_team team = {.threads = 1};
    int shared = 0;
    if (want > 1) {
        pthread_once(&once, watch_forks);
        shared = pthread_mutex_trylock(&pool.busy) == 0;
        if (shared) team.threads = gather(want);
    }
    int sleepers = 0;
    for (int i = 1; i < team.threads; i++) {
        struct worker *w = pool.worker[i - 1];
        w->fn = fn, w->context = context, w->team = &team;
        atomic_fetch_add(&w->posted, 1);
        sleepers |= atomic_load(&w->asleep);
    }
    if (sleepers) {
        pthread_mutex_lock(&pool.sleep);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.sleep);
    }
    const fbp_float_mode mode = fbp_float_enter();
    fn(context, &team, 0);
    fbp_float_leave(mode);
    for (int i = 1; i < team.threads; i++) {
        struct worker *w = pool.worker[i - 1];
        const unsigned posted = atomic_load_explicit(&w->posted, memory_order_relaxed);
        for (int spin = 0; atomic_load_explicit(&w->done, memory_order_acquire) != posted; spin++) {
            if (spin < BARRIER_SPINS) fbp_cpu_relax();
            else sched_yield();
        }
    }
    if (shared) pthread_mutex_unlock(&pool.busy);
}

void fbp_team_wait(struct fbp_team *team)
{
    if (team->threads == 1) return;
    const unsigned phase = atomic_load_explicit(&team->phase, memory_order_acquire);
    if (atomic_fetch_add(&team->arrived, 1) + 1 == (unsigned)team->threads) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
        return;
    }
    for (int spin = 0; atomic_load_explicit(&team->phase, memory_order_acquire) == phase; spin++) {
        if (spin < BARRIER_SPINS) fbp_cpu_relax();
        else sched_yield();
    }
}

void fbp_lock_create(struct fbp_lock *lock, atomic_int *forked)
{
    pthread_once(&once, watch_forks);
    *lock = (struct fbp_lock){.generation = atomic_load(&fork_generation), .forked = forked};
    pthread_mutex_init(&lock->mutex, NULL);
    pthread_cond_init(&lock->changed, NULL);
}

void fbp_lock_destroy(struct fbp_lock *lock)
{
    pthread_mutex_destroy(&lock->mutex);
    pthread_cond_destroy(&lock->changed);
}

/* A lock taken before the fork by a thread that is not in this process is free. */
static void forget_parent(struct fbp_lock *lock)
{
    if (lock->generation == atomic_load(&fork_generation)) return;
    fbp_lock_create(lock, lock->forked);
    atomic_store(lock->forked, 1);
}

void fbp_lock_read(struct fbp_lock *lock)
{
    forget_parent(lock);
    pthread_mutex_lock(&lock->mutex);
    while (lock->writer) pthread_cond_wait(&lock->changed, &lock->mutex);
    lock->readers++;
    pthread_mutex_unlock(&lock->mutex);
}

void fbp_lock_write(struct fbp_lock *lock)
{
    forget_parent(lock);
    pthread_mutex_lock(&lock->mutex);
    while (lock->writer || lock->readers) pthread_cond_wait(&lock->changed, &lock->mutex);
    lock->writer = 1;
    pthread_mutex_unlock(&lock->mutex);
}

void fbp_lock_release(struct fbp_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    if (lock->writer) lock->writer = 0;
    else lock->readers--;
    pthread_cond_broadcast(&lock->changed);
    pthread_mutex_unlock(&lock->mutex);
}
