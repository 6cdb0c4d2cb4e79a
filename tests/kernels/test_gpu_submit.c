/* The GPU layer on whatever Vulkan device is there: submissions, completions, the pipeline cache,
 * and failures. These are injected between the library and the loader: the Makefile links this
 * program with --wrap for the functions below. */
#include "tests/support/gpu_fixture.h"

#include <dirent.h>
#include <ftw.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static vly_error err;

/* ---- Injected failures ---- */

/* What the wrapped functions answer without reaching the device; 0: they reach it. Waits do so
 * `n_waits` more times. The waiter's thread reads these too. */
static _Atomic VkResult wait_answer, submit_answer;
static atomic_int n_waits;
static size_t cache_bytes; /* that vkCreatePipelineCache was last given */

#define WRAPPED(result, name, ...)                                                                 \
    result __real_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__)

WRAPPED(VkResult, vkWaitSemaphores, VkDevice device, const VkSemaphoreWaitInfo *info, uint64_t ns)
{
    VkResult answer = wait_answer;
    if (answer && atomic_fetch_sub(&n_waits, 1) > 0) return answer;
    return __real_vkWaitSemaphores(device, info, ns);
}

/* Looking instead of waiting finds nothing new while waits are answered. */
WRAPPED(VkResult, vkGetSemaphoreCounterValue, VkDevice device, VkSemaphore semaphore,
        uint64_t *value)
{
    return wait_answer ? VK_ERROR_UNKNOWN
                       : __real_vkGetSemaphoreCounterValue(device, semaphore, value);
}

WRAPPED(VkResult, vkQueueSubmit, VkQueue queue, uint32_t n, const VkSubmitInfo *infos,
        VkFence fence)
{
    return submit_answer ? submit_answer : __real_vkQueueSubmit(queue, n, infos, fence);
}

WRAPPED(VkResult, vkCreatePipelineCache, VkDevice device, const VkPipelineCacheCreateInfo *info,
        const VkAllocationCallbacks *allocator, VkPipelineCache *out)
{
    cache_bytes = info->initialDataSize;
    return __real_vkCreatePipelineCache(device, info, allocator, out);
}

static void inject_into_waits(VkResult answer, int n)
{
    n_waits = n;
    wait_answer = answer;
}

/* ---- Submissions ---- */

/* y after the steps y = 3 y + add of `adds`, from 0. */
static uint32_t after(const uint32_t *adds, size_t n)
{
    uint32_t y = 0;
    for (size_t i = 0; i < n; i++) y = 3 * y + adds[i];
    return y;
}

static void expect(const gpu_fixture *f, uint32_t y)
{
    for (uint32_t i = 0; i < N_WORDS; i++) assert_int_equal(f->y_words[i], y);
}

static void commands_run_in_order_and_repeatedly(void **state)
{
    gpu_fixture *f = *state;
    vly_gpu_commands *one = gpu_fixture_step(f, "one", 1), *two = gpu_fixture_step(f, "two", 2);
    vly_gpu_commands *const batch[] = {one, two, two, one, two};
    uint64_t tickets[3];
    for (int i = 0; i < 3; i++)
        assert_ok(vly_gpu_submit(f->gpu, batch, 5, NULL, NULL, &tickets[i], &err));
    assert_true(tickets[0] < tickets[1] && tickets[1] < tickets[2]);
    for (int i = 2; i >= 0; i--) assert_ok(vly_gpu_wait(f->gpu, tickets[i], &err));
    expect(f, after((const uint32_t[]){1, 2, 2, 1, 2, 1, 2, 2, 1, 2, 1, 2, 2, 1, 2}, 15));
    vly_gpu_commands_destroy(one);
    vly_gpu_commands_destroy(two);
}

/* More than can be outstanding: the oldest are waited for. */
static void many_submissions_need_no_wait_between(void **state)
{
    gpu_fixture *f = *state;
    enum { N = 3 * MAX_IN_FLIGHT + 5 };
    vly_gpu_commands *one = gpu_fixture_step(f, "one", 1);
    uint32_t y = 0;
    uint64_t ticket = 0;
    for (uint32_t i = 0; i < N; i++) {
        assert_ok(vly_gpu_submit(f->gpu, &one, 1, NULL, NULL, &ticket, &err));
        assert_true(f->gpu->n_flights <= MAX_IN_FLIGHT);
        y = 3 * y + 1;
    }
    assert_ok(vly_gpu_wait(f->gpu, ticket, &err));
    assert_int_equal(f->gpu->n_flights, 0);
    expect(f, y);
    vly_gpu_commands_destroy(one);
}

/* ---- Completions ---- */

enum { MAX_EVENTS = 2000 };

/* What callbacks saw: they only note it, since a failing assertion must not jump out of the loop.
 */
typedef struct {
    gpu_fixture *f;
    vly_gpu_commands *again; /* submitted from within a callback, n_again times */
    int n_again;
    int n_events, codes[MAX_EVENTS];
    size_t tags[MAX_EVENTS];
    vly_error last;
} events;

typedef struct {
    events *to;
    size_t tag;
} tagged;

static tagged tags[MAX_EVENTS];

static void note(void *arg, int rc, const vly_error *error)
{
    const tagged *t = arg;
    events *e = t->to;
    if (e->n_events == MAX_EVENTS) abort();
    e->codes[e->n_events] = rc;
    e->tags[e->n_events++] = t->tag;
    e->last = *error;
    if (e->n_again > 0) {
        e->n_again--;
        tags[t->tag + 1] = (tagged){e, t->tag + 1};
        vly_gpu_submit(e->f->gpu, &e->again, 1, note, &tags[t->tag + 1], NULL, &err);
    }
}

static void submit_noting(events *e, vly_gpu_commands *commands, size_t tag)
{
    tags[tag] = (tagged){e, tag};
    assert_ok(vly_gpu_submit(e->f->gpu, &commands, 1, note, &tags[tag], NULL, &err));
}

static void expect_events(const events *e, int n, int code)
{
    assert_int_equal(e->n_events, n);
    for (int i = 0; i < n; i++) {
        assert_int_equal(e->tags[i], i);
        assert_int_equal(e->codes[i], code);
    }
}

static void completions_arrive_in_order(void **state)
{
    static events e;
    e = (events){.f = *state};
    gpu_fixture *f = *state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    vly_gpu_commands *one = gpu_fixture_step(f, "one", 1);
    assert_error(vly_gpu_submit(f->gpu, &one, 1, note, NULL, NULL, &err), VLY_E_INVALID, "loop");
    assert_ok(vly_gpu_loop_attach(f->gpu, &loop, &err));
    assert_error(vly_gpu_loop_attach(f->gpu, &loop, &err), VLY_E_INVALID, "already");
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0); /* idle: the loop ends at once */

    uint32_t y = 0;
    size_t tag = 0;
    for (uint32_t turn = 0; turn < 10; turn++) {
        for (uint32_t i = 0; i < turn * 7; i++) {
            bool quiet = i % 3 == 2; /* some that nobody asks about, in between */
            if (quiet)
                assert_ok(vly_gpu_submit(f->gpu, &one, 1, NULL, NULL, NULL, &err));
            else
                submit_noting(&e, one, tag++);
            y = 3 * y + 1;
        }
        uint64_t ticket;
        assert_ok(vly_gpu_submit(f->gpu, &one, 1, NULL, NULL, &ticket, &err));
        y = 3 * y + 1;
        /* A wait may see completions before the waiter does; none must be lost to the loop. */
        if (turn % 2) assert_ok(vly_gpu_wait(f->gpu, ticket, &err));
        assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
        expect_events(&e, (int)tag, 0);
        assert_ok(vly_gpu_wait(f->gpu, ticket, &err));
        expect(f, y);
    }
    vly_gpu_loop_detach(f->gpu);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    vly_gpu_commands_destroy(one);
}

static void callbacks_may_submit(void **state)
{
    static events e;
    gpu_fixture *f = *state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    vly_gpu_commands *one = gpu_fixture_step(f, "one", 1);
    e = (events){.f = f, .again = one, .n_again = 999};
    assert_ok(vly_gpu_loop_attach(f->gpu, &loop, &err));
    submit_noting(&e, one, 0);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    expect_events(&e, 1000, 0);
    uint32_t y = 0;
    for (int i = 0; i < 1000; i++) y = 3 * y + 1;
    expect(f, y);
    vly_gpu_loop_detach(f->gpu);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    vly_gpu_commands_destroy(one);
}

static void detaching_delivers_what_is_outstanding(void **state)
{
    static events e;
    gpu_fixture *f = *state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    vly_gpu_commands *one = gpu_fixture_step(f, "one", 1);
    e = (events){.f = f};
    for (int turn = 0; turn < 3; turn++) { /* attaching again works */
        e.n_events = 0;
        assert_ok(vly_gpu_loop_attach(f->gpu, &loop, &err));
        for (size_t i = 0; i < MAX_IN_FLIGHT; i++) submit_noting(&e, one, i);
        assert_error(vly_gpu_submit(f->gpu, &one, 1, note, &tags[0], NULL, &err), VLY_E_INVALID,
                     "outstanding");
        vly_gpu_loop_detach(f->gpu);
        expect_events(&e, MAX_IN_FLIGHT, 0);
        uv_run(&loop, UV_RUN_DEFAULT);
    }
    assert_int_equal(uv_loop_close(&loop), 0);
    vly_gpu_commands_destroy(one);
}

/* ---- Failures ---- */

/* Every call that reaches the device fails at once with `code` and names the step. */
static void expect_broken(gpu_fixture *f, vly_gpu_commands *commands, int code, const char *step)
{
    vly_gpu_buffer b;
    vly_gpu_commands *other;
    vly_gpu_kernel *kernel;
    vly_gpu_upload *upload;
    void *space;
    uint64_t ns;
    uv_loop_t loop;
    assert_error(vly_gpu_submit(f->gpu, &commands, 1, NULL, NULL, NULL, &err), code, step);
    assert_error(vly_gpu_wait(f->gpu, 1, &err), code, step);
    assert_error(vly_gpu_buffer_create(f->gpu, 4, VLY_GPU_DEVICE, "b", &b, &err), code, step);
    assert_error(vly_gpu_commands_create(f->gpu, "more", &other, &err), code, step);
    assert_error(vly_gpu_commands_times(commands, 1, &ns, &err), code, step);
    assert_error(gpu_kernel_get(f->gpu, &gpu_fixture_spirv, NULL, 0, 0, &kernel, &err), code, step);
    assert_ok(gpu_upload_create(f->gpu, 4096, true, &upload, &err));
    assert_error(vly_gpu_upload_stage(upload, &f->x, 0, 4, &space, &err), code, step);
    vly_gpu_upload_destroy(upload);
    assert_int_equal(uv_loop_init(&loop), 0);
    if (!f->gpu->loop) assert_error(vly_gpu_loop_attach(f->gpu, &loop, &err), code, step);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void a_loss_during_a_wait_names_the_step(void **state)
{
    gpu_fixture *f = *state;
    vly_gpu_commands *one = gpu_fixture_step(f, "verify pass of 5 tokens", 1);
    uint64_t ticket;
    assert_ok(vly_gpu_submit(f->gpu, &one, 1, NULL, NULL, &ticket, &err));
    inject_into_waits(VK_ERROR_DEVICE_LOST, INT_MAX);
    assert_error(vly_gpu_wait(f->gpu, ticket, &err), VLY_E_DEVICE_LOST, "verify pass of 5 tokens");
    inject_into_waits(VK_SUCCESS, 0); /* it stays lost, whatever the driver says later */
    expect_broken(f, one, VLY_E_DEVICE_LOST, "verify pass of 5 tokens");
    vkDeviceWaitIdle(f->gpu->device);
    vly_gpu_commands_destroy(one);
}

static void a_loss_during_a_submission_names_the_step(void **state)
{
    gpu_fixture *f = *state;
    vly_gpu_commands *one = gpu_fixture_step(f, "prompt", 1), *two = gpu_fixture_step(f, "pick", 2);
    vly_gpu_commands *const both[] = {one, two};
    submit_answer = VK_ERROR_DEVICE_LOST;
    assert_error(vly_gpu_submit(f->gpu, both, 2, NULL, NULL, NULL, &err), VLY_E_DEVICE_LOST,
                 "prompt ... pick");
    submit_answer = VK_SUCCESS;
    expect_broken(f, one, VLY_E_DEVICE_LOST, "prompt ... pick");
    vly_gpu_commands_destroy(one);
    vly_gpu_commands_destroy(two);
}

static void other_failures_of_a_submission_pass(void **state)
{
    gpu_fixture *f = *state;
    vly_gpu_commands *one = gpu_fixture_step(f, "one", 1);
    submit_answer = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    assert_error(vly_gpu_submit(f->gpu, &one, 1, NULL, NULL, NULL, &err), VLY_E_DEVICE_MEMORY,
                 "one");
    submit_answer = VK_SUCCESS;
    gpu_fixture_run(f, one);
    expect(f, 1);
    vly_gpu_commands_destroy(one);
}

static void other_failures_of_a_wait_are_final(void **state)
{
    gpu_fixture *f = *state;
    vly_gpu_commands *one = gpu_fixture_step(f, "one", 1);
    uint64_t ticket;
    assert_ok(vly_gpu_submit(f->gpu, &one, 1, NULL, NULL, &ticket, &err));
    inject_into_waits(VK_ERROR_OUT_OF_HOST_MEMORY, INT_MAX);
    assert_error(vly_gpu_wait(f->gpu, ticket, &err), VLY_E_DEVICE, "one");
    inject_into_waits(VK_SUCCESS, 0);
    expect_broken(f, one, VLY_E_DEVICE, "one");
    vkDeviceWaitIdle(f->gpu->device);
    vly_gpu_commands_destroy(one);
}

/* The loss is seen by the waiter, or by a submission while completions are outstanding: either way
 * every `done` is called, and the loop ends. */
static void a_loss_reaches_the_loop(void **state)
{
    static events e;
    for (int by_submission = 0; by_submission < 2; by_submission++) {
        assert_int_equal(gpu_fixture_open(state), 0);
        gpu_fixture *f = *state;
        uv_loop_t loop;
        assert_int_equal(uv_loop_init(&loop), 0);
        vly_gpu_commands *one = gpu_fixture_step(f, "draft step", 1);
        e = (events){.f = f};
        assert_ok(vly_gpu_loop_attach(f->gpu, &loop, &err));
        inject_into_waits(by_submission ? VK_TIMEOUT : VK_ERROR_DEVICE_LOST, INT_MAX);
        tags[0] = (tagged){&e, 0};
        int n = 0;
        for (; n < 3; n++) {
            tags[n] = (tagged){&e, (size_t)n};
            if (by_submission && n == 2) submit_answer = VK_ERROR_DEVICE_LOST;
            if (vly_gpu_submit(f->gpu, &one, 1, note, &tags[n], NULL, &err)) break;
        }
        if (by_submission) assert_int_equal(n, 2);
        assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
        expect_events(&e, n, VLY_E_DEVICE_LOST);
        assert_non_null(strstr(e.last.message, "draft step"));
        expect_broken(f, one, VLY_E_DEVICE_LOST, "draft step");
        vkDeviceWaitIdle(f->gpu->device);
        vly_gpu_commands_destroy(one);
        if (by_submission) vly_gpu_loop_detach(f->gpu);
        submit_answer = VK_SUCCESS;
        gpu_fixture_close(state); /* detaches, too */
        inject_into_waits(VK_SUCCESS, 0);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&loop), 0);
    }
}

static void a_long_step_is_waited_for_with_one_warning(void **state)
{
    gpu_fixture *f = *state;
    vly_gpu_commands *one = gpu_fixture_step(f, "long step", 1);
    char log[8192] = {0};
    FILE *file = tmpfile();
    assert_non_null(file);
    int old = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    inject_into_waits(VK_TIMEOUT, 100);
    uint64_t ticket;
    int rc = vly_gpu_submit(f->gpu, &one, 1, NULL, NULL, &ticket, &err);
    if (!rc) rc = vly_gpu_wait(f->gpu, ticket, &err);
    dup2(old, STDERR_FILENO);
    close(old);
    assert_int_equal(rc, 0);
    rewind(file);
    fread(log, 1, sizeof log - 1, file);
    fclose(file);
    const char *warning = strstr(log, "long step");
    assert_non_null(warning);
    assert_null(strstr(warning + 1, "long step"));
    expect(f, 1);
    vly_gpu_commands_destroy(one);
}

/* ---- The pipeline cache ---- */

static char cache_home[1024];
static char cache_file[2048]; /* the one in it */

/* A device with a kernel, opened and closed. */
static void use_device(void)
{
    void *state;
    assert_int_equal(gpu_fixture_open(&state), 0);
    vly_gpu_kernel *kernel;
    gpu_fixture *f = state;
    int rc =
        gpu_kernel_get(f->gpu, &gpu_fixture_spirv, (const uint32_t[]){32}, 1, 0, &kernel, &err);
    gpu_fixture_close(&state);
    assert_int_equal(rc, 0);
}

/* Names the file in the directory of the cache; fails where there is not exactly one. */
static void find_cache_file(void)
{
    char path[sizeof cache_home + 16];
    snprintf(path, sizeof path, "%s/sub/volley", cache_home);
    DIR *directory = opendir(path);
    assert_non_null(directory);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(cache_file, sizeof cache_file, "%s/%s", path, entry->d_name);
        n++;
    }
    closedir(directory);
    assert_int_equal(n, 1);
}

static size_t read_cache(uint8_t *bytes, size_t room)
{
    FILE *file = fopen(cache_file, "rb");
    assert_non_null(file);
    size_t n = fread(bytes, 1, room, file);
    fclose(file);
    return n;
}

static void write_cache(const uint8_t *bytes, size_t n)
{
    FILE *file = fopen(cache_file, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    fclose(file);
}

static int cache_setup(void **state)
{
    (void)state;
    char path[sizeof cache_home + 16];
    const char *base = getenv("TMPDIR");
    snprintf(cache_home, sizeof cache_home, "%s/volley-test-XXXXXX", base ? base : P_tmpdir);
    if (!mkdtemp(cache_home)) return -1;
    snprintf(path, sizeof path, "%s/sub", cache_home); /* is made when needed */
    return setenv("XDG_CACHE_HOME", path, 1);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

/* The driver may have put a cache of its own there. */
static int cache_teardown(void **state)
{
    (void)state;
    unsetenv("XDG_CACHE_HOME");
    return nftw(cache_home, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void pipelines_are_kept_for_the_next_time(void **state)
{
    (void)state;
    struct stat st;
    use_device();
    assert_int_equal(cache_bytes, 0);
    find_cache_file();
    assert_int_equal(stat(cache_file, &st), 0);
    use_device();
    assert_true(cache_bytes > 0 && cache_bytes < (size_t)st.st_size);
    find_cache_file();
}

/* Any damage, and the cache of another device, is ignored, and replaced afterwards. */
static void damaged_caches_are_ignored(void **state)
{
    (void)state;
    static uint8_t good[1 << 20], bad[1 << 20];
    use_device();
    find_cache_file();
    size_t n = read_cache(good, sizeof good);
    assert_true(n >= 24 + 32 && n < sizeof good); /* our header and Vulkan's */
    for (size_t i = 0; i<n; i += n> 200 ? n / 50 : 5) {
        memcpy(bad, good, n);
        bad[i] ^= 0x10;
        write_cache(bad, n);
        use_device();
        assert_int_equal(cache_bytes, 0);
    }
    const size_t lengths[] = {0, 1, 24, 25, n - 1};
    for (size_t i = 0; i < 5; i++) {
        write_cache(good, lengths[i]);
        use_device();
        assert_int_equal(cache_bytes, 0);
    }
    for (size_t at = 0; at < 32; at++) { /* Vulkan's header, with a hash that is right */
        memcpy(bad, good, n);
        bad[24 + at] ^= 0x80;
        uint64_t hash = XXH3_64bits(bad + 24, n - 24);
        memcpy(bad + 16, &hash, sizeof hash);
        write_cache(bad, n);
        use_device();
        assert_int_equal(cache_bytes, 0);
    }
    use_device(); /* what was written last is whole again */
    assert_int_equal(cache_bytes, n - 24);
    find_cache_file();
}

static void a_cache_that_cannot_be_kept_does_no_harm(void **state)
{
    (void)state;
    char path[sizeof cache_home + 16];
    setenv("XDG_CACHE_HOME", "/dev/null/cache", 1);
    use_device();
    assert_int_equal(cache_bytes, 0);
    char home[4096];
    snprintf(home, sizeof home, "%s", getenv("HOME") ? getenv("HOME") : "");
    setenv("XDG_CACHE_HOME", "relative/path", 1);
    unsetenv("HOME");
    use_device();
    assert_int_equal(access("relative", F_OK), -1);
    unsetenv("XDG_CACHE_HOME");
    use_device();
    if (home[0]) setenv("HOME", home, 1);
    /* A directory where the file should be. */
    snprintf(path, sizeof path, "%s/sub", cache_home);
    setenv("XDG_CACHE_HOME", path, 1);
    use_device();
    find_cache_file();
    assert_int_equal(unlink(cache_file), 0);
    assert_int_equal(mkdir(cache_file, 0700), 0);
    use_device();
    assert_int_equal(cache_bytes, 0);
    find_cache_file();
    assert_int_equal(rmdir(cache_file), 0);
}

#define with_device(test) cmocka_unit_test_setup_teardown(test, gpu_fixture_open, close_all)
#define with_cache(test)  cmocka_unit_test_setup_teardown(test, cache_setup, cache_teardown)

static int close_all(void **state)
{
    inject_into_waits(VK_SUCCESS, 0);
    submit_answer = VK_SUCCESS;
    return gpu_fixture_close(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_device(commands_run_in_order_and_repeatedly),
        with_device(many_submissions_need_no_wait_between),
        with_device(completions_arrive_in_order),
        with_device(callbacks_may_submit),
        with_device(detaching_delivers_what_is_outstanding),
        with_device(a_loss_during_a_wait_names_the_step),
        with_device(a_loss_during_a_submission_names_the_step),
        with_device(other_failures_of_a_submission_pass),
        with_device(other_failures_of_a_wait_are_final),
        cmocka_unit_test(a_loss_reaches_the_loop),
        with_device(a_long_step_is_waited_for_with_one_warning),
        with_cache(pipelines_are_kept_for_the_next_time),
        with_cache(damaged_caches_are_ignored),
        with_cache(a_cache_that_cannot_be_kept_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
