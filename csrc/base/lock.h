/* lock.h: a lock for many readers or one writer that survives a fork. */
#ifndef FBP_LOCK_H
#define FBP_LOCK_H

#include <pthread.h>
#include <stdatomic.h>

/* Many readers or one writer, in the order in which they came, so that neither starves the other; free again in a forked child, whoever
 * held it: then *forked is raised, since what the lock guards may be half-way through a change. */
struct fbp_lock {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int readers, writer;
    unsigned next, turn;            /* number that the next to come draws, and that of the next to be let in */
    atomic_uint generation;
    atomic_int *forked;
};

/* A fork waits until what changes in between is whole. */
void fbp_fork_hold(void);
void fbp_fork_allow(void);

void fbp_lock_create(struct fbp_lock *lock, atomic_int *forked);
void fbp_lock_destroy(struct fbp_lock *lock);
void fbp_lock_read(struct fbp_lock *lock);
void fbp_lock_write(struct fbp_lock *lock);
void fbp_lock_share(struct fbp_lock *lock);     /* the writer becomes a reader; no other writer comes between */
void fbp_lock_release(struct fbp_lock *lock);

#endif
