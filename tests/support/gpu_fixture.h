/* An open device, two buffers, and a kernel of the tests' own whose results show in which order and
 * how often it ran. */
#ifndef TESTS_GPU_FIXTURE_H
#define TESTS_GPU_FIXTURE_H

#include "gpu/gpu_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define N_WORDS 10007u
#define N_BYTES (N_WORDS * 4u)

typedef struct {
    vly_gpu *gpu;
    vly_gpu_buffer x, y;  /* N_WORDS words each, mapped */
    vly_gpu_views *views; /* weights: x */
    uint32_t *x_words, *y_words;
} gpu_fixture;

extern const gpu_spirv gpu_fixture_spirv; /* tests/kernels/test_gpu.comp */

/* A cmocka setup and teardown: *state is the fixture. VLY_TEST_DEVICE chooses another device than
 * the default. */
int gpu_fixture_open(void **state);
int gpu_fixture_close(void **state);

/* Each of these fails the test where the device does. */
vly_gpu_commands *gpu_fixture_begin(gpu_fixture *f, const char *label);
/* Records to[i] = scale * from[i] + add + factor * x[i]. */
void gpu_fixture_dispatch(gpu_fixture *f, vly_gpu_commands *commands, uint32_t scale, uint32_t add,
                          uint32_t factor, const vly_gpu_buffer *from, const vly_gpu_buffer *to);
/* Recorded commands y = 3 y + add. */
vly_gpu_commands *gpu_fixture_step(gpu_fixture *f, const char *label, uint32_t add);
void gpu_fixture_run(gpu_fixture *f, vly_gpu_commands *commands);
/* Copies the first n_bytes of a buffer to host memory. */
void gpu_fixture_download(gpu_fixture *f, const vly_gpu_buffer *from, void *to, uint64_t n_bytes);

/* For a `vly_error err` in scope. */
#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if (call) fail_msg("%s: %s", #call, err.message);                                          \
    } while (0)

#define assert_error(call, expected_code, text)                                                    \
    do {                                                                                           \
        err = (vly_error){0};                                                                      \
        assert_int_equal(call, expected_code);                                                     \
        assert_int_equal(err.code, expected_code);                                                 \
        if (!strstr(err.message, text)) fail_msg("\"%s\" lacks \"%s\"", err.message, text);        \
    } while (0)

#endif
