/* Threads for work that falls into many parts, like laying out weights. */
#ifndef VLY_BASE_WORKERS_H
#define VLY_BASE_WORKERS_H

#include "base/error.h"

typedef struct vly_workers vly_workers;

/* Starts threads so that, with the caller's, `n` work at a time; 0: one for each processor that
 * this process may use, at most 16. Fewer where the system gives no more. VLY_E_HOST_MEMORY. */
int vly_workers_create(uint32_t n, vly_workers **out, vly_error *err);
/* NULL is left alone. */
void vly_workers_destroy(vly_workers *workers);

/* How many work at a time, >= 1. */
uint32_t vly_workers_count(const vly_workers *workers);

/* Does one part; `worker` < vly_workers_count is whose scratch memory it may use. */
typedef void vly_work_fn(void *arg, uint32_t worker, uint64_t part);

/* Does the parts 0 .. n_parts - 1, each once, in any order and by any worker, and returns when all
 * are done. */
void vly_workers_run(vly_workers *workers, uint64_t n_parts, vly_work_fn *fn, void *arg);

#endif
