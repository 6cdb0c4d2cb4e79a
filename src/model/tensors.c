#include "model/tensors.h"

#include "gguf/quote.h"
#include "model/repack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NAMED 8 /* tensors in a message */

typedef struct {
    const vly_gguf *gguf;
    const vly_model_config *config;
    uint64_t dims[VLY_N_DIMS];
    uint32_t n_missing;
    char missing[768]; /* names, the first MAX_NAMED */
    const vly_gguf_tensor **found;
    size_t n_found;
    vly_error wrong; /* about the first tensor of another shape or format */
} finder;

/* ", NAME" behind the `n`-th of a list. */
static void add_name(char *list, size_t size, uint32_t n, const char *name)
{
    size_t len = strlen(list);
    if (n < MAX_NAMED)
        snprintf(list + len, size - len, "%s%s", n ? ", " : "", name);
    else if (n == MAX_NAMED)
        snprintf(list + len, size - len, ", ...");
}

static bool is_float(const vly_format *format)
{
    return format->block_weights == 1;
}

/* Is the tensor of the shape and of a format that this one should have? */
static void check(finder *f, const vly_gguf_tensor *t, const char *name, uint64_t columns,
                  uint64_t rows)
{
    const char *path = vly_gguf_path(f->gguf);
    if (f->wrong.code) return;
    if (t->dims[0] != columns || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1)
        vly_fail(&f->wrong, VLY_E_FORMAT,
                 "%s: tensor %s is %llu x %llu; expected %llu x %llu by the metadata", path, name,
                 (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
                 (unsigned long long)columns, (unsigned long long)rows);
    else if (!vly_layout_of(t->format->id))
        vly_fail(&f->wrong, VLY_E_UNSUPPORTED,
                 "%s: tensor %s has format %s; the formats that work are %s", path, name,
                 t->format->name, vly_format_computable_names());
    else if (rows == 1 && !is_float(t->format))
        vly_fail(&f->wrong, VLY_E_UNSUPPORTED,
                 "%s: tensor %s has format %s; expected f32, f16 or bf16, as for every vector",
                 path, name, t->format->name);
}

/* Finds one tensor; where it is not there and required, notes that. */
static const vly_gguf_tensor *find(finder *f, vly_tensor_id id, uint32_t layer, const char *suffix,
                                   vly_need need)
{
    char name[VLY_FULL_NAME_CHARS];
    if (need == VLY_NEED_NEVER) return NULL;
    vly_arch_tensor_name(&f->config->arch, id, layer, suffix, name);
    const vly_gguf_tensor *t = vly_gguf_tensor_find(f->gguf, name);
    if (!t) {
        if (need == VLY_NEED_REQUIRED)
            add_name(f->missing, sizeof f->missing, f->n_missing++, name);
        return NULL;
    }
    const vly_tensor_kind *kind = &vly_tensor_kinds[id];
    bool bias = strcmp(suffix, ".bias") == 0;
    check(f, t, name, f->dims[bias ? kind->rows : kind->columns],
          f->dims[bias ? VLY_DIM_ONE : kind->rows]);
    f->found[f->n_found++] = t;
    return t;
}

static vly_need weight_need(const vly_model_config *c, vly_tensor_id id)
{
    switch (id) {
    case VLY_TENSOR_OUTPUT:
        return c->tied_head ? VLY_NEED_NEVER : VLY_NEED_REQUIRED;
    case VLY_TENSOR_ROPE_FREQS:
        return VLY_NEED_OPTIONAL;
    case VLY_TENSOR_ATTN_Q_NORM:
    case VLY_TENSOR_ATTN_K_NORM:
        return c->arch.qk_norm ? VLY_NEED_REQUIRED : VLY_NEED_NEVER;
    case VLY_TENSOR_ATTN_NORM:
    case VLY_TENSOR_FFN_NORM:
        return c->arch.norms != VLY_NORMS_POST ? VLY_NEED_REQUIRED : VLY_NEED_NEVER;
    case VLY_TENSOR_ATTN_POST_NORM:
    case VLY_TENSOR_FFN_POST_NORM:
        return c->arch.norms != VLY_NORMS_PRE ? VLY_NEED_REQUIRED : VLY_NEED_NEVER;
    default:
        return VLY_NEED_REQUIRED;
    }
}

static void find_set(finder *f, bool layered, uint32_t layer, vly_tensor_set *out)
{
    const vly_model_config *c = f->config;
    for (vly_tensor_id id = 0; id < VLY_N_TENSORS; id++) {
        if (vly_tensor_is_layered(id) != layered) continue;
        bool bias = vly_config_has_bias(c, id);
        out->weight[id] = find(f, id, layer, ".weight", weight_need(c, id));
        out->bias[id] = find(f, id, layer, ".bias", bias ? VLY_NEED_REQUIRED : VLY_NEED_NEVER);
    }
}

static int compare_tensors(const void *a, const void *b)
{
    const vly_gguf_tensor *const *x = a, *const *y = b;
    return (*x > *y) - (*x < *y);
}

/* Counts the tensors of the file that are not among those found, and lists the first. */
static uint32_t find_unexpected(finder *f, char *names, size_t size)
{
    uint32_t n = 0;
    names[0] = '\0';
    qsort(f->found, f->n_found, sizeof *f->found, compare_tensors);
    for (size_t i = 0; i < vly_gguf_n_tensors(f->gguf); i++) {
        const vly_gguf_tensor *t = vly_gguf_tensor_at(f->gguf, i);
        if (!bsearch(&t, f->found, f->n_found, sizeof *f->found, compare_tensors))
            add_name(names, size, n++, vly_quote(t->name).text);
    }
    return n;
}

/* Tensors that are missing, and those that are too many: often the same ones by another name. */
static int fail_names(const finder *f, uint32_t n_unexpected, const char *unexpected,
                      vly_error *err)
{
    const char *path = vly_gguf_path(f->gguf), *arch = f->config->arch.name;
    char missing[900] = "";
    if (f->n_missing)
        snprintf(missing, sizeof missing, "%u tensor%s missing: %s", f->n_missing,
                 f->n_missing == 1 ? " is" : "s are", f->missing);
    if (n_unexpected == 0) return vly_fail(err, VLY_E_FORMAT, "%s: %s", path, missing);
    return vly_fail(err, VLY_E_FORMAT, "%s: %s%s%u tensor%s that architecture %s does not have: %s",
                    path, missing, f->n_missing ? "; " : "", n_unexpected, vly_plural(n_unexpected),
                    arch, unexpected);
}

static int find_all(finder *f, vly_tensors *out, vly_error *err)
{
    const vly_model_config *c = f->config;
    find_set(f, false, 0, &out->model);
    for (uint32_t i = 0; i < c->n_layer; i++) find_set(f, true, i, &out->layer[i]);
    char unexpected[1024];
    uint32_t n_unexpected = find_unexpected(f, unexpected, sizeof unexpected);
    if (f->n_missing) return fail_names(f, n_unexpected, unexpected, err);
    if (f->wrong.code) {
        if (err) *err = f->wrong;
        return f->wrong.code;
    }
    return n_unexpected ? fail_names(f, n_unexpected, unexpected, err) : 0;
}

int vly_tensors_find(const vly_gguf *gguf, const vly_model_config *c, vly_tensors *out,
                     vly_error *err)
{
    bool all = c->arch.qk_norm == VLY_QK_NORM_ALL;
    finder f = {
        .gguf = gguf,
        .config = c,
        .dims = {[VLY_DIM_ONE] = 1,
                 [VLY_DIM_DIM] = c->dim,
                 [VLY_DIM_VOCAB] = c->n_vocab,
                 [VLY_DIM_ALL_HEADS] = (uint64_t)c->n_head * c->head_size,
                 [VLY_DIM_ALL_KV_HEADS] = (uint64_t)c->n_head_kv * c->head_size,
                 [VLY_DIM_ROTATED_PAIRS] = c->rope.n_rotated / 2,
                 [VLY_DIM_Q_NORM] = (uint64_t)(all ? c->n_head : 1) * c->head_size,
                 [VLY_DIM_K_NORM] = (uint64_t)(all ? c->n_head_kv : 1) * c->head_size,
                 [VLY_DIM_FF] = c->ff_dim},
    };
    *out = (vly_tensors){.layer = calloc(c->n_layer, sizeof *out->layer)};
    /* A description may give one name to two tensors, so not only as many as the file has. */
    f.found = malloc(((size_t)c->n_layer + 1) * 2 * VLY_N_TENSORS * sizeof *f.found);
    int rc = out->layer && f.found
                 ? find_all(&f, out, err)
                 : vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the model's tensors");
    free(f.found);
    if (rc) vly_tensors_deinit(out);
    return rc;
}

void vly_tensors_deinit(vly_tensors *tensors)
{
    free(tensors->layer);
    *tensors = (vly_tensors){0};
}
