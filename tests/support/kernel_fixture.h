/* Runs one kernel at a time on the device that the tests found, over buffers that the host sees. */
#ifndef TESTS_KERNEL_FIXTURE_H
#define TESTS_KERNEL_FIXTURE_H

#include "gpu/gpu_internal.h"
#include "shaders/shared.h"

#include <stddef.h>

/* Where a kernel's memory is. Every buffer is mapped, starts out as quiet NaNs (`act`, `kv`) or
 * zeros, and may be written by the host between runs. */
typedef struct {
    vly_gpu *gpu;
    const vly_gpu_info *info;
    uint32_t lanes;         /* invocations of a subgroup, in every kernel */
    vly_gpu_buffer act;     /* activations: what vly_push_*.act means */
    vly_gpu_buffer weights; /* binding 0 and 1 */
    vly_gpu_buffer kv;      /* pages of the cache */
    vly_gpu_buffer step;    /* two vly_step */
    vly_gpu_buffer target;  /* another */
    vly_gpu_buffer table;   /* page table, or row tables of a draft's head */
    vly_gpu_buffer results; /* a vly_results */
    vly_gpu_views *views;   /* of weights, act, kv */
    uint32_t act_used;      /* quads that kernel_fixture_take has given away */
} kernel_fixture;

/* That of the test, between these two, which are a cmocka setup and teardown of a group: they open
 * the device (VLY_TEST_DEVICE chooses another than the default) and make the buffers. */
extern kernel_fixture fixture;
int kernel_fixture_open(void **state);
int kernel_fixture_close(void **state);

/* All of act is free again, and NaN. So a value that nobody wrote is noticed where it is used. */
void kernel_fixture_reset(void);

/* The first of `n_quads` free quads (16 bytes) of act. Fails the test where there are not so many.
 */
uint32_t kernel_fixture_take(size_t n_quads);
/* The same, filled with `n` floats; the rest of the last quad is zero. */
uint32_t kernel_fixture_put(const float *values, size_t n);

/* The host's view of quad `quad` of act, and the step buffers. */
float *kernel_fixture_act(uint32_t quad);
struct vly_step *kernel_fixture_step(void);
struct vly_step *kernel_fixture_target(void);

/* Dispatches x * y * z workgroups and waits. Constant 0 is the width. Fails the test on errors. */
void kernel_fixture_run(vly_shader_id shader, const uint32_t *constants, uint32_t n_constants,
                        const void *push, uint32_t push_bytes, uint32_t x, uint32_t y, uint32_t z);
/* The same of a kernel of the test's own, whose subgroups may have any size. */
void kernel_fixture_run_spirv(const gpu_spirv *spirv, const uint32_t *constants,
                              uint32_t n_constants, const void *push, uint32_t push_bytes,
                              uint32_t x, uint32_t y, uint32_t z);

#endif
