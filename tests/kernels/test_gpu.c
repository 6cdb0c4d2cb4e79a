/* The GPU layer on whatever Vulkan device is there: devices, memory, commands, kernels. */
#include "tests/support/gpu_fixture.h"

#include "gpu/shader_table.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static vly_error err;

/* ---- Devices ---- */

static void devices_are_listed_and_chosen(void **state)
{
    (void)state;
    vly_gpu_info *infos;
    size_t n;
    int chosen;
    assert_ok(vly_gpu_list(&infos, &n, &chosen, &err));
    assert_true(n > 0 && chosen >= 0 && (size_t)chosen < n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(infos[i].index, i);
        assert_true(infos[i].name[0]);
        assert_int_equal(infos[i].usable, !infos[i].why_not[0]);
    }
    const vly_gpu_info *info = &infos[chosen];
    assert_true(info->driver[0] && info->memory_bytes && info->subgroup_size);
    assert_true(info->available_bytes <= info->memory_bytes);
    assert_true(info->subgroup_size_min <= info->subgroup_size &&
                info->subgroup_size <= info->subgroup_size_max);

    char number[16], part[64];
    snprintf(number, sizeof number, "%u", info->index);
    snprintf(part, sizeof part, "%.4s", info->name + 1);
    for (char *c = part; *c; c++) *c = (char)toupper((unsigned char)*c);
    const char *choices[] = {NULL, number, part};
    for (size_t i = 0; i < 3; i++) {
        vly_gpu *gpu;
        assert_ok(vly_gpu_create(choices[i], &gpu, &err));
        assert_true(vly_gpu_get_info(gpu)->usable);
        assert_true(vly_gpu_available_bytes(gpu) > 0);
        if (i < 2) assert_int_equal(vly_gpu_get_info(gpu)->index, info->index);
        vly_gpu_destroy(gpu);
    }
    const char *nonsense[] = {"no such device", "4294967296", "18446744073709551616", "-1", ""};
    for (size_t i = 0; i < 5; i++) {
        vly_gpu *gpu;
        assert_error(vly_gpu_create(nonsense[i], &gpu, &err), VLY_E_NO_DEVICE, info->name);
        assert_null(gpu);
        assert_non_null(strstr(err.message, nonsense[i]));
    }
    free(infos);
}

static void the_best_device_is_chosen(void **state)
{
    (void)state;
    const vly_gpu_info infos[] = {
        {.index = 0, .name = "Processor", .type = VLY_GPU_CPU, .memory_bytes = 900, .usable = true},
        {.index = 1,
         .name = "Old card",
         .type = VLY_GPU_DISCRETE,
         .memory_bytes = 999,
         .why_not = "it lacks everything"},
        {.index = 2,
         .name = "Small card",
         .type = VLY_GPU_DISCRETE,
         .memory_bytes = 10,
         .usable = true},
        {.index = 3,
         .name = "Large card",
         .type = VLY_GPU_DISCRETE,
         .memory_bytes = 20,
         .usable = true},
        {.index = 4,
         .name = "Chip",
         .type = VLY_GPU_INTEGRATED,
         .memory_bytes = 800,
         .usable = true},
    };
    const struct {
        const char *choice;
        int chosen;
    } cases[] = {{NULL, 3}, {"0", 0}, {"4", 4}, {"card", 3}, {"SMALL", 2}, {"chip", 4}, {"o", 0}};
    int chosen;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_ok(vly_gpu_choose(infos, 5, cases[i].choice, &chosen, &err));
        assert_int_equal(chosen, cases[i].chosen);
    }
    assert_error(vly_gpu_choose(infos, 5, "1", &chosen, &err), VLY_E_NO_DEVICE, "lacks everything");
    assert_int_equal(chosen, -1);
    assert_error(vly_gpu_choose(infos, 5, "5", &chosen, &err), VLY_E_NO_DEVICE, "Large card");
    assert_error(vly_gpu_choose(infos + 1, 1, NULL, &chosen, &err), VLY_E_NO_DEVICE, "Old card");
}

/* ---- Memory ---- */

static void buffers_are_zeroed_and_aligned(void **state)
{
    gpu_fixture *f = *state;
    static const vly_gpu_memory kinds[] = {VLY_GPU_DEVICE, VLY_GPU_STEP, VLY_GPU_STAGING,
                                           VLY_GPU_READBACK, VLY_GPU_PAGES};
    static const uint64_t sizes[] = {1, 4, 17, 4096, 70001};
    static char bytes[70004];
    for (size_t k = 0; k < 5; k++) {
        for (size_t s = 0; s < 5; s++) {
            /* Twice: what is freed and taken again must be zeroed as well. */
            for (int turn = 0; turn < 2; turn++) {
                vly_gpu_buffer b;
                assert_ok(vly_gpu_buffer_create(f->gpu, sizes[s], kinds[k], "b", &b, &err));
                assert_true(b.n_bytes >= sizes[s] && b.n_bytes < sizes[s] + 4);
                assert_true(b.address != 0 && b.address % 256 == 0);
                bool is_device = kinds[k] == VLY_GPU_DEVICE || kinds[k] == VLY_GPU_PAGES;
                bool unified = vly_gpu_get_info(f->gpu)->unified;
                assert_int_equal(b.mapped != NULL, !is_device || unified);
                memset(bytes, 1, sizeof bytes);
                gpu_fixture_download(f, &b, bytes, b.n_bytes);
                for (uint64_t i = 0; kinds[k] != VLY_GPU_PAGES && i < b.n_bytes; i++)
                    assert_int_equal(bytes[i], 0);
                vly_gpu_commands *commands = gpu_fixture_begin(f, "dirty");
                vly_gpu_cmd_fill(commands, &b, 0, b.n_bytes, 0xffffffff);
                assert_ok(vly_gpu_commands_end(commands, &err));
                gpu_fixture_run(f, commands);
                vly_gpu_commands_destroy(commands);
                vly_gpu_buffer_destroy(f->gpu, &b);
                assert_null(b.handle);
                vly_gpu_buffer_destroy(f->gpu, &b);
            }
        }
    }
}

static void impossible_sizes_are_refused(void **state)
{
    gpu_fixture *f = *state;
    vly_gpu_buffer b;
    const vly_gpu_info *info = vly_gpu_get_info(f->gpu);
    uint64_t available = vly_gpu_available_bytes(f->gpu);
    assert_error(vly_gpu_buffer_create(f->gpu, 0, VLY_GPU_STEP, "nothing", &b, &err), VLY_E_INVALID,
                 "nothing");
    const uint64_t sizes[] = {UINT64_MAX, UINT64_C(1) << 62, info->max_allocation_bytes + 1,
                              available + ((uint64_t)1 << 30)};
    for (size_t i = 0; i < 4; i++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "wanted %.1f MiB", MIB(sizes[i]));
        assert_error(
            vly_gpu_buffer_create(f->gpu, sizes[i], VLY_GPU_DEVICE, "weights of x", &b, &err),
            VLY_E_DEVICE_MEMORY, wanted);
        assert_non_null(strstr(err.message, "weights of x"));
        assert_non_null(strstr(err.message, "available"));
        assert_null(b.handle);
    }
    if (info->memory_budget) return; /* others may use the device at the same time */
    assert_int_equal(vly_gpu_available_bytes(f->gpu), available);
    assert_ok(vly_gpu_buffer_create(f->gpu, 1 << 20, VLY_GPU_DEVICE, "b", &b, &err));
    assert_int_equal(vly_gpu_available_bytes(f->gpu), available - (1 << 20));
    vly_gpu_buffer_destroy(f->gpu, &b);
    assert_int_equal(vly_gpu_available_bytes(f->gpu), available);
}

static uint8_t pattern(uint64_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

/* Uploads a whole buffer in pieces of many sizes, and compares. */
static void upload_in_pieces(gpu_fixture *f, bool always_ring)
{
    enum { RING = 4096, TOTAL = 300000 };
    static uint8_t got[TOTAL];
    vly_gpu_buffer b;
    vly_gpu_upload *upload;
    assert_ok(vly_gpu_buffer_create(f->gpu, TOTAL, VLY_GPU_DEVICE, "b", &b, &err));
    assert_ok(gpu_upload_create(f->gpu, RING, always_ring, &upload, &err));
    static const uint32_t sizes[] = {4, 1, 1024, 33, 1000, 2, 1023, 16, 512, 3};
    uint64_t at = 0;
    for (uint32_t i = 0; at < TOTAL; i++) {
        uint64_t n = sizes[i % 10] < TOTAL - at ? sizes[i % 10] : TOTAL - at;
        void *space;
        assert_ok(vly_gpu_upload_stage(upload, &b, at, n, &space, &err));
        assert_int_equal((uintptr_t)space % 16, 0);
        for (uint64_t j = 0; j < n; j++) ((uint8_t *)space)[j] = pattern(at + j);
        at += (n + 3) & ~UINT64_C(3); /* the bytes in between stay zero */
        if (i == 100) assert_ok(vly_gpu_upload_finish(upload, &err));
    }
    assert_ok(vly_gpu_upload_finish(upload, &err));
    assert_ok(vly_gpu_upload_finish(upload, &err));
    gpu_fixture_download(f, &b, got, TOTAL);
    at = 0;
    for (uint32_t i = 0; at < TOTAL; i++) {
        uint64_t n = sizes[i % 10], end = (n + 3) & ~UINT64_C(3);
        for (uint64_t j = 0; j < end && at + j < TOTAL; j++)
            if (got[at + j] != (j < n ? pattern(at + j) : 0)) fail_msg("byte %d", (int)(at + j));
        at += end;
    }
    vly_gpu_upload_destroy(upload);
    vly_gpu_buffer_destroy(f->gpu, &b);
}

static void uploads_arrive_in_place(void **state)
{
    upload_in_pieces(*state, false);
}

static void uploads_arrive_through_the_ring(void **state)
{
    upload_in_pieces(*state, true);
}

static void wrong_uploads_are_refused(void **state)
{
    gpu_fixture *f = *state;
    vly_gpu_upload *upload;
    void *space;
    assert_error(vly_gpu_upload_create(f->gpu, 63, &upload, &err), VLY_E_INVALID, "63");
    assert_null(upload);
    assert_ok(vly_gpu_upload_create(f->gpu, 4096, &upload, &err));
    static const uint64_t wrong[][2] = {{0, 0},         {0, 1025},        {2, 4},
                                        {N_BYTES, 4},   {N_BYTES - 4, 5}, {UINT64_MAX - 3, 4},
                                        {0, UINT64_MAX}};
    for (size_t i = 0; i < 7; i++)
        assert_error(vly_gpu_upload_stage(upload, &f->x, wrong[i][0], wrong[i][1], &space, &err),
                     VLY_E_INVALID, "expected");
    /* Staged and never finished: destroying must not leave anything behind. */
    assert_ok(vly_gpu_upload_stage(upload, &f->x, 4, 4, &space, &err));
    vly_gpu_upload_destroy(upload);
}

/* ---- Commands ---- */

static void steps_see_each_other_through_barriers(void **state)
{
    gpu_fixture *f = *state;
    vly_gpu_buffer d;
    assert_ok(vly_gpu_buffer_create(f->gpu, N_BYTES, VLY_GPU_DEVICE, "d", &d, &err));
    for (uint32_t i = 0; i < N_WORDS; i++) f->x_words[i] = i * i;
    vly_gpu_commands *commands = gpu_fixture_begin(f, "chain");
    vly_gpu_cmd_fill(commands, &f->y, 0, N_BYTES, 77);
    vly_gpu_cmd_copy(commands, &f->x, 0, &d, 0, N_BYTES);
    vly_gpu_cmd_barrier(commands);
    gpu_fixture_dispatch(f, commands, 5, 1, 2, &d, &d); /* 7 x + 1 */
    vly_gpu_cmd_barrier(commands);
    vly_gpu_cmd_fill(commands, &d, 40, 8, 0xabcd);
    vly_gpu_cmd_barrier(commands);
    gpu_fixture_dispatch(f, commands, 2, 0, 0, &d, &d); /* 14 x + 2 */
    vly_gpu_cmd_barrier(commands);
    vly_gpu_cmd_copy(commands, &d, 4, &f->y, 8, N_BYTES - 8);
    assert_ok(vly_gpu_commands_end(commands, &err));
    for (uint32_t turn = 0; turn < 3; turn++) {
        f->x_words[100] = turn; /* the host writes between submissions of the same commands */
        gpu_fixture_run(f, commands);
        assert_int_equal(f->y_words[0], 77);
        assert_int_equal(f->y_words[1], 77);
        for (uint32_t i = 1; i < N_WORDS - 1; i++) {
            uint32_t expected = i == 10 || i == 11 ? 2 * 0xabcd : 14 * f->x_words[i] + 2;
            assert_int_equal(f->y_words[i + 1], expected);
        }
    }
    vly_gpu_commands_destroy(commands);
    vly_gpu_buffer_destroy(f->gpu, &d);
}

static void errors_of_recording_come_at_its_end(void **state)
{
    gpu_fixture *f = *state;
    uint32_t push[33] = {0};
    vly_gpu_kernel *kernel;
    assert_ok(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, NULL, 0, 0, &kernel, &err));
    for (int i = 0; i < 9; i++) {
        vly_gpu_commands *commands = gpu_fixture_begin(f, "wrong step");
        switch (i) {
        case 0:
            vly_gpu_cmd_dispatch(commands, kernel, f->views, push, 24, UINT32_MAX, 1, 1);
            break;
        case 1:
            vly_gpu_cmd_dispatch(commands, kernel, f->views, push, 24, 1, 1, UINT32_MAX);
            break;
        case 2:
            vly_gpu_cmd_dispatch(commands, kernel, f->views, push, 132, 1, 1, 1);
            break;
        case 3:
            vly_gpu_cmd_dispatch(commands, kernel, f->views, push, 23, 1, 1, 1);
            break;
        case 4:
            vly_gpu_cmd_copy(commands, &f->x, 4, &f->y, 0, N_BYTES);
            break;
        case 5:
            vly_gpu_cmd_copy(commands, &f->x, 0, &f->y, UINT64_MAX, 4);
            break;
        case 6:
            vly_gpu_cmd_fill(commands, &f->y, 2, 4, 0);
            break;
        case 7:
            vly_gpu_cmd_fill(commands, &f->y, 0, 0, 0);
            break;
        default:
            vly_gpu_cmd_timestamp(commands, VLY_GPU_MAX_TIMESTAMPS);
            break;
        }
        vly_gpu_cmd_fill(commands, &f->y, 1, 1, 0); /* a later error does not hide the first */
        assert_error(vly_gpu_commands_end(commands, &err), VLY_E_INVALID, "wrong step");
        if (i < 4) assert_non_null(strstr(err.message, i < 2 ? "workgroups" : "push"));
        assert_error(vly_gpu_submit(f->gpu, &commands, 1, NULL, NULL, NULL, &err), VLY_E_INVALID,
                     "wrong step");
        vly_gpu_commands_destroy(commands);
    }
    vly_gpu_commands *good = gpu_fixture_step(f, "good step", 1);
    assert_error(vly_gpu_commands_end(good, &err), VLY_E_INVALID, "good step");
    assert_error(vly_gpu_submit(f->gpu, &good, 0, NULL, NULL, NULL, &err), VLY_E_INVALID, "1 to");
    assert_error(vly_gpu_wait(f->gpu, 0, &err), VLY_E_INVALID, "ticket 0");
    assert_error(vly_gpu_wait(f->gpu, UINT64_MAX, &err), VLY_E_INVALID, "ticket");
    vly_gpu_commands_destroy(good);
}

static void times_of_steps_advance(void **state)
{
    gpu_fixture *f = *state;
    if (vly_gpu_get_info(f->gpu)->timestamp_ns == 0) skip();
    enum { N = 20 };
    uint64_t ns[N + 1];
    vly_gpu_commands *commands = gpu_fixture_begin(f, "timed");
    for (uint32_t i = 0; i < N; i++) {
        vly_gpu_cmd_timestamp(commands, i);
        gpu_fixture_dispatch(f, commands, 3, 1, 0, &f->y, &f->y);
        vly_gpu_cmd_barrier(commands);
    }
    assert_ok(vly_gpu_commands_end(commands, &err));
    assert_error(vly_gpu_commands_times(commands, N + 1, ns, &err), VLY_E_INVALID, "no time 20");
    uint64_t last = 0;
    for (int turn = 0; turn < 3; turn++) {
        gpu_fixture_run(f, commands);
        assert_ok(vly_gpu_commands_times(commands, N, ns, &err));
        for (uint32_t i = 0; i < N; i++) {
            assert_true(ns[i] >= last);
            last = ns[i];
        }
        assert_true(ns[N - 1] > ns[0]);
        assert_true(ns[N - 1] - ns[0] < 60000000000u);
    }
    vly_gpu_commands_destroy(commands);
    commands = gpu_fixture_begin(f, "marked twice");
    vly_gpu_cmd_timestamp(commands, 3);
    vly_gpu_cmd_timestamp(commands, 3);
    assert_error(vly_gpu_commands_end(commands, &err), VLY_E_INVALID, "marked once");
    vly_gpu_commands_destroy(commands);
}

/* ---- Kernels ---- */

static void kernels_are_made_once(void **state)
{
    gpu_fixture *f = *state;
    vly_gpu_kernel *a, *b;
    uint32_t constants[17] = {64, 1};
    assert_ok(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, constants, 2, 0, &a, &err));
    assert_ok(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, constants, 2, 0, &b, &err));
    assert_ptr_equal(a, b);
    constants[1] = 2;
    assert_ok(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, constants, 2, 0, &b, &err));
    assert_ptr_not_equal(a, b);
    assert_ok(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, constants, 3, 0, &a, &err));
    assert_ptr_not_equal(a, b);
    /* A subgroup size that the device cannot require is as good as none. */
    assert_ok(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, constants, 3, 3, &b, &err));
    assert_ptr_equal(a, b);
    const vly_gpu_info *info = vly_gpu_get_info(f->gpu);
    uint32_t size = info->subgroup_size;
    constants[0] = size * 2;
    assert_ok(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, constants, 1, size, &a, &err));
    assert_ok(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, constants, 1, 0, &b, &err));
    assert_int_equal(a != b, info->subgroup_size_control);
    assert_error(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, constants, 17, 0, &a, &err),
                 VLY_E_INVALID, "17");
    constants[0] = 0;
    assert_error(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, constants, 1, 0, &a, &err),
                 VLY_E_INVALID, "of 0");
    constants[0] = info->max_workgroup_invocations + 1;
    assert_error(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, constants, 1, 0, &a, &err),
                 VLY_E_INVALID, "test_gpu");
    constants[0] = size + 1;
    if (info->subgroup_size_control)
        assert_error(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, constants, 1, size, &a, &err),
                     VLY_E_INVALID, "subgroups");
    assert_error(vly_gpu_kernel_get(f->gpu, VLY_N_SHADERS, constants, 1, 0, &a, &err),
                 VLY_E_INVALID, "shader");
}

#define N_KERNELS 6

typedef struct {
    gpu_fixture *fixture;
    pthread_t thread;
    vly_gpu_kernel *kernel[N_KERNELS];
    vly_gpu_commands *commands[N_KERNELS];
    int rc;
} asker;

static void *ask(void *arg)
{
    asker *a = arg;
    vly_error why;
    for (uint32_t i = 0; i < N_KERNELS && !a->rc; i++) {
        uint32_t constants[2] = {64, 100 + i};
        a->rc = gpu_kernel_get(a->fixture->gpu, &gpu_fixture_spirv, constants, 2, 0, &a->kernel[i],
                               &why);
        if (!a->rc)
            a->rc = vly_gpu_commands_create(a->fixture->gpu, "recorded", &a->commands[i], &why);
        if (a->rc) break;
        vly_gpu_cmd_fill(a->commands[i], &a->fixture->y, 0, 4, i);
        a->rc = vly_gpu_commands_end(a->commands[i], &why);
    }
    return NULL;
}

static void threads_may_record_at_a_time(void **state)
{
    asker askers[4] = {
        {.fixture = *state}, {.fixture = *state}, {.fixture = *state}, {.fixture = *state}};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&askers[i].thread, NULL, ask, &askers[i]), 0);
    for (int i = 0; i < 4; i++) pthread_join(askers[i].thread, NULL);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(askers[i].rc, 0);
        for (int k = 0; k < N_KERNELS; k++) {
            assert_ptr_equal(askers[i].kernel[k], askers[0].kernel[k]);
            vly_gpu_commands_destroy(askers[i].commands[k]);
        }
    }
    assert_ptr_not_equal(askers[0].kernel[0], askers[0].kernel[1]);
}

static void every_shader_is_embedded(void **state)
{
    (void)state;
    for (size_t i = 0; i < VLY_N_SHADERS; i++) {
        const vly_shader_binary *binary = &vly_shader_table[i];
        assert_true(binary->name[0]);
        assert_int_equal((uintptr_t)binary->words % 4, 0);
        assert_true(binary->end - binary->words > 5);
        assert_int_equal(binary->words[0], 0x07230203);
    }
}

static void views_of_impossible_size_are_refused(void **state)
{
    gpu_fixture *f = *state;
    vly_gpu_views *views;
    vly_gpu_buffer small;
    assert_ok(vly_gpu_buffer_create(f->gpu, 8, VLY_GPU_STEP, "small", &small, &err));
    assert_error(vly_gpu_views_create(f->gpu, &small, NULL, NULL, &views, &err), VLY_E_UNSUPPORTED,
                 "16 bytes");
    assert_null(views);
    vly_gpu_buffer large = f->x; /* never read: refused before the device sees it */
    large.n_bytes = UINT64_C(16) * vly_gpu_get_info(f->gpu)->max_texel_elements + 16;
    assert_error(vly_gpu_views_create(f->gpu, NULL, NULL, &large, &views, &err), VLY_E_UNSUPPORTED,
                 "view 3");
    vly_gpu_buffer_destroy(f->gpu, &small);
}

#define with_device(test) cmocka_unit_test_setup_teardown(test, gpu_fixture_open, gpu_fixture_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_are_listed_and_chosen),
        cmocka_unit_test(the_best_device_is_chosen),
        with_device(buffers_are_zeroed_and_aligned),
        with_device(impossible_sizes_are_refused),
        with_device(uploads_arrive_in_place),
        with_device(uploads_arrive_through_the_ring),
        with_device(wrong_uploads_are_refused),
        with_device(steps_see_each_other_through_barriers),
        with_device(errors_of_recording_come_at_its_end),
        with_device(times_of_steps_advance),
        with_device(kernels_are_made_once),
        with_device(views_of_impossible_size_are_refused),
        with_device(threads_may_record_at_a_time),
        cmocka_unit_test(every_shader_is_embedded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
