#include "model/config.h"

#include "base/log.h"
#include "gguf/quote.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const arch_names[] = {
#define VLY_ARCH(name) #name,
#include "model/arch.def"
#undef VLY_ARCH
};

static int read_arch(const vly_gguf *gguf, vly_model_config *out, vly_error *err)
{
    vly_bytes arch;
    int rc = vly_gguf_string(gguf, "general.architecture", &arch, err);
    if (rc) return rc;
    snprintf(out->arch, sizeof out->arch, "%.*s", (int)(arch.len < 31 ? arch.len : 31), arch.data);
    char known[256] = "";
    for (size_t i = 0; i < sizeof arch_names / sizeof *arch_names; i++) {
        if (strcmp(out->arch, arch_names[i]) == 0) return 0;
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", arch_names[i]);
    }
    return vly_fail(err, VLY_E_UNSUPPORTED,
                    "%s: architecture %s is not supported; expected one of: %s",
                    vly_gguf_path(gguf), vly_quote(arch).text, known);
}

/* What changes the numbers must not be passed over: a file that asks for what is not there does not
 * run. Within its window a sliding-window model is like any other, so its context ends there. */
static int check_extras(const vly_gguf *gguf, vly_model_config *c, vly_error *err)
{
    char key[96];
    uint32_t window;
    snprintf(key, sizeof key, "%s.rope.scaling.type", c->arch);
    vly_bytes kind;
    int rc = vly_gguf_string_or(gguf, key, "none", &kind, err);
    if (rc) return rc;
    if (!(kind.len == 4 && memcmp(kind.data, "none", 4) == 0))
        return vly_fail(err, VLY_E_UNSUPPORTED, "%s: %s is %s; expected 'none'",
                        vly_gguf_path(gguf), key, vly_quote(kind).text);
    if (vly_gguf_tensor_find(gguf, "rope_freqs.weight"))
        return vly_fail(err, VLY_E_UNSUPPORTED,
                        "%s: tensor rope_freqs.weight (scaled rotary frequencies) is not supported",
                        vly_gguf_path(gguf));
    snprintf(key, sizeof key, "%s.expert_count", c->arch);
    uint32_t experts;
    if ((rc = vly_gguf_u32_or(gguf, key, 0, &experts, err))) return rc;
    if (experts > 0)
        return vly_fail(err, VLY_E_UNSUPPORTED,
                        "%s: %s is %u; mixtures of experts are not supported", vly_gguf_path(gguf),
                        key, experts);
    snprintf(key, sizeof key, "%s.attention.sliding_window", c->arch);
    if ((rc = vly_gguf_u32_or(gguf, key, 0, &window, err))) return rc;
    if (window > 0 && window < c->n_ctx) {
        vly_log(VLY_LOG_WARN, "model", "%s: the context ends at the sliding window of %u tokens",
                vly_gguf_path(gguf), window);
        c->n_ctx = window;
    }
    snprintf(key, sizeof key, "%s.rope.dimension_count", c->arch);
    uint32_t rotated;
    if ((rc = vly_gguf_u32_or(gguf, key, c->head_dim, &rotated, err))) return rc;
    if (rotated != c->head_dim)
        return vly_fail(err, VLY_E_UNSUPPORTED, "%s: %s is %u; expected the head size, %u",
                        vly_gguf_path(gguf), key, rotated, c->head_dim);
    return 0;
}

static int check(const vly_gguf *gguf, const vly_model_config *c, vly_error *err)
{
    const char *path = vly_gguf_path(gguf);
    if (c->n_layer == 0 || c->n_layer > 1024 || c->dim == 0 || c->dim > 65536 || c->ff_dim == 0 ||
        c->ff_dim > 1u << 20 || c->n_head == 0 || c->n_head > 1024)
        return vly_fail(err, VLY_E_FORMAT,
                        "%s: shape out of range: %u layers, width %u, feed-forward %u, %u heads",
                        path, c->n_layer, c->dim, c->ff_dim, c->n_head);
    if (c->dim % 4 || c->ff_dim % 4)
        return vly_fail(err, VLY_E_UNSUPPORTED,
                        "%s: width %u and feed-forward width %u; expected multiples of 4", path,
                        c->dim, c->ff_dim);
    if (c->n_head_kv == 0 || c->n_head % c->n_head_kv)
        return vly_fail(err, VLY_E_FORMAT, "%s: %u heads are not a multiple of %u KV heads", path,
                        c->n_head, c->n_head_kv);
    if (c->head_dim == 0 || c->head_dim % 16 || c->head_dim > 256)
        return vly_fail(err, VLY_E_UNSUPPORTED,
                        "%s: head size %u; expected a multiple of 16, at most 256", path,
                        c->head_dim);
    if (c->n_ctx == 0 || c->n_ctx > 1u << 24)
        return vly_fail(err, VLY_E_FORMAT, "%s: context length %u is out of range", path, c->n_ctx);
    if (!isfinite(c->rope_base) || c->rope_base < 1.0f || !isfinite(c->norm_epsilon) ||
        c->norm_epsilon < 0.0f)
        return vly_fail(err, VLY_E_FORMAT, "%s: rope base %g or norm epsilon %g is out of range",
                        path, (double)c->rope_base, (double)c->norm_epsilon);
    return 0;
}

/* Ids that the tokenizer gives or the head picks are looked up in the embedding. */
static int check_vocabulary(const vly_gguf *gguf, vly_model_config *out, vly_error *err)
{
    const char *path = vly_gguf_path(gguf);
    const vly_gguf_tensor *embed = vly_gguf_tensor_find(gguf, "token_embd.weight");
    const vly_gguf_tensor *head = vly_gguf_tensor_find(gguf, "output.weight");
    const vly_gguf_entry *tokens = vly_gguf_find(gguf, "tokenizer.ggml.tokens");
    if (!embed)
        return vly_fail(err, VLY_E_FORMAT, "%s: tensor token_embd.weight is missing%s", path,
                        vly_gguf_n_tensors(gguf) ? "" : " (the file holds a vocabulary only)");
    out->tied_head = head == NULL;
    uint64_t rows = head ? head->dims[1] : embed->dims[1], n_tokens = tokens ? tokens->count : 0;
    if (rows == 0 || rows > 1u << 24)
        return vly_fail(err, VLY_E_FORMAT, "%s: the head has %llu rows", path,
                        (unsigned long long)rows);
    if (n_tokens > embed->dims[1] || rows > embed->dims[1])
        return vly_fail(err, VLY_E_FORMAT,
                        "%s: the tokenizer has %llu tokens and the head %llu rows; expected at "
                        "most the %llu rows of token_embd.weight",
                        path, (unsigned long long)n_tokens, (unsigned long long)rows,
                        (unsigned long long)embed->dims[1]);
    out->n_vocab = (uint32_t)rows;
    return 0;
}

int vly_model_config_read(const vly_gguf *gguf, vly_model_config *out, vly_error *err)
{
    *out = (vly_model_config){0};
    int rc = read_arch(gguf, out, err);
    if (rc) return rc;
    vly_bytes name;
    if ((rc = vly_gguf_string_or(gguf, "general.name", "", &name, err))) return rc;
    const char *slash = strrchr(vly_gguf_path(gguf), '/');
    if (name.len == 0) {
        name.data = slash ? slash + 1 : vly_gguf_path(gguf);
        name.len = strlen(name.data);
    }
    snprintf(out->name, sizeof out->name, "%.*s", (int)(name.len < 127 ? name.len : 127),
             name.data);

    char key[96];
#define KEY(suffix) (snprintf(key, sizeof key, "%s." suffix, out->arch), key)
    if ((rc = vly_gguf_u32(gguf, KEY("block_count"), &out->n_layer, err)) ||
        (rc = vly_gguf_u32(gguf, KEY("embedding_length"), &out->dim, err)) ||
        (rc = vly_gguf_u32(gguf, KEY("feed_forward_length"), &out->ff_dim, err)) ||
        (rc = vly_gguf_u32(gguf, KEY("context_length"), &out->n_ctx, err)) ||
        (rc = vly_gguf_u32(gguf, KEY("attention.head_count"), &out->n_head, err)) ||
        (rc = vly_gguf_u32_or(gguf, KEY("attention.head_count_kv"), out->n_head, &out->n_head_kv,
                              err)) ||
        (rc = vly_gguf_u32_or(gguf, KEY("attention.key_length"),
                              out->n_head ? out->dim / out->n_head : 0, &out->head_dim, err)) ||
        (rc = vly_gguf_f32(gguf, KEY("attention.layer_norm_rms_epsilon"), &out->norm_epsilon,
                           err)) ||
        (rc = vly_gguf_f32_or(gguf, KEY("rope.freq_base"), 10000.0f, &out->rope_base, err)))
        return rc;
    uint32_t value_dim;
    if ((rc = vly_gguf_u32_or(gguf, KEY("attention.value_length"), out->head_dim, &value_dim, err)))
        return rc;
#undef KEY
    if (value_dim != out->head_dim)
        return vly_fail(err, VLY_E_UNSUPPORTED, "%s: values of size %u beside keys of size %u",
                        vly_gguf_path(gguf), value_dim, out->head_dim);
    if ((rc = check(gguf, out, err)) || (rc = check_extras(gguf, out, err))) return rc;
    return check_vocabulary(gguf, out, err);
}
