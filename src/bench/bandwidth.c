/* The device's read bandwidth, by a plain kernel over more memory than any cache holds. */
#include "bench/bench.h"

#include "base/clock.h"

#include <math.h>
#include <string.h>

#define MAX_BYTES (1ull << 30)
#define MIN_BYTES (1ull << 26)
#define N_REPEAT  5
#define SETTLE_NS UINT64_C(400000000)

/* A power of two that the device has room for. */
static uint64_t choose_bytes(const vly_gpu *gpu)
{
    const vly_gpu_info *info = vly_gpu_get_info(gpu);
    uint64_t n = info->type == VLY_GPU_CPU ? MAX_BYTES / 8 : MAX_BYTES;
    while (n > MIN_BYTES && (n > vly_gpu_available_bytes(gpu) / 4 || n > info->max_buffer_bytes ||
                             n > info->max_allocation_bytes ||
                             (info->type == VLY_GPU_CPU && n / 16 > info->max_texel_elements)))
        n /= 2;
    return n;
}

/* Bits without a pattern: some memories are faster with others. */
static int fill(vly_reader *r, vly_error *err)
{
    const uint64_t piece = 1 << 20;
    vly_gpu_upload *ring;
    int rc = vly_gpu_upload_create(r->gpu, 8 * piece, &ring, err);
    if (rc) return rc;
    uint64_t state = 1;
    for (uint64_t at = 0; rc == 0 && at < r->data.n_bytes; at += piece) {
        void *space;
        rc = vly_gpu_upload_stage(ring, &r->data, at, piece, &space, err);
        for (uint64_t i = 0; rc == 0 && i < piece; i += 8) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            memcpy((char *)space + i, &state, 8);
        }
    }
    if (rc == 0) rc = vly_gpu_upload_finish(ring, err);
    vly_gpu_upload_destroy(ring);
    return rc;
}

int vly_reader_add(vly_reader *r, uint64_t n_bytes, vly_gpu_commands *commands, vly_error *err)
{
    vly_gpu_kernel *kernel;
    int rc = vly_gpu_kernel_get(r->gpu, r->views ? VLY_SHADER_read_texel : VLY_SHADER_read,
                                &r->width, 1, 0, &kernel, err);
    if (rc) return rc;
    struct vly_push_read push = {
        .weights = r->data.address, .sink = r->sink.address, .quads = (uint32_t)(n_bytes / 16)};
    uint64_t turn = 64ull * r->groups * r->width; /* four quads a thread */
    if (n_bytes % turn || n_bytes > r->data.n_bytes)
        return vly_fail(err, VLY_E_INVALID, "reading %llu bytes: expected a multiple of %llu",
                        (unsigned long long)n_bytes, (unsigned long long)turn);
    vly_gpu_cmd_dispatch(commands, kernel, r->views, &push, sizeof push, r->groups, 1, 1);
    return 0;
}

static int record(vly_reader *r, vly_gpu_commands **out, vly_error *err)
{
    bool timed = vly_gpu_get_info(r->gpu)->timestamp_ns > 0;
    int rc = vly_gpu_commands_create(r->gpu, "reading memory", out, err);
    if (rc) return rc;
    if (timed) vly_gpu_cmd_timestamp(*out, 0);
    rc = vly_reader_add(r, r->data.n_bytes, *out, err);
    if (timed) vly_gpu_cmd_timestamp(*out, 1);
    if (rc == 0) rc = vly_gpu_commands_end(*out, err);
    if (rc) vly_gpu_commands_destroy(*out);
    return rc;
}

/* The median time of one reading in nanoseconds. */
static int time_reading(vly_reader *r, double *ns, vly_error *err)
{
    vly_gpu_commands *commands;
    int rc = record(r, &commands, err);
    if (rc) return rc;
    double times[N_REPEAT];
    for (int i = -1; rc == 0 && i < N_REPEAT; i++) { /* the first is not counted */
        uint64_t ticket, t[2] = {vly_clock_ns(), 0};
        rc = vly_gpu_submit(r->gpu, &commands, 1, NULL, NULL, &ticket, err);
        if (rc == 0) rc = vly_gpu_wait(r->gpu, ticket, err);
        t[1] = vly_clock_ns();
        if (rc == 0 && vly_gpu_get_info(r->gpu)->timestamp_ns > 0)
            rc = vly_gpu_commands_times(commands, 2, t, err);
        if (i >= 0) times[i] = (double)(t[1] - t[0]);
    }
    vly_gpu_commands_destroy(commands);
    *ns = vly_median(times, N_REPEAT);
    return rc;
}

/* GPUs raise their clocks when they have had work for a while: reads until nothing has become
 * faster for SETTLE_NS. */
static int settle(vly_reader *r, vly_error *err)
{
    const uint64_t start_ns = vly_clock_ns();
    uint64_t best_at_ns = start_ns;
    double best_ns = INFINITY;
    int rc = 0;
    while (rc == 0 && vly_clock_ns() - best_at_ns < SETTLE_NS &&
           vly_clock_ns() - start_ns < 8 * SETTLE_NS) {
        double ns;
        if ((rc = time_reading(r, &ns, err)) || ns > 0.98 * best_ns) continue;
        best_ns = ns;
        best_at_ns = vly_clock_ns();
    }
    return rc;
}

static int init(vly_reader *r, vly_error *err)
{
    const vly_gpu_info *info = vly_gpu_get_info(r->gpu);
    bool lanes = info->type == VLY_GPU_CPU;
    int rc = vly_gpu_buffer_create(r->gpu, choose_bytes(r->gpu), VLY_GPU_DEVICE, "bandwidth test",
                                   &r->data, err);
    if (rc == 0)
        rc = vly_gpu_buffer_create(r->gpu, 16, VLY_GPU_DEVICE, "bandwidth test", &r->sink, err);
    if (rc == 0) rc = fill(r, err);
    if (rc == 0 && lanes) rc = vly_gpu_views_create(r->gpu, &r->data, NULL, NULL, &r->views, err);
    r->width = lanes ? info->subgroup_size : 256;
    r->groups = 2048;
    if (rc == 0 && !lanes) rc = settle(r, err);
    double best_ns = INFINITY;
    uint32_t best = 0;
    for (r->groups = 512; rc == 0 && r->groups <= 16384; r->groups *= 4) {
        double ns;
        rc = time_reading(r, &ns, err);
        if (rc || ns >= best_ns) continue;
        best_ns = ns;
        best = r->groups;
    }
    r->groups = best;
    r->bytes_per_ns = (double)r->data.n_bytes / best_ns;
    return rc;
}

int vly_reader_init(vly_reader *r, vly_gpu *gpu, vly_error *err)
{
    *r = (vly_reader){.gpu = gpu};
    int rc = init(r, err);
    if (rc) vly_reader_deinit(r);
    return rc;
}

void vly_reader_deinit(vly_reader *r)
{
    if (r->views) vly_gpu_views_destroy(r->gpu, r->views);
    vly_gpu_buffer_destroy(r->gpu, &r->data);
    vly_gpu_buffer_destroy(r->gpu, &r->sink);
    *r = (vly_reader){0};
}
