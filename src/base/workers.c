#include "base/workers.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MAX_WORKERS 16u

typedef struct {
    vly_workers *workers;
    pthread_t thread;
    uint32_t index;
} worker;

struct vly_workers {
    uint32_t n; /* with the caller, who is worker 0 */
    worker list[MAX_WORKERS];
    pthread_mutex_t lock;
    pthread_cond_t begin, done;
    uint64_t round; /* of work: a worker takes part in it at most once */
    bool open;      /* workers may still join the round: those that wake late need not */
    uint32_t n_busy;
    bool stop;
    vly_work_fn *fn;
    void *arg;
    uint64_t n_parts;
    atomic_uint_fast64_t next_part;
};

static void do_parts(vly_workers *w, uint32_t index)
{
    for (uint64_t part; (part = atomic_fetch_add(&w->next_part, 1)) < w->n_parts;)
        w->fn(w->arg, index, part);
}

static void *work(void *arg)
{
    worker *self = arg;
    vly_workers *w = self->workers;
    uint64_t round = 0;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!(w->open && w->round != round) && !w->stop) pthread_cond_wait(&w->begin, &w->lock);
        if (w->stop) break;
        round = w->round;
        w->n_busy++;
        pthread_mutex_unlock(&w->lock);
        do_parts(w, self->index);
        pthread_mutex_lock(&w->lock);
        if (--w->n_busy == 0) pthread_cond_signal(&w->done);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static uint32_t processors(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n < (int)MAX_WORKERS ? (uint32_t)n : MAX_WORKERS;
}

int vly_workers_create(uint32_t n, vly_workers **out, vly_error *err)
{
    vly_workers *w = calloc(1, sizeof *w);
    *out = w;
    if (!w) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for threads");
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->begin, NULL);
    pthread_cond_init(&w->done, NULL);
    if (n == 0) n = processors();
    if (n > MAX_WORKERS) n = MAX_WORKERS;
    /* Signals are for the thread that runs the program. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (w->n = 1; w->n < n; w->n++) {
        worker *self = &w->list[w->n];
        *self = (worker){.workers = w, .index = w->n};
        if (pthread_create(&self->thread, NULL, work, self)) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return 0;
}

void vly_workers_destroy(vly_workers *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->begin);
    pthread_mutex_unlock(&w->lock);
    for (uint32_t i = 1; i < w->n; i++) pthread_join(w->list[i].thread, NULL);
    pthread_cond_destroy(&w->begin);
    pthread_cond_destroy(&w->done);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

uint32_t vly_workers_count(const vly_workers *w)
{
    return w->n;
}

void vly_workers_run(vly_workers *w, uint64_t n_parts, vly_work_fn *fn, void *arg)
{
    pthread_mutex_lock(&w->lock);
    w->fn = fn;
    w->arg = arg;
    w->n_parts = n_parts;
    atomic_store(&w->next_part, 0);
    w->open = true;
    w->round++;
    pthread_cond_broadcast(&w->begin);
    pthread_mutex_unlock(&w->lock);
    do_parts(w, 0);
    pthread_mutex_lock(&w->lock);
    w->open = false;
    while (w->n_busy) pthread_cond_wait(&w->done, &w->lock);
    pthread_mutex_unlock(&w->lock);
}
