#include "lock.h"

#include <stddef.h>

static atomic_uint fork_generation;                         /* forks between the first process and this one */
static pthread_mutex_t whole = PTHREAD_MUTEX_INITIALIZER;   /* held while something changes that a fork must not find half-way */
static pthread_once_t once = PTHREAD_ONCE_INIT;

void fbp_fork_hold(void) { pthread_mutex_lock(&whole); }
void fbp_fork_allow(void) { pthread_mutex_unlock(&whole); }

static void after_fork(void)
{
    pthread_mutex_init(&whole, NULL);
    atomic_fetch_add(&fork_generation, 1);
}

static void watch_forks(void) { pthread_atfork(fbp_fork_hold, fbp_fork_allow, after_fork); }

/* Nobody has it, nobody waits. */
static void set_free(struct fbp_lock *lock)
{
    lock->readers = lock->writer = 0;
    lock->next = lock->turn = 0;
    pthread_mutex_init(&lock->mutex, NULL);
    pthread_cond_init(&lock->changed, NULL);
    atomic_store(&lock->generation, atomic_load(&fork_generation));
}

void fbp_lock_create(struct fbp_lock *lock, atomic_int *forked)
{
    pthread_once(&once, watch_forks);
    lock->forked = forked;
    set_free(lock);
}

void fbp_lock_destroy(struct fbp_lock *lock)
{
    pthread_mutex_destroy(&lock->mutex);
    pthread_cond_destroy(&lock->changed);
}

/* A lock taken before the fork by a thread that is not in this process is free; the first thread of this process that wants it says so. */
static void forget_parent(struct fbp_lock *lock)
{
    if (atomic_load(&lock->generation) == atomic_load(&fork_generation)) return;
    fbp_fork_hold();
    if (atomic_load(&lock->generation) != atomic_load(&fork_generation)) {
        atomic_store(lock->forked, 1);
        set_free(lock);
    }
    fbp_fork_allow();
}

/* To those who wait, with the mutex held. */
static void tell(struct fbp_lock *lock)
{
    if (lock->next != lock->turn) pthread_cond_broadcast(&lock->changed);
}

void fbp_lock_read(struct fbp_lock *lock)
{
    forget_parent(lock);
    pthread_mutex_lock(&lock->mutex);
    for (const unsigned mine = lock->next++; lock->turn != mine || lock->writer;) pthread_cond_wait(&lock->changed, &lock->mutex);
    lock->turn++;
    lock->readers++;
    tell(lock);                                     /* the next may be a reader, too */
    pthread_mutex_unlock(&lock->mutex);
}

void fbp_lock_write(struct fbp_lock *lock)
{
    forget_parent(lock);
    pthread_mutex_lock(&lock->mutex);
    for (const unsigned mine = lock->next++; lock->turn != mine || lock->writer || lock->readers;)
        pthread_cond_wait(&lock->changed, &lock->mutex);
    lock->turn++;
    lock->writer = 1;
    pthread_mutex_unlock(&lock->mutex);
}

void fbp_lock_share(struct fbp_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    lock->writer = 0;
    lock->readers = 1;
    tell(lock);
    pthread_mutex_unlock(&lock->mutex);
}

void fbp_lock_release(struct fbp_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    if (lock->writer) lock->writer = 0;
    else lock->readers--;
    tell(lock);
    pthread_mutex_unlock(&lock->mutex);
}
