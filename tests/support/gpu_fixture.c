#include "tests/support/gpu_fixture.h"

#include <stdlib.h>

static const uint32_t words[] = {
#include "test_gpu.inc"
};
const gpu_spirv gpu_fixture_spirv = {"test_gpu", words, sizeof words};

static vly_error err;

/* An instance that nobody destroys keeps the drivers loaded. Some take a piece of the process's
 * static thread storage each time they are loaded, and a dozen devices after each other use it up.
 */
static void keep_drivers(void)
{
    static VkInstance instance;
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO};
    if (!instance) vkCreateInstance(&info, NULL, &instance);
}

int gpu_fixture_open(void **state)
{
    keep_drivers();
    gpu_fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (vly_gpu_create(getenv("VLY_TEST_DEVICE"), &f->gpu, &err) ||
        vly_gpu_buffer_create(f->gpu, N_BYTES, VLY_GPU_STEP, "x", &f->x, &err) ||
        vly_gpu_buffer_create(f->gpu, N_BYTES, VLY_GPU_READBACK, "y", &f->y, &err) ||
        vly_gpu_views_create(f->gpu, &f->x, NULL, NULL, &f->views, &err)) {
        print_error("%s\n", err.message);
        return -1;
    }
    f->x_words = f->x.mapped;
    f->y_words = f->y.mapped;
    return 0;
}

int gpu_fixture_close(void **state)
{
    gpu_fixture *f = *state;
    vly_gpu_views_destroy(f->gpu, f->views);
    vly_gpu_buffer_destroy(f->gpu, &f->x);
    vly_gpu_buffer_destroy(f->gpu, &f->y);
    vly_gpu_destroy(f->gpu);
    free(f);
    return 0;
}

vly_gpu_commands *gpu_fixture_begin(gpu_fixture *f, const char *label)
{
    vly_gpu_commands *commands;
    assert_ok(vly_gpu_commands_create(f->gpu, label, &commands, &err));
    return commands;
}

void gpu_fixture_dispatch(gpu_fixture *f, vly_gpu_commands *commands, uint32_t scale, uint32_t add,
                          uint32_t factor, const vly_gpu_buffer *from, const vly_gpu_buffer *to)
{
    vly_gpu_kernel *kernel;
    const uint32_t constants[] = {32, add, scale, factor};
    assert_ok(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, constants, 4, 0, &kernel, &err));
    const struct {
        uint64_t x, y;
        uint32_t n, pad;
    } push = {from->address, to->address, N_WORDS, 0};
    vly_gpu_cmd_dispatch(commands, kernel, f->views, &push, sizeof push, (N_WORDS + 31) / 32, 1, 1);
}

vly_gpu_commands *gpu_fixture_step(gpu_fixture *f, const char *label, uint32_t add)
{
    vly_gpu_commands *commands = gpu_fixture_begin(f, label);
    gpu_fixture_dispatch(f, commands, 3, add, 0, &f->y, &f->y);
    assert_ok(vly_gpu_commands_end(commands, &err));
    return commands;
}

void gpu_fixture_run(gpu_fixture *f, vly_gpu_commands *commands)
{
    uint64_t ticket;
    assert_ok(vly_gpu_submit(f->gpu, &commands, 1, NULL, NULL, &ticket, &err));
    assert_ok(vly_gpu_wait(f->gpu, ticket, &err));
}

void gpu_fixture_download(gpu_fixture *f, const vly_gpu_buffer *from, void *to, uint64_t n_bytes)
{
    vly_gpu_buffer host;
    assert_ok(vly_gpu_buffer_create(f->gpu, n_bytes, VLY_GPU_READBACK, "host", &host, &err));
    vly_gpu_commands *commands = gpu_fixture_begin(f, "download");
    vly_gpu_cmd_copy(commands, from, 0, &host, 0, n_bytes);
    assert_ok(vly_gpu_commands_end(commands, &err));
    gpu_fixture_run(f, commands);
    memcpy(to, host.mapped, n_bytes);
    vly_gpu_commands_destroy(commands);
    vly_gpu_buffer_destroy(f->gpu, &host);
}
