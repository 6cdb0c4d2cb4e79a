#include "model/config.h"

#include "gguf/quote.h"
#include "model/tensors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const vly_gguf *gguf;
    vly_model_config *config;
    vly_error *err;
    char key[128];
} reader;

static const char *key_of(reader *r, const char *suffix)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->config->arch.name, suffix);
    return r->key;
}

static int read_u32(reader *r, const char *suffix, uint32_t *out)
{
    return vly_gguf_u32(r->gguf, key_of(r, suffix), out, r->err);
}

static int read_u32_or(reader *r, const char *suffix, uint32_t fallback, uint32_t *out)
{
    return vly_gguf_u32_or(r->gguf, key_of(r, suffix), fallback, out, r->err);
}

static int find_arch(reader *r, const vly_arch *described)
{
    vly_bytes name;
    int rc = vly_gguf_string(r->gguf, "general.architecture", &name, r->err);
    if (rc) return rc;
    char text[VLY_ARCH_NAME_CHARS];
    snprintf(text, sizeof text, "%.*s", (int)(name.len < sizeof text ? name.len : 0), name.data);
    const vly_arch *arch =
        described && strcmp(described->name, text) == 0 ? described : vly_arch_find(text);
    if (!arch || strlen(text) != name.len)
        return vly_fail(r->err, VLY_E_UNSUPPORTED,
                        "%s: architecture %s is not supported; expected one of: %s%s%s",
                        vly_gguf_path(r->gguf), vly_quote(name).text, vly_arch_names(),
                        described ? ", and as described: " : " (or describe it: --arch)",
                        described ? described->name : "");
    r->config->arch = *arch;
    return 0;
}

/* general.name, or the file's. What a terminal would obey, control characters of C0 and C1, becomes
 * '?'; a name that is too long is cut between characters. */
static void find_name(reader *r, vly_bytes name)
{
    const char *path = vly_gguf_path(r->gguf), *slash = strrchr(path, '/');
    if (name.len == 0) {
        name.data = slash ? slash + 1 : path;
        name.len = strlen(name.data);
    }
    char *out = r->config->name;
    size_t i = 0, n = 0;
    for (; i < name.len && n + 1 < sizeof r->config->name; i++) {
        uint8_t byte = (uint8_t)name.data[i];
        bool c1 = byte == 0xc2 && i + 1 < name.len && (uint8_t)name.data[i + 1] < 0xa0;
        out[n++] = byte < 0x20 || byte == 0x7f || c1 ? '?' : (char)byte;
        i += c1;
    }
    while (i < name.len && n > 0 && ((uint8_t)name.data[i] & 0xc0) == 0x80 && n--) i--;
    out[n] = '\0';
}

static int read_shape(reader *r)
{
    vly_model_config *c = r->config;
    int rc;
    if ((rc = read_u32(r, "block_count", &c->n_layer)) ||
        (rc = read_u32(r, "embedding_length", &c->dim)) ||
        (rc = read_u32(r, "feed_forward_length", &c->ff_dim)) ||
        (rc = read_u32(r, "context_length", &c->n_ctx)) ||
        (rc = read_u32(r, "attention.head_count", &c->n_head)) ||
        (rc = read_u32_or(r, "attention.head_count_kv", c->n_head, &c->n_head_kv)) ||
        (rc = read_u32_or(r, "attention.key_length", c->n_head ? c->dim / c->n_head : 0,
                          &c->head_size)) ||
        (rc = vly_gguf_f32(r->gguf, key_of(r, "attention.layer_norm_rms_epsilon"), &c->norm_epsilon,
                           r->err)))
        return rc;
    uint32_t value_dim;
    if ((rc = read_u32_or(r, "attention.value_length", c->head_size, &value_dim))) return rc;
    if (value_dim != c->head_size)
        return vly_fail(r->err, VLY_E_UNSUPPORTED, "%s: values of size %u beside keys of size %u",
                        vly_gguf_path(r->gguf), value_dim, c->head_size);
    c->head_dim = (c->head_size + 15) / 16 * 16;
    return 0;
}

static int check_shape(const reader *r)
{
    const vly_model_config *c = r->config;
    const char *path = vly_gguf_path(r->gguf);
    if (c->n_layer == 0 || c->n_layer > VLY_MAX_LAYERS || c->dim == 0 || c->dim > 65536 ||
        c->ff_dim == 0 || c->ff_dim > 1u << 20 || c->n_head == 0 || c->n_head > 1024)
        return vly_fail(r->err, VLY_E_FORMAT,
                        "%s: shape out of range: %u layers, width %u, feed-forward %u, %u heads",
                        path, c->n_layer, c->dim, c->ff_dim, c->n_head);
    if (c->dim % 4 || c->ff_dim % 4)
        return vly_fail(r->err, VLY_E_UNSUPPORTED,
                        "%s: width %u and feed-forward width %u; expected multiples of 4", path,
                        c->dim, c->ff_dim);
    if (c->n_head_kv == 0 || c->n_head % c->n_head_kv)
        return vly_fail(r->err, VLY_E_FORMAT, "%s: %u heads are not a multiple of %u KV heads",
                        path, c->n_head, c->n_head_kv);
    if (c->head_size == 0 || c->head_size % 2 || c->head_size > 256)
        return vly_fail(r->err, VLY_E_UNSUPPORTED,
                        "%s: head size %u; expected an even number, at most 256", path,
                        c->head_size);
    if (c->n_ctx == 0 || c->n_ctx > 1u << 24)
        return vly_fail(r->err, VLY_E_FORMAT, "%s: context length %u is out of range", path,
                        c->n_ctx);
    if (!isfinite(c->norm_epsilon) || c->norm_epsilon < 0.0f)
        return vly_fail(r->err, VLY_E_FORMAT, "%s: norm epsilon %g is out of range", path,
                        (double)c->norm_epsilon);
    return 0;
}

/* What changes the numbers must not be passed over: a file that asks for what is not there does not
 * run. */
static int check_extras(reader *r)
{
    static const struct {
        const char *suffix;
        float neutral; /* 0 means that it is off as well */
    } extras[] = {
        {"expert_count", 0},
        {"embedding_scale", 1},
        {"residual_scale", 1},
        {"logit_scale", 1},
        {"attention.scale", 0},
        {"attention.output_scale", 1},
        {"attention.temperature_scale", 0},
        {"attention.clamp_kqv", 0},
        {"attention.max_alibi_bias", 0},
        {"attn_logit_softcapping", 0},
        {"final_logit_softcapping", 0},
    };
    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++) {
        const vly_gguf_entry *entry = vly_gguf_find(r->gguf, key_of(r, extras[i].suffix));
        float value = 0;
        uint32_t whole = 0;
        int rc = 0;
        if (!entry) continue;
        if (entry->type == VLY_GGUF_F32 || entry->type == VLY_GGUF_F64)
            rc = vly_gguf_f32(r->gguf, r->key, &value, r->err);
        else if ((rc = vly_gguf_u32(r->gguf, r->key, &whole, r->err)) == 0)
            value = (float)whole;
        if (rc) return rc;
        if (value != 0 && value != extras[i].neutral)
            return vly_fail(r->err, VLY_E_UNSUPPORTED, "%s: %s is %g, which is not supported",
                            vly_gguf_path(r->gguf), r->key, (double)value);
    }
    bool causal;
    int rc = vly_gguf_bool_or(r->gguf, key_of(r, "attention.causal"), true, &causal, r->err);
    if (rc || causal) return rc;
    return vly_fail(r->err, VLY_E_UNSUPPORTED, "%s: %s is false, which is not supported",
                    vly_gguf_path(r->gguf), r->key);
}

/* ---- Windows ---- */

static void set_windowed(vly_model_config *c, uint32_t layer)
{
    c->windowed[layer / 8] |= (uint8_t)(1u << layer % 8);
}

/* "sliding_window_pattern": a truth for each layer, or a period whose last layer sees all. */
static int read_pattern(reader *r)
{
    vly_model_config *c = r->config;
    const vly_arch *arch = &c->arch;
    const vly_gguf_entry *entry =
        vly_gguf_find(r->gguf, key_of(r, "attention.sliding_window_pattern"));
    uint32_t period = 0;
    if (entry && entry->type == VLY_GGUF_ARRAY) {
        if (entry->item_type == VLY_GGUF_STRING || entry->item_type == VLY_GGUF_F32 ||
            entry->item_type == VLY_GGUF_F64 || entry->count != c->n_layer)
            return vly_fail(r->err, VLY_E_FORMAT,
                            "%s: %s: expected a truth value for each of %u layers",
                            vly_gguf_path(r->gguf), r->key, c->n_layer);
        for (uint32_t i = 0; i < c->n_layer; i++)
            if (vly_gguf_int_at(entry, i)) set_windowed(c, i);
        return 0;
    }
    int rc = vly_gguf_u32_or(r->gguf, r->key, 0, &period, r->err);
    for (uint32_t i = 0; rc == 0 && i < c->n_layer; i++) {
        bool described = arch->n_pattern ? arch->pattern[i % arch->n_pattern] : true;
        if (period ? i % period + 1 < period : described) set_windowed(c, i);
    }
    return rc;
}

static int read_window(reader *r)
{
    vly_model_config *c = r->config;
    int rc = read_u32_or(r, "attention.sliding_window", c->arch.window, &c->window);
    /* A window that holds the whole context is none. */
    if (c->window >= c->n_ctx) c->window = 0;
    return rc || c->window == 0 ? rc : read_pattern(r);
}

/* ---- Tensors that the metadata does not tell of ---- */

static const vly_gguf_tensor *find_tensor(const reader *r, vly_tensor_id id, const char *suffix)
{
    char name[VLY_FULL_NAME_CHARS];
    return vly_gguf_tensor_find(r->gguf,
                                vly_arch_tensor_name(&r->config->arch, id, 0, suffix, name));
}

static void find_biases(reader *r)
{
    vly_model_config *c = r->config;
    for (vly_tensor_id id = 0; id < VLY_N_TENSORS; id++) {
        vly_need need = c->arch.bias[id];
        if (need == VLY_NEED_REQUIRED || (need == VLY_NEED_OPTIONAL && find_tensor(r, id, ".bias")))
            c->biases |= 1u << id;
    }
}

/* Ids that the tokenizer gives or the head picks are looked up in the embedding, and those that the
 * head picks in the tokenizer. */
static int check_vocabulary(const reader *r)
{
    vly_model_config *c = r->config;
    const char *path = vly_gguf_path(r->gguf);
    char name[VLY_FULL_NAME_CHARS];
    vly_arch_tensor_name(&c->arch, VLY_TENSOR_TOKEN_EMBD, 0, ".weight", name);
    const vly_gguf_tensor *embed = find_tensor(r, VLY_TENSOR_TOKEN_EMBD, ".weight");
    const vly_gguf_tensor *head = find_tensor(r, VLY_TENSOR_OUTPUT, ".weight");
    const vly_gguf_entry *tokens = vly_gguf_find(r->gguf, "tokenizer.ggml.tokens");
    if (!embed)
        return vly_fail(r->err, VLY_E_FORMAT, "%s: 1 tensor is missing: %s%s", path, name,
                        vly_gguf_n_tensors(r->gguf) ? "" : " (the file holds a vocabulary only)");
    c->tied_head = c->arch.head == VLY_HEAD_TIED || (c->arch.head == VLY_HEAD_EITHER && !head);
    uint64_t n = embed->dims[1], rows = head && !c->tied_head ? head->dims[1] : n;
    uint64_t n_tokens = tokens ? tokens->count : n;
    if (n == 0 || n > 1u << 24)
        return vly_fail(r->err, VLY_E_FORMAT, "%s: tensor %s has %llu rows", path, name,
                        (unsigned long long)n);
    if (n_tokens != n || rows != n) {
        char of_head[VLY_FULL_NAME_CHARS];
        vly_arch_tensor_name(&c->arch, c->tied_head ? VLY_TENSOR_TOKEN_EMBD : VLY_TENSOR_OUTPUT, 0,
                             ".weight", of_head);
        return vly_fail(r->err, VLY_E_FORMAT,
                        "%s: the tokenizer has %llu tokens and the head, %s, %llu rows; expected "
                        "as many as the %llu rows of %s",
                        path, (unsigned long long)n_tokens, of_head, (unsigned long long)rows,
                        (unsigned long long)n, name);
    }
    c->n_vocab = (uint32_t)n;
    return 0;
}

int vly_model_config_read(const vly_gguf *gguf, const vly_arch *described, vly_model_config *out,
                          vly_error *err)
{
    *out = (vly_model_config){0};
    reader r = {.gguf = gguf, .config = out, .err = err};
    vly_bytes name;
    int rc = find_arch(&r, described);
    if (rc == 0) rc = vly_gguf_string_or(gguf, "general.name", "", &name, err);
    if (rc) return rc;
    find_name(&r, name);
    if ((rc = read_shape(&r)) || (rc = check_shape(&r)) || (rc = check_extras(&r)) ||
        (rc = vly_rope_read(gguf, out->arch.name, out->arch.rope, out->head_size, out->n_ctx,
                            &out->rope, err)) ||
        (rc = read_window(&r)))
        return rc;
    find_biases(&r);
    return check_vocabulary(&r);
}

bool vly_config_all_windowed(const vly_model_config *c)
{
    for (uint32_t i = 0; i < c->n_layer; i++)
        if (vly_config_window(c, i) == 0) return false;
    return true;
}

int vly_model_check(const vly_gguf *gguf, const vly_arch *described, vly_model_config *out,
                    vly_error *err)
{
    vly_tensors tensors;
    int rc = vly_model_config_read(gguf, described, out, err);
    if (rc == 0) rc = vly_tensors_find(gguf, out, &tensors, err);
    if (rc == 0) vly_tensors_deinit(&tensors);
    return rc;
}
