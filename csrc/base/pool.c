#define _GNU_SOURCE
#include "pool.h"

#include <sched.h>
#include <signal.h>
#include <string.h>

#include "../fbp.h"
#include "clock.h"
#include "cpu.h"

#define WORKER_SPINS 2000       /* pauses before a worker sleeps: 20 to 80 us */
#define WAIT_SPINS 4000         /* pauses before a caller who waits for the last parts starts to yield */
#define STACK ((size_t)1 << 20) /* bytes that a worker has at least */
#define WAKE_ALWAYS 1e7         /* work that pays for waking a worker: a hundred microseconds. Of less, only calls in a row wake one: */
#define AT_ONCE 2e-5            /* seconds from one to the next, less than it takes a worker to fall asleep again, */
#define WAKE_OPERATIONS 4e6     /* ... each of so much work, which pays with the next calls, */
#define WAKE_TOGETHER 2e7       /* ... or so much of all of them since the last time; if nobody came in time to take part, */
#define WAKE_MOST 2e9           /* ... twice as much before the next, up to this */
#define TASKS 16                /* different ones that are known; the last place serves the others */
#define POST_BYTES 64           /* a cache line: what is compared and copied at a time */

/* What is on offer: number of the phase (24 bits), workers that may help (8), the parts left, low .. high (16 bits each). One is
 * taken at either end; until it is done, the phase cannot end, so what describes the phase stays as it is. */
#define TICKET(phase, helpers, low, high) \
    ((uint64_t)(phase) << 40 | (uint64_t)(helpers) << 32 | (uint64_t)(low) << 16 | (uint64_t)(high))
#define HIGH(ticket) ((int)((ticket) & 0xffff))
#define LOW(ticket) ((int)((ticket) >> 16 & 0xffff))
#define HELPERS(ticket) ((int)((ticket) >> 32 & 0xff))
#define NEXT_LOW ((uint64_t)1 << 16)

static struct {
    _Alignas(128) _Atomic uint64_t ticket;
    fbp_task *task;
    void *context;
    _Alignas(128) atomic_int done;      /* parts done by workers in this phase */
    _Alignas(128) atomic_int asleep;    /* workers */
    pthread_mutex_t busy;               /* held by the call that uses the pool */
    pthread_mutex_t sleep;
    pthread_cond_t wake;
    unsigned calls;                     /* to wake up; guarded by sleep */
    int workers;
    struct {
        pthread_t id;
        int core;                       /* where it fell asleep; guarded by sleep */
    } worker[FBP_MAX_THREADS + 1];      /* from 1 on */
    double alone, patience;             /* operations of calls in a row since the workers were woken, and how many before they are again */
    double ended;                       /* the time when the last call alone had ended */
    uint64_t phase;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER, .sleep = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER,
          .patience = WAKE_TOGETHER};

/* The contexts of phases, as workers see them: each task's has a place of its own. They change while no phase is on offer. */
static struct {
    fbp_task *task;
    _Alignas(128) char context[FBP_CONTEXT_BYTES];
} board[TASKS];

static atomic_int threads_wanted = 1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

void fbp_set_threads(int threads)
{
    atomic_store(&threads_wanted, threads < 1 ? 1 : threads > FBP_MAX_THREADS ? FBP_MAX_THREADS : threads);
}

int fbp_get_threads(void) { return atomic_load(&threads_wanted); }

/* In a forked child no worker lives, and nobody uses the pool. */
static void after_fork(void)
{
    pthread_mutex_init(&pool.busy, NULL);
    pthread_mutex_init(&pool.sleep, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pool.workers = 0;
    atomic_store(&pool.asleep, 0);
    atomic_store(&pool.ticket, TICKET(++pool.phase, 0, 0, 0));
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, after_fork); }

#ifdef __linux__
static int core_here(void) { return sched_getcpu(); }

/* Moves a worker off the core it shares with the caller, if the caller may use others. */
static void move_aside(pthread_t worker, int core)
{
    cpu_set_t others;
    if (sched_getaffinity(0, sizeof others, &others) != 0 || CPU_COUNT(&others) < 2) return;
    CPU_CLR(core, &others);
    (void)pthread_setaffinity_np(worker, sizeof others, &others);
}
#else
static int core_here(void) { return -1; }
static void move_aside(pthread_t worker, int core) { (void)worker, (void)core; }
#endif

static int offered(uint64_t ticket, int thread) { return LOW(ticket) < HIGH(ticket) && thread <= HELPERS(ticket); }

/* One part for this thread, if there is any. Every other thread comes from the other end: parts that follow each other need the same
 * arrays, which then lie in one core's cache and not in two. */
static int take_part(int thread)
{
    const int from_high = thread % 2;
    uint64_t ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
    while (offered(ticket, thread)) {
        const uint64_t rest = from_high ? ticket - 1 : ticket + NEXT_LOW;
        if (atomic_compare_exchange_weak_explicit(&pool.ticket, &ticket, rest, memory_order_acq_rel, memory_order_acquire)) {
            pool.task(pool.context, from_high ? HIGH(ticket) - 1 : LOW(ticket), thread);
            return 1;
        }
    }
    return 0;
}

static void *work(void *arg)
{
    const int thread = (int)(intptr_t)arg;
    (void)fbp_float_enter();                            /* this thread runs nothing but kernels */
    for (;;) {
        for (int spin = 0; spin < WORKER_SPINS; spin++) {
            while (take_part(thread)) {
                atomic_fetch_add_explicit(&pool.done, 1, memory_order_release);
                spin = 0;
            }
            fbp_cpu_relax();
        }
        pthread_mutex_lock(&pool.sleep);
        pool.worker[thread].core = core_here();
        atomic_fetch_add(&pool.asleep, 1);
        for (const unsigned calls = pool.calls; calls == pool.calls && !offered(atomic_load(&pool.ticket), thread);)
            pthread_cond_wait(&pool.wake, &pool.sleep);
        atomic_fetch_sub(&pool.asleep, 1);
        pthread_mutex_unlock(&pool.sleep);
    }
    return NULL;
}

/* Threads there are for a call that wants so many: the caller's and the workers', some started now. */
static int gather(int want)
{
    while (pool.workers < want - 1) {
        pthread_t thread;
        pthread_attr_t attr;
        size_t stack = 0;
        sigset_t all, before;
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        pthread_attr_getstacksize(&attr, &stack);
        if (stack < STACK) pthread_attr_setstacksize(&attr, STACK);     /* some systems give 128 KiB, what one kernel takes */
        sigfillset(&all);                               /* signals are for the program's own threads */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        const int failed = pthread_create(&thread, &attr, work, (void *)(intptr_t)(pool.workers + 1));
        if (!failed) pool.worker[pool.workers + 1].id = thread;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attr);
        if (failed) break;
        pool.workers++;
    }
    return pool.workers + 1 < want ? pool.workers + 1 : want;
}

/* A worker wakes up on the core where it fell asleep. If that is the caller's, it would wait for the caller, find nothing left to do
 * and fall asleep there again; the system's balancing comes too late for that. */
static void wake_up(void)
{
    const int core = core_here();
    pthread_mutex_lock(&pool.sleep);
    for (int i = 1; i <= pool.workers; i++)
        if (core >= 0 && pool.worker[i].core == core) move_aside(pool.worker[i].id, core), pool.worker[i].core = -1;
    pool.calls++;
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.sleep);
}

#define TRIAL_OPERATIONS 5e7    /* longer work is worth two threads wherever they are */
#define TRIAL_CALLS 3           /* times each way in a trial; of work worth waking a worker, which the first in company does: */
#define TRIAL_LONG_CALLS 2
#define TRIAL_EVERY 256         /* calls, most */
#define TRIAL_AGAIN 2.5e8       /* operations done alone, 2 ms or so, after which company may try again: the core that was away may be back, */
#define TRIAL_LEAST 24          /* but not before so many calls */
#define TRIAL_TRUST 8           /* times as long it goes on in company: a call alone costs more there than one in company here */
#define TRIAL_GAIN 0.95         /* company must take at most so much of the time alone: it needs a core, and some time between two calls as well */

/* A trial: some calls alone, and as many in company. */
static unsigned trial_calls(const struct fbp_trial *trial) { return trial->operations > WAKE_OPERATIONS ? TRIAL_LONG_CALLS : TRIAL_CALLS; }
static int in_trial(const struct fbp_trial *trial, unsigned call) { return call < 2 * trial_calls(trial); }

/* Calls from the begin of one trial to that of the next. */
static unsigned trial_period(const struct fbp_trial *trial)
{
    const double alone = TRIAL_AGAIN / trial->operations;
    const double calls = (alone < TRIAL_LEAST ? TRIAL_LEAST : alone) * (trial->company ? TRIAL_TRUST : 1);
    return calls > TRIAL_EVERY ? TRIAL_EVERY : (unsigned)calls;
}

/* Whether the last trial found this work done sooner alone, and the next has not begun. */
static int better_alone(const struct fbp_trial *trial) { return trial->calls > 0 && !in_trial(trial, trial->calls - 1) && !trial->company; }

/* The trial of this kind of work, maybe a new one. */
static struct fbp_trial *trial_of(struct fbp_trials *trials, double operations)
{
    for (int i = 0; i < FBP_TRIALS; i++)
        if (trials->kind[i].operations == operations) return &trials->kind[i];
    struct fbp_trial *trial = &trials->kind[trials->kinds++ % FBP_TRIALS];
    *trial = (struct fbp_trial){.operations = operations};
    return trial;
}

static int all_asleep(void) { return atomic_load(&pool.asleep) >= pool.workers; }

/* A short call, and all workers asleep. Those that are woken come in the middle of it, or of the next. */
static void alone_or_wake(struct fbp_team *team, double operations, int alone)
{
    const int in_a_row = fbp_seconds() - pool.ended < AT_ONCE;
    team->wake = in_a_row && !alone && operations > WAKE_OPERATIONS;
    if (team->wake) return;
    team->here = 1;
    pool.alone = alone || !in_a_row ? 0 : pool.alone + operations;
    if (pool.alone < pool.patience) {
        team->threads = 1;
        return;
    }
    pool.alone = 0;
    if (pool.patience < WAKE_MOST) pool.patience *= 2;
    wake_up();
}

void fbp_team_open(struct fbp_team *team, int want, double operations, struct fbp_trials *trials, double each)
{
    *team = (struct fbp_team){.threads = 1, .here = 1, .most = 1};
    if (want > 1) {
        pthread_once(&once, watch_forks);
        team->shared = pthread_mutex_trylock(&pool.busy) == 0;
    }
    if (team->shared) {
        team->threads = team->most = team->here = gather(want);
        team->wake = operations > WAKE_ALWAYS;
        if (!team->wake && !all_asleep()) pool.patience = WAKE_TOGETHER;
        else if (!team->wake) alone_or_wake(team, operations, trials && better_alone(trial_of(trials, each)));
    }
    team->mode = fbp_float_enter();
}

void fbp_team_close(struct fbp_team *team)
{
    fbp_float_leave(team->mode);
    if (!team->shared) return;
    if (all_asleep()) pool.ended = fbp_seconds();
    pthread_mutex_unlock(&pool.busy);
}

void fbp_post(void *to, const void *from, size_t size)
{
    for (size_t at = 0; at < size; at += POST_BYTES) {
        const size_t n = size - at < POST_BYTES ? size - at : POST_BYTES;
        if (memcmp((char *)to + at, (const char *)from + at, n) != 0) memcpy((char *)to + at, (const char *)from + at, n);
    }
}

static void *posted(fbp_task *task, const void *context, size_t size)
{
    int i = 0;
    while (i < TASKS - 1 && board[i].task != task && board[i].task) i++;
    board[i].task = task;
    fbp_post(board[i].context, context, size);
    return board[i].context;
}

void fbp_team_run(struct fbp_team *team, fbp_task *task, void *context, size_t size, int parts)
{
    if (team->threads == 1 || parts == 1) {
        for (int part = 0; part < parts; part++) task(context, part, 0);
        return;
    }
    pool.task = task, pool.context = posted(task, context, size);
    atomic_store_explicit(&pool.done, 0, memory_order_relaxed);
    atomic_store(&pool.ticket, TICKET(++pool.phase, team->threads - 1, 1, parts));
    if (team->wake && atomic_load(&pool.asleep) > 0) wake_up();
    int mine = 1;
    task(context, 0, 0);
    while (take_part(0)) mine++;
    for (int spin = 0; atomic_load_explicit(&pool.done, memory_order_acquire) != parts - mine; spin++) {
        if (spin < WAIT_SPINS) fbp_cpu_relax();
        else sched_yield();
    }
}

void fbp_trial_begin(struct fbp_team *team, struct fbp_trials *trials, double operations)
{
    team->trial = NULL;                                 /* no part in this */
    if (team->most == 1 || operations > TRIAL_OPERATIONS || team->here < team->threads) return;
    struct fbp_trial *trial = trial_of(trials, operations);
    if (trial->calls >= trial_period(trial)) trial->calls = 0;
    const unsigned call = trial->calls;
    const int testing = in_trial(trial, call);
    const int company = testing ? call >= trial_calls(trial) : trial->seconds[1] < TRIAL_GAIN * trial->seconds[0];
    if (testing && company && team->here == 1) return;                  /* called, and not there yet */
    team->trial = trial;
    trial->calls++;
    trial->company = company;
    if (call == 0) trial->seconds[0] = trial->seconds[1] = 1e9;
    if (!company) team->threads = 1;
    if (testing) trial->began = fbp_seconds();
}

void fbp_trial_end(struct fbp_team *team)
{
    struct fbp_trial *trial = team->trial;
    team->threads = team->here;
    if (trial == NULL || !in_trial(trial, trial->calls - 1)) return;
    const double seconds = fbp_seconds() - trial->began;
    if (seconds < trial->seconds[trial->company]) trial->seconds[trial->company] = seconds;
    if (trial->calls != trial_calls(trial) || atomic_load(&pool.asleep) == 0) return;
    if (team->wake) wake_up();
    else pool.alone = pool.patience;                                    /* the next call does it */
}
