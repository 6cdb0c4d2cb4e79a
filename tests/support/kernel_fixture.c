#include "tests/support/kernel_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

kernel_fixture fixture;

static const uint32_t quiet_nan = 0x7fc0da7a;

static void fill_nan(const vly_gpu_buffer *buffer, uint64_t n_bytes)
{
    uint32_t *words = buffer->mapped;
    for (uint64_t i = 0; i < n_bytes / 4; i++) words[i] = quiet_nan;
}

int kernel_fixture_open(void **state)
{
    fixture = (kernel_fixture){0};
    vly_error err;
    const struct {
        vly_gpu_buffer *buffer;
        uint64_t n_bytes;
        vly_gpu_memory memory;
        const char *label;
    } buffers[] = {
        {&fixture.act, 8u << 20, VLY_GPU_READBACK, "activations"},
        {&fixture.weights, 1u << 20, VLY_GPU_STEP, "weights"},
        {&fixture.kv, 4u << 20, VLY_GPU_READBACK, "cache"},
        {&fixture.step, 2 * sizeof(struct vly_step), VLY_GPU_READBACK, "steps"},
        {&fixture.target, sizeof(struct vly_step), VLY_GPU_READBACK, "target's step"},
        {&fixture.table, 1u << 20, VLY_GPU_STEP, "tables"},
        {&fixture.results, sizeof(struct vly_results), VLY_GPU_READBACK, "results"},
    };
    int rc = vly_gpu_create(getenv("VLY_TEST_DEVICE"), &fixture.gpu, &err);
    for (size_t i = 0; rc == 0 && i < sizeof buffers / sizeof *buffers; i++)
        rc = vly_gpu_buffer_create(fixture.gpu, buffers[i].n_bytes, buffers[i].memory,
                                   buffers[i].label, buffers[i].buffer, &err);
    if (rc == 0)
        rc = vly_gpu_views_create(fixture.gpu, &fixture.weights, &fixture.act, &fixture.kv,
                                  &fixture.views, &err);
    if (rc) {
        print_error("%s\n", err.message);
        kernel_fixture_close(state);
        return -1;
    }
    fixture.info = vly_gpu_get_info(fixture.gpu);
    fixture.lanes = fixture.info->subgroup_size;
    fill_nan(&fixture.act, fixture.act.n_bytes);
    fill_nan(&fixture.kv, fixture.kv.n_bytes);
    return 0;
}

int kernel_fixture_close(void **state)
{
    (void)state;
    if (!fixture.gpu) return 0;
    vly_gpu_buffer *const buffers[] = {&fixture.act,    &fixture.weights, &fixture.kv,
                                       &fixture.step,   &fixture.target,  &fixture.table,
                                       &fixture.results};
    if (fixture.views) vly_gpu_views_destroy(fixture.gpu, fixture.views);
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        vly_gpu_buffer_destroy(fixture.gpu, buffers[i]);
    vly_gpu_destroy(fixture.gpu);
    fixture = (kernel_fixture){0};
    return 0;
}

void kernel_fixture_reset(void)
{
    /* A little beyond what was taken too, lest a kernel wrote there. */
    uint64_t n_bytes = (fixture.act_used + UINT64_C(4096)) * 16;
    fill_nan(&fixture.act, n_bytes < fixture.act.n_bytes ? n_bytes : fixture.act.n_bytes);
    fixture.act_used = 0;
}

uint32_t kernel_fixture_take(size_t n_quads)
{
    uint32_t quad = fixture.act_used;
    if (n_quads > fixture.act.n_bytes / 16 - quad)
        fail_msg("the fixture's activations have no room for %zu quads more", n_quads);
    fixture.act_used += (uint32_t)n_quads;
    return quad;
}

uint32_t kernel_fixture_put(const float *values, size_t n)
{
    size_t n_quads = (n + 3) / 4;
    uint32_t quad = kernel_fixture_take(n_quads);
    float *to = kernel_fixture_act(quad);
    memset(to, 0, n_quads * 16);
    memcpy(to, values, n * sizeof *values);
    return quad;
}

float *kernel_fixture_act(uint32_t quad)
{
    return (float *)fixture.act.mapped + (size_t)quad * 4;
}

struct vly_step *kernel_fixture_step(void)
{
    return fixture.step.mapped;
}

struct vly_step *kernel_fixture_target(void)
{
    return fixture.target.mapped;
}

static void run(const vly_gpu_kernel *kernel, const void *push, uint32_t push_bytes, uint32_t x,
                uint32_t y, uint32_t z)
{
    vly_gpu_commands *commands = NULL;
    uint64_t ticket;
    vly_error err;
    if (vly_gpu_commands_create(fixture.gpu, "a kernel's test", &commands, &err))
        fail_msg("%s", err.message);
    vly_gpu_cmd_dispatch(commands, kernel, fixture.views, push, push_bytes, x, y, z);
    if (vly_gpu_commands_end(commands, &err) ||
        vly_gpu_submit(fixture.gpu, &commands, 1, NULL, NULL, &ticket, &err) ||
        vly_gpu_wait(fixture.gpu, ticket, &err))
        fail_msg("%s", err.message);
    vly_gpu_commands_destroy(commands);
}

void kernel_fixture_run(vly_shader_id shader, const uint32_t *constants, uint32_t n_constants,
                        const void *push, uint32_t push_bytes, uint32_t x, uint32_t y, uint32_t z)
{
    vly_gpu_kernel *kernel = NULL;
    vly_error err;
    if (vly_gpu_kernel_get(fixture.gpu, shader, constants, n_constants, fixture.lanes, &kernel,
                           &err))
        fail_msg("%s", err.message);
    run(kernel, push, push_bytes, x, y, z);
}

void kernel_fixture_run_spirv(const gpu_spirv *spirv, const uint32_t *constants,
                              uint32_t n_constants, const void *push, uint32_t push_bytes,
                              uint32_t x, uint32_t y, uint32_t z)
{
    vly_gpu_kernel *kernel = NULL;
    vly_error err;
    if (gpu_kernel_get(fixture.gpu, spirv, constants, n_constants, 0, &kernel, &err))
        fail_msg("%s", err.message);
    run(kernel, push, push_bytes, x, y, z);
}
