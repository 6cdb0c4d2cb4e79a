#include "model/measure.h"

#include "model/model_internal.h"

#include <stdio.h>
#include <string.h>

const char *vly_step_name(vly_step_kind kind)
{
    static const char *const names[VLY_N_STEPS] = {"embed",   "qkv",  "attention", "out",
                                                   "gate_up", "down", "head",      "pick"};
    return names[kind];
}

int vly_model_record_marked(vly_model *m, vly_pass pass, uint32_t n, vly_gpu_commands **out,
                            vly_step_marks *marks, vly_error *err)
{
    vly_gpu_commands *commands;
    char label[256];
    snprintf(label, sizeof label, "measured pass of %s", m->config.name);
    int rc = vly_gpu_commands_create(m->gpu, label, &commands, err);
    if (rc) return rc;
    marks->n = 1;
    marks->kind[0] = VLY_N_STEPS;
    marks->layer[0] = 0;
    vly_gpu_cmd_timestamp(commands, 0);
    rc = vly_forward_record(m, pass, vly_model_bucket(pass, n), commands, marks, err);
    if (rc == 0) rc = vly_gpu_commands_end(commands, err);
    if (rc)
        vly_gpu_commands_destroy(commands);
    else
        *out = commands;
    return rc;
}

int vly_model_record_step(vly_model *m, vly_step_kind kind, uint32_t layer, uint32_t n,
                          vly_gpu_commands *commands, vly_error *err)
{
    vly_pass pass = n > VLY_MAX_BATCH ? VLY_PASS_PROMPT : VLY_PASS_LAYERS;
    return vly_forward_record_step(m, kind, layer, vly_model_bucket(pass, n), commands, err);
}

/* The matrices of a step: at most 3. */
static uint32_t step_matrices(const vly_model *m, vly_step_kind kind, uint32_t layer,
                              const vly_matrix *out[3])
{
    const vly_layer_weights *w = &m->weights.layer[layer];
    switch (kind) {
    case VLY_STEP_QKV:
        for (uint32_t i = 0; i < w->n_qkv; i++) out[i] = &w->qkv[i];
        return w->n_qkv;
    case VLY_STEP_OUT:
        out[0] = &w->out;
        return 1;
    case VLY_STEP_GATE_UP:
        out[0] = &w->gate_up;
        return 1;
    case VLY_STEP_DOWN:
        out[0] = &w->down;
        return 1;
    case VLY_STEP_HEAD:
        out[0] = &m->weights.head;
        return 1;
    default:
        return 0;
    }
}

void vly_model_step_formats(const vly_model *m, vly_step_kind kind, uint32_t layer, char *out,
                            size_t n)
{
    const vly_matrix *w[3];
    uint32_t n_matrices = step_matrices(m, kind, layer, w);
    out[0] = '\0';
    for (uint32_t i = 0; i < n_matrices; i++) {
        const char *name = vly_format_by_id(w[i]->format)->name;
        size_t len = strlen(out);
        if (i == 0 || w[i]->format != w[i - 1]->format)
            snprintf(out + len, n - len, "%s%s", i ? "+" : "", name);
    }
}

uint64_t vly_model_step_bytes(const vly_model *m, vly_step_kind kind, uint32_t layer,
                              uint32_t n_ctx)
{
    const vly_model_config *c = &m->config;
    const vly_matrix *w[3];
    uint32_t n = step_matrices(m, kind, layer, w);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) bytes += vly_matrix_bytes(w[i]);
    if (kind == VLY_STEP_ATTENTION)
        bytes += 2ull * n_ctx * c->n_head_kv *
                 (vly_kv_get_shape(m->kv)->int8 ? c->head_dim + 2 : 2 * c->head_dim);
    return bytes;
}

uint64_t vly_model_pass_bytes(const vly_model *m, uint32_t n_ctx)
{
    uint64_t bytes = vly_model_step_bytes(m, VLY_STEP_HEAD, 0, n_ctx);
    for (uint32_t i = 0; i < m->config.n_layer; i++)
        for (int kind = VLY_STEP_QKV; kind <= VLY_STEP_DOWN; kind++)
            bytes += vly_model_step_bytes(m, kind, i, n_ctx);
    return bytes;
}
