/* The vectors that kernels read as activations: norm weights, biases, and the table of (cos, sin).
 */
#include "model/model_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    vly_model *m;
    vly_gpu_upload *ring;
    vly_error *err;
} uploader;

/* `n_quads` quads of zeros at quad `at` of the activations, for the caller to fill before the next
 * call; NULL after a failure, which u->err describes. */
static float *stage(uploader *u, uint64_t at, uint64_t n_quads, int *rc)
{
    void *space = NULL;
    *rc = vly_gpu_upload_stage(u->ring, &u->m->act, at * 16, n_quads * 16, &space, u->err);
    if (*rc) return NULL;
    memset(space, 0, n_quads * 16);
    return space;
}

/* The numbers of a vector; nothing of one that is not there. */
static int read_vector(const uploader *u, const vly_gguf_tensor *t, float *out)
{
    if (!t) return 0;
    int rc = vly_gguf_check_finite(t, t->data, t->dims[0], u->err);
    if (rc == 0) t->format->dequantize(t->data, t->dims[0], out);
    return rc;
}

/* The same, every head of it as its rows are on the device: with the zeros behind it, and, if
 * `rotated`, in their order. */
static int read_heads(const uploader *u, const vly_gguf_tensor *t, bool rotated, float *out)
{
    const vly_rope *rope = &u->m->config.rope;
    int rc = read_vector(u, t, out);
    if (rc || !t) return rc;
    float head[256];
    /* From the last one: heads only move towards the end. */
    for (uint64_t n = t->dims[0] / rope->head_size; n-- > 0;) {
        memcpy(head, out + n * rope->head_size, rope->head_size * sizeof *head);
        for (uint32_t i = 0; i < rope->head_dim; i++) {
            uint32_t from = rotated ? vly_rope_source(rope, i) : i;
            out[n * rope->head_dim + i] = from < rope->head_size ? head[from] : 0.0f;
        }
    }
    return 0;
}

/* The norm of Q or K, with weights for a mean over head_dim numbers in place of head_size. Returns
 * how many it has in *n. */
static int read_qk_norm(const uploader *u, const vly_gguf_tensor *t, float *out, uint32_t *n)
{
    const vly_model_config *c = &u->m->config;
    float share = sqrtf((float)c->head_size / (float)c->head_dim);
    *n = (uint32_t)(t->dims[0] / c->head_size) * c->head_dim;
    int rc = read_heads(u, t, true, out);
    for (uint32_t i = 0; rc == 0 && i < *n; i++) out[i] *= share;
    return rc;
}

/* A row for each norm from quad `at` on: of layer i's tensors `first` and `second`, in turn. A norm
 * that is not there does nothing: ones. */
static int upload_layer_norms(uploader *u, uint32_t at, vly_tensor_id first, vly_tensor_id second)
{
    const vly_model *m = u->m;
    uint32_t dim = m->config.dim, stride = m->at.x_stride;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < 2 * m->config.n_layer; i++) {
        const vly_tensor_set *t = &m->weights.tensors.layer[i / 2];
        const vly_gguf_tensor *norm = t->weight[i % 2 ? second : first];
        float *to = stage(u, at + (uint64_t)i * stride, stride, &rc);
        for (uint32_t j = 0; rc == 0 && !norm && j < dim; j++) to[j] = 1.0f;
        if (rc == 0) rc = read_vector(u, norm, to);
    }
    return rc;
}

static int upload_norms(uploader *u)
{
    const vly_model *m = u->m;
    uint64_t stride = m->at.x_stride;
    int rc = upload_layer_norms(u, m->at.norms, VLY_TENSOR_ATTN_NORM, VLY_TENSOR_FFN_NORM);
    if (rc == 0 && m->at.post_norms)
        rc = upload_layer_norms(u, m->at.post_norms, VLY_TENSOR_ATTN_POST_NORM,
                                VLY_TENSOR_FFN_POST_NORM);
    if (rc) return rc;
    float *to = stage(u, m->at.norms + 2 * m->config.n_layer * stride, stride, &rc);
    return rc ? rc : read_vector(u, m->weights.tensors.model.weight[VLY_TENSOR_OUTPUT_NORM], to);
}

static int upload_qk_norms(uploader *u)
{
    const vly_model *m = u->m;
    uint64_t stride = m->at.qk_norms_stride;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && m->at.qk_norms && i < m->config.n_layer; i++) {
        const vly_gguf_tensor *const *weight = m->weights.tensors.layer[i].weight;
        float *to = stage(u, m->at.qk_norms + i * stride, stride, &rc);
        uint32_t n = 0;
        if (rc == 0) rc = read_qk_norm(u, weight[VLY_TENSOR_ATTN_Q_NORM], to, &n);
        if (rc == 0) rc = read_qk_norm(u, weight[VLY_TENSOR_ATTN_K_NORM], to + n, &n);
    }
    return rc;
}

/* A layer's biases, in the order of the matrices' rows: Q, K and V stacked, gate and up
 * alternating. */
static int upload_biases(uploader *u, uint32_t layer)
{
    const vly_model *m = u->m;
    const vly_model_config *c = &m->config;
    const vly_act_layout *at = &m->at;
    const vly_gguf_tensor *const *bias = m->weights.tensors.layer[layer].bias;
    uint32_t n_q = c->n_head * c->head_dim, n_kv = c->n_head_kv * c->head_dim;
    int rc = 0;
    if (at->bias_qkv) {
        float *to = stage(u, at->bias_qkv + (uint64_t)layer * at->qkv_stride, at->qkv_stride, &rc);
        if (rc == 0) rc = read_heads(u, bias[VLY_TENSOR_ATTN_Q], true, to);
        if (rc == 0) rc = read_heads(u, bias[VLY_TENSOR_ATTN_K], true, to + n_q);
        if (rc == 0) rc = read_heads(u, bias[VLY_TENSOR_ATTN_V], false, to + n_q + n_kv);
    }
    if (rc == 0 && at->bias_out) {
        float *to = stage(u, at->bias_out + (uint64_t)layer * at->x_stride, at->x_stride, &rc);
        if (rc == 0) rc = read_vector(u, bias[VLY_TENSOR_ATTN_OUTPUT], to);
    }
    if (rc == 0 && at->bias_gate_up) {
        uint64_t stride = at->gate_up_stride;
        float *to = stage(u, at->bias_gate_up + layer * stride, stride, &rc);
        float *half = calloc(c->ff_dim, sizeof *half);
        if (rc == 0 && !half) rc = vly_fail(u->err, VLY_E_HOST_MEMORY, "no memory for biases");
        for (int j = 0; rc == 0 && j < 2; j++) {
            rc = read_vector(u, bias[j ? VLY_TENSOR_FFN_UP : VLY_TENSOR_FFN_GATE], half);
            for (uint32_t i = 0; rc == 0 && i < c->ff_dim; i++) to[2 * i + j] = half[i];
            if (half) memset(half, 0, c->ff_dim * sizeof *half);
        }
        free(half);
    }
    if (rc == 0 && at->bias_down) {
        float *to = stage(u, at->bias_down + (uint64_t)layer * at->x_stride, at->x_stride, &rc);
        if (rc == 0) rc = read_vector(u, bias[VLY_TENSOR_FFN_DOWN], to);
    }
    return rc;
}

static int upload_rope(uploader *u)
{
    const vly_model *m = u->m;
    const vly_rope *rope = &m->config.rope;
    const vly_gguf_tensor *t = m->weights.tensors.model.weight[VLY_TENSOR_ROPE_FREQS];
    double frequencies[128];
    float divisors[128];
    int rc = read_vector(u, t, divisors);
    if (rc) return rc;
    for (uint32_t i = 0; t && i < rope->n_rotated / 2; i++)
        if (divisors[i] <= 0)
            return vly_fail(u->err, VLY_E_FORMAT,
                            "tensor %.*s: number %u is %g; expected more than 0", (int)t->name.len,
                            t->name.data, i, (double)divisors[i]);
    vly_rope_frequencies(rope, t ? divisors : NULL, frequencies);
    uint32_t row_quads = rope->head_dim / 4, band = (1u << 16) / row_quads, n_ctx = m->memory.n_ctx;
    for (uint32_t pos = 0; rc == 0 && pos < n_ctx; pos += band) {
        uint32_t n = n_ctx - pos < band ? n_ctx - pos : band;
        float *to = stage(u, m->at.rope + (uint64_t)pos * row_quads, (uint64_t)n * row_quads, &rc);
        for (uint32_t i = 0; rc == 0 && i < n; i++)
            vly_rope_row(rope, frequencies, pos + i, to + (size_t)i * rope->head_dim);
    }
    return rc;
}

int vly_vectors_upload(vly_model *m, vly_error *err)
{
    uploader u = {.m = m, .err = err};
    const vly_act_layout *at = &m->at;
    uint64_t longest = 1u << 16, widths[] = {at->x_stride, at->qkv_stride, at->gate_up_stride};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        if (widths[i] > longest) longest = widths[i];
    int rc = vly_gpu_upload_create(m->gpu, 4 * 16 * longest, &u.ring, err);
    if (rc) return rc;
    if ((rc = upload_norms(&u)) == 0 && (rc = upload_qk_norms(&u)) == 0) rc = upload_rope(&u);
    for (uint32_t i = 0; rc == 0 && i < m->config.n_layer; i++) rc = upload_biases(&u, i);
    if (rc == 0) rc = vly_gpu_upload_finish(u.ring, err);
    vly_gpu_upload_destroy(u.ring);
    return rc;
}
