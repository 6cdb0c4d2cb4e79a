#include "model/weights.h"

#include "base/workers.h"
#include "gguf/quote.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES (1ull << 30) /* weights lie in buffers of about this size */
#define RING_BYTES  (64ull << 20)
#define ALIGNMENT   256u

static uint64_t align_up(uint64_t n)
{
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static uint64_t tiles_of(uint64_t rows)
{
    return (rows + VLY_TILE_ROWS - 1) / VLY_TILE_ROWS;
}

static uint64_t units_of(const vly_matrix *m)
{
    return (m->blocks + 1u) / 2;
}

static uint64_t parts_bytes(const vly_matrix *m, uint64_t rows)
{
    const vly_tile_layout *tile = vly_tile_layout_of(m->format);
    if (m->tiled) return tiles_of(rows) * units_of(m) * (tile->main + tile->high);
    return rows * vly_layout_parts_bytes(vly_layout_of(m->format), m->blocks);
}

static uint64_t scales_bytes(const vly_matrix *m, uint64_t rows)
{
    const vly_tile_layout *tile = vly_tile_layout_of(m->format);
    if (m->tiled) return tiles_of(rows) * (units_of(m) * tile->scales + tile->factors);
    return rows * vly_layout_scales_bytes(vly_layout_of(m->format), m->blocks);
}

/* ---- Planning ---- */

typedef struct {
    vly_weights *weights;
    uint64_t device_limit; /* of a buffer */
    bool tiled;
    vly_error *err;
} planner;

/* Finds a place for the planes in the last chunk, or opens another, which a large matrix has for
 * itself. */
static int place(planner *p, vly_matrix *m)
{
    vly_weights *w = p->weights;
    uint64_t parts = align_up(parts_bytes(m, m->rows)), scales = align_up(scales_bytes(m, m->rows));
    uint64_t chunk = p->device_limit < CHUNK_BYTES ? p->device_limit : CHUNK_BYTES;
    if (parts + scales > p->device_limit)
        return vly_fail(p->err, VLY_E_UNSUPPORTED,
                        "tensor %.*s takes %.1f MiB; the device's buffers hold at most %.1f MiB",
                        (int)m->tensor[0]->name.len, m->tensor[0]->name.data,
                        (double)(parts + scales) / 1048576.0, (double)p->device_limit / 1048576.0);
    if (w->n_chunks == 0 || w->chunk_bytes[w->n_chunks - 1] + parts + scales > chunk) {
        uint64_t *sizes = realloc(w->chunk_bytes, (w->n_chunks + 1) * sizeof *sizes);
        if (!sizes) return vly_fail(p->err, VLY_E_HOST_MEMORY, "no memory for the weights' plan");
        w->chunk_bytes = sizes;
        w->chunk_bytes[w->n_chunks++] = 0;
    }
    m->chunk = w->n_chunks - 1;
    m->parts = w->chunk_bytes[m->chunk];
    m->scales = m->parts + parts;
    w->chunk_bytes[m->chunk] += parts + scales;
    w->n_bytes += parts + scales;
    return 0;
}

/* Plans a matrix over tensors that have been found. Tensors of unlike formats are laid out as F32,
 * and so are those whose columns lie apart. */
static int plan_matrix(planner *p, vly_matrix *m, vly_row_order order, uint32_t rows)
{
    m->order = order;
    m->tiled = p->tiled && m != &p->weights->embed;
    m->columns = (uint32_t)m->tensor[0]->dims[0];
    if (m->spread) m->columns = m->columns / m->spread->head_size * m->spread->head_dim;
    m->blocks = (m->columns + 31) / 32;
    m->rows_used = rows;
    m->rows = (rows + 1) / 2 * 2;
    m->format = m->tensor[0]->format->id;
    for (uint32_t i = 1; i < m->n_tensors; i++)
        if (m->tensor[i]->format->id != m->format) m->format = VLY_FORMAT_f32;
    if (m->spread) m->format = VLY_FORMAT_f32;
    return place(p, m);
}

static int plan_single(planner *p, const vly_gguf_tensor *tensor, vly_matrix *m)
{
    m->n_tensors = 1;
    m->tensor[0] = tensor;
    return plan_matrix(p, m, VLY_ROWS_STACKED, (uint32_t)tensor->dims[1]);
}

static int plan_qkv(planner *p, const vly_model_config *c, const vly_tensor_set *tensors,
                    vly_layer_weights *layer)
{
    const vly_gguf_tensor *t[3] = {tensors->weight[VLY_TENSOR_ATTN_Q],
                                   tensors->weight[VLY_TENSOR_ATTN_K],
                                   tensors->weight[VLY_TENSOR_ATTN_V]};
    const uint32_t heads = c->n_head + 2 * c->n_head_kv;
    int rc = 0;
    layer->n_qkv = 0;
    for (uint32_t j = 0, n; rc == 0 && j < 3; j += n) {
        vly_matrix *m = &layer->qkv[layer->n_qkv++];
        uint32_t n_head = 0;
        for (n = 0; j + n < 3 && t[j + n]->format == t[j]->format; n++) {
            m->tensor[m->n_tensors++] = t[j + n];
            m->n_rotated += j + n < 2;
            n_head += j + n ? c->n_head_kv : c->n_head;
        }
        m->rope = &c->rope;
        m->rows_beside = (heads - n_head) * c->head_dim;
        rc = plan_matrix(p, m, VLY_ROWS_STACKED, n_head * c->head_dim);
    }
    return rc;
}

static int plan_layer(planner *p, const vly_model_config *c, const vly_tensor_set *tensors,
                      vly_layer_weights *layer)
{
    int rc;
    layer->out.spread = c->head_size < c->head_dim ? &c->rope : NULL;
    layer->gate_up.n_tensors = 2;
    layer->gate_up.tensor[0] = tensors->weight[VLY_TENSOR_FFN_GATE];
    layer->gate_up.tensor[1] = tensors->weight[VLY_TENSOR_FFN_UP];
    if ((rc = plan_qkv(p, c, tensors, layer)) ||
        (rc = plan_single(p, tensors->weight[VLY_TENSOR_ATTN_OUTPUT], &layer->out)) ||
        (rc = plan_matrix(p, &layer->gate_up, VLY_ROWS_INTERLEAVED, 2 * c->ff_dim)))
        return rc;
    return plan_single(p, tensors->weight[VLY_TENSOR_FFN_DOWN], &layer->down);
}

static int plan_head(planner *p, const vly_model_config *c, const uint32_t *rows, uint32_t n_rows)
{
    vly_weights *w = p->weights;
    if (c->tied_head && !rows && !p->tiled) {
        w->head = w->embed;
        return 0;
    }
    w->head.n_tensors = 1;
    w->head.tensor[0] =
        w->tensors.model.weight[c->tied_head ? VLY_TENSOR_TOKEN_EMBD : VLY_TENSOR_OUTPUT];
    w->head.gather = rows;
    return plan_matrix(p, &w->head, rows ? VLY_ROWS_GATHERED : VLY_ROWS_STACKED,
                       rows ? n_rows : c->n_vocab);
}

int vly_weights_plan(const vly_gguf *gguf, const vly_model_config *config, const vly_gpu_info *info,
                     const uint32_t *head_rows, uint32_t n_head_rows, bool tiled, vly_weights *out,
                     vly_error *err)
{
    *out = (vly_weights){.gguf = gguf, .n_layer = config->n_layer};
    uint64_t limit = info->max_allocation_bytes;
    if (info->max_buffer_bytes < limit) limit = info->max_buffer_bytes;
    /* The kernels that read through texel views address scales as 4-byte texels. */
    if (info->type == VLY_GPU_CPU && info->max_texel_elements * 4ull < limit)
        limit = info->max_texel_elements * 4ull;
    planner p = {out, limit, tiled, err};
    out->layer = calloc(config->n_layer, sizeof *out->layer);
    if (!out->layer) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the weights' plan");
    int rc = vly_tensors_find(gguf, config, &out->tensors, err);
    if (rc == 0)
        rc = plan_single(&p, out->tensors.model.weight[VLY_TENSOR_TOKEN_EMBD], &out->embed);
    for (uint32_t i = 0; rc == 0 && i < config->n_layer; i++)
        rc = plan_layer(&p, config, &out->tensors.layer[i], &out->layer[i]);
    if (rc == 0) rc = plan_head(&p, config, head_rows, n_head_rows);
    if (rc) vly_weights_deinit(NULL, out);
    return rc;
}

/* ---- Uploading ---- */

/* One of the threads that lay weights out. */
typedef struct {
    float *values;  /* scratch: rows as floats */
    unsigned range; /* of the weights of a matrix in tiles: VLY_RANGE_ */
    int rc;         /* the first failure, which `err` describes */
    vly_error err;
} layer_out;

typedef struct {
    vly_gpu_upload *ring;
    vly_weights *weights;
    vly_progress progress;
    void *progress_arg;
    uint64_t done;
    vly_workers *workers;
    layer_out *out; /* [workers] */
    vly_error *err;
} uploader;

/* Rows or tiles of a matrix that are laid out together: part i of the band goes to plane[j] + i *
 * bytes[j]. */
typedef struct {
    uploader *u;
    const vly_matrix *m;
    uint64_t first; /* row or tile */
    uint8_t *plane[4];
    uint64_t bytes[4];
} band;

static int tell_progress(const uploader *u)
{
    if (!u->progress || !u->progress(u->progress_arg, u->done, u->weights->n_bytes)) return 0;
    return vly_fail(u->err, VLY_E_CANCELLED, "loading was stopped");
}

/* Lays out the `n` parts of a band. */
static int lay_out(band *b, uint64_t n, vly_work_fn *fn)
{
    uploader *u = b->u;
    vly_workers_run(u->workers, n, fn, b);
    for (uint32_t i = 0; i < vly_workers_count(u->workers); i++)
        if (u->out[i].rc) return vly_fail(u->err, u->out[i].rc, "%s", u->out[i].err.message);
    return 0;
}

/* Row r of the matrix as it lies in the file, and its tensor; NULL for a row of padding. */
static const uint8_t *source_row(const vly_matrix *m, uint32_t r, const vly_gguf_tensor **tensor)
{
    const vly_gguf_tensor *t = m->tensor[0];
    uint64_t row = r;
    if (r >= m->rows_used) return NULL;
    if (m->order == VLY_ROWS_GATHERED) {
        row = m->gather[r];
    } else if (m->order == VLY_ROWS_INTERLEAVED) {
        t = m->tensor[r % 2];
        row = r / 2;
    } else {
        uint32_t i = 0;
        uint64_t size = m->rope ? m->rope->head_size : 1, dim = m->rope ? m->rope->head_dim : 1;
        for (; row >= m->tensor[i]->dims[1] / size * dim; t = m->tensor[++i])
            row -= m->tensor[i]->dims[1] / size * dim;
        if (m->rope) {
            uint32_t in_head = (uint32_t)(row % dim);
            if (i < m->n_rotated) in_head = vly_rope_source(m->rope, in_head);
            if (in_head >= size) return NULL;
            row = row / dim * size + in_head;
        }
    }
    *tensor = t;
    return t->data + row * (t->dims[0] / t->format->block_weights) * t->format->block_bytes;
}

/* `n_blocks` of a row as floats, in the columns that they have on the device. */
static void to_floats(const vly_matrix *m, const vly_format *format, const uint8_t *row,
                      size_t n_blocks, float *out)
{
    format->dequantize(row, n_blocks, out);
    if (!m->spread) return;
    /* From the last head: they only move towards the end. */
    for (size_t size = m->spread->head_size, dim = m->spread->head_dim, n = m->columns / dim;
         n-- > 0;) {
        memmove(out + n * dim, out + n * size, size * sizeof *out);
        memset(out + n * dim + size, 0, (dim - size) * sizeof *out);
    }
}

static int repack(layer_out *out, const vly_matrix *m, uint32_t r, uint8_t *parts, uint8_t *scales)
{
    const vly_gguf_tensor *tensor;
    const uint8_t *row = source_row(m, r, &tensor);
    if (!row) {
        memset(parts, 0, parts_bytes(m, 1));
        memset(scales, 0, scales_bytes(m, 1));
        return 0;
    }
    const vly_format *format = tensor->format;
    size_t n_blocks = tensor->dims[0] / format->block_weights;
    int rc = vly_gguf_check_finite(tensor, row, n_blocks, &out->err);
    if (rc) return rc;
    if (format->id != m->format || m->spread) {
        to_floats(m, format, row, n_blocks, out->values);
        row = (const uint8_t *)out->values;
    }
    vly_repack_row(m->format, row, m->columns, parts, scales);
    return 0;
}

/* A vly_work_fn. */
static void lay_out_row(void *arg, uint32_t worker, uint64_t part)
{
    band *b = arg;
    layer_out *out = &b->u->out[worker];
    if (out->rc == 0)
        out->rc = repack(out, b->m, (uint32_t)(b->first + part), b->plane[0] + part * b->bytes[0],
                         b->plane[1] + part * b->bytes[1]);
}

/* Uploads in bands of rows, each small against the ring. */
static int upload_rows(uploader *u, const vly_matrix *m)
{
    const vly_gpu_buffer *buffer = &u->weights->chunk[m->chunk];
    uint64_t row_bytes = parts_bytes(m, 1), scale_row = scales_bytes(m, 1);
    uint64_t fit = RING_BYTES / 8 / (row_bytes + scale_row);
    uint32_t most = (uint32_t)(fit < 1 ? 1 : fit);
    uint8_t *scales = malloc(scale_row ? most * scale_row : 1);
    if (!scales) return vly_fail(u->err, VLY_E_HOST_MEMORY, "no memory to lay out weights");
    int rc = 0;
    for (uint32_t r = 0; rc == 0 && r < m->rows; r += most) {
        uint32_t n = m->rows - r < most ? m->rows - r : most;
        void *space;
        rc = vly_gpu_upload_stage(u->ring, buffer, m->parts + r * row_bytes, n * row_bytes, &space,
                                  u->err);
        band b = {u, m, r, {space, scales}, {row_bytes, scale_row}};
        if (rc == 0) rc = lay_out(&b, n, lay_out_row);
        if (rc) break;
        if (scale_row) {
            rc = vly_gpu_upload_stage(u->ring, buffer, m->scales + r * scale_row, n * scale_row,
                                      &space, u->err);
            if (rc) break;
            memcpy(space, scales, n * scale_row);
        }
        u->done += n * (row_bytes + scale_row);
        rc = tell_progress(u);
    }
    free(scales);
    return rc;
}

/* The 16 rows of a tile, checked; as floats where the matrix is of tensors of unlike formats. */
static int tile_rows(layer_out *out, const vly_matrix *m, uint64_t tile, const uint8_t **row)
{
    const vly_format *format = vly_format_by_id(m->format);
    for (uint32_t i = 0; i < VLY_TILE_ROWS; i++) {
        const vly_gguf_tensor *tensor;
        row[i] = source_row(m, (uint32_t)(tile * VLY_TILE_ROWS + i), &tensor);
        if (!row[i]) continue;
        size_t n_blocks = tensor->dims[0] / tensor->format->block_weights;
        int rc = vly_gguf_check_finite(tensor, row[i], n_blocks, &out->err);
        if (rc) return rc;
        if (tensor->format != format || m->spread) {
            float *values = out->values + (size_t)i * m->columns;
            to_floats(m, tensor->format, row[i], n_blocks, values);
            row[i] = (const uint8_t *)values;
        }
        out->range |= vly_format_range(format, row[i], m->columns / format->block_weights);
    }
    return 0;
}

/* A vly_work_fn. */
static void lay_out_tile(void *arg, uint32_t worker, uint64_t part)
{
    band *b = arg;
    layer_out *out = &b->u->out[worker];
    const uint8_t *row[VLY_TILE_ROWS];
    if (out->rc || (out->rc = tile_rows(out, b->m, b->first + part, row))) return;
    vly_tile_planes planes = {b->plane[0] + part * b->bytes[0], b->plane[1] + part * b->bytes[1],
                              b->plane[2] + part * b->bytes[2], b->plane[3] + part * b->bytes[3]};
    vly_tile_repack(b->m->format, row, b->m->columns,
                    out->values + VLY_TILE_ROWS * (size_t)b->m->columns, &planes);
}

/* Stages a plane of a band of tiles. */
static int stage_plane(uploader *u, const vly_matrix *m, uint64_t offset, const uint8_t *plane,
                       uint64_t n_bytes)
{
    void *space;
    if (n_bytes == 0) return 0;
    int rc = vly_gpu_upload_stage(u->ring, &u->weights->chunk[m->chunk], offset, n_bytes, &space,
                                  u->err);
    if (rc == 0) memcpy(space, plane, n_bytes);
    return rc;
}

/* Tiles are multiplied as f16. */
static int check_range(uploader *u, const vly_matrix *m)
{
    unsigned range = 0;
    for (uint32_t i = 0; i < vly_workers_count(u->workers); i++) {
        range |= u->out[i].range;
        u->out[i].range = 0;
    }
    if (vly_range_is_f16(range)) return 0;
    u->weights->beyond_f16 = true;
    return vly_fail(u->err, VLY_E_UNSUPPORTED, "tensor %s%s: weights too %s for f16",
                    vly_quote(m->tensor[0]->name).text,
                    m->n_tensors > 1 ? ", or one laid out with it" : "",
                    range & VLY_RANGE_HIGH ? "large" : "small");
}

/* As upload_rows, in bands of tiles. */
static int upload_tiles(uploader *u, const vly_matrix *m)
{
    const vly_tile_layout *tile = vly_tile_layout_of(m->format);
    const uint64_t units = units_of(m), n_tiles = tiles_of(m->rows);
    band b = {
        .u = u,
        .m = m,
        .bytes = {units * tile->main, units * tile->high, units * tile->scales, tile->factors}};
    const uint64_t start[4] = {m->parts, m->parts + n_tiles * b.bytes[0], m->scales,
                               m->scales + n_tiles * b.bytes[2]};
    uint64_t most = RING_BYTES / 16 / b.bytes[0], all = 0;
    if (most < 1) most = 1;
    for (int i = 0; i < 4; i++) all += b.bytes[i];
    uint8_t *space = calloc(most, all);
    if (!space) return vly_fail(u->err, VLY_E_HOST_MEMORY, "no memory to lay out weights");
    b.plane[0] = space;
    for (int i = 1; i < 4; i++) b.plane[i] = b.plane[i - 1] + most * b.bytes[i - 1];
    int rc = 0;
    for (; rc == 0 && b.first < n_tiles; b.first += most) {
        uint64_t n = n_tiles - b.first < most ? n_tiles - b.first : most;
        rc = lay_out(&b, n, lay_out_tile);
        for (int i = 0; rc == 0 && i < 4; i++)
            rc = stage_plane(u, m, start[i] + b.first * b.bytes[i], b.plane[i], n * b.bytes[i]);
        u->done += n * all;
        if (rc == 0) rc = tell_progress(u);
    }
    free(space);
    return rc ? rc : check_range(u, m);
}

/* Uploads a matrix while the file's part for the next one is read ahead. What was uploaded may
 * leave the memory of this process. */
static int upload(uploader *u, const vly_matrix *m, const vly_matrix *next)
{
    const vly_gguf *gguf = u->weights->gguf;
    for (uint32_t i = 0; next && i < next->n_tensors; i++)
        vly_gguf_will_need(gguf, next->tensor[i]);
    int rc = m->tiled ? upload_tiles(u, m) : upload_rows(u, m);
    for (uint32_t i = 0; i < m->n_tensors; i++) vly_gguf_release(gguf, m->tensor[i]);
    return rc;
}

static int upload_all(uploader *u)
{
    const vly_weights *w = u->weights;
    const vly_matrix **list = malloc((6ull * w->n_layer + 2) * sizeof *list);
    if (!list) return vly_fail(u->err, VLY_E_HOST_MEMORY, "no memory to lay out weights");
    uint32_t n = 0;
    list[n++] = &w->embed;
    for (uint32_t i = 0; i < w->n_layer; i++) {
        const vly_layer_weights *l = &w->layer[i];
        for (uint32_t j = 0; j < l->n_qkv; j++) list[n++] = &l->qkv[j];
        list[n++] = &l->out;
        list[n++] = &l->gate_up;
        list[n++] = &l->down;
    }
    if (w->head.chunk != w->embed.chunk || w->head.parts != w->embed.parts) list[n++] = &w->head;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < n; i++)
        rc = upload(u, list[i], i + 1 < n ? list[i + 1] : NULL);
    free(list);
    return rc ? rc : vly_gpu_upload_finish(u->ring, u->err);
}

static uint32_t widest(const vly_weights *weights)
{
    uint32_t most = weights->embed.columns;
    for (uint32_t i = 0; i < weights->n_layer; i++) {
        const vly_layer_weights *l = &weights->layer[i];
        if (l->down.columns > most) most = l->down.columns;
        if (l->out.columns > most) most = l->out.columns;
    }
    return most;
}

/* The threads, and room for two tiles of rows as floats for each. */
static int hire(uploader *u)
{
    int rc = vly_workers_create(0, &u->workers, u->err);
    if (rc) return rc;
    uint32_t n = vly_workers_count(u->workers);
    u->out = calloc(n, sizeof *u->out);
    for (uint32_t i = 0; u->out && i < n; i++) {
        u->out[i].values = malloc(2 * VLY_TILE_ROWS * (size_t)widest(u->weights) * sizeof(float));
        if (!u->out[i].values) rc = VLY_E_HOST_MEMORY;
    }
    if (!u->out || rc) return vly_fail(u->err, VLY_E_HOST_MEMORY, "no memory to lay out weights");
    return 0;
}

static void dismiss(uploader *u)
{
    uint32_t n = u->workers ? vly_workers_count(u->workers) : 0;
    for (uint32_t i = 0; u->out && i < n; i++) free(u->out[i].values);
    free(u->out);
    vly_workers_destroy(u->workers);
}

int vly_weights_upload(vly_gpu *gpu, vly_weights *weights, vly_progress progress,
                       void *progress_arg, vly_error *err)
{
    uploader u = {
        .weights = weights, .progress = progress, .progress_arg = progress_arg, .err = err};
    weights->chunk = calloc(weights->n_chunks, sizeof *weights->chunk);
    int rc = weights->chunk ? hire(&u)
                            : vly_fail(err, VLY_E_HOST_MEMORY, "no memory to lay out weights");
    for (uint32_t i = 0; rc == 0 && i < weights->n_chunks; i++)
        rc = vly_gpu_buffer_create(gpu, weights->chunk_bytes[i], VLY_GPU_DEVICE, "weights",
                                   &weights->chunk[i], err);
    if (rc == 0) rc = vly_gpu_upload_create(gpu, RING_BYTES, &u.ring, err);
    if (rc == 0) rc = upload_all(&u);
    if (u.ring) vly_gpu_upload_destroy(u.ring);
    dismiss(&u);
    return rc;
}

uint64_t vly_matrix_bytes(const vly_matrix *m)
{
    return parts_bytes(m, m->rows) + scales_bytes(m, m->rows);
}

void vly_weights_deinit(vly_gpu *gpu, vly_weights *weights)
{
    for (uint32_t i = 0; weights->chunk && i < weights->n_chunks; i++)
        vly_gpu_buffer_destroy(gpu, &weights->chunk[i]);
    free(weights->chunk);
    free(weights->chunk_bytes);
    free(weights->layer);
    vly_tensors_deinit(&weights->tensors);
    *weights = (vly_weights){0};
}
