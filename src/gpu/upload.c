#include "gpu/gpu_internal.h"

#include <stdlib.h>

#define N_SEGMENTS 4

/* The ring is cut into segments. One is being filled: its copies are recorded as they are staged
 * and submitted when it is full; the others are on their way. */
typedef struct {
    vly_gpu_commands *commands; /* NULL: nothing staged */
    uint64_t ticket;            /* of the copies on their way; 0: none */
} segment;

struct vly_gpu_upload {
    vly_gpu *gpu;
    bool always_ring;
    uint64_t segment_bytes, used_bytes; /* of the segment being filled */
    vly_gpu_buffer ring;                /* made when first needed */
    segment segments[N_SEGMENTS];
    uint32_t filling;
};

int gpu_upload_create(vly_gpu *gpu, uint64_t ring_bytes, bool always_ring, vly_gpu_upload **out,
                      vly_error *err)
{
    *out = NULL;
    if (ring_bytes < N_SEGMENTS * 16)
        return vly_fail(err, VLY_E_INVALID, "an upload ring of %llu bytes, expected at least %d",
                        (unsigned long long)ring_bytes, N_SEGMENTS * 16);
    vly_gpu_upload *upload = calloc(1, sizeof *upload);
    if (!upload) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for an upload");
    upload->gpu = gpu;
    upload->always_ring = always_ring;
    /* Rounded up, so that a quarter of the ring always fits in a segment. */
    upload->segment_bytes = ((ring_bytes - 1) / N_SEGMENTS / 16 + 1) * 16;
    *out = upload;
    return 0;
}

int vly_gpu_upload_create(vly_gpu *gpu, uint64_t ring_bytes, vly_gpu_upload **out, vly_error *err)
{
    return gpu_upload_create(gpu, ring_bytes, false, out, err);
}

/* Sends the copies of the segment being filled on their way. */
static int flush(vly_gpu_upload *upload, vly_error *err)
{
    segment *s = &upload->segments[upload->filling];
    if (!s->commands || s->ticket) return 0;
    int rc = vly_gpu_commands_end(s->commands, err);
    if (!rc) rc = vly_gpu_submit(upload->gpu, &s->commands, 1, NULL, NULL, &s->ticket, err);
    if (rc) return rc;
    upload->filling = (upload->filling + 1) % N_SEGMENTS;
    upload->used_bytes = 0;
    return 0;
}

/* Waits for the copies out of a segment, which is empty then. */
static int empty(vly_gpu_upload *upload, segment *s, vly_error *err)
{
    if (!s->ticket) return 0;
    int rc = vly_gpu_wait(upload->gpu, s->ticket, err);
    if (rc) return rc;
    vly_gpu_commands_destroy(s->commands);
    *s = (segment){0};
    return 0;
}

static int stage_in_ring(vly_gpu_upload *upload, const vly_gpu_buffer *dst, uint64_t offset,
                         uint64_t n_bytes, void **space, vly_error *err)
{
    int rc = 0;
    if (!upload->ring.handle)
        rc = vly_gpu_buffer_create(upload->gpu, upload->segment_bytes * N_SEGMENTS, VLY_GPU_STAGING,
                                   "upload ring", &upload->ring, err);
    if (!rc && n_bytes > upload->segment_bytes - upload->used_bytes) rc = flush(upload, err);
    segment *s = &upload->segments[upload->filling];
    if (!rc) rc = empty(upload, s, err);
    if (!rc && !s->commands) rc = vly_gpu_commands_create(upload->gpu, "upload", &s->commands, err);
    if (rc) return rc;
    uint64_t at = upload->filling * upload->segment_bytes + upload->used_bytes;
    vly_gpu_cmd_copy(s->commands, &upload->ring, at, dst, offset, n_bytes);
    *space = (char *)upload->ring.mapped + at;
    /* The segment's size is a multiple of 16, so the next place is still inside or at its end. */
    upload->used_bytes += (n_bytes + 15) & ~(uint64_t)15;
    return 0;
}

int vly_gpu_upload_stage(vly_gpu_upload *upload, const vly_gpu_buffer *dst, uint64_t offset,
                         uint64_t n_bytes, void **space, vly_error *err)
{
    *space = NULL;
    if (n_bytes == 0 || n_bytes > upload->segment_bytes || offset % 4 || offset > dst->n_bytes ||
        n_bytes > dst->n_bytes - offset)
        return vly_fail(
            err, VLY_E_INVALID,
            "upload of %llu bytes at %llu: expected 1 to %llu bytes, at a multiple of 4, "
            "inside a buffer of %llu",
            (unsigned long long)n_bytes, (unsigned long long)offset,
            (unsigned long long)upload->segment_bytes, (unsigned long long)dst->n_bytes);
    bool in_place = dst->mapped && offset % 16 == 0 && !upload->always_ring;
    if (!in_place) return stage_in_ring(upload, dst, offset, n_bytes, space, err);
    *space = (char *)dst->mapped + offset;
    return gpu_check(upload->gpu, err);
}

int vly_gpu_upload_finish(vly_gpu_upload *upload, vly_error *err)
{
    int rc = flush(upload, err);
    for (uint32_t i = 0; !rc && i < N_SEGMENTS; i++) rc = empty(upload, &upload->segments[i], err);
    return rc;
}

void vly_gpu_upload_destroy(vly_gpu_upload *upload)
{
    if (!upload) return;
    for (uint32_t i = 0; i < N_SEGMENTS; i++) {
        segment *s = &upload->segments[i];
        if (s->ticket) vly_gpu_wait(upload->gpu, s->ticket, NULL);
        vly_gpu_commands_destroy(s->commands);
    }
    vly_gpu_buffer_destroy(upload->gpu, &upload->ring);
    free(upload);
}
