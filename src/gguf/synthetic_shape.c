#include "gguf/synthetic_shape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    vly_synthetic_shape shape;
} shapes[] = {
#define VLY_SHAPE(name, arch, dim, n_layer, n_head, n_head_kv, head_dim, ff_dim, n_vocab, n_ctx,   \
                  rope_base, family, tied)                                                         \
    {name,                                                                                         \
     {#arch, dim, n_layer, n_head, n_head_kv, head_dim, ff_dim, n_vocab, n_ctx, rope_base, family, \
      tied, VLY_FORMAT_f32, VLY_FORMAT_f32}},
#include "gguf/shapes.def"
#undef VLY_SHAPE
};
#define N_SHAPES (sizeof shapes / sizeof *shapes)

/* Files of two formats, as llama.cpp's quantiser mixes them: the head, and in some layers V and the
 * down projection, are of the better one. */
static const struct {
    const char *name;
    vly_format_id base, better;
} mixes[] = {
    {"q4_k_m", VLY_FORMAT_q4_k, VLY_FORMAT_q6_k},
    {"q5_k_m", VLY_FORMAT_q5_k, VLY_FORMAT_q6_k},
};
#define N_MIXES (sizeof mixes / sizeof *mixes)

/* What that quantiser takes for rows that are no whole number of blocks. */
static const struct {
    vly_format_id format, fallback;
} fallbacks[] = {
    {VLY_FORMAT_q4_k, VLY_FORMAT_q5_0},
    {VLY_FORMAT_q5_k, VLY_FORMAT_q5_1},
    {VLY_FORMAT_q2_k, VLY_FORMAT_q4_0},
    {VLY_FORMAT_q3_k, VLY_FORMAT_q4_0},
};
#define N_FALLBACKS (sizeof fallbacks / sizeof *fallbacks)

/* ---- Dimensions in words ---- */

static const struct {
    const char *name;
    size_t offset;
    uint32_t least, most, fallback; /* fallback 0: from the others */
} dimensions[] = {
#define AT(field) offsetof(vly_synthetic_shape, field)
    {"dim", AT(dim), 32, 65536, 0},
    {"layers", AT(n_layer), 1, 1024, 0},
    {"heads", AT(n_head), 1, 1024, 0},
    {"kv_heads", AT(n_head_kv), 1, 1024, 0},
    {"head_dim", AT(head_dim), 2, 256, 0},
    {"ff", AT(ff_dim), 32, 1u << 20, 0},
    {"vocab", AT(n_vocab), VLY_SYNTHETIC_MIN_VOCAB, 1u << 20, 1024},
    {"ctx", AT(n_ctx), 1, 1u << 24, 1024},
    {"tied", 0, 0, 1, 0},
#undef AT
};
#define N_DIMENSIONS (sizeof dimensions / sizeof *dimensions)
#define TIED         (N_DIMENSIONS - 1)

static uint32_t *dimension_of(vly_synthetic_shape *shape, size_t i)
{
    return (uint32_t *)((char *)shape + dimensions[i].offset);
}

/* One "name=value" of `len` bytes. */
static int read_dimension(const char *text, size_t len, vly_synthetic_shape *out, vly_error *err)
{
    for (size_t i = 0; i < N_DIMENSIONS; i++) {
        size_t n = strlen(dimensions[i].name);
        if (len <= n + 1 || text[n] != '=' || memcmp(text, dimensions[i].name, n) != 0) continue;
        const char *digits = text + n + 1;
        size_t n_digits = len - n - 1;
        unsigned long value = strtoul(digits, NULL, 10);
        if (strspn(digits, "0123456789") < n_digits || n_digits > 9 ||
            value < dimensions[i].least || value > dimensions[i].most)
            return vly_fail(err, VLY_E_INVALID, "%s: expected a whole number, %u to %u, got '%.*s'",
                            dimensions[i].name, dimensions[i].least, dimensions[i].most,
                            (int)n_digits, digits);
        if (i == TIED)
            out->tied_head = value != 0;
        else
            *dimension_of(out, i) = (uint32_t)value;
        return 0;
    }
    char known[160] = "";
    for (size_t i = 0; i < N_DIMENSIONS; i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", dimensions[i].name);
    }
    return vly_fail(err, VLY_E_INVALID, "'%.*s': expected NAME=NUMBER with one of: %s", (int)len,
                    text, known);
}

static int read_dimensions(const char *text, size_t len, vly_synthetic_shape *out, vly_error *err)
{
    *out = (vly_synthetic_shape){.arch = "llama", .rope_base = 10000.0f, .family = 'L'};
    for (size_t i = 0; i < TIED; i++) *dimension_of(out, i) = dimensions[i].fallback;
    for (size_t at = 0; at < len;) {
        const char *comma = memchr(text + at, ',', len - at);
        size_t n = comma ? (size_t)(comma - text) - at : len - at;
        int rc = read_dimension(text + at, n, out, err);
        if (rc) return rc;
        at += n + 1;
    }
    if (out->dim == 0 || out->n_layer == 0)
        return vly_fail(err, VLY_E_INVALID, "a shape needs dim=N and layers=N");
    if (out->dim % 32 || out->ff_dim % 32)
        return vly_fail(err, VLY_E_INVALID, "dim=%u, ff=%u: expected multiples of 32", out->dim,
                        out->ff_dim);
    if (out->head_dim == 0) out->head_dim = out->n_head ? out->dim / out->n_head : 32;
    if (out->n_head == 0) out->n_head = out->dim / out->head_dim ? out->dim / out->head_dim : 1;
    if (out->n_head_kv == 0) out->n_head_kv = out->n_head;
    if (out->ff_dim == 0) out->ff_dim = 3 * out->dim;
    if ((uint64_t)out->n_head * out->head_dim % 32)
        return vly_fail(err, VLY_E_INVALID, "%u heads of %u: expected a multiple of 32 in all",
                        out->n_head, out->head_dim);
    return 0;
}

/* ---- Names ---- */

static int read_shape(const char *text, size_t len, vly_synthetic_shape *out, vly_error *err)
{
    if (memchr(text, '=', len)) return read_dimensions(text, len, out, err);
    char known[512] = "";
    for (size_t i = 0; i < N_SHAPES; i++) {
        if (strlen(shapes[i].name) == len && memcmp(shapes[i].name, text, len) == 0) {
            *out = shapes[i].shape;
            return 0;
        }
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", shapes[i].name);
    }
    return vly_fail(err, VLY_E_INVALID,
                    "no shape '%.*s'; expected dimensions (dim=64,layers=2...) or one of: %s",
                    (int)len, text, known);
}

static int read_format(const char *text, vly_synthetic_shape *out, vly_error *err)
{
    char known[128] = "";
    for (size_t i = 0; i < N_MIXES; i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, ", %s", mixes[i].name);
        if (strcmp(mixes[i].name, text) != 0) continue;
        out->base = mixes[i].base;
        out->better = mixes[i].better;
        return 0;
    }
    for (int i = 0; i < VLY_N_FORMATS; i++) {
        const vly_format *format = vly_format_by_id(i);
        if (!format->dequantize || strcmp(format->name, text) != 0) continue;
        out->base = out->better = format->id;
        return 0;
    }
    return vly_fail(err, VLY_E_INVALID, "no format '%s'; expected one of: %s%s", text,
                    vly_format_computable_names(), known);
}

int vly_synthetic_shape_read(const char *name, vly_synthetic_shape *out, vly_error *err)
{
    const char *colon = strchr(name, ':');
    if (!colon)
        return vly_fail(err, VLY_E_INVALID,
                        "'%s': expected SHAPE:FORMAT, like mistral-7b:q8_0 or "
                        "dim=64,layers=2,vocab=512:f16",
                        name);
    int rc = read_shape(name, (size_t)(colon - name), out, err);
    return rc ? rc : read_format(colon + 1, out, err);
}

/* ---- Formats of matrices ---- */

/* The first and the last eighth of the layers, and every third between. */
static bool wants_more_bits(const vly_synthetic_shape *shape, uint32_t layer)
{
    uint32_t eighth = shape->n_layer / 8;
    return layer < eighth || layer >= 7 * shape->n_layer / 8 || (layer - eighth) % 3 == 2;
}

const vly_format *vly_synthetic_format(const vly_synthetic_shape *shape, vly_synthetic_role role,
                                       uint32_t layer, uint32_t columns)
{
    bool better =
        role == VLY_SYNTHETIC_HEAD || (role == VLY_SYNTHETIC_EMBED && shape->tied_head) ||
        ((role == VLY_SYNTHETIC_V || role == VLY_SYNTHETIC_DOWN) && wants_more_bits(shape, layer));
    const vly_format *format = vly_format_by_id(better ? shape->better : shape->base);
    if (columns % format->block_weights == 0) return format;
    vly_format_id fallback = VLY_FORMAT_q8_0;
    for (size_t i = 0; i < N_FALLBACKS; i++)
        if (fallbacks[i].format == format->id &&
            vly_format_by_id(fallbacks[i].fallback)->dequantize)
            fallback = fallbacks[i].fallback;
    return vly_format_by_id(fallback);
}
